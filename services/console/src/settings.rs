//! What decides where this stack is: the variables of .env.example. `./stack` has read .env into the environment before.

use std::collections::BTreeMap;

/// The settings that matter here, with the defaults of compose.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The stack's name in Compose.
    pub project: String,
    /// The address that the edge's ports are published on.
    pub bind: String,
    /// The ports of the edge on the host: HTTPS, HTTP.
    pub ports: [u16; 2],
    /// The first two octets of the four networks.
    pub subnet: String,
    /// The port of Jaeger's pages and API, on this machine's loopback.
    pub jaeger_port: u16,
    /// The port of Prometheus's pages and API, on this machine's loopback.
    pub prometheus_port: u16,
}

impl Settings {
    /// Those of this process.
    #[must_use]
    pub fn of_the_environment() -> Self {
        Self::of(&std::env::vars().collect())
    }

    /// Where a client on this machine finds the edge.
    #[must_use]
    pub fn edge_url(&self) -> String {
        let host = match self.bind.as_str() {
            "127.0.0.1" | "0.0.0.0" => "localhost",
            address => address,
        };
        format!("https://{host}:{}", self.ports[0])
    }

    fn of(environment: &BTreeMap<String, String>) -> Self {
        let text = |name: &str, default: &str| {
            let value = environment.get(name).filter(|value| !value.is_empty());
            value.map_or(default, String::as_str).to_owned()
        };
        let port = |name: &str, default: u16| text(name, "").parse().unwrap_or(default);
        Self {
            project: text("COMPOSE_PROJECT_NAME", "holdfast"),
            bind: text("HOLDFAST_BIND", "127.0.0.1"),
            ports: [
                port("HOLDFAST_HTTPS_PORT", 8443),
                port("HOLDFAST_HTTP_PORT", 8080),
            ],
            subnet: text("HOLDFAST_SUBNET", "10.213"),
            jaeger_port: port("HOLDFAST_JAEGER_PORT", 16686),
            prometheus_port: port("HOLDFAST_PROMETHEUS_PORT", 9090),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_as_in_the_compose_file() {
        let settings = Settings::of(&BTreeMap::new());
        let compose = include_str!("../../../compose.yaml");
        assert!(compose.contains(&format!("name: {}\n", settings.project)));
        assert!(compose.contains(&format!("${{HOLDFAST_BIND:-{}}}", settings.bind)));
        assert!(compose.contains(&format!("${{HOLDFAST_HTTPS_PORT:-{}}}", settings.ports[0])));
        assert!(compose.contains(&format!("${{HOLDFAST_HTTP_PORT:-{}}}", settings.ports[1])));
        assert!(compose.contains(&format!("${{HOLDFAST_SUBNET:-{}}}", settings.subnet)));
        for (variable, port) in [
            ("HOLDFAST_JAEGER_PORT", settings.jaeger_port),
            ("HOLDFAST_PROMETHEUS_PORT", settings.prometheus_port),
        ] {
            assert!(compose.contains(&format!("${{{variable}:-{port}}}")));
        }
    }

    #[test]
    fn what_is_set_counts_and_an_empty_value_does_not() {
        let set = [("HOLDFAST_HTTPS_PORT", "9443"), ("HOLDFAST_SUBNET", "")];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::of(&set.into());
        assert_eq!(settings.ports, [9443, 8080]);
        assert_eq!(settings.subnet, "10.213");
        assert_eq!(settings.edge_url(), "https://localhost:9443");
    }
}
