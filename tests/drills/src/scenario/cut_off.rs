//! A primary that runs, and that somebody cannot reach.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::{ends_well, is_still_primary};
use crate::link::{Broken, Link};
use crate::stage::Stage;

/// Longer than all of the arbiter's limits together.
const LONG: Duration = Duration::from_secs(8);

/// How long writes may stand still where nothing has happened to them.
const UNDISTURBED_MAX: Duration = Duration::from_secs(1);

pub(super) async fn from_the_replica(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    stage.break_links(&[Link::Source(primary)], Broken::Cut);
    let status = stage.open_with(primary, &[primary]).await?;
    ensure!(status["epoch"].as_u64().is_some(), "{status}");
    stage.acknowledges(50, stage.now(), Some(primary)).await?;
    sleep(LONG).await;
    is_still_primary(stage, primary).await?;
    stage.links().heal_all();
    stage.whole().await?;
    is_still_primary(stage, primary).await?;
    ends_well(stage, before).await
}

pub(super) async fn from_the_arbiter(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    stage.break_links(&[Link::Arbiter(primary)], Broken::Silent);
    sleep(LONG).await;
    let gap = stage.history().longest_gap(before, stage.now());
    ensure!(
        gap < UNDISTURBED_MAX,
        "writes stood still for {gap:?}, though replica and clients reach the primary"
    );
    is_still_primary(stage, primary).await?;
    stage.links().heal_all();
    stage.whole().await?;
    is_still_primary(stage, primary).await?;
    ends_well(stage, before).await
}

pub(super) async fn from_both(stage: &Stage) -> Result<String> {
    taken_over(stage, Broken::Cut).await
}

pub(super) async fn silent_to_both(stage: &Stage) -> Result<String> {
    taken_over(stage, Broken::Silent).await
}

async fn taken_over(stage: &Stage, how: Broken) -> Result<String> {
    let (old, before) = (stage.primary().await?, stage.now());
    stage.break_links(&[Link::Arbiter(old), Link::Source(old)], how);
    let broken = stage.now();
    stage.open_with(1 - old, &[1 - old]).await?;
    stage
        .acknowledges(50, broken, Some(1 - old))
        .await
        .context("clients do not find the new primary")?;
    sleep(LONG.saturating_sub(stage.now() - broken)).await;
    stage.links().heal_all();
    stage.whole().await?;
    is_still_primary(stage, 1 - old).await?;
    // That the old one has acknowledged nothing since then the judge sees.
    ends_well(stage, before).await
}
