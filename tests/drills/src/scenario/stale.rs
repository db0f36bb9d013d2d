//! A replica that lacks what was acknowledged without it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Account, error_number};
use replication::errors;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{ends_well, is_still_primary};
use crate::arbiter::SETTLED;
use crate::history::Outcome;
use crate::sight::name;
use crate::stage::Stage;

/// Longer than all of the arbiter's limits together.
const LONG: Duration = Duration::from_secs(8);

/// How the statement that wrote a row begins where what was discarded is shown: each client's transaction has one.
const INSERT: &str = "INSERT INTO ledger.drill ";

/// What was there before the replica died, and when the primary was left alone.
struct Stale {
    primary: usize,
    epoch: Value,
    replica_died: Duration,
    primary_died: Duration,
}

/// The replica dies, writes go on alone, the primary dies, and the replica is back.
async fn left_with_a_stale_replica(stage: &Stage) -> Result<Stale> {
    let primary = stage.primary().await?;
    stage.server(1 - primary).kill().await?;
    let replica_died = stage.now();
    let status = stage.open_with(primary, &[primary]).await?;
    stage.acknowledges(200, stage.now(), Some(primary)).await?;
    stage.server(primary).kill().await?;
    let primary_died = stage.now();
    stage.server(1 - primary).restart().await?;
    Ok(Stale {
        primary,
        epoch: status["epoch"].clone(),
        replica_died,
        primary_died,
    })
}

/// It says that a person has to decide, and nobody writes.
async fn is_refused(stage: &Stage, stale: &Stale) -> Result<()> {
    let Stale { primary, epoch, .. } = stale;
    let way_out = format!("force-promote {}", name(1 - primary));
    let waits = |status: &Value| {
        status["open"] == false
            && status["primary"] == name(*primary)
            && status["epoch"] == *epoch
            && status["refusals"].to_string().contains(&way_out)
    };
    let arbiter = stage.arbiter();
    arbiter
        .until("it waits for the primary", SETTLED, waits)
        .await?;
    sleep(LONG).await;
    arbiter.until("it still waits", SETTLED, waits).await?;
    let acknowledged = stage
        .history()
        .count(Outcome::Acknowledged, stale.primary_died, None);
    ensure!(acknowledged == 0, "{acknowledged} writes were acknowledged");
    let mut other = match stage.server(1 - primary).connect(Account::App).await {
        Ok(connection) => connection,
        Err(closed) => {
            let number = error_number(&closed);
            ensure!(number == Some(errors::OFFLINE_MODE), "{closed:#}");
            return Ok(());
        }
    };
    let write = sqlx::query("INSERT INTO ledger.marker VALUES (1, 'stale')");
    let refused = write.execute(&mut other).await.err();
    let refused = refused.context("the stale replica took a write")?;
    let number = errors::number(&refused);
    ensure!(
        number == Some(errors::OPTION_PREVENTS_STATEMENT),
        "{refused:#}"
    );
    Ok(())
}

pub(super) async fn refused(stage: &Stage) -> Result<String> {
    let before = stage.now();
    let stale = left_with_a_stale_replica(stage).await?;
    is_refused(stage, &stale).await?;
    stage.server(stale.primary).restart().await?;
    stage.whole().await?;
    is_still_primary(stage, stale.primary).await?;
    ends_well(stage, before).await
}

pub(super) async fn forced(stage: &Stage) -> Result<String> {
    let stale = left_with_a_stale_replica(stage).await?;
    is_refused(stage, &stale).await?;
    let new = 1 - stale.primary;
    let arbiter = stage.arbiter();
    let refused = arbiter.refuses(&["force-promote", &name(new)]).await?;
    ensure!(
        refused.contains("--accept-loss"),
        "it does not say what would do it: {refused}"
    );
    ensure!(
        names_a_number(&refused, &name(stale.primary)),
        "it does not say how many would be lost: {refused}"
    );
    let said = arbiter
        .tell(&["force-promote", &name(new), "--accept-loss"])
        .await?;
    stage.open_with(new, &[new]).await?;
    stage
        .acknowledges(50, stale.primary_died, Some(new))
        .await?;
    stage.server(stale.primary).restart().await?;
    stage.whole().await?;
    is_still_primary(stage, new).await?;

    stage.acknowledges(50, stage.now(), None).await?;
    let accepted = (stale.replica_died, stale.primary_died);
    let verdict = stage.judge_with(Some(accepted)).await?;
    ensure!(
        verdict.accepted_losses > 0,
        "nothing was lost, so nothing was tried: {verdict}"
    );
    stage.arbiter().answers().await?;
    let discarded = discarded(stage).await?;
    let inserts = discarded.matches(INSERT).count();
    ensure!(
        inserts >= verdict.accepted_losses,
        "{} acknowledged rows are lost, and only {inserts} can be read in what was discarded",
        verdict.accepted_losses
    );
    Ok(format!("{said}; {verdict}; the refusal: {refused}"))
}

/// Whether a refusal that speaks of transactions that were seen says how many they are. They are those of the last look, so they can be
/// fewer than what is lost.
fn names_a_number(refusal: &str, primary: &str) -> bool {
    let lost = format!(" transactions that {primary} was seen to have would be lost");
    refusal.split_once(&lost).is_none_or(|(before, _)| {
        let word = before.split_whitespace().next_back().unwrap_or_default();
        word.parse::<u64>().is_ok_and(|number| number > 0)
    })
}

/// All that the arbiter has saved of what it threw away.
pub(super) async fn discarded(stage: &Stage) -> Result<String> {
    let arbiter = stage.arbiter();
    let names = arbiter.tell(&["discarded"]).await?;
    let names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    ensure!(
        !names.is_empty(),
        "nothing was saved; events: {}",
        json!(arbiter.tell(&["events"]).await?)
    );
    let mut all = String::new();
    for name in names {
        all += &arbiter.tell(&["discarded", name]).await?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_speaks_of_lost_transactions_has_to_count_them() {
        let lost = "transactions that mysql-1 was seen to have would be lost (x:1-9)";
        for (refusal, is_told) in [
            (format!("arbiter: 9 {lost}"), true),
            (format!("0 {lost}"), false),
            (format!("some {lost}"), false),
            (
                "mysql-2 has all that mysql-1 was seen to have".to_owned(),
                true,
            ),
        ] {
            assert_eq!(is_told, names_a_number(&refusal, "mysql-1"), "{refusal}");
        }
    }
}
