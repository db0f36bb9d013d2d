//! What every container must have and must not have (invariant 10), read from compose.yaml by the reader that starts the stack.
//!
//! Whether a running service can still do more than it should is seen by the kernel's own words in ring 3 (tests/e2e/firewall.rs).

use std::{collections::BTreeSet, path::Path, process::Command};

use chassis::matrix::matrix;
use serde_json::Value;

/// What does its work and ends.
const ONE_SHOTS: &[&str] = &["pki", "migrate"];

/// Who has a capability, and why: pki gives files to their users; an owner loads rules, and starts its child under another user.
const CAPABILITIES: &[(&str, &[&str])] = &[
    ("pki", &["CHOWN", "DAC_OVERRIDE", "FOWNER"]),
    ("fw-", &["NET_ADMIN", "SETGID", "SETUID"]),
];

/// The longest that a service may take to stop, in seconds; Compose's own default is 10.
const STOP_MAX_S: u64 = 60;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn services() -> Vec<(String, Value)> {
    let output = Command::new("docker")
        .args([
            "compose",
            "--env-file",
            "/dev/null",
            "--profile",
            "*",
            "config",
            "--format",
            "json",
        ])
        .env_remove("HOLDFAST_BIND")
        .current_dir(root())
        .output()
        .expect("docker compose runs (./stack up installs it)");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "docker compose config: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let config: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let services = config["services"].as_object().expect("services").clone();
    assert!(services.len() >= 16, "only {} services", services.len());
    services.into_iter().collect()
}

fn texts(value: &Value) -> BTreeSet<&str> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// `10m`, `1h`, `30s` and their sums, as Compose prints them, in seconds.
fn seconds(value: &Value) -> u64 {
    let (mut total, mut number) = (0, 0);
    for c in value.as_str().unwrap_or_default().chars() {
        match (c.to_digit(10), c) {
            (Some(digit), _) => number = number * 10 + u64::from(digit),
            (None, 'h') => total += std::mem::take(&mut number) * 3600,
            (None, 'm') => total += std::mem::take(&mut number) * 60,
            (None, _) => total += std::mem::take(&mut number),
        }
    }
    total
}

#[test]
fn nobody_has_a_capability_that_it_does_not_need_nor_can_get_one() {
    for (name, service) in services() {
        assert_eq!(
            texts(&service["cap_drop"]),
            ["ALL"].into(),
            "{name}: cap_drop"
        );
        let needed = CAPABILITIES
            .iter()
            .find(|(who, _)| name == *who || who.ends_with('-') && name.starts_with(who))
            .map_or(&[][..], |(_, capabilities)| capabilities);
        let needed: BTreeSet<_> = needed.iter().copied().collect();
        assert_eq!(texts(&service["cap_add"]), needed, "{name}: cap_add");
        assert!(
            texts(&service["security_opt"]).contains("no-new-privileges:true"),
            "{name}: no-new-privileges"
        );
        for key in [
            "privileged",
            "pid",
            "ipc",
            "userns_mode",
            "devices",
            "cgroup_parent",
        ] {
            assert!(service[key].is_null(), "{name}: {key} is {}", service[key]);
        }
        let mode = service["network_mode"].as_str().unwrap_or("none");
        let lives = mode == "none" || mode.starts_with("service:fw-");
        assert!(lives, "{name}: network_mode {mode}");
    }
}

#[test]
fn every_service_has_a_user_of_its_own_and_a_root_that_cannot_be_written() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}: read_only");
        let user = service["user"].as_str().unwrap_or_default();
        let (uid, gid) = user.split_once(':').unwrap_or_default();
        assert_eq!(uid, gid, "{name}: user {user}");
        if name == "pki" || name.starts_with("fw-") {
            assert_eq!(uid, "0", "{name}: only root gets a capability");
        } else {
            let expected = matrix().services[&name].user;
            assert_eq!(uid, expected.to_string(), "{name}: user");
            assert_ne!(uid, "0", "{name}");
        }
        for mount in service["volumes"].as_array().unwrap_or(&Vec::new()) {
            assert_eq!(
                mount["type"], "volume",
                "{name} mounts something of this machine: {mount}"
            );
        }
    }
}

#[test]
fn everything_is_limited() {
    for (name, service) in services() {
        let limit = |key: &str| match &service[key] {
            Value::String(text) => text.parse().unwrap_or(0),
            other => other.as_u64().unwrap_or(0),
        };
        let memory: u64 = limit("mem_limit");
        assert!(
            (1 << 20..=2 << 30).contains(&memory),
            "{name}: mem_limit {memory}"
        );
        let pids = limit("pids_limit");
        assert!((1..=1024).contains(&pids), "{name}: pids_limit {pids}");
        let logging = &service["logging"];
        assert_eq!(logging["driver"], "json-file", "{name}: logging");
        for option in ["max-size", "max-file"] {
            assert!(logging["options"][option].is_string(), "{name}: {option}");
        }
    }
}

#[test]
fn every_long_running_service_starts_again_is_asked_how_it_is_and_has_time_to_stop() {
    for (name, service) in services() {
        if ONE_SHOTS.contains(&name.as_str()) {
            let restart = service["restart"].as_str().unwrap_or("no");
            assert_eq!(restart, "no", "{name}: a one-shot ends");
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}: restart");
        // A program of the image itself: there is no shell in most of them.
        let test = service["healthcheck"]["test"]
            .as_array()
            .expect("a health check");
        let words: Vec<&str> = test.iter().filter_map(Value::as_str).collect();
        assert_eq!(words[0], "CMD", "{name}: {words:?}");
        let own = match name.as_str() {
            "mysql-1" | "mysql-2" => vec!["/usr/local/bin/healthcheck".to_owned()],
            "jaeger" | "prometheus" => {
                let probe = words.get(3).copied().unwrap_or_default();
                assert!(probe.starts_with("http://127.0.0.1:"), "{name}: {words:?}");
                vec![
                    "/usr/local/bin/firewall".into(),
                    "probe".into(),
                    probe.to_owned(),
                ]
            }
            name => {
                let program = name.trim_start_matches("fw-");
                let program = if name == program { program } else { "firewall" };
                let program = program.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit());
                vec![
                    format!("/usr/local/bin/{program}"),
                    "healthcheck".to_owned(),
                ]
            }
        };
        assert_eq!(words[1..], own, "{name}: health check");
        let grace = seconds(&service["stop_grace_period"]);
        assert!(
            (1..=STOP_MAX_S).contains(&grace),
            "{name}: stop_grace_period {grace}"
        );
    }
}

/// What a program gives itself to stop is less than what the engine gives it.
#[test]
fn a_program_stops_within_its_grace_period() {
    let services: std::collections::BTreeMap<_, _> = services().into_iter().collect();
    let config = |path: &str| -> toml::Table {
        let text = std::fs::read_to_string(root().join(path)).expect("the shipped configuration");
        text.parse().expect("it is TOML")
    };
    let sum = |path: &str, keys: &[&str]| -> u64 {
        let stop = config(path)["stop"].as_table().expect("[stop]").clone();
        let of = |key: &&str| stop[*key].as_integer().expect("a number").unsigned_abs();
        keys.iter().map(of).sum()
    };
    for (name, ms) in [
        (
            "balancer-1",
            sum(
                "services/balancer/balancer.toml",
                &["accept_ms", "deadline_ms"],
            ),
        ),
        (
            "balancer-2",
            sum(
                "services/balancer/balancer.toml",
                &["accept_ms", "deadline_ms"],
            ),
        ),
        (
            "web-1",
            sum("services/web/web.toml", &["announce_ms", "deadline_ms"]),
        ),
        (
            "web-2",
            sum("services/web/web.toml", &["announce_ms", "deadline_ms"]),
        ),
    ] {
        let grace = seconds(&services[name]["stop_grace_period"]);
        assert!(ms < grace * 1000, "{name} takes {ms} ms, and has {grace} s");
    }
    for name in ["mysql-1", "mysql-2"] {
        let own = &services[name]["environment"]["HOLDFAST_MYSQL_STOP_SECONDS"];
        let own: u64 = own.as_str().and_then(|s| s.parse().ok()).expect("seconds");
        assert!(
            own < seconds(&services[name]["stop_grace_period"]),
            "{name}: {own} s"
        );
    }
}

#[test]
fn images_are_pinned_and_nothing_is_published_to_everybody() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_default();
        assert!(
            image.starts_with("holdfast/") && image.ends_with(":dev"),
            "{name}: an image of ours, with a tag: {image}"
        );
        for (argument, value) in service["build"]["args"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            if !argument.ends_with("_IMAGE") {
                continue;
            }
            let tag = value.rsplit_once(':').map_or("", |(_, tag)| tag);
            assert!(
                !tag.is_empty() && tag != "latest",
                "{name}: {argument} is {value}"
            );
        }
        for port in service["ports"].as_array().unwrap_or(&Vec::new()) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name} publishes {port}");
        }
    }
}

#[test]
fn no_secret_is_in_an_environment_variable_nor_in_an_argument() {
    let suspicious = ["password", "secret", "token", "key", "credential"];
    for (name, service) in services() {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let lower = variable.to_lowercase();
            assert!(
                !suspicious.iter().any(|word| lower.contains(word)),
                "{name}: {variable}={value}"
            );
        }
        for word in texts(&service["command"]) {
            let lower = word.to_lowercase();
            assert!(
                !suspicious.iter().any(|s| lower.contains(s)),
                "{name}: {word}"
            );
        }
        assert!(
            service["secrets"].is_null(),
            "{name}: secrets come from pki's volumes"
        );
    }
}
