//! Queries as fast as they are answered, by one task and by many.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Extent;
use super::client::{Job, Outcome, Until};
use super::query::Query;
use super::report::Report;
use super::scene::{Groups, Scene};
use super::way::Way;
use super::worker::Worker;

/// How many tasks ask at one time: alone, to see how long a query takes, and enough to keep all cores busy.
const WIDTHS: [u32; 2] = [1, 16];

/// One query asked by so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) query: Query,
    pub(super) tasks: u32,
}

impl fmt::Display for Cell {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { query, tasks } = self;
        match tasks {
            1 => write!(to, "{}, 1 task", query.name()),
            _ => write!(to, "{}, {tasks} tasks", query.name()),
        }
    }
}

/// One way's turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    /// In microseconds, as are all times here.
    pub(super) median: f64,
    pub(super) p99: f64,
    /// CPU time of the client for each query.
    pub(super) client: f64,
    /// Of MySQL Router.
    pub(super) proxy: f64,
    /// Of both servers.
    pub(super) servers: f64,
}

impl Sample {
    fn of(outcome: &Outcome, [proxy, servers]: [Duration; 2]) -> Sample {
        let done = f64::from(outcome.done);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / done;
        Sample {
            per_second: done / outcome.time.as_secs_f64(),
            median: outcome.median,
            p99: outcome.p99,
            client: each(outcome.cpu),
            proxy: each(proxy),
            servers: each(servers),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{:.0}/s, p50 {:.0} µs, p99 {:.0} µs; CPU of the client {:.1} µs, of MySQL Router {:.1}, of the servers {:.1}",
            self.per_second, self.median, self.p99, self.client, self.proxy, self.servers
        )
    }
}

/// What a cell came to: each way's turns, in the order of the rounds.
pub(super) type Outcomes = BTreeMap<Cell, BTreeMap<Way, Vec<Sample>>>;

/// Every cell.
pub(super) async fn measure(
    ways: &[Way],
    queries: &[Query],
    scene: &Scene,
    extent: Extent,
    report: &mut Report,
) -> Result<()> {
    let mut clients = Vec::new();
    for &way in ways {
        let worker = Worker::start(&scene.client, &scene.setting(way)?).await?;
        clients.push((way, worker, scene.groups(way).await?));
    }
    for &query in queries {
        for tasks in WIDTHS {
            let cell = Cell { query, tasks };
            for (way, worker, groups) in &mut clients {
                if let Err(error) = turn(cell, worker, groups, extent.warm_up).await {
                    report.fail(&format!("{cell}, {way}, warming up"), &error);
                }
            }
            for round in 0..extent.rounds {
                // Nobody always comes after the same other one.
                let first = round as usize % clients.len();
                clients.rotate_left(first);
                for (way, worker, groups) in &mut clients {
                    match turn(cell, worker, groups, extent.length).await {
                        Ok(sample) => {
                            eprintln!("{cell}, {}/{}, {way}: {sample}", round + 1, extent.rounds);
                            report.traffic(cell, *way, sample);
                        }
                        Err(error) => report.fail(&format!("{cell}, {way}"), &error),
                    }
                }
            }
        }
    }
    for (_, worker, _) in clients {
        worker.end().await?;
    }
    Ok(())
}

async fn turn(
    cell: Cell,
    worker: &mut Worker,
    groups: &Groups,
    length: Duration,
) -> Result<Sample> {
    let before = groups.cpu()?;
    let outcome = worker
        .run(Job {
            query: cell.query,
            tasks: cell.tasks,
            until: Until::Over(length),
        })
        .await?;
    let after = groups.cpu()?;
    ensure!(
        outcome.failed == 0,
        "{} queries failed, {} did not: {}",
        outcome.failed,
        outcome.done,
        outcome.error.unwrap_or_default()
    );
    let used = |at: usize| after[at].saturating_sub(before[at]);
    Ok(Sample::of(&outcome, [used(0), used(1)]))
}
