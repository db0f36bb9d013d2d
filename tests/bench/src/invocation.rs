//! What was run: the command, and the revision of the repository.

use std::env;
use std::path::Path;

use crate::tools;

/// The command that runs, as a person types it; of a binary's path only the name, for the rest says something about one machine alone.
pub(crate) fn command() -> String {
    typed(env::args().skip(1))
}

fn typed(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["./stack bench".to_owned()];
    for argument in arguments {
        let name = argument.rsplit('/').next().unwrap_or_default().to_owned();
        words.push(if argument.starts_with('/') {
            name
        } else {
            argument
        });
    }
    words.join(" ")
}

/// The commit, as far as it is known.
pub(crate) async fn revision() -> String {
    let git = Path::new("git");
    match tools::says(git, &["describe", "--always", "--dirty"]).await {
        Ok(revision) if !revision.starts_with("fatal") => revision,
        _ => "of an unknown revision".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_nothing_about_the_machine() {
        let arguments = [
            "balancer",
            "--balancer",
            "/somewhere/balancer",
            "--write",
            "docs/performance.md",
        ];
        assert_eq!(
            "./stack bench balancer --balancer balancer --write docs/performance.md",
            typed(arguments.into_iter().map(str::to_owned))
        );
    }
}
