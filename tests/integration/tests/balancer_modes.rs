//! All backends at work, or one on standby: as configured, and changed at run time.

mod balancer_common;

use std::sync::Arc;

use anyhow::{Result, ensure};
use balancer_common::{Backend, Balancer, Conversation, SOON, World};
use tokio::sync::{Notify, Semaphore};

/// The second is on standby.
fn with_standby<'a>(one: &'a Backend, two: &'a Backend) -> [(&'a str, u16, &'a str); 2] {
    [
        (one.name(), one.port(), ""),
        (two.name(), two.port(), ", standby = true"),
    ]
}

const PASSIVE: &str = "[balancing]\nmode = \"active-passive\"\nslow_start_s = 0\n";
const ACTIVE: &str = "[balancing]\nmode = \"active-active\"\nslow_start_s = 0\n";

/// Who answers so many requests.
async fn answers(balancer: &Balancer, count: usize) -> Result<Vec<String>> {
    let clients = [balancer.client()?, balancer.client_1()?];
    balancer.answerers(&clients, count / 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_when_the_active_one_is_away_and_hands_back() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world
        .balancer_over(&with_standby(&one, &two), PASSIVE)
        .await?;
    balancer.wait_for_states(&["up", "standby"]).await?;
    ensure!(balancer.admin("status").await?["mode"] == "active-passive");
    ensure!(answers(&balancer, 10).await? == ["web-1"]);
    let standby = "balancer_backend_state{backend=\"web-2\",state=\"standby\"}";
    ensure!(balancer.metric(standby).await? == 1);
    for round in 0..2 {
        // Away.
        one.kill().await;
        balancer.wait_for_states(&["down", "standby"]).await?;
        ensure!(answers(&balancer, 10).await? == ["web-2"]);
        // It is well: nobody is a last resort.
        ensure!(balancer.metric("balancer_last_resort").await? == 0);
        one.revive()?;
        balancer.wait_for_states(&["up", "standby"]).await?;
        ensure!(answers(&balancer, 10).await? == ["web-1"], "{round}");
        // About to stop.
        one.set_ready(false);
        balancer.wait_for_states(&["not_ready", "standby"]).await?;
        ensure!(answers(&balancer, 10).await? == ["web-2"]);
        one.set_ready(true);
        balancer.wait_for_states(&["up", "standby"]).await?;
        ensure!(answers(&balancer, 10).await? == ["web-1"]);
        // Taken out.
        for verb in ["drain", "maint"] {
            balancer.tell(&[verb, "web-1"]).await?;
            ensure!(answers(&balancer, 10).await? == ["web-2"]);
            balancer.tell(&["ready", "web-1"]).await?;
            balancer.wait_for_states(&["up", "standby"]).await?;
            ensure!(answers(&balancer, 10).await? == ["web-1"]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_is_changed_at_run_time_for_both_balancers_and_through_a_restart() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let list = with_standby(&one, &two);
    let first = world.balancer_named("balancer-1", &list, ACTIVE).await?;
    let mut second = world.balancer_named("balancer-2", &list, ACTIVE).await?;
    let both = ["web-1", "web-2"];
    for balancer in [&first, &second] {
        balancer.wait_for_states(&["up", "up"]).await?;
        ensure!(answers(balancer, 10).await? == both);
    }
    let said = first.tell(&["mode", "active-passive"]).await?;
    ensure!(said.trim() == "the mode is active-passive", "{said}");
    ensure!(answers(&first, 10).await? == ["web-1"]);
    second.wait_for_states(&["up", "standby"]).await?;
    ensure!(answers(&second, 10).await? == ["web-1"]);
    ensure!(second.admin("status").await?["mode"] == "active-passive");
    second.stop(SOON).await?;
    let second = world.balancer_named("balancer-2", &list, ACTIVE).await?;
    second.wait_for_states(&["up", "standby"]).await?;
    second.tell(&["mode", "active-active"]).await?;
    first.wait_for_states(&["up", "up"]).await?;
    ensure!(answers(&first, 10).await? == both && answers(&second, 10).await? == both);
    let said = first.tell(&["mode", "default"]).await?;
    ensure!(said.trim() == "the mode is active-active", "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_survives_a_change_of_the_mode() -> Result<()> {
    let world = World::new()?;
    let ((one, _), (two, _)) = (world.echoing("web-1")?, world.echoing("web-2")?);
    let list = [
        ("web-1", one.place().1, ""),
        ("web-2", two.place().1, ", standby = true"),
    ];
    let balancer = world.balancer_over(&list, ACTIVE).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let mut sockets = [balancer.websocket().await?, balancer.websocket().await?];
    balancer.wait_for_in_flight(&[1, 1]).await?;
    for mode in ["active-passive", "active-active", "active-passive"] {
        balancer.tell(&["mode", mode]).await?;
        for socket in &mut sockets {
            ensure!(socket.is_alive().await, "{mode}");
        }
    }
    balancer.wait_for_in_flight(&[1, 1]).await
}

/// The balancer does not know yet that the active one is gone: the request that finds it out is tried on the standby.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_finds_the_active_one_gone_is_tried_on_the_standby() -> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let blind = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n";
    let balancer = world
        .balancer_over(&with_standby(&one, &two), &format!("{PASSIVE}{blind}"))
        .await?;
    balancer.wait_for_states(&["up", "standby"]).await?;
    one.kill().await;
    for (number, client) in [balancer.client()?, balancer.client_1()?]
        .into_iter()
        .enumerate()
    {
        let response = client.post(balancer.url("/")).body("x").send().await?;
        ensure!(response.status() == 200, "{response:?}");
        ensure!(two.count() == number + 1);
    }
    Ok(())
}

/// An error that is answered at once must not send work to the standby, nor an active one that is merely busy.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_left_alone_while_an_active_one_is_usable() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let two = world.backend("web-2").await?;
    let list = [
        ("web-1", one.place().1, ", requests_max = 1"),
        ("web-2", two.port(), ", standby = true"),
    ];
    let balancer = world.balancer_over(&list, PASSIVE).await?;
    balancer.wait_for_states(&["up", "standby"]).await?;
    let client = balancer.client()?;
    let asked: Vec<_> = (0..3)
        .map(|_| tokio::spawn(client.get(balancer.url("/")).send()))
        .collect();
    balancer.wait_for_waiting(2).await?;
    gate.open_wide();
    for one in asked {
        one.await??.error_for_status()?;
    }
    ensure!(two.count() == 0);
    Ok(())
}

/// Who waits for the active one is served by the standby as soon as that has to step in.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_served_by_the_standby_when_it_steps_in() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let two = world.backend("web-2").await?;
    let list = [
        ("web-1", one.place().1, ", requests_max = 1"),
        ("web-2", two.port(), ", standby = true"),
    ];
    let keys = format!("{PASSIVE}[admission]\nqueue_timeout_ms = 60000\n");
    let balancer = world.balancer_over(&list, &keys).await?;
    balancer.wait_for_states(&["up", "standby"]).await?;
    let client = balancer.client()?;
    let held = tokio::spawn(client.get(balancer.url("/")).send());
    balancer.wait_for_in_flight(&[1, 0]).await?;
    let waits = tokio::spawn(client.get(balancer.url("/")).send());
    balancer.wait_for_waiting(1).await?;
    balancer.tell(&["drain", "web-1"]).await?;
    let response = tokio::time::timeout(SOON, waits).await???;
    ensure!(response.headers()["x-served-by"] == "web-2", "{response:?}");
    gate.open_wide();
    held.await??.error_for_status()?;
    Ok(())
}

/// A retry that may go to the standby does not wait behind those who wait for the active one.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_to_the_standby_also_while_others_wait() -> Result<()> {
    let world = World::new()?;
    // Each breaks, or answers, when it is let go.
    let (break_off, others_go) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let held = (Arc::clone(&break_off), Arc::clone(&others_go));
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let (break_off, others_go) = held.clone();
        async move {
            if on.path() == "/breaks" {
                break_off.notified().await;
                return on.reset();
            }
            // It is closed in the end.
            let _ = others_go.acquire().await;
            on.answer("web-1").await?;
            on.go_on()
        }
    })?;
    let two = world.backend("web-2").await?;
    let list = [
        ("web-1", one.place().1, ", requests_max = 2"),
        ("web-2", two.port(), ", standby = true"),
    ];
    let keys = format!("{PASSIVE}[admission]\nqueue_timeout_ms = 60000\n");
    let balancer = world.balancer_over(&list, &keys).await?;
    balancer.wait_for_states(&["up", "standby"]).await?;
    let client = balancer.client()?;
    let ask = |path: &str| tokio::spawn(client.get(balancer.url(path)).send());
    let breaks = ask("/breaks");
    one.wait_for_heard(1).await?;
    let others: Vec<_> = (0..4).map(|_| ask("/")).collect();
    balancer.wait_for_waiting(3).await?;
    break_off.notify_one();
    let response = tokio::time::timeout(SOON, breaks).await???;
    ensure!(response.headers()["x-served-by"] == "web-2", "{response:?}");
    others_go.close();
    for other in others {
        let response = other.await??;
        ensure!(response.headers()["x-served-by"] == "web-1", "{response:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_on_standby_share_the_work_when_they_step_in() -> Result<()> {
    let world = World::new()?;
    let (mut one, two, three) = (
        world.backend("web-1").await?,
        world.backend("web-2").await?,
        world.backend("web-3").await?,
    );
    let list = [
        ("web-1", one.port(), ""),
        ("web-2", two.port(), ", standby = true"),
        ("web-3", three.port(), ", standby = true"),
    ];
    let balancer = world.balancer_over(&list, PASSIVE).await?;
    balancer
        .wait_for_states(&["up", "standby", "standby"])
        .await?;
    one.kill().await;
    balancer
        .wait_for_states(&["down", "standby", "standby"])
        .await?;
    answers(&balancer, 20).await?;
    ensure!(two.count() == 10 && three.count() == 10);
    one.revive()?;
    balancer
        .wait_for_states(&["up", "standby", "standby"])
        .await?;
    ensure!(answers(&balancer, 10).await? == ["web-1"]);
    Ok(())
}
