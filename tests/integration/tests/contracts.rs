//! What is fixed from the first commit stands in docker/matrix.toml; compose.yaml says the same in Compose's words, docker/mysql in SQL.
//! This compares them. It reads compose.yaml through `docker compose config`, the same reader that starts the stack.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use chassis::matrix::{Matrix, Pod, matrix};
use serde_json::Value;

/// The subnet that the comparison is made with; any would do.
const SUBNET: &str = "10.213";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn compose() -> Value {
    let output = Command::new("docker")
        .args(["compose", "--profile", "*", "config", "--format", "json"])
        .env("HOLDFAST_SUBNET", SUBNET)
        .current_dir(root())
        .output()
        .expect("docker compose runs (./stack up installs it)");
    assert!(
        output.status.success(),
        "docker compose config: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "",
        "docker compose config has something to say about compose.yaml"
    );
    serde_json::from_slice(&output.stdout).expect("docker compose config prints JSON")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .map(|object| object.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

fn texts(value: &Value) -> BTreeSet<&str> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// The user of a service in Compose, without its group.
fn user(service: &Value) -> Option<&str> {
    service["user"].as_str()?.split(':').next()
}

#[test]
fn the_networks_of_the_matrix_are_those_of_compose() {
    let compose = compose();
    let networks = &compose["networks"];
    let expected: BTreeSet<_> = matrix().networks.keys().map(String::as_str).collect();
    assert_eq!(keys(networks), expected);
    for (name, octet) in &matrix().networks {
        let ipam = &networks[name]["ipam"]["config"][0];
        assert_eq!(ipam["subnet"], format!("{SUBNET}.{octet}.0/24"), "{name}");
        assert_eq!(
            ipam["gateway"],
            format!("{SUBNET}.{octet}.1"),
            "{name}: an explicit gateway"
        );
        assert_eq!(
            ipam["ip_range"],
            format!("{SUBNET}.{octet}.128/25"),
            "{name}: addresses below .128 belong to pods"
        );
    }
}

#[test]
fn a_pod_goes_out_by_the_edge_first_and_finds_names_on_the_telemetry_network_last() {
    let compose = compose();
    let mut by_name: Vec<_> = matrix()
        .networks
        .iter()
        .map(|(key, octet)| (compose["networks"][key]["name"].as_str(), *octet))
        .collect();
    by_name.sort_unstable();
    assert!(
        by_name.is_sorted_by_key(|(_, octet)| *octet),
        "an engine goes through a pod's networks by their names: {by_name:?}"
    );
}

#[test]
fn every_owner_carries_the_addresses_and_the_names_of_its_pod() {
    let compose = compose();
    for (
        pod,
        Pod {
            owner,
            services,
            hosts,
        },
    ) in &matrix().pods
    {
        let found = &compose["services"][owner];
        assert!(!found.is_null(), "{owner} of {pod} is missing");
        let networks = &found["networks"];
        let expected: BTreeSet<_> = hosts.keys().map(String::as_str).collect();
        assert_eq!(keys(networks), expected, "the networks of {owner}");
        for network in hosts.keys() {
            let address = matrix().address(SUBNET, pod, network);
            assert_eq!(
                networks[network]["ipv4_address"].as_str(),
                address.map(|address| address.to_string()).as_deref(),
                "{owner} on {network}"
            );
            let names: BTreeSet<_> = services.iter().map(String::as_str).collect();
            assert_eq!(
                texts(&networks[network]["aliases"]),
                names,
                "the names of {pod} on {network}"
            );
        }
        let environment = &found["environment"];
        assert_eq!(environment["HOLDFAST_FIREWALL__POD"], pod.as_str());
        assert_eq!(environment["HOLDFAST_FIREWALL__SUBNET"], SUBNET);
    }
}

#[test]
fn every_service_joins_its_pod_and_has_the_user_that_the_matrix_gives_it() {
    let compose = compose();
    for (
        pod,
        Pod {
            owner, services, ..
        },
    ) in &matrix().pods
    {
        for service in services {
            let found = &compose["services"][service];
            assert!(!found.is_null(), "{service} of {pod} is missing");
            let uid = matrix().services[service].user.to_string();
            assert_eq!(user(found), Some(uid.as_str()), "{service}'s user");
            assert_eq!(
                found["network_mode"],
                format!("service:{owner}"),
                "{service}"
            );
            let after = &found["depends_on"][owner];
            assert_eq!(after["condition"], "service_healthy", "{service}");
            assert_eq!(after["restart"], true, "{service}");
        }
    }
    let known: BTreeSet<_> = matrix().services.keys().map(String::as_str).collect();
    for name in keys(&compose["services"]) {
        assert!(
            known.contains(name) || name == "pki",
            "{name} is not in the matrix"
        );
    }
}

#[test]
fn only_owners_publish_and_only_on_loopback_by_default() {
    let compose = compose();
    let mut published = BTreeMap::new();
    for (name, service) in compose["services"].as_object().expect("services") {
        for port in service["ports"].as_array().unwrap_or(&Vec::new()) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name} publishes {port}");
            let target = port["target"].as_u64().expect("a port");
            published.insert(target, name.as_str());
        }
    }
    let expected = [
        (8080, "fw-edge"),
        (8443, "fw-edge"),
        (9090, "fw-telemetry"),
        (16686, "fw-telemetry"),
    ];
    assert_eq!(published, expected.into());
}

#[test]
fn every_volume_of_the_design_is_there_and_an_identity_is_read_only_for_its_consumer() {
    let compose = compose();
    let volumes = keys(&compose["volumes"]);
    for name in [
        "pki-ca",
        "mysql-1-data",
        "mysql-2-data",
        "arbiter-state",
        "edge-state",
        "backups",
    ] {
        assert!(volumes.contains(name), "the volume {name} is missing");
    }
    let consumers = matrix().services.iter().filter(|(_, s)| s.role.is_some());
    for service in consumers.map(|(name, _)| name) {
        let name = format!("pki-{service}");
        assert!(
            volumes.contains(name.as_str()),
            "the volume {name} is missing"
        );
        for (other, description) in compose["services"].as_object().expect("services") {
            let shares = description["volumes"]
                .as_array()
                .is_some_and(|mounts| mounts.iter().any(|m| m["source"] == name.as_str()));
            assert!(
                !shares || other == service || other == "pki",
                "{other} mounts the identity of {service}"
            );
        }
        let mounts = compose["services"][service]["volumes"]
            .as_array()
            .expect("mounts");
        let identity = mounts
            .iter()
            .find(|m| m["source"] == name.as_str())
            .unwrap_or_else(|| panic!("{service} does not mount {name}"));
        assert_eq!(identity["target"], "/run/holdfast/pki", "{service}");
        assert_eq!(
            identity["read_only"], true,
            "{service} may write its identity"
        );
    }
}

/// Accounts that no flow leads to: a backup comes from a server's own pod, and nothing scrapes MySQL over the network yet.
const NOT_FROM_OUTSIDE: &[(&str, &str)] = &[("backup", "mysql"), ("monitor", "prometheus")];

#[test]
fn the_accounts_of_the_databases_ask_for_the_roles_that_the_matrix_lets_in() {
    let sql = std::fs::read_to_string(root().join("docker/mysql/accounts.sql")).expect("accounts");
    let accounts: BTreeSet<(&str, &str)> = sql
        .lines()
        .filter_map(|line| {
            let (account, rest) = line.strip_prefix("ALTER USER '")?.split_once("'@'%'")?;
            let (_, role) = rest.split_once("REQUIRE SUBJECT '/CN=").unwrap_or_else(|| {
                panic!("{account} may come from everywhere and needs no certificate")
            });
            Some((account, role.split_once('\'')?.0))
        })
        .collect();
    assert!(accounts.len() >= 6, "{accounts:?}");
    let let_in = |matrix: &'static Matrix| matrix.callers("mysql", "mysql");
    let let_in: BTreeSet<_> = let_in(matrix()).into_iter().collect();
    let reached: BTreeSet<_> = accounts
        .iter()
        .filter(|account| !NOT_FROM_OUTSIDE.contains(account))
        .map(|(_, role)| *role)
        .collect();
    assert_eq!(reached, let_in, "roles of accounts, and of the matrix");
    for account in NOT_FROM_OUTSIDE {
        assert!(
            accounts.contains(account),
            "{account:?} is not there any more"
        );
    }
}

#[test]
fn prometheus_asks_everybody_who_has_a_port_for_it_and_nobody_else() {
    let file = root().join("docker/prometheus/prometheus.yml");
    let text = std::fs::read_to_string(file).expect("Prometheus has a configuration");
    let quoted = text.split('"').skip(1).step_by(2);
    let asked: BTreeSet<String> = quoted
        .filter(|text| text.contains(':'))
        .map(str::to_owned)
        .collect();
    let services = &chassis::matrix::matrix().services;
    let expected: BTreeSet<String> = services
        .iter()
        .filter_map(|(name, service)| Some(format!("{name}:{}", service.ports.get("metrics")?)))
        .collect();
    assert_eq!(asked, expected);
}
