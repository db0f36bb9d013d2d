//! Commands as a reader would type them: shown, run by sh, and their output shown.

use std::{collections::BTreeMap, process::Stdio};

use tokio::process::Command;

/// What `call` is in the tour's commands.
pub(super) const CALL: &str =
    r#"call() { curl --silent --show-error --cacert "$(./stack ca)" "$@"; }"#;

/// The longest line that is shown whole.
const WIDTH: usize = 150;

/// A shell with its variables.
#[derive(Clone, Debug, Default)]
pub(super) struct Shell {
    variables: BTreeMap<String, String>,
}

/// What a command said.
pub(super) struct Said {
    /// On both of its outputs, as it came.
    pub text: String,
    /// It ended well.
    pub well: bool,
}

impl Shell {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Shows a command, runs it, shows what it said.
    pub(super) async fn run(&self, command: &str) -> std::io::Result<Said> {
        show_command(command);
        let said = self.quietly(command).await?;
        show(&said.text, |_| true);
        Ok(said)
    }

    /// The same, of what it said only the lines that matter; where others are left out there is a `…`.
    pub(super) async fn run_and_pick(
        &self,
        command: &str,
        matters: impl Fn(&str) -> bool,
    ) -> std::io::Result<Said> {
        show_command(command);
        let said = self.quietly(command).await?;
        show(&said.text, matters);
        Ok(said)
    }

    /// Runs a command and shows nothing.
    pub(super) async fn quietly(&self, command: &str) -> std::io::Result<Said> {
        let script = format!("exec 2>&1\n{CALL}\n{command}\n");
        let output = Command::new("sh")
            .arg("-c")
            .arg(script)
            .envs(&self.variables)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        Ok(Said {
            text,
            well: output.status.success(),
        })
    }
}

pub(super) fn show_command(command: &str) {
    println!("  $ {}", command.trim());
}

pub(super) fn show(text: &str, matters: impl Fn(&str) -> bool) {
    let mut left_out = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        if !matters(line) {
            left_out = true;
            continue;
        }
        if std::mem::take(&mut left_out) {
            println!("  …");
        }
        println!("  {}", cut(line.trim_end()));
    }
    if left_out {
        println!("  …");
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let kept: String = line.chars().take(WIDTH - 1).collect();
    format!("{kept}…")
}

/// A header's value in what `curl --include` printed.
pub(super) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let lines = answer.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// The body in what `curl --include` printed.
pub(super) fn body(answer: &str) -> &str {
    answer.split_once("\n\n").map_or("", |(_, body)| body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_has_the_variables_and_both_outputs_are_read() {
        let mut shell = Shell::default();
        shell.set("NAME", "Ada's");
        let said = shell
            .quietly(r#"echo "$NAME"; echo no >&2; false"#)
            .await
            .unwrap();
        assert_eq!(said.text, "Ada's\nno\n");
        assert!(!said.well);
    }

    #[test]
    fn headers_and_body_are_told_apart() {
        let answer = "HTTP/2 201 \nX-Db: primary;reason=write\ncontent-type: a\n\n{\"x-db\": 1}";
        assert_eq!(header(answer, "x-db"), Some("primary;reason=write"));
        assert_eq!(header(answer, "{\"x-db\""), None);
        assert_eq!(body(answer), "{\"x-db\": 1}");
    }
}
