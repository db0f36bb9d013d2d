//! Money moves while things break. Each test ends with the stack whole again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use harness::{compose::Stack, wait_until};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::{Owner, key, told, whole};
use crate::edge::header;

/// What `./stack roll` takes.
const ROLLED: [&str; 2] = ["web", "balancer"];

/// The longest that an answer about a missing database server may take: the statement deadline, with room for a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

pub(crate) async fn a_web_server_killed_under_load_fails_no_request(stack: &Stack) -> Result<()> {
    under_load(stack, async |load| {
        stack.kill("web-1")?;
        load.goes_on(400).await?;
        stack.start("web-1")
    })
    .await
}

/// What a person calls is held to the same: `./stack roll`.
pub(crate) async fn rolling_web_servers_or_balancers_under_load_fails_no_request(
    stack: &Stack,
) -> Result<()> {
    under_load(stack, async |load| {
        for kind in ROLLED {
            let before = stack.container_ids()?;
            let said = stack.stack_aside(&["roll", kind]).await?;
            ensure!(
                said.contains(&format!("{kind}-1 and {kind}-2 are replaced and healthy")),
                "./stack roll {kind}:\n{said}"
            );
            let after = stack.container_ids()?;
            let replaced: Vec<_> = after.difference(&before).collect();
            ensure!(
                replaced.len() == 2 && replaced.iter().all(|id| id.starts_with(kind)),
                "./stack roll {kind} replaced {replaced:?}:\n{said}"
            );
            load.goes_on(200).await?;
        }
        Ok(())
    })
    .await?;
    // With one of them away, the other one is not touched.
    stack.kill("web-2")?;
    let before = stack.container_ids()?;
    let refused = stack.stack_output(&["roll", "web"])?;
    let after = stack.container_ids()?;
    stack.start("web-2")?;
    whole(stack).await?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && words.contains("nothing was replaced"),
        "{words}"
    );
    ensure!(before == after, "before {before:#?}\nafter {after:#?}");
    Ok(())
}

/// The network of a pod vanishes without a word: nothing is reset, nothing answers any more.
pub(crate) async fn a_pod_whose_owner_is_killed_under_load_fails_no_request(
    stack: &Stack,
) -> Result<()> {
    under_load(stack, async |load| {
        stack.kill("fw-web-1")?;
        load.goes_on(400).await?;
        stack.stack(&["up"]).map(drop)
    })
    .await
}

/// `./stack dev`: what was built is rolled over both, and a build that fails changes nothing.
pub(crate) async fn a_build_is_rolled_out_under_load_and_one_that_fails_changes_nothing(
    stack: &Stack,
) -> Result<()> {
    let before = stack.container_ids()?;
    let broken = [("RUSTC_WRAPPER", "/bin/false")];
    let failed = stack.stack_output_with(&["dev", "web", "--once"], &broken)?;
    let words = String::from_utf8_lossy(&failed.stderr).into_owned();
    ensure!(
        !failed.status.success() && words.contains("the stack runs what it ran"),
        "{words}"
    );
    ensure!(
        words.contains("/bin/false"),
        "cargo's own words are not shown:\n{words}"
    );
    ensure!(stack.container_ids()? == before, "something was replaced");
    under_load(stack, async |load| {
        let said = stack.stack_aside(&["dev", "web", "--once"]).await?;
        let after = stack.container_ids()?;
        let replaced: Vec<_> = after.difference(&before).collect();
        ensure!(
            replaced.len() == 2 && replaced.iter().all(|id| id.starts_with("web")),
            "./stack dev web --once replaced {replaced:?}:\n{said}"
        );
        load.goes_on(200).await
    })
    .await
}

/// Invariant 3, for all but the owner of the edge's namespace, whose loss is an outage, and the databases, for which writes wait.
pub(crate) async fn containers_replaced_in_turn_under_load_fail_no_request(
    stack: &Stack,
) -> Result<()> {
    under_load(stack, async |load| {
        for service in ["web-1", "web-2", "balancer-1", "balancer-2", "arbiter"] {
            stack.compose(&[
                "up",
                "--detach",
                "--wait",
                "--no-deps",
                "--no-build",
                "--force-recreate",
                service,
            ])?;
            // In turn: the next one goes when both balancers send to this one again.
            all_in_rotation(stack).await?;
            load.goes_on(200).await?;
        }
        Ok(())
    })
    .await
}

/// Waits until each balancer sends to both web servers.
async fn all_in_rotation(stack: &Stack) -> Result<()> {
    for balancer in ["balancer-1", "balancer-2"] {
        let status = ["exec", "-T", balancer, "balancer", "status", "--json"];
        wait_until(
            &format!("{balancer} sends to both"),
            ANSWER_WITHIN,
            async || {
                let status = stack.compose(&status).unwrap_or_default();
                status.matches(r#""state":"up""#).count() == 2
            },
        )
        .await?;
    }
    Ok(())
}

/// Eight owners who write and read for as long as `happens` takes, and not one of whose requests may fail. Half of them speak HTTP/2, the
/// others HTTP/1.1, on connections that they keep.
async fn under_load(stack: &Stack, happens: impl AsyncFnOnce(&Load) -> Result<()>) -> Result<()> {
    let load = Load::default();
    let mut clients = Vec::new();
    for n in 0..8 {
        let http = if n < 4 {
            stack.client()?
        } else {
            stack.client_with(reqwest::ClientBuilder::http1_only)?
        };
        let owner = Owner::by(http, stack, "Load").await?;
        let from = owner.open_account("Current", 1_000_000).await?;
        let to = owner.open_account("Savings", 0).await?;
        let load = load.clone();
        clients.push(tokio::spawn(async move {
            let outcome = load.one(n, &owner, &from, &to).await;
            if outcome.is_err() {
                load.failed.store(true, Ordering::Relaxed);
            }
            outcome
        }));
    }
    let happened = async {
        load.goes_on(200).await?;
        happens(&load).await
    }
    .await;
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    happened?;
    print!(
        "({} requests, the slowest took {} ms) ",
        load.done.load(Ordering::Relaxed),
        load.slowest.load(Ordering::Relaxed)
    );
    whole(stack).await
}

/// Between two requests of one client: what happens under the load, a compilation perhaps, is to have its share of the machine.
const BETWEEN: Duration = Duration::from_millis(20);

/// What the clients of one load share.
#[derive(Clone, Default)]
struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    /// In milliseconds.
    slowest: Arc<AtomicU64>,
}

impl Load {
    /// Waits until `more` requests have been answered.
    async fn goes_on(&self, more: u64) -> Result<()> {
        let enough = self.done.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.done.load(Ordering::Relaxed) < enough && !self.failed.load(Ordering::Relaxed) {
            let done = self.done.load(Ordering::Relaxed);
            ensure!(
                Instant::now() < deadline,
                "{done} requests were answered, {enough} were expected by now"
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// One client: reads may be sent again by the edge, and so may writes, which carry a key.
    async fn one(&self, n: usize, owner: &Owner, from: &str, to: &str) -> Result<()> {
        let mut written = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            if n.is_multiple_of(2) {
                let answer = owner.transfer(from, to, 1, &key()).await?;
                ensure!(
                    answer.status() == StatusCode::CREATED,
                    "{}",
                    told(answer).await
                );
                written += 1;
            } else {
                owner.balance(from).await?;
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.slowest.fetch_max(took, Ordering::Relaxed);
            sleep(BETWEEN).await;
        }
        ensure!(
            owner.balance(to).await? == written,
            "{written} transfers were acknowledged"
        );
        Ok(())
    }
}

/// The primary goes on alone once the replica has been silent for a while; a write that waits meanwhile is answered, or can be asked for again
/// with its key.
pub(crate) async fn without_the_replica_the_primary_goes_on_alone(stack: &Stack) -> Result<()> {
    switched_to(stack, "mysql-1").await?;
    whole(stack).await?;
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 100).await?;
    let to = owner.open_account("Savings", 0).await?;
    stack.kill("mysql-2")?;
    let outcome = async {
        written_in_the_end(&owner, &from, &to, 30).await?;
        for _ in 0..20 {
            owner.balance(&from).await?;
        }
        let status = stack.stack_output(&["status"])?;
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        ensure!(
            status.contains("degraded: mysql-1 alone has every acknowledged write"),
            "./stack status does not say that mysql-1 is alone:\n{status}"
        );
        anyhow::Ok(())
    }
    .await;
    stack.start("mysql-2")?;
    whole(stack).await?;
    outcome?;
    ensure!(
        owner.balance(&from).await? == 70 && owner.transfers(&from).await? == 1,
        "the money moved not exactly once"
    );
    Ok(())
}

/// Whether a write that was under way was done the client cannot know; it asks again with the same key, and it is done once.
pub(crate) async fn without_the_primary_the_replica_takes_its_place_and_no_acknowledged_write_is_lost(
    stack: &Stack,
) -> Result<()> {
    switched_to(stack, "mysql-1").await?;
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 1_000).await?;
    let to = owner.open_account("Savings", 0).await?;
    for _ in 0..20 {
        let answer = owner.transfer(&from, &to, 1, &key()).await?;
        ensure!(
            answer.status() == StatusCode::CREATED,
            "{}",
            told(answer).await
        );
    }
    let epoch = pair_status(stack)?["epoch"].clone();
    stack.kill("mysql-1")?;
    let outcome = async {
        ensure!(
            owner.balance(&to).await? == 20,
            "the replica does not have every acknowledged write"
        );
        written_in_the_end(&owner, &from, &to, 1).await?;
        let status = pair_status(stack)?;
        ensure!(
            status["primary"] == "mysql-2" && status["epoch"].as_u64() > epoch.as_u64(),
            "{status}"
        );
        for _ in 0..20 {
            owner.balance(&from).await?;
        }
        anyhow::Ok(())
    }
    .await;
    stack.start("mysql-1")?;
    whole(stack).await?;
    outcome?;
    ensure!(
        owner.balance(&to).await? == 21 && owner.transfers(&from).await? == 21,
        "a write was lost or doubled"
    );
    switched_to(stack, "mysql-1").await
}

/// Writes are held for a moment, and not one fails.
pub(crate) async fn a_switchover_under_load_fails_no_request(stack: &Stack) -> Result<()> {
    for to in ["mysql-2", "mysql-1"] {
        whole(stack).await?;
        under_load(stack, async |load| {
            switched_to(stack, to).await?;
            load.goes_on(200).await
        })
        .await?;
    }
    Ok(())
}

/// What the arbiter says of the pair.
fn pair_status(stack: &Stack) -> Result<Value> {
    let command = [
        "exec",
        "-T",
        "arbiter",
        "/usr/local/bin/arbiter",
        "status",
        "--json",
    ];
    Ok(serde_json::from_str(&stack.compose(&command)?)?)
}

/// Makes a server the primary, as planned, as soon as that is granted.
pub(crate) async fn switched_to(stack: &Stack, to: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if pair_status(stack)?["primary"] == to {
            return Ok(());
        }
        let asked = stack.stack_output(&["switchover"])?;
        let words = String::from_utf8_lossy(&asked.stderr).into_owned();
        ensure!(Instant::now() < deadline, "no switchover to {to}: {words}");
        if !asked.status.success() {
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Asks for a transfer, with one key, until it is done.
async fn written_in_the_end(owner: &Owner, from: &str, to: &str, cents: u64) -> Result<()> {
    let key = key();
    let begun = Instant::now();
    loop {
        let answer = owner.transfer(from, to, cents, &key).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(());
        }
        let refused = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
        let says_when = !header(&answer, "retry-after").is_empty();
        let words = told(answer).await;
        ensure!(refused && says_when, "{words}");
        ensure!(
            begun.elapsed() < ANSWER_WITHIN * 2,
            "after {:?} still: {words}",
            begun.elapsed()
        );
        sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) async fn without_the_arbiter_everything_goes_on(stack: &Stack) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 100).await?;
    let to = owner.open_account("Savings", 0).await?;
    stack.kill("arbiter")?;
    let outcome = async {
        for n in 1..=20 {
            let answer = owner.transfer(&from, &to, 1, &key()).await?;
            ensure!(
                answer.status() == StatusCode::CREATED,
                "{}",
                told(answer).await
            );
            ensure!(owner.balance(&to).await? == n);
        }
        anyhow::Ok(())
    }
    .await;
    stack.start("arbiter")?;
    whole(stack).await?;
    outcome
}

pub(crate) async fn after_everything_was_stopped_one_up_brings_it_back_with_its_data(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let account = owner.open_account("Current", 4_200).await?;
    // What a reboot leaves: every container there, none running.
    stack.compose(&["kill"])?;
    stack.stack(&["up"])?;
    whole(stack).await?;
    ensure!(owner.elsewhere(stack)?.balance(&account).await? == 4_200);
    Ok(())
}

pub(crate) async fn down_and_up_keeps_the_data_and_down_with_volumes_forgets(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let account = owner.open_account("Current", 4_200).await?;
    stack.stack(&["down"])?;
    stack.stack(&["up"])?;
    whole(stack).await?;
    ensure!(owner.elsewhere(stack)?.balance(&account).await? == 4_200);

    // Its authority is forgotten, too.
    let client = stack.client()?;
    stack.stack(&["down", "--volumes"])?;
    for kind in ["volume", "network"] {
        let label = format!("label=com.docker.compose.project={}", stack.project());
        let left = std::process::Command::new("docker")
            .args([kind, "ls", "--quiet", "--filter", &label])
            .output()?;
        ensure!(
            left.stdout.is_empty(),
            "a {kind} is left: {}",
            String::from_utf8_lossy(&left.stdout)
        );
    }
    let refused = client.request(Method::GET, stack.url("/")).send().await;
    ensure!(refused.is_err(), "something still answers");
    Ok(())
}
