//! Reads with one server and with two, through the same `&Router`.
//!
//! Client and servers share one machine, so two servers have no more processors than one. That there is more to be had with two shows
//! only where each server has a ration of CPU time, as if it were a machine of its own: the engine's `--cpus`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Extent;
use super::client::{Job, Until};
use super::query::Query;
use super::report::Report;
use super::scene::{self, Commands, Scene};
use super::worker::Worker;
use harness::docker;
use harness::{Account, Server};

/// What each server may use of a processor.
const RATION: &str = "0.25";

/// The same in the engine's words for as much as there is.
const UNLIMITED: &str = "0";

/// Connections to each server. More tasks than these fill the replica, and what it has no room for spills over.
const CONNECTIONS: u32 = 8;

/// Of which the router leaves a quarter of the primary's to writes.
const TASKS: u32 = 12;

/// A turn is longer than others, for a ration is given out ten times a second.
const LENGTH_FACTOR: u32 = 2;

/// What a turn came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    pub(super) p99: f64,
    /// What part of the reads the primary answered, 0 to 1.
    pub(super) on_primary: f64,
}

/// Whether servers are rationed, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) rationed: bool,
    pub(super) servers: usize,
}

/// Each case's turns.
pub(super) type Outcomes = BTreeMap<Case, Vec<Sample>>;

/// With a ration, and without.
pub(super) async fn measure(scene: &Scene, extent: Extent, report: &mut Report) -> Result<()> {
    let (primary, replica) = (scene.pair.mysql_1(), scene.pair.mysql_2());
    let settings = [
        (1, scene.router_of(&[replica], CONNECTIONS)),
        (2, scene.router_of(&[primary, replica], CONNECTIONS)),
    ];
    let mut clients = Vec::new();
    for (servers, setting) in settings {
        clients.push((servers, Worker::start(&scene.client, &setting).await?));
    }
    for rationed in [false, true] {
        let cpus = if rationed { RATION } else { UNLIMITED };
        for server in [primary, replica] {
            ration(server, cpus).await?;
        }
        for (_, worker) in &mut clients {
            reads(worker, extent.warm_up).await?;
        }
        for _ in 0..extent.rounds {
            for (servers, worker) in &mut clients {
                let case = Case {
                    rationed,
                    servers: *servers,
                };
                let sample = turn(scene, worker, extent.length * LENGTH_FACTOR).await?;
                eprintln!("{case:?}: {sample:?}");
                report.two_servers(case, sample);
            }
        }
    }
    for server in [primary, replica] {
        ration(server, UNLIMITED).await?;
    }
    for (_, worker) in clients {
        worker.end().await?;
    }
    Ok(())
}

async fn turn(scene: &Scene, worker: &mut Worker, length: Duration) -> Result<Sample> {
    let before = [
        executed(scene.pair.mysql_1()).await?,
        executed(scene.pair.mysql_2()).await?,
    ];
    let outcome = reads(worker, length).await?;
    let on_primary = executed(scene.pair.mysql_1()).await? - before[0];
    let on_replica = executed(scene.pair.mysql_2()).await? - before[1];
    #[expect(clippy::cast_precision_loss, reason = "a few hundred thousand")]
    Ok(Sample {
        per_second: f64::from(outcome.done) / outcome.time.as_secs_f64(),
        p99: outcome.p99,
        on_primary: on_primary as f64 / (on_primary + on_replica) as f64,
    })
}

async fn reads(worker: &mut Worker, length: Duration) -> Result<super::client::Outcome> {
    let outcome = worker
        .run(Job {
            query: Query::Point,
            tasks: TASKS,
            until: Until::Over(length),
        })
        .await?;
    ensure!(
        outcome.failed == 0,
        "{} reads failed: {}",
        outcome.failed,
        outcome.error.unwrap_or_default()
    );
    Ok(outcome)
}

async fn executed(server: &Server) -> Result<u64> {
    let mut observer = server.connect(Account::Monitor).await?;
    let commands: Commands = scene::commands(&mut observer).await?;
    Ok(commands.get("Execute").copied().unwrap_or_default())
}

async fn ration(server: &Server, cpus: &str) -> Result<()> {
    docker(["update", "--cpus", cpus, server.container()])
        .await
        .map(drop)
}
