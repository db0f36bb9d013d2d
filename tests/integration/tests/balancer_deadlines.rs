//! Nobody can make anybody wait for ever: every wait for a client or a backend has an end, and the access log says which.

mod balancer_common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, fields,
    frame, get, headers, reset,
};
use balancer_common::{Balancer, Conversation, SOON, Taken, World};
use bytes::Bytes;
use harness::wait_until;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Checks so rare that they take no part.
const BLIND: &str = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const POST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/"),
];

/// How the first request for this path has ended.
async fn ended(balancer: &Balancer, path: &str) -> Result<Value> {
    let line = balancer.logged(|line| line["path"] == path).await?;
    Ok(line["termination"].clone())
}

/// Reads whatever comes and answers it whole.
async fn ordinary(mut on: Conversation) -> Result<balancer_common::Next> {
    on.read_body().await?;
    on.answer("ok").await?;
    on.go_on()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stops_is_408() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| on.hold())?;
    let balancer = world
        .balancer_before(&[&one], "[request]\nbody_idle_timeout_ms = 400\n")
        .await?;
    let mut wire = balancer.wire().await?;
    let began = Instant::now();
    wire.write("POST /1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc")
        .await?;
    let answer = wire.rest(SOON).await?;
    ensure!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("/problems/request-timeout"),
        "{answer}"
    );
    ensure!(
        began.elapsed() >= Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
    ensure!(ended(&balancer, "/1").await? == "client_timeout");

    let mut frames = balancer.frames().await?;
    frames
        .write([headers(1, 0, POST), frame(DATA, 0, 1, "abc")].concat())
        .await?;
    ensure!(frames.taken(1).await? == Taken::Answered(408));
    ensure!(frames.is_alive(1).await?, "the connection is closed");
    ensure!(ended(&balancer, "/").await? == "client_timeout");
    // Neither backend is left with half of a request.
    one.wait_for_closed(2).await?;
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_trickles_is_408_by_its_rate() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| on.hold())?;
    let keys = "[request]\nrate_min_bytes_per_s = 100\nrate_grace_ms = 500\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let began = Instant::now();
    let mut wire = balancer.wire().await?;
    wire.write("POST /1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n\r\n")
        .await?;
    // Twenty bytes in a second, never silent for long.
    while wire.is_silent_for(Duration::from_millis(50)).await {
        ensure!(began.elapsed() < SOON, "it may go on for ever");
        if wire.write("x").await.is_err() {
            break;
        }
    }
    let answer = wire.rest(SOON).await?;
    ensure!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    ensure!(
        began.elapsed() >= Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    ensure!(ended(&balancer, "/1").await? == "client_timeout");

    let began = Instant::now();
    let mut frames = balancer.frames().await?;
    frames.write(headers(1, 0, POST)).await?;
    let trickle = async {
        // The client's half is another one's: frames are written by their own task.
        let mut count = 0_u64;
        loop {
            frames.write(frame(DATA, 0, 1, "x")).await?;
            count += 1;
            if let Ok(frame) = timeout(Duration::from_millis(50), frames.next()).await {
                let frame = frame?.context("the connection is closed")?;
                if frame.kind == HEADERS && frame.stream == 1 {
                    return anyhow::Ok(count);
                }
            }
        }
    };
    let count = timeout(SOON, trickle)
        .await
        .context("it may go on for ever")??;
    ensure!(
        count >= 5 && began.elapsed() >= Duration::from_millis(500),
        "{count} bytes, {:?}",
        began.elapsed()
    );
    ensure!(ended(&balancer, "/").await? == "client_timeout");
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_fast_enough_may_take_longer_than_the_grace() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let keys = "[request]\nrate_min_bytes_per_s = 100\nrate_grace_ms = 300\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut wire = balancer.wire().await?;
    wire.write("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n")
        .await?;
    for _ in 0..10 {
        wire.write([b'x'; 100]).await?;
        sleep(Duration::from_millis(100)).await;
    }
    ensure!(wire.answer().await?.status == 200);
    Ok(())
}

/// An answer that never ends.
async fn endless(mut on: Conversation) -> Result<balancer_common::Next> {
    on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    loop {
        on.write("10000\r\n").await?;
        on.write([b'x'; 65_536]).await?;
        on.write("\r\n").await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_or_takes_a_byte_now_and_then_is_cut() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", endless)?;
    for (keys, pause) in [
        ("[request]\nwrite_timeout_ms = 400\n", None),
        // Far slower than that, but never silent.
        (
            "[request]\nrate_min_bytes_per_s = 10000000\nrate_grace_ms = 700\n",
            Some(Duration::from_millis(20)),
        ),
    ] {
        let balancer = world.balancer_before(&[&one], keys).await?;
        let mut wire = balancer.wire_with(b"http/1.1", Some(4096)).await?;
        wire.write("GET /1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        wire.until("\r\n\r\n").await?;
        let is_cut = || async {
            let mut lines = balancer.program.log().into_iter();
            lines.any(|line| line.contains("\"path\":\"/1\""))
        };
        let began = Instant::now();
        while !is_cut().await {
            ensure!(began.elapsed() < SOON, "{keys}: it may go on for ever");
            if let Some(pause) = pause {
                // As much as TLS has decrypted, not more.
                wire.buffer.clear();
                let _ = timeout(pause, wire.fill()).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
        ensure!(ended(&balancer, "/1").await? == "client_timeout");
        let rest = wire.rest(SOON).await?;
        ensure!(!rest.ends_with("0\r\n\r\n"), "it looks whole");

        // By HTTP/2: no window is opened again, or a little now and then.
        let mut frames = balancer.frames().await?;
        frames.write(get(1, "/2")).await?;
        let began = Instant::now();
        let code = loop {
            let next = timeout(Duration::from_millis(30), frames.next()).await;
            match next {
                Ok(frame) => {
                    let frame = frame?.context("the connection is closed")?;
                    if frame.kind == RST_STREAM {
                        break frame.code();
                    }
                }
                Err(_) if pause.is_some() => {
                    let room = 100_u32.to_be_bytes();
                    frames
                        .write([frame(0x8, 0, 0, room), frame(0x8, 0, 1, room)].concat())
                        .await?;
                }
                Err(_) => {}
            }
            ensure!(began.elapsed() < SOON, "{keys}: HTTP/2 may go on for ever");
        };
        ensure!(code == 0x2, "reset with {code}");
        ensure!(ended(&balancer, "/2").await? == "client_timeout");
        balancer.wait_for_in_flight(&[0]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_shakes_hands_costs_its_time_and_the_request_goes_elsewhere()
-> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let two = world.raw_backend("web-2", ordinary)?;
    let keys = format!("{BLIND}[backend]\nhandshake_timeout_ms = 300\n");
    let balancer = world.balancer_before(&[&one, &two], &keys).await?;
    one.set_mute(true);
    let mut met = 0;
    for number in 0..4 {
        let began = Instant::now();
        let mut wire = balancer.wire().await?;
        wire.write(format!(
            "POST /{number} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        ))
        .await?;
        let answer = wire.answer().await?;
        ensure!(answer.status == 200, "{answer:?}");
        let path = format!("/{number}");
        let line = balancer
            .logged(|line| line["path"] == path.as_str())
            .await?;
        if line["tries"] == 2 {
            met += 1;
            ensure!(
                began.elapsed() >= Duration::from_millis(300),
                "{:?}",
                began.elapsed()
            );
        }
    }
    ensure!(met > 0, "nobody was sent to the backend that is mute");
    wait_until("its connections are closed", SOON, async || {
        one.muted() == one.muted_closed()
    })
    .await?;
    balancer.wait_for_in_flight(&[0, 0]).await?;

    // And if there is nobody else.
    one.set_mute(false);
    let balancer = world.balancer_before(&[&one], &keys).await?;
    one.set_mute(true);
    let mut wire = balancer.wire().await?;
    wire.write(GET).await?;
    let answer = wire.answer().await?;
    ensure!(
        answer.status == 503 && !answer.header("retry-after").is_empty(),
        "{answer:?}"
    );
    ensure!(ended(&balancer, "/").await? == "connect_timeout");
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_stops_before_or_in_its_answer_is_given_up_on() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        on.read_body().await?;
        match on.path().split('/').nth(1).unwrap_or_default() {
            "nothing" => {}
            "half-a-head" => on.write("HTTP/1.1 200 OK\r\ncontent").await?,
            "interim" => on.write("HTTP/1.1 103 Early Hints\r\n\r\n").await?,
            "head" => {
                on.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
                    .await?
            }
            "some" => {
                on.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
                    .await?
            }
            "chunk" => {
                on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
                    .await?;
            }
            _ => on.write("HTTP/1.1 200 OK\r\n\r\nabc").await?,
        }
        on.hold().await
    })?;
    let keys = "[backend]\nfirst_byte_timeout_ms = 200\nanswer_timeout_ms = 200\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut requests = 0;
    for (what, word) in [
        ("nothing", "first_byte_timeout"),
        ("half-a-head", "first_byte_timeout"),
        ("interim", "first_byte_timeout"),
        ("head", "answer_timeout"),
        ("some", "answer_timeout"),
        ("chunk", "answer_timeout"),
        ("until-the-end", "answer_timeout"),
    ] {
        let began = Instant::now();
        let mut wire = balancer.wire().await?;
        let path = format!("/{what}/1");
        wire.write(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        ))
        .await?;
        if word == "first_byte_timeout" {
            let mut answer = wire.answer().await?;
            if what == "interim" {
                ensure!(answer.status == 103, "{answer:?}");
                answer = wire.answer().await?;
            }
            ensure!(answer.status == 504, "{what}: {answer:?}");
        } else {
            let cut = wire.rest(SOON).await?;
            ensure!(
                cut.starts_with("HTTP/1.1 200 OK\r\n") && !cut.ends_with("0\r\n\r\n"),
                "{what}: {cut}"
            );
        }
        ensure!(
            began.elapsed() >= Duration::from_millis(200),
            "{what}: {:?}",
            began.elapsed()
        );
        ensure!(ended(&balancer, &path).await? == word, "{what}");

        let mut frames = balancer.frames().await?;
        let path = format!("/{what}/2");
        let post = [POST[0], POST[1], POST[2], (":path", &*path)];
        frames.write(headers(1, END_STREAM, &post)).await?;
        match frames.wait_for(HEADERS).await?.flags & END_STREAM {
            0 if word == "answer_timeout" => {
                ensure!(frames.wait_for(RST_STREAM).await?.code() == 0x2, "{what}");
            }
            _ if word == "answer_timeout" => anyhow::bail!("{what}: it looks whole"),
            _ => {}
        }
        ensure!(
            frames.is_alive(1).await?,
            "{what}: the connection is closed"
        );
        ensure!(ended(&balancer, &path).await? == word, "{what}");
        requests += 2;
        one.wait_for_closed(requests).await?;
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_take_the_request_is_given_up_on() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| async move {
        let _on = on;
        std::future::pending().await
    })?;
    let keys = "[request]\nbody_bytes_max = 100000000\n[backend]\nwrite_timeout_ms = 400\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut wire = balancer.wire().await?;
    wire.write("POST /1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50000000\r\n\r\n")
        .await?;
    let upload = async { while wire.write([b'x'; 65_536]).await.is_ok() {} };
    let _ = timeout(Duration::from_secs(2), upload).await;
    let answer = wire.answer().await?;
    ensure!(answer.status == 504, "{answer:?}");
    ensure!(ended(&balancer, "/1").await? == "first_byte_timeout");
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_its_time_in_all_however_busy_it_is() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        if on.path().starts_with("/silent") {
            return on.hold().await;
        }
        on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        on.trickle(&b"1\r\nx\r\n".repeat(1000), 6, Duration::from_millis(20))
            .await?;
        on.go_on()
    })?;
    let balancer = world
        .balancer_before(&[&one], "[request]\ntotal_timeout_s = 1\n")
        .await?;
    let began = Instant::now();
    let mut wire = balancer.wire().await?;
    wire.write("GET /busy/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let cut = wire.rest(SOON).await?;
    ensure!(
        cut.starts_with("HTTP/1.1 200 ") && cut.ends_with("1\r\nx\r\n"),
        "{cut}"
    );
    ensure!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    ensure!(ended(&balancer, "/busy/1").await? == "total_timeout");

    let mut frames = balancer.frames().await?;
    frames.write(get(1, "/busy/2")).await?;
    ensure!(frames.wait_for(RST_STREAM).await?.code() == 0x2);
    ensure!(ended(&balancer, "/busy/2").await? == "total_timeout");

    wire = balancer.wire().await?;
    wire.write("GET /silent HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let answer = wire.answer().await?;
    ensure!(answer.status == 504, "{answer:?}");
    ensure!(ended(&balancer, "/silent").await? == "total_timeout");
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http_2_connection_is_told_to_go_and_what_crosses_that_is_answered() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world
        .balancer_before(&[&one], "[request]\nkeep_alive_s = 1\n")
        .await?;
    // One that was never used, and one that was.
    let mut frames = balancer.frames().await?;
    let began = Instant::now();
    let away = frames.wait_for(GOAWAY).await?;
    ensure!(
        away.code() == 0 && began.elapsed() >= Duration::from_millis(900),
        "{away:?} {:?}",
        began.elapsed()
    );
    ensure!(frames.closed().await?.unwrap_or(0) == 0);

    let mut frames = balancer.frames().await?;
    frames.write(get(1, "/")).await?;
    ensure!(frames.taken(1).await? == Taken::Answered(200));
    frames.wait_for(GOAWAY).await?;
    // Sent before the client has read that: the last stream that the balancer named is beyond all that can be.
    frames.write(get(3, "/crossed")).await?;
    let crossed = frames.wait_for(HEADERS).await;
    ensure!(
        crossed.as_ref().is_ok_and(|frame| frame.stream == 3),
        "a request that crossed the GOAWAY was lost, though it did not exclude it: {crossed:?}"
    );
    frames.closed().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_request_at_work_is_not_idle() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        sleep(Duration::from_millis(2200)).await;
        on.answer("late").await?;
        on.go_on()
    })?;
    let balancer = world
        .balancer_before(&[&one], "[request]\nkeep_alive_s = 1\n")
        .await?;
    let mut wire = balancer.wire().await?;
    let mut frames = balancer.frames().await?;
    wire.write(GET).await?;
    frames.write(get(1, "/")).await?;
    ensure!(wire.answer().await?.text() == "late");
    ensure!(frames.taken(1).await? == Taken::Answered(200));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_or_a_frame_of_http_2_that_never_ends_is_cut() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world
        .balancer_before(&[&one], "[request]\nheader_timeout_ms = 500\n")
        .await?;
    let block = fields(POST);
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    for (what, begin, trickles) in [
        (
            "a block without its end",
            frame(HEADERS, END_STREAM, 1, &block[..5]),
            Some(&block[5..]),
        ),
        ("half of a frame's head", whole[..4].to_vec(), None),
        ("half of a frame", whole[..20].to_vec(), None),
        (
            "half of a PING",
            frame(0x6, 0, 0, [0; 8])[..12].to_vec(),
            None,
        ),
    ] {
        let mut frames = balancer.frames().await?;
        let began = Instant::now();
        frames.write(begin).await?;
        let mut rest = trickles.unwrap_or_default().iter();
        let trickle = async {
            loop {
                match timeout(Duration::from_millis(200), frames.next()).await {
                    Ok(Ok(None)) => return anyhow::Ok(()),
                    Ok(frame) => {
                        frame?;
                    }
                    Err(_) => {
                        // A byte now and then.
                        if let Some(byte) = rest.next()
                            && frames
                                .write(frame(CONTINUATION, 0, 1, [*byte]))
                                .await
                                .is_err()
                        {
                            return Ok(());
                        }
                    }
                }
            }
        };
        timeout(SOON, trickle)
            .await
            .with_context(|| format!("{what}: it may go on for ever"))??;
        ensure!(
            began.elapsed() >= Duration::from_millis(450),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    // A preface that does not come.
    let mut wire = balancer.wire_with(b"h2", None).await?;
    wire.write("PRI * HTTP/2.0\r\n").await?;
    wire.rest(SOON).await?;
    ensure!(one.heard().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_handshake_that_never_ends_is_cut_and_counted() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let balancer = world
        .balancer_before(&[&one], "[listen]\nhandshake_timeout_ms = 400\n")
        .await?;
    let mut silent = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
    let mut slow = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
    let began = Instant::now();
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let trickle = async {
        for byte in hello.iter().chain(&[0; 400]) {
            if tokio::io::AsyncWriteExt::write_all(&mut slow, &[*byte])
                .await
                .is_err()
            {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let read = async {
        let mut rest = Vec::new();
        let _ = timeout(SOON, silent.read_to_end(&mut rest)).await?;
        ensure!(rest.is_empty(), "{rest:x?}");
        ensure!(
            began.elapsed() >= Duration::from_millis(400),
            "{:?}",
            began.elapsed()
        );
        Ok(())
    };
    let (read, ()) = tokio::join!(read, async {
        let _ = timeout(Duration::from_secs(4), trickle).await;
    });
    read?;
    wait_until("both are counted", SOON, async || {
        balancer
            .metric("balancer_handshakes_failed_total")
            .await
            .unwrap_or(0)
            == 2
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_backend_at_once() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        match on.path().split('/').nth(1).unwrap_or_default() {
            "begun" => {
                on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
                    .await?;
            }
            "body" => {
                on.read_exactly(3).await?;
            }
            _ => {}
        }
        on.hold().await
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut count = 0;
    for what in ["silent", "begun", "body"] {
        for how in ["close", "half", "reset"] {
            let path = format!("/{what}/{how}");
            let mut wire = balancer.wire().await?;
            let request = match what {
                "body" => format!(
                    "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc"
                ),
                _ => format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            };
            wire.write(request).await?;
            count += 1;
            one.wait_for_heard(count).await?;
            balancer.wait_for_in_flight(&[1]).await?;
            if what == "begun" {
                wire.until("abc").await?;
            }
            match how {
                "close" => drop(wire),
                "reset" => wire.reset()?,
                _ => {
                    wire.half_close().await?;
                    wire.rest(SOON).await?;
                }
            }
            one.wait_for_closed(count).await?;
            balancer.wait_for_in_flight(&[0]).await?;
            ensure!(ended(&balancer, &path).await? == "client_abort", "{path}");
        }
        for how in ["stream", "connection"] {
            let path = format!("/{what}/{how}");
            let mut frames = balancer.frames().await?;
            let post = [POST[0], POST[1], POST[2], (":path", &*path)];
            let request = match what {
                "body" => [headers(1, 0, &post), frame(DATA, 0, 1, "3\r\nabc")].concat(),
                _ => headers(1, END_STREAM, &post),
            };
            frames.write(request).await?;
            count += 1;
            one.wait_for_heard(count).await?;
            balancer.wait_for_in_flight(&[1]).await?;
            if what == "begun" {
                frames.wait_for(DATA).await?;
            }
            match how {
                "stream" => frames.write(reset(1, CANCEL)).await?,
                _ => frames.wire.reset()?,
            }
            one.wait_for_closed(count).await?;
            balancer.wait_for_in_flight(&[0]).await?;
            ensure!(ended(&balancer, &path).await? == "client_abort", "{path}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_the_balancer_connects_frees_its_backend_at_once() -> Result<()>
{
    let world = World::new()?;
    let one = world.raw_backend("web-1", ordinary)?;
    let keys = format!("{BLIND}[backend]\nhandshake_timeout_ms = 60000\n");
    let balancer = world.balancer_before(&[&one], &keys).await?;
    one.set_mute(true);
    let mut count = 0;
    for how in ["close", "reset"] {
        let mut wire = balancer.wire().await?;
        wire.write(format!(
            "POST /{how} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc"
        ))
        .await?;
        balancer.wait_for_in_flight(&[1]).await?;
        count += 1;
        wait_until("it connects", SOON, async || one.muted() == count).await?;
        match how {
            "close" => drop(wire),
            _ => wire.reset()?,
        }
        balancer.wait_for_in_flight(&[0]).await?;
        ensure!(ended(&balancer, &format!("/{how}")).await? == "client_abort");
    }
    let two = balancer.two(65_535).await?;
    let request = balancer.request("POST", "/stream").body(())?;
    let (answer, mut stream) = two.ready().await?.send_request(request, false)?;
    stream.send_data(Bytes::from_static(b"abc"), false)?;
    balancer.wait_for_in_flight(&[1]).await?;
    count += 1;
    wait_until("it connects", SOON, async || one.muted() == count).await?;
    stream.send_reset(h2::Reason::CANCEL);
    drop(answer);
    balancer.wait_for_in_flight(&[0]).await?;
    ensure!(ended(&balancer, "/stream").await? == "client_abort");
    wait_until("the backend's connections are closed", SOON, async || {
        one.muted_closed() == count
    })
    .await
}
