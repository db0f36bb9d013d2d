//! Asks every server how it is: every few hundred milliseconds, more often while one is away, and at once when something looks wrong.

use std::{
    sync::{Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use replication::{ErrorKind, cluster_row, errors, replica_facts, server_facts};
use sqlx::MySqlConnection;
use tokio::time::timeout;

use crate::{
    Shared,
    login::Asking,
    server::Server,
    view::{Answer, Bounds, ServerState, Silence, View},
};

/// Between two rounds of probes, however suspicious somebody is.
const PAUSE: Duration = Duration::from_millis(10);
/// How many times as often servers are asked while one of them is away or late, or writes wait for the next primary.
const HURRY: u32 = 4;

/// Asks for ever, until the router is gone.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut connections: Vec<Option<Asking>> = Vec::new();
    loop {
        let Some(now) = shared.upgrade() else { return };
        connections.resize_with(now.servers.len(), || None);
        round(&now, &mut connections).await;
        let interval = match now.view.load().is_suspicious() {
            true => now.config.probe_interval() / HURRY,
            false => now.config.probe_interval(),
        };
        // A round that somebody asks for follows at once, but not in a tight loop.
        tokio::time::sleep(PAUSE).await;
        let _ = timeout(interval, now.suspicion.notified()).await;
    }
}

async fn round(shared: &Shared, connections: &mut [Option<Asking>]) {
    // Read before the servers are asked: what is acknowledged later is not covered by their answers.
    let (began, mark) = (Instant::now(), shared.watermark.written());
    let limit = shared.config.probe_timeout();
    let probes = shared
        .servers
        .iter()
        .zip(connections)
        .map(async |(server, connection)| {
            let answer = match timeout(limit, probe(server, connection, limit)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(silence(&error)),
                Err(_) => Err(Silence::Late(format!("no answer within {limit:?}"))),
            };
            if answer.is_err() {
                *connection = None;
            }
            answer
        });
    let answers = futures::future::join_all(probes).await;

    let before = shared.view.load();
    let names: Vec<&str> = shared.servers.iter().map(Server::name).collect();
    let bounds = Bounds {
        max_lag: shared.config.max_lag(),
        recovery_probes: shared.config.recovery_probes,
    };
    let view = before.after(began, &names, answers, bounds);
    for (index, server) in shared.servers.iter().enumerate() {
        if let Some(facts) = &view.servers[index].facts {
            shared.watermark.said(index, &facts.executed);
        }
        if view.has_every_write(index) {
            shared.watermark.applied(index, mark);
        }
        if before.servers[index].up && !view.servers[index].up {
            server.pool.doubt();
        }
        server.pool.reap();
        shared.metrics.is(index, server, &view);
        say_what_changed(server.name(), &before, &view, index);
    }
    if before.epoch != view.epoch || before.primary != view.primary {
        let primary = view.primary.map(|index| shared.servers[index].name());
        tracing::info!(epoch = view.epoch, primary, "roles");
    }
    shared
        .metrics
        .epoch
        .set(i64::try_from(view.epoch).unwrap_or(i64::MAX));
    shared.view.store(view.into());
    shared.rounds.fetch_add(1, Ordering::AcqRel);
    shared.changed.notify_waiters();
}

fn say_what_changed(server: &str, before: &View, view: &View, index: usize) {
    let (was, is) = (before.state(index), view.state(index));
    if was == is {
        return;
    }
    match is {
        ServerState::Healthy => tracing::info!(server, %was, "database server is healthy"),
        ServerState::Down => {
            let error = &*view.servers[index].error;
            tracing::warn!(server, error, "database server is away");
        }
        ServerState::Errant => {
            let errant = view.servers[index].errant();
            tracing::warn!(server, %errant, "database server has transactions that the primary has not: it gets no reads");
        }
        ServerState::Lagging | ServerState::Draining => {
            tracing::info!(server, state = %is, "database server");
        }
    }
}

/// What a server says. A connection that broke says nothing about the server: it is asked once more on a new one.
async fn probe(
    server: &Server,
    slot: &mut Option<Asking>,
    limit: Duration,
) -> Result<Answer, sqlx::Error> {
    if let Some(asking) = slot {
        server.pool.login.renew(asking, limit / 3).await;
        match ask(&mut asking.connection).await {
            Err(error) if errors::kind(&error) == ErrorKind::Gone => *slot = None,
            answer => return answer,
        }
    }
    let asking = slot.insert(server.pool.login.connect_to_ask().await?);
    ask(&mut asking.connection).await
}

/// The row last: whatever the server had executed before, it says under whose reign.
async fn ask(connection: &mut MySqlConnection) -> Result<Answer, sqlx::Error> {
    Ok(Answer {
        replica: replica_facts(connection).await?,
        facts: server_facts(connection).await?,
        row: cluster_row(connection).await?,
    })
}

fn silence(error: &sqlx::Error) -> Silence {
    match errors::number(error) {
        Some(errors::OFFLINE_MODE) => Silence::Away("it is closed (offline mode)".to_owned()),
        _ if errors::kind(error) == ErrorKind::Capacity => Silence::Full,
        _ => Silence::Away(error.to_string()),
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
    /// Whether writes wait for the end of a switchover.
    pub holding: bool,
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
    /// How it is.
    pub state: ServerState,
    /// Whether it gets statements.
    pub up: bool,
    /// Why not; empty if it does.
    pub error: String,
    /// How old its data may be by now, in milliseconds, for a replica.
    pub lag_ms: Option<u64>,
    /// Connections in use for statements.
    pub in_use: usize,
    /// Connections that wait for somebody.
    pub idle: usize,
    /// Statements that wait for a connection.
    pub waiting: usize,
}

impl ClusterHealth {
    pub(crate) fn of(shared: &Shared) -> Self {
        let view = shared.view.load();
        let servers = shared
            .servers
            .iter()
            .enumerate()
            .map(|(index, server)| ServerHealth {
                name: server.name().to_owned(),
                state: view.state(index),
                up: view.servers[index].up,
                error: view.servers[index].error.to_string(),
                lag_ms: view
                    .age(index)
                    .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                in_use: server.pool.in_use(),
                idle: server.pool.idle(),
                waiting: server.pool.waiting(),
            });
        Self {
            epoch: view.epoch,
            primary: view
                .primary
                .map(|primary| shared.servers[primary].name().to_owned()),
            writable: view.writable_primary().is_some() && !view.holds_writes(),
            holding: view.holds_writes(),
            in_sync: view
                .row
                .as_ref()
                .map(|row| row.in_sync.clone())
                .unwrap_or_default(),
            servers: servers.collect(),
        }
    }
}
