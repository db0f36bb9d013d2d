//! Servers that die, stop running, or are restarted.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::{ends_well, is_still_primary};
use crate::arbiter::SETTLED;
use crate::sight::name;
use crate::stage::Stage;

/// Long enough for the other one to take over.
const FROZEN: Duration = Duration::from_secs(8);

pub(super) async fn primary(stage: &Stage) -> Result<String> {
    let (old, before) = (stage.primary().await?, stage.now());
    let epoch = stage.whole().await?["epoch"].as_u64();
    stage.server(old).kill().await?;
    let killed = stage.now();
    let status = stage.open_with(1 - old, &[1 - old]).await?;
    ensure!(status["epoch"].as_u64() > epoch, "{status}");
    stage.acknowledges(50, killed, Some(1 - old)).await?;
    stage.server(old).restart().await?;
    stage.whole().await?;
    is_still_primary(stage, 1 - old).await?;
    ends_well(stage, before).await
}

pub(super) async fn primary_frozen(stage: &Stage) -> Result<String> {
    let (old, before) = (stage.primary().await?, stage.now());
    stage.server(old).freeze().await?;
    let frozen = stage.now();
    stage.open_with(1 - old, &[1 - old]).await?;
    stage.acknowledges(50, frozen, Some(1 - old)).await?;
    sleep(FROZEN.saturating_sub(stage.now() - frozen)).await;
    stage.server(old).thaw().await?;
    stage.whole().await?;
    is_still_primary(stage, 1 - old).await?;
    ends_well(stage, before).await
}

pub(super) async fn replica(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    stage.server(1 - primary).kill().await?;
    stage.open_with(primary, &[primary]).await?;
    stage.acknowledges(50, stage.now(), Some(primary)).await?;
    stage.server(1 - primary).restart().await?;
    stage.whole().await?;
    is_still_primary(stage, primary).await?;
    ends_well(stage, before).await
}

pub(super) async fn both(stage: &Stage) -> Result<String> {
    let before = stage.now();
    tokio::try_join!(stage.server(0).kill(), stage.server(1).kill())?;
    let away = |status: &Value| {
        let servers = status["servers"].as_array();
        servers.is_some_and(|servers| {
            servers.len() == 2 && servers.iter().all(|server| server["reachable"] == false)
        })
    };
    let arbiter = stage.arbiter();
    arbiter.until("both are away", SETTLED, away).await?;
    tokio::try_join!(stage.server(0).restart(), stage.server(1).restart())?;
    stage.whole().await?;
    ends_well(stage, before).await
}

pub(super) async fn both_restarted(stage: &Stage) -> Result<String> {
    let before = stage.now();
    let (one, two) = tokio::try_join!(stage.server(0).stop(), stage.server(1).stop())?;
    tokio::try_join!(stage.server(0).restart(), stage.server(1).restart())?;
    stage.whole().await?;
    let outcome = ends_well(stage, before).await?;
    Ok(format!(
        "{} ended with {one}, {} with {two}; {outcome}",
        name(0),
        name(1)
    ))
}
