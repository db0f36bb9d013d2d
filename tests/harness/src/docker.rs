//! The engine, by its command-line client.

use std::ffi::OsStr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Runs `docker` and gives its standard output, without the line's end. The error holds what it wrote to standard error.
pub async fn docker<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    let output = command
        .output()
        .await
        .context("run docker: is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{:?}: {}",
        command.as_std(),
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
