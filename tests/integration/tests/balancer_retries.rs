//! What is sent again and what is not (invariant 2), against backends that die at the worst moment.

mod balancer_common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer_common::{World, problem};
use futures::future::{join, join_all};
use harness::wait_until;
use tokio::time::sleep;

/// Checks so rare that the balancer does not know yet what has happened.
const BLIND: &str = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_under_load_fails_no_request() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = join_all((0..8).map(|worker| {
        let client = if worker % 2 == 0 {
            balancer.client()
        } else {
            balancer.client_1()
        };
        let (balancer, over, done) = (&balancer, &over, &done);
        async move {
            let client = client?;
            while !over.load(Ordering::SeqCst) {
                let request = if worker < 4 {
                    client.get(balancer.url("/sleep/5"))
                } else {
                    client
                        .post(balancer.url("/sleep/5"))
                        .header("idempotency-key", "1")
                        .body("a body")
                };
                let response = request.send().await?;
                ensure!(response.status() == 200, "{response:?}");
                response.text().await?;
                done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
    }));
    let drill = async {
        for _ in 0..2 {
            progress(&done, 100).await?;
            one.kill().await;
            progress(&done, 200).await?;
            balancer.wait_for_states(&["down", "up"]).await?;
            one.revive()?;
            balancer.wait_for_states(&["up", "up"]).await?;
            let before = one.received().len();
            wait_until(
                "it gets requests again",
                balancer_common::SOON,
                async || one.received().len() > before + 20,
            )
            .await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let drill = async {
        let drilled = drill.await;
        over.store(true, Ordering::SeqCst);
        drilled
    };
    let (load, drilled) = join(load, drill).await;
    drilled?;
    load.into_iter().collect::<Result<Vec<_>>>()?;
    let retried = balancer
        .metric("balancer_retries_total{backend=\"web-1\",sent=\"nothing\"}")
        .await?;
    let again = balancer
        .metric("balancer_retries_total{backend=\"web-1\",sent=\"perhaps\"}")
        .await?;
    ensure!(
        retried + again > 0,
        "nothing had to be tried again: the kill was not noticed"
    );
    balancer.wait_for_in_flight(&[0, 0]).await
}

async fn progress(done: &AtomicUsize, more: usize) -> Result<()> {
    let target = done.load(Ordering::SeqCst) + more;
    wait_until("requests are answered", balancer_common::SOON, async || {
        done.load(Ordering::SeqCst) >= target
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_goes_to_the_other_backend_whatever_its_method() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], BLIND).await?;
    one.kill().await;
    let client = balancer.client()?;
    for (count, method) in ["POST", "PATCH", "GET", "DELETE", "POST", "POST"]
        .into_iter()
        .enumerate()
    {
        let body = format!("number {count}");
        let request = client
            .request(method.parse()?, balancer.url("/"))
            .body(body.clone());
        let response = request.send().await?;
        ensure!(response.status() == 200, "{method}: {response:?}");
        let received = two.received();
        ensure!(
            received.len() == count + 1,
            "{method}: sent {} times",
            received.len() - count
        );
        ensure!(received[count].body == body, "{received:?}");
    }
    ensure!(one.received().is_empty());
    let line = balancer.logged(|line| line["tries"] == 2).await?;
    ensure!(
        line["backend"] == "web-2" && line["termination"] == "completed",
        "{line}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_was_read_before_the_backend_died_is_not_sent_again() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    for (sent, client) in [balancer.client()?, balancer.client_1()?]
        .into_iter()
        .enumerate()
    {
        let response = client
            .post(balancer.url("/reset"))
            .body("once")
            .send()
            .await?;
        let document = problem(response, 502).await?;
        ensure!(document["type"] == "/problems/bad-gateway", "{document}");
        let received = one.received().len() + two.received().len();
        ensure!(received == sent + 1, "it was received {received} times");
    }
    let line = balancer.logged(|line| line["path"] == "/reset").await?;
    ensure!(
        line["termination"] == "backend_reset" && line["tries"] == 1,
        "{line}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_an_idempotent_method_lets_it_be_tried_once_on_each_backend() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let client = balancer.client()?;
    let with_key = client
        .post(balancer.url("/reset"))
        .header("idempotency-key", "k")
        .body("twice");
    problem(with_key.send().await?, 502).await?;
    ensure!(
        one.received().len() == 1 && two.received().len() == 1,
        "{:?} {:?}",
        one.received(),
        two.received()
    );
    ensure!(two.received()[0].body == "twice");
    problem(client.get(balancer.url("/reset")).send().await?, 502).await?;
    ensure!(one.received().len() == 2 && two.received().len() == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_backend_closes_when_idle_are_never_the_clients_error() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    one.set_idle(Duration::from_millis(100));
    let balancer = world.balancer_ready(&[&one], "").await?;
    let client = balancer.client()?;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    for count in 0..50 {
        let response = client.get(balancer.url("/")).send().await?;
        ensure!(response.status() == 200, "request {count}: {response:?}");
        response.bytes().await?;
        // Around the very moment at which the backend closes.
        sleep(Duration::from_micros(rand::RngExt::random_range(
            &mut random,
            97_000..103_000,
        )))
        .await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_alive_connection_to_a_backend_is_used_again() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], BLIND).await?;
    let before = one.connections();
    let client = balancer.client()?;
    for _ in 0..20 {
        client.get(balancer.url("/")).send().await?.bytes().await?;
    }
    let made = one.connections() - before;
    // The next request may come before the connection of the last is back in the pool, but not often.
    ensure!(
        (1..=4).contains(&made),
        "{made} connections for 20 requests, one after the other"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_is_a_timeout_with_its_reason() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[backend]\nfirst_byte_timeout_ms = 200\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    let response = balancer
        .client()?
        .post(balancer.url("/hang"))
        .send()
        .await?;
    ensure!(
        !response.headers().contains_key("retry-after"),
        "nobody knows whether it was done: {response:?}"
    );
    let document = problem(response, 504).await?;
    ensure!(
        document["type"] == "/problems/gateway-timeout",
        "{document}"
    );
    let line = balancer.logged(|line| line["status"] == 504).await?;
    ensure!(line["termination"] == "first_byte_timeout", "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_backend_can_be_reached_the_answer_says_so_and_when_to_come_again() -> Result<()> {
    let world = World::new()?;
    let (mut one, mut two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nwhen_none = \"closed\"\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    let client = balancer.client()?;
    one.kill().await;
    two.kill().await;
    let response = client.post(balancer.url("/")).body("x").send().await?;
    ensure!(
        response.headers().contains_key("retry-after"),
        "{response:?}"
    );
    problem(response, 503).await?;
    balancer.wait_for_states(&["down", "down"]).await?;
    let response = client.get(balancer.url("/")).send().await?;
    let retry_after = response
        .headers()
        .get("retry-after")
        .context("no retry-after")?;
    ensure!(retry_after == "1", "{response:?}");
    let document = problem(response, 503).await?;
    ensure!(document["type"] == "/problems/no-backend", "{document}");
    Ok(())
}
