//! Read-your-writes by a shared watermark: exact, and without a query for each read.
//!
//! Every acknowledged write gets the next number of one counter, and its session keeps that as its mark. While somebody waits, a
//! sampler notes the counter, *then* asks the primary what it has executed. A follower for each server waits until that one has executed
//! the same: from then on it is fresh for every mark up to the noted number. A sample that was asked for after a write's
//! acknowledgement contains it, so this is exact; one sample serves all who wait.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use replication::GtidSet;
use sqlx::MySqlConnection;
use tokio::{sync::Notify, time::timeout};

use crate::{Shared, choose, error::RouterError, login::Asking};

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
    /// For each server, what it said last that it has executed.
    said: Vec<ArcSwap<GtidSet>>,
    /// For each server, what it is known to have executed, at least.
    executed: Vec<ArcSwap<GtidSet>>,
    /// What the primary had executed at the last sample.
    sample: ArcSwap<Sample>,
    // The sampler and the followers wait for these while nobody needs them, without keeping the router alive.
    wanted: Arc<Notify>,
    sampled: Arc<Notify>,
}

struct Sample {
    /// When it was asked for; `None` before the first.
    at: Option<Instant>,
    /// The epoch that the primary was taken from.
    epoch: u64,
    mark: u64,
    executed: GtidSet,
}

impl Watermark {
    pub(crate) fn new(servers: usize) -> Self {
        Self {
            writes: AtomicU64::new(0),
            applied: (0..servers).map(|_| AtomicU64::new(0)).collect(),
            said: (0..servers)
                .map(|_| ArcSwap::from_pointee(GtidSet::default()))
                .collect(),
            executed: (0..servers)
                .map(|_| ArcSwap::from_pointee(GtidSet::default()))
                .collect(),
            sample: ArcSwap::from_pointee(Sample {
                at: None,
                epoch: 0,
                mark: 0,
                executed: GtidSet::default(),
            }),
            wanted: Arc::default(),
            sampled: Arc::default(),
        }
    }

    /// The number of the last acknowledged write.
    pub(crate) fn written(&self) -> u64 {
        self.writes.load(Ordering::Acquire)
    }

    /// A write was acknowledged: its number, for the session's mark.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The server has executed every write up to `mark`.
    pub(crate) fn applied(&self, server: usize, mark: u64) {
        self.applied[server].fetch_max(mark, Ordering::AcqRel);
    }

    /// What the server itself says that it has executed. One that no longer has what it said before is another one, made anew under the same
    /// name: nothing is known of it.
    pub(crate) fn said(&self, server: usize, set: &GtidSet) {
        let before = self.said[server].swap(Arc::new(set.clone()));
        let is_another = !set.contains(&before);
        if is_another {
            self.applied[server].store(0, Ordering::Release);
        }
        if is_another || set.contains(&self.executed[server].load()) {
            self.executed[server].store(Arc::new(set.clone()));
        }
    }

    /// The server is known to have executed this, and perhaps more.
    fn executed_at_least(&self, server: usize, set: &GtidSet) {
        if !self.has_set(server, set) {
            self.executed[server].store(Arc::new(set.clone()));
        }
    }

    /// Whether the server has executed every write up to `mark`.
    pub(crate) fn has(&self, server: usize, mark: u64) -> bool {
        self.applied[server].load(Ordering::Acquire) >= mark
    }

    /// Whether the server is known to have executed all of `set`.
    pub(crate) fn has_set(&self, server: usize, set: &GtidSet) -> bool {
        self.executed[server].load().contains(set)
    }

    /// Whether the primary of `epoch` or a later one, asked after `since`, has never executed `set`: then it is of a history that is gone.
    pub(crate) fn is_gone(&self, set: &GtidSet, epoch: u64, since: Instant) -> bool {
        let sample = self.sample.load();
        sample.epoch >= epoch
            && sample.at.is_some_and(|at| at > since)
            && !sample.executed.contains(set)
    }

    /// Somebody waits for a sample.
    fn want(&self) {
        self.wanted.notify_one();
    }

    /// Somebody waits for a server to have `mark`; if the last sample covers it, the followers are at it.
    pub(crate) fn want_mark(&self, mark: u64) {
        if self.sample.load().mark < mark {
            self.want();
        }
    }

    /// The same for what a token proves.
    pub(crate) fn want_set(&self, set: &GtidSet) {
        if !self.sample.load().executed.contains(set) {
            self.want();
        }
    }
}

/// What the primary has executed, from a sample that covers `mark`, without heartbeats; and the epoch of that primary.
pub(crate) async fn executed_by_primary(
    shared: &Shared,
    mark: u64,
) -> Result<(u64, GtidSet), RouterError> {
    let waiting = async {
        loop {
            let sampled = shared.watermark.sampled.notified();
            let sample = shared.watermark.sample.load();
            if sample.at.is_some() && sample.mark >= mark {
                let executed = sample.executed.without_tag(HEARTBEAT_TAG);
                return (sample.epoch, executed);
            }
            shared.watermark.want();
            // A sample that fails tells nobody: want another one.
            let _ = timeout(PAUSE_AFTER_ERROR, sampled).await;
        }
    };
    let limit = shared.config.statement_timeout();
    timeout(limit, waiting)
        .await
        .map_err(|_| match shared.view.load().readable_primary() {
            Some(primary) => {
                let server = shared.servers[primary].name().to_owned();
                RouterError::DeadlineExceeded { server, limit }
            }
            None => choose::no_primary(shared),
        })
}

/// Samples whenever somebody wants one, until the router is gone.
pub(crate) async fn sample(shared: Weak<Shared>) {
    let mut connections: Vec<Option<Asking>> = Vec::new();
    let Some(wanted) = shared.upgrade().map(|now| now.watermark.wanted.clone()) else {
        return;
    };
    loop {
        wanted.notified().await;
        let Some(now) = shared.upgrade() else { return };
        connections.resize_with(now.servers.len(), || None);
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
    connections: &mut [Option<Asking>],
) -> Result<(), sqlx::Error> {
    // The mark first: a write that it counts was sent to a primary that the view, loaded after it, knows.
    let (at, mark) = (Instant::now(), shared.watermark.written());
    let view = shared.view.load_full();
    let Some(primary) = view.readable_primary() else {
        // Nothing to ask; the probes tell when there is.
        return Err(sqlx::Error::PoolClosed);
    };
    let query = "SELECT @@GLOBAL.gtid_executed";
    let slot = &mut connections[primary];
    let executed: String = ask(shared, primary, slot, async |connection| {
        sqlx::query_scalar(query).fetch_one(connection).await
    })
    .await?;
    let set: GtidSet = executed
        .parse()
        .map_err(|error: replication::GtidError| sqlx::Error::Decode(error.into()))?;
    shared.metrics.samples.inc();
    shared.watermark.applied(primary, mark);
    shared.watermark.executed_at_least(primary, &set);
    shared.watermark.sample.store(Arc::new(Sample {
        at: Some(at),
        epoch: view.epoch,
        mark,
        executed: set,
    }));
    shared.watermark.sampled.notify_waiters();
    Ok(())
}

/// Waits, for every sample, until this server has executed it; until the router is gone. A follower of its own for each server, so that
/// one that is far behind holds nobody up.
pub(crate) async fn follow(shared: Weak<Shared>, server: usize) {
    let mut connection = None;
    let Some(sampled) = shared.upgrade().map(|now| now.watermark.sampled.clone()) else {
        return;
    };
    loop {
        let next = sampled.notified();
        let Some(now) = shared.upgrade() else { return };
        let watermark = &now.watermark;
        let sample = watermark.sample.load_full();
        let view = now.view.load_full();
        let is_behind = sample.at.is_some()
            && view.servers[server].up
            && !(watermark.has(server, sample.mark) && watermark.has_set(server, &sample.executed));
        if !is_behind {
            drop(now);
            // Not for ever: it may have been away when it was sampled.
            let _ = timeout(REACH, next).await;
            continue;
        }
        let set = sample.executed.to_string();
        let reached = ask(&now, server, &mut connection, async |connection| {
            let reached: Option<i64> =
                sqlx::query_scalar("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)")
                    .bind(set)
                    .bind(REACH.as_secs_f64())
                    .fetch_one(connection)
                    .await?;
            Ok(reached)
        });
        match reached.await {
            Ok(Some(0)) => {
                watermark.applied(server, sample.mark);
                watermark.executed_at_least(server, &sample.executed);
                // Whoever waits for room may find it there now.
                now.changed.notify_waiters();
            }
            Ok(_) => {}
            Err(error) => {
                let server = now.servers[server].name();
                tracing::debug!(server, %error, "not known whether it has executed a sample");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Asks on a connection of the caller's own, which a full pool cannot delay.
async fn ask<T>(
    shared: &Shared,
    server: usize,
    slot: &mut Option<Asking>,
    question: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let limit = shared.config.probe_timeout() + REACH;
    let answer = timeout(limit, async {
        let login = &shared.servers[server].pool.login;
        let asking = match &mut *slot {
            Some(asking) => {
                login.renew(asking, limit / 3).await;
                asking
            }
            none => none.insert(login.connect_to_ask().await?),
        };
        question(&mut asking.connection).await
    })
    .await
    .unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())));
    if answer.is_err() {
        *slot = None;
        shared.suspect();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &str) -> GtidSet {
        format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{numbers}")
            .parse()
            .unwrap()
    }

    #[test]
    fn a_server_that_was_made_anew_has_nothing_that_was_known_of_the_one_before() {
        let watermark = Watermark::new(1);
        watermark.said(0, &set("1-7"));
        watermark.applied(0, 3);
        watermark.executed_at_least(0, &set("1-9"));
        // An answer that was on its way is older than what a follower knows, and takes nothing back.
        watermark.said(0, &set("1-8"));
        assert!(watermark.has(0, 3) && watermark.has_set(0, &set("9")));
        watermark.said(0, &set("1-5"));
        assert!(!watermark.has(0, 1) && !watermark.has_set(0, &set("6")));
        assert!(watermark.has_set(0, &set("5")));
    }
}
