//! The images that the stack's own are made over, found as `./stack` finds them.

use std::fs;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::compose;
use crate::docker::docker;

/// The image that this variable names, else the official one if the engine has it, else the stand-in of this name that docker/airgap
/// makes. The first call on a machine can take a minute.
pub async fn base_image(name: &str, variable: &str) -> Result<String> {
    if let Some(named) = named(variable) {
        return Ok(named);
    }
    let official = official(name)?;
    if docker(["image", "inspect", &official]).await.is_ok() {
        return Ok(official);
    }
    stand_in(name).await
}

/// The image of this name that docker/airgap makes of Debian's packages, made now if it is not there.
pub async fn stand_in(name: &str) -> Result<String> {
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

/// What compose.yaml takes where nothing else is said: of `mysql`, the default of `HOLDFAST_MYSQL_IMAGE`.
fn official(name: &str) -> Result<String> {
    let compose = fs::read_to_string(compose::root().join("compose.yaml"))?;
    let default = format!("${{HOLDFAST_{}_IMAGE:-", name.to_uppercase());
    let named = compose
        .split_once(&default)
        .and_then(|(_, rest)| rest.split_once('}'));
    let (image, _) = named.with_context(|| format!("compose.yaml has no {default}"))?;
    Ok(image.to_owned())
}

/// What a variable names; empty is as good as not set.
pub fn named(variable: &str) -> Option<String> {
    let named = std::env::var(variable).ok();
    named.filter(|named| !named.is_empty())
}
