//! The arbiter's configuration; arbiter.toml says what each key is.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chassis::config::{Problem, Range};
use replication::Endpoint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::{metrics::EndpointConfig, traces::TracesConfig};

use crate::{decide::Timing, failpoint::Failpoint, observe::Limits};

/// The longest name of a server: with "maintenance " it fits into the published phase.
const NAME_MAX: usize = 20;
/// The longest host.
const HOST_MAX: usize = 64;

/// See arbiter.toml.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "arbiter.toml documents each key, once")]
pub struct Config {
    pub admin_socket: PathBuf,
    pub identity: PathBuf,
    pub state_directory: PathBuf,
    pub log: String,
    pub first_primary: String,
    pub server_identity: PathBuf,
    pub tick_ms: u64,
    pub probe_timeout_ms: u64,
    pub step_timeout_ms: u64,
    pub heartbeat_ms: u64,
    pub acknowledge_timeout_ms: u64,
    pub failover_after_ms: u64,
    pub link_timeout_ms: u64,
    pub open_alone_after_ms: u64,
    pub switchover_announce_ms: u64,
    pub switchover_limit_ms: u64,
    pub copy_retry_ms: u64,
    pub discarded_bytes_max: u64,
    pub events_bytes_max: u64,
    pub failpoint: String,
    pub servers: Vec<Endpoint>,
    pub sources: Vec<Endpoint>,
    pub metrics: EndpointConfig,
    pub traces: TracesConfig,
}

impl Config {
    /// The two servers as their replicas find them, the first primary first. `None` where `problems` has something to say about them.
    #[must_use]
    pub fn pair(&self) -> Option<[Endpoint; 2]> {
        let mut servers = self.sources().to_vec();
        servers.sort_by_key(|server| server.name != self.first_primary);
        servers.try_into().ok()
    }

    pub(crate) fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            look: Duration::from_millis(self.probe_timeout_ms),
            step: Duration::from_millis(self.step_timeout_ms),
        }
    }

    /// How long things may take before something is done about them.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            failover_after: Duration::from_millis(self.failover_after_ms),
            link_timeout: Duration::from_millis(self.link_timeout_ms),
            open_alone_after: Duration::from_millis(self.open_alone_after_ms),
            switchover_announce: Duration::from_millis(self.switchover_announce_ms),
            switchover_limit: Duration::from_millis(self.switchover_limit_ms),
        }
    }

    /// Where a replica finds each server.
    #[must_use]
    pub fn sources(&self) -> &[Endpoint] {
        match self.sources.is_empty() {
            true => &self.servers,
            false => &self.sources,
        }
    }

    pub(crate) fn copy_retry(&self) -> Duration {
        Duration::from_millis(self.copy_retry_ms)
    }

    /// Where discarded transactions are saved.
    pub(crate) fn discarded(&self) -> PathBuf {
        self.state_directory.join("discarded")
    }

    pub(crate) fn failpoint(&self) -> Option<Failpoint> {
        self.failpoint.parse().ok()
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn acknowledge_timeout(&self) -> Duration {
        Duration::from_millis(self.acknowledge_timeout_ms)
    }
}

impl chassis::config::Config for Config {
    const SERVICE: &'static str = "arbiter";
    const DEFAULT: &'static str = include_str!("../arbiter.toml");

    fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    fn ranges(&self) -> Vec<Range> {
        let mut ranges = vec![
            Range::of("tick_ms", self.tick_ms, 10..=10_000),
            Range::of("probe_timeout_ms", self.probe_timeout_ms, 50..=60_000),
            Range::of("step_timeout_ms", self.step_timeout_ms, 1_000..=60_000),
            Range::of("heartbeat_ms", self.heartbeat_ms, 50..=10_000),
            Range::of(
                "acknowledge_timeout_ms",
                self.acknowledge_timeout_ms,
                100..=600_000,
            ),
            Range::of("failover_after_ms", self.failover_after_ms, 200..=600_000),
            Range::of("link_timeout_ms", self.link_timeout_ms, 700..=600_000),
            Range::of(
                "open_alone_after_ms",
                self.open_alone_after_ms,
                500..=3_600_000,
            ),
            Range::of(
                "switchover_announce_ms",
                self.switchover_announce_ms,
                0..=60_000,
            ),
            Range::of(
                "switchover_limit_ms",
                self.switchover_limit_ms,
                200..=120_000,
            ),
            Range::of("copy_retry_ms", self.copy_retry_ms, 100..=3_600_000),
            Range::of(
                "discarded_bytes_max",
                self.discarded_bytes_max,
                // It is held in memory several times.
                65_536..=16_777_216,
            ),
            Range::of(
                "events_bytes_max",
                self.events_bytes_max,
                65_536..=1_099_511_627_776,
            ),
        ];
        ranges.extend(self.metrics.ranges().map(Range::from));
        ranges.extend(self.traces.ranges().map(Range::from));
        ranges
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some((key, expected, found)) = self.traces.problem() {
            problems.push(Problem::new(key, expected, found));
        }
        let names: Vec<&str> = self
            .servers
            .iter()
            .map(|server| server.name.as_str())
            .collect();
        if names.len() != 2 || names[0] == names[1] {
            problems.push(Problem::new(
                "servers",
                "two servers with different names",
                format!("{names:?}"),
            ));
        }
        if !names.contains(&self.first_primary.as_str()) {
            problems.push(Problem::new(
                "first_primary",
                format!("one of {names:?}"),
                &self.first_primary,
            ));
        }
        let mut sources: Vec<&str> = self
            .sources
            .iter()
            .map(|source| source.name.as_str())
            .collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sources.sort_unstable();
        if !sources.is_empty() && sources != sorted {
            problems.push(Problem::new(
                "sources",
                format!("none, or one for each of {sorted:?}"),
                format!("{sources:?}"),
            ));
        }
        if self.switchover_announce_ms >= self.switchover_limit_ms {
            problems.push(Problem::new(
                "switchover_announce_ms",
                format!(
                    "less than switchover_limit_ms ({})",
                    self.switchover_limit_ms
                ),
                self.switchover_announce_ms,
            ));
        }
        if !self.failpoint.is_empty()
            && let Err(error) = self.failpoint.parse::<Failpoint>()
        {
            problems.push(Problem::new(
                "failpoint",
                error.to_string(),
                &self.failpoint,
            ));
        }
        // A name goes into a list in holdfast.cluster and, behind "maintenance ", into its phase; a host into CHANGE REPLICATION SOURCE.
        let plain = |text: &str, longest: usize| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
            (1..=longest).contains(&text.len()) && text.bytes().all(fits)
        };
        for endpoint in self.servers.iter().chain(&self.sources) {
            for (what, text, longest) in [
                ("names", &endpoint.name, NAME_MAX),
                ("hosts", &endpoint.host, HOST_MAX),
            ] {
                if !plain(text, longest) {
                    let expected = format!("{what} of 1 to {longest} letters, digits and `-._:`");
                    problems.push(Problem::new("servers", expected, format!("`{text}`")));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_is_a_good_configuration() {
        let config = chassis::config::load::<Config>(None, []).unwrap();
        assert_eq!(config.servers.len(), 2);
    }

    #[test]
    fn a_first_primary_that_is_none_of_the_servers_is_refused() {
        let variable = (
            "HOLDFAST_ARBITER__FIRST_PRIMARY".to_owned(),
            "mysql-9".to_owned(),
        );
        let error = chassis::config::load::<Config>(None, [variable]).unwrap_err();
        assert!(error.to_string().contains("key `first_primary`"), "{error}");
    }

    #[test]
    fn a_host_that_could_end_a_string_is_refused() {
        let servers =
            "[{name='mysql-1', host='a', port=1}, {name='mysql-2', host=\"it's\", port=1}]";
        let variable = ("HOLDFAST_ARBITER__SERVERS".to_owned(), servers.to_owned());
        let error = chassis::config::load::<Config>(None, [variable]).unwrap_err();
        assert!(error.to_string().contains("`it's`"), "{error}");
    }

    #[test]
    fn a_name_that_does_not_fit_into_what_is_published_is_refused() {
        let long = "mysql-of-the-other-site";
        let servers =
            format!("[{{name='mysql-1', host='a', port=1}}, {{name='{long}', host='b', port=1}}]");
        let variable = ("HOLDFAST_ARBITER__SERVERS".to_owned(), servers);
        let error = chassis::config::load::<Config>(None, [variable]).unwrap_err();
        assert!(error.to_string().contains("names of 1 to 20"), "{error}");
    }
}
