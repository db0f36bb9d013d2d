//! The images that the stack's own are made over, found as `./stack` finds them.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::compose;
use crate::docker::docker;

/// The image that this variable names, else the official one if the engine has it, else the stand-in of this name that docker/airgap
/// makes. The first call on a machine can take a minute.
pub async fn base_image(name: &str, variable: &str, official: &str) -> Result<String> {
    if let Some(named) = named(variable) {
        return Ok(named);
    }
    if docker(["image", "inspect", official]).await.is_ok() {
        return Ok(official.to_owned());
    }
    let made = Command::new(compose::root().join("docker/airgap/build"))
        .arg(name)
        .output()
        .await?;
    ensure!(
        made.status.success(),
        "docker/airgap/build: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let printed = String::from_utf8(made.stdout)?;
    printed
        .lines()
        .last()
        .map(str::to_owned)
        .context("docker/airgap/build named no image")
}

/// What a variable names; empty is as good as not set.
pub(crate) fn named(variable: &str) -> Option<String> {
    let named = std::env::var(variable).ok();
    named.filter(|named| !named.is_empty())
}
