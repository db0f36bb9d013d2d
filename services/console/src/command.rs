//! Running another program for what it prints, within a limit.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// How long one of them may take, if nothing else is said.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Why there is nothing to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("there is no program `{0}`")]
    Missing(String),
    /// It did not end in time.
    #[error("`{command}` did not answer within {} s", limit.as_secs())]
    Late {
        /// The command line.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It ended with an error; its own words.
    #[error("`{command}`: {words}")]
    Failed {
        /// The command line.
        command: String,
        /// The last line of what it wrote to standard error.
        words: String,
    },
}

/// What a program prints on standard output.
///
/// # Errors
/// When it is not there, takes too long, or ends with an error.
pub async fn output(program: &str, arguments: &[&str]) -> Result<String, CommandError> {
    output_within(LIMIT, program, arguments).await
}

/// The same, for what may take longer or must be shorter.
///
/// # Errors
/// When it is not there, takes too long, or ends with an error.
pub async fn output_within(
    limit: Duration,
    program: &str,
    arguments: &[&str],
) -> Result<String, CommandError> {
    let command = || {
        let mut words = vec![program];
        words.extend(arguments);
        words.join(" ")
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(limit, child).await {
        Err(_) => Err(CommandError::Late {
            command: command(),
            limit,
        }),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(CommandError::Missing(program.to_owned()))
        }
        Ok(Err(error)) => Err(CommandError::Failed {
            command: command(),
            words: error.to_string(),
        }),
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(Ok(output)) => Err(CommandError::Failed {
            command: command(),
            words: last_line(&output.stderr)
                .or_else(|| last_line(&output.stdout))
                .unwrap_or_else(|| output.status.to_string()),
        }),
    }
}

fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_prints_is_read_and_what_it_complains_of_is_told() {
        assert_eq!(output("sh", &["-c", "echo well"]).await.unwrap(), "well\n");
        let failed = output("sh", &["-c", "echo first >&2; echo last >&2; exit 3"]).await;
        let error = failed.unwrap_err().to_string();
        assert!(error.ends_with(": last"), "{error}");
        let missing = output("holdfast-no-such-program", &[]).await;
        assert!(matches!(missing, Err(CommandError::Missing(_))));
    }
}
