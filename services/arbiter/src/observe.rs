//! What can be seen of the servers, at one time each.

use std::time::Duration;

use replication::{
    CloneState, ClusterRow, GtidSet, ReplicaFacts, SemiSyncFacts, ServerFacts, boot, clone_state,
    cluster_row, open_transactions, refused_logins, replica_facts, semi_sync_facts, server_facts,
};
use sqlx::{ConnectOptions, Executor, MySqlConnection, mysql::MySqlConnectOptions};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// How long a server that was late with its last answer is waited for at the next look: a server that hangs must not hold up what is done
/// to the other one. Its answer is not lost, for the question stays.
const LATE_AGAIN: Duration = Duration::from_millis(100);

/// What one server said, or why it did not.
pub type Observation = Result<Facts, Silence>;

/// Why a server did not say how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// In words.
    pub why: String,
    /// Whether it said no: a server that is full (1040) or knows us not (1045) is not dead.
    pub alive: bool,
}

impl From<&Failure> for Silence {
    fn from(failure: &Failure) -> Self {
        Self {
            why: failure.to_string(),
            alive: failure.number().is_some() || matches!(failure, Failure::Busy),
        }
    }
}

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which boot this is.
    pub boot: String,
    /// Identity, switches, history.
    pub server: ServerFacts,
    /// Its replica side.
    pub replica: Option<ReplicaFacts>,
    /// Its semi-synchronous side.
    pub semi_sync: SemiSyncFacts,
    /// The roles that are published on it.
    pub row: Option<ClusterRow>,
    /// How many logins it has refused in this boot.
    pub refused_logins: u64,
    /// What became of the last CLONE of another server's data onto it.
    pub clone: CloneState,
    /// How many transactions of others are open that may still write; known where it was asked for.
    pub open_transactions: Option<u64>,
}

impl Facts {
    /// Of a server that was just initialised, closed as it boots.
    #[cfg(test)]
    pub(crate) fn of_a_new_server(uuid: &str) -> Self {
        Self {
            boot: "0".to_owned(),
            server: ServerFacts {
                uuid: uuid.to_owned(),
                read_only: true,
                super_read_only: true,
                offline_mode: true,
                executed: GtidSet::default(),
                purged: GtidSet::default(),
            },
            replica: None,
            semi_sync: SemiSyncFacts {
                source_enabled: false,
                source_lossless: true,
                source_active: false,
                clients: 0,
                waiting_sessions: 0,
                replica_enabled: true,
                replica_active: false,
                relay_log_synced: true,
            },
            row: None,
            refused_logins: 0,
            clone: CloneState::Whole,
            open_transactions: None,
        }
    }

    /// Whether it was initialised and nothing more.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.server.executed.is_empty() && self.replica.is_none() && self.row.is_none()
    }

    /// All that it has: executed, or received and not applied yet.
    #[must_use]
    pub fn holds(&self) -> GtidSet {
        match &self.replica {
            Some(replica) => self.server.executed.union(&replica.received),
            None => self.server.executed.clone(),
        }
    }

    /// Whether the arbiter can write here; perhaps it alone.
    #[must_use]
    pub fn takes_ours(&self) -> bool {
        !self.server.super_read_only && !self.server.offline_mode
    }

    /// Whether everybody can write here.
    #[must_use]
    pub fn open(&self) -> bool {
        !self.server.read_only && !self.server.offline_mode
    }
}

/// A server and the arbiter's one connection to it, which is kept: logins can hang behind account statements. What is done to a server
/// is done on the connection that it was looked at by, so nothing is ever done to a server that has restarted since. And nothing is done late:
/// the connection holds a lock on the server, and the next one is used only when it has that lock, so when the statement that the arbiter
/// gave up on has ended.
pub struct Server {
    /// Its name.
    pub name: String,
    options: MySqlConnectOptions,
    /// The boot in which it was looked at last.
    boot: Option<String>,
    connection: Option<MySqlConnection>,
    /// A question that was not answered in time, and still may be.
    asked: Option<JoinHandle<Result<(MySqlConnection, Facts), Failure>>>,
    /// Whether the last look was in vain.
    late: bool,
    limits: Limits,
}

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To answer all questions of one look, connecting included.
    pub look: Duration,
    /// To do one step.
    pub step: Duration,
}

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It, or the way to it, was lost since the last look.
    #[error("the connection that it was looked at by is gone")]
    Gone,
    /// It may still do it.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// What was asked of it before, and given up, is still under way there.
    #[error("it is not done yet with what the arbiter has asked for before")]
    Busy,
    /// It said no, or could not be reached.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Failure {
    /// MySQL's number of the error, if the server sent one.
    #[must_use]
    pub fn number(&self) -> Option<u16> {
        match self {
            Self::Database(error) => replication::errors::number(error),
            Self::Gone | Self::Late(_) | Self::Busy => None,
        }
    }
}

impl Server {
    /// A server that is not connected yet.
    #[must_use]
    pub fn new(name: &str, options: MySqlConnectOptions, limits: Limits) -> Self {
        Self {
            name: name.to_owned(),
            options,
            boot: None,
            connection: None,
            asked: None,
            late: false,
            limits,
        }
    }

    /// Looks; connects if need be. Only a look that was answered whole keeps the connection. Counts open transactions if `draining`.
    pub async fn observe(&mut self, draining: bool) -> Observation {
        let asked = match self.asked.take() {
            Some(asked) => asked,
            None => self.ask(draining),
        };
        let patience = if self.late {
            LATE_AGAIN
        } else {
            self.limits.look
        };
        let failure = match within(patience, asked).await {
            Ok(Ok((connection, facts))) => {
                self.connection = Some(connection);
                self.late = false;
                self.boot = Some(facts.boot.clone());
                return Ok(facts);
            }
            Ok(Err(failure)) => {
                self.late &= matches!(failure, Failure::Late(_));
                failure
            }
            Err(asked) => {
                self.asked = Some(asked);
                self.late = true;
                Failure::Late(self.limits.look)
            }
        };
        Err(Silence::from(&failure))
    }

    fn ask(&mut self, draining: bool) -> JoinHandle<Result<(MySqlConnection, Facts), Failure>> {
        let (connection, options) = (self.connection.take(), self.options.clone());
        let limit = self.limits.look;
        tokio::spawn(async move {
            let looked = timeout(limit, async {
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => connect_to_act(&options).await?,
                };
                let facts = facts(&mut connection, draining).await?;
                Ok((connection, facts))
            });
            looked.await.map_err(|_| Failure::Late(limit))?
        })
    }

    /// Runs statements, one after another, on the connection of the last look.
    ///
    /// # Errors
    /// The first that failed or did not end in time, or that the connection is gone.
    pub async fn execute(&mut self, statements: &[String]) -> Result<(), Failure> {
        let mut connection = self.connection.take().ok_or(Failure::Gone)?;
        let done = timeout(self.limits.step, run(&mut connection, statements)).await;
        bounded(done, self.limits.step)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Where it is, and as whom to log in.
    #[must_use]
    pub fn options(&self) -> MySqlConnectOptions {
        self.options.clone()
    }

    /// The boot in which it was looked at last.
    #[must_use]
    pub fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }

    /// A connection beside the one that it is looked at by.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn another_connection(&self) -> Result<MySqlConnection, Failure> {
        let connected = timeout(self.limits.step, connect(&self.options)).await;
        bounded(connected, self.limits.step)
    }

    /// Runs statements of which the first stops the replica's threads. What keeps them after `patience` is killed, from another
    /// connection: what a thread was in the middle of is cut off, and no whole transaction is.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn stop_and_execute(
        &mut self,
        statements: &[String],
        patience: Duration,
    ) -> Result<(), Failure> {
        let (options, limit) = (self.options.clone(), self.limits.step);
        let stopping = self.execute(statements);
        tokio::pin!(stopping);
        if let Ok(stopped) = timeout(patience, &mut stopping).await {
            return stopped;
        }
        let killing = timeout(limit, async {
            let mut connection = connect(&options).await?;
            let threads = replication::applier_threads(&mut connection).await?;
            for thread in threads {
                // One that has ended since is no longer known (1094).
                let _ = run(&mut connection, &[format!("KILL {thread}")]).await;
            }
            Ok(())
        });
        let (stopped, killed) = tokio::join!(stopping, killing);
        stopped?;
        bounded(killed, limit)
    }

    /// Writes rows of the arbiter's own, on a connection for this alone: a commit may wait for its acknowledgement, and looking must not
    /// wait with it. A server that has restarted since is read-only, and refuses.
    ///
    /// # Errors
    /// As [`execute`](Self::execute). What did not end in time may end later.
    pub async fn write(&self, statements: &[String]) -> Result<(), Failure> {
        let written = timeout(self.limits.step, async {
            let mut connection = connect(&self.options).await?;
            connection
                .execute("SET SESSION gtid_next = 'AUTOMATIC:arbiter'")
                .await?;
            run(&mut connection, statements).await
        });
        bounded(written.await, self.limits.step)
    }
}

/// What it came to, or the task back if it has not come to anything in time.
async fn within<T>(
    limit: Duration,
    mut task: JoinHandle<Result<T, Failure>>,
) -> Result<Result<T, Failure>, JoinHandle<Result<T, Failure>>> {
    match timeout(limit, &mut task).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(_)) => Ok(Err(Failure::Gone)),
        Err(_) => Err(task),
    }
}

/// What was executed is asked for last: it is to have whatever the rest speaks of.
async fn facts(connection: &mut MySqlConnection, draining: bool) -> Result<Facts, sqlx::Error> {
    Ok(Facts {
        boot: boot(connection).await?,
        row: cluster_row(connection).await?,
        clone: clone_state(connection).await?,
        open_transactions: match draining {
            true => Some(open_transactions(connection).await?),
            false => None,
        },
        replica: replica_facts(connection).await?,
        semi_sync: semi_sync_facts(connection).await?,
        refused_logins: refused_logins(connection).await?,
        server: server_facts(connection).await?,
    })
}

async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    // Nothing of ours may wait for a lock behind commits that wait for a replica.
    connection
        .execute("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
        .await?;
    Ok(connection)
}

/// The lock that only one connection of the arbiter has: the one that acts. It ends with the connection, once its last statement has.
const LOCK: &str = "holdfast.arbiter";

/// How often the one that acted before is looked after once it was told to end,
const BUSY_LOOKS: u32 = 4;
/// and how long apart.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Connects, and ends the connection that acted before, if it is still there.
async fn connect_to_act(options: &MySqlConnectOptions) -> Result<MySqlConnection, Failure> {
    let mut connection = connect(options).await?;
    if takes_lock(&mut connection).await? {
        return Ok(connection);
    }
    let holder: Option<u64> = sqlx::query_scalar("SELECT IS_USED_LOCK(?)")
        .bind(LOCK)
        .fetch_one(&mut connection)
        .await?;
    if let Some(holder) = holder {
        // It may have ended by itself meanwhile (1094).
        let _ = run(&mut connection, &[format!("KILL {holder}")]).await;
    }
    // Well below the limit of a look, for "busy" is an answer and silence is none.
    for _ in 0..BUSY_LOOKS {
        sleep(BUSY_PAUSE).await;
        if takes_lock(&mut connection).await? {
            return Ok(connection);
        }
    }
    Err(Failure::Busy)
}

async fn takes_lock(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let taken: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(?, 0)")
        .bind(LOCK)
        .fetch_one(connection)
        .await?;
    Ok(taken == Some(1))
}

async fn run(connection: &mut MySqlConnection, statements: &[String]) -> Result<(), sqlx::Error> {
    for statement in statements {
        connection
            .execute(sqlx::AssertSqlSafe(statement.as_str()))
            .await?;
    }
    Ok(())
}

fn bounded<T>(
    outcome: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    limit: Duration,
) -> Result<T, Failure> {
    Ok(outcome.map_err(|_| Failure::Late(limit))??)
}
