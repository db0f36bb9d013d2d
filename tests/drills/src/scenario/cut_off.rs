//! A primary that runs, and that somebody cannot reach.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;

use super::{ends_well, hardly_any_came_to, is_still_primary};
use crate::arbiter::SETTLED;
use crate::history::Outcome;
use crate::link::{Broken, Link};
use crate::sight::name;
use crate::stage::Stage;

/// Longer than all of the arbiter's limits together.
const LONG: Duration = Duration::from_secs(8);

pub(super) async fn from_the_replica(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    let epoch = stage.whole().await?["epoch"].clone();
    stage.break_links(&[Link::Source(primary)], Broken::Cut);
    let status = stage.open_with(primary, &[primary]).await?;
    ensure!(
        status["epoch"] == epoch,
        "the epoch was {epoch}, and nobody has taken over: {status}"
    );
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
    let heard = format!(
        "{} does not answer, but {} hears from it",
        name(primary),
        name(1 - primary)
    );
    let cut_off = |status: &Value| status["waits"].to_string().contains(&heard);
    let arbiter = stage.arbiter();
    arbiter
        .until("the arbiter is cut off alone", SETTLED, cut_off)
        .await?;
    sleep(LONG).await;
    arbiter
        .until("it is still cut off alone", SETTLED, cut_off)
        .await?;
    stage.acknowledges(50, stage.now(), Some(primary)).await?;
    hardly_any_came_to(stage, before, &[Outcome::Refused, Outcome::Unknown])
        .context("though replica and clients reach the primary")?;
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
