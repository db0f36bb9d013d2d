//! Messages pass as they come: in pieces, with trailers and interim answers, no faster than the slower side, and in both directions at
//! the same time.

mod balancer_common;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::websocket::{SWITCHED, UPGRADE, echo, masked};
use balancer_common::{Balancer, Conversation, SOON, World};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use harness::wait_until;
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// Far more than the two kernels and the balancer may hold of what nobody reads.
const HELD_BYTES_MAX: u64 = 8 << 20;

/// An answer by HTTP/2, whole.
async fn whole(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>)> {
    let mut bytes = Vec::new();
    while let Some(data) = timeout(SOON, body.data()).await.context("no data")? {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?))
}

/// A GET by HTTP/2.
async fn get(
    two: &mut SendRequest<Bytes>,
    balancer: &Balancer,
) -> Result<http::Response<RecvStream>> {
    let (answer, _) = two.send_request(balancer.request("GET", "/").body(())?, true)?;
    Ok(timeout(SOON, answer).await.context("no answer")??)
}

async fn interim(answer: &mut ResponseFuture) -> Result<http::Response<()>> {
    let next = poll_fn(|context| answer.poll_informational(context));
    let interim = timeout(SOON, next).await.context("no interim answer")?;
    Ok(interim.context("the final answer instead")??)
}

/// Sends all of it, as the window allows.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, is_all: bool) -> Result<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|context| stream.poll_capacity(context)).await;
        let room = room.context("the stream is over")??;
        let part = data.split_to(room.min(data.len()));
        let is_last = is_all && data.is_empty();
        stream.send_data(part, is_last)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trailers_of_an_answer_reach_clients_of_both_versions() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n5;a=b\r\nhello\r\n")
            .await?;
        on.write("6\r\n world\r\n0\r\nX-Sum: 11\r\nX-Other: a\r\n\r\n").await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    for _ in 0..2 {
        wire.write(GET).await?;
        let answer = wire.answer().await?;
        ensure!(answer.text() == "hello world", "{answer:?}");
        ensure!(answer.trailers == ["X-Sum: 11", "X-Other: a"], "{answer:?}");
        ensure!(answer.header("trailer") == "X-Sum, X-Other", "{answer:?}");
    }
    let mut two = balancer.two(65_535).await?;
    let answer = get(&mut two, &balancer).await?;
    ensure!(
        !answer.headers().contains_key("transfer-encoding"),
        "{answer:?}"
    );
    let (body, trailers) = whole(answer.into_body()).await?;
    ensure!(body == b"hello world");
    let trailers = trailers.context("no trailers")?;
    ensure!(
        trailers.len() == 2 && trailers["x-sum"] == "11" && trailers["x-other"] == "a",
        "{trailers:?}"
    );
    ensure!(one.connections() <= 2, "a connection was not used again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trailers_of_a_request_reach_the_backend_from_both_versions() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.read_until(b"\r\n\r\n").await?;
        on.answer("read").await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    wire.write("POST /1 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n")
        .await?;
    ensure!(wire.answer().await?.text() == "read");
    let two = balancer.two(65_535).await?;
    let (answer, mut stream) = two
        .ready()
        .await?
        .send_request(balancer.request("POST", "/2").body(())?, false)?;
    stream.send_data("abc".into(), false)?;
    let trailers = HeaderMap::from_iter([("x-sum".parse()?, "3".parse()?)]);
    stream.send_trailers(trailers)?;
    let (body, _) = whole(timeout(SOON, answer).await??.into_body()).await?;
    ensure!(body == b"read");
    for heard in one.heard() {
        ensure!(
            heard.header("transfer-encoding") == "chunked"
                && heard.header("content-length").is_empty(),
            "{heard:?}"
        );
        ensure!(
            heard.body == b"3\r\nabc\r\n0\r\nx-sum: 3\r\n\r\n",
            "{}",
            heard.body.escape_ascii()
        );
    }
    ensure!(one.heard().len() == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_the_connection_becomes_what_each_client_understands() -> Result<()>
{
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write("HTTP/1.1 200 OK\r\n\r\nuntil ").await?;
        on.write("the end").await?;
        on.close().await
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    for _ in 0..2 {
        wire.write(GET).await?;
        let answer = wire.answer().await?;
        ensure!(
            answer.text() == "until the end" && answer.header("transfer-encoding") == "chunked",
            "{answer:?}"
        );
        ensure!(answer.header("connection").is_empty(), "{answer:?}");
    }
    for keep in ["", "connection: keep-alive\r\n"] {
        let mut wire = balancer.wire().await?;
        wire.write(format!("GET / HTTP/1.0\r\nhost: localhost\r\n{keep}\r\n"))
            .await?;
        let answer = wire.rest(SOON).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 200 OK\r\n")
                && answer.ends_with("\r\n\r\nuntil the end")
                && answer.contains("connection: close\r\n")
                && !answer.contains("transfer-encoding")
                && !answer.contains("content-length"),
            "{answer}"
        );
    }
    let mut two = balancer.two(65_535).await?;
    let answer = get(&mut two, &balancer).await?;
    ensure!(!answer.headers().contains_key("content-length"));
    ensure!(whole(answer.into_body()).await?.0 == b"until the end");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_gets_chunks_as_a_connection_that_ends_and_keeps_it_for_a_length()
-> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        match &*on.path() {
            "/chunks" => {
                on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\na: b\r\n\r\n")
                    .await?;
            }
            _ => on.answer("length").await?,
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    for _ in 0..2 {
        wire.write("GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n")
            .await?;
        let answer = wire.answer().await?;
        ensure!(
            answer.text() == "length" && answer.header("connection") == "keep-alive",
            "{answer:?}"
        );
    }
    wire.write("GET /chunks HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n")
        .await?;
    let answer = wire.rest(SOON).await?;
    ensure!(
        answer.ends_with("\r\n\r\nabc") && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_content_has_none_and_keeps_both_connections() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let answer = match &*on.path() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: \"e\"\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            "/head/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "/head/none" => "HTTP/1.1 200 OK\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        };
        on.write(answer).await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    let mut two = balancer.two(65_535).await?;
    for (method, path, status, length) in [
        ("GET", "/204", 204, ""),
        ("GET", "/304", 304, "5"),
        ("HEAD", "/head", 200, "7"),
        ("HEAD", "/head/chunked", 200, ""),
        ("HEAD", "/head/none", 200, ""),
        ("HEAD", "/204", 204, ""),
        ("GET", "/empty", 200, "0"),
    ] {
        wire.write(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        ))
        .await?;
        let answer = wire.answer_to(method).await?;
        ensure!(
            answer.status == status && answer.header("content-length") == length,
            "{path}: {answer:?}"
        );
        ensure!(
            answer.body.is_empty() && answer.header("connection").is_empty(),
            "{path}: {answer:?}"
        );
        let request = balancer.request(method, path).body(())?;
        let (answer, _) = two.send_request(request, true)?;
        let answer = timeout(SOON, answer).await??;
        let seen = answer.headers().get("content-length");
        ensure!(
            answer.status() == status
                && seen.map_or("", |length| length.to_str().unwrap_or("?")) == length,
            "{path}: {answer:?}"
        );
        let (body, _) = whole(answer.into_body())
            .await
            .with_context(|| path.to_owned())?;
        ensure!(body.is_empty(), "{path}: {body:?}");
    }
    ensure!(
        wire.is_silent_for(Duration::from_millis(50)).await,
        "more came than was asked for"
    );
    ensure!(one.connections() <= 2, "{} connections", one.connections());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_pass_and_content_waits_for_100_continue() -> Result<()> {
    let world = World::new()?;
    let asked = Arc::new(Notify::new());
    let told = Arc::clone(&asked);
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let told = Arc::clone(&told);
        async move {
            ensure!(on.heard().header("expect") == "100-continue");
            // Only when the test has seen that nothing of the content came before.
            told.notified().await;
            on.write("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")
                .await?;
            on.write("HTTP/1.1 100 Continue\r\n\r\n").await?;
            let body = on.read_body().await?;
            on.answer(&String::from_utf8(body)?).await?;
            on.go_on()
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    for (count, framing) in ["content-length: 5", "transfer-encoding: chunked"]
        .into_iter()
        .enumerate()
    {
        wire.write(format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n{framing}\r\n\r\n"
        ))
        .await?;
        one.wait_for_heard(count + 1).await?;
        ensure!(one.heard()[count].body.is_empty());
        ensure!(
            wire.is_silent_for(Duration::from_millis(50)).await,
            "the balancer has answered for the backend"
        );
        asked.notify_one();
        let hints = wire.answer().await?;
        ensure!(
            hints.status == 103 && hints.header("link") == "</a.css>",
            "{hints:?}"
        );
        ensure!(wire.answer().await?.status == 100);
        let body = match count {
            0 => "hello",
            _ => "5\r\nhello\r\n0\r\n\r\n",
        };
        wire.write(body).await?;
        let answer = wire.answer().await?;
        ensure!(
            answer.status == 200
                && answer.text() == "hello"
                && answer.header("connection").is_empty(),
            "{answer:?}"
        );
    }
    let two = balancer.two(65_535).await?;
    let request = balancer
        .request("POST", "/")
        .header("expect", "100-continue");
    let (mut answer, mut stream) = two.ready().await?.send_request(request.body(())?, false)?;
    one.wait_for_heard(3).await?;
    ensure!(one.heard()[2].body.is_empty());
    asked.notify_one();
    let hints = interim(&mut answer).await?;
    ensure!(
        hints.status() == 103 && hints.headers()["link"] == "</a.css>",
        "{hints:?}"
    );
    ensure!(interim(&mut answer).await?.status() == 100);
    stream.send_data("hello".into(), true)?;
    let answer = timeout(SOON, answer).await??;
    ensure!(answer.status() == 200, "{answer:?}");
    ensure!(whole(answer.into_body()).await?.0 == b"hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_that_is_declined_costs_no_content() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            .await?;
        on.hold().await
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    wire.write(
        "POST / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    )
    .await?;
    let answer = wire.answer().await?;
    ensure!(
        answer.status == 403 && answer.text() == "no" && answer.header("connection") == "close",
        "{answer:?}"
    );
    // What comes now may be the content or the next request: nobody knows, so nobody may read it as one.
    wire.write(GET).await?;
    ensure!(wire.rest(SOON).await?.is_empty());
    one.wait_for_closed(1).await?;
    ensure!(one.heard().len() == 1, "{:?}", one.heard());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order_even_if_the_first_is_slow() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let body = on.read_body().await?;
        if on.path() == "/0" {
            sleep(Duration::from_millis(300)).await;
        }
        let text = format!("{} {}", on.path(), body.len());
        on.answer(&text).await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut requests = Vec::new();
    for index in 0..40 {
        let content = "x".repeat(index * 13);
        let request = match index % 3 {
            0 => format!("GET /{index} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            1 => format!(
                "POST /{index} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{content}",
                content.len()
            ),
            _ => format!(
                "POST /{index} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{content}\r\n0\r\n\r\n",
                content.len()
            ),
        };
        requests.extend_from_slice(request.as_bytes());
    }
    let mut wire = balancer.wire().await?;
    wire.write(&requests).await?;
    for index in 0..40 {
        let answer = wire.answer().await.with_context(|| index.to_string())?;
        let length = if index % 3 == 0 { 0 } else { index * 13 };
        ensure!(answer.text() == format!("/{index} {length}"), "{answer:?}");
    }
    ensure!(one.heard().len() == 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_several_records_that_come_in_one_read_are_all_answered() -> Result<()> {
    // TLS decrypts what it has read at once, and hands it out record by record: what waits there wakes nobody.
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.read_body().await?;
        on.answer(&on.path()).await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for rounds in 0..3 {
        let mut wire = balancer.wire().await?;
        // Before the first request, or between two.
        for _ in 0..rounds {
            wire.write(GET).await?;
            ensure!(wire.answer().await?.text() == "/");
        }
        balancer.program.freeze()?;
        for index in 0..6 {
            // A record is a write; a body has one of its own.
            match index % 3 {
                2 => {
                    wire.write(format!(
                        "POST /{index} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n"
                    ))
                    .await?;
                    wire.write("abc").await?;
                }
                _ => {
                    wire.write(format!("GET /{index} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
                        .await?;
                }
            }
        }
        balancer.program.thaw()?;
        for index in 0..6 {
            let answer = wire.answer().await;
            let answer =
                answer.with_context(|| format!("request {index} after {rounds} others"))?;
            ensure!(answer.text() == format!("/{index}"), "{answer:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_with_the_client_before_the_next_is_sent() -> Result<()> {
    let world = World::new()?;
    let seen = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&seen);
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let waits = Arc::clone(&waits);
        async move {
            let is_chunked = on.path() == "/chunked";
            let framing = if is_chunked {
                "transfer-encoding: chunked\r\n"
            } else {
                ""
            };
            on.write(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n"
            ))
            .await?;
            for index in 0..20 {
                waits.acquire().await?.forget();
                let event = format!("data: {index}\n\n");
                let event = match is_chunked {
                    true => format!("{:x}\r\n{event}\r\n", event.len()),
                    false => event,
                };
                on.write(event).await?;
            }
            if is_chunked {
                on.write("0\r\n\r\n").await?;
                return on.go_on();
            }
            on.close().await
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for path in ["/chunked", "/close"] {
        let mut wire = balancer.wire().await?;
        wire.write(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await?;
        // The head does not wait for the first event.
        wire.until("\r\n\r\n").await?;
        for index in 0..20 {
            seen.add_permits(1);
            let event = wire.until(&format!("data: {index}\n\n")).await?;
            ensure!(event.matches("data: ").count() == 1, "{event}");
        }
        wire.until("0\r\n\r\n").await?;

        let two = balancer.two(65_535).await?;
        let request = balancer.request("GET", path).body(())?;
        let (answer, _) = two.ready().await?.send_request(request, true)?;
        let mut body = timeout(SOON, answer).await??.into_body();
        for index in 0..20 {
            seen.add_permits(1);
            let event = timeout(SOON, body.data())
                .await?
                .context("the end of the events")??;
            ensure!(event == format!("data: {index}\n\n"), "{event:?}");
        }
        ensure!(whole(body).await?.0.is_empty());
    }
    Ok(())
}

/// Bytes of which each says where it is.
fn pattern(from: u64, length: usize) -> Vec<u8> {
    (from..from + length as u64)
        .map(|at| (at % 251) as u8)
        .collect()
}

/// Waits until a count has grown and then has not for a while.
async fn stalled(count: &AtomicU64) -> Result<u64> {
    let (mut last, mut since) = (0, Instant::now());
    wait_until("the flow has stalled", SOON * 2, async || {
        let now = count.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now > 0 && since.elapsed() > Duration::from_millis(500)
    })
    .await?;
    Ok(last)
}

/// How much each of the tests on back-pressure sends in all.
const FLOW_BYTES: u64 = 24 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_its_backend_back_and_then_gets_everything() -> Result<()>
{
    let world = World::new()?;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let counted = Arc::clone(&counted);
        async move {
            counted.store(0, Ordering::SeqCst);
            on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            let mut at = 0;
            while at < FLOW_BYTES {
                let piece = pattern(at, 65_536);
                on.write("10000\r\n").await?;
                on.write(&piece).await?;
                on.write("\r\n").await?;
                at += 65_536;
                counted.store(at, Ordering::SeqCst);
            }
            on.write("0\r\n\r\n").await?;
            on.go_on()
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire_with(b"http/1.1", Some(65_536)).await?;
    wire.write(GET).await?;
    let held = stalled(&sent).await?;
    ensure!(held < HELD_BYTES_MAX, "{held} bytes are held somewhere");
    let answer = wire
        .answer()
        .await
        .with_context(|| balancer.program.log().join("\n"))?;
    ensure!(
        answer.body == pattern(0, FLOW_BYTES as usize),
        "the content is not what was sent"
    );

    sent.store(0, Ordering::SeqCst);
    let mut two = balancer.two(65_535).await?;
    let mut body = get(&mut two, &balancer).await?.into_body();
    let held = stalled(&sent).await?;
    ensure!(held < HELD_BYTES_MAX, "{held} bytes are held somewhere");
    // The stream that stands still keeps no other from moving.
    let other = balancer.request("GET", "/metrics").body(())?;
    let (other, _) = two.send_request(other, true)?;
    ensure!(timeout(SOON, other).await??.status() == 404);
    let mut at = 0;
    while let Some(data) = timeout(SOON, body.data()).await? {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        ensure!(data == pattern(at, data.len()), "wrong bytes at {at}");
        at += data.len() as u64;
    }
    ensure!(at == FLOW_BYTES);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_read_holds_its_client_back_and_then_gets_everything() -> Result<()>
{
    let world = World::new()?;
    let go = Arc::new(Notify::new());
    let waits = Arc::clone(&go);
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let waits = Arc::clone(&waits);
        async move {
            waits.notified().await;
            let mut at = 0;
            while at < FLOW_BYTES {
                let line = on.read_until(b"\r\n").await?;
                let length = usize::from_str_radix(std::str::from_utf8(&line)?.trim_end(), 16)?;
                let data = on.read_exactly(length).await?;
                ensure!(data == pattern(at, length), "wrong bytes at {at}");
                at += length as u64;
                on.read_exactly(2).await?;
            }
            ensure!(on.read_exactly(5).await? == b"0\r\n\r\n");
            on.answer(&at.to_string()).await?;
            on.go_on()
        }
    })?;
    let keys = "[request]\nbody_bytes_max = 100000000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;

    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let mut wire = balancer.wire_with(b"http/1.1", Some(65_536)).await?;
    let upload = tokio::spawn(async move {
        wire.write("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let mut at = 0;
        while at < FLOW_BYTES {
            wire.write("8000\r\n").await?;
            wire.write(pattern(at, 32_768)).await?;
            wire.write("\r\n").await?;
            at += 32_768;
            counted.store(at, Ordering::SeqCst);
        }
        wire.write("0\r\n\r\n").await?;
        wire.answer().await
    });
    let held = stalled(&sent).await?;
    ensure!(held < HELD_BYTES_MAX, "{held} bytes are held somewhere");
    go.notify_one();
    let answer = upload.await??;
    ensure!(answer.text() == FLOW_BYTES.to_string(), "{answer:?}");

    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let two = balancer.two(65_535).await?;
    let (answer, mut stream) = two
        .ready()
        .await?
        .send_request(balancer.request("POST", "/").body(())?, false)?;
    let upload = tokio::spawn(async move {
        let mut at = 0;
        while at < FLOW_BYTES {
            let is_all = at + 32_768 == FLOW_BYTES;
            send(&mut stream, pattern(at, 32_768).into(), is_all).await?;
            at += 32_768;
            counted.store(at, Ordering::SeqCst);
        }
        anyhow::Ok(())
    });
    let held = stalled(&sent).await?;
    ensure!(held < HELD_BYTES_MAX, "{held} bytes are held somewhere");
    go.notify_one();
    upload.await??;
    let (body, _) = whole(timeout(SOON, answer).await??.into_body()).await?;
    ensure!(body == FLOW_BYTES.to_string().as_bytes());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_unknown_length_arrive_whole() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let body = on.read_body().await?;
        let is_whole = body == pattern(0, body.len());
        on.answer(&format!("{} {is_whole}", body.len())).await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    let two = balancer.two(65_535).await?;
    for pieces in [
        vec![1],
        vec![1; 300],
        vec![16_000, 1, 16_384, 15_999, 2, 70_000],
        vec![200_000; 5],
    ] {
        let total: usize = pieces.iter().sum();
        let expected = format!("{total} true");
        wire.write("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        let mut at = 0;
        for piece in &pieces {
            wire.write(format!("{piece:x}\r\n")).await?;
            wire.write(pattern(at, *piece)).await?;
            wire.write("\r\n").await?;
            at += *piece as u64;
        }
        wire.write("0\r\n\r\n").await?;
        let answer = wire.answer().await?;
        ensure!(answer.text() == expected, "{pieces:?}: {answer:?}");

        let (answer, mut stream) = two
            .clone()
            .ready()
            .await?
            .send_request(balancer.request("POST", "/").body(())?, false)?;
        let mut at = 0;
        for piece in &pieces {
            send(&mut stream, pattern(at, *piece).into(), false).await?;
            at += *piece as u64;
        }
        stream.send_data(Bytes::new(), true)?;
        let (body, _) = whole(timeout(SOON, answer).await??.into_body()).await?;
        ensure!(body == expected.as_bytes(), "{pieces:?}: {body:?}");
    }
    ensure!(one.connections() <= 2, "{} connections", one.connections());
    Ok(())
}

/// How a connection ends after everything that comes on it: in order, or broken off.
async fn all_and_end(balancer: &Balancer, request: &str) -> Result<(String, bool)> {
    let mut stream = balancer.tls_with(b"http/1.1", None).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut all = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut all)).await?;
    Ok((String::from_utf8_lossy(&all).into_owned(), end.is_ok()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_is_seen_to_be_cut_off() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let path = on.path();
        let mut parts = path.split('/').skip(1);
        let begin = match parts.next() {
            Some("length") => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            Some("chunk") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc",
            Some("chunks") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Some("last") => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\n\r\nabc",
        };
        on.write(begin).await?;
        // It is on its way to the client when the end comes.
        sleep(Duration::from_millis(30)).await;
        match parts.next() {
            Some("close") => on.close().await,
            Some("drop") => on.close_without_tls(),
            _ => on.reset(),
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for what in ["length", "chunk", "chunks", "last", "until-the-end"] {
        for how in ["close", "drop", "reset"] {
            // Only TLS's goodbye says that it is the end.
            let is_whole = what == "until-the-end" && how == "close";
            let path = format!("/{what}/{how}");
            for version in ["1.0", "1.1"] {
                let request = format!(
                    "GET {path} HTTP/{version}\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                );
                let (all, in_order) = all_and_end(&balancer, &request).await?;
                ensure!(
                    all.starts_with("HTTP/1.1 200 OK\r\n") && all.contains("abc"),
                    "{path}: {all}"
                );
                ensure!(
                    in_order == is_whole
                        && (version == "1.0" || all.ends_with("0\r\n\r\n") == is_whole),
                    "{path}, HTTP/{version}: in order: {in_order}, {all}"
                );
            }
            let mut two = balancer.two(65_535).await?;
            let (answer, _) = two.send_request(balancer.request("GET", &path).body(())?, true)?;
            let answer = timeout(SOON, answer).await??;
            let end = whole(answer.into_body()).await;
            ensure!(end.is_ok() == is_whole, "{path}: {end:?}");
            let word = if is_whole {
                "completed"
            } else {
                "backend_reset"
            };
            balancer
                .logged(|line| line["path"] == path.as_str() && line["termination"] == word)
                .await?;
        }
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_at_once_each_get_their_own_content() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let body = on.read_body().await?;
        on.write(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ))
        .await?;
        on.write(body).await?;
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let two = balancer.two(65_535).await?;
    let streams = (0..100_u64).map(|index| {
        let (balancer, two) = (&balancer, two.clone());
        async move {
            let content = pattern(index * 7, 150_000 + index as usize);
            let (answer, mut stream) = two
                .ready()
                .await?
                .send_request(balancer.request("POST", "/").body(())?, false)?;
            timeout(SOON * 3, send(&mut stream, content.clone().into(), true)).await??;
            let answer = timeout(SOON * 3, answer).await??;
            let (body, _) = whole(answer.into_body()).await?;
            ensure!(body == content, "stream {index} has another's content");
            Ok(())
        }
    });
    for stream in futures::future::join_all(streams).await {
        stream?;
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_the_last_request_of_a_connection_is_not_answered() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        if on.path() == "/closes" {
            on.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
                .await?;
        } else {
            on.write("HTTP/1.1 103 Early Hints\r\n\r\n").await?;
            on.answer("ok").await?;
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for first in [
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: localhost\r\n\r\n",
    ] {
        let (all, in_order) = all_and_end(&balancer, &format!("{first}{GET}")).await?;
        ensure!(all.matches("HTTP/1.1 200 ").count() == 1, "{all}");
        ensure!(in_order, "{all}");
        // HTTP/1.0 knows no interim answers.
        ensure!(
            all.contains("HTTP/1.1 103 ") == first.contains("HTTP/1.1"),
            "{all}"
        );
    }
    ensure!(one.heard().len() == 2, "{:?}", one.heard());
    // The last answer on the backend's connection is not the last on the client's.
    let mut wire = balancer.wire().await?;
    for _ in 0..3 {
        wire.write("GET /closes HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        let answer = wire.answer().await?;
        ensure!(
            answer.text() == "ok" && answer.header("connection").is_empty(),
            "{answer:?}"
        );
    }
    let heard = one.heard();
    ensure!(
        heard[3].connection != heard[4].connection && heard[2].connection != heard[3].connection,
        "a connection was used after its last answer"
    );
    Ok(())
}

const TOO_LARGE: &str = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo much";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_an_unfinished_upload_reaches_the_client() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write(TOO_LARGE).await?;
        match &*on.path() {
            "/closes" => on.close().await,
            // With what has come unread in the kernel, that is a reset.
            "/drops" => on.close_without_tls(),
            _ => on.hold().await,
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for round in 0..5 {
        for path in ["/closes", "/drops", "/reads"] {
            let what = || format!("{path} {round}");
            let mut wire = balancer.wire().await?;
            let (length, begun) = (2 << 20, 1 << 20);
            wire.write(format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            ))
            .await?;
            // It may be closed before all is written.
            let _ = timeout(SOON, wire.write(vec![b'x'; begun])).await?;
            let answer = wire.answer().await.with_context(what)?;
            ensure!(
                answer.status == 413
                    && answer.text() == "too much"
                    && answer.header("connection") == "close",
                "{path}: {answer:?}"
            );
            ensure!(wire.rest(SOON).await?.is_empty(), "{path}");

            let mut two = balancer.two(65_535).await?;
            let request = balancer.request("POST", path).body(())?;
            let (answer, mut stream) = two.send_request(request, false)?;
            let body = Bytes::from(vec![b'x'; begun]);
            let upload = async {
                // Reset without an error once the answer is whole.
                let _ = send(&mut stream, body, false).await;
            };
            let (answer, ()) = tokio::join!(timeout(SOON, answer), upload);
            let answer = answer?.with_context(what)?;
            ensure!(answer.status() == 413, "{path}: {answer:?}");
            ensure!(whole(answer.into_body()).await?.0 == b"too much", "{path}");
            // Its connection goes on.
            let (other, _) =
                two.send_request(balancer.request("GET", "/metrics").body(())?, true)?;
            ensure!(timeout(SOON, other).await??.status() == 404);
        }
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_upload_goes_on_while_its_answer_comes() -> Result<()> {
    // As in a call that streams both ways: each piece is answered before the next is sent.
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        loop {
            let chunk = on.read_until(b"\r\n").await?;
            if chunk == b"0\r\n" {
                on.read_until(b"\r\n").await?;
                on.write("0\r\n\r\n").await?;
                return on.go_on();
            }
            let data = on.read_until(b"\r\n").await?;
            on.write([&chunk[..], &data].concat()).await?;
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    wire.write("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    wire.until("\r\n\r\n").await?;
    for index in 10..40 {
        wire.write(format!("6\r\npart{index}\r\n")).await?;
        let echo = wire.until("\r\n").await? + &wire.until("\r\n").await?;
        ensure!(echo == format!("6\r\npart{index}\r\n"), "{echo}");
    }
    wire.write("0\r\n\r\n").await?;
    wire.until("0\r\n\r\n").await?;

    let two = balancer.two(65_535).await?;
    let (answer, mut stream) = two
        .ready()
        .await?
        .send_request(balancer.request("POST", "/").body(())?, false)?;
    let mut body = timeout(SOON, answer).await??.into_body();
    for index in 10..40 {
        stream.send_data(format!("part{index}").into(), false)?;
        let echo = timeout(SOON, body.data()).await?.context("the end")??;
        ensure!(echo == format!("part{index}"), "{echo:?}");
    }
    stream.send_data(Bytes::new(), true)?;
    ensure!(whole(body).await?.0.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_one_request_and_is_told_1001_in_a_frame_of_its_own() -> Result<()> {
    let world = World::new()?;
    let goodbyes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&goodbyes);
    let one = world.raw_backend("web-1", move |on: Conversation| {
        echo(on, Arc::clone(&counted))
    })?;
    let mut balancer = world
        .balancer_before(&[&one], "[stop]\ndeadline_ms = 500\n")
        .await?;
    let mut wire = balancer.wire().await?;
    // Frames may follow the request at once.
    wire.write([UPGRADE.as_bytes(), &masked(b"early")].concat())
        .await?;
    let head = wire.until("\r\n\r\n").await?;
    ensure!(
        head.starts_with("HTTP/1.1 101 ")
            && head.to_lowercase().contains("\r\nupgrade: websocket\r\n")
            && head.contains("x-request-id: "),
        "{head}"
    );
    ensure!(wire.exactly(7).await? == b"\x82\x05early");
    for length in [0, 1, 125, 126, 60_000, 65_535] {
        let text = pattern(0, length);
        wire.write(masked(&text)).await?;
        let head = if length < 126 { 2 } else { 4 };
        let echo = wire.exactly(head + length).await?;
        ensure!(echo[head..] == text);
        ensure!(balancer.in_flight().await? == [1]);
    }
    // At the deadline a frame is on its way to the backend: it is finished first.
    let long = masked(&pattern(0, 1000));
    wire.write(&long[..500]).await?;
    balancer.program.terminate()?;
    sleep(Duration::from_millis(700)).await;
    wire.write(&long[500..]).await?;
    let rest = wire.rest(SOON).await?;
    let rest: Vec<u8> = rest.chars().map(|c| c as u8).collect();
    let at = rest.len().checked_sub(2 + 2 + "the server goes".len());
    let close = &rest[at.context("no closing frame")?..];
    ensure!(
        close[0] == 0x88 && close[2..4] == 1001_u16.to_be_bytes(),
        "{}",
        rest.escape_ascii()
    );
    let status = balancer.program.exited(SOON).await?;
    ensure!(status.success(), "{status}");
    ensure!(
        goodbyes.load(Ordering::SeqCst) == 1,
        "the backend was not told"
    );
    let line = balancer.logged(|line| line["path"] == "/socket").await?;
    ensure!(
        line["termination"] == "completed" && line["status"] == 101,
        "{line}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_time_of_a_request_is_not_for_websockets() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| echo(on, Arc::default()))?;
    let balancer = world
        .balancer_before(&[&one], "[request]\ntotal_timeout_s = 1\n")
        .await?;
    let mut wire = balancer.wire().await?;
    wire.write(UPGRADE).await?;
    wire.until("\r\n\r\n").await?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        wire.write(masked(b"still")).await?;
        ensure!(
            wire.exactly(7).await? == b"\x82\x05still",
            "{:?}",
            began.elapsed()
        );
        sleep(Duration::from_millis(50)).await;
    }
    ensure!(balancer.in_flight().await? == [1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_for_both_when_one_side_breaks_it_off() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write(SWITCHED).await?;
        match &*on.heard().header("x-then") {
            "reset" => {
                on.read_exactly(1).await?;
                on.reset()
            }
            _ => {
                on.read_exactly(1).await?;
                on.close().await
            }
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for then in ["reset", "close"] {
        let mut wire = balancer.wire().await?;
        let upgrade = UPGRADE.replacen("\r\n\r\n", &format!("\r\nx-then: {then}\r\n\r\n"), 1);
        wire.write(upgrade).await?;
        wire.until("\r\n\r\n").await?;
        balancer.wait_for_in_flight(&[1]).await?;
        wire.write("x").await?;
        ensure!(wire.rest(SOON).await?.is_empty(), "{then}");
        drop(wire);
        balancer
            .wait_for_in_flight(&[0])
            .await
            .with_context(|| then.to_owned())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_whose_client_is_gone_holds_nothing_whatever_the_backend_does() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.write(SWITCHED).await?;
        match &*on.path() {
            // Takes no notice of the other side's end.
            "/deaf" => on.ignore_the_end().await,
            _ => on.hold().await,
        }
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for path in ["/socket", "/deaf"] {
        let mut wire = balancer.wire().await?;
        wire.write(UPGRADE.replace("/socket", path)).await?;
        wire.until("\r\n\r\n").await?;
        balancer.wait_for_in_flight(&[1]).await?;
        wire.reset()?;
        balancer
            .wait_for_in_flight(&[0])
            .await
            .with_context(|| path.to_owned())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_not_listed_is_not_asked_for() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        match &*on.path() {
            // Switches although nobody has asked.
            "/switches" => on.write(SWITCHED).await?,
            _ => on.answer("plain").await?,
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    for fields in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "connection: upgrade\r\nupgrade: tls/1.0\r\n",
        "connection: upgrade\r\nupgrade: h2c, websocket\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n",
        // Connection does not name it.
        "upgrade: websocket\r\n",
    ] {
        wire.write(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n"))
            .await?;
        let answer = wire.answer().await?;
        ensure!(
            answer.status == 200 && answer.text() == "plain",
            "{fields}: {answer:?}"
        );
        let heard = one.heard().pop().context("nothing heard")?;
        for name in ["upgrade", "connection", "http2-settings"] {
            ensure!(heard.header(name).is_empty(), "{fields}: {heard:?}");
        }
    }
    // And one that comes unasked is not HTTP.
    wire.write("GET /switches HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let answer = wire.answer().await?;
    ensure!(answer.status == 502, "{answer:?}");
    let two = balancer.two(65_535).await?;
    let request = balancer.request("GET", "/switches").body(())?;
    let (answer, _) = two.ready().await?.send_request(request, true)?;
    ensure!(timeout(SOON, answer).await??.status() == 502);
    Ok(())
}
