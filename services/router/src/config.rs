//! The router's configuration and credentials.

use std::{path::PathBuf, time::Duration};

use replication::{Account, Endpoint, TlsFiles};
use serde::{Deserialize, Serialize};

use crate::causal::CausalKey;

/// How to route. Every bound is here; times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// How often the servers are asked how they are.
    pub probe_interval_ms: u64,
    /// How long a server may take to answer that before it counts as away.
    pub probe_timeout_ms: u64,
    /// Connections to each server.
    pub max_connections: u32,
    /// Of the primary's connections, those that reads may not take.
    pub write_reserve: u32,
}

impl RouterConfig {
    /// The first value that makes no sense, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.servers.is_empty() {
            return Some("`servers` is empty; expected at least one server".to_owned());
        }
        if self.max_connections == 0 || self.write_reserve >= self.max_connections {
            let (reserve, max) = (self.write_reserve, self.max_connections);
            return Some(format!(
                "`write_reserve` is {reserve}; expected less than `max_connections`, which is {max}"
            ));
        }
        let times = [
            ("max_lag_ms", self.max_lag_ms),
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("acquire_timeout_ms", self.acquire_timeout_ms),
            ("probe_interval_ms", self.probe_interval_ms),
            ("probe_timeout_ms", self.probe_timeout_ms),
        ];
        let zero = times.iter().find(|(_, value)| *value == 0)?;
        Some(format!("`{}` is 0; expected 1 or more", zero.0))
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
    /// The database account.
    pub account: Account,
    /// The files of our TLS identity, read again at every new connection.
    pub tls: TlsFiles,
    /// Signs causal tokens; the same in every process that shall believe them.
    pub causal_key: CausalKey,
}

impl Credentials {
    /// Credentials from the files of an identity directory (`ca.crt`, `tls.crt`, `tls.key`).
    #[must_use]
    pub fn new(
        user: &str,
        password: &str,
        identity: &std::path::Path,
        causal_key: CausalKey,
    ) -> Self {
        let file = |name: &str| -> PathBuf { identity.join(name) };
        Self {
            account: Account {
                user: user.to_owned(),
                password: password.to_owned(),
            },
            tls: TlsFiles {
                ca: file("ca.crt"),
                cert: file("tls.crt"),
                key: file("tls.key"),
            },
            causal_key,
        }
    }
}
