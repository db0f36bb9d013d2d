//! What a person does on purpose, under load.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{ends_well, hardly_any_came_to, is_still_primary};
use crate::arbiter::SETTLED;
use crate::client::Habit;
use crate::history::Outcome;
use crate::load::habit;
use crate::sight::name;
use crate::stage::Stage;

pub(super) async fn maintenance(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    let replica = name(1 - primary);
    stage
        .arbiter()
        .tell(&["maintenance", "begin", &replica])
        .await?;
    stage.open_with(primary, &[primary]).await?;
    let server = stage.server(1 - primary);
    server.stop().await?;
    stage.acknowledges(50, stage.now(), Some(primary)).await?;
    server.restart().await?;
    stage
        .arbiter()
        .tell(&["maintenance", "end", &replica])
        .await?;
    stage.whole().await?;
    is_still_primary(stage, primary).await?;
    // Nobody has waited for the replica in vain.
    hardly_any_came_to(stage, before, &[Outcome::Unknown])?;
    ends_well(stage, before).await
}

pub(super) async fn switchover(stage: &Stage) -> Result<String> {
    let old = stage.primary().await?;
    let before = stage.now();
    let asked = stage.arbiter().switchover(SETTLED).await?;
    ensure!(asked.status.success(), "switchover: {asked:?}");
    let said = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    let changed = stage.now();
    let status = stage.whole().await?;
    ensure!(status["primary"] == name(1 - old), "{status}");
    stage.acknowledges(50, changed, Some(1 - old)).await?;

    hardly_any_came_to(stage, before, &[Outcome::Unknown])?;
    let mut refused = 0;
    let mut holding = BTreeSet::new();
    for (writer, attempts) in stage.history().attempts().iter().enumerate() {
        let habit = habit(writer);
        for attempt in attempts.iter().filter(|attempt| attempt.ended > before) {
            let is_refused = attempt.outcome == Outcome::Refused;
            if is_refused && habit == Habit::Holding {
                holding.insert(writer);
            }
            refused += usize::from(is_refused && !matches!(habit, Habit::Stubborn(_)));
        }
    }
    // A machine that stands still may keep one from looking in time.
    ensure!(
        holding.len() <= 1,
        "writers {holding:?}, which hold back, were refused"
    );
    let outcome = ends_well(stage, before).await?;
    Ok(format!(
        "{said}; {refused} writes of clients that do not hold back were refused; {outcome}"
    ))
}
