//! A backend that is new or has recovered gets less than its part at first, and never nothing.

mod balancer_common;

use anyhow::{Result, ensure};
use balancer_common::{Backend, Balancer, SOON, World};
use harness::wait_until;
use serde_json::Value;

const SHARE: &str = "balancer_backend_share{backend=\"web-1\"}";

async fn warm_percent(balancer: &Balancer, backend: &str) -> Result<u64> {
    let one = balancer.of(backend).await?;
    Ok(one["warm_percent"].as_u64().unwrap_or_default())
}

/// How many of so many requests, one after the other, went to this one.
async fn part_of(backend: &Backend, balancer: &Balancer, count: usize) -> Result<usize> {
    let (client, before) = (balancer.client()?, backend.count());
    for _ in 0..count {
        let response = client.get(balancer.url("/")).send().await?;
        response.error_for_status()?.bytes().await?;
    }
    Ok(backend.count() - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_start_nobody_is_new() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    for backend in ["web-1", "web-2"] {
        ensure!(warm_percent(&balancer, backend).await? == 100);
    }
    ensure!(balancer.metric(SHARE).await? == 25_600);
    ensure!(part_of(&one, &balancer, 20).await? == 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_recovered_begins_with_little_and_gets_its_part_in_the_end() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 4\nslow_start_percent = 5\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.kill().await;
    balancer.wait_for_state("web-1", "down").await?;
    one.revive()?;
    balancer.wait_for_state("web-1", "up").await?;
    let (before, first) = (warm_percent(&balancer, "web-1").await?, one.count());
    let part = part_of(&one, &balancer, 100).await?;
    let after = warm_percent(&balancer, "web-1").await?;
    ensure!((5..60).contains(&before), "{before} % at first");
    // With p of a hundred it gets p of p + 100 requests: what it got lies between the beginning and the end of that time.
    let most = 100 * after / (100 + after);
    ensure!(
        (1..=most as usize + 3).contains(&part),
        "{part} of 100 while {before} to {after} % warm"
    );
    ensure!(first == 0);
    let share = balancer.metric(SHARE).await?;
    let warm = warm_percent(&balancer, "web-1").await?;
    ensure!(share <= 256 * warm, "{share} at {warm} %");
    // It grows steadily, and ends at the whole.
    let mut last = 0;
    wait_until("it is warm", SOON, async || {
        let now = warm_percent(&balancer, "web-1").await.unwrap_or_default();
        assert!(now >= last, "{now} after {last}");
        last = now;
        now == 100
    })
    .await?;
    wait_until("its share is whole", SOON, async || {
        balancer.metric(SHARE).await.ok() == Some(25_600)
    })
    .await?;
    ensure!(part_of(&one, &balancer, 20).await? == 10);
    ensure!(warm_percent(&balancer, "web-2").await? == 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_ready_begins_slowly_too_and_who_was_drained_does_not() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 60\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    balancer.admin("drain web-1").await?;
    balancer.admin("ready web-1").await?;
    balancer.wait_for_state("web-1", "up").await?;
    ensure!(warm_percent(&balancer, "web-1").await? == 100);
    one.set_ready(false);
    balancer.wait_for_state("web-1", "not_ready").await?;
    one.set_ready(true);
    balancer.wait_for_state("web-1", "up").await?;
    ensure!(warm_percent(&balancer, "web-1").await? < 50);
    balancer.admin("maint web-2").await?;
    balancer.admin("ready web-2").await?;
    balancer.wait_for_state("web-2", "up").await?;
    ensure!(warm_percent(&balancer, "web-2").await? < 50);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_begins_slowly() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 60\nslow_start_percent = 10\n";
    let balancer = world.balancer_ready(&[&two], keys).await?;
    balancer.reconfigure_members(&[("web-2", two.port(), ""), ("web-1", one.port(), "")])?;
    balancer.tell(&["reload"]).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(warm_percent(&balancer, "web-2").await? == 100);
    ensure!((10..50).contains(&warm_percent(&balancer, "web-1").await?));
    let part = part_of(&one, &balancer, 100).await?;
    ensure!((1..35).contains(&part), "{part} of 100");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_alone_gets_everything_however_cold_it_is() -> Result<()> {
    let world = World::new()?;
    let mut one = world.backend("web-1").await?;
    let keys = "[balancing]\nslow_start_s = 60\nslow_start_percent = 1\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    one.kill().await;
    balancer.wait_for_state("web-1", "down").await?;
    one.revive()?;
    balancer.wait_for_state("web-1", "up").await?;
    ensure!(warm_percent(&balancer, "web-1").await? < 50);
    ensure!(part_of(&one, &balancer, 50).await? == 50);
    Ok(())
}

/// The least there is, of the smallest weight beside the largest.
#[tokio::test(flavor = "multi_thread")]
async fn a_cold_one_is_never_starved() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 3600\nslow_start_percent = 1\n";
    let list = [
        ("web-1", one.port(), ", weight = 10"),
        ("web-2", two.port(), ""),
    ];
    let balancer = world.balancer_over(&list, keys).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    one.kill().await;
    balancer.wait_for_state("web-1", "down").await?;
    one.revive()?;
    balancer.wait_for_state("web-1", "up").await?;
    // One in a thousand or so.
    let clients = [balancer.client()?, balancer.client_1()?];
    let loads = (0..8).map(|number| {
        let (client, url, one) = (&clients[number % 2], balancer.url("/"), &one);
        async move {
            while one.count() == 0 {
                let response = client.get(&url).send().await?;
                response.error_for_status()?.bytes().await?;
            }
            anyhow::Ok(())
        }
    });
    let served = tokio::time::timeout(2 * SOON, futures::future::join_all(loads)).await;
    ensure!(served.is_ok(), "{} requests, none for it", two.count());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_slow_start_all_of_it_comes_at_once() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 0\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.kill().await;
    balancer.wait_for_state("web-1", "down").await?;
    one.revive()?;
    balancer.wait_for_state("web-1", "up").await?;
    ensure!(warm_percent(&balancer, "web-1").await? == 100);
    ensure!(part_of(&one, &balancer, 20).await? == 10);
    Ok(())
}

/// Those that came later than the balancer begin slowly together: then each gets as much as the other.
#[tokio::test(flavor = "multi_thread")]
async fn where_all_are_cold_they_share_as_if_all_were_warm() -> Result<()> {
    let world = World::new()?;
    let (mut one, mut two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 3600\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.kill().await;
    two.kill().await;
    balancer.wait_for_states(&["down", "down"]).await?;
    one.revive()?;
    two.revive()?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let is_cold = |one: &Value| one["warm_percent"].as_u64() < Some(20);
    for backend in ["web-1", "web-2"] {
        balancer
            .wait_for_backend(backend, "it is cold", is_cold)
            .await?;
    }
    let part = part_of(&one, &balancer, 40).await?;
    ensure!((17..=23).contains(&part), "{part} of 40");
    Ok(())
}

/// A change of the weight in the middle counts from the same warmth.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_weight_does_not_begin_the_start_anew() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[balancing]\nslow_start_s = 20\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.kill().await;
    balancer.wait_for_state("web-1", "down").await?;
    one.revive()?;
    balancer.wait_for_state("web-1", "up").await?;
    let is_warmer = |one: &Value| one["warm_percent"].as_u64() > Some(15);
    let before = balancer
        .wait_for_backend("web-1", "it is warmer", is_warmer)
        .await?;
    balancer.admin("weight web-1 200").await?;
    let after = balancer.of("web-1").await?;
    ensure!(
        after["warm_percent"].as_u64() >= before["warm_percent"].as_u64(),
        "{before} {after}"
    );
    let share = balancer.metric(SHARE).await?;
    ensure!(share > 512 * 15 && share < 512 * 100, "{share}");
    Ok(())
}
