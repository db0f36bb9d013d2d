//! What a person does on purpose, under load.

use anyhow::{Result, ensure};

use super::{ends_well, hardly_any_came_to, is_still_primary};
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
    let said = stage.arbiter().tell(&["switchover"]).await?;
    let changed = stage.now();
    let status = stage.whole().await?;
    ensure!(status["primary"] == name(1 - old), "{status}");
    stage.acknowledges(50, changed, Some(1 - old)).await?;

    let mut refused = 0;
    for (writer, attempts) in stage.history().attempts().iter().enumerate() {
        let habit = habit(writer);
        for attempt in attempts.iter().filter(|attempt| attempt.ended > before) {
            ensure!(
                attempt.outcome != Outcome::Unknown,
                "writer {writer} does not know what has become of {attempt:?}"
            );
            let is_refused = attempt.outcome == Outcome::Refused;
            ensure!(
                !(is_refused && habit == Habit::Holding),
                "writer {writer}, which holds back, was refused: {attempt:?}"
            );
            refused += usize::from(is_refused && !matches!(habit, Habit::Stubborn(_)));
        }
    }
    let outcome = ends_well(stage, before).await?;
    Ok(format!(
        "{said}; {refused} writes of clients that do not hold back were refused, none is unknown; {outcome}"
    ))
}
