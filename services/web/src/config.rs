//! The web server's configuration: `web.toml` beside this crate is the commented list of its keys.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use chassis::config::{Problem, Range};
use http::{Uri, uri::Scheme};
use router::{RouterConfig, classify::Classifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::{metrics::EndpointConfig, traces::TracesConfig};

/// The longest time that somebody may have to wait, in milliseconds: ten minutes.
const TIME_MAX_MS: u64 = 600_000;
/// The longest that a connection to a database may be kept, in milliseconds: a day.
const DAY_MS: u64 = 86_400_000;

/// Longer than a balancer keeps an idle connection, with room.
const IDLE_MIN_MS: u64 = 20_000;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // web.toml says what each key is
pub struct Config {
    pub instance: String,
    pub listen: SocketAddr,
    pub log: String,
    pub identity: PathBuf,
    pub admin_socket: PathBuf,
    pub threads: usize,
    pub connections: Connections,
    pub request: Request,
    pub session: Session,
    pub metrics: EndpointConfig,
    pub traces: TracesConfig,
    pub stop: Stop,
    pub links: Links,
    pub monitoring: Monitoring,
    pub database: RouterConfig,
}

/// `[connections]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
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
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Request {
    pub timeout_ms: u64,
}

/// `[session]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Session {
    pub lifetime_hours: u32,
}

/// `[stop]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Stop {
    pub announce_ms: u64,
    pub deadline_ms: u64,
}

/// `[links]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Links {
    pub traces: String,
    pub metrics: String,
}

impl Links {
    fn problems(&self) -> impl Iterator<Item = Problem> {
        let web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        let traces = &self.traces;
        let expected = "nothing, or a URL with {trace_id} in it";
        let is_good = traces.is_empty() || web(traces) && traces.contains("{trace_id}");
        let traces =
            (!is_good).then(|| Problem::new("links.traces", expected, format!("`{traces}`")));
        let metrics = &self.metrics;
        let metrics = (!metrics.is_empty() && !web(metrics))
            .then(|| Problem::new("links.metrics", "nothing, or a URL", format!("`{metrics}`")));
        traces.into_iter().chain(metrics)
    }
}

/// `[monitoring]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Monitoring {
    pub url: String,
    pub timeout_ms: u64,
    pub keep_ms: u64,
}

impl Monitoring {
    /// Whom to ask; none where the configuration names nobody.
    #[must_use]
    pub fn uri(&self) -> Option<Uri> {
        let uri: Uri = self.url.parse().ok()?;
        let https = uri.scheme() == Some(&Scheme::HTTPS);
        (https && uri.host().is_some()).then_some(uri)
    }

    fn problem(&self) -> Option<Problem> {
        let wrong = !self.url.is_empty() && self.uri().is_none();
        let expected = "nothing, or a URL such as https://prometheus:8443";
        wrong.then(|| Problem::new("monitoring.url", expected, format!("`{}`", self.url)))
    }
}

impl chassis::config::Config for Config {
    const SERVICE: &'static str = "web";
    const DEFAULT: &'static str = include_str!("../web.toml");

    fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    fn ranges(&self) -> Vec<Range> {
        let Self {
            connections,
            database,
            ..
        } = self;
        let time = |key, value| Range::of(key, value, 1..=TIME_MAX_MS);
        let mut ranges = vec![
            Range::of("threads", self.threads, 0..=1024),
            Range::of("connections.max", connections.max, 1..=1_000_000),
            time(
                "connections.handshake_timeout_ms",
                connections.handshake_timeout_ms,
            ),
            Range::of(
                "connections.idle_timeout_ms",
                connections.idle_timeout_ms,
                IDLE_MIN_MS..=TIME_MAX_MS,
            ),
            Range::of(
                "connections.header_bytes_max",
                connections.header_bytes_max,
                8192..=1_048_576,
            ),
            Range::of(
                "connections.http2_streams_max",
                connections.http2_streams_max,
                1..=10_000,
            ),
            time("request.timeout_ms", self.request.timeout_ms),
            Range::of(
                "session.lifetime_hours",
                self.session.lifetime_hours,
                1..=87_600,
            ),
            Range::of("stop.announce_ms", self.stop.announce_ms, 0..=TIME_MAX_MS),
            time("stop.deadline_ms", self.stop.deadline_ms),
            Range::of(
                "monitoring.timeout_ms",
                self.monitoring.timeout_ms,
                1..=10_000,
            ),
            Range::of(
                "monitoring.keep_ms",
                self.monitoring.keep_ms,
                0..=TIME_MAX_MS,
            ),
            time("database.max_lag_ms", database.max_lag_ms),
            time(
                "database.statement_timeout_ms",
                database.statement_timeout_ms,
            ),
            time("database.acquire_timeout_ms", database.acquire_timeout_ms),
            time("database.hold_timeout_ms", database.hold_timeout_ms),
            time("database.probe_interval_ms", database.probe_interval_ms),
            time("database.probe_timeout_ms", database.probe_timeout_ms),
            Range::of(
                "database.recovery_probes",
                database.recovery_probes,
                1..=100,
            ),
            Range::of(
                "database.max_connections",
                database.max_connections,
                1..=10_000,
            ),
            Range::of("database.max_waiting", database.max_waiting, 1..=1_000_000),
            Range::of(
                "database.max_connecting",
                database.max_connecting,
                1..=10_000,
            ),
            Range::of(
                "database.idle_timeout_ms",
                database.idle_timeout_ms,
                1..=DAY_MS,
            ),
            Range::of(
                "database.max_lifetime_ms",
                database.max_lifetime_ms,
                1..=DAY_MS,
            ),
            Range::of(
                "database.prepared_statements",
                database.prepared_statements,
                1..=10_000,
            ),
            Range::of(
                "database.transaction_retries",
                database.transaction_retries,
                0..=100,
            ),
            Range::of(
                "database.corrections_max",
                database.corrections_max,
                1..=1_000_000,
            ),
        ];
        ranges.extend(self.metrics.ranges().map(Range::from));
        ranges.extend(self.traces.ranges().map(Range::from));
        ranges
    }

    fn problems(&self) -> Vec<Problem> {
        let database = &self.database;
        let reserve = Problem::outside(
            "database.write_reserve",
            database.write_reserve,
            0..=database.max_connections.saturating_sub(1),
        );
        let mut problems: Vec<_> = reserve.into_iter().collect();
        if let Err(problem) = Classifier::new(&database.pure_functions) {
            problems.push(Problem::new(
                "database.pure_functions",
                "names of stored functions that only read",
                problem,
            ));
        }
        problems.extend(self.links.problems());
        problems.extend(self.monitoring.problem());
        if let Some((key, expected, found)) = self.traces.problem() {
            problems.push(Problem::new(key, expected, found));
        }
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
            ("LINKS__TRACES", "http://localhost/trace", "links.traces"),
            ("LINKS__TRACES", "javascript:{trace_id}", "links.traces"),
            (
                "MONITORING__URL",
                "http://prometheus:9090",
                "monitoring.url",
            ),
            ("MONITORING__TIMEOUT_MS", "0", "monitoring.timeout_ms"),
            ("LINKS__METRICS", "localhost:9090", "links.metrics"),
            ("LISTEN", "everywhere", "listen"),
            ("DATABASE__MAX_LAG_MS", "\"1\"", "database.max_lag_ms"),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.contains(&format!("`{key}`")), "{error}");
            assert!(error.contains("expected"), "{error}");
        }
    }
}
