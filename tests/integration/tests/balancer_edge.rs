//! What the edge promises to clients and to backends, whatever stands behind it: protocols, fields, its own errors, limits.

mod balancer_common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, SOON, World, header, problem};
use reqwest::{StatusCode, Version};
use serde_json::Value;
use tokio::time::{sleep, timeout};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_http_1_are_served_with_tls_1_3_and_1_2() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    for version in [
        reqwest::tls::Version::TLS_1_2,
        reqwest::tls::Version::TLS_1_3,
    ] {
        let exactly = |builder: reqwest::ClientBuilder| {
            builder.tls_version_min(version).tls_version_max(version)
        };
        let two = balancer
            .client_with(exactly)?
            .get(balancer.url("/"))
            .send()
            .await?;
        ensure!(
            two.version() == Version::HTTP_2 && two.status() == 200,
            "{two:?}"
        );
        let one = balancer.client_with(|builder| exactly(builder).http1_only())?;
        let one = one.get(balancer.url("/")).send().await?;
        ensure!(
            one.version() == Version::HTTP_11 && one.status() == 200,
            "{one:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_edges_fields_and_nobody_elses() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    let mut ids = BTreeSet::new();
    for client in [balancer.client()?, balancer.client_1()?] {
        for path in ["/", "/forged", "/status/404", "/metrics", "/reset"] {
            let request = client
                .get(balancer.url(path))
                .header("x-request-id", "mine")
                .header("traceparent", TRACEPARENT);
            let response = request.send().await?;
            let id = header(&response, "x-request-id").to_owned();
            ensure!(id.len() == 36 && ids.insert(id), "{path}: {response:?}");
            let trace = header(&response, "traceresponse");
            ensure!(
                trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-")
                    && trace.ends_with("-01")
                    && !trace.contains("b7ad6b7169203331"),
                "{path}: {trace}"
            );
            ensure!(
                header(&response, "strict-transport-security") == "max-age=31536000",
                "{path}: {response:?}"
            );
            let served_by = if matches!(path, "/metrics" | "/reset") {
                ""
            } else {
                "web-1"
            };
            ensure!(
                header(&response, "x-served-by") == served_by,
                "{path}: {response:?}"
            );
            ensure!(
                header(&response, "keep-alive").is_empty(),
                "{path}: {response:?}"
            );
            for name in [
                "x-request-id",
                "traceresponse",
                "strict-transport-security",
                "x-served-by",
            ] {
                ensure!(
                    response.headers().get_all(name).iter().count() <= 1,
                    "{name}: {response:?}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topology_can_be_kept_to_oneself() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&one], "[edge]\nexpose_topology = false\n")
        .await?;
    let response = balancer.client()?.get(balancer.url("/")).send().await?;
    ensure!(
        response.status() == 200 && header(&response, "x-served-by").is_empty(),
        "{response:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_learns_from_the_edge_alone_where_a_request_comes_from() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    // HTTP/2 may spread cookies over several fields, HTTP/1.1 wants one (RFC 9113, 8.2.3); what came by HTTP/1.1 goes on as it came.
    for (client, cookies) in [
        (balancer.client()?, "a=1; b=2"),
        (balancer.client_1()?, "a=1 | b=2"),
    ] {
        let mut request = client
            .get(balancer.url("/a?b=c"))
            .header("traceparent", TRACEPARENT);
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "forwarded",
            "x-real-ip",
            "x-request-id",
            "via",
        ] {
            request = request.header(name, "forged");
        }
        request = request
            .header("keep-alive", "timeout=1")
            .header("te", "trailers")
            .header("proxy-authorization", "x");
        request = request
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-own", "kept");
        let response = request.send().await?;
        let received = one.received().pop().context("nothing received")?;
        let host = format!("localhost:{}", balancer.https);
        for (name, value) in [
            ("host", host.clone()),
            ("x-forwarded-for", "127.0.0.1".to_owned()),
            ("x-forwarded-proto", "https".to_owned()),
            ("x-forwarded-host", host.clone()),
            (
                "forwarded",
                format!("for=127.0.0.1;host=\"{host}\";proto=https"),
            ),
            ("x-request-id", header(&response, "x-request-id").to_owned()),
            ("cookie", cookies.to_owned()),
            ("x-own", "kept".to_owned()),
            ("x-real-ip", String::new()),
            ("via", String::new()),
            ("keep-alive", String::new()),
            ("te", String::new()),
            ("proxy-authorization", String::new()),
        ] {
            ensure!(
                received.header(name) == value,
                "{name}: {:?} instead of {value:?}",
                received.header(name)
            );
        }
        // The caller's trace; the parent is the attempt's span, which the request's own span, told to the client, is the parent of.
        let (parent, told) = (
            received.header("traceparent"),
            header(&response, "traceresponse"),
        );
        ensure!(
            parent.len() == 55 && parent[..36] == told[..36] && parent[52..] == told[52..],
            "{parent} is not of the trace of {told}"
        );
        ensure!(parent != told && parent != TRACEPARENT, "{parent}");
        ensure!(received.path == "/a?b=c", "{received:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_names_in_connection_is_stripped_but_never_the_edges_own() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    let mut raw = balancer.raw().await?;
    raw.write("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close, x-hop, x-request-id, traceparent\r\nx-hop: 1\r\n\r\n").await?;
    let answer = raw.read_to_end(SOON).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let received = one.received().pop().context("nothing received")?;
    ensure!(received.header("x-hop").is_empty(), "{received:?}");
    for name in ["x-request-id", "traceparent", "x-forwarded-for"] {
        ensure!(
            !received.header(name).is_empty(),
            "{name} is missing: {received:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_sent_to_https_and_gets_nothing_else() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&one], "[edge]\nhost = \"127.0.0.1\"\n")
        .await?;
    let client = balancer.client()?;
    for (host, there) in [
        ("localhost", "localhost"),
        ("LOCALHOST:1", "LOCALHOST"),
        ("evil.example", "127.0.0.1"),
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let url = format!("http://127.0.0.1:{}/a/b?c=d", balancer.redirect);
            let request = client
                .request(method.parse()?, url)
                .header("host", host)
                .header("traceparent", TRACEPARENT)
                .body("body");
            let response = request.send().await?;
            ensure!(
                response.status() == StatusCode::PERMANENT_REDIRECT,
                "{response:?}"
            );
            let location = format!("https://{there}:{}/a/b?c=d", balancer.https);
            ensure!(
                header(&response, "location") == location,
                "{host}: {response:?}"
            );
            ensure!(
                header(&response, "strict-transport-security").is_empty(),
                "{response:?}"
            );
            ensure!(
                header(&response, "x-request-id").len() == 36,
                "{response:?}"
            );
            ensure!(
                header(&response, "traceresponse").contains("0af7651916cd43dd8448eb211c80319c"),
                "{response:?}"
            );
        }
    }
    ensure!(one.received().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edges_own_errors_are_problem_documents() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(
            &[&one],
            "[request]\nbody_bytes_max = 1000\nheader_bytes_max = 4096\n",
        )
        .await?;
    for client in [balancer.client()?, balancer.client_1()?] {
        problem(client.get(balancer.url("/metrics")).send().await?, 404).await?;
        problem(
            client
                .request("TRACE".parse()?, balancer.url("/"))
                .send()
                .await?,
            405,
        )
        .await?;
        problem(
            client
                .post(balancer.url("/"))
                .body("x".repeat(1001))
                .send()
                .await?,
            413,
        )
        .await?;
        let head = client.head(balancer.url("/metrics")).send().await?;
        ensure!(head.status() == 404 && head.bytes().await?.is_empty());
    }
    let large = balancer
        .client_1()?
        .get(balancer.url("/"))
        .header("x-large", "x".repeat(5000));
    problem(large.send().await?, 431).await?;
    let foreign = |client: reqwest::Client| {
        client
            .get(balancer.url("/"))
            .header("host", "evil.example")
            .send()
    };
    problem(foreign(balancer.client_1()?).await?, 421).await?;
    // Over HTTP/2 `:authority` and `Host` contradict each other.
    problem(foreign(balancer.client()?).await?, 400).await?;
    ensure!(one.received().is_empty(), "{:?}", one.received());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_is_cut_at_the_limit() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&one], "[request]\nbody_bytes_max = 1000\n")
        .await?;
    let mut raw = balancer.raw().await?;
    raw.write("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    for _ in 0..3 {
        raw.write(format!("1f4\r\n{}\r\n", "x".repeat(500))).await?;
        sleep(Duration::from_millis(20)).await;
    }
    let answer = raw.read_to_end(SOON).await?;
    ensure!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("/problems/content-too-large"),
        "{answer}"
    );
    ensure!(one.received().is_empty());
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_not_http_is_answered_400_with_the_edges_fields() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    for head in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = answer_to(&balancer, head).await?;
        ensure!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        for part in [
            "application/problem+json",
            "/problems/bad-request",
            "x-request-id: ",
            "traceresponse: 00-",
            "strict-transport-security: max-age=",
        ] {
            ensure!(
                answer.to_lowercase().contains(part),
                "{head:?}: no {part} in {answer}"
            );
        }
    }
    ensure!(one.received().is_empty(), "{:?}", one.received());
    Ok(())
}

async fn answer_to(balancer: &Balancer, head: &str) -> Result<String> {
    let mut raw = balancer.raw().await?;
    raw.write(head).await?;
    raw.read_to_end(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_in_is_cut_by_a_total_deadline() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&one], "[request]\nheader_timeout_ms = 500\n")
        .await?;
    let mut raw = balancer.raw().await?;
    let began = Instant::now();
    raw.write("GET / HTTP/1.1\r\nhost: localhost\r\n").await?;
    // A byte now and then would satisfy any limit on single reads for ever.
    let trickle = async {
        while began.elapsed() < Duration::from_millis(700) && raw.write("x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
        raw.read_to_end(SOON).await
    };
    let answer = timeout(SOON, trickle).await??;
    ensure!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("/problems/request-timeout"),
        "{answer}"
    );
    ensure!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    ensure!(
        balancer
            .metric("balancer_terminations_total{reason=\"client_timeout\"}")
            .await?
            == 1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_the_first_request_too() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&one], "[request]\nkeep_alive_s = 1\n")
        .await?;
    let mut raw = balancer.raw().await?;
    for _ in 0..2 {
        raw.write("HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        let head = raw.read_head(SOON).await?;
        ensure!(
            head.starts_with("HTTP/1.1 200") && !head.to_lowercase().contains("connection:"),
            "{head}"
        );
    }
    let rest = raw.read_to_end(SOON).await?;
    ensure!(rest.is_empty(), "{rest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_closed_at_once_and_counted() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&one], "[listen]\nconnections_max = 2\n")
        .await?;
    let (_first, second) = (balancer.raw().await?, balancer.raw().await?);
    ensure!(
        balancer.raw().await.is_err(),
        "a third connection was taken"
    );
    ensure!(
        balancer
            .metric("balancer_connections_refused_total")
            .await?
            == 1
    );
    drop(second);
    harness::wait_until("room for another", SOON, async || {
        balancer.raw().await.is_ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_pass_whole_in_both_directions_and_early_answers_get_through() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    for client in [balancer.client()?, balancer.client_1()?] {
        let large = client
            .get(balancer.url("/large"))
            .send()
            .await?
            .bytes()
            .await?;
        ensure!(large.len() == 4 << 20 && large.iter().all(|byte| *byte == b'x'));
        let sent = client
            .post(balancer.url("/"))
            .body(vec![b'y'; 3 << 20])
            .send()
            .await?;
        let seen: Value = sent.json().await?;
        ensure!(seen["length"] == 3 << 20, "{seen}");
        let empty = client.get(balancer.url("/status/204")).send().await?;
        ensure!(empty.status() == 204 && empty.bytes().await?.is_empty());
        let early = client
            .post(balancer.url("/early"))
            .body(vec![b'z'; 1 << 20]);
        let early = early
            .send()
            .await
            .with_context(|| balancer.program.log().join("\n"))?;
        ensure!(early.status() == 403, "{early:?}");
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_a_line_in_the_access_log() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    let response = balancer
        .client()?
        .post(balancer.url("/a?secret=1"))
        .body("four")
        .send()
        .await?;
    let id = header(&response, "x-request-id").to_owned();
    let trace = header(&response, "traceresponse").to_owned();
    let length = response.bytes().await?.len();
    let line = balancer
        .logged(|line| line["request_id"] == id.as_str())
        .await?;
    for (name, value) in [
        ("method", Value::from("POST")),
        ("path", "/a".into()),
        ("status", 200.into()),
        ("backend", "web-1".into()),
        ("protocol", "HTTP/2".into()),
        ("client", "127.0.0.1".into()),
        ("tries", 1.into()),
        ("received_bytes", 4.into()),
        ("sent_bytes", length.into()),
        ("termination", "completed".into()),
        ("service", "balancer".into()),
        ("level", "info".into()),
    ] {
        ensure!(line[name] == value, "{name}: {line}");
    }
    ensure!(
        line["trace_id"]
            .as_str()
            .is_some_and(|id| trace.contains(id)),
        "{line} {trace}"
    );
    ensure!(
        line["duration_ms"].as_f64() >= line["first_byte_ms"].as_f64(),
        "{line}"
    );
    ensure!(
        balancer
            .metric("balancer_requests_total{backend=\"web-1\",code=\"2xx\"}")
            .await?
            == 1
    );
    Ok(())
}
