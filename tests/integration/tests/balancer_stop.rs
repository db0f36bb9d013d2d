//! The end of a balancer, and of one of two: nothing that was begun is lost.

mod balancer_common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use balancer_common::{Balancer, SOON, World};
use futures::future::{join, join_all};
use harness::{free_port, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_has_begun_and_announces_the_end() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let mut balancer = world.balancer_ready(&[&one], "").await?;
    let slow = [balancer.client()?, balancer.client_1()?]
        .map(|client| tokio::spawn(client.post(balancer.url("/sleep/700")).body("x").send()));
    let mut idle = balancer.raw().await?;
    idle.write("HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    idle.read_head(SOON).await?;
    balancer.wait_for_in_flight(&[2]).await?;
    balancer.program.terminate()?;
    wait_until("it says so", SOON, async || {
        balancer.admin("health").await.is_ok_and(|health| {
            health
                .as_str()
                .is_some_and(|text| text.starts_with("stopping"))
        })
    })
    .await?;
    // A connection that was open may still be used, once.
    idle.write("HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let last = idle.read_to_end(SOON).await?;
    ensure!(
        last.starts_with("HTTP/1.1 200") && last.to_lowercase().contains("connection: close"),
        "{last}"
    );
    for request in slow {
        let response = request.await??;
        ensure!(response.status() == 200, "{response:?}");
        response.bytes().await?;
    }
    let status = balancer.program.exited(SOON).await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_with_nothing_to_finish_takes_no_time() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    // Whatever it waited for would last longer than the test.
    let keys = "[stop]\nquiet_ms = 60000\ndeadline_ms = 60000\n";
    let mut balancer = world.balancer_ready(&[&one], keys).await?;
    balancer.stop(SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_hold_a_stop_up() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let mut balancer = world.balancer_ready(&[&one], "").await?;
    let (client, client_1) = (balancer.client()?, balancer.client_1()?);
    for client in [&client, &client_1] {
        client.get(balancer.url("/")).send().await?.bytes().await?;
    }
    let _raw = balancer.raw().await?;
    let began = Instant::now();
    balancer.stop(SOON).await?;
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_is_cut_at_the_deadline() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let mut balancer = world
        .balancer_ready(&[&one], "[stop]\ndeadline_ms = 500\n")
        .await?;
    let hanging = tokio::spawn(balancer.client()?.get(balancer.url("/hang")).send());
    balancer.wait_for_in_flight(&[1]).await?;
    let began = Instant::now();
    balancer.stop(SOON).await?;
    let took = began.elapsed();
    ensure!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(10),
        "{took:?}"
    );
    ensure!(hanging.await?.is_err(), "it was answered");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_balancers_share_a_port_and_either_can_be_replaced_under_load() -> Result<()> {
    // As in the stack's edge: without it the kernel resets what comes in between the last look into a queue and its end.
    let name = "two_balancers_share_a_port_and_either_can_be_replaced_under_load";
    let settings = [("ipv4/tcp_migrate_req", "1")];
    if let Some(outcome) = harness::namespace::in_its_own(name, &settings) {
        return outcome;
    }
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let (https, redirect) = (free_port()?, free_port()?);
    let backends = [("web-1", one.port()), ("web-2", two.port())];
    let start = async |instance: usize| {
        let name = format!("balancer-{instance}");
        let balancer = world
            .balancer_on(
                https,
                redirect,
                &name,
                &backends,
                &format!("instance = {instance}\n"),
            )
            .await?;
        balancer.wait_for_states(&["up", "up"]).await?;
        Ok::<Balancer, anyhow::Error>(balancer)
    };
    let (mut first, mut second) = (start(1).await?, start(2).await?);
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client_of = |worker: usize| {
        if worker.is_multiple_of(2) {
            first.client()
        } else {
            first.client_1()
        }
    };
    let clients = (0..6).map(client_of).collect::<Result<Vec<_>>>()?;
    let load = join_all(clients.into_iter().enumerate().map(|(worker, client)| {
        let (over, done) = (&over, &done);
        async move {
            while !over.load(Ordering::SeqCst) {
                let url = format!("https://localhost:{https}/sleep/{worker}");
                // Without a key: nobody may send it again for us.
                // Some are large, and on their way when a balancer is told to go.
                let size = if worker < 2 { 300_000 } else { 1000 };
                let response = client.post(url).body(vec![b'x'; size]).send().await?;
                ensure!(response.status() == 200, "{response:?}");
                response.bytes().await?;
                done.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        }
    }));
    let roll = async {
        let mut served = [0, 0];
        for _ in 0..2 {
            for (index, balancer) in [&mut first, &mut second].into_iter().enumerate() {
                progress(&done).await?;
                served[index] += balancer
                    .metric("balancer_requests_total{backend=\"web-1\",code=\"2xx\"}")
                    .await?;
                balancer.stop(SOON).await?;
                progress(&done).await?;
                *balancer = start(index + 1).await?;
            }
        }
        ensure!(
            served.iter().all(|count| *count > 0),
            "the kernel shares nothing out: {served:?}"
        );
        Ok(())
    };
    let roll = async {
        let rolled = roll.await;
        over.store(true, Ordering::SeqCst);
        rolled
    };
    let (load, rolled) = join(load, roll).await;
    rolled?;
    load.into_iter().collect::<Result<Vec<_>>>()?;
    let received = one.received().len() + two.received().len();
    let answered = done.load(Ordering::SeqCst);
    ensure!(
        received == answered,
        "{answered} were answered and {received} received"
    );
    Ok(())
}

/// A hundred more requests have been answered.
async fn progress(done: &AtomicUsize) -> Result<()> {
    let target = done.load(Ordering::SeqCst) + 100;
    wait_until("requests are answered", SOON, async || {
        done.load(Ordering::SeqCst) >= target
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_two_costs_only_what_it_held() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let (https, redirect) = (free_port()?, free_port()?);
    let backends = [("web-1", one.port())];
    let mut first = world
        .balancer_on(https, redirect, "balancer-1", &backends, "")
        .await?;
    let second = world
        .balancer_on(https, redirect, "balancer-2", &backends, "")
        .await?;
    second.wait_for_states(&["up"]).await?;
    first.program.kill()?;
    first.program.exited(SOON).await?;
    for _ in 0..20 {
        let response = second.client()?.get(second.url("/")).send().await?;
        ensure!(response.status() == 200, "{response:?}");
    }
    Ok(())
}
