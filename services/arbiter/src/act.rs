//! The steps as SQL. Each can be done twice.

use std::path::PathBuf;

use crate::{
    observe::{Failure, Server},
    state::{State, StateError, Store},
    step::Step,
};

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The state is not on disk: nothing may go on.
    #[error(transparent)]
    State(#[from] StateError),
    /// A server refused, or did not answer in time.
    #[error("{server}: {step}: {reason}")]
    Server {
        /// Which.
        server: String,
        /// The step.
        step: &'static str,
        /// What happened instead.
        reason: Failure,
    },
}

/// Where replicas find the servers, and as whom they log in.
pub struct Wiring {
    /// Host and port of each server, as its replica reaches it.
    pub endpoints: Vec<replication::Endpoint>,
    /// The password of the account `replication`.
    pub password: String,
    /// Where a server has its identity, with which its receiver logs in to the other one.
    pub identity: PathBuf,
}

/// Does one step.
///
/// # Errors
/// The step may have been done in part; it is decided anew after the next look.
pub async fn act(
    step: &Step,
    servers: &mut [Server],
    store: &Store,
    wiring: &Wiring,
) -> Result<(), ActError> {
    let statements = match step {
        Step::Save(state) => return Ok(store.save(state)?),
        Step::Wire { primary, .. } => vec![wire(wiring, primary)],
        Step::StartApplier(_) => sql(&["START REPLICA SQL_THREAD"]),
        Step::StartReceiver(_) => sql(&["START REPLICA IO_THREAD"]),
        Step::StopReceiver(_) => sql(&["STOP REPLICA IO_THREAD"]),
        Step::EnableAcknowledging(_) => sql(&["SET GLOBAL rpl_semi_sync_replica_enabled = ON"]),
        Step::EnableSemiSync(_) => sql(&["SET GLOBAL rpl_semi_sync_source_enabled = ON"]),
        Step::ForbidWrites(_) => sql(&["SET GLOBAL super_read_only = ON"]),
        Step::LiftOfflineMode(_) => sql(&["SET GLOBAL offline_mode = OFF"]),
        Step::AllowArbiter(_) => sql(&["SET GLOBAL super_read_only = OFF"]),
        Step::CreateSchema(_) => sql(&SCHEMA),
        Step::Publish { state, .. } => vec![publish(state)],
        Step::AllowWrites(_) => sql(&["SET GLOBAL read_only = OFF"]),
    };
    let name = step.server().unwrap_or_default();
    let server = servers
        .iter_mut()
        .find(|server| server.name == name)
        .expect("steps are done to configured servers");
    tracing::info!(server = name, step = step.name(), "step");
    let done = match step {
        Step::CreateSchema(_) | Step::Publish { .. } => server.write(&statements).await,
        _ => server.execute(&statements).await,
    };
    done.map_err(|reason| ActError::Server {
        server: name.to_owned(),
        step: step.name(),
        reason,
    })
}

/// The schema that belongs to the arbiter.
const SCHEMA: [&str; 3] = [
    "CREATE DATABASE IF NOT EXISTS holdfast",
    "CREATE TABLE IF NOT EXISTS holdfast.cluster ( \
       one TINYINT NOT NULL PRIMARY KEY CHECK (one = 1), \
       epoch BIGINT UNSIGNED NOT NULL, \
       primary_server VARCHAR(64) NOT NULL, \
       primary_uuid CHAR(36) NOT NULL, \
       in_sync VARCHAR(255) NOT NULL, \
       phase VARCHAR(32) NOT NULL, \
       changed_at TIMESTAMP(6) NOT NULL)",
    "CREATE TABLE IF NOT EXISTS holdfast.heartbeat ( \
       server VARCHAR(64) NOT NULL PRIMARY KEY, \
       beat BIGINT UNSIGNED NOT NULL, \
       at TIMESTAMP(6) NOT NULL)",
];

fn sql(statements: &[&str]) -> Vec<String> {
    statements
        .iter()
        .map(|&statement| statement.to_owned())
        .collect()
}

/// For ever retried, over TLS with the name verified; heartbeats tell a dead link from a quiet one.
fn wire(wiring: &Wiring, primary: &str) -> String {
    let identity = wiring.identity.display().to_string();
    let identity = quoted(&identity);
    let source = wiring
        .endpoints
        .iter()
        .find(|e| e.name == primary)
        .expect("the primary is a configured server");
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = 'replication', SOURCE_PASSWORD = '{}', \
         SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 0.5, SOURCE_SSL = 1, \
         SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_SSL_CA = '{identity}/ca.crt', SOURCE_SSL_CERT = '{identity}/tls.crt', \
         SOURCE_SSL_KEY = '{identity}/tls.key'",
        quoted(&source.host),
        source.port,
        quoted(&wiring.password)
    )
}

fn publish(state: &State) -> String {
    let in_sync: Vec<&str> = state.in_sync.iter().map(String::as_str).collect();
    let uuid = state.uuids.get(&state.primary).map_or("", String::as_str);
    format!(
        "REPLACE INTO holdfast.cluster (one, epoch, primary_server, primary_uuid, in_sync, phase, changed_at) \
         VALUES (1, {}, '{}', '{}', '{}', '{}', NOW(6))",
        state.epoch,
        quoted(&state.primary),
        quoted(uuid),
        quoted(&in_sync.join(",")),
        state.phase.as_str()
    )
}

/// A text inside of a string: names and passwords are ours, and still.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "''")
}
