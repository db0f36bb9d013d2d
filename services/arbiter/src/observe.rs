//! What can be seen of the servers, at one time each.

use std::time::Duration;

use replication::{
    ClusterRow, GtidSet, ReplicaFacts, SemiSyncFacts, ServerFacts, boot, cluster_row,
    refused_logins, replica_facts, semi_sync_facts, server_facts,
};
use sqlx::{ConnectOptions, Executor, MySqlConnection, mysql::MySqlConnectOptions};
use tokio::time::timeout;

/// What one server said, or why it did not.
pub type Observation = Result<Facts, String>;

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
            },
            row: None,
            refused_logins: 0,
        }
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
/// is done on the connection that it was looked at by, so nothing is ever done to a server that has restarted since.
pub struct Server {
    /// Its name.
    pub name: String,
    options: MySqlConnectOptions,
    connection: Option<MySqlConnection>,
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
            Self::Gone | Self::Late(_) => None,
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
            connection: None,
            limits,
        }
    }

    /// Looks; connects if need be.
    pub async fn observe(&mut self) -> Observation {
        let looked = timeout(self.limits.look, async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect(&self.options).await?,
            };
            let facts = Facts {
                boot: boot(&mut connection).await?,
                row: cluster_row(&mut connection).await?,
                replica: replica_facts(&mut connection).await?,
                semi_sync: semi_sync_facts(&mut connection).await?,
                refused_logins: refused_logins(&mut connection).await?,
                server: server_facts(&mut connection).await?,
            };
            Ok((connection, facts))
        });
        // Only a look that was answered whole keeps the connection.
        let looked = bounded(looked.await, self.limits.look);
        let (connection, facts) = looked.map_err(|failure| failure.to_string())?;
        self.connection = Some(connection);
        Ok(facts)
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

async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    // Nothing of ours may wait for a lock behind commits that wait for a replica.
    connection
        .execute("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
        .await?;
    Ok(connection)
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
