//! Which crate may use which, kept on what `cargo metadata` says. ARCHITECTURE.md draws the same arrows.
//!
//! A new arrow is a decision: it is added here and there in one commit.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate of the workspace and the crates of ours that it may depend on, development dependencies aside.
const ARROWS: &[(&str, &[&str])] = &[
    ("arbiter", &["chassis", "replication", "telemetry"]),
    ("balancer", &["chassis", "telemetry"]),
    ("bench", &["harness", "pki", "replication", "router"]),
    ("chassis", &[]),
    ("console", &[]),
    ("drills", &["harness", "replication"]),
    ("e2e", &["harness"]),
    ("firewall", &["chassis", "telemetry"]),
    ("harness", &["pki", "replication"]),
    ("integration", &[]),
    ("pki", &[]),
    ("replication", &[]),
    ("router", &["replication"]),
    ("telemetry", &[]),
    ("trace-store", &[]),
    ("web", &["chassis", "router", "telemetry"]),
];

/// Crates that are only programs: nothing depends on them, not even a test of another crate.
const PROGRAMS: &[&str] = &[
    "arbiter",
    "balancer",
    "bench",
    "console",
    "firewall",
    "trace-store",
    "web",
];

/// The libraries of programs that a test of another crate may call: who, and whose. The arbiter's reading of a binary log
/// (`arbiter::discarded`) and its connections (`arbiter::observe`) need a real server, and no command of the arbiter's does only that.
const CALLED_BY_TESTS: &[(&str, &str)] = &[("drills", "arbiter")];

/// What a crate must not know, whoever would bring it in directly.
const STRANGERS: &[(&str, &[&str])] = &[
    ("chassis", &["sqlx", "pingora-core", "axum"]),
    ("telemetry", &["sqlx", "pingora-core", "axum"]),
    ("pki", &["sqlx", "pingora-core", "axum"]),
    ("router", &["axum", "pingora-core"]),
];

struct Crate {
    uses: BTreeSet<String>,
    uses_in_tests: BTreeSet<String>,
}

fn workspace() -> BTreeMap<String, Crate> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata runs in the workspace");
    metadata
        .packages
        .iter()
        .map(|package| {
            let names = |development: bool| {
                package
                    .dependencies
                    .iter()
                    .filter(|d| (d.kind == DependencyKind::Development) == development)
                    .map(|d| d.name.clone())
                    .collect()
            };
            let krate = Crate {
                uses: names(false),
                uses_in_tests: names(true),
            };
            (package.name.to_string(), krate)
        })
        .collect()
}

#[test]
fn every_arrow_between_our_crates_is_a_drawn_one() {
    let workspace = workspace();
    let drawn: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    assert_eq!(
        workspace.keys().map(String::as_str).collect::<Vec<_>>(),
        drawn.keys().copied().collect::<Vec<_>>(),
        "a crate was added or removed: draw its arrows here and in ARCHITECTURE.md"
    );
    for (name, krate) in &workspace {
        for used in krate.uses.iter().filter(|u| workspace.contains_key(*u)) {
            assert!(
                drawn[name.as_str()].contains(&used.as_str()),
                "{name} depends on {used}, and no arrow says that it may"
            );
        }
    }
}

#[test]
fn nothing_depends_on_a_crate_that_is_only_a_program() {
    for (name, krate) in workspace() {
        for program in PROGRAMS {
            let called = CALLED_BY_TESTS.contains(&(name.as_str(), *program));
            assert!(
                !krate.uses.contains(*program)
                    && (called || !krate.uses_in_tests.contains(*program)),
                "{name} depends on {program}, which is only a program"
            );
        }
    }
}

#[test]
fn libraries_do_not_know_what_they_must_not() {
    let workspace = workspace();
    for (name, strangers) in STRANGERS {
        for stranger in *strangers {
            assert!(
                !workspace[*name].uses.contains(*stranger),
                "{name} depends on {stranger}"
            );
        }
    }
}
