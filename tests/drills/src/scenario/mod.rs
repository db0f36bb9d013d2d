//! Named drills: one failure each, and what must be true afterwards.

mod arbiter_dies;
mod cut_off;
mod disk_full;
mod errant;
mod kills;
mod planned;
mod stale;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::Habit;
use crate::history::{Attempt, Outcome};
use crate::judge::Verdict;
use crate::load::habit;
use crate::sight::name;
use crate::stage::{Kind, Stage};

/// What a scenario is played by.
type Play = for<'a> fn(&'a Stage) -> Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// A drill.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it is called on the command line and in tests.
    pub name: &'static str,
    /// What happens, and what must be true.
    pub what: &'static str,
    kind: Kind,
    play: Play,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One line of [`ALL`].
macro_rules! scenario {
    ($name:literal, $what:literal, $play:path) => {
        scenario!($name, $what, $play, Kind::Usual)
    };
    ($name:literal, $what:literal, $play:path, $kind:expr) => {
        Scenario {
            name: $name,
            what: $what,
            kind: $kind,
            play: |stage| Box::pin($play(stage)),
        }
    };
}

/// Every drill but the loop.
pub const ALL: &[Scenario] = &[
    scenario!(
        "primary-killed",
        "the primary is killed: the replica takes over, and the old one comes back as a replica",
        kills::primary
    ),
    scenario!(
        "primary-frozen",
        "the primary stops running and goes on later: it has acknowledged nothing that the new one lacks",
        kills::primary_frozen
    ),
    scenario!(
        "replica-killed",
        "the replica is killed: writes go on after a moment, and it is in sync again once it is back",
        kills::replica
    ),
    scenario!(
        "both-killed",
        "both servers are killed: the pair opens again with everything that was acknowledged",
        kills::both
    ),
    scenario!(
        "both-restarted",
        "both servers are stopped cleanly and started: nothing is acknowledged falsely meanwhile",
        kills::both_restarted
    ),
    scenario!(
        "cut-off-from-the-replica",
        "the replica cannot reach the primary: writes go on alone, and nobody takes over",
        cut_off::from_the_replica
    ),
    scenario!(
        "cut-off-from-the-arbiter",
        "the arbiter cannot reach the primary, and the replica can: writes go on, and nobody takes over",
        cut_off::from_the_arbiter
    ),
    scenario!(
        "cut-off-from-both",
        "nobody but its clients reaches the primary: it acknowledges nothing, and the replica takes over",
        cut_off::from_both
    ),
    scenario!(
        "silent-to-both",
        "the same by a network that drops every packet",
        cut_off::silent_to_both
    ),
    scenario!(
        "stale-replica",
        "the replica dies, then the primary, then the replica is back: it is refused, until the primary is back with everything",
        stale::refused
    ),
    scenario!(
        "forced-promotion",
        "a person promotes a stale replica: what was acknowledged without it is lost, readable, and nothing else",
        stale::forced
    ),
    scenario!(
        "errant-transaction",
        "the primary dies with a commit that no replica has: it is saved readably, and the server is cloned",
        errant::saved_and_cloned
    ),
    scenario!(
        "arbiter-dies-in-failover",
        "the arbiter dies before and after each step of a failover, and the next one finishes it",
        arbiter_dies::in_failover
    ),
    scenario!(
        "arbiter-dies-in-grow",
        "the same while a replica comes back into sync",
        arbiter_dies::in_grow
    ),
    scenario!(
        "arbiter-dies-in-shrink",
        "the same while the primary is left alone",
        arbiter_dies::in_shrink
    ),
    scenario!(
        "arbiter-dies-in-switchover",
        "the same while the primary is changed by command",
        arbiter_dies::in_switchover
    ),
    scenario!(
        "disk-full",
        "the primary's disk is full: writes fail or wait, none is lost, and all is well once there is room",
        disk_full::heals,
        Kind::SmallDisk(disk_full::DISK)
    ),
    scenario!(
        "maintenance",
        "the replica is taken out by command and restarted: writes go on",
        planned::maintenance
    ),
    scenario!(
        "switchover",
        "the primary is changed by command under load: clients that hold back when told see no failed write",
        planned::switchover
    ),
];

/// The drill of that name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Plays it on a stage of its own; gives what it has come to.
    ///
    /// # Errors
    /// Whatever must not be; the error says what everybody said then.
    pub async fn play(&self) -> Result<String> {
        self.play_with(None).await
    }

    /// Plays it, with the arbiter dying at so many places at most, where it is one of those in which it dies around each step.
    ///
    /// # Errors
    /// As [`play`](Self::play).
    pub async fn play_with(&self, deaths_max: Option<usize>) -> Result<String> {
        let mut stage = Stage::set(self.kind).await?;
        stage.deaths_max = deaths_max;
        match (self.play)(&stage).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let described = stage.describe(0).await;
                Err(error).with_context(|| {
                    format!(
                        "{described}\n{} has failed; again: ./stack drill {0}",
                        self.name
                    )
                })
            }
        }
    }
}

/// What every drill ends with: the pair whole, writes acknowledged, and nothing lost. Gives the verdict.
async fn whole_and_judged(stage: &Stage) -> Result<Verdict> {
    writes_again(stage).await?;
    stage.judge().await
}

async fn writes_again(stage: &Stage) -> Result<()> {
    stage.heal().await?;
    stage.whole().await?;
    stage.acknowledges(50, stage.now(), None).await
}

/// The same, with the longest time without an acknowledged write since then.
async fn ends_well(stage: &Stage, since: Duration) -> Result<String> {
    writes_again(stage).await?;
    let gap = stage.history().longest_gap(since, stage.now());
    let verdict = stage.judge().await?;
    Ok(format!(
        "{gap:.2?} without an acknowledged write; {verdict}"
    ))
}

/// That hardly a client had a write, begun since then, that came to one of these: a stalled machine makes one lose patience, and what is
/// looked for would all of them. Those aside that write to a server whatever it is.
fn hardly_any_came_to(stage: &Stage, since: Duration, unwanted: &[Outcome]) -> Result<()> {
    let attempts = stage.history().attempts();
    let mut disturbed: Vec<&Attempt> = Vec::new();
    for (writer, attempts) in attempts.iter().enumerate() {
        if matches!(habit(writer), Habit::Stubborn(_)) {
            continue;
        }
        let mut begun = attempts.iter().filter(|attempt| attempt.began >= since);
        disturbed.extend(begun.find(|attempt| unwanted.contains(&attempt.outcome)));
    }
    ensure!(
        disturbed.len() < attempts.len() / 4,
        "the writes of {} clients were disturbed: {disturbed:?}",
        disturbed.len()
    );
    Ok(())
}

/// That nobody has taken over.
async fn is_still_primary(stage: &Stage, primary: usize) -> Result<()> {
    let now = stage.primary().await?;
    ensure!(
        now == primary,
        "{} has taken over from {}",
        name(now),
        name(primary)
    );
    Ok(())
}
