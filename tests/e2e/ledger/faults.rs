//! Money moves while things break. Each test ends with the stack whole again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::compose::Stack;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::client::{Owner, key, told, whole};
use crate::edge::header;

/// The longest that an answer about a missing database server may take: the statement deadline, with room for a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

pub(crate) async fn a_web_server_killed_under_load_fails_no_request(stack: &Stack) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for n in 0..8 {
        let owner = Owner::new(stack, "Load").await?;
        let from = owner.open_account("Current", 1_000_000).await?;
        let to = owner.open_account("Savings", 0).await?;
        let (stop, done) = (stop.clone(), done.clone());
        clients.push(tokio::spawn(async move {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                // Reads may be sent again by the edge, and so may writes that carry a key.
                if n % 2 == 0 {
                    let answer = owner.transfer(&from, &to, 1, &key()).await?;
                    ensure!(
                        answer.status() == StatusCode::CREATED,
                        "{}",
                        told(answer).await
                    );
                    written += 1;
                } else {
                    owner.balance(&from).await?;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            ensure!(
                owner.balance(&to).await? == written,
                "{written} transfers were acknowledged"
            );
            anyhow::Ok(())
        }));
    }
    let reached = async |count: u64| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while done.load(Ordering::Relaxed) < count && !clients.iter().any(|c| c.is_finished()) {
            ensure!(
                Instant::now() < deadline,
                "only {} requests in 60 s",
                done.load(Ordering::Relaxed)
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    let killed = async {
        reached(200).await?;
        stack.kill("web-1")?;
        let at = done.load(Ordering::Relaxed);
        reached(at + 400).await?;
        stack.start("web-1")
    }
    .await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    killed?;
    whole(stack).await
}

pub(crate) async fn without_the_replica_reads_go_on_and_writes_say_what_is_away(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 100).await?;
    let to = owner.open_account("Savings", 0).await?;
    stack.kill("mysql-2")?;
    let outcome = async {
        let key = key();
        let asked = Instant::now();
        let answer = owner.transfer(&from, &to, 30, &key).await?;
        ensure!(
            asked.elapsed() < ANSWER_WITHIN,
            "the answer took {:?}",
            asked.elapsed()
        );
        ensure!(
            answer.status() == StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            told(answer).await
        );
        ensure!(!header(&answer, "retry-after").is_empty(), "{answer:?}");
        let problem: Value = answer.json().await?;
        let detail = problem["detail"]
            .as_str()
            .context("a problem has a detail")?;
        ensure!(
            detail.contains("replica") && detail.to_lowercase().contains("key"),
            "the problem does not say what is away and what to do: {detail}"
        );
        for _ in 0..20 {
            owner.balance(&from).await?;
        }
        let status = stack.stack_output(&["status"])?;
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        ensure!(
            status.contains("mysql-2") && status.contains("wait"),
            "./stack status does not say that writes wait for mysql-2:\n{status}"
        );
        anyhow::Ok(key)
    }
    .await;
    stack.start("mysql-2")?;
    whole(stack).await?;
    let key = outcome?;
    let answer = owner.transfer(&from, &to, 30, &key).await?;
    ensure!(
        answer.status() == StatusCode::CREATED,
        "{}",
        told(answer).await
    );
    ensure!(
        owner.balance(&from).await? == 70,
        "the money moved not exactly once"
    );
    ensure!(
        owner.transfers(&from).await? == 1,
        "the money moved not exactly once"
    );
    Ok(())
}

pub(crate) async fn without_the_primary_reads_go_on_and_no_acknowledged_write_is_lost(
    stack: &Stack,
) -> Result<()> {
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
    stack.kill("mysql-1")?;
    let outcome = async {
        ensure!(
            owner.balance(&to).await? == 20,
            "the replica does not have every acknowledged write"
        );
        let asked = Instant::now();
        let answer = owner.transfer(&from, &to, 1, &key()).await?;
        ensure!(
            answer.status() == StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            told(answer).await
        );
        ensure!(
            asked.elapsed() < ANSWER_WITHIN,
            "the answer took {:?}",
            asked.elapsed()
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
        owner.balance(&to).await? == 20,
        "a write was lost or doubled"
    );
    Ok(())
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
    let refused = stack
        .client()?
        .request(Method::GET, stack.url("/"))
        .send()
        .await;
    ensure!(refused.is_err(), "something still answers");
    Ok(())
}
