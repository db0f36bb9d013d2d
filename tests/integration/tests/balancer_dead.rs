//! A backend that freezes: it takes connections and says nothing. What it has is not left to it.

mod balancer_common;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, Conversation, RawBackend, SOON, World};
use reqwest::{Client, Response};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A dead backend is found in seconds, and no answer is given up before half a minute.
const QUICK: &str =
    "[health]\ninterval_ms = 50\ninterval_in_doubt_ms = 30\ntimeout_ms = 1000\nfall = 3\n";

type Asked = JoinHandle<reqwest::Result<Response>>;

/// Two backends, of which the first alone gets requests for now.
async fn before_both(world: &World, one: &RawBackend, two: &RawBackend) -> Result<Balancer> {
    let balancer = world.balancer_before(&[one, two], QUICK).await?;
    balancer.admin("drain web-2").await?;
    Ok(balancer)
}

fn ask(balancer: &Balancer, client: &Client, method: &str, path: &str, key: bool) -> Result<Asked> {
    let mut request = client.request(method.parse()?, balancer.url(path));
    if matches!(method, "POST" | "PUT" | "PATCH") {
        request = request.body("a body");
    }
    if key {
        request = request.header("idempotency-key", "\"1\"");
    }
    Ok(tokio::spawn(request.send()))
}

async fn answered(asked: Asked, by: &str) -> Result<()> {
    let response = timeout(SOON, asked).await.context("no answer")???;
    ensure!(response.status() == 200, "{response:?}");
    ensure!(
        response.headers()["x-served-by"] == by,
        "by another than {by}: {response:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_repeated_is_tried_elsewhere_as_soon_as_its_backend_is_found_dead() -> Result<()>
{
    let world = World::new()?;
    let ((one, _held), (two, gate)) = (world.gated("web-1")?, world.gated("web-2")?);
    gate.open_wide();
    let balancer = before_both(&world, &one, &two).await?;
    let mut asked = Vec::new();
    for client in [balancer.client()?, balancer.client_1()?] {
        for (method, key) in [
            ("GET", false),
            ("HEAD", false),
            ("PUT", false),
            ("DELETE", false),
            ("OPTIONS", false),
            ("POST", true),
            ("PATCH", true),
        ] {
            asked.push(ask(&balancer, &client, method, "/moved", key)?);
        }
    }
    let count = asked.len();
    one.wait_for_heard(count).await?;
    balancer.admin("ready web-2").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let began = Instant::now();
    one.set_mute(true);
    for one in asked {
        answered(one, "web-2").await?;
    }
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    balancer.wait_for_state("web-1", "down").await?;
    ensure!(two.heard().len() == count && one.heard().len() == count);
    let bodies = two.heard().iter().filter(|h| h.body == b"a body").count();
    ensure!(bodies == 6, "{bodies} bodies");
    let line = balancer.logged(|line| line["path"] == "/moved").await?;
    ensure!(
        line["tries"] == 2 && line["backend"] == "web-2" && line["termination"] == "completed",
        "{line}"
    );
    let retried = "balancer_retries_total{backend=\"web-1\",sent=\"perhaps\"}";
    ensure!(balancer.metric(retried).await? == count as u64);
    balancer.wait_for_in_flight(&[0, 0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_repeated_stays_and_is_not_sent_twice() -> Result<()> {
    let world = World::new()?;
    let ((one, held), (two, gate)) = (world.gated("web-1")?, world.gated("web-2")?);
    gate.open_wide();
    let balancer = before_both(&world, &one, &two).await?;
    let clients = [balancer.client()?, balancer.client_1()?];
    let mut stay = Vec::new();
    for client in &clients {
        for method in ["POST", "PATCH"] {
            stay.push(ask(&balancer, client, method, "/stays", false)?);
        }
    }
    // One that is tried elsewhere shows when it was looked at.
    let moves = ask(&balancer, &clients[0], "GET", "/moves", false)?;
    one.wait_for_heard(5).await?;
    balancer.admin("ready web-2").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    one.set_mute(true);
    answered(moves, "web-2").await?;
    balancer.wait_for_in_flight(&[4, 0]).await?;
    ensure!(stay.iter().all(|one| !one.is_finished()));
    // It was not dead after all.
    one.set_mute(false);
    held.open_wide();
    for one in stay {
        answered(one, "web-1").await?;
    }
    ensure!(one.heard().len() == 5 && two.heard().len() == 1);
    Ok(())
}

/// It may answer after all, and nobody else would.
#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_else_is_well_a_request_stays() -> Result<()> {
    let world = World::new()?;
    let (one, held) = world.gated("web-1")?;
    let balancer = world.balancer_before(&[&one], QUICK).await?;
    let asked = ask(&balancer, &balancer.client()?, "GET", "/", false)?;
    one.wait_for_heard(1).await?;
    one.set_mute(true);
    balancer.wait_for_state("web-1", "down").await?;
    one.set_mute(false);
    balancer.wait_for_state("web-1", "up").await?;
    ensure!(!asked.is_finished());
    held.open_wide();
    answered(asked, "web-1").await?;
    ensure!(one.heard().len() == 1);
    Ok(())
}

/// When somebody is well again later, it is tried there.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_at_a_dead_backend_is_tried_elsewhere_when_somebody_is_well_again() -> Result<()>
{
    let world = World::new()?;
    let ((one, _held), (two, gate)) = (world.gated("web-1")?, world.gated("web-2")?);
    gate.open_wide();
    let balancer = before_both(&world, &one, &two).await?;
    let asked = [balancer.client()?, balancer.client_1()?]
        .map(|client| ask(&balancer, &client, "GET", "/", false));
    one.wait_for_heard(2).await?;
    one.set_mute(true);
    balancer.wait_for_state("web-1", "down").await?;
    // Whoever waits has looked for another by then.
    let failed = "balancer_health_checks_total{backend=\"web-1\",outcome=\"failed\"}";
    let before = balancer.metric(failed).await?;
    harness::wait_until("it fails more checks", SOON, async || {
        balancer
            .metric(failed)
            .await
            .is_ok_and(|failed| failed >= before + 2)
    })
    .await?;
    ensure!(asked.iter().flatten().all(|one| !one.is_finished()));
    balancer.admin("ready web-2").await?;
    for one in asked {
        answered(one?, "web-2").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_begun_is_not_begun_again() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async move {
        on.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf.")
            .await?;
        on.hold().await
    })?;
    let (two, gate) = world.gated("web-2")?;
    gate.open_wide();
    let balancer = before_both(&world, &one, &two).await?;
    let mut wire = balancer.wire().await?;
    wire.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    wire.until("half.").await?;
    balancer.admin("ready web-2").await?;
    balancer.wait_for_state("web-2", "up").await?;
    one.set_mute(true);
    balancer.wait_for_state("web-1", "down").await?;
    ensure!(
        wire.is_silent_for(std::time::Duration::from_millis(300))
            .await
    );
    ensure!(two.heard().is_empty());
    Ok(())
}

/// Who says that it stops finishes what it has: that is no death.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_not_ready_keeps_what_it_has() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], QUICK).await?;
    balancer.admin("drain web-2").await?;
    let asked = ask(&balancer, &balancer.client()?, "GET", "/sleep/1000", false)?;
    balancer.wait_for_in_flight(&[1, 0]).await?;
    balancer.admin("ready web-2").await?;
    one.set_ready(false);
    balancer.wait_for_states(&["not_ready", "up"]).await?;
    answered(asked, "web-1").await?;
    ensure!(two.count() == 0);
    Ok(())
}

/// The bounds of tries hold here, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_try_stays_where_it_is() -> Result<()> {
    let world = World::new()?;
    let ((one, held), (two, gate)) = (world.gated("web-1")?, world.gated("web-2")?);
    gate.open_wide();
    let keys = format!("{QUICK}[backend]\ntries_max = 1\n");
    let balancer = world.balancer_before(&[&one, &two], &keys).await?;
    balancer.admin("drain web-2").await?;
    let asked = ask(&balancer, &balancer.client()?, "GET", "/", false)?;
    one.wait_for_heard(1).await?;
    balancer.admin("ready web-2").await?;
    one.set_mute(true);
    balancer.wait_for_states(&["down", "up"]).await?;
    one.set_mute(false);
    balancer.wait_for_states(&["up", "up"]).await?;
    held.open_wide();
    answered(asked, "web-1").await?;
    ensure!(two.heard().is_empty());
    Ok(())
}

/// A body that is still on its way is no reason to wait for who does not read it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_still_being_sent_is_tried_elsewhere() -> Result<()> {
    let world = World::new()?;
    let ((one, _held), (two, gate)) = (world.gated("web-1")?, world.gated("web-2")?);
    gate.open_wide();
    let balancer = before_both(&world, &one, &two).await?;
    let mut wire = balancer.wire().await?;
    wire.write("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf.")
        .await?;
    one.wait_for_heard(1).await?;
    balancer.admin("ready web-2").await?;
    balancer.wait_for_state("web-2", "up").await?;
    one.set_mute(true);
    two.wait_for_heard(1).await?;
    wire.write("whole").await?;
    let answer = wire.answer_to("PUT").await?;
    ensure!(
        answer.status == 200 && answer.text() == "web-2",
        "{answer:?}"
    );
    ensure!(two.heard()[0].body == b"half.whole", "{:?}", two.heard()[0]);
    Ok(())
}
