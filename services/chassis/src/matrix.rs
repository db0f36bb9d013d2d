//! The matrix: who is where, and who may talk to whom on which port as which role. It is docker/matrix.toml, compiled in.
//!
//! Servers take the roles that they accept from here; firewalls take their rules, documents their table. It knows no program: what is
//! made of it stands with whoever makes it.
//!
//! ```
//! let matrix = chassis::matrix::matrix();
//! assert_eq!(matrix.callers("web", "https"), ["balancer"]);
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::LazyLock,
};

use serde::Deserialize;

/// In a flow's `from`: whoever reaches the network.
pub const WORLD: &str = "world";

/// In a flow's `from`: the machine that the stack runs on, which is `.1` of every network.
pub const HOST: &str = "host";

/// The last octet of the machine's own address on every network.
const HOST_OCTET: u8 = 1;

/// All of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// The third octet of each network's addresses.
    pub networks: BTreeMap<String, u8>,
    /// Every pod.
    pub pods: BTreeMap<String, Pod>,
    /// Every service.
    pub services: BTreeMap<String, Service>,
    /// Who may open a connection to whom.
    pub flows: Vec<Flow>,
}

/// One network namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// The service that carries the addresses and the rules.
    pub owner: String,
    /// The services that join it.
    pub services: Vec<String>,
    /// The last octet of its address on each network.
    pub hosts: BTreeMap<String, u8>,
}

/// One service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The user it runs as.
    pub user: u32,
    /// The role in its certificate, if it has one.
    pub role: Option<String>,
    /// What its certificate is for.
    #[serde(default)]
    pub usage: Vec<Usage>,
    /// What its certificate is called besides the service.
    #[serde(default)]
    pub names: Vec<String>,
    /// The ports that it listens on beyond the loopback, by what they are for.
    pub ports: BTreeMap<String, u16>,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// To serve TLS.
    Server,
    /// To call as a TLS client.
    Client,
}

/// Who may open a connection to whom.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// What it is for; flows of one name are counted together.
    pub name: String,
    /// Pods, [`WORLD`] or [`HOST`].
    pub from: Vec<String>,
    /// Pods.
    pub to: Vec<String>,
    /// Over which network.
    pub network: String,
    /// To which TCP port.
    pub port: u16,
    /// The roles of the clients' certificates that the server accepts; empty where it asks for none.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// The matrix of this release.
///
/// # Panics
/// Never: the file is compiled in, and a test reads it.
#[must_use]
pub fn matrix() -> &'static Matrix {
    static MATRIX: LazyLock<Matrix> = LazyLock::new(|| {
        Matrix::read(include_str!("../../../docker/matrix.toml"))
            .expect("the matrix is compiled in, and a test reads it")
    });
    &MATRIX
}

impl Matrix {
    fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The pod that a service lives in: that it owns, or that it joins.
    #[must_use]
    pub fn pod_of(&self, service: &str) -> Option<(&str, &Pod)> {
        let lives = |pod: &Pod| pod.owner == service || pod.services.iter().any(|s| s == service);
        let mut pods = self.pods.iter();
        pods.find(|(_, pod)| lives(pod))
            .map(|(name, pod)| (name.as_str(), pod))
    }

    /// The roles that servers of `role` accept on the port that is there for `purpose`: `callers("web", "https")`. Sorted.
    #[must_use]
    pub fn callers(&self, role: &str, purpose: &str) -> Vec<&str> {
        let servers = self.services.iter().filter_map(|(name, service)| {
            let port = service.ports.get(purpose)?;
            (service.role.as_deref() == Some(role)).then_some((name, *port))
        });
        let accepted: BTreeSet<&str> = servers
            .flat_map(|(name, port)| self.accepted(name, port))
            .collect();
        accepted.into_iter().collect()
    }

    /// The roles that one service accepts on one port.
    pub fn accepted(&self, service: &str, port: u16) -> impl Iterator<Item = &str> {
        let pod = self.pod_of(service).map(|(name, _)| name.to_owned());
        let flows = self.flows.iter().filter(move |flow| {
            flow.port == port && flow.to.iter().any(|to| Some(to) == pod.as_ref())
        });
        flows.flat_map(|flow| flow.roles.iter().map(String::as_str))
    }

    /// The address of a pod, or of [`HOST`], on a network, where it has one. `subnet` is two octets: `10.213`.
    #[must_use]
    pub fn address(&self, subnet: &str, who: &str, network: &str) -> Option<Ipv4Addr> {
        let octet = self.networks.get(network)?;
        let host = match who {
            HOST => HOST_OCTET,
            pod => *self.pods.get(pod)?.hosts.get(network)?,
        };
        format!("{subnet}.{octet}.{host}").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_call_whom_is_read() {
        let matrix = matrix();
        for (role, purpose, callers) in [
            ("web", "https", &["balancer"][..]),
            ("web", "metrics", &["prometheus"]),
            ("balancer", "https", &[]),
            ("mysql", "mysql", &["arbiter", "migrate", "mysql", "web"]),
            ("telemetry", "spans", &["arbiter", "balancer", "web"]),
            ("telemetry", "metrics", &["prometheus"]),
            ("nobody", "https", &[]),
        ] {
            assert_eq!(matrix.callers(role, purpose), callers, "{role} {purpose}");
        }
        assert_eq!(
            matrix.pod_of("balancer-2").map(|(name, _)| name),
            Some("pod-edge")
        );
        assert_eq!(
            matrix.pod_of("fw-edge").map(|(name, _)| name),
            Some("pod-edge")
        );
        assert!(matrix.pod_of("migrate").is_none());
        assert_eq!(
            matrix.address("10.213", "pod-web-1", "data"),
            Some(Ipv4Addr::new(10, 213, 3, 21))
        );
        assert_eq!(
            matrix.address("10.213", HOST, "edge"),
            Some(Ipv4Addr::new(10, 213, 1, 1))
        );
        assert_eq!(matrix.address("10.213", "pod-web-1", "edge"), None);
    }

    #[test]
    fn everything_that_is_named_is_there() {
        let matrix = matrix();
        for (name, pod) in &matrix.pods {
            for service in pod.services.iter().chain([&pod.owner]) {
                assert!(matrix.services.contains_key(service), "{name}: {service}");
            }
            for (network, host) in &pod.hosts {
                assert!(matrix.networks.contains_key(network), "{name}: {network}");
                assert!((2..128).contains(host), "{name}: {host}");
            }
        }
        let roles: BTreeSet<_> = matrix
            .services
            .values()
            .filter_map(|s| s.role.as_deref())
            .collect();
        for flow in &matrix.flows {
            let what = format!("{} to {}", flow.name, flow.port);
            assert!(!flow.from.is_empty() && !flow.to.is_empty(), "{what}");
            for pod in flow.from.iter().chain(&flow.to) {
                let stranger = pod == WORLD || pod == HOST;
                let there = matrix.address("10.213", pod, &flow.network).is_some();
                assert!(
                    there || stranger && flow.from.contains(pod),
                    "{what}: {pod}"
                );
            }
            for role in &flow.roles {
                assert!(roles.contains(role.as_str()), "{what}: the role {role}");
            }
            for pod in &flow.to {
                let pod = &matrix.pods[pod];
                let listens = pod.services.iter().chain([&pod.owner]).any(|service| {
                    matrix.services[service]
                        .ports
                        .values()
                        .any(|port| *port == flow.port)
                });
                assert!(
                    listens,
                    "{what}: nobody listens in the pod of {}",
                    pod.owner
                );
            }
        }
    }

    #[test]
    fn whatever_listens_can_be_reached_by_somebody() {
        let matrix = matrix();
        for (name, service) in &matrix.services {
            let Some((pod, _)) = matrix.pod_of(name) else {
                assert!(service.ports.is_empty(), "{name} is in no pod");
                continue;
            };
            for port in service.ports.values() {
                let reached = matrix
                    .flows
                    .iter()
                    .any(|flow| flow.port == *port && flow.to.iter().any(|to| to == pod));
                assert!(reached, "no flow leads to {port} of {name}");
            }
        }
    }

    #[test]
    fn a_key_that_there_is_not_is_refused() {
        let text = include_str!("../../../docker/matrix.toml");
        assert!(Matrix::read(&text.replace("roles = [", "role = [")).is_err());
    }
}
