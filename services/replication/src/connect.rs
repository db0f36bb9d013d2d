//! How to connect: TLS with both sides authenticated and the server's name verified, or not at all.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

/// A server and where it listens.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// What it is called in the cluster row: `mysql-1`.
    pub name: String,
    /// A name or address that its certificate has.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// A database account.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The files of an identity, PEM; they are read at every connect, so a rotation needs no new options where the path stays.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authority that server certificates are checked against.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Our key.
    pub key: PathBuf,
}

/// Options for a connection of `account` to `endpoint`. Times are UTC; `||` and `SELECT … AS` mean what the server's default says, not
/// what the driver likes.
#[must_use]
pub fn connect_options(
    endpoint: &Endpoint,
    account: &Account,
    tls: &TlsFiles,
) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(&account.user)
        .password(&account.password)
        .ssl_mode(MySqlSslMode::VerifyIdentity)
        .ssl_ca(&tls.ca)
        .ssl_client_cert(&tls.cert)
        .ssl_client_key(&tls.key)
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        .pipes_as_concat(false)
        .no_engine_substitution(true)
}
