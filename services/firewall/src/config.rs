//! The firewall's configuration: `firewall.toml` beside this crate is the commented list of its keys.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use chassis::{
    config::{Problem, Range},
    matrix::matrix,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::metrics::EndpointConfig;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "firewall.toml says what each key is")]
pub struct Config {
    pub pod: String,
    pub subnet: String,
    pub log: String,
    pub identity: PathBuf,
    pub admin_socket: PathBuf,
    pub nft: PathBuf,
    pub child_user: u32,
    pub verify_ms: u64,
    pub counters_ms: u64,
    pub metrics: EndpointConfig,
    pub door: Door,
}

/// `[door]`
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "firewall.toml says what each key is")]
pub struct Door {
    pub passages: Vec<Passage>,
    pub listen: IpAddr,
    pub connections_max: usize,
    pub handshake_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub idle_timeout_ms: u64,
}

/// One of `door.passages`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Passage {
    /// What the port is for, as the matrix calls it.
    pub port: String,
    /// Who is behind it.
    pub to: SocketAddr,
}

impl Config {
    /// The service that owns the pod, as the matrix calls it.
    #[must_use]
    pub fn owner(&self) -> Option<&'static str> {
        Some(matrix().pods.get(&self.pod)?.owner.as_str())
    }

    /// The passages that this pod has, each with its port.
    #[must_use]
    pub fn passages(&self) -> Vec<(&Passage, u16)> {
        let ports = self.owner().map(|owner| &matrix().services[owner].ports);
        let passages = self.door.passages.iter();
        passages
            .filter_map(|passage| Some((passage, *ports?.get(&passage.port)?)))
            .collect()
    }

    /// The ports that the child serves.
    #[must_use]
    pub fn served(&self) -> Vec<u16> {
        let passages = self.passages().into_iter().map(|(_, port)| port);
        [self.metrics.listen.port()]
            .into_iter()
            .chain(passages)
            .collect()
    }
}

impl chassis::config::Config for Config {
    const SERVICE: &'static str = "firewall";
    const DEFAULT: &'static str = include_str!("../firewall.toml");

    fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    fn ranges(&self) -> Vec<Range> {
        const MINUTES_MS: u64 = 600_000;
        let door = &self.door;
        let mut ranges = vec![
            Range::of("verify_ms", self.verify_ms, 100..=MINUTES_MS),
            Range::of("counters_ms", self.counters_ms, 100..=MINUTES_MS),
            // Root's child would be root.
            Range::of("child_user", self.child_user, 1..=u32::MAX - 1),
            Range::of("door.connections_max", door.connections_max, 1..=100_000),
            Range::of(
                "door.handshake_timeout_ms",
                door.handshake_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of(
                "door.connect_timeout_ms",
                door.connect_timeout_ms,
                1..=MINUTES_MS,
            ),
            Range::of("door.idle_timeout_ms", door.idle_timeout_ms, 1..=MINUTES_MS),
        ];
        ranges.extend(self.metrics.ranges().map(Range::from));
        ranges
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.owner().is_none() {
            let known: Vec<_> = matrix().pods.keys().map(String::as_str).collect();
            problems.push(Problem::new(
                "pod",
                format!("one of {}", known.join(", ")),
                format!("`{}`", self.pod),
            ));
        }
        if format!("{}.0.1", self.subnet)
            .parse::<std::net::Ipv4Addr>()
            .is_err()
        {
            problems.push(Problem::new(
                "subnet",
                "the first two octets of an address, such as 10.213",
                format!("`{}`", self.subnet),
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
        let variable = (format!("HOLDFAST_FIREWALL__{name}"), value.to_owned());
        load::<Config>(None, [variable]).map_err(|error| error.to_string())
    }

    #[test]
    fn the_shipped_configuration_is_good_and_fits_the_matrix() {
        let config = load::<Config>(None, []).unwrap();
        assert_eq!(config.served(), [9100]);
        for pod in matrix().pods.values() {
            let owner = &matrix().services[&pod.owner];
            assert_eq!(owner.ports["metrics"], config.metrics.listen.port());
            assert_eq!(owner.user, config.child_user);
        }
    }

    #[test]
    fn only_the_telemetry_pod_has_a_door() {
        let config = with("POD", "pod-telemetry").unwrap();
        assert_eq!(config.served(), [9100, 4318, 8443]);
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named_with_what_would() {
        for (name, value, key) in [
            ("POD", "pod-9", "pod"),
            ("SUBNET", "10", "subnet"),
            ("CHILD_USER", "0", "child_user"),
            ("VERIFY_MS", "1", "verify_ms"),
            ("DOOR__CONNECTIONS_MAX", "0", "door.connections_max"),
            ("METRICS__LISTEN", "everywhere", "metrics.listen"),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }
}
