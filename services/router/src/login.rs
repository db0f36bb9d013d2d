//! How a connection is made: who we are, asked anew each time, and what the session is set to.

use std::{
    fs::File,
    io,
    time::{Duration, Instant},
};

use replication::{Account, Endpoint, connect_options};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection,
    mysql::MySqlConnectOptions,
};
use tokio::time::timeout;

use crate::config::{Credentials, RouterConfig};

/// The server looks once a second who has waited for a lock for too long; and its answer has to come within the statement timeout.
const LOOKS_FOR_LOCKS: Duration = Duration::from_millis(1500);

/// After an old connection could not be replaced.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// Logs in at one server.
pub(crate) struct Login {
    endpoint: Endpoint,
    credentials: Credentials,
    database: String,
    statements_max: usize,
    lock_wait_seconds: u64,
    age_max: Duration,
}

/// A connection for questions about the server, which grows no older than those for statements.
pub(crate) struct Asking {
    pub(crate) connection: MySqlConnection,
    /// When it is replaced.
    until: Instant,
}

impl Login {
    pub(crate) fn new(
        endpoint: &Endpoint,
        config: &RouterConfig,
        credentials: &Credentials,
    ) -> Self {
        Self {
            endpoint: endpoint.clone(),
            credentials: credentials.clone(),
            database: config.database.clone(),
            statements_max: config.prepared_statements as usize,
            lock_wait_seconds: config
                .statement_timeout()
                .saturating_sub(LOOKS_FOR_LOCKS)
                .as_secs()
                .max(1),
            age_max: config.max_lifetime(),
        }
    }

    /// A connection for statements.
    pub(crate) async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options_for_statements()?.connect().await?;
        // A lock that does not come within the statement timeout must end as an error of the server, not as a silence. And strings end where
        // the classifier thinks: without the modes that a server may have by its configuration, and that move their ends.
        let set = format!(
            "SET SESSION innodb_lock_wait_timeout = {}, \
             sql_mode = REPLACE(REPLACE(REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', ''), 'ANSI_QUOTES', ''), 'ANSI', '')",
            self.lock_wait_seconds
        );
        connection.execute(AssertSqlSafe(set)).await?;
        Ok(connection)
    }

    /// A connection for questions about the server: it needs no database, which may not be there yet.
    pub(crate) async fn connect_to_ask(&self) -> Result<Asking, sqlx::Error> {
        Ok(Asking {
            connection: self.options()?.connect().await?,
            until: Instant::now() + self.age_max,
        })
    }

    /// Replaces a connection that is old; one that cannot be replaced within `limit` stays, for the server is there.
    pub(crate) async fn renew(&self, asking: &mut Asking, limit: Duration) {
        if asking.until > Instant::now() {
            return;
        }
        match timeout(limit, self.connect_to_ask()).await {
            Ok(Ok(new)) => {
                let old = std::mem::replace(asking, new);
                tokio::spawn(timeout(limit, old.connection.close()));
            }
            _ => asking.until = Instant::now() + RENEW_AGAIN,
        }
    }

    /// How a connection for statements is made.
    pub(crate) fn options_for_statements(&self) -> Result<MySqlConnectOptions, sqlx::Error> {
        Ok(self.options()?.database(&self.database))
    }

    /// Password and TLS files are read at every login: what was renewed is used from then on, and connections that are there stay.
    fn options(&self) -> Result<MySqlConnectOptions, sqlx::Error> {
        let account = Account {
            user: self.credentials.user.clone(),
            password: self.credentials.password.read().map_err(sqlx::Error::Io)?,
        };
        // The driver would not say which of them is missing, and its error would look like a server that is away.
        let tls = &self.credentials.tls;
        for file in [&tls.ca, &tls.cert, &tls.key] {
            File::open(file).map_err(|error| {
                let what = format!("the TLS file {}: {error}", file.display());
                sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidInput, what))
            })?;
        }
        let options = connect_options(&self.endpoint, &account, &self.credentials.tls);
        Ok(options.statement_cache_capacity(self.statements_max))
    }
}
