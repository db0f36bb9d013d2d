//! Read-your-writes by a shared watermark: exact, and without a query for each read.
//!
//! Every acknowledged write gets the next number of one counter, and its session keeps that as its mark. While somebody waits, a
//! sampler notes the counter, *then* asks the primary what it has executed, and waits until a replica has executed that: from then on
//! the replica is fresh for every mark up to the noted number. A sample that was asked for after a write's acknowledgement
//! contains it, so this is exact; one sample serves all who wait.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use replication::GtidSet;
use sqlx::{ConnectOptions, MySqlConnection};
use tokio::{sync::Notify, time::timeout};

use crate::{Shared, choose, error::RouterError};

/// How long a replica may take to reach a sample before the next is taken.
const REACH: Duration = Duration::from_millis(200);
/// Between two samples: enough for many writers to share one.
const PAUSE: Duration = Duration::from_millis(1);
/// After a sample that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// The arbiter's heartbeats carry this tag; a token does not need them.
const HEARTBEAT_TAG: &str = "arbiter";

pub(crate) struct Watermark {
    /// Numbers the acknowledged writes of this process.
    writes: AtomicU64,
    /// For each server, up to which number it has executed them.
    applied: Vec<AtomicU64>,
    /// For each server, what it is known to have executed, at least.
    executed: Vec<ArcSwap<GtidSet>>,
    /// What the primary had executed at the last sample.
    sample: ArcSwap<Sample>,
    wanted: Notify,
    sampled: Notify,
}

struct Sample {
    /// When it was asked for; `None` before the first.
    at: Option<Instant>,
    mark: u64,
    executed: GtidSet,
}

impl Watermark {
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            writes: AtomicU64::new(0),
            applied: (0..servers).map(|_| AtomicU64::new(0)).collect(),
            executed: (0..servers)
                .map(|_| ArcSwap::from_pointee(GtidSet::default()))
                .collect(),
            sample: ArcSwap::from_pointee(Sample {
                at: None,
                mark: 0,
                executed: GtidSet::default(),
            }),
            wanted: Notify::new(),
            sampled: Notify::new(),
        }
    }

    /// The number of the last acknowledged write.
    pub(crate) fn written(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// A write was acknowledged: its number, for the session's mark.
    pub(crate) fn acknowledged(&self) -> u64 {
        let mark = self.writes.fetch_add(1, Ordering::AcqRel) + 1;
        self.wanted.notify_one();
        mark
    }

    pub(crate) fn applied(&self, server: usize, mark: u64) {
        self.applied[server].fetch_max(mark, Ordering::AcqRel);
    }

    pub(crate) fn executed(&self, server: usize, set: &GtidSet) {
        self.executed[server].store(Arc::new(set.clone()));
    }

    /// Whether the server has executed every write up to `mark`.
    pub(crate) fn has(&self, server: usize, mark: u64) -> bool {
        self.applied[server].load(Ordering::Acquire) >= mark
    }

    /// Whether the server is known to have executed all of `set`.
    pub(crate) fn has_set(&self, server: usize, set: &GtidSet) -> bool {
        self.executed[server].load().contains(set)
    }

    /// Whether the primary, asked after `since`, has never executed `set`: then it is of a history that is gone.
    pub(crate) fn is_gone(&self, set: &GtidSet, since: Instant) -> bool {
        let sample = self.sample.load();
        sample.at.is_some_and(|at| at > since) && !sample.executed.contains(set)
    }

    /// Somebody waits for the next sample.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }
}

/// What the primary has executed, from a sample that covers `mark`; without heartbeats.
pub(crate) async fn executed_by_primary(
    shared: &Shared,
    mark: u64,
) -> Result<GtidSet, RouterError> {
    let waiting = async {
        loop {
            let sampled = shared.watermark.sampled.notified();
            let sample = shared.watermark.sample.load();
            if sample.at.is_some() && sample.mark >= mark {
                return sample.executed.without_tag(HEARTBEAT_TAG);
            }
            shared.watermark.want();
            sampled.await;
        }
    };
    let limit = shared.config.statement_timeout();
    timeout(limit, waiting)
        .await
        .map_err(|_| match shared.view.load().readable_primary() {
            Some(primary) => {
                let server = shared.servers[primary].endpoint.name.clone();
                RouterError::DeadlineExceeded { server, limit }
            }
            None => choose::no_primary(shared),
        })
}

/// Samples whenever somebody wants one, until the router is gone.
pub(crate) async fn sample(shared: Weak<Shared>) {
    let mut connections: Vec<Option<MySqlConnection>> = Vec::new();
    loop {
        let Some(now) = shared.upgrade() else { return };
        connections.resize_with(now.servers.len(), || None);
        now.watermark.wanted.notified().await;
        match one_sample(&now, &mut connections).await {
            Ok(()) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                tracing::debug!(%error, "no sample of what the primary has executed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

async fn one_sample(
    shared: &Shared,
    connections: &mut [Option<MySqlConnection>],
) -> Result<(), sqlx::Error> {
    let view = shared.view.load_full();
    let Some(primary) = view.readable_primary() else {
        // Nothing to ask; the probes tell when there is.
        return Err(sqlx::Error::PoolClosed);
    };
    let (at, mark) = (Instant::now(), shared.watermark.written());
    let query = "SELECT @@GLOBAL.gtid_executed";
    let executed: String = ask(shared, primary, connections, async |connection| {
        sqlx::query_scalar(query).fetch_one(connection).await
    })
    .await?;
    let set: GtidSet = executed
        .parse()
        .map_err(|error: replication::GtidError| sqlx::Error::Decode(error.into()))?;
    shared.metrics.samples.inc();
    shared.watermark.applied(primary, mark);
    shared.watermark.executed(primary, &set);
    shared.watermark.sample.store(Arc::new(Sample {
        at: Some(at),
        mark,
        executed: set.clone(),
    }));
    shared.watermark.sampled.notify_waiters();

    let mut behind = false;
    for (replica, server) in view.servers.iter().enumerate() {
        if replica == primary
            || !server.up
            || shared.watermark.has(replica, mark) && shared.watermark.has_set(replica, &set)
        {
            continue;
        }
        let reached = ask(shared, replica, connections, async |connection| {
            let reached: Option<i64> =
                sqlx::query_scalar("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)")
                    .bind(&executed)
                    .bind(REACH.as_secs_f64())
                    .fetch_one(connection)
                    .await?;
            Ok(reached)
        })
        .await?;
        if reached == Some(0) {
            shared.watermark.applied(replica, mark);
            shared.watermark.executed(replica, &set);
        } else {
            behind = true;
        }
    }
    if behind {
        shared.watermark.want();
    }
    Ok(())
}

/// Asks on a connection of the sampler's own, which a full pool cannot delay.
async fn ask<T>(
    shared: &Shared,
    server: usize,
    connections: &mut [Option<MySqlConnection>],
    question: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let slot = &mut connections[server];
    let limit = shared.config.probe_timeout() + REACH;
    let answer = timeout(limit, async {
        let connection = match &mut *slot {
            Some(connection) => connection,
            none => none.insert(shared.servers[server].options.connect().await?),
        };
        question(connection).await
    })
    .await
    .unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())));
    if answer.is_err() {
        *slot = None;
        shared.suspect();
    }
    answer
}
