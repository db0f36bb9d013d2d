//! Connections that a backend gives up at the worst moment: nothing is done twice, and nobody is told of what has not happened.

mod balancer_common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, Conversation, Next, RawBackend, SOON, World};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// Checks so rare that they take no part.
const BLIND: &str = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n";

/// How often each request line was heard.
fn counts(backends: &[&RawBackend]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for heard in backends.iter().flat_map(|backend| backend.heard()) {
        *counts.entry(heard.line()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_post_that_meets_a_connection_which_is_just_being_closed_is_done_once_and_fails_never()
-> Result<()> {
    const REQUESTS: usize = 600;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    // Each request announces itself to the backend, which then closes what is idle at a random moment around its coming.
    let (announce, announced) = watch::channel(0);
    // Requests that were in the kernel already when the connection was closed: nobody can say of them that they were not heard.
    let in_kernel = Arc::new(AtomicUsize::new(0));
    let closed = Arc::new(AtomicUsize::new(0));
    let (unclear, closings) = (Arc::clone(&in_kernel), Arc::clone(&closed));
    let one = world_backend(move |mut on: Conversation| {
        let (random, mut announced) = (Arc::clone(&random), announced.clone());
        let (unclear, closings) = (Arc::clone(&unclear), Arc::clone(&closings));
        async move {
            on.read_body().await?;
            announced.borrow_and_update();
            on.answer(&on.path()).await?;
            let moment = async {
                if announced.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                let wait = random.lock().expect("no panic").random_range(0..1000);
                let due = Instant::now() + Duration::from_micros(wait);
                while Instant::now() < due {
                    yield_now().await;
                }
            };
            tokio::select! {
                biased;
                is_more = on.has_more() => if is_more { on.go_on() } else { Ok(None) },
                () = moment => {
                    // As a server does: what has come is served, whatever was planned.
                    if on.is_something_in_the_kernel()? {
                        return on.go_on();
                    }
                    closings.fetch_add(1, Ordering::SeqCst);
                    on.half_close().await?;
                    if on.is_something_in_the_kernel()? {
                        unclear.fetch_add(1, Ordering::SeqCst);
                    }
                    on.hold().await
                }
            }
        }
    });
    let (world, one) = one?;
    let balancer = world.balancer_before(&[&one], BLIND).await?;
    let mut wire = balancer.wire().await?;
    let mut failed = Vec::new();
    for number in 0..REQUESTS {
        announce.send_replace(number + 1);
        wire.write(format!(
            "POST /{number} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nonce"
        ))
        .await?;
        let answer = wire.answer().await?;
        match answer.status {
            200 => ensure!(answer.text() == format!("/{number}"), "{answer:?}"),
            _ => failed.push((number, answer.status)),
        }
        // A connection that was just opened is in the pool by now.
        sleep(Duration::from_millis(1)).await;
    }
    let stale = balancer.metric("balancer_stale_connections_total").await?;
    let (closed, in_kernel) = (
        closed.load(Ordering::SeqCst),
        in_kernel.load(Ordering::SeqCst),
    );
    println!("{closed} closed, {stale} stale, {in_kernel} unclear, failed: {failed:?}");
    let twice: Vec<_> = counts(&[&one])
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .collect();
    ensure!(twice.is_empty(), "done twice: {twice:?}");
    ensure!(
        failed.len() <= in_kernel,
        "{failed:?} failed, and only {in_kernel} could have been heard; {stale} of {closed} closings were met"
    );
    ensure!(
        stale > 0,
        "the race was not met: {stale} of {closed} closings"
    );
    let tries = balancer.metric("balancer_retries_total{backend=\"web-1\",sent=\"nothing\"}");
    ensure!(tries.await? == 0, "a stale connection counts as a failure");
    Ok(())
}

fn world_backend<S, F>(script: S) -> Result<(World, RawBackend)>
where
    S: Fn(Conversation) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Next>> + Send + 'static,
{
    let world = World::new()?;
    let backend = world.raw_backend("web-1", script)?;
    Ok((world, backend))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_has_closed_while_it_was_idle_is_not_used_again() -> Result<()> {
    let (world, one) = world_backend(|mut on: Conversation| async {
        let path = on.path();
        on.answer(&path).await?;
        match path.split('/').nth(1).unwrap_or_default() {
            "reset" => on.reset(),
            "drop" => on.close_without_tls(),
            "half" => {
                on.half_close().await?;
                on.hold().await
            }
            _ => on.close().await,
        }
    })?;
    let balancer = world.balancer_before(&[&one], BLIND).await?;
    let mut wire = balancer.wire().await?;
    for number in 0..10 {
        for how in ["close", "reset", "drop", "half"] {
            let path = format!("/{how}/{number}");
            wire.write(format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
            ))
            .await?;
            let answer = wire.answer().await?;
            ensure!(answer.text() == path, "{answer:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
    ensure!(one.heard().len() == 40 && one.connections() == 40);
    Ok(())
}

/// A POST over either version; its status.
async fn post(balancer: &Balancer, is_two: bool, path: &str) -> Result<u16> {
    if is_two {
        let two = balancer.two(65_535).await?;
        let request = balancer.request("POST", path).body(())?;
        let (answer, mut stream) = two.ready().await?.send_request(request, false)?;
        // Where the backend breaks off after the head, the answer may be there already, and the stream over.
        let _ = stream.send_data(Bytes::from_static(b"once"), true);
        return Ok(timeout(SOON, answer).await??.status().as_u16());
    }
    let mut wire = balancer.wire().await?;
    wire.write(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nonce"
    ))
    .await?;
    Ok(wire.answer().await?.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_was_read_is_sent_once_however_the_backend_breaks_off() -> Result<()> {
    let world = World::new()?;
    let script = |mut on: Conversation| async {
        let path = on.path();
        if path == "/warm" {
            on.read_body().await?;
            on.answer("warm").await?;
            return on.go_on();
        }
        if !path.starts_with("/head") {
            on.read_body().await?;
        }
        match path.split('/').nth(2).unwrap_or_default() {
            "close" => on.close().await,
            "drop" => on.close_without_tls(),
            "reset" => on.reset(),
            _ => {
                on.write("HTTP/1.1 200 OK\r\ncontent-le").await?;
                on.close().await
            }
        }
    };
    let one = world.raw_backend("web-1", script)?;
    let two = world.raw_backend("web-2", script)?;
    let balancer = world.balancer_before(&[&one, &two], BLIND).await?;
    let mut sent = 0;
    for is_warm in [false, true] {
        for read in ["all", "head"] {
            for then in ["close", "drop", "reset", "half"] {
                for is_two in [false, true] {
                    if is_warm {
                        // So that there is a connection in every worker's pool, to every backend.
                        for _ in 0..8 {
                            ensure!(post(&balancer, is_two, "/warm").await? == 200);
                        }
                    }
                    let path = format!("/{read}/{then}/{is_warm}/{is_two}");
                    let status = post(&balancer, is_two, &path).await;
                    let status = status.with_context(|| path.clone())?;
                    ensure!(status == 502, "{path}: {status}");
                    sent += 1;
                    let line = balancer
                        .logged(|line| line["path"] == path.as_str())
                        .await?;
                    ensure!(
                        line["termination"] == "backend_reset" && line["tries"] == 1,
                        "{line}"
                    );
                }
            }
        }
    }
    let mut counts = counts(&[&one, &two]);
    counts.remove("POST /warm HTTP/1.1");
    ensure!(
        counts.len() == sent && counts.values().all(|count| *count == 1),
        "{counts:?}"
    );
    ensure!(balancer.metric("balancer_stale_connections_total").await? == 0);
    balancer.wait_for_in_flight(&[0, 0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_are_a_share_of_the_requests_and_a_burst_when_every_backend_fails() -> Result<()> {
    const REQUESTS: usize = 200;
    let world = World::new()?;
    let script = |on: Conversation| async { on.reset() };
    let one = world.raw_backend("web-1", script)?;
    let two = world.raw_backend("web-2", script)?;
    let keys = format!(
        "{BLIND}[backend]\nretry_percent = 10\nretry_per_s = 1\nretry_burst = 8\ntries_max = 3\n"
    );
    let balancer = world.balancer_before(&[&one, &two], &keys).await?;
    let began = Instant::now();
    let mut wire = balancer.wire().await?;
    for number in 0..REQUESTS {
        wire.write(format!("GET /{number} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await?;
        let answer = wire.answer().await?;
        ensure!(answer.status == 502, "{answer:?}");
    }
    let tries = one.heard().len() + two.heard().len();
    let seconds = began.elapsed().as_secs() as usize + 1;
    let least = REQUESTS + REQUESTS / 10;
    let most = REQUESTS + REQUESTS / 10 + 8 + seconds;
    ensure!(
        (least..=most).contains(&tries),
        "{tries} tries, not {least} to {most}"
    );
    let refused = balancer.metric("balancer_retries_refused_total").await?;
    let retried = balancer
        .metric("balancer_retries_total{backend=\"web-1\",sent=\"perhaps\"}")
        .await?
        + balancer
            .metric("balancer_retries_total{backend=\"web-2\",sent=\"perhaps\"}")
            .await?;
    ensure!(
        retried as usize == tries - REQUESTS,
        "{retried} of {tries} tries"
    );
    // A request is refused its second try or its third, or has had all of them.
    ensure!(
        refused > 0 && refused as usize <= REQUESTS,
        "{refused} refused"
    );
    ensure!(
        refused as usize >= REQUESTS - retried as usize,
        "{refused} refused, {retried} tried"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_below_the_paths_that_are_said_to_know_it() -> Result<()> {
    let world = World::new()?;
    let script = |mut on: Conversation| async {
        on.read_body().await?;
        on.reset()
    };
    let one = world.raw_backend("web-1", script)?;
    let two = world.raw_backend("web-2", script)?;
    let keys = format!("{BLIND}[backend]\nkeyed_paths = [\"/keyed\", \"/also/this/\"]\n");
    let balancer = world.balancer_before(&[&one, &two], &keys).await?;
    let key = "idempotency-key: k\r\n";
    for (path, field, tries) in [
        ("/keyed", key, 2),
        ("/keyed/a?b=c", key, 2),
        ("/keyed?a", key, 2),
        ("/also/this", key, 2),
        ("/also/this/too", key, 2),
        ("/keyed/b", "", 1),
        ("/keyedx", key, 1),
        ("/", key, 1),
        ("/also", key, 1),
        ("/a/keyed", key, 1),
        ("/Keyed", key, 1),
    ] {
        let before = one.heard().len() + two.heard().len();
        let mut wire = balancer.wire().await?;
        wire.write(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n{field}\r\nonce"
        ))
        .await?;
        let answer = wire.answer().await?;
        ensure!(answer.status == 502, "{answer:?}");
        let made = one.heard().len() + two.heard().len() - before;
        ensure!(made == tries, "{path} {field:?}: {made} tries");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_kept_is_sent_again_whole_and_one_that_was_not_never() -> Result<()> {
    let world = World::new()?;
    let script = |mut on: Conversation| async {
        let body = on.read_body().await?;
        if on.heard().header("x-first").is_empty() {
            on.answer(&body.len().to_string()).await?;
            return on.go_on();
        }
        on.reset()
    };
    let one = world.raw_backend("web-1", script)?;
    let two = world.raw_backend("web-2", script)?;
    let keys = format!("{BLIND}[backend]\nreplay_bytes_max = 1000\n");
    let balancer = world.balancer_before(&[&one, &two], &keys).await?;
    for (length, tries) in [(0, 2), (1, 2), (1000, 2), (1001, 1), (100_000, 1)] {
        for is_chunked in [false, true] {
            let before = one.heard().len() + two.heard().len();
            let framing = match is_chunked {
                true => "transfer-encoding: chunked".to_owned(),
                false => format!("content-length: {length}"),
            };
            let mut wire = balancer.wire().await?;
            wire.write(format!(
                "PUT /{length}/{is_chunked} HTTP/1.1\r\nhost: localhost\r\nx-first: 1\r\n{framing}\r\n\r\n"
            ))
            .await?;
            for part in vec![b'x'; length].chunks(600) {
                let part = match is_chunked {
                    false => part.to_vec(),
                    true => [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat(),
                };
                wire.write(part).await?;
            }
            if is_chunked {
                wire.write("0\r\n\r\n").await?;
            }
            let answer = wire.answer().await?;
            ensure!(answer.status == 502, "{answer:?}");
            let heard: Vec<_> = [one.heard(), two.heard()].concat();
            ensure!(
                heard.len() - before == tries,
                "{length} {framing}: {} tries",
                heard.len() - before
            );
            let line = format!("PUT /{length}/{is_chunked} HTTP/1.1");
            for heard in heard.iter().filter(|heard| heard.line() == line) {
                let content = heard.body.iter().filter(|byte| **byte == b'x').count();
                ensure!(content == length, "{content} of {length} bytes");
            }
        }
    }
    Ok(())
}
