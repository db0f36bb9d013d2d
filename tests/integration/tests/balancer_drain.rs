//! What operators want of the backends: drain, ready, maint and weight, by the program's own commands, for both balancers of a pair and
//! through restarts.

mod balancer_common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, RawBackend, SOON, World};
use harness::wait_until;
use serde_json::{Value, json};
use tokio::time::timeout;

/// The file in which it is written down: all balancers of a test share it.
fn state_file(balancer: &Balancer) -> PathBuf {
    balancer.socket.with_file_name("backends.json")
}

fn written(balancer: &Balancer) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(state_file(balancer))?)?)
}

/// Two gated or echoing backends as a configuration has them.
fn two<'a>(one: &'a RawBackend, two: &'a RawBackend) -> [(&'a str, u16, &'a str); 2] {
    let ((one, port_1), (two, port_2)) = (one.place(), two.place());
    [(one, port_1, ""), (two, port_2, "")]
}

/// A balancer over two backends that it has found up.
async fn over_two_that_are_up(world: &World) -> Result<([RawBackend; 2], Balancer)> {
    let (one, _) = world.echoing("web-1")?;
    let (other, _) = world.echoing("web-2")?;
    let balancer = world.balancer_over(&two(&one, &other), "").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    Ok(([one, other], balancer))
}

/// Who answers so many requests, one after the other.
async fn answers(balancer: &Balancer, count: usize) -> Result<Vec<String>> {
    let client = balancer.client()?;
    let mut names = Vec::new();
    for _ in 0..count {
        let response = client.get(balancer.url("/")).send().await?;
        names.push(response.error_for_status()?.text().await?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_reaches_both_balancers_and_the_one_that_was_away() -> Result<()> {
    let world = World::new()?;
    let (one, _) = world.echoing("web-1")?;
    let (other, _) = world.echoing("web-2")?;
    let list = two(&one, &other);
    let first = world.balancer_named("balancer-1", &list, "").await?;
    let mut second = world.balancer_named("balancer-2", &list, "").await?;
    for balancer in [&first, &second] {
        balancer.wait_for_states(&["up", "up"]).await?;
    }
    let said = first.tell(&["drain", "web-1"]).await?;
    ensure!(
        said.starts_with("web-1 gets nothing new and finishes what it has"),
        "{said}"
    );
    // The one that was asked obeys before it answers.
    let state = first.of("web-1").await?;
    ensure!(
        state["state"] == "drain" && state["reason"] == "an operator's word",
        "{state}"
    );
    second.wait_for_states(&["drain", "up"]).await?;
    for balancer in [&first, &second] {
        ensure!(answers(balancer, 10).await? == ["web-2"]);
    }
    second.stop(SOON).await?;
    first.tell(&["ready", "web-1"]).await?;
    first.tell(&["maint", "web-2"]).await?;
    first.tell(&["weight", "web-1", "7"]).await?;
    first.wait_for_states(&["up", "maint"]).await?;
    // It was away, and knows nevertheless.
    let second = world.balancer_named("balancer-2", &list, "").await?;
    for balancer in [&first, &second] {
        balancer.wait_for_states(&["up", "maint"]).await?;
        ensure!(balancer.of("web-1").await?["weight"] == 7);
        ensure!(answers(balancer, 10).await? == ["web-1"]);
    }
    // Either may be asked.
    second.tell(&["ready", "web-2"]).await?;
    second.tell(&["weight", "web-1", "default"]).await?;
    for balancer in [&first, &second] {
        balancer.wait_for_states(&["up", "up"]).await?;
        let weight = |one: &Value| one["weight"] == 100;
        balancer
            .wait_for_backend("web-1", "its weight is the configured one", weight)
            .await?;
        ensure!(answers(balancer, 10).await? == ["web-1", "web-2"]);
    }
    ensure!(written(&first)? == json!({}), "{}", written(&first)?);
    Ok(())
}

/// A balancer that starts must know who is drained before it sends the first request anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_backend_gets_nothing_from_a_balancer_that_has_just_started() -> Result<()> {
    let world = World::new()?;
    let (one, _) = world.echoing("web-1")?;
    let (other, _) = world.echoing("web-2")?;
    let list = two(&one, &other);
    let mut balancer = world.balancer_over(&list, "").await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    balancer.tell(&["drain", "web-1"]).await?;
    for restart in 0..3 {
        match restart {
            0 => {
                balancer.program.kill()?;
                balancer.program.exited(SOON).await?;
            }
            _ => balancer.stop(SOON).await?,
        }
        balancer = world.balancer_over(&list, "").await?;
        let states = balancer.of("web-1").await?;
        ensure!(states["state"] == "drain", "{states}");
        ensure!(answers(&balancer, 5).await? == ["web-2"]);
    }
    ensure!(one.heard().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_and_wait_returns_when_it_is() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    for verb in ["drain", "maint"] {
        let keys = "[balancing]\ndrain_deadline_s = 1\n";
        let balancer = world.balancer_before(&[&one], keys).await?;
        let heard = one.heard().len();
        let held = [balancer.client()?, balancer.client_1()?]
            .map(|client| tokio::spawn(client.get(balancer.url("/held")).send()));
        one.wait_for_heard(heard + 2).await?;
        let mut waiting = balancer.command(&[verb, "web-1", "--wait"])?;
        balancer.wait_for_state("web-1", verb).await?;
        // The deadline is for WebSockets: a request goes on beyond it.
        let early = timeout(Duration::from_millis(1500), waiting.wait()).await;
        ensure!(early.is_err(), "{verb} has not waited: {early:?}");
        gate.open(2);
        let status = timeout(SOON, waiting.wait()).await??;
        ensure!(status.success(), "{status}");
        for held in held {
            let response = held.await??;
            ensure!(response.status() == 200, "{response:?}");
        }
        let new = balancer.client()?.get(balancer.url("/")).send().await?;
        ensure!(new.status() == 503, "{new:?}");
        balancer.tell(&["ready", "web-1"]).await?;
        balancer.wait_for_state("web-1", "up").await?;
        gate.open(1);
        ensure!(answers(&balancer, 1).await? == ["web-1"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_gives_up_after_the_deadline_and_says_what_is_left() -> Result<()> {
    let world = World::new()?;
    let (one, gate) = world.gated("web-1")?;
    let keys = "[balancing]\ndrain_deadline_s = 1\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let _held = tokio::spawn(balancer.client()?.get(balancer.url("/held")).send());
    one.wait_for_heard(1).await?;
    let said = balancer.run(&["drain", "web-1", "--wait"]).await?;
    ensure!(
        said.code != Some(0) && said.error.contains("web-1 has still 1 in flight"),
        "{said:?}"
    );
    gate.open_wide();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_on_a_drained_backend_is_told_1001_at_the_deadline_and_not_before() -> Result<()>
{
    let world = World::new()?;
    let (one, goodbyes) = world.echoing("web-1")?;
    let (other, _) = world.echoing("web-2")?;
    let keys = "[balancing]\ndrain_deadline_s = 5\n";
    let balancer = world.balancer_over(&two(&one, &other), keys).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    for verb in ["drain", "maint"] {
        let before = goodbyes.load(Ordering::SeqCst);
        let mut sockets = [balancer.websocket().await?, balancer.websocket().await?];
        balancer.wait_for_in_flight(&[1, 1]).await?;
        let began = Instant::now();
        balancer.tell(&[verb, "web-1"]).await?;
        for socket in &mut sockets {
            ensure!(socket.is_alive().await, "it has ended at once");
        }
        balancer.wait_for_in_flight(&[0, 1]).await?;
        let took = began.elapsed();
        ensure!(
            took >= Duration::from_secs(5) && took < 2 * SOON,
            "{took:?}"
        );
        let mut said = Vec::new();
        for mut socket in sockets {
            said.push(socket.says().await?);
        }
        said.sort_unstable();
        ensure!(said == [None, Some(1001)], "{said:?}");
        let told = || goodbyes.load(Ordering::SeqCst) - before;
        wait_until("the backend is told", SOON, async || told() == 1).await?;
        balancer.tell(&["ready", "web-1"]).await?;
        balancer.wait_for_states(&["up", "up"]).await?;
        balancer.wait_for_in_flight(&[0, 0]).await?;
    }
    // Who is ready again in time keeps what it has.
    let mut sockets = [balancer.websocket().await?, balancer.websocket().await?];
    balancer.wait_for_in_flight(&[1, 1]).await?;
    let began = Instant::now();
    balancer.tell(&["drain", "web-1"]).await?;
    balancer.wait_for_state("web-1", "drain").await?;
    balancer.tell(&["ready", "web-1"]).await?;
    while began.elapsed() < Duration::from_secs(6) {
        for socket in &mut sockets {
            ensure!(socket.is_alive().await, "it has ended");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_at_a_backend_in_maintenance() -> Result<()> {
    let world = World::new()?;
    let (mut one, other) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &other], "").await?;
    balancer.tell(&["maint", "web-1"]).await?;
    // A look that had begun may end.
    let mut checks = one.checks();
    wait_until("checks of the other go on", SOON, async || {
        other.checks() > 2
    })
    .await?;
    checks = checks.max(one.checks());
    let of_other = other.checks();
    wait_until("checks of the other go on", SOON, async || {
        other.checks() > of_other + 5
    })
    .await?;
    ensure!(one.checks() <= checks + 1, "it is looked at");
    one.kill().await;
    ensure!(balancer.of("web-1").await?["state"] == "maint");
    // What was seen before is worth nothing: it is looked at before it gets anything.
    balancer.tell(&["ready", "web-1"]).await?;
    let downs = |one: &Value| matches!(one["state"].as_str(), Some("starting" | "down"));
    balancer
        .wait_for_backend("web-1", "it is not up", downs)
        .await?;
    one.revive()?;
    balancer.wait_for_states(&["up", "up"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_backend_may_go_and_come_and_stays_drained() -> Result<()> {
    let world = World::new()?;
    let (mut one, other) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let balancer = world.balancer_ready(&[&one, &other], "").await?;
    balancer.tell(&["drain", "web-1"]).await?;
    let failed = "balancer_health_checks_total{backend=\"web-1\",outcome=\"failed\"}";
    one.kill().await;
    wait_until("it is seen to be away", SOON, async || {
        balancer
            .metric(failed)
            .await
            .is_ok_and(|failed| failed >= 5)
    })
    .await?;
    ensure!(balancer.of("web-1").await?["state"] == "drain");
    one.revive()?;
    let ready = "balancer_health_checks_total{backend=\"web-1\",outcome=\"ready\"}";
    let before = balancer.metric(ready).await?;
    wait_until("it is seen to be well", SOON, async || {
        balancer
            .metric(ready)
            .await
            .is_ok_and(|ready| ready >= before + 5)
    })
    .await?;
    ensure!(balancer.of("web-1").await?["state"] == "drain" && one.count() == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_in_a_sentence_and_changes_nothing() -> Result<()> {
    let world = World::new()?;
    let (_backends, balancer) = over_two_that_are_up(&world).await?;
    for (arguments, words) in [
        (
            &["drain", "web-9"][..],
            &["no backend `web-9`", "web-1, web-2"][..],
        ),
        (&["ready", "web"], &["no backend `web`"]),
        (&["maint", "web-9", "--wait"], &["no backend `web-9`"]),
        (&["weight", "web-9", "3"], &["no backend `web-9`"]),
        (
            &["weight", "web-1", "0"],
            &["`0` is no weight", "1 to 1000", "drain"],
        ),
        (&["weight", "web-1", "1001"], &["`1001` is no weight"]),
        (&["weight", "web-1", "1.5"], &["`1.5` is no weight"]),
        (
            &["weight", "web-1", "99999999999999999999"],
            &["is no weight"],
        ),
        (
            &["mode", "active"],
            &["no mode `active`", "active-passive", "default"],
        ),
        (&["weight", "web-1"], &["<WEIGHT>"]),
        (&["drain"], &["<BACKEND>"]),
        // Words of its own would be another command.
        (
            &["drain", "web-1 web-2"],
            &["no command `drain web-1 web-2`"],
        ),
        (&["drain", ""], &["no command"]),
    ] {
        let error = balancer.fails(arguments).await?;
        for word in words {
            ensure!(error.contains(word), "{arguments:?}: no {word} in {error}");
        }
    }
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(
        !state_file(&balancer).exists(),
        "something was written: {}",
        written(&balancer)?
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_running_balancer_says_so() -> Result<()> {
    let world = World::new()?;
    let (one, _) = world.echoing("web-1")?;
    let mut balancer = world.balancer_before(&[&one], "").await?;
    balancer.stop(SOON).await?;
    let error = balancer.fails(&["drain", "web-1"]).await?;
    ensure!(
        error.contains("admin") || error.contains(".sock"),
        "{error}"
    );
    ensure!(!state_file(&balancer).exists());
    Ok(())
}

/// What cannot be written down would be forgotten by the next restart, and not reach the other balancer: it is not done at all.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_down_is_not_done() -> Result<()> {
    let world = World::new()?;
    let (one, _) = world.echoing("web-1")?;
    for place in ["missing/backends.json", "a-file/backends.json"] {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("a-file"), "")?;
        let path = directory.path().join(place);
        let keys = format!("[balancing]\nstate_file = {path:?}\n");
        let balancer = world.balancer_before(&[&one], &keys).await?;
        let before = balancer.metric("balancer_state_file_errors_total").await?;
        for arguments in [
            &["drain", "web-1"][..],
            &["weight", "web-1", "5"],
            &["mode", "active-passive"],
        ] {
            let error = balancer.fails(arguments).await?;
            for word in [
                "nothing is changed",
                path.to_str().context("a path")?,
                "balancing.state_file",
            ] {
                ensure!(error.contains(word), "no {word} in {error}");
            }
        }
        let status = balancer.of("web-1").await?;
        ensure!(
            status["state"] == "up" && status["weight"] == 100,
            "{status}"
        );
        ensure!(balancer.admin("status").await?["mode"] == "active-active");
        ensure!(answers(&balancer, 1).await? == ["web-1"]);
        let errors = balancer.metric("balancer_state_file_errors_total").await?;
        ensure!(errors >= before + 3, "{before} errors, then {errors}");
        // A file that cannot be looked at is told of once, not with every look.
        let told = balancer.told(&["cannot be read"]).len();
        ensure!(told <= 1, "told {told} times");
    }
    Ok(())
}

/// Writes the file as the balancers do: another one takes its place.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("test");
    fs::write(&new, text)?;
    Ok(fs::rename(new, path)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_in_the_file_is_told_of_and_what_was_wanted_stays() -> Result<()> {
    let world = World::new()?;
    let (_backends, balancer) = over_two_that_are_up(&world).await?;
    balancer.tell(&["drain", "web-1"]).await?;
    let path = state_file(&balancer);
    for (count, garbage) in (1..).zip([
        "",
        "drain web-1",
        "{\"backends\": {\"web-1\": {\"state\": \"gone\"}}}",
        "{\"backends\": {\"web-1\": {\"state\": \"drain\", \"colour\": 1}}}",
        "{\"backends\": {\"web-1\": {\"weight\": 0}}}",
        "{\"backends\": {\"web-1\": {\"weight\": 4294967295}}}",
        "{\"backends\": {\"web-1\": {\"weight\": -1}}}",
    ]) {
        replace(&path, garbage)?;
        wait_until("it is told of", SOON, async || {
            balancer.told(&["cannot be read", "backends.json"]).len() == count
        })
        .await
        .with_context(|| format!("{garbage:?}\n{}", balancer.program.log().join("\n")))?;
        let errors = balancer.metric("balancer_state_file_errors_total").await?;
        ensure!(errors == count as u64, "{errors} errors, {count} files");
        ensure!(balancer.of("web-1").await?["state"] == "drain");
        ensure!(answers(&balancer, 4).await? == ["web-2"]);
        ensure!(fs::read_to_string(&path)? == garbage, "it was written over");
    }
    // Nor is it written over by a verb.
    let error = balancer.fails(&["ready", "web-1"]).await?;
    ensure!(error.contains("nothing is changed"), "{error}");
    ensure!(fs::read_to_string(&path)?.contains("-1"));
    // What is good again is obeyed again.
    replace(&path, "{\"backends\": {\"web-2\": {\"state\": \"drain\"}}}")?;
    balancer.wait_for_states(&["up", "drain"]).await?;
    fs::remove_file(&path)?;
    balancer.wait_for_states(&["up", "up"]).await
}

/// A read that fails says nothing about what is in the file: it is read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_could_not_be_read_for_a_moment_is_obeyed_after_it() -> Result<()> {
    if fs::read_dir("/root").is_ok() {
        // Whoever may read everything is refused nothing: what cannot be read is a directory then.
        return directory_in_the_way().await;
    }
    let world = World::new()?;
    let (_backends, balancer) = over_two_that_are_up(&world).await?;
    let path = state_file(&balancer);
    let new = path.with_extension("test");
    fs::write(&new, "{\"backends\": {\"web-1\": {\"state\": \"drain\"}}}")?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o000))?;
    fs::rename(&new, &path)?;
    balancer.wait_for_told(&["cannot be read"]).await?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    balancer.wait_for_states(&["drain", "up"]).await
}

async fn directory_in_the_way() -> Result<()> {
    let world = World::new()?;
    let (_backends, balancer) = over_two_that_are_up(&world).await?;
    let path = state_file(&balancer);
    fs::create_dir(&path)?;
    balancer.wait_for_told(&["cannot be read"]).await?;
    fs::remove_dir(&path)?;
    replace(&path, "{\"backends\": {\"web-1\": {\"state\": \"drain\"}}}")?;
    balancer.wait_for_states(&["drain", "up"]).await
}

/// Two operators at once, at two balancers: no word is lost.
#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_given_at_once_are_all_obeyed() -> Result<()> {
    let world = World::new()?;
    let (one, _) = world.echoing("web-1")?;
    let list: Vec<(String, u16)> = (1..=8)
        .map(|number| (format!("web-{number}"), one.place().1))
        .collect();
    let list: Vec<(&str, u16, &str)> = list
        .iter()
        .map(|(name, port)| (name.as_str(), *port, ""))
        .collect();
    let first = world.balancer_named("balancer-1", &list, "").await?;
    let second = world.balancer_named("balancer-2", &list, "").await?;
    let words = (1..=8).map(|number| {
        let (balancer, name) = ([&first, &second][number % 2], format!("web-{number}"));
        async move { balancer.admin(&format!("drain {name}")).await }
    });
    for done in futures::future::join_all(words).await {
        done?;
    }
    for balancer in [&first, &second] {
        balancer.wait_for_states(&["drain"; 8]).await?;
    }
    let backends = written(&first)?["backends"].clone();
    ensure!(
        backends.as_object().is_some_and(|all| all.len() == 8),
        "{backends}"
    );
    Ok(())
}
