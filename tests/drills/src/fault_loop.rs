//! Rounds of faults: each draws some, waits until the pair is whole again, and judges.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::fault::plan::{Planned, plan};
use crate::fault::{Done, carry_out};
use crate::report::{Report, RoundFigures};
use crate::stage::{Kind, Stage, WHOLE_MAX};

/// How long all faults of a round may take, with the starts of servers in them.
const FAULTS_MAX: Duration = Duration::from_secs(150);

/// Clients write alone for this time before a round's faults.
const QUIET: Duration = Duration::from_millis(500);

/// How many writes must be acknowledged once the pair is whole: one that only says so is not.
const WRITES_AFTER: usize = 50;

/// How much, and which.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// So many rounds,
    pub rounds: u32,
    /// drawn by this number,
    pub seed: u64,
    /// from this round on.
    pub from: u32,
}

impl Options {
    /// The command that does the same again.
    pub fn command(&self) -> String {
        let from = match self.from {
            1 => String::new(),
            from => format!(" --from {from}"),
        };
        format!(
            "./stack drill loop --rounds {} --seed {}{from}",
            self.rounds, self.seed
        )
    }
}

/// Runs the rounds; gives the figures.
///
/// # Errors
/// When something that was acknowledged is lost, when the pair is not whole again in time, or whatever else must not be. The error says
/// what was done and how to do it again.
pub async fn run(options: Options) -> Result<String> {
    let stage = Stage::set(Kind::Usual).await?;
    let mut report = Report::begin(options, stage.is_in_memory());
    for round in options.from..options.from + options.rounds {
        let faults = plan(options.seed, round);
        let line = stage.arbiter().lines();
        let mut done = Vec::new();
        match once(&stage, round, faults.clone(), &mut done).await {
            Ok(figures) => {
                eprintln!("round {round}: {figures}");
                report.add(figures);
            }
            Err(error) => {
                let told = tell(&stage, options, round, &faults, &done, &error, line).await;
                return Err(error.context(told));
            }
        }
    }
    let verdict = stage.judge().await.context("at the end of all rounds")?;
    report.end(&verdict, &stage.history().sightings());
    Ok(report.to_text())
}

async fn once(
    stage: &Stage,
    round: u32,
    faults: Vec<Planned>,
    done: &mut Vec<Done>,
) -> Result<RoundFigures> {
    stage.set_round(round);
    sleep(QUIET).await;
    let doing = faults.into_iter().map(|planned| carry_out(stage, planned));
    let mut doing: FuturesUnordered<_> = doing.collect();
    let all = async {
        while let Some(one) = doing.next().await {
            done.push(one);
        }
    };
    timeout(FAULTS_MAX, all)
        .await
        .context("the faults have no end")?;
    done.sort_by_key(|done| done.began);

    let healing = Instant::now();
    stage.heal().await.context("heal")?;
    stage
        .whole()
        .await
        .with_context(|| format!("it is not whole within {WHOLE_MAX:?}"))?;
    let whole_after = healing.elapsed();
    let whole_at = stage.now();
    let writes = stage.acknowledges(WRITES_AFTER, whole_at, None);
    writes.await.context("whole, and takes no writes")?;

    let began = done.first().map_or(Duration::ZERO, |first| first.began);
    let gap = stage.history().longest_gap(began, stage.now());
    let paused = stage.pause().await;
    let verdict = stage.judge_round(round, &paused).await?;
    stage.sweep(&paused).await?;
    Ok(RoundFigures {
        done: done.clone(),
        gap,
        whole_after,
        verdict,
    })
}

async fn tell(
    stage: &Stage,
    options: Options,
    round: u32,
    faults: &[Planned],
    done: &[Done],
    error: &Error,
    line: usize,
) -> String {
    let mut text = format!(
        "round {round} of seed {} has failed: {error:#}\n",
        options.seed
    );
    for planned in faults {
        let _ = writeln!(
            text,
            "planned: after {:?}: {}",
            planned.after, planned.fault
        );
    }
    for done in done {
        let _ = writeln!(
            text,
            "done: from {:?} to {:?}: {} ({})",
            done.began, done.ended, done.fault, done.note
        );
    }
    let _ = writeln!(text, "now: {:?}", stage.now());
    let again = Options {
        rounds: 1,
        from: round,
        ..options
    };
    text += &stage.describe(line).await;
    let _ = write!(
        text,
        "round {round} of seed {} has failed, and why is above.\nThe same round again: {}\nall of them: {}",
        options.seed,
        again.command(),
        options.command()
    );
    text
}
