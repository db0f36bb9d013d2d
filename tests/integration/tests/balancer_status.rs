//! What an operator sees: the table, its JSON, and the metrics, which say the same.

mod balancer_common;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, SOON, World};
use harness::wait_until;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

const STATES: [&str; 8] = [
    "up",
    "standby",
    "starting",
    "not_ready",
    "down",
    "ejected",
    "drain",
    "maint",
];

/// The cells of a backend's row in the table: of what has blanks in it, each word is one.
async fn row(balancer: &Balancer, backend: &str) -> Result<Vec<String>> {
    let table = balancer.tell(&["status"]).await?;
    let row = table.lines().find(|line| line.starts_with(backend));
    let row = row.with_context(|| table.clone())?;
    Ok(row.split_whitespace().map(str::to_owned).collect())
}

async fn requests(balancer: &Balancer, count: usize) -> Result<()> {
    let client = balancer.client()?;
    for _ in 0..count {
        client.get(balancer.url("/")).send().await?.bytes().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_in_the_table_the_json_and_the_metrics_with_its_reason() -> Result<()> {
    let world = World::new()?;
    let names = ["web-1", "web-2", "web-3", "web-4", "web-5"];
    let mut backends = Vec::new();
    for name in names {
        backends.push(world.backend(name).await?);
    }
    let list: Vec<(&str, u16, &str)> = backends
        .iter()
        .map(|backend| (backend.name(), backend.port(), ""))
        .collect();
    let balancer = world.balancer_over(&list, "").await?;
    balancer.wait_for_states(&["up"; 5]).await?;
    balancer.tell(&["drain", "web-2"]).await?;
    balancer.tell(&["maint", "web-3"]).await?;
    backends[3].set_ready(false);
    backends[4].kill().await;
    let states = ["up", "drain", "maint", "not_ready", "down"];
    balancer.wait_for_states(&states).await?;
    let reasons = [
        "ready",
        "an operator's word",
        "an operator's word",
        "/readyz answered 503",
        "refused",
    ];
    let json = balancer.tell(&["status", "--json"]).await?;
    let json: Value = serde_json::from_str(&json)?;
    for (index, name) in names.into_iter().enumerate() {
        let one = &json["backends"][index];
        ensure!(
            one["name"] == name && one["state"] == states[index],
            "{one}"
        );
        let reason = one["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(reasons[index]), "{one}");
        let cells = row(&balancer, name).await?;
        ensure!(
            cells[1] == states[index] && cells[2].ends_with('s'),
            "{cells:?}"
        );
        let last = reasons[index].split(' ').next_back().unwrap_or_default();
        ensure!(cells.iter().any(|cell| cell.contains(last)), "{cells:?}");
        for state in STATES {
            let name = format!("balancer_backend_state{{backend=\"{name}\",state=\"{state}\"}}");
            let expected = u64::from(state == states[index]);
            ensure!(balancer.metric(&name).await? == expected, "{name}");
        }
        let share = balancer
            .metric(&format!("balancer_backend_share{{backend=\"{name}\"}}"))
            .await?;
        let expected = [25_600, 0, 0, 0][index.min(3)];
        // One that fails its checks is there for when nobody else is.
        ensure!(
            share == expected || states[index] == "down",
            "{name} {share}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_those_of_what_has_happened() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\nconsecutive_errors = 0\nerror_percent_over = 0\n[admission]\nrequests_max = 1\nqueue_timeout_ms = 60000\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    for backend in ["web-1", "web-2"] {
        let fresh = balancer.of(backend).await?;
        ensure!(
            fresh["latency_ms"].is_null() && fresh["rate"] == 0.0 && fresh["errors"] == 0,
            "{fresh}"
        );
        let cells = row(&balancer, backend).await?;
        ensure!(cells.contains(&"0/1".to_owned()), "{cells:?}");
    }
    one.set_delay(Duration::from_millis(30));
    requests(&balancer, 20).await?;
    let is_told = |one: &Value| one["rate"].as_f64() > Some(0.0);
    let of_one = balancer
        .wait_for_backend("web-1", "a rate is told", is_told)
        .await?;
    let latency = of_one["latency_ms"].as_f64().context("no latency")?;
    ensure!(latency >= 30.0, "{of_one}");
    // The first answer of each had a handshake before it.
    let latency_of = async |name: &str| balancer.of(name).await.ok()?["latency_ms"].as_f64();
    wait_until("the quick one is seen to be quicker", SOON, async || {
        let asked = requests(&balancer, 4).await;
        let both = (latency_of("web-2").await, latency_of("web-1").await);
        asked.is_ok() && matches!(both, (Some(two), Some(one)) if two < one)
    })
    .await?;
    let of_one = balancer.of("web-1").await?;
    // A tenth of what there was in the last ten seconds, or more if there were fewer.
    let rate = of_one["rate"].as_f64().unwrap_or_default();
    ensure!(rate >= one.count() as f64 / 10.0 - 0.01, "{of_one}");
    ensure!(of_one["error_rate"] == 0.0, "{of_one}");
    one.set_status(503);
    let before = one.count();
    requests(&balancer, 20).await?;
    let failed = one.count() - before;
    let is_told = |one: &Value| one["error_rate"].as_f64() > Some(0.0);
    let of_one = balancer
        .wait_for_backend("web-1", "a rate of errors is told", is_told)
        .await?;
    ensure!(of_one["errors"] == failed, "{failed}: {of_one}");
    ensure!(
        balancer
            .metric("balancer_backend_errors_total{backend=\"web-1\"}")
            .await?
            == failed as u64
    );
    // An error is no answer whose time tells anything.
    ensure!(of_one["latency_ms"].as_f64() >= Some(30.0), "{of_one}");
    one.set_status(0);
    let client = balancer.client()?;
    let held: Vec<_> = (0..3)
        .map(|_| tokio::spawn(client.get(balancer.url("/sleep/4000")).send()))
        .collect();
    balancer.wait_for_in_flight(&[1, 1]).await?;
    balancer.wait_for_waiting(1).await?;
    ensure!(row(&balancer, "web-1").await?.contains(&"1/1".to_owned()));
    let table = balancer.tell(&["status"]).await?;
    let first = table.lines().next().unwrap_or_default();
    ensure!(
        first.contains("balancer 1: active-active")
            && first.contains("3 requests in flight")
            && first.contains("1 waiting"),
        "{first}"
    );
    for name in ["web-1", "web-2"] {
        let name = format!("balancer_in_flight{{backend=\"{name}\"}}");
        ensure!(balancer.metric(&name).await? == 1);
    }
    for one in held {
        one.await??.error_for_status()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejection_and_a_last_resort_are_seen() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = "[ejection]\ntime_s = 600\ntime_max_s = 600\n";
    let balancer = world.balancer_ready(&[&one, &two], keys).await?;
    one.set_status(500);
    wait_until("it is ejected", SOON, async || {
        let _ = requests(&balancer, 4).await;
        let status = balancer.of("web-1").await.unwrap_or_default();
        status["state"] == "ejected"
    })
    .await?;
    let cells = row(&balancer, "web-1").await?;
    ensure!(
        cells[1] == "ejected" && cells.join(" ").contains("errors in a row; "),
        "{cells:?}"
    );
    one.break_every_check(1);
    two.break_every_check(1);
    balancer.wait_for_states(&["down", "down"]).await?;
    wait_until("it is said", SOON, async || {
        balancer
            .tell(&["status"])
            .await
            .is_ok_and(|table| table.contains("no backend is well"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn since_tells_how_long_a_state_lasts() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    let is_old = |one: &Value| one["since_s"].as_u64() >= Some(2);
    balancer
        .wait_for_backend("web-1", "two seconds have passed", is_old)
        .await?;
    balancer.admin("drain web-1").await?;
    let drained = balancer.of("web-1").await?;
    ensure!(drained["since_s"].as_u64() <= Some(1), "{drained}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_again_what_is_true_by_then() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    for arguments in [&["status", "--watch"][..], &["status", "--json", "--watch"]] {
        let mut watching = balancer.command(arguments)?;
        let out = watching.stdout.take().context("no output")?;
        let mut lines = BufReader::new(out).lines();
        let mut next = async || -> Result<String> {
            loop {
                let line = timeout(SOON, lines.next_line()).await??;
                let line = line.context("it has ended")?;
                if line.contains("web-1") {
                    return Ok(line);
                }
            }
        };
        ensure!(next().await?.contains("ready"));
        balancer.admin("drain web-1").await?;
        let mut seen = next().await?;
        // What was read just before may be printed yet.
        if !seen.contains("drain") {
            seen = next().await?;
        }
        ensure!(seen.contains("drain"), "{seen}");
        ensure!(watching.try_wait()?.is_none(), "it has ended");
        balancer.admin("ready web-1").await?;
        balancer.wait_for_state("web-1", "up").await?;
    }
    Ok(())
}
