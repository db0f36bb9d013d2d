//! Least connections, as a client and the admin socket see it: who gets a request, and that every one is given back (invariant 1).

mod balancer_common;

use std::time::Duration;

use anyhow::{Result, ensure};
use balancer_common::{SOON, World, header};
use futures::future::join_all;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_gets_only_what_it_can_do() -> Result<()> {
    let world = World::new()?;
    let (slow, quick) = (world.backend("web-1").await?, world.backend("web-2").await?);
    slow.set_delay(Duration::from_millis(200));
    let balancer = world.balancer_ready(&[&slow, &quick], "").await?;
    let client = balancer.client()?;
    // Eight at a time: round robin would give each half of them.
    join_all((0..8).map(|_| async {
        for _ in 0..40 {
            client
                .get(balancer.url("/"))
                .send()
                .await?
                .error_for_status()?;
        }
        Ok::<_, reqwest::Error>(())
    }))
    .await
    .into_iter()
    .collect::<Result<Vec<_>, _>>()?;
    let (by_slow, by_quick) = (slow.received().len(), quick.received().len());
    ensure!(by_slow + by_quick == 320, "{by_slow} + {by_quick}");
    ensure!(
        by_slow >= 4 && by_slow * 4 < by_quick,
        "slow {by_slow}, quick {by_quick}"
    );
    balancer.wait_for_in_flight(&[0, 0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_http_2_connection_are_counted_one_by_one() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let client = balancer.client()?;
    // The first request decides for HTTP/2; the others then share its connection.
    client.get(balancer.url("/")).send().await?.bytes().await?;
    let hanging: Vec<_> = (0..10)
        .map(|_| tokio::spawn(client.get(balancer.url("/hang")).send()))
        .collect();
    balancer.wait_for_in_flight(&[5, 5]).await?;
    ensure!(balancer.admin("status").await?["connections"] == 1);
    ensure!(
        balancer
            .metric("balancer_in_flight{backend=\"web-1\"}")
            .await?
            == 5
    );
    for request in &hanging {
        request.abort();
    }
    balancer.wait_for_in_flight(&[0, 0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ties_go_round() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let client = balancer.client()?;
    let mut before = String::new();
    for _ in 0..10 {
        let response = client.get(balancer.url("/")).send().await?;
        let served_by = header(&response, "x-served-by").to_owned();
        response.bytes().await?;
        ensure!(served_by != before, "{served_by} twice in a row");
        before = served_by;
        balancer.wait_for_in_flight(&[0, 0]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_out_gives_the_lease_back() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[backend]\nfirst_byte_timeout_ms = 1500\n[request]\nbody_bytes_max = 1000\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    for client in [balancer.client_1()?, balancer.client()?] {
        // Whole answers, and none; a reset, tried on both; an answer broken off; one that never comes; a body too large; no body at all.
        for (path, status) in [
            ("/", 200),
            ("/status/500", 500),
            ("/reset", 502),
            ("/hang", 504),
        ] {
            let response = client.get(balancer.url(path)).send().await?;
            ensure!(response.status().as_u16() == status, "{path}: {response:?}");
        }
        let broken = client
            .get(balancer.url("/half"))
            .send()
            .await?
            .bytes()
            .await;
        ensure!(broken.is_err(), "an answer that was broken off looks whole");
        let too_large = client
            .post(balancer.url("/"))
            .body("x".repeat(2000))
            .send()
            .await?;
        ensure!(too_large.status() == 413, "{too_large:?}");
        client.head(balancer.url("/")).send().await?;
        // The client goes away: before an answer, and in the middle of one.
        let waiting = timeout(
            Duration::from_millis(50),
            client.get(balancer.url("/sleep/5000")).send(),
        );
        ensure!(waiting.await.is_err(), "it has answered");
        let mut large = client.get(balancer.url("/large")).send().await?;
        large.chunk().await?;
        drop(large);
        balancer.wait_for_in_flight(&[0, 0]).await?;
    }
    let mut raw = balancer.raw().await?;
    raw.write("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf")
        .await?;
    harness::wait_until("it is counted", SOON, async || {
        balancer
            .in_flight()
            .await
            .is_ok_and(|counts| counts.iter().sum::<u64>() == 1)
    })
    .await?;
    drop(raw);
    balancer.wait_for_in_flight(&[0, 0]).await?;
    harness::wait_until("no request is left", SOON, async || {
        balancer
            .admin("status")
            .await
            .is_ok_and(|status| status["requests"] == 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_taken_off_at_once() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    for client in [balancer.client_1()?, balancer.client()?] {
        let hanging = tokio::spawn(client.get(balancer.url("/hang")).send());
        balancer.wait_for_in_flight(&[1]).await?;
        hanging.abort();
        drop(client);
        let gone = timeout(SOON, async {
            let left = std::time::Instant::now();
            while balancer.in_flight().await? != [0] {
                tokio::task::yield_now().await;
            }
            Ok::<_, anyhow::Error>(left.elapsed())
        });
        let took = gone.await??;
        ensure!(took < Duration::from_secs(8), "{took:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_one_request_for_as_long_as_it_lives() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let mut socket = balancer.raw().await?;
    socket
        .write(
            "GET /upgrade HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await?;
    let head = socket.read_head(SOON).await?;
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    for _ in 0..3 {
        socket.write("ho").await?;
        ensure!(socket.read_exactly(4, SOON).await? == "hoho");
        let in_flight = balancer.in_flight().await?;
        ensure!(in_flight.iter().sum::<u64>() == 1, "{in_flight:?}");
    }
    drop(socket);
    balancer.wait_for_in_flight(&[0, 0]).await
}
