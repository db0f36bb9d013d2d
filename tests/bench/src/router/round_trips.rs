//! Round trips per query: counted on the wire by a relay, and by kind by the server that was asked.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Account, wait_for};

use super::client::{Job, Until};
use super::query::Query;
use super::scene::{self, Commands, Scene};
use super::way::Way;
use super::worker::Worker;

/// Before it counts, so that connections are there and statements prepared.
const WARM_UP: u32 = 50;

/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(10);

/// Of a way and a query.
#[derive(Clone, Debug)]
pub(super) struct RoundTrips {
    /// Between the client and whom it is connected to.
    pub(super) of_client: f64,
    /// What the server that has to do it was told, by kind.
    pub(super) at_server: BTreeMap<String, f64>,
}

/// Each query so many times, one after the other.
pub(super) async fn count(
    way: Way,
    queries: &[Query],
    number: u32,
    scene: &Scene,
) -> Result<BTreeMap<Query, RoundTrips>> {
    let (setting, relays) = scene.setting_relayed(way).await?;
    let mut worker = Worker::start(&scene.client, &setting).await?;
    let job = |query, number| Job {
        query,
        tasks: 1,
        until: Until::Each(number),
    };
    let mut counted = BTreeMap::new();
    for &query in queries {
        let server = match query {
            Query::Point | Query::Ten => scene.pair.mysql_2(),
            Query::Insert => scene.pair.mysql_1(),
        };
        let mut observer = server.connect(Account::Monitor).await?;
        worker.run(job(query, WARM_UP)).await?;
        let before = scene::commands(&mut observer).await?;
        let turns = relays.turns();
        let outcome = worker.run(job(query, number)).await?;
        let turns = relays.turns() - turns;
        ensure!(
            outcome.failed == 0,
            "{} of {number} queries failed: {}",
            outcome.failed,
            outcome.error.unwrap_or_default()
        );
        // A server counts a command after it has answered it.
        let counted_there = wait_for("the server has counted them", SOON, async || {
            let now = scene::commands(&mut observer).await.ok()?;
            let at_server = scene::since(&before, &now);
            let executed = at_server.get("Execute").copied().unwrap_or_default();
            (executed >= u64::from(number)).then_some(at_server)
        });
        let at_server = counted_there
            .await
            .with_context(|| format!("{} was to do it", server.name()))?;
        counted.insert(
            query,
            RoundTrips {
                of_client: each(turns, number),
                at_server: shares(&at_server, number),
            },
        );
    }
    worker.end().await.context("end the client")?;
    Ok(counted)
}

fn shares(commands: &Commands, number: u32) -> BTreeMap<String, f64> {
    let shares = commands
        .iter()
        .map(|(kind, count)| (kind.clone(), each(*count, number)));
    // What a probe asks now and then is no part of a query.
    shares.filter(|(_, share)| *share >= 0.05).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn each(count: u64, number: u32) -> f64 {
    count as f64 / f64::from(number)
}
