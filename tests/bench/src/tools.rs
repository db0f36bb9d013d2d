//! The programs that are compared or used, and what they say of themselves.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::time::timeout;

/// Where Debian puts servers; not on everybody's PATH.
const BESIDE_PATH: &[&str] = &["/usr/sbin", "/usr/local/sbin"];

/// How long a program may take to say what it is.
const SAID_WITHIN: Duration = Duration::from_secs(10);

/// Finds a program.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(BESIDE_PATH.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .with_context(|| {
            format!("there is no {program} here: `tests/bench/tools` installs all that is needed")
        })
}

/// The first line of what it prints, to standard output or else to standard error.
pub(crate) async fn says(program: &Path, arguments: &[&str]) -> Result<String> {
    let ask = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let said = timeout(SAID_WITHIN, ask)
        .await
        .with_context(|| format!("{} does not answer", program.display()))?
        .with_context(|| format!("run {}", program.display()))?;
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    Ok(line.unwrap_or("says nothing").to_owned())
}
