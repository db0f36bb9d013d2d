//! The router's configuration and credentials.

use std::{fs, io, path::PathBuf, time::Duration};

use replication::{Endpoint, TlsFiles};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{causal::CausalKey, classify::Classifier};

/// How to route. Every bound is here; times are in milliseconds. [`RouterConfig::new`] has values that serve for a pair in one network.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default = "RouterConfig::of_nothing", deny_unknown_fields)]
pub struct RouterConfig {
    /// The servers, in any role.
    pub servers: Vec<Endpoint>,
    /// The database that statements mean without saying.
    pub database: String,
    /// A session that proves no write reads data at most this old.
    pub max_lag_ms: u64,
    /// The longest that a statement or a commit may take, all waiting included.
    pub statement_timeout_ms: u64,
    /// The longest that a statement may wait for a connection.
    pub acquire_timeout_ms: u64,
    /// The longest that a write waits for the end of a switchover.
    pub hold_timeout_ms: u64,
    /// How often the servers are asked how they are; four times as often while one of them is away or late, or writes wait for the next
    /// primary.
    pub probe_interval_ms: u64,
    /// How long a server may take to answer that before it is late; twice in a row late is away.
    pub probe_timeout_ms: u64,
    /// How many probes in a row a server that was away must answer before it gets statements again.
    pub recovery_probes: u32,
    /// Connections to each server.
    pub max_connections: u32,
    /// Of the primary's connections, those that reads may not take.
    pub write_reserve: u32,
    /// Statements that may wait for a connection to one server, or for the end of a switchover; further ones are refused at once.
    pub max_waiting: u32,
    /// Logins at one server at one time: one that comes back is not stormed.
    pub max_connecting: u32,
    /// A connection that nobody used for this long is closed.
    pub idle_timeout_ms: u64,
    /// A connection is closed when it is older than this, so that a renewed certificate is used everywhere before the old one ends.
    pub max_lifetime_ms: u64,
    /// Prepared statements that each connection keeps; the server counts those of all connections (`max_prepared_stmt_count`).
    pub prepared_statements: u32,
    /// How often a transaction that is given as a closure is begun again after a deadlock, a lock that did not come, or a change of the primary.
    pub transaction_retries: u32,
    /// Statements that a replica refused as writes and that are remembered.
    pub corrections_max: u32,
    /// Stored functions of yours that only read, `name` or `schema.name`: calls of them may go to a replica.
    pub pure_functions: Vec<String>,
}

impl RouterConfig {
    /// For these servers and this database, with every bound at its default.
    #[must_use]
    pub fn new(servers: Vec<Endpoint>, database: &str) -> Self {
        Self {
            servers,
            database: database.to_owned(),
            max_lag_ms: 1000,
            statement_timeout_ms: 10_000,
            acquire_timeout_ms: 1000,
            hold_timeout_ms: 3000,
            probe_interval_ms: 200,
            probe_timeout_ms: 500,
            recovery_probes: 2,
            max_connections: 20,
            write_reserve: 5,
            max_waiting: 1000,
            max_connecting: 4,
            idle_timeout_ms: 300_000,
            max_lifetime_ms: 1_800_000,
            prepared_statements: 100,
            transaction_retries: 3,
            corrections_max: 1024,
            pure_functions: Vec::new(),
        }
    }

    /// What a text is completed with: `servers` and `database` must be in it.
    fn of_nothing() -> Self {
        Self::new(Vec::new(), "")
    }

    /// The first value that makes no sense, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.servers.is_empty() {
            return Some("`servers` is empty; expected at least one server".to_owned());
        }
        if self.database.is_empty() {
            return Some("`database` is empty; expected the database's name".to_owned());
        }
        if self.max_connections == 0 || self.write_reserve >= self.max_connections {
            let (reserve, max) = (self.write_reserve, self.max_connections);
            return Some(format!(
                "`write_reserve` is {reserve}; expected less than `max_connections`, which is {max}"
            ));
        }
        let at_least_one = [
            ("max_lag_ms", self.max_lag_ms),
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("acquire_timeout_ms", self.acquire_timeout_ms),
            ("hold_timeout_ms", self.hold_timeout_ms),
            ("probe_interval_ms", self.probe_interval_ms),
            ("probe_timeout_ms", self.probe_timeout_ms),
            ("recovery_probes", self.recovery_probes.into()),
            ("max_waiting", self.max_waiting.into()),
            ("max_connecting", self.max_connecting.into()),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("max_lifetime_ms", self.max_lifetime_ms),
            ("prepared_statements", self.prepared_statements.into()),
            ("corrections_max", self.corrections_max.into()),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Some(format!("`{name}` is 0; expected 1 or more"));
        }
        let classifier = Classifier::new(&self.pure_functions);
        let problem = classifier.err()?;
        Some(format!("`pure_functions`: {problem}"))
    }

    pub(crate) fn max_lag(&self) -> Duration {
        Duration::from_millis(self.max_lag_ms)
    }

    pub(crate) fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms)
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }

    pub(crate) fn hold_timeout(&self) -> Duration {
        Duration::from_millis(self.hold_timeout_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn max_lifetime(&self) -> Duration {
        Duration::from_millis(self.max_lifetime_ms)
    }

    pub(crate) fn probe_interval(&self) -> Duration {
        Duration::from_millis(self.probe_interval_ms)
    }

    pub(crate) fn probe_timeout(&self) -> Duration {
        Duration::from_millis(self.probe_timeout_ms)
    }
}

/// Who we are to the servers, and the key of the causal tokens.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The database account's name.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// The files of our TLS identity.
    pub tls: TlsFiles,
    /// Signs causal tokens; the same in every process that shall believe them.
    pub causal_key: CausalKey,
}

/// Where a password comes from.
#[derive(Clone)]
pub enum Password {
    /// It is this.
    Fixed(String),
    /// It is the first line of this file, which is read at every login: a new one is used from then on.
    File(PathBuf),
}

impl Password {
    /// What it is now.
    ///
    /// # Errors
    /// The file cannot be read: as bad input, for neither is a server away nor a statement wrong.
    pub fn read(&self) -> io::Result<String> {
        let file = match self {
            Self::Fixed(password) => return Ok(password.clone()),
            Self::File(file) => file,
        };
        let text = fs::read_to_string(file).map_err(|error| {
            let what = format!("the password's file {}: {error}", file.display());
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

impl Credentials {
    /// Credentials from the files of an identity directory (`ca.crt`, `tls.crt`, `tls.key`), which are read at every login.
    #[must_use]
    pub fn new(
        user: &str,
        password: Password,
        identity: &std::path::Path,
        causal_key: CausalKey,
    ) -> Self {
        let file = |name: &str| -> PathBuf { identity.join(name) };
        Self {
            user: user.to_owned(),
            password,
            tls: TlsFiles {
                ca: file("ca.crt"),
                cert: file("tls.crt"),
                key: file("tls.key"),
            },
            causal_key,
        }
    }
}
