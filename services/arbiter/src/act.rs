//! The steps as SQL. Each can be done twice.

use std::path::PathBuf;
use std::time::Duration;

use replication::GtidSet;
use time::OffsetDateTime;

use crate::{
    copying::Copying,
    discarded::{self, DiscardedError},
    failpoint::Failpoint,
    observe::{Failure, Server},
    state::{State, StateError, Store},
    step::Step,
};

/// How long a replica's threads may take to stop before the one that keeps them is ended: an applier waits a minute for the rest of a
/// transaction that was cut in the middle.
const STOP_PATIENCE: Duration = Duration::from_millis(200);
/// How long saving what is about to be thrown away may take; then it is tried again, and nothing is thrown away.
const SAVING_MAX: Duration = Duration::from_secs(120);

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The state is not on disk: nothing may go on.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is about to be thrown away could not be saved.
    #[error("{server}: {reason}")]
    Discarded {
        /// Whose transactions.
        server: String,
        /// What happened instead.
        reason: DiscardedError,
    },
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

/// What steps are done with.
pub struct Hands {
    /// The servers.
    pub servers: [Server; 2],
    /// The state's place on disk.
    pub store: Store,
    /// How they reach each other.
    pub wiring: Wiring,
    /// The CLONE that is under way.
    pub copying: Copying,
    /// Where discarded transactions are saved, and how many bytes of each.
    pub discarded: (PathBuf, u64),
    /// Whose transactions were saved last: they are saved once, however often the CLONE after that is tried.
    pub saved: Option<(String, GtidSet)>,
    /// Why the last attempt to save any was in vain.
    pub not_saved: Option<String>,
    /// Where to die.
    pub failpoint: Option<Failpoint>,
}

impl Hands {
    /// Does one step.
    ///
    /// # Errors
    /// The step may have been done in part; it is decided anew after the next look.
    pub async fn act(&mut self, step: &Step) -> Result<(), ActError> {
        self.pass(step, false);
        self.perform(step).await?;
        self.pass(step, true);
        Ok(())
    }

    fn pass(&mut self, step: &Step, after: bool) {
        if let Some(failpoint) = &mut self.failpoint {
            failpoint.pass(step, after);
        }
    }

    async fn perform(&mut self, step: &Step) -> Result<(), ActError> {
        let wiring = &self.wiring;
        let statements = match step {
            Step::Save(state) => return Ok(self.store.save(state)?),
            Step::SaveDiscarded { server, errant } => {
                let saved = self.save_discarded(server, errant).await;
                self.not_saved = saved.as_ref().err().map(ToString::to_string);
                return saved;
            }
            // A channel that leads elsewhere is stopped whole, for it changes as a whole.
            Step::Wire { primary, .. } => vec!["STOP REPLICA".to_owned(), wiring.wire(primary)],
            Step::StartApplier(_) => sql(&["START REPLICA SQL_THREAD"]),
            Step::StartReceiver(_) => sql(&["START REPLICA IO_THREAD"]),
            Step::StopReceiver(_) => sql(&["STOP REPLICA IO_THREAD"]),
            Step::ForgetSource(_) => sql(&["STOP REPLICA", "RESET REPLICA ALL"]),
            Step::EnableAcknowledging(_) => sql(&["SET GLOBAL rpl_semi_sync_replica_enabled = ON"]),
            Step::EnableSemiSync(_) => sql(&["SET GLOBAL rpl_semi_sync_source_enabled = ON"]),
            Step::DisableSemiSync(_) => sql(&["SET GLOBAL rpl_semi_sync_source_enabled = OFF"]),
            Step::ForbidWrites(_) => sql(&["SET GLOBAL super_read_only = ON"]),
            Step::TakeOffline(_) => sql(&["SET GLOBAL offline_mode = ON"]),
            Step::LiftOfflineMode(_) => sql(&["SET GLOBAL offline_mode = OFF"]),
            Step::AllowArbiter(_) => sql(&["SET GLOBAL super_read_only = OFF"]),
            Step::CreateSchema(_) => sql(&SCHEMA),
            Step::Publish { state, .. } => vec![publish(state)],
            Step::AllowWrites(_) => sql(&["SET GLOBAL read_only = OFF"]),
            Step::Restart(_) => sql(&["RESTART"]),
            Step::RelaxRelayLog(_) => sql(&["SET GLOBAL sync_relay_log = 10000"]),
            Step::SyncRelayLog(_) => sql(&["SET GLOBAL sync_relay_log = 1"]),
            Step::Clone { primary, .. } => wiring.clone_from(primary),
        };
        let name = step.server().unwrap_or_default();
        let server = named(&mut self.servers, name);
        tracing::info!(server = name, step = step.name(), "step");
        let done = match step {
            Step::Clone { .. } => {
                self.copying.begin(server, statements);
                return Ok(());
            }
            Step::CreateSchema(_) | Step::Publish { .. } => server.write(&statements).await,
            Step::ForgetSource(_) => server.stop_and_execute(&statements, STOP_PATIENCE).await,
            Step::Restart(_) => match server.execute(&statements).await {
                // It does not answer any more.
                Err(Failure::Database(error))
                    if replication::errors::kind(&error) == replication::ErrorKind::Gone =>
                {
                    Ok(())
                }
                done => done,
            },
            _ => server.execute(&statements).await,
        };
        done.map_err(|reason| ActError::Server {
            server: name.to_owned(),
            step: step.name(),
            reason,
        })
    }

    async fn save_discarded(&mut self, name: &str, errant: &GtidSet) -> Result<(), ActError> {
        let saved = Some((name.to_owned(), errant.clone()));
        if self.saved == saved {
            return Ok(());
        }
        let failed = |reason: DiscardedError| ActError::Discarded {
            server: name.to_owned(),
            reason,
        };
        let refused = |reason: Failure| ActError::Server {
            server: name.to_owned(),
            step: "save_discarded",
            reason,
        };
        let server = named(&mut self.servers, name);
        let mut connection = server.another_connection().await.map_err(refused)?;
        let (directory, bytes_max) = &self.discarded;
        let now = OffsetDateTime::now_utc();
        let saving = discarded::save(&mut connection, name, errant, directory, *bytes_max, now);
        let kept = tokio::time::timeout(SAVING_MAX, saving)
            .await
            .map_err(|_| refused(Failure::Late(SAVING_MAX)))?
            .map_err(failed)?;
        tracing::warn!(
            server = name,
            transactions = kept.transactions,
            path = %kept.path.display(),
            "transactions that were never acknowledged are discarded; they are saved"
        );
        self.saved = saved;
        Ok(())
    }
}

/// The server of this name.
fn named<'a>(servers: &'a mut [Server; 2], name: &str) -> &'a mut Server {
    servers
        .iter_mut()
        .find(|server| server.name == name)
        .expect("steps are done to configured servers")
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

impl Wiring {
    fn source(&self, primary: &str) -> &replication::Endpoint {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.name == primary)
            .expect("the primary is a configured server")
    }

    /// For ever retried, over TLS with the name verified; heartbeats tell a dead link from a quiet one.
    fn wire(&self, primary: &str) -> String {
        let identity = self.identity.display().to_string();
        let identity = quoted(&identity);
        let source = self.source(primary);
        format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = 'replication', SOURCE_PASSWORD = '{}', \
         SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0, SOURCE_HEARTBEAT_PERIOD = 0.5, SOURCE_SSL = 1, \
         SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_SSL_CA = '{identity}/ca.crt', SOURCE_SSL_CERT = '{identity}/tls.crt', \
         SOURCE_SSL_KEY = '{identity}/tls.key'",
            quoted(&source.host),
            source.port,
            quoted(&self.password)
        )
    }

    /// CLONE is refused under super_read_only; read_only and offline_mode keep everybody else out.
    fn clone_from(&self, primary: &str) -> Vec<String> {
        let source = self.source(primary);
        let (host, port) = (quoted(&source.host), source.port);
        vec![
            format!("SET GLOBAL clone_valid_donor_list = '{host}:{port}'"),
            "SET GLOBAL super_read_only = OFF".to_owned(),
            format!(
                "CLONE INSTANCE FROM 'replication'@'{host}':{port} IDENTIFIED BY '{}' REQUIRE SSL",
                quoted(&self.password)
            ),
        ]
    }
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
        state.phase
    )
}

/// A text inside of a string: names and passwords are ours, and still.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "''")
}
