//! A model-based random test of the router: clients write and read by two processes while links are cut, silent or slow, servers frozen or
//! killed, the replica late, and roles changed.
//!
//! What is held: nobody who proves a write reads from before it, in either process; nothing acknowledged or seen is lost and nothing is done
//! twice; no replica executes anything of its own; every call ends in time and with a documented error.
//!
//! A round has a seed, which is printed, and from which all dice are: what is broken when and for how long, and what each client tries.
//! Two runs of a seed break the same things at the same times; which statement meets which of it is the machine's business, so a fault that
//! is rare may take some runs to come again. `HOLDFAST_ROUTER_MODEL_SECONDS=600` makes round after round, with the next seed each, for so
//! long; `HOLDFAST_ROUTER_MODEL_SEED=7` begins with that one.

mod clients;
mod faults;
mod history;
mod judge;
mod process;
#[path = "../router_common/mod.rs"]
mod router_common;
mod verdict;
mod worker;
mod world;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use harness::wait_until;
use serde_json::json;
use tokio::time::timeout;

use crate::clients::{CLIENTS, Client, Scene};
use crate::judge::{Judge, Limits};
use crate::process::{Process, WORKER};
use crate::router_common::SOON;
use crate::verdict::Verdict;
use crate::world::World;

/// How long a round breaks things, at least. What is under way is finished, and all is healed and looked at, after it.
const ROUND: Duration = Duration::from_secs(20);

/// Far above what a round takes on a machine that is busy with other tests.
const ROUND_MAX: Duration = Duration::from_secs(280);

/// What a call may take beyond its statement timeout, on such a machine.
const MARGIN: Duration = Duration::from_secs(2);

/// Does nothing by itself: [`Process`] starts it with a variable set, and then it is a worker.
#[test]
fn worker() -> Result<()> {
    if env::var_os(WORKER).is_none() {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(worker::serve())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_nothing_is_stale_lost_doubled_or_without_an_end() -> Result<()> {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().context(text))
    };
    let seconds = number("HOLDFAST_ROUTER_MODEL_SECONDS")
        .transpose()?
        .unwrap_or(0);
    let mut seed = number("HOLDFAST_ROUTER_MODEL_SEED")
        .transpose()?
        .unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        eprintln!("HOLDFAST_ROUTER_MODEL_SEED={seed}");
        let round = timeout(ROUND_MAX, round(seed)).await;
        let round = round.with_context(|| format!("the round was not over within {ROUND_MAX:?}"));
        let repeat = || format!("HOLDFAST_ROUTER_MODEL_SEED={seed} repeats it");
        eprintln!("{}", round.flatten().with_context(repeat)?);
        if Instant::now() >= end {
            return Ok(());
        }
        seed += 1;
    }
}

async fn round(seed: u64) -> Result<Verdict> {
    let (world, roles) = World::start().await?;
    let process = async |process: usize, consumer: &str| {
        Process::start(&world.pair, consumer, &world.config_of(process)).await
    };
    let processes = [process(0, "web-1").await?, process(1, "web-2").await?];
    let mut scene = Scene::new(processes);
    scene.began = world.began;
    let scene = Arc::new(scene);
    whole(&scene).await?;

    let over = AtomicBool::new(false);
    let end = Instant::now() + ROUND;
    let clients = (0..CLIENTS).map(|number| Client::new(scene.clone(), number, seed));
    let roles = async {
        let roles = faults::roles(&world, roles, seed, end).await;
        over.store(true, Ordering::Release);
        roles
    };
    let broken = tokio::try_join!(
        roles,
        faults::links(&world, 0, seed, &over),
        faults::links(&world, 1, seed, &over),
        faults::servers(&world, seed, &over),
        try_join_all(clients.map(|client| client.run(&over))),
    );
    let (roles, (), (), (), mut clients) = match broken {
        Ok(broken) => broken,
        Err(error) => return Err(error.context(world.account().await)),
    };

    world.heal().await?;
    whole(&scene).await.context("after everything was healed")?;
    for client in &mut clients {
        client.settle().await?;
    }
    drop(clients);
    let scene = Arc::into_inner(scene).context("the clients have ended")?;
    let [one, two] = scene.processes;
    one.stop().await?;
    two.stop().await?;
    let tables = world.in_the_end(&roles).await?;

    let mut events = scene.events.into_inner().expect("nothing panics with it");
    events.sort_by_key(|event| event.began);
    let config = world.config_of(0);
    let limits = Limits {
        call: Duration::from_millis(config.statement_timeout_ms) + MARGIN,
        age: Duration::from_millis(config.max_lag_ms),
    };
    let judge = Judge::new(&events, limits);
    let mut found = judge.on_the_way();
    found.extend(judge.in_the_end(&tables));
    let troubles = world
        .troubles
        .lock()
        .expect("nothing panics with it")
        .clone();
    let verdict = Verdict {
        events,
        troubles,
        found,
    };
    ensure!(verdict.found.is_empty(), "{}", verdict.story());
    verdict.is_worth_something()?;
    Ok(verdict)
}

/// Both processes can write to the primary and read from the replica.
async fn whole(scene: &Scene) -> Result<()> {
    for process in &scene.processes {
        let mut health = json!(null);
        let whole = wait_until("the process knows both servers", SOON, async || {
            health = process
                .ask(json!({ "do": "health" }))
                .await
                .unwrap_or_default();
            health["whole"] == true
        });
        let whole = whole.await;
        whole.with_context(|| health.to_string())?;
    }
    Ok(())
}
