//! Admission: how many requests a backend has at one time, who waits for how long, and what becomes of who waits.

mod balancer_common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, Conversation, SOON, World, header, problem};
use futures::future::join_all;
use harness::wait_until;
use reqwest::Client;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

type Asked = JoinHandle<reqwest::Result<reqwest::Response>>;

/// Asks for this path, and does not wait for the answer.
fn ask(balancer: &Balancer, client: &Client, path: &str) -> Asked {
    tokio::spawn(client.get(balancer.url(path)).send())
}

/// HTTP/2 and HTTP/1.1, each with the beginning of its paths.
fn clients(balancer: &Balancer) -> Result<[(Client, &'static str); 2]> {
    Ok([(balancer.client()?, "/two"), (balancer.client_1()?, "/one")])
}

async fn answered(asked: Asked) -> Result<String> {
    let response = asked.await??;
    ensure!(response.status() == 200, "{response:?}");
    Ok(response.text().await?)
}

async fn line_of(balancer: &Balancer, path: &str) -> Result<Value> {
    balancer.logged(|line| line["path"] == path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_all_are_busy_waits_and_is_served_in_turn() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[admission]\nrequests_max = 2\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    for (client, path) in clients(&balancer)? {
        let before = one.heard().len();
        let mut asked = Vec::new();
        for number in 0..8_u64 {
            asked.push(ask(&balancer, &client, &format!("{path}/{number}")));
            match number {
                0 | 1 => balancer.wait_for_in_flight(&[number + 1]).await?,
                _ => balancer.wait_for_waiting(number - 1).await?,
            }
        }
        ensure!(balancer.metric("balancer_queue_waiting").await? == 6);
        one.wait_for_heard(before + 2).await?;
        // One answer makes room for one request, the one that came first.
        for number in 2..8 {
            gate.open(1);
            one.wait_for_heard(before + number + 1).await?;
            ensure!(balancer.in_flight().await? == [2], "{path}/{number}");
        }
        gate.open(2);
        for one in asked {
            answered(one).await?;
        }
        let heard = one.heard().split_off(before);
        let lines: Vec<String> = heard.iter().skip(2).map(|heard| heard.line()).collect();
        let expected: Vec<String> = (2..8).map(|n| format!("GET {path}/{n} HTTP/1.1")).collect();
        ensure!(lines == expected, "{lines:?}");
        let first = line_of(&balancer, &format!("{path}/0")).await?;
        ensure!(first["queue_ms"].is_null(), "{first}");
        let last = line_of(&balancer, &format!("{path}/7")).await?;
        ensure!(
            last["queue_ms"].as_f64() > Some(0.0) && last["termination"] == "completed",
            "{last}"
        );
        ensure!(
            last["duration_ms"].as_f64() >= last["queue_ms"].as_f64(),
            "{last}"
        );
    }
    ensure!(gate.most() == 2, "{} at one time", gate.most());
    ensure!(balancer.metric("balancer_queue_waiting").await? == 0);
    ensure!(
        balancer
            .metric("balancer_queue_duration_seconds_count")
            .await?
            == 12
    );
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_backend_has_a_cap_of_its_own() -> Result<()> {
    let world = World::new()?;
    let ((one, gate_1), (two, gate_2)) = (world.gated("web-1")?, world.gated("web-2")?);
    let list = [
        ("web-1", one.place().1, ", requests_max = 1"),
        ("web-2", two.place().1, ""),
    ];
    let balancer = world
        .balancer_over(&list, "[admission]\nrequests_max = 3\n")
        .await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let client = balancer.client()?;
    let asked: Vec<Asked> = (0..6).map(|_| ask(&balancer, &client, "/")).collect();
    balancer.wait_for_in_flight(&[1, 3]).await?;
    balancer.wait_for_waiting(2).await?;
    let status = balancer.of("web-1").await?;
    ensure!(status["requests_max"] == 1, "{status}");
    // A request is in flight before its backend has heard of it.
    let most = || (gate_1.most(), gate_2.most());
    wait_until("all are heard", SOON, async || most() == (1, 3)).await?;
    gate_1.open_wide();
    gate_2.open_wide();
    for one in asked {
        answered(one).await?;
    }
    ensure!(most() == (1, 3), "{:?}", most());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_cap_is_passed_and_nobody_is_forgotten() -> Result<()> {
    let world = World::new()?;
    let ((one, gate_1), (two, gate_2)) = (world.gated("web-1")?, world.gated("web-2")?);
    gate_1.open_wide();
    gate_2.open_wide();
    let keys = "[admission]\nrequests_max = 3\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one, &two], keys).await?;
    let clients = clients(&balancer)?;
    let asked = (0..40).map(|number| {
        let (client, path) = &clients[number % 2];
        let url = balancer.url(&format!("{path}/{number}"));
        async move {
            for _ in 0..25 {
                let response = client.post(&url).body("a body").send().await?;
                ensure!(response.status() == 200, "{response:?}");
                response.bytes().await?;
            }
            Ok(())
        }
    });
    for done in join_all(asked).await {
        done?;
    }
    ensure!(one.heard().len() + two.heard().len() == 1000);
    ensure!(gate_1.most() <= 3 && gate_2.most() <= 3);
    let waited = balancer
        .metric("balancer_queue_duration_seconds_count")
        .await?;
    ensure!(waited > 100, "only {waited} have waited");
    balancer.wait_for_waiting(0).await?;
    balancer.wait_for_in_flight(&[0, 0]).await
}

async fn busy(response: reqwest::Response) -> Result<()> {
    ensure!(!header(&response, "retry-after").is_empty(), "{response:?}");
    let document = problem(response, 503).await?;
    ensure!(document["type"] == "/problems/busy", "{document}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_waited_for_too_long_is_told_to_come_again() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[admission]\nrequests_max = 1\nqueue_timeout_ms = 300\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut late = 0;
    for (client, path) in clients(&balancer)? {
        let held = ask(&balancer, &client, "/held");
        balancer.wait_for_in_flight(&[1]).await?;
        let heard = one.heard().len();
        let began = Instant::now();
        let response = client.post(balancer.url(path)).body("x").send().await?;
        let took = began.elapsed();
        ensure!(
            took >= Duration::from_millis(300) && took < Duration::from_secs(20),
            "{took:?}"
        );
        busy(response).await?;
        late += 1;
        ensure!(balancer.metric("balancer_queue_timeouts_total").await? == late);
        let line = line_of(&balancer, path).await?;
        ensure!(
            line["termination"] == "queue_timeout" && line["status"] == 503,
            "{line}"
        );
        ensure!(line["queue_ms"].as_f64() >= Some(300.0), "{line}");
        ensure!(line["backend"].is_null() && line["tries"] == 0, "{line}");
        gate.open(1);
        answered(held).await?;
        balancer.wait_for_in_flight(&[0]).await?;
        ensure!(one.heard().len() == heard, "it was sent all the same");
    }
    let ended = balancer
        .metric("balancer_terminations_total{reason=\"queue_timeout\"}")
        .await?;
    ensure!(ended == late);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[admission]\nrequests_max = 1\nqueue_max = 2\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    for (index, (client, path)) in clients(&balancer)?.into_iter().enumerate() {
        let mut asked = vec![ask(&balancer, &client, "/held")];
        balancer.wait_for_in_flight(&[1]).await?;
        asked.extend((0..2).map(|_| ask(&balancer, &client, "/waits")));
        balancer.wait_for_waiting(2).await?;
        let response = client.get(balancer.url(path)).send();
        busy(tokio::time::timeout(SOON, response).await??).await?;
        ensure!(balancer.metric("balancer_queue_full_total").await? == index as u64 + 1);
        let line = line_of(&balancer, path).await?;
        ensure!(
            line["termination"] == "queue_full" && line["queue_ms"].is_null(),
            "{line}"
        );
        gate.open(3);
        for one in asked {
            answered(one).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_who_comes_when_all_are_busy_is_refused() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[admission]\nrequests_max = 1\nqueue_max = 0\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let client = balancer.client()?;
    let held = ask(&balancer, &client, "/held");
    balancer.wait_for_in_flight(&[1]).await?;
    busy(client.get(balancer.url("/")).send().await?).await?;
    gate.open_wide();
    answered(held).await?;
    answered(ask(&balancer, &client, "/")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_taken_out_and_its_request_is_never_sent() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[admission]\nrequests_max = 1\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    for (client, path) in clients(&balancer)? {
        let before = one.heard().len();
        let held = ask(&balancer, &client, "/held");
        balancer.wait_for_in_flight(&[1]).await?;
        let post = client.post(balancer.url(path)).body("a body");
        let leaves = tokio::spawn(post.send());
        balancer.wait_for_waiting(1).await?;
        let stays = ask(&balancer, &client, "/stays");
        balancer.wait_for_waiting(2).await?;
        leaves.abort();
        balancer.wait_for_waiting(1).await?;
        let line = line_of(&balancer, path).await?;
        ensure!(
            line["termination"] == "client_abort" && line["queue_ms"].as_f64() > Some(0.0),
            "{line}"
        );
        gate.open(2);
        answered(held).await?;
        answered(stays).await?;
        let heard = one.heard().split_off(before);
        ensure!(
            heard.len() == 2 && heard.iter().all(|heard| !heard.line().contains(path)),
            "{heard:?}"
        );
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_comes_back_serves_who_waits() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let mut two = world.backend("web-2").await?;
    let keys = "[admission]\nrequests_max = 2\nqueue_timeout_ms = 60000\n";
    let list = [("web-1", one.place().1, ""), ("web-2", two.port(), "")];
    let balancer = world.balancer_over(&list, keys).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    two.kill().await;
    balancer.wait_for_states(&["up", "down"]).await?;
    let clients = clients(&balancer)?;
    let held: Vec<Asked> = (0..2)
        .map(|_| ask(&balancer, &clients[0].0, "/held"))
        .collect();
    balancer.wait_for_in_flight(&[2, 0]).await?;
    let waiting: Vec<Asked> = (0..6)
        .map(|number| ask(&balancer, &clients[number % 2].0, "/waits"))
        .collect();
    balancer.wait_for_waiting(6).await?;
    two.revive()?;
    for one in waiting {
        answered(one).await?;
    }
    ensure!(two.count() == 6 && one.heard().len() == 2);
    gate.open_wide();
    for one in held {
        answered(one).await?;
    }
    Ok(())
}

/// Nobody waits for the deadline when it is known before that there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_last_backend_is_taken_out_who_waits_is_told_at_once() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[admission]\nrequests_max = 1\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let client = balancer.client()?;
    let held = ask(&balancer, &client, "/held");
    balancer.wait_for_in_flight(&[1]).await?;
    let waits = ask(&balancer, &client, "/waits");
    balancer.wait_for_waiting(1).await?;
    balancer.admin("drain web-1").await?;
    let response = tokio::time::timeout(SOON, waits).await???;
    let document = problem(response, 503).await?;
    ensure!(document["type"] == "/problems/no-backend", "{document}");
    gate.open_wide();
    answered(held).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_takes_its_place_for_as_long_as_it_lives() -> Result<()> {
    let world = World::new()?;
    let (one, _) = world.echoing("web-1")?;
    let keys = "[admission]\nrequests_max = 1\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut socket = balancer.websocket().await?;
    ensure!(socket.is_alive().await);
    let waits = ask(&balancer, &balancer.client()?, "/waits");
    balancer.wait_for_waiting(1).await?;
    ensure!(socket.is_alive().await);
    drop(socket);
    ensure!(answered(waits).await? == "web-1");
    balancer.wait_for_in_flight(&[0]).await
}

/// A request that has failed on one backend may wait for another alone. Those that came after it do not wait for that one, too, while
/// the first has room.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_go_to_one_backend_alone_keeps_nobody_from_the_others() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async move {
        if on.path() == "/breaks" {
            return on.reset();
        }
        on.answer("web-1").await?;
        on.go_on()
    })?;
    let (two, gate) = world.gated("web-2")?;
    let list = [
        ("web-1", one.place().1, ", requests_max = 10"),
        ("web-2", two.place().1, ", requests_max = 1"),
    ];
    let keys = "[admission]\nqueue_timeout_ms = 60000\n[ejection]\nconsecutive_errors = 0\nerror_percent_over = 0\n";
    let balancer = world.balancer_over(&list, keys).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    let client = balancer.client()?;
    // web-2 is asked as long as nothing is in flight there.
    let held = tokio::spawn({
        let (client, url) = (client.clone(), balancer.url("/held"));
        async move {
            loop {
                let text = client.get(&url).send().await?.text().await?;
                if text == "web-2" {
                    return reqwest::Result::Ok(());
                }
            }
        }
    });
    balancer.wait_for_in_flight(&[0, 1]).await?;
    let waits = ask(&balancer, &client, "/breaks");
    balancer.wait_for_waiting(1).await?;
    for _ in 0..3 {
        let asked = answered(ask(&balancer, &client, "/"));
        let says = tokio::time::timeout(SOON, asked)
            .await
            .context("it waits behind one that may not go to web-1")??;
        ensure!(says == "web-1");
    }
    balancer.wait_for_waiting(1).await?;
    gate.open_wide();
    held.await??;
    ensure!(answered(waits).await? == "web-2");
    Ok(())
}

/// A connection that waited in the pool may break when it is used, which says little about its backend. Where there is no other, it is
/// asked again, also while others wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_broke_is_no_error_while_others_wait() -> Result<()> {
    let world = World::new()?;
    // The second request on a connection is heard, and the connection breaks once the others wait.
    let all_wait = Arc::new(Notify::new());
    let breaks_then = Arc::clone(&all_wait);
    let one = world.raw_backend("web-1", move |mut on: Conversation| {
        let breaks_then = Arc::clone(&breaks_then);
        async move {
            let heard = on.heard().clone();
            if heard.line().contains("/breaks") && heard.connection == 0 {
                breaks_then.notified().await;
                return on.reset();
            }
            on.answer("web-1").await?;
            on.go_on()
        }
    })?;
    let keys = "threads = 1\n[admission]\nrequests_max = 1\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let client = balancer.client()?;
    answered(ask(&balancer, &client, "/")).await?;
    let breaks = ask(&balancer, &client, "/breaks");
    one.wait_for_heard(2).await?;
    let waits: Vec<Asked> = (0..3).map(|_| ask(&balancer, &client, "/")).collect();
    balancer.wait_for_waiting(3).await?;
    all_wait.notify_one();
    ensure!(answered(breaks).await? == "web-1");
    for one in waits {
        answered(one).await?;
    }
    Ok(())
}

/// A request whose time is over while it waits is told so, and leaves the queue.
#[tokio::test(flavor = "multi_thread")]
async fn the_total_time_of_a_request_counts_while_it_waits() -> Result<()> {
    let world = World::new()?;
    let (one, _gate) = world.gated("web-1")?;
    let keys =
        "[admission]\nrequests_max = 1\nqueue_timeout_ms = 60000\n[request]\ntotal_timeout_s = 1\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let client = balancer.client()?;
    let _held = ask(&balancer, &client, "/held");
    balancer.wait_for_in_flight(&[1]).await?;
    let response = client.get(balancer.url("/waits")).send().await?;
    problem(response, 504).await?;
    wait_until("nobody waits", SOON, async || {
        balancer.metric("balancer_queue_waiting").await.ok() == Some(0)
    })
    .await
}
