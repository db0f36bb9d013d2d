//! Least connections with weights: everybody gets its part, and nobody more for being sick.

mod balancer_common;

use std::time::Duration;

use anyhow::{Result, ensure};
use balancer_common::{Balancer, Conversation, World};
use futures::future::join_all;
use serde_json::Value;

/// No backend is taken out, whatever it does.
const NO_EJECTION: &str = "[ejection]\nconsecutive_errors = 0\nerror_percent_over = 0\n";

/// So many requests, one after the other, over both protocols.
async fn one_by_one(balancer: &Balancer, count: usize) -> Result<()> {
    for client in [balancer.client()?, balancer.client_1()?] {
        for _ in 0..count / 2 {
            let response = client.get(balancer.url("/")).send().await?;
            response.error_for_status()?.bytes().await?;
        }
    }
    Ok(())
}

/// So many at one time, until there have been so many in all; how many were answered well.
async fn at_once(balancer: &Balancer, clients: usize, count: usize) -> Result<usize> {
    let connections = [balancer.client()?, balancer.client_1()?];
    let load = (0..clients).map(|number| {
        let client = &connections[number % 2];
        async move {
            let mut well = 0;
            for _ in 0..count / clients {
                let response = client.get(balancer.url("/")).send().await?;
                well += usize::from(response.status() == 200);
                response.bytes().await?;
            }
            anyhow::Ok(well)
        }
    });
    join_all(load).await.into_iter().sum()
}

/// Waits until the balancer has looked at what there was so far.
async fn knows(balancer: &Balancer) -> Result<()> {
    let has_looked = |two: &Value| two["rate"].as_f64() > Some(0.0);
    balancer
        .wait_for_backend("web-2", "its rate is known", has_looked)
        .await?;
    Ok(())
}

fn is_about(count: usize, expected: usize) -> Result<()> {
    let room = expected / 10 + 4;
    ensure!(
        count.abs_diff(expected) <= room,
        "{count} instead of {expected}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_one_by_one_are_shared_out_by_weight() -> Result<()> {
    let world = World::new()?;
    let backends = [
        world.backend("web-1").await?,
        world.backend("web-2").await?,
        world.backend("web-3").await?,
    ];
    let list = [
        ("web-1", backends[0].port(), ", weight = 50"),
        ("web-2", backends[1].port(), ""),
        ("web-3", backends[2].port(), ", weight = 250"),
    ];
    let balancer = world.balancer_over(&list, "").await?;
    balancer.wait_for_states(&["up"; 3]).await?;
    one_by_one(&balancer, 400).await?;
    for (backend, expected) in backends.iter().zip([50, 100, 250]) {
        is_about(backend.count(), expected)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_one_time_are_shared_out_by_weight() -> Result<()> {
    let world = World::new()?;
    let ((one, gate_1), (two, gate_2)) = (world.gated("web-1")?, world.gated("web-2")?);
    let list = [
        ("web-1", one.place().1, ", weight = 300"),
        ("web-2", two.place().1, ", weight = 100"),
    ];
    let balancer = world.balancer_over(&list, "").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let client = balancer.client()?;
    let held: Vec<_> = (0..40)
        .map(|_| tokio::spawn(client.get(balancer.url("/")).send()))
        .collect();
    balancer.wait_for_in_flight(&[30, 10]).await?;
    one.wait_for_heard(30).await?;
    two.wait_for_heard(10).await?;
    gate_1.open_wide();
    gate_2.open_wide();
    for one in held {
        one.await??.error_for_status()?;
    }
    ensure!((gate_1.most(), gate_2.most()) == (30, 10));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_is_changed_at_run_time_and_taken_back() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let list = [
        ("web-1", one.port(), ", weight = 200"),
        ("web-2", two.port(), ", weight = 200"),
    ];
    let balancer = world.balancer_over(&list, "").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let share = "balancer_backend_share{backend=\"web-1\"}";
    for (weight, effective, expected) in [
        ("50", 50, 40),
        ("1000", 1000, 166),
        ("1", 1, 1),
        ("default", 200, 100),
    ] {
        let said = balancer.tell(&["weight", "web-1", weight]).await?;
        ensure!(said.contains("web-1 has the weight"), "{said}");
        ensure!(balancer.of("web-1").await?["weight"] == effective);
        ensure!(balancer.metric(share).await? == 256 * effective);
        let before = [one.count(), two.count()];
        one_by_one(&balancer, 200).await?;
        is_about(one.count() - before[0], expected)?;
        is_about(two.count() - before[1], 200 - expected)?;
    }
    Ok(())
}

/// Who fails at once always has the fewest in flight: that must not make it the favourite.
#[tokio::test(flavor = "multi_thread")]
async fn who_fails_at_once_gets_no_more_than_its_share() -> Result<()> {
    let world = World::new()?;
    for delay in [0, 5, 50] {
        let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
        two.set_delay(Duration::from_millis(delay));
        let balancer = world.balancer_ready(&[&one, &two], NO_EJECTION).await?;
        // So that it is known what a good answer takes.
        at_once(&balancer, 4, 40).await?;
        knows(&balancer).await?;
        one.set_status(500);
        let before = [one.count(), two.count()];
        let well = at_once(&balancer, 8, 400).await?;
        let [failed, _] = [one.count() - before[0], two.count() - before[1]];
        ensure!(
            failed <= 200 + 20,
            "{failed} of 400 went to who fails at once, where a good answer takes {delay} ms"
        );
        ensure!(failed > 0, "it is starved");
        ensure!(well + failed == 400, "{well} {failed}");
    }
    Ok(())
}

/// The same for requests that are not answered at all.
#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_off_at_once_gets_no_more_than_its_share() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| async move { on.reset() })?;
    let two = world.backend("web-2").await?;
    two.set_delay(Duration::from_millis(5));
    let list = [("web-1", one.place().1, ""), ("web-2", two.port(), "")];
    let keys = format!("{NO_EJECTION}[backend]\nretry_burst = 10000\n");
    let balancer = world.balancer_over(&list, &keys).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    at_once(&balancer, 4, 40).await?;
    knows(&balancer).await?;
    let before = one.heard().len();
    let well = at_once(&balancer, 8, 400).await?;
    ensure!(well == 400, "{well}");
    let broken = one.heard().len() - before;
    ensure!(broken <= 200 + 20, "{broken} of 400");
    Ok(())
}

/// A request that waits for a connection is in flight: who is slow to connect is not free.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_to_connect_gets_no_more_than_its_share() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async move {
        on.answer("web-1").await?;
        on.close().await
    })?;
    let two = world.backend("web-2").await?;
    let list = [("web-1", one.place().1, ""), ("web-2", two.port(), "")];
    let keys = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n\
                [backend]\nhandshake_timeout_ms = 20000\n";
    let balancer = world
        .balancer_over(&list, &format!("{NO_EJECTION}{keys}"))
        .await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    one.set_mute(true);
    let client = balancer.client()?;
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (client, url) = (client.clone(), balancer.url("/"));
            tokio::spawn(async move {
                loop {
                    client.get(&url).send().await?.bytes().await?;
                }
                #[allow(unreachable_code)]
                reqwest::Result::Ok(())
            })
        })
        .collect();
    harness::wait_until("web-2 answers", balancer_common::SOON, async || {
        two.count() > 300
    })
    .await?;
    let in_flight = balancer.in_flight().await?;
    for one in load {
        one.abort();
    }
    ensure!(in_flight[0] <= 4, "{in_flight:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_to_answer_gets_no_more_than_its_share() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    one.set_delay(Duration::from_millis(40));
    two.set_delay(Duration::from_millis(4));
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    at_once(&balancer, 8, 400).await?;
    // With as many in flight on both, the quicker one answers ten times as many.
    let slow = one.count();
    ensure!(slow > 0 && slow < 130, "{slow} of 400");
    Ok(())
}

/// The count of what is in flight is a backend's own: a weight that changes in the middle forgets none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_weight_counts_what_is_in_flight_already() -> Result<()> {
    let world = World::new()?;
    let ((one, gate_1), (two, gate_2)) = (world.gated("web-1")?, world.gated("web-2")?);
    let balancer = world.balancer_before(&[&one, &two], "").await?;
    let client = balancer.client()?;
    let ask = |count: usize| -> Vec<_> {
        (0..count)
            .map(|_| tokio::spawn(client.get(balancer.url("/")).send()))
            .collect()
    };
    let mut held = ask(10);
    balancer.wait_for_in_flight(&[5, 5]).await?;
    balancer.admin("weight web-1 300").await?;
    held.extend(ask(10));
    balancer.wait_for_in_flight(&[15, 5]).await?;
    gate_1.open_wide();
    gate_2.open_wide();
    for one in held {
        one.await??.error_for_status()?;
    }
    balancer.wait_for_in_flight(&[0, 0]).await
}
