//! What is known of the servers: each is asked every few hundred milliseconds, at once when something looks wrong.
//!
//! Roles are taken from `holdfast.cluster`: the highest epoch that was ever read on any server wins, for a server that was cut off may
//! still hold an older one.

use std::{
    sync::{Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use replication::{
    ClusterRow, Lag, ReplicaFacts, ServerFacts, cluster_row, replica_facts, server_facts,
};
use sqlx::{ConnectOptions, MySqlConnection};
use tokio::time::timeout;

use crate::{Shared, pool::Server};

/// Between two rounds of probes, however suspicious somebody is.
const PAUSE: Duration = Duration::from_millis(10);

/// What the last round of probes found.
#[derive(Clone)]
pub(crate) struct View {
    /// When the round began; `None` before the first.
    pub(crate) began: Option<Instant>,
    pub(crate) servers: Vec<ServerView>,
    pub(crate) row: Option<ClusterRow>,
    pub(crate) epoch: u64,
    /// The index of the primary of the highest epoch, whether it is there or not.
    pub(crate) primary: Option<usize>,
}

/// One server in it.
#[derive(Clone)]
pub(crate) struct ServerView {
    pub(crate) up: bool,
    /// Why it is not up.
    pub(crate) error: String,
    pub(crate) facts: Option<ServerFacts>,
    pub(crate) replica: Option<ReplicaFacts>,
}

impl View {
    pub(crate) fn unknown(servers: usize) -> Self {
        let server = ServerView {
            up: false,
            error: "not asked yet".to_owned(),
            facts: None,
            replica: None,
        };
        Self {
            began: None,
            servers: vec![server; servers],
            row: None,
            epoch: 0,
            primary: None,
        }
    }

    /// The primary, if it takes writes.
    pub(crate) fn writable_primary(&self) -> Option<usize> {
        let primary = self.primary?;
        let server = &self.servers[primary];
        let facts = server.facts.as_ref()?;
        let open = server.up && !facts.read_only && !facts.super_read_only && !facts.offline_mode;
        (open && self.is_the_published(primary)).then_some(primary)
    }

    /// The primary, if it answers reads: it may be closed to writes.
    pub(crate) fn readable_primary(&self) -> Option<usize> {
        self.primary
            .filter(|&primary| self.servers[primary].up && self.is_the_published(primary))
    }

    /// A server of the primary's name with another data directory is another server.
    fn is_the_published(&self, primary: usize) -> bool {
        match (&self.row, &self.servers[primary].facts) {
            (Some(row), Some(facts)) => row.primary_uuid == facts.uuid,
            _ => false,
        }
    }

    /// Whether every answer was asked for after this.
    pub(crate) fn asked_after(&self, time: Instant) -> bool {
        self.began.is_some_and(|began| began > time)
    }

    /// How old a replica's data may be by now; `None` where that is not known.
    pub(crate) fn age(&self, server: usize) -> Option<Duration> {
        Some(self.lag(server)?.bound()? + self.began?.elapsed())
    }

    /// How old a replica's data may have been when it was asked.
    pub(crate) fn lag(&self, server: usize) -> Option<Lag> {
        let server = &self.servers[server];
        Some(
            server
                .replica
                .as_ref()?
                .lag(&server.facts.as_ref()?.executed),
        )
    }

    /// Whether the replica was in sync and has applied all that it received: then it has every acknowledged write.
    pub(crate) fn complete(&self, server: usize, name: &str) -> bool {
        let in_sync = self
            .row
            .as_ref()
            .is_some_and(|row| row.in_sync.iter().any(|member| member == name));
        let server = &self.servers[server];
        match (&server.facts, &server.replica) {
            (Some(facts), Some(replica)) => {
                in_sync && server.up && facts.executed.contains(&replica.received)
            }
            _ => false,
        }
    }
}

/// Asks for ever, until the router is gone.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut connections: Vec<Option<MySqlConnection>> = Vec::new();
    loop {
        let Some(now) = shared.upgrade() else { return };
        connections.resize_with(now.servers.len(), || None);
        round(&now, &mut connections).await;
        let interval = now.config.probe_interval();
        // A round that somebody asks for follows at once, but not in a tight loop.
        tokio::time::sleep(PAUSE).await;
        let _ = timeout(interval, now.suspicion.notified()).await;
    }
}

async fn round(shared: &Shared, connections: &mut [Option<MySqlConnection>]) {
    // Read before the servers are asked: what is acknowledged later is not covered by their answers.
    let (began, mark) = (Instant::now(), shared.watermark.written());
    let limit = shared.config.probe_timeout();
    let probes = shared
        .servers
        .iter()
        .zip(connections)
        .map(async |(server, connection)| {
            let answer = timeout(limit, probe(server, connection)).await;
            let answer = match answer {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(describe(&error)),
                Err(_) => Err(format!("no answer within {limit:?}")),
            };
            if answer.is_err() {
                *connection = None;
            }
            answer
        });
    let answers = futures::future::join_all(probes).await;

    let before = shared.view.load();
    let mut view = View {
        began: Some(began),
        servers: Vec::new(),
        row: before.row.clone(),
        epoch: before.epoch,
        primary: before.primary,
    };
    for answer in answers {
        view.servers.push(match answer {
            Ok(answer) => {
                if let Some(row) = answer.row.filter(|row| row.epoch >= view.epoch) {
                    view.epoch = row.epoch;
                    view.row = Some(row);
                }
                ServerView {
                    up: true,
                    error: String::new(),
                    facts: Some(answer.facts),
                    replica: answer.replica,
                }
            }
            Err(error) => ServerView {
                up: false,
                error,
                facts: None,
                replica: None,
            },
        });
    }
    let primary = view.row.as_ref().map(|row| row.primary_server.as_str());
    view.primary = shared
        .servers
        .iter()
        .position(|server| Some(server.endpoint.name.as_str()) == primary);
    for (index, server) in shared.servers.iter().enumerate() {
        let (was, is) = (&before.servers[index], &view.servers[index]);
        let name = &server.endpoint.name;
        if was.up != is.up {
            if is.up {
                tracing::info!(server = name, "database server is there");
            } else {
                tracing::warn!(server = name, error = is.error, "database server is away");
            }
        }
        if let Some(facts) = &is.facts {
            shared.watermark.executed(index, &facts.executed);
        }
        if view.complete(index, name) {
            shared.watermark.applied(index, mark);
        }
        shared
            .metrics
            .up
            .with_label_values(&[name])
            .set(is.up.into());
        let lag = view
            .lag(index)
            .and_then(|lag| lag.bound())
            .map_or(-1.0, |lag| lag.as_secs_f64());
        shared.metrics.lag.with_label_values(&[name]).set(lag);
    }
    if before.epoch != view.epoch || before.primary != view.primary {
        let primary = view
            .primary
            .map(|index| shared.servers[index].endpoint.name.clone());
        tracing::info!(epoch = view.epoch, primary, "roles");
    }
    shared
        .metrics
        .epoch
        .set(i64::try_from(view.epoch).unwrap_or(i64::MAX));
    shared.view.store(view.into());
    shared.rounds.fetch_add(1, Ordering::AcqRel);
    shared.probed.notify_waiters();
}

struct Answer {
    facts: ServerFacts,
    row: Option<ClusterRow>,
    replica: Option<ReplicaFacts>,
}

async fn probe(
    server: &Server,
    connection: &mut Option<MySqlConnection>,
) -> Result<Answer, sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(server.options.connect().await?),
    };
    Ok(Answer {
        row: cluster_row(connection).await?,
        replica: replica_facts(connection).await?,
        facts: server_facts(connection).await?,
    })
}

fn describe(error: &sqlx::Error) -> String {
    match replication::errors::number(error) {
        Some(replication::errors::OFFLINE_MODE) => "it is closed (offline mode)".to_owned(),
        _ => error.to_string(),
    }
}

/// What is known of the servers, for people and for status pages.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ClusterHealth {
    /// The highest epoch that was read; 0 before the first.
    pub epoch: u64,
    /// The primary of that epoch.
    pub primary: Option<String>,
    /// Whether it takes writes.
    pub writable: bool,
    /// The servers that hold every acknowledged write.
    pub in_sync: Vec<String>,
    /// Each server.
    pub servers: Vec<ServerHealth>,
}

/// What is known of one server.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ServerHealth {
    /// Its name.
    pub name: String,
    /// Whether it answered the last probe.
    pub up: bool,
    /// Why not; empty if it did.
    pub error: String,
    /// How old its data may be, in milliseconds, for a replica.
    pub lag_ms: Option<u64>,
    /// Connections in use for statements.
    pub in_use: usize,
}

impl ClusterHealth {
    pub(crate) fn of(shared: &Shared) -> Self {
        let view = shared.view.load();
        let servers = shared
            .servers
            .iter()
            .enumerate()
            .map(|(index, server)| ServerHealth {
                name: server.endpoint.name.clone(),
                up: view.servers[index].up,
                error: view.servers[index].error.clone(),
                lag_ms: view
                    .lag(index)
                    .and_then(|lag| lag.bound())
                    .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                in_use: server.in_use(),
            });
        Self {
            epoch: view.epoch,
            primary: view
                .primary
                .map(|primary| shared.servers[primary].endpoint.name.clone()),
            writable: view.writable_primary().is_some(),
            in_sync: view
                .row
                .as_ref()
                .map(|row| row.in_sync.clone())
                .unwrap_or_default(),
            servers: servers.collect(),
        }
    }
}
