//! Who passes the checks and fails at the work: taken out for a while, if others do better. And what happens when nobody is well.

mod balancer_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use balancer_common::{Backend, Balancer, Conversation, SOON, World, header, problem};
use harness::wait_until;
use serde_json::Value;
use tokio::task::JoinHandle;

/// Requests without a pause, from some clients of either protocol, until it is dropped.
struct Load {
    loops: Vec<JoinHandle<()>>,
    done: Arc<AtomicUsize>,
}

impl Load {
    fn on(balancer: &Balancer) -> Result<Load> {
        let done = Arc::new(AtomicUsize::new(0));
        let clients = [balancer.client()?, balancer.client_1()?];
        let loops = clients.into_iter().cycle().take(4).map(|client| {
            let (url, done) = (balancer.url("/"), Arc::clone(&done));
            tokio::spawn(async move {
                loop {
                    if let Ok(response) = client.get(&url).send().await {
                        let _ = response.bytes().await;
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        Ok(Load {
            loops: loops.collect(),
            done,
        })
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    async fn goes_on(&self, more: usize) -> Result<()> {
        let target = self.done() + more;
        wait_until("requests are answered", SOON, async || {
            self.done() >= target
        })
        .await
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for one in &self.loops {
            one.abort();
        }
    }
}

async fn ejections(balancer: &Balancer, backend: &str) -> Result<u64> {
    let name = format!("balancer_ejections_total{{backend=\"{backend}\"}}");
    balancer.metric(&name).await
}

async fn state(balancer: &Balancer, backend: &str, state: &str) -> Result<u64> {
    let name = format!("balancer_backend_state{{backend=\"{backend}\",state=\"{state}\"}}");
    balancer.metric(&name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_in_a_row_take_a_backend_out_and_it_comes_back_slowly() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\ntime_s = 1\nerror_percent_over = 0\n[balancing]\nslow_start_s = 3\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    let load = Load::on(&balancer)?;
    load.goes_on(200).await?;
    ensure!(ejections(&balancer, "web-1").await? == 0);
    one.set_status(500);
    let out = balancer.wait_for_state("web-1", "ejected").await?;
    let reason = out["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("errors in a row") && reason.ends_with("1 s left"),
        "{out}"
    );
    ensure!(
        out["ejections"] == 1 && out["errors"].as_u64() >= Some(5),
        "{out}"
    );
    ensure!(ejections(&balancer, "web-1").await? == 1);
    let told = balancer.wait_for_told(&["backend is ejected"]).await?;
    ensure!(
        told["backend"] == "web-1" && told["seconds"] == 1.0,
        "{told}"
    );
    ensure!(
        told["why"]
            .as_str()
            .is_some_and(|why| why.ends_with("errors in a row")),
        "{told}"
    );
    // It gets nothing at all.
    let before = one.count();
    one.set_status(0);
    load.goes_on(100).await?;
    if balancer.of("web-1").await?["state"] == "ejected" {
        // What was chosen in the moment of the ejection may still arrive.
        ensure!(one.count() <= before + 4, "{} more", one.count() - before);
    }
    let back = balancer.wait_for_state("web-1", "up").await?;
    ensure!(back["warm_percent"].as_u64() < Some(100), "{back}");
    balancer
        .wait_for_told(&["ejection is over", "returned"])
        .await?;
    ensure!(state(&balancer, "web-1", "up").await? == 1);
    let warm = |one: &Value| one["warm_percent"] == 100;
    balancer
        .wait_for_backend("web-1", "it is warm", warm)
        .await?;
    ensure!(ejections(&balancer, "web-1").await? == 1 && ejections(&balancer, "web-2").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_errors_takes_a_backend_out_without_any_row() -> Result<()> {
    let world = World::new()?;
    let count = Arc::new(AtomicUsize::new(0));
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match number % 2 {
                0 => on.answer("well").await?,
                _ => {
                    on.write("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
                        .await?
                }
            }
            on.go_on()
        }
    })?;
    let two = world.backend("web-2").await?;
    let keys = "[ejection]\nconsecutive_errors = 0\n";
    let list = [("web-1", one.place().1, ""), ("web-2", two.port(), "")];
    let balancer = world.balancer_over(&list, keys).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let _load = Load::on(&balancer)?;
    let out = balancer.wait_for_state("web-1", "ejected").await?;
    let reason = out["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("% errors, the others 0 %"), "{out}");
    Ok(())
}

/// No answer is an error like any other. The client sees none of it where the request may be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_breaks_off_is_taken_out() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |on: Conversation| async move { on.reset() })?;
    let two = world.backend("web-2").await?;
    let list = [("web-1", one.place().1, ""), ("web-2", two.port(), "")];
    let balancer = world.balancer_over(&list, "").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let client = balancer.client()?;
    wait_until("it is ejected", SOON, async || {
        let response = client.get(balancer.url("/")).send().await;
        let is_well = response.is_ok_and(|response| response.status() == 200);
        let status = balancer.of("web-1").await.unwrap_or_default();
        is_well && status["state"] == "ejected"
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_blames_the_client_is_no_error() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    one.set_status(404);
    let load = Load::on(&balancer)?;
    load.goes_on(500).await?;
    let status = balancer.of("web-1").await?;
    ensure!(status["state"] == "up" && status["errors"] == 0, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_all_share_takes_nobody_out() -> Result<()> {
    let world = World::new()?;
    let backends = [
        world.backend("web-1").await?,
        world.backend("web-2").await?,
        world.backend("web-3").await?,
    ];
    let balancer = world
        .balancer_ready(&backends.iter().collect::<Vec<_>>(), "")
        .await?;
    let load = Load::on(&balancer)?;
    load.goes_on(300).await?;
    // It begins everywhere, though nowhere at the same moment.
    for backend in &backends {
        backend.set_status(500);
    }
    load.goes_on(600).await?;
    balancer.wait_for_states(&["up"; 3]).await?;
    // It ends everywhere, and somebody is always the first to answer well again.
    for backend in &backends {
        backend.set_status(0);
    }
    load.goes_on(300).await?;
    for backend in &backends {
        ensure!(ejections(&balancer, backend.name()).await? == 0);
    }
    ensure!(balancer.told(&["is ejected"]).is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ejection_is_longer_than_the_one_before_up_to_the_most() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\ntime_s = 1\ntime_max_s = 3\n[balancing]\nslow_start_s = 0\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.set_status(500);
    let _load = Load::on(&balancer)?;
    wait_until("it is ejected three times", 2 * SOON, async || {
        ejections(&balancer, "web-1")
            .await
            .is_ok_and(|count| count >= 3)
    })
    .await?;
    let seconds: Vec<f64> = balancer
        .told(&["backend is ejected"])
        .iter()
        .filter_map(|line| line["seconds"].as_f64())
        .collect();
    ensure!(seconds[..3] == [1.0, 2.0, 3.0], "{seconds:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_is_never_ejected_and_is_called_back_when_the_others_go() -> Result<()> {
    let world = World::new()?;
    let (one, mut two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\ntime_s = 600\ntime_max_s = 600\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    let load = Load::on(&balancer)?;
    one.set_status(500);
    balancer.wait_for_state("web-1", "ejected").await?;
    two.kill().await;
    balancer.wait_for_states(&["up", "down"]).await?;
    balancer
        .wait_for_told(&["ejection is over", "recalled"])
        .await?;
    load.goes_on(100).await?;
    ensure!(balancer.of("web-1").await?["state"] == "up");
    ensure!(ejections(&balancer, "web-1").await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_configured_share_is_ejected() -> Result<()> {
    let world = World::new()?;
    let mut backends = Vec::new();
    for number in 1..=5 {
        backends.push(world.backend(&format!("web-{number}")).await?);
    }
    let keys = "[ejection]\nshare_max_percent = 40\ntime_s = 600\ntime_max_s = 600\n";
    let balancer = world
        .balancer_ready(&backends.iter().collect::<Vec<_>>(), keys)
        .await?;
    let load = Load::on(&balancer)?;
    for backend in &backends[..3] {
        backend.set_status(500);
    }
    let ejected = async || -> Result<usize> {
        let status = balancer.admin("status").await?;
        let all = status["backends"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter(|one| one["state"] == "ejected").count())
    };
    wait_until("two are ejected", SOON, async || {
        ejected().await.is_ok_and(|count| count == 2)
    })
    .await?;
    load.goes_on(500).await?;
    ensure!(ejected().await? == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_forgives_an_ejection() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\ntime_s = 600\ntime_max_s = 600\n[balancing]\nslow_start_s = 0\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    let load = Load::on(&balancer)?;
    one.set_status(500);
    balancer.wait_for_state("web-1", "ejected").await?;
    one.set_status(0);
    balancer.tell(&["ready", "web-1"]).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let before = one.count();
    load.goes_on(100).await?;
    ensure!(one.count() > before + 20, "{} more", one.count() - before);
    ensure!(ejections(&balancer, "web-1").await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_zeros_nobody_is_ejected() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\nconsecutive_errors = 0\nerror_percent_over = 0\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.set_status(500);
    let load = Load::on(&balancer)?;
    load.goes_on(500).await?;
    let status = balancer.of("web-1").await?;
    ensure!(
        status["state"] == "up" && status["errors"].as_u64() > Some(20),
        "{status}"
    );
    Ok(())
}

/// In the mode active-passive the standby has no requests by which it could show that it does better: it is believed to.
#[tokio::test(flavor = "multi_thread")]
async fn an_active_backend_that_fails_is_taken_out_for_its_standby() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let list = [
        ("web-1", one.port(), ""),
        ("web-2", two.port(), ", standby = true"),
    ];
    let keys = "[balancing]\nmode = \"active-passive\"\n";
    let balancer = world.balancer_over(&list, keys).await?;
    balancer.wait_for_states(&["up", "standby"]).await?;
    let load = Load::on(&balancer)?;
    load.goes_on(100).await?;
    ensure!(two.count() == 0);
    one.set_status(500);
    balancer.wait_for_states(&["ejected", "standby"]).await?;
    let before = two.count();
    load.goes_on(50).await?;
    ensure!(two.count() > before + 40);
    Ok(())
}

/// Checks of it fail, and requests do not.
async fn fails_its_checks(one: &Backend, balancer: &Balancer) -> Result<()> {
    one.break_every_check(1);
    balancer.wait_for_state(one.name(), "down").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sends_requests_to_those_that_fail_their_checks_while_nobody_else_is_there()
-> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let client = balancer.client()?;
    // One of them is well: the other gets nothing.
    fails_its_checks(&one, &balancer).await?;
    for _ in 0..10 {
        let response = client.get(balancer.url("/")).send().await?;
        ensure!(header(&response, "x-served-by") == "web-2", "{response:?}");
    }
    ensure!(balancer.metric("balancer_last_resort").await? == 0);
    fails_its_checks(&two, &balancer).await?;
    wait_until("it is the last resort", SOON, async || {
        balancer.metric("balancer_last_resort").await.ok() == Some(1)
    })
    .await?;
    let told = balancer.wait_for_told(&["no backend is well"]).await?;
    ensure!(told["level"] == "error", "{told}");
    ensure!(balancer.admin("status").await?["last_resort"] == true);
    for _ in 0..10 {
        let response = client.get(balancer.url("/")).send().await?;
        ensure!(response.status() == 200, "{response:?}");
    }
    ensure!(one.count() > 0 && one.count() + two.count() == 20);
    ensure!(
        balancer
            .metric("balancer_last_resort_requests_total")
            .await?
            == 10
    );
    // One that says itself that it is not ready never is one.
    two.break_every_check(0);
    two.set_ready(false);
    balancer.wait_for_states(&["down", "not_ready"]).await?;
    let before = two.count();
    for _ in 0..10 {
        let response = client.get(balancer.url("/")).send().await?;
        ensure!(header(&response, "x-served-by") == "web-1", "{response:?}");
    }
    ensure!(two.count() == before);
    one.break_every_check(0);
    balancer.wait_for_states(&["up", "not_ready"]).await?;
    balancer
        .wait_for_told(&["requests go to nobody any more who is not well"])
        .await?;
    ensure!(balancer.metric("balancer_last_resort").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_answers_503_when_nobody_is_well() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[balancing]\nwhen_none = \"closed\"\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    fails_its_checks(&one, &balancer).await?;
    for client in [balancer.client()?, balancer.client_1()?] {
        let response = client.get(balancer.url("/")).send().await?;
        ensure!(!header(&response, "retry-after").is_empty(), "{response:?}");
        let document = problem(response, 503).await?;
        ensure!(document["type"] == "/problems/no-backend", "{document}");
    }
    ensure!(one.count() == 0);
    ensure!(balancer.metric("balancer_last_resort").await? == 0);
    ensure!(balancer.told(&["no backend is well"]).is_empty());
    Ok(())
}

/// An operator's word holds, whoever else is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_backend_is_nobodys_last_resort() -> Result<()> {
    let world = World::new()?;
    let (one, mut two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    balancer.admin("drain web-1").await?;
    two.kill().await;
    balancer.wait_for_states(&["drain", "down"]).await?;
    let response = balancer.client()?.get(balancer.url("/")).send().await?;
    ensure!(response.status() == 503, "{response:?}");
    ensure!(one.count() == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_on_an_ejected_backend_is_finished() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    let client = balancer.client()?;
    let asked: Vec<_> = (0..2)
        .map(|_| tokio::spawn(client.get(balancer.url("/sleep/1500")).send()))
        .collect();
    balancer.wait_for_in_flight(&[1, 1]).await?;
    one.set_status(500);
    let _load = Load::on(&balancer)?;
    balancer.wait_for_state("web-1", "ejected").await?;
    for one in asked {
        let response = one.await??;
        ensure!(response.status() == 200, "{response:?}");
    }
    Ok(())
}

/// The time between two errors does not matter for a run, only that nothing good is between them.
#[tokio::test(flavor = "multi_thread")]
async fn few_requests_are_enough_for_a_run() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &two], "").await?;
    one.set_status(500);
    let client = balancer.client()?;
    let mut errors = 0;
    wait_until("it is ejected", SOON, async || {
        let response = client.get(balancer.url("/")).send().await;
        errors += usize::from(response.is_ok_and(|response| response.status() == 500));
        let status = balancer.of("web-1").await.unwrap_or_default();
        status["state"] == "ejected"
    })
    .await?;
    ensure!(
        (5..30).contains(&errors),
        "{errors} errors were let through"
    );
    let before = one.count();
    for _ in 0..20 {
        client
            .get(balancer.url("/"))
            .send()
            .await?
            .error_for_status()?;
    }
    ensure!(one.count() == before);
    Ok(())
}
