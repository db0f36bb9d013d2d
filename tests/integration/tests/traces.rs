//! The spans of the edge: who is whose parent, what is recorded, and what happens while nobody takes them. The real balancer, backends
//! that note what they are told, and the trace store behind a TLS front as the pod's door is.

mod balancer_common;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, SOON, World, header};
use harness::{Span, TraceStore, free_port, wait_until};
use tokio::net::TcpListener;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

fn kind(spans: &[Span], kind: u8) -> Vec<&Span> {
    spans.iter().filter(|span| span.is(kind)).collect()
}

fn keys(endpoint: &str, more: &str) -> String {
    format!(
        "[traces]\nendpoint = \"{endpoint}\"\ndelay_ms = 20\nretry_ms = 50\ntimeout_ms = 2000\n{more}"
    )
}

async fn get(balancer: &Balancer, path: &str, traceparent: &str) -> Result<reqwest::Response> {
    let request = balancer.client()?.get(balancer.url(path));
    Ok(request.header("traceparent", traceparent).send().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requests_spans_are_each_others_parents_from_the_caller_to_the_backend() -> Result<()> {
    let world = World::new()?;
    let store = TraceStore::start(&world.identity("jaeger", "telemetry")?, free_port()?).await?;
    let web = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(&[&web], &keys(&store.endpoint(), ""))
        .await?;
    let answer = get(&balancer, "/things?secret=1", &traceparent(TRACE, "01")).await?;
    let told = header(&answer, "traceresponse").to_owned();
    answer.error_for_status()?;

    let spans = store.spans(TRACE, 2).await?;
    ensure!(spans.len() == 2, "{spans:#?}");
    let (server, client) = (kind(&spans, Span::SERVER)[0], kind(&spans, Span::CLIENT)[0]);
    ensure!(server.parent() == CALLER, "{server:?}");
    ensure!(client.parent() == server.id(), "{client:?}");
    ensure!(told == format!("00-{TRACE}-{}-01", server.id()), "{told}");
    let received = web.received();
    let below = received[0].header("traceparent");
    ensure!(
        below == format!("00-{TRACE}-{}-01", client.id()),
        "the backend was told {below}, and the attempt is {}",
        client.id()
    );

    ensure!(server.name() == "GET" && client.name() == "GET");
    for span in [server, client] {
        ensure!(span.instance == "balancer-1", "{span:?}");
        ensure!(!span.has_failed(), "{span:?}");
        ensure!(span.attribute("http.request.method") == "GET", "{span:?}");
        ensure!(
            span.attribute("http.response.status_code") == "200",
            "{span:?}"
        );
        ensure!(span.attribute("error.type").is_empty(), "{span:?}");
        ensure!(!span.json.to_string().contains("secret"), "{span:?}");
    }
    ensure!(server.attribute("url.path") == "/things", "{server:?}");
    ensure!(
        server.attribute("server.address") == "localhost",
        "{server:?}"
    );
    ensure!(
        server.attribute("network.protocol.version") == "2",
        "{server:?}"
    );
    ensure!(
        server.attribute("client.address") == "127.0.0.1",
        "{server:?}"
    );
    ensure!(client.attribute("server.address") == "web-1", "{client:?}");
    ensure!(
        client.attribute("http.request.resend_count").is_empty(),
        "{client:?}"
    );
    let time = |span: &Span, key: &str| -> Result<u64> { Ok(span.text(key).parse()?) };
    ensure!(
        time(server, "startTimeUnixNano")? <= time(client, "startTimeUnixNano")?
            && time(client, "endTimeUnixNano")? <= time(server, "endTimeUnixNano")?
            && time(client, "startTimeUnixNano")? < time(client, "endTimeUnixNano")?,
        "{spans:#?}"
    );

    let logged = balancer.logged(|line| line["trace_id"] == TRACE).await?;
    ensure!(logged["path"] == "/things", "{logged}");
    let (status, page) = store.page(&format!("/trace/{TRACE}")).await?;
    ensure!(status == 200 && page.contains("balancer-1"), "{page}");
    ensure!(store.page("/").await?.1.contains(TRACE));
    let services = store.page("/api/v3/services").await?.1;
    ensure!(services == r#"{"services":["balancer"]}"#, "{services}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_a_span_and_says_why_it_failed() -> Result<()> {
    let world = World::new()?;
    let store = TraceStore::start(&world.identity("jaeger", "telemetry")?, free_port()?).await?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = keys(&store.endpoint(), "[backend]\ntries_max = 2\n");
    let balancer = world.balancer_ready(&[&one, &two], &keys).await?;
    let answer = get(&balancer, "/reset", &traceparent(TRACE, "01")).await?;
    ensure!(answer.status() == 502, "{answer:?}");

    let spans = store.spans(TRACE, 3).await?;
    ensure!(spans.len() == 3, "{spans:#?}");
    let server = kind(&spans, Span::SERVER)[0];
    ensure!(server.has_failed(), "{server:?}");
    ensure!(
        server.attribute("error.type") == "backend_reset",
        "{server:?}"
    );
    ensure!(
        server.attribute("http.response.status_code") == "502",
        "{server:?}"
    );
    let mut clients = kind(&spans, Span::CLIENT);
    clients.sort_by_key(|span| span.attribute("http.request.resend_count"));
    let counts: Vec<_> = clients
        .iter()
        .map(|span| span.attribute("http.request.resend_count"))
        .collect();
    ensure!(counts == ["", "1"], "{clients:#?}");
    let mut backends = Vec::new();
    for client in clients {
        ensure!(client.parent() == server.id(), "{client:?}");
        ensure!(client.has_failed(), "{client:?}");
        ensure!(
            client.attribute("error.type") == "backend_reset",
            "{client:?}"
        );
        backends.push(client.attribute("server.address"));
        let heard = [&one, &two].into_iter().flat_map(|web| web.received());
        let expected = format!("00-{TRACE}-{}-01", client.id());
        let mut told = heard.filter(|request| request.header("traceparent") == expected);
        ensure!(told.next().is_some(), "no backend was told {expected}");
    }
    backends.sort();
    ensure!(backends == ["web-1", "web-2"], "{backends:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_does_not_record_is_not_recorded() -> Result<()> {
    let world = World::new()?;
    let store = TraceStore::start(&world.identity("jaeger", "telemetry")?, free_port()?).await?;
    let web = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(
            &[&web],
            &keys(&store.endpoint(), "[edge]\ntrace_sample_percent = 100\n"),
        )
        .await?;
    let unrecorded = "1".repeat(32);
    let answer = get(&balancer, "/", &traceparent(&unrecorded, "00")).await?;
    let told = header(&answer, "traceresponse").to_owned();
    ensure!(told.ends_with("-00"), "{told}");
    // Without a caller the edge decides, and here it records all.
    let answer = balancer.client()?.get(balancer.url("/")).send().await?;
    let own = header(&answer, "traceresponse").to_owned();
    let own = own.split('-').nth(1).context("no trace id")?;
    store.spans(own, 2).await?;
    let (status, said) = store.page(&format!("/api/v3/traces/{unrecorded}")).await?;
    ensure!(status == 404, "{said}");
    ensure!(web.received().iter().any(|request| {
        request
            .header("traceparent")
            .starts_with(&format!("00-{unrecorded}-"))
    }));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_baggage_ends_at_the_edge_and_its_tracestate_goes_on() -> Result<()> {
    let world = World::new()?;
    let web = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&web], "").await?;
    let ask = |traceparent: &str| {
        let client = balancer.client();
        let request = client.map(|client| {
            client
                .get(balancer.url("/"))
                .header("traceparent", traceparent)
                .header("tracestate", "vendor=1")
                .header("baggage", "user=root")
        });
        async move { Ok::<_, anyhow::Error>(request?.send().await?.error_for_status()?) }
    };
    ask(&traceparent(TRACE, "01")).await?;
    ask("nonsense").await?;
    let received = web.received();
    ensure!(
        received[0].header("tracestate") == "vendor=1",
        "{received:?}"
    );
    ensure!(received[1].header("tracestate").is_empty(), "{received:?}");
    for request in &received {
        ensure!(request.header("baggage").is_empty(), "{request:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_takes_spans_requests_go_on_and_what_does_not_fit_is_counted() -> Result<()> {
    let world = World::new()?;
    let web = world.backend("web-1").await?;
    let tls = free_port()?;
    let keys = keys(
        &format!("https://localhost:{tls}"),
        "queue_spans_max = 20\nbatch_spans_max = 10\nflush_ms = 500\n",
    );
    let mut balancer = world.balancer_ready(&[&web], &keys).await?;
    let client = balancer.client()?;
    for _ in 0..60 {
        let answer = client
            .get(balancer.url("/"))
            .header("traceparent", traceparent(TRACE, "01"))
            .send()
            .await?;
        ensure!(answer.status() == 200, "{answer:?}");
    }
    let full = "balancer_spans_dropped_total{reason=\"queue_full\"}";
    wait_until("spans are dropped and counted", SOON, async || {
        balancer.metric(full).await.is_ok_and(|dropped| dropped > 0)
    })
    .await?;
    let failed = balancer
        .metric("balancer_span_exports_failed_total")
        .await?;
    ensure!(failed > 0, "no failure was counted");

    // Somebody else's role is as good as nobody.
    let wrong = TraceStore::start(&world.identity("wrong", "web")?, tls).await?;
    let before = balancer
        .metric("balancer_span_exports_failed_total")
        .await?;
    wait_until("it is tried and refused", SOON, async || {
        let now = balancer.metric("balancer_span_exports_failed_total").await;
        now.is_ok_and(|now| now > before + 2)
    })
    .await?;
    ensure!(balancer.metric("balancer_spans_exported_total").await? == 0);
    drop(wrong);

    // What waited is not lost, and what comes is taken again.
    wait_until("the port is free", SOON, async || {
        TcpListener::bind(("127.0.0.1", tls)).await.is_ok()
    })
    .await?;
    let store = TraceStore::start(&world.identity("jaeger", "telemetry")?, tls).await?;
    let spans = store.spans(TRACE, 20).await?;
    ensure!(spans.len() >= 20, "{}", spans.len());
    let later = "2".repeat(32);
    get(&balancer, "/", &traceparent(&later, "01")).await?;
    store.spans(&later, 2).await?;
    let said = |words: &str| {
        let log = balancer.program.log();
        log.iter().filter(|line| line.contains(words)).count()
    };
    ensure!(said("spans cannot be sent") == 1, "said more than once");
    ensure!(said("spans are sent again") == 1);

    // Its end is not held up, either.
    drop(store);
    get(&balancer, "/", &traceparent(TRACE, "01")).await?;
    balancer.stop(Duration::from_secs(5)).await
}
