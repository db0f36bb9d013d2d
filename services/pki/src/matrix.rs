//! Who gets an identity: the services of docker/matrix.toml that have a role.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::authority::Usage;

/// A service that gets an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name, and that of its volume after `pki-`.
    pub service: String,
    /// The subject's common name in its certificate.
    pub role: String,
    /// The user that reads its files.
    pub user: u32,
    /// What its certificate is for.
    pub usage: Vec<Usage>,
    /// The pod that it lives in, if any; a name of its certificate too.
    pub pod: Option<String>,
    /// What else it is called: a door answers in the name of those behind it.
    pub also: Vec<String>,
}

impl Consumer {
    /// The names in its certificate: its own, its pod's, those it answers for, and the loopback's, on which people and health checks
    /// meet it.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = self.own_names();
        names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names
    }

    /// The names that nobody else has.
    pub(crate) fn own_names(&self) -> Vec<String> {
        let mut names = vec![self.service.clone()];
        names.extend(self.pod.clone());
        names.extend(self.also.iter().cloned());
        names
    }
}

#[derive(Deserialize)]
struct Matrix {
    pods: BTreeMap<String, Pod>,
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Pod {
    owner: String,
    services: Vec<String>,
}

#[derive(Deserialize)]
struct Service {
    user: u32,
    role: Option<String>,
    #[serde(default)]
    usage: Vec<Usage>,
    #[serde(default)]
    names: Vec<String>,
}

/// Every consumer, by name.
#[must_use]
pub fn consumers() -> Vec<Consumer> {
    let matrix: Matrix = toml::from_str(include_str!("../../../docker/matrix.toml"))
        .expect("the matrix is compiled in, and a test reads it");
    let pod_of = |service: &str| {
        let home = matrix
            .pods
            .iter()
            .find(|(_, pod)| pod.owner == service || pod.services.iter().any(|s| s == service));
        home.map(|(name, _)| name.clone())
    };
    matrix
        .services
        .iter()
        .filter_map(|(name, service)| {
            Some(Consumer {
                service: name.clone(),
                role: service.role.clone()?,
                user: service.user,
                usage: service.usage.clone(),
                pod: pod_of(name),
                also: service.names.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str) -> Option<Consumer> {
        consumers().into_iter().find(|c| c.service == service)
    }

    #[test]
    fn the_matrix_is_read() {
        let web = of("web-2").unwrap();
        assert_eq!((web.role.as_str(), web.user), ("web", 10102));
        assert_eq!(
            web.names(),
            ["web-2", "pod-web-2", "localhost", "127.0.0.1", "::1"]
        );
        let migrate = of("migrate").unwrap();
        assert_eq!(
            (migrate.pod.as_deref(), &migrate.usage[..]),
            (None, &[Usage::Client][..])
        );
    }

    #[test]
    fn who_has_no_role_gets_nothing_and_the_door_has_the_names_of_those_behind_it() {
        assert_eq!(of("jaeger"), None);
        let door = of("fw-telemetry").unwrap();
        assert_eq!(door.role, "telemetry");
        assert_eq!(
            door.own_names(),
            ["fw-telemetry", "pod-telemetry", "jaeger", "prometheus"]
        );
    }
}
