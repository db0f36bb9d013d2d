//! The balancer's configuration: `balancer.toml` beside this crate is the commented list of its keys.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::config::{Problem, Range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::metrics::EndpointConfig;
use telemetry::traces::TracesConfig;

use crate::clients::Limits as ClientLimits;
use crate::health::Policy;
use crate::http1::{FIELDS_CAP, Limits};
use crate::pace::Rate;

/// An idle connection older than this may already be closed by a web server (axum's own time is 30 s).
const IDLE_S_MAX: u64 = 20;
/// The weight of a backend that says nothing of it.
pub const WEIGHT: u32 = 100;
/// The largest.
pub const WEIGHT_MAX: u32 = 1000;
/// What a backend's place among the others, and the labels of metrics, are made for.
const BACKENDS_CAP: usize = 256;
/// Requests in flight on one backend.
const REQUESTS_CAP: u32 = 1_000_000;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // balancer.toml says what each key is
pub struct Config {
    pub instance: usize,
    pub log: String,
    pub identity: PathBuf,
    pub admin_socket: PathBuf,
    pub threads: usize,
    pub backends: Vec<BackendConfig>,
    pub listen: Listen,
    pub edge: Edge,
    pub request: Request,
    pub backend: Exchange,
    pub balancing: Balancing,
    pub health: HealthChecks,
    pub ejection: Ejection,
    pub admission: Admission,
    pub clients: Clients,
    pub access_log: AccessLog,
    pub metrics: EndpointConfig,
    pub traces: TracesConfig,
    pub stop: Stop,
}

/// `[[backends]]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct BackendConfig {
    pub name: String,
    pub host: String,
    pub port: u16,
    #[serde(default = "weight")]
    pub weight: u32,
    #[serde(default)]
    pub standby: bool,
    #[serde(default)]
    pub every_address: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<u32>,
}

fn weight() -> u32 {
    WEIGHT
}

/// `[listen]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Listen {
    pub https: SocketAddr,
    pub redirect: SocketAddr,
    pub connections_max: usize,
    pub handshake_timeout_ms: u64,
    pub proxy_protocol_from: Vec<String>,
}

/// `[edge]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Edge {
    pub host: String,
    pub https_port: u16,
    pub hsts_max_age_s: u64,
    pub expose_topology: bool,
    pub refuse_unknown_hosts: bool,
    pub trace_sample_percent: u8,
    pub trusted_hops: Vec<String>,
    pub certificates: Vec<PathBuf>,
}

/// `[request]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Request {
    pub header_bytes_max: u32,
    pub header_fields_max: usize,
    pub target_bytes_max: usize,
    pub header_timeout_ms: u64,
    pub body_bytes_max: u64,
    pub body_idle_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub rate_min_bytes_per_s: u64,
    pub rate_grace_ms: u64,
    pub total_timeout_s: u64,
    pub tunnel_idle_s: u64,
    pub keep_alive_s: u64,
    pub http2_streams_max: u32,
    pub upgrades: Vec<String>,
}

impl Request {
    /// The least that a client must move.
    pub fn rate(&self) -> Rate {
        Rate {
            bytes_per_s: self.rate_min_bytes_per_s,
            grace_ms: self.rate_grace_ms,
        }
    }
}

/// How backends are spoken to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendTls {
    /// Mutual TLS; name and role of the backend are verified.
    Mutual,
    /// Plain text. Only for where nobody else can listen: on a loopback.
    Off,
}

/// `[backend]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Exchange {
    pub tls: BackendTls,
    pub role: String,
    pub connect_timeout_ms: u64,
    pub handshake_timeout_ms: u64,
    pub first_byte_timeout_ms: u64,
    pub answer_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub gone_ms: u64,
    pub idle_connections_max: usize,
    pub idle_s: u64,
    pub tries_max: usize,
    pub replay_bytes_max: usize,
    pub retry_percent: u8,
    pub retry_burst: u32,
    pub retry_per_s: u32,
    pub keyed_paths: Vec<String>,
}

/// How the backends share the work.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All of them do, by their weights.
    ActiveActive,
    /// Those that are on standby get requests only while no other is usable.
    ActivePassive,
}

impl Mode {
    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::ActiveActive => "active-active",
            Mode::ActivePassive => "active-passive",
        }
    }
}

/// What is done when no backend is well.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenNone {
    /// Requests go to those that are not: one may work all the same.
    Open,
    /// Requests are answered 503.
    Closed,
}

/// `[balancing]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Balancing {
    pub mode: Mode,
    pub slow_start_s: u64,
    pub slow_start_percent: u8,
    pub when_none: WhenNone,
    pub drain_deadline_s: u64,
    pub backends_max: usize,
    pub state_file: PathBuf,
}

impl Balancing {
    /// How long a backend that is drained or removed may go on.
    pub fn drain_deadline(&self) -> Duration {
        Duration::from_secs(self.drain_deadline_s)
    }
}

/// `[ejection]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Ejection {
    pub consecutive_errors: u32,
    pub error_percent_over: u8,
    pub requests_min: u32,
    pub window_s: u64,
    pub time_s: u64,
    pub time_max_s: u64,
    pub share_max_percent: u8,
}

/// `[admission]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Admission {
    pub requests_max: u32,
    pub queue_max: usize,
    pub queue_timeout_ms: u64,
}

impl Clients {
    /// What a client may do.
    pub fn limits(&self) -> ClientLimits {
        ClientLimits {
            connections_max: self.connections_max,
            requests_per_s: self.requests_per_s,
            burst: self.burst,
            tracked_max: self.tracked_max,
        }
    }
}

/// `[clients]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Clients {
    pub connections_max: usize,
    pub requests_per_s: u32,
    pub burst: u32,
    pub tracked_max: usize,
}

/// `[health]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct HealthChecks {
    pub path: String,
    pub interval_ms: u64,
    pub interval_in_doubt_ms: u64,
    pub timeout_ms: u64,
    pub rise: u32,
    pub fall: u32,
    pub jitter_percent: u8,
}

/// `[access_log]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct AccessLog {
    pub enabled: bool,
    pub queue_lines_max: usize,
}

/// `[stop]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Stop {
    pub accept_ms: u64,
    pub quiet_ms: u64,
    pub deadline_ms: u64,
}

impl Config {
    /// What is taken of a message of HTTP.
    pub fn limits(&self) -> Limits {
        Limits {
            head_bytes_max: self.request.header_bytes_max as usize,
            fields_max: self.request.header_fields_max,
            target_bytes_max: self.request.target_bytes_max,
            ..Limits::default()
        }
    }

    /// Worker threads, once 0 is replaced by what the machine has.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

impl HealthChecks {
    /// The part of it that decides.
    pub fn policy(&self) -> Policy {
        Policy {
            interval: Duration::from_millis(self.interval_ms),
            interval_in_doubt: Duration::from_millis(self.interval_in_doubt_ms),
            rise: self.rise,
            fall: self.fall,
            jitter: f64::from(self.jitter_percent) / 100.0,
        }
    }
}

impl chassis::config::Config for Config {
    const SERVICE: &'static str = "balancer";
    const DEFAULT: &'static str = include_str!("../balancer.toml");

    fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    fn ranges(&self) -> Vec<Range> {
        const MINUTES_MS: u64 = 600_000;
        const DAY_S: u64 = 86_400;
        let Config {
            listen,
            edge,
            request,
            backend,
            balancing,
            ejection,
            admission,
            clients,
            health,
            stop,
            ..
        } = self;
        let mut ranges = vec![
            Range::of("instance", self.instance, 1..=64),
            Range::of("threads", self.threads, 0..=1024),
            Range::of(
                "listen.connections_max",
                listen.connections_max,
                1..=1_000_000,
            ),
            Range::of(
                "listen.handshake_timeout_ms",
                listen.handshake_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of("edge.https_port", edge.https_port, 1..=65_535),
            Range::of(
                "edge.trace_sample_percent",
                edge.trace_sample_percent,
                0..=100,
            ),
            Range::of(
                "request.header_bytes_max",
                request.header_bytes_max,
                1024..=1_048_576,
            ),
            Range::of(
                "request.header_timeout_ms",
                request.header_timeout_ms,
                100..=MINUTES_MS,
            ),
            Range::of(
                "request.body_bytes_max",
                request.body_bytes_max,
                1..=1 << 40,
            ),
            Range::of(
                "request.body_idle_timeout_ms",
                request.body_idle_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "request.write_timeout_ms",
                request.write_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "request.header_fields_max",
                request.header_fields_max,
                1..=FIELDS_CAP,
            ),
            Range::of(
                "request.target_bytes_max",
                request.target_bytes_max,
                16..=1_048_576,
            ),
            Range::of(
                "request.rate_min_bytes_per_s",
                request.rate_min_bytes_per_s,
                0..=1 << 30,
            ),
            Range::of(
                "request.rate_grace_ms",
                request.rate_grace_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "request.total_timeout_s",
                request.total_timeout_s,
                1..=DAY_S,
            ),
            Range::of("request.tunnel_idle_s", request.tunnel_idle_s, 1..=DAY_S),
            Range::of("request.keep_alive_s", request.keep_alive_s, 1..=3600),
            Range::of(
                "request.http2_streams_max",
                request.http2_streams_max,
                1..=10_000,
            ),
            Range::of(
                "backend.connect_timeout_ms",
                backend.connect_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "backend.handshake_timeout_ms",
                backend.handshake_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "backend.first_byte_timeout_ms",
                backend.first_byte_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "backend.replay_bytes_max",
                backend.replay_bytes_max,
                0..=16 << 20,
            ),
            Range::of("backend.retry_percent", backend.retry_percent, 0..=100),
            Range::of("backend.retry_burst", backend.retry_burst, 0..=100_000),
            Range::of("backend.retry_per_s", backend.retry_per_s, 0..=100_000),
            Range::of(
                "backend.answer_timeout_ms",
                backend.answer_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of("backend.gone_ms", backend.gone_ms, 1000..=MINUTES_MS),
            Range::of(
                "backend.write_timeout_ms",
                backend.write_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "backend.idle_connections_max",
                backend.idle_connections_max,
                1..=100_000,
            ),
            Range::of("backend.idle_s", backend.idle_s, 1..=IDLE_S_MAX),
            Range::of("backend.tries_max", backend.tries_max, 1..=16),
            Range::of("health.interval_ms", health.interval_ms, 10..=MINUTES_MS),
            Range::of(
                "health.interval_in_doubt_ms",
                health.interval_in_doubt_ms,
                10..=MINUTES_MS,
            ),
            Range::of("health.timeout_ms", health.timeout_ms, 1..=MINUTES_MS),
            Range::of("health.rise", health.rise, 1..=1000),
            Range::of("health.fall", health.fall, 1..=1000),
            Range::of("health.jitter_percent", health.jitter_percent, 0..=100),
            Range::of(
                "access_log.queue_lines_max",
                self.access_log.queue_lines_max,
                1..=1 << 20,
            ),
            Range::of("stop.accept_ms", stop.accept_ms, 0..=MINUTES_MS),
            Range::of("stop.quiet_ms", stop.quiet_ms, 0..=MINUTES_MS),
            Range::of("stop.deadline_ms", stop.deadline_ms, 1..=MINUTES_MS),
            Range::of("balancing.slow_start_s", balancing.slow_start_s, 0..=3600),
            Range::of(
                "balancing.slow_start_percent",
                balancing.slow_start_percent,
                1..=100,
            ),
            Range::of(
                "balancing.drain_deadline_s",
                balancing.drain_deadline_s,
                1..=DAY_S,
            ),
            Range::of(
                "balancing.backends_max",
                balancing.backends_max,
                1..=BACKENDS_CAP,
            ),
            Range::of(
                "ejection.consecutive_errors",
                ejection.consecutive_errors,
                0..=10_000,
            ),
            Range::of(
                "ejection.error_percent_over",
                ejection.error_percent_over,
                0..=100,
            ),
            Range::of(
                "ejection.requests_min",
                ejection.requests_min,
                1..=1_000_000,
            ),
            Range::of("ejection.window_s", ejection.window_s, 1..=600),
            Range::of("ejection.time_s", ejection.time_s, 1..=3600),
            Range::of("ejection.time_max_s", ejection.time_max_s, 1..=DAY_S),
            Range::of(
                "ejection.share_max_percent",
                ejection.share_max_percent,
                0..=100,
            ),
            Range::of(
                "admission.requests_max",
                admission.requests_max,
                1..=REQUESTS_CAP,
            ),
            Range::of("admission.queue_max", admission.queue_max, 0..=1_000_000),
            Range::of(
                "admission.queue_timeout_ms",
                admission.queue_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "clients.connections_max",
                clients.connections_max,
                0..=1_000_000,
            ),
            Range::of(
                "clients.requests_per_s",
                clients.requests_per_s,
                0..=10_000_000,
            ),
            Range::of("clients.burst", clients.burst, 1..=10_000_000),
            Range::of("clients.tracked_max", clients.tracked_max, 16..=10_000_000),
        ];
        ranges.extend(backend_ranges(&self.backends));
        ranges.extend(self.metrics.ranges().map(Range::from));
        ranges.extend(self.traces.ranges().map(Range::from));
        ranges
    }

    fn problems(&self) -> Vec<Problem> {
        let Config {
            listen,
            edge,
            backend,
            health,
            ..
        } = self;
        let mut problems = Vec::new();
        if !health.path.starts_with('/') {
            problems.push(Problem::new(
                "health.path",
                "a path that begins with /",
                &health.path,
            ));
        }
        for (key, networks) in [
            ("listen.proxy_protocol_from", &listen.proxy_protocol_from),
            ("edge.trusted_hops", &edge.trusted_hops),
        ] {
            for (index, one) in networks.iter().enumerate() {
                if crate::trust::network(one).is_none() {
                    let expected = "a network such as 10.0.0.0/8, or an address";
                    problems.push(Problem::new(&format!("{key}[{index}]"), expected, one));
                }
            }
        }
        for (index, path) in backend.keyed_paths.iter().enumerate() {
            if !path.starts_with('/') {
                let key = format!("backend.keyed_paths[{index}]");
                problems.push(Problem::new(&key, "a path that begins with /", path));
            }
        }
        if crate::names::host_of(&edge.host) != Some(edge.host.as_str()) {
            problems.push(Problem::new(
                "edge.host",
                "a host name or an IPv4 address, without a port",
                &edge.host,
            ));
        }
        if let Some((key, expected, found)) = self.traces.problem() {
            problems.push(Problem::new(key, expected, found));
        }
        problems.extend(backend_problems(&self.backends));
        if self.backends.len() > self.balancing.backends_max {
            problems.push(Problem::new(
                "backends",
                format!(
                    "at most {} (balancing.backends_max)",
                    self.balancing.backends_max
                ),
                self.backends.len(),
            ));
        }
        if self.ejection.time_max_s < self.ejection.time_s {
            problems.push(Problem::new(
                "ejection.time_max_s",
                "no less than ejection.time_s",
                self.ejection.time_max_s,
            ));
        }
        problems
    }
}

fn backend_ranges(backends: &[BackendConfig]) -> [Range; 3] {
    let ports = backends.iter().map(|one| Some(one.port));
    let weights = backends.iter().map(|one| Some(one.weight));
    let requests = backends.iter().map(|one| one.requests_max);
    [
        Range::of_each("backends[].port", ports, 1..=65_535),
        Range::of_each("backends[].weight", weights, 1..=WEIGHT_MAX),
        Range::of_each("backends[].requests_max", requests, 1..=REQUESTS_CAP),
    ]
}

fn backend_problems(backends: &[BackendConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if backends.is_empty() {
        problems.push(Problem::new("backends", "at least one backend", "none"));
    }
    let mut names = HashSet::new();
    for (index, backend) in backends.iter().enumerate() {
        let key = |part| format!("backends[{index}].{part}");
        if crate::names::host_of(&backend.name) != Some(backend.name.as_str()) {
            problems.push(Problem::new(&key("name"), "a host name", &backend.name));
        }
        if !names.insert(&backend.name) {
            problems.push(Problem::new(
                &key("name"),
                "a name that no other backend has",
                &backend.name,
            ));
        }
        if backend.host.is_empty() {
            problems.push(Problem::new(
                &key("host"),
                "a host name or an address",
                "nothing",
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use chassis::config::load;

    use super::*;

    fn with(variable: &str, value: &str) -> Result<Config, String> {
        let environment = [(format!("HOLDFAST_BALANCER__{variable}"), value.to_owned())];
        load::<Config>(None, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_configuration_is_good() {
        let config = load::<Config>(None, []).unwrap();
        let names: Vec<_> = config.backends.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(vec!["web-1", "web-2"], names);
        assert!(config.threads() > 0);
        let matrix = chassis::matrix::matrix();
        for backend in &config.backends {
            let service = &matrix.services[&backend.name];
            assert_eq!(service.role.as_ref(), Some(&config.backend.role));
            assert_eq!(service.ports["https"], backend.port);
        }
    }

    #[test]
    fn backends_can_be_given_by_the_environment() {
        let config = with(
            "BACKENDS",
            r#"[{ name = "web-9", host = "127.0.0.1", port = 1 }]"#,
        )
        .unwrap();
        assert_eq!("web-9", config.backends[0].name);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key_and_what_is_expected() {
        let cases = [
            ("BACKEND__IDLE_S", "21", "backend.idle_s"),
            ("HEALTH__FALL", "0", "health.fall"),
            ("HEALTH__PATH", "readyz", "health.path"),
            ("EDGE__HOST", "localhost:8443", "edge.host"),
            ("BACKENDS", "[]", "backends"),
            (
                "EDGE__TRUSTED_HOPS",
                r#"["10.0.0.0/33"]"#,
                "edge.trusted_hops[0]",
            ),
            (
                "BACKEND__KEYED_PATHS",
                r#"["api"]"#,
                "backend.keyed_paths[0]",
            ),
            (
                "BACKENDS",
                r#"[{ name = "a", host = "a", port = 1 }, { name = "a", host = "b", port = 1 }]"#,
                "backends[1].name",
            ),
            (
                "BACKENDS",
                r#"[{ name = "a", host = "a", port = 0 }]"#,
                "backends[0].port",
            ),
        ];
        for (variable, value, key) in cases {
            let error = with(variable, value).unwrap_err();
            assert!(
                error.contains(&format!("key `{key}`: expected")),
                "{variable}={value}: {error}"
            );
        }
    }
}
