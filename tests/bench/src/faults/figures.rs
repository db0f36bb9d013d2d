//! What one fault came to behind one proxy.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::client::{Outcome, Sample};
use super::fault::Played;
use super::plan::Kind;
use super::tally::Tally;
use super::{SICK, WELL};
use crate::median::quantile;

/// When requests are sent later than this, backends, which are in the same program, answer late as well.
const LATE_MS_MAX: f64 = 20.0;

/// The figures of the time that is observed.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) requests: usize,
    /// Of each kind.
    pub(super) failed: BTreeMap<Kind, usize>,
    /// How they ended, those that failed.
    endings: BTreeMap<Outcome, usize>,
    /// POSTs without a key that have reached a backend twice, in the whole run.
    pub(super) done_twice: usize,
    /// The share of what reached backends that was the sick one's while it was sick.
    pub(super) to_sick: Option<f64>,
    /// Of requests that did not fail, in milliseconds: median, 99th percentile, longest.
    pub(super) latency_ms: [Option<f64>; 3],
    /// How late requests were sent, in milliseconds: the 99th percentile.
    pub(super) late_ms: f64,
}

impl Figures {
    pub(super) fn of(samples: &[Sample], tally: &Tally, played: &Played) -> Figures {
        let observed: Vec<&Sample> = samples
            .iter()
            .filter(|sample| is_observed(sample, &played.observed))
            .collect();
        let mut failed = BTreeMap::from([(Kind::Get, 0), (Kind::Post, 0), (Kind::KeyedPost, 0)]);
        let mut endings = BTreeMap::new();
        let mut latencies = Vec::new();
        let mut late: Vec<u32> = Vec::new();
        for sample in &observed {
            late.push(micros(sample.late));
            if sample.outcome.is_failure() {
                *failed.entry(sample.kind).or_default() += 1;
                *endings.entry(sample.outcome.clone()).or_default() += 1;
            } else {
                latencies.push(micros(sample.took));
            }
        }
        latencies.sort_unstable();
        late.sort_unstable();
        let times = tally.times();
        let is_done_twice = |sample: &&Sample| {
            sample.kind == Kind::Post && times.get(&sample.number).is_some_and(|times| *times > 1)
        };
        let [sick, well] = [SICK, WELL].map(|backend| tally.at(backend, &played.sick));
        Figures {
            requests: observed.len(),
            failed,
            endings,
            done_twice: samples.iter().filter(is_done_twice).count(),
            to_sick: share(sick, sick + well),
            latency_ms: [0.5, 0.99, 1.0]
                .map(|share| quantile(&latencies, share).map(|micros| micros / 1e3)),
            late_ms: quantile(&late, 0.99).unwrap_or_default() / 1e3,
        }
    }

    /// Whether the machine was too busy with something else for the figures to say anything about the proxy.
    pub(super) fn was_late(&self) -> bool {
        self.late_ms > LATE_MS_MAX
    }

    /// All that failed.
    pub(super) fn failed_in_all(&self) -> usize {
        self.failed.values().sum()
    }
}

/// A request is given up long before an hour has passed, which is what fits.
fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Whether it came in this time, or was under way when that began: a fault meets those first.
fn is_observed(sample: &Sample, time: &Range<Instant>) -> bool {
    sample.due < time.end && sample.due + sample.took >= time.start
}

/// In percent, if there is anything to share.
fn share(part: usize, whole: usize) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    let share = |whole: usize| part as f64 * 100.0 / whole as f64;
    (whole > 0).then(|| share(whole))
}

impl fmt::Display for Figures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} of {} failed", self.failed_in_all(), self.requests)?;
        let mut separator = ": ";
        for (ending, count) in &self.endings {
            match ending {
                Outcome::Answered(status) => write!(to, "{separator}{count} with {status}")?,
                Outcome::Broken => write!(to, "{separator}{count} by a closed connection")?,
                Outcome::Unanswered => write!(to, "{separator}{count} without an answer")?,
            }
            separator = ", ";
        }
        if let Some(share) = self.to_sick {
            write!(to, "; {share:.1} % to the sick one")?;
        }
        if let [_, Some(p99), _] = self.latency_ms {
            write!(to, "; p99 {p99:.0} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_before_the_fault_is_not_told_of_and_what_fails_has_no_latency() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let sample = |number: u64, kind, outcome| Sample {
            number,
            kind,
            due: at(number),
            late: Duration::ZERO,
            took: Duration::from_millis(10 * number),
            outcome,
        };
        let samples = [
            // From 0 to 0 ms, from 1 to 11 ms, and so on.
            sample(0, Kind::Get, Outcome::Answered(500)),
            sample(1, Kind::Get, Outcome::Answered(200)),
            sample(2, Kind::Post, Outcome::Answered(504)),
            sample(3, Kind::KeyedPost, Outcome::Broken),
        ];
        let tally = Tally::default();
        for (backend, number) in [(WELL, 1), (SICK, 2), (WELL, 2), (SICK, 3), (WELL, 3)] {
            tally.note(backend, number);
        }
        let played = Played {
            observed: at(2)..at(60_000),
            sick: begin..at(60_000),
        };
        let figures = Figures::of(&samples, &tally, &played);
        assert_eq!(3, figures.requests);
        let expected = BTreeMap::from([(Kind::Get, 0), (Kind::Post, 1), (Kind::KeyedPost, 1)]);
        assert_eq!(expected, figures.failed);
        assert_eq!(1, figures.done_twice);
        assert_eq!(Some(40.0), figures.to_sick);
        assert_eq!([Some(10.0); 3], figures.latency_ms);
        assert_eq!(
            "2 of 3 failed: 1 with 504, 1 by a closed connection; 40.0 % to the sick one; p99 10 ms",
            figures.to_string()
        );
    }
}
