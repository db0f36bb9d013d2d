//! The web server's configuration: `web.toml` beside this crate is the commented list of its keys.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use chassis::config::Problem;
use router::RouterConfig;
use serde::{Deserialize, Serialize};

/// The longest time that makes sense anywhere, in milliseconds: ten minutes.
const TIME_MAX_MS: u64 = 600_000;

/// Longer than a balancer keeps an idle connection, with room.
const IDLE_MIN_MS: u64 = 20_000;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // web.toml says what each key is
pub struct Config {
    pub listen: SocketAddr,
    pub log: String,
    pub identity: PathBuf,
    pub admin_socket: PathBuf,
    pub threads: usize,
    pub connections: Connections,
    pub request: Request,
    pub session: Session,
    pub stop: Stop,
    pub database: RouterConfig,
}

/// `[connections]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Connections {
    pub max: usize,
    pub handshake_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub header_bytes_max: u32,
    pub http2_streams_max: u32,
}

/// `[request]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Request {
    pub timeout_ms: u64,
}

/// `[session]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Session {
    pub lifetime_hours: u32,
}

/// `[stop]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Stop {
    pub announce_ms: u64,
    pub deadline_ms: u64,
}

impl chassis::config::Config for Config {
    const SERVICE: &'static str = "web";
    const DEFAULT: &'static str = include_str!("../web.toml");

    fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    fn problems(&self) -> Vec<Problem> {
        let Self {
            connections,
            database,
            ..
        } = self;
        let time = |key, value| Problem::outside(key, value, 1..=TIME_MAX_MS);
        let outside = [
            Problem::outside("threads", self.threads, 0..=1024),
            Problem::outside("connections.max", connections.max, 1..=1_000_000),
            time(
                "connections.handshake_timeout_ms",
                connections.handshake_timeout_ms,
            ),
            Problem::outside(
                "connections.idle_timeout_ms",
                connections.idle_timeout_ms,
                IDLE_MIN_MS..=TIME_MAX_MS,
            ),
            Problem::outside(
                "connections.header_bytes_max",
                connections.header_bytes_max,
                8192..=1_048_576,
            ),
            Problem::outside(
                "connections.http2_streams_max",
                connections.http2_streams_max,
                1..=10_000,
            ),
            time("request.timeout_ms", self.request.timeout_ms),
            Problem::outside(
                "session.lifetime_hours",
                self.session.lifetime_hours,
                1..=87_600,
            ),
            Problem::outside("stop.announce_ms", self.stop.announce_ms, 0..=TIME_MAX_MS),
            time("stop.deadline_ms", self.stop.deadline_ms),
            time("database.max_lag_ms", database.max_lag_ms),
            time(
                "database.statement_timeout_ms",
                database.statement_timeout_ms,
            ),
            time("database.acquire_timeout_ms", database.acquire_timeout_ms),
            time("database.probe_interval_ms", database.probe_interval_ms),
            time("database.probe_timeout_ms", database.probe_timeout_ms),
            Problem::outside(
                "database.max_connections",
                database.max_connections,
                1..=10_000,
            ),
            Problem::outside(
                "database.write_reserve",
                database.write_reserve,
                0..=database.max_connections.saturating_sub(1),
            ),
        ];
        let mut problems: Vec<_> = outside.into_iter().flatten().collect();
        if database.servers.is_empty() {
            problems.push(Problem::new(
                "database.servers",
                "at least one server",
                "none",
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use chassis::config::load;

    use super::*;

    fn with(name: &str, value: &str) -> Result<Config, String> {
        let variable = (format!("HOLDFAST_WEB__{name}"), value.to_owned());
        load::<Config>(None, [variable]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_configuration_is_good() {
        let config = load::<Config>(None, []).unwrap();
        assert_eq!(config.listen.port(), 8443);
        assert_eq!(config.database.servers.len(), 2);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named_with_what_would() {
        for (name, value, key) in [
            ("CONNECTIONS__MAX", "0", "connections.max"),
            (
                "CONNECTIONS__IDLE_TIMEOUT_MS",
                "15000",
                "connections.idle_timeout_ms",
            ),
            ("REQUEST__TIMEOUT_MS", "0", "request.timeout_ms"),
            ("SESSION__LIFETIME_HOURS", "0", "session.lifetime_hours"),
            ("DATABASE__WRITE_RESERVE", "32", "database.write_reserve"),
            ("DATABASE__SERVERS", "[]", "database.servers"),
            ("LISTEN", "everywhere", "listen"),
            ("DATABASE__MAX_LAG_MS", "\"1\"", "database.max_lag_ms"),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.contains(&format!("`{key}`")), "{error}");
            assert!(error.contains("expected"), "{error}");
        }
    }
}
