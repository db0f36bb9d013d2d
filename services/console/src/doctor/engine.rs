//! Is there an engine that answers, and are its client's plugins there and new enough?

use super::Finding;
use crate::command::{self, CommandError};

/// The oldest engine that is known to do: static addresses, `no-new-privileges`, BuildKit.
const ENGINE_MIN: [u32; 2] = [20, 10];

/// The oldest Compose that reads the file: `!reset`-free merging of anchors, `depends_on.restart`, `up --wait-timeout`.
const COMPOSE_MIN: [u32; 2] = [2, 24];

pub(super) async fn examine() -> Vec<Finding> {
    let (engine, compose, buildx) = tokio::join!(
        command::output("docker", &["version", "--format", "{{.Server.Version}}"]),
        command::output("docker", &["compose", "version", "--short"]),
        command::output("docker", &["buildx", "version"]),
    );
    vec![
        judge_engine(engine),
        judge_compose(compose),
        judge_buildx(buildx),
    ]
}

fn judge_engine(answer: Result<String, CommandError>) -> Finding {
    let about = "engine";
    match answer {
        Ok(version) if at_least(&version, ENGINE_MIN) => {
            Finding::ok(about, format!("Docker {}", version.trim()))
        }
        Ok(version) => Finding::fault(
            about,
            format!("Docker {} is older than 20.10", version.trim()),
            "install a newer Docker Engine: https://docs.docker.com/engine/install/",
        ),
        Err(CommandError::Missing(_)) => Finding::fault(
            about,
            "there is no docker here",
            "./stack up as root on Debian installs it; elsewhere https://docs.docker.com/engine/install/",
        ),
        Err(error) => Finding::fault(
            about,
            format!("the engine does not answer: {error}"),
            "start it (systemctl start docker), or join the group docker, or run this as root",
        ),
    }
}

fn judge_compose(answer: Result<String, CommandError>) -> Finding {
    let about = "compose";
    match answer {
        Ok(version) if at_least(&version, COMPOSE_MIN) => {
            Finding::ok(about, format!("Compose {}", version.trim()))
        }
        Ok(version) => Finding::fault(
            about,
            format!("Compose {} is older than 2.24", version.trim()),
            "install a newer Compose plugin: https://docs.docker.com/compose/install/linux/",
        ),
        Err(_) => Finding::fault(
            about,
            "docker has no Compose v2 plugin",
            "./stack up as root on Debian installs it; elsewhere https://docs.docker.com/compose/install/linux/",
        ),
    }
}

fn judge_buildx(answer: Result<String, CommandError>) -> Finding {
    let about = "buildx";
    match answer {
        Ok(version) => {
            let version = version.split_whitespace().nth(1).unwrap_or("").to_owned();
            Finding::ok(about, format!("buildx {version}"))
        }
        Err(_) => Finding::fault(
            about,
            "docker has no buildx plugin, which builds the images",
            "./stack up as root on Debian installs it; elsewhere https://docs.docker.com/build/concepts/overview/",
        ),
    }
}

/// Whether a version such as `v2.26.1-4` is this one or newer.
fn at_least(version: &str, min: [u32; 2]) -> bool {
    let mut numbers = version
        .trim()
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let found = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
    found >= min
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, enough) in [
            ("2.24.0", true),
            ("v2.26.1-4", true),
            ("5.0.2\n", true),
            ("2.9.9", false),
            ("1.29.2", false),
            ("", false),
        ] {
            assert_eq!(at_least(version, COMPOSE_MIN), enough, "{version}");
        }
    }

    #[test]
    fn what_is_missing_or_silent_is_told_apart() {
        let missing = judge_engine(Err(CommandError::Missing("docker".to_owned())));
        assert_eq!(missing.severity, Severity::Fault);
        assert!(missing.found.contains("no docker"));
        let silent = judge_engine(Err(CommandError::Failed {
            command: "docker version".to_owned(),
            words: "permission denied".to_owned(),
        }));
        assert!(silent.found.contains("permission denied"));
        assert_eq!(
            judge_engine(Ok("18.09.1".to_owned())).severity,
            Severity::Fault
        );
        assert_eq!(
            judge_engine(Ok("20.10.24+dfsg1\n".to_owned())).severity,
            Severity::Ok
        );
    }
}
