//! What Compose says of the stack's containers.

use serde::Deserialize;

use crate::command::{self, CommandError};

/// A service's container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// The service that it is of.
    pub service: String,
    /// `running`, `exited`, `restarting`, …
    pub state: String,
    /// `healthy`, `starting`, `unhealthy`, or nothing where there is no check.
    #[serde(default)]
    pub health: String,
    /// How it ended, if it has.
    #[serde(default)]
    pub exit_code: i64,
}

/// The containers of this project, the ended ones too.
///
/// # Errors
/// When Compose does not answer.
pub async fn containers() -> Result<Vec<Container>, CommandError> {
    let arguments = ["compose", "ps", "--all", "--format", "json"];
    Ok(parse(&command::output("docker", &arguments).await?))
}

/// The services of compose.yaml.
///
/// # Errors
/// When Compose does not answer, or cannot read the file.
pub async fn services() -> Result<Vec<String>, CommandError> {
    let text = command::output("docker", &["compose", "config", "--services"]).await?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Runs a service's own program in its container.
///
/// # Errors
/// When the container does not run, or the program ends with an error.
pub async fn exec(service: &str, program: &[&str]) -> Result<String, CommandError> {
    let mut arguments = vec!["compose", "exec", "-T", service];
    arguments.extend(program);
    command::output("docker", &arguments).await
}

/// An object on each line, or one list of them: Compose has printed both. What is neither is left out.
fn parse(text: &str) -> Vec<Container> {
    if let Ok(list) = serde_json::from_str::<Vec<Container>>(text) {
        return list;
    }
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_lists_are_both_read() {
        let one = r#"{"ExitCode":0,"Health":"healthy","Service":"web-1","State":"running","Publishers":null}"#;
        let two = r#"{"ExitCode":1,"Health":"","Service":"migrate","State":"exited"}"#;
        let lines = parse(&format!("{one}\n{two}\n"));
        assert_eq!(lines, parse(&format!("[{one},{two}]")));
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (lines[1].service.as_str(), lines[1].exit_code),
            ("migrate", 1)
        );
        assert!(parse("").is_empty());
    }
}
