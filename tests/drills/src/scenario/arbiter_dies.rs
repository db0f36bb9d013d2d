//! The arbiter dies before and after each step of a change, and the next one has to finish it.
//!
//! Which steps those are is not written here: the change is made once undisturbed, and the log says what was done.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use harness::wait_for;

use super::whole_and_judged;
use crate::arbiter::{SETTLED, Step};
use crate::sight::name;
use crate::stage::Stage;

/// A change that the arbiter makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Failover,
    Grow,
    Shrink,
    Switchover,
}

pub(super) async fn in_failover(stage: &Stage) -> Result<String> {
    everywhere(stage, Change::Failover).await
}

pub(super) async fn in_grow(stage: &Stage) -> Result<String> {
    everywhere(stage, Change::Grow).await
}

pub(super) async fn in_shrink(stage: &Stage) -> Result<String> {
    everywhere(stage, Change::Shrink).await
}

pub(super) async fn in_switchover(stage: &Stage) -> Result<String> {
    everywhere(stage, Change::Switchover).await
}

async fn everywhere(stage: &Stage, change: Change) -> Result<String> {
    let undisturbed = change.make(stage, None).await;
    let steps = undisturbed.context("with nobody dying")?;
    ensure!(
        steps.iter().any(|step| step.name == "save"),
        "nothing was written down: {steps:?}"
    );
    let points = some_of(points(&steps), stage.deaths_max);
    for point in &points {
        let died = change.make(stage, Some(point)).await;
        died.with_context(|| format!("where the arbiter dies {point}"))?;
    }
    let verdict = whole_and_judged(stage).await?;
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    Ok(format!(
        "it died {} times, around each of {}; {verdict}",
        points.len(),
        names.join(", ")
    ))
}

/// So many of them at most, from the first to the last.
fn some_of(points: Vec<String>, most: Option<usize>) -> Vec<String> {
    let last = points.len().saturating_sub(1);
    match most {
        Some(most) if (2..points.len()).contains(&most) => (0..most)
            .map(|n| points[n * last / (most - 1)].clone())
            .collect(),
        _ => points,
    }
}

/// Before and after each, the second one of a name by its number.
fn points(steps: &[Step]) -> Vec<String> {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut points = Vec::new();
    for step in steps {
        let times = seen.entry(&step.name).or_default();
        *times += 1;
        let number = match times {
            1 => String::new(),
            times => format!("#{times}"),
        };
        points.push(format!("before:{}{number}", step.name));
        points.push(format!("after:{}{number}", step.name));
    }
    points
}

impl Change {
    /// Makes it on a whole pair, with the arbiter dying there if that is asked, and makes the pair whole again. Gives the steps of the
    /// change alone.
    async fn make(self, stage: &Stage, failpoint: Option<&str>) -> Result<Vec<Step>> {
        stage.heal().await?;
        stage.whole().await?;
        let primary = stage.primary().await?;
        let replica = stage.server(1 - primary);
        if self == Change::Grow {
            replica.kill().await?;
            stage.open_with(primary, &[primary]).await?;
        }
        let unarmed = stage.arbiter().deaths().len();
        if let Some(point) = failpoint {
            stage.arbiter().arm(point).await?;
        }
        let line = stage.arbiter().lines();
        let begun = stage.now();
        let armed = stage.has_not_died_at(failpoint, unarmed)?;
        match self {
            Change::Failover => {
                stage.server(primary).kill().await?;
                stage.died_at(failpoint, armed).await?;
                stage.open_with(1 - primary, &[1 - primary]).await?;
                stage.acknowledges(10, begun, Some(1 - primary)).await?;
            }
            Change::Grow => {
                replica.restart().await?;
                stage.died_at(failpoint, armed).await?;
                stage.whole().await?;
            }
            Change::Shrink => {
                replica.kill().await?;
                stage.died_at(failpoint, armed).await?;
                stage.open_with(primary, &[primary]).await?;
                stage.acknowledges(10, stage.now(), Some(primary)).await?;
            }
            Change::Switchover => {
                // If the arbiter dies, what was decided is finished all the same, or given up.
                let asked = stage.arbiter().switchover(SETTLED).await?;
                stage.died_at(failpoint, armed).await?;
                let status = stage.whole().await?;
                ensure!(
                    failpoint.is_some() || asked.status.success(),
                    "switchover: {asked:?}"
                );
                ensure!(
                    failpoint.is_some() || status["primary"] == name(1 - primary),
                    "{status}"
                );
            }
        }
        let steps = stage.arbiter().steps_from(line);
        stage.heal().await?;
        stage.whole().await?;
        stage.acknowledges(10, stage.now(), None).await?;
        Ok(steps)
    }
}

impl Stage {
    /// That it has not died at its failpoint before anything was done that leads there. Gives how often it has died in all.
    fn has_not_died_at(&self, failpoint: Option<&str>, unarmed: usize) -> Result<usize> {
        let deaths = self.arbiter().deaths();
        let early = deaths[unarmed..]
            .iter()
            .find(|death| Some(death.failpoint.as_str()) == failpoint);
        if let Some(death) = early {
            bail!("the arbiter died before anything was done: {death}");
        }
        Ok(deaths.len())
    }

    /// Waits until the arbiter has died after so many deaths: once, and at its failpoint.
    async fn died_at(&self, failpoint: Option<&str>, armed: usize) -> Result<()> {
        let Some(point) = failpoint else {
            return Ok(());
        };
        let what = format!("the arbiter dies {point}");
        let deaths = wait_for(&what, SETTLED, async || {
            let deaths = self.arbiter().deaths().split_off(armed);
            (!deaths.is_empty()).then_some(deaths)
        })
        .await?;
        ensure!(
            matches!(&deaths[..], [death] if death.is_at(point)),
            "{point}: it has ended otherwise: {deaths:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_many_are_spread_over_all_of_them() {
        let all: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(some_of(all.clone(), Some(4)), ["0", "3", "6", "9"]);
        assert_eq!(some_of(all.clone(), None), all);
        assert_eq!(some_of(all.clone(), Some(20)), all);
    }

    #[test]
    fn a_step_that_is_done_twice_has_four_points() {
        let step = |name: &str| Step {
            name: name.to_owned(),
            server: String::new(),
        };
        let expected = [
            "before:save",
            "after:save",
            "before:wire",
            "after:wire",
            "before:save#2",
            "after:save#2",
        ];
        assert_eq!(
            expected[..],
            points(&[step("save"), step("wire"), step("save")])[..]
        );
    }
}
