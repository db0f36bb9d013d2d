//! The documents' commands, run: what a document shows is what its reader sees.
//!
//! A fenced block of the kind `console` holds commands, each behind `$ ` (a `\` at the end of a line continues it), and below each what it
//! prints. All commands of a document run in its order in one sh, in the repository's root, with this stack's names and ports. In what is
//! shown `…` stands for anything within a line, and a line that is only `…` for any lines, or none. A command has to end well; in a block
//! that is marked ```` ```console fails ```` each has to fail; one that is marked ```` ```console no-run ```` is not run.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use harness::compose::{Stack, root};
use tokio::time::timeout;

use crate::ledger::{client::whole, faults::switched_to};

/// The documents, and how many commands each has at least.
const DOCUMENTS: &[(&str, usize)] = &[
    ("README.md", 6),
    ("docs/questions.md", 14),
    ("docs/balancer.md", 5),
    ("docs/router.md", 4),
];

/// How long all commands of one document may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Stands between what two commands print, followed by the status of the first.
const MARK: &str = "=====the next command, after status";

#[derive(Debug, PartialEq, Eq)]
struct Shown {
    command: String,
    lines: Vec<String>,
    fails: bool,
}

pub(crate) async fn every_command_in_the_documents_prints_what_they_show(
    stack: &Stack,
) -> Result<()> {
    for (document, at_least) in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document))?;
        let shown = parse(&text).with_context(|| (*document).to_owned())?;
        ensure!(
            shown.len() >= *at_least,
            "{document}: only {} commands were found",
            shown.len()
        );
        // They show a stack that is whole, as it is after its first start.
        switched_to(stack, "mysql-1").await?;
        whole(stack).await?;
        run(stack, &shown)
            .await
            .with_context(|| (*document).to_owned())?;
    }
    Ok(())
}

/// The ports that documents name, and those of this stack.
fn ports(stack: &Stack) -> Vec<(&'static str, String)> {
    let port = |url: String| url.rsplit(':').next().unwrap_or_default().to_owned();
    vec![
        (
            "localhost:8443",
            format!("localhost:{}", port(stack.url(""))),
        ),
        (
            "localhost:8080",
            format!("localhost:{}", port(stack.plain_url(""))),
        ),
        (
            "localhost:16686",
            format!("localhost:{}", port(stack.jaeger_url(""))),
        ),
        (
            "localhost:9090",
            format!("localhost:{}", port(stack.prometheus_url(""))),
        ),
    ]
}

async fn run(stack: &Stack, shown: &[Shown]) -> Result<()> {
    let ports = ports(stack);
    let mut script = "exec 2>&1\n".to_owned();
    for Shown { command, .. } in shown {
        let command = ports.iter().fold(command.clone(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        });
        writeln!(script, "{command}\nprintf '\\n{MARK} %s\\n' $?")?;
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let path = file.path().to_string_lossy();
    let arguments = [path.as_ref()];
    let sh = stack.run_aside("sh", &arguments);
    let said = timeout(LIMIT, sh)
        .await
        .context("the commands took too long")??;
    let said = ports
        .iter()
        .fold(said.replace('\r', ""), |text, (theirs, ours)| {
            text.replace(ours.as_str(), theirs)
        });
    let mut rest = said.as_str();
    for Shown {
        command,
        lines,
        fails,
    } in shown
    {
        let (printed, after) = rest
            .split_once(&format!("\n{MARK} "))
            .with_context(|| format!("`{command}` never ended:\n{rest}"))?;
        let (status, after) = after.split_once('\n').context("a status ends its line")?;
        rest = after;
        ensure!(
            (status != "0") == *fails,
            "`{command}` ended with {status}:\n{printed}"
        );
        let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let printed = match printed.as_slice() {
            [lines @ .., ""] => lines,
            lines => lines,
        };
        let expected: Vec<&str> = lines.iter().map(String::as_str).collect();
        ensure!(
            all_match(&expected, printed),
            "`{command}` does not print what is shown. Shown:\n{}\n\nPrinted:\n{}",
            expected.join("\n"),
            printed.join("\n")
        );
    }
    Ok(())
}

/// Whether lines are as shown.
fn all_match(shown: &[&str], printed: &[&str]) -> bool {
    match (shown, printed) {
        ([], []) => true,
        (["…", shown @ ..], _) => (0..=printed.len()).any(|n| all_match(shown, &printed[n..])),
        ([first, shown @ ..], [line, printed @ ..]) => {
            matches(first, line) && all_match(shown, printed)
        }
        _ => false,
    }
}

/// Whether a line is as shown.
fn matches(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            let mut ends = ends;
            ends.any(|at| matches(after, &rest[at..]))
        }),
    }
}

fn parse(document: &str) -> Result<Vec<Shown>> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```console") else {
            if line.starts_with("```") {
                // Another kind of block; its end is no beginning.
                lines.by_ref().find(|line| line.starts_with("```"));
            }
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let fails = match kind.trim() {
            "" => false,
            "fails" => true,
            "no-run" => continue,
            other => bail!("there is no kind `console {other}` of blocks"),
        };
        let mut open = false;
        for line in block {
            if open {
                let last = shown.last_mut().context("a command goes on")?;
                last.command = format!("{}\n{line}", last.command);
                open = line.ends_with('\\');
            } else if let Some(command) = line.strip_prefix("$ ") {
                let command = command.to_owned();
                open = command.ends_with('\\');
                shown.push(Shown {
                    command,
                    lines: Vec::new(),
                    fails,
                });
            } else {
                let last = shown.last_mut().context("a block begins with `$ `")?;
                last.lines.push(line.trim_end().to_owned());
            }
        }
    }
    Ok(shown)
}

/// That the comparison compares: it runs without a stack's help, with the rest.
pub(crate) async fn a_document_that_shows_something_else_is_found_out(stack: &Stack) -> Result<()> {
    let text = "Words.\n```console\n$ printf '%s\\n' one \\\n    two three\none\n…\nthr…\n$ true\n```\n\
                ```sh\n$ not run\n```\n```console no-run\n$ exit 1\n```\n```console fails\n$ false\n```\n";
    let shown = parse(text)?;
    ensure!(shown.len() == 3, "{shown:?}");
    run(stack, &shown).await?;
    for (wrong, with) in [
        ("thr…", "four"),
        ("…\n", ""),
        ("$ true", "$ echo x"),
        (" fails", ""),
    ] {
        let shown = parse(&text.replace(wrong, with))?;
        ensure!(
            run(stack, &shown).await.is_err(),
            "{with:?} in place of {wrong:?} passed"
        );
    }
    Ok(())
}
