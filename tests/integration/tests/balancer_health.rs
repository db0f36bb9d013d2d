//! Who is in rotation: readiness, rises and falls, certificates.

mod balancer_common;

use anyhow::{Context, Result, ensure};
use balancer_common::{Backend, SOON, World, problem};
use harness::{Program, free_port, wait_until};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn services_start_in_any_order() -> Result<()> {
    let world = World::new()?;
    let ports = [free_port()?, free_port()?];
    let backends = [("web-1", ports[0]), ("web-2", ports[1])];
    let balancer = world
        .balancer_on(free_port()?, free_port()?, "balancer-1", &backends, "")
        .await?;
    ensure!(balancer.admin("health").await? == "ok");
    let client = balancer.client()?;
    problem(client.get(balancer.url("/")).send().await?, 503).await?;
    balancer.wait_for_states(&["starting", "starting"]).await?;
    let two = Backend::start("web-2", &world.identity("web-2", "web")?, ports[1]).await?;
    balancer.wait_for_states(&["starting", "up"]).await?;
    ensure!(client.get(balancer.url("/")).send().await?.status() == 200);
    ensure!(two.received().len() == 1);
    let _one = Backend::start("web-1", &world.identity("web-1", "web")?, ports[0]).await?;
    balancer.wait_for_states(&["up", "up"]).await
}

/// Another balancer may listen on the same port: one that listened before it had looked at its backends would be given connections, and
/// have nobody to send them to.
#[tokio::test(flavor = "multi_thread")]
async fn it_listens_only_when_it_has_looked_at_its_backends() -> Result<()> {
    let world = World::new()?;
    let silent = TcpListener::bind(("127.0.0.1", 0)).await?;
    let backends = [("web-1", silent.local_addr()?.port())];
    let (https, redirect) = (free_port()?, free_port()?);
    let keys = "[health]\ntimeout_ms = 60000";
    let (config, _) = world.write_config(https, redirect, "balancer-1", &backends, keys)?;
    let config = config.display().to_string();
    let balancer = Program::spawn("balancer", ["--config", &config], [])?;
    let (look, _) = timeout(SOON, silent.accept())
        .await
        .with_context(|| balancer.log().join("\n"))??;
    for port in [https, redirect] {
        let early = TcpStream::connect(("127.0.0.1", port)).await;
        ensure!(early.is_err(), "port {port} is open before a look is over");
    }
    drop(look);
    wait_until("it listens", SOON, async || {
        TcpStream::connect(("127.0.0.1", https)).await.is_ok()
    })
    .await
    .with_context(|| balancer.log().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_says_it_is_not_ready_gets_nothing_more() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let client = balancer.client()?;
    one.set_ready(false);
    balancer.wait_for_states(&["not_ready", "up"]).await?;
    for _ in 0..10 {
        client
            .get(balancer.url("/"))
            .send()
            .await?
            .error_for_status()?;
    }
    ensure!(one.received().is_empty() && two.received().len() == 10);
    one.set_ready(true);
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(
        balancer
            .metric("balancer_backend_state{backend=\"web-1\",state=\"up\"}")
            .await?
            == 1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_now_and_then_takes_nothing_out() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(
            &[&one],
            "[health]\ninterval_ms = 20\ninterval_in_doubt_ms = 20\n",
        )
        .await?;
    one.break_every_check(2);
    let before = one.checks();
    wait_until("forty checks", SOON, async || one.checks() > before + 40).await?;
    let failed = balancer
        .metric("balancer_health_checks_total{backend=\"web-1\",outcome=\"failed\"}")
        .await?;
    ensure!(failed >= 15, "only {failed} checks have failed");
    let status = balancer.admin("status").await?;
    ensure!(status["backends"][0]["state"] == "up", "{status}");
    let downs = balancer
        .program
        .log()
        .into_iter()
        .filter(|line| line.contains("out of rotation"))
        .count();
    ensure!(downs == 0, "it was taken out {downs} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_the_wrong_role_or_name_never_gets_a_request() -> Result<()> {
    let world = World::new()?;
    let (port_1, port_2) = (free_port()?, free_port()?);
    let wrong_role = Backend::start("web-1", &world.identity("web-1", "mysql")?, port_1).await?;
    // Good for localhost, as every certificate is, but the name that counts is the backend's own.
    let wrong_name = Backend::start("web-2", &world.identity("arbiter", "web")?, port_2).await?;
    let backends = [("web-1", port_1), ("web-2", port_2)];
    let balancer = world
        .balancer_on(free_port()?, free_port()?, "balancer-1", &backends, "")
        .await?;
    wait_until("both were looked at", SOON, async || {
        wrong_role.connections() > 2 && wrong_name.connections() > 2
    })
    .await?;
    problem(balancer.client()?.get(balancer.url("/")).send().await?, 503).await?;
    balancer.wait_for_states(&["starting", "starting"]).await?;
    ensure!(wrong_role.received().is_empty() && wrong_name.received().is_empty());
    ensure!(
        wrong_role.checks() == 0 && wrong_name.checks() == 0,
        "a check was sent"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_comes_back_with_another_role_gets_nothing_even_before_a_check_has_seen_it()
-> Result<()> {
    let world = World::new()?;
    let (mut one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let blind = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n";
    let balancer = world.balancer_ready(&[&one, &two], blind).await?;
    one.kill().await;
    one.set_identity(&world.identity("web-1", "mysql")?);
    one.revive()?;
    let client = balancer.client()?;
    for count in 1..=6 {
        let response = client
            .post(balancer.url("/"))
            .body("for web alone")
            .send()
            .await?;
        ensure!(response.status() == 200, "{response:?}");
        ensure!(two.received().len() == count);
    }
    ensure!(one.received().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_with_a_renewed_certificate_is_used_without_a_pause() -> Result<()> {
    let world = World::new()?;
    let mut one = world.backend("web-1").await?;
    let blind = "[health]\ninterval_ms = 600000\ninterval_in_doubt_ms = 600000\n";
    let balancer = world.balancer_ready(&[&one], blind).await?;
    let client = balancer.client()?;
    client
        .get(balancer.url("/"))
        .send()
        .await?
        .error_for_status()?;
    one.kill().await;
    world.identity("web-1", "web")?;
    one.revive()?;
    client
        .get(balancer.url("/"))
        .send()
        .await?
        .error_for_status()?;
    ensure!(one.received().len() == 2);
    Ok(())
}
