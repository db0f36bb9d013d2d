//! What clients have tried, and what they were told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there, and stays.
    Acknowledged,
    /// It was not done.
    Refused,
    /// Nothing, or nothing that says which.
    Unknown,
}

/// One write of one row.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The round of the drill.
    pub round: u32,
    /// The epoch that the client had seen.
    pub seen: u64,
    /// The server that it was sent to, 0 or 1.
    pub to: usize,
    /// When, since the history began.
    pub began: Duration,
    /// When the answer came, or was not waited for any more.
    pub ended: Duration,
    /// What it was.
    pub outcome: Outcome,
}

/// When an epoch was first read, and who was its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When the answer was there.
    pub at: Duration,
    /// Its name.
    pub primary: String,
}

/// Everything since the load began. A writer's attempts are numbered from 0 in their order, with no gap.
#[derive(Debug)]
pub struct History {
    begun: Instant,
    writers: Vec<Mutex<Vec<Attempt>>>,
    sightings: Mutex<BTreeMap<u64, Vec<Sighting>>>,
}

impl History {
    /// Of so many writers.
    pub fn of(writers: usize) -> History {
        History {
            begun: Instant::now(),
            writers: (0..writers).map(|_| Mutex::default()).collect(),
            sightings: Mutex::default(),
        }
    }

    /// The time since it began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Adds what has come of a writer's next attempt.
    pub fn add(&self, writer: usize, attempt: Attempt) {
        lock(&self.writers[writer]).push(attempt);
    }

    /// The number of the writer's next attempt.
    pub fn next(&self, writer: usize) -> usize {
        lock(&self.writers[writer]).len()
    }

    /// Somebody has read on a server that this is the primary of this epoch.
    pub fn saw(&self, epoch: u64, primary: &str) {
        let mut sightings = lock(&self.sightings);
        let of_epoch = sightings.entry(epoch).or_default();
        if of_epoch.iter().all(|sighting| sighting.primary != primary) {
            of_epoch.push(Sighting {
                at: self.begun.elapsed(),
                primary: primary.to_owned(),
            });
        }
    }

    /// The attempts of each writer.
    pub fn attempts(&self) -> Vec<Vec<Attempt>> {
        let of_writer = |attempts: &Mutex<Vec<Attempt>>| lock(attempts).clone();
        self.writers.iter().map(of_writer).collect()
    }

    /// How many attempts each writer has made.
    pub fn marks(&self) -> Vec<usize> {
        self.writers
            .iter()
            .map(|attempts| lock(attempts).len())
            .collect()
    }

    /// The epochs that were seen. One with two primaries is a fault in itself.
    pub fn sightings(&self) -> BTreeMap<u64, Vec<Sighting>> {
        lock(&self.sightings).clone()
    }

    /// How many attempts have come to this since then, and went there if that is asked.
    pub fn count(&self, outcome: Outcome, since: Duration, to: Option<usize>) -> usize {
        let counted = |attempt: &&Attempt| {
            attempt.outcome == outcome
                && attempt.began >= since
                && to.is_none_or(|to| to == attempt.to)
        };
        let of_writer = |attempts: &Mutex<Vec<Attempt>>| {
            let attempts = lock(attempts);
            // Newest first: a look at a long history is cheap.
            let new = attempts
                .iter()
                .rev()
                .take_while(|attempt| attempt.began >= since);
            new.filter(counted).count()
        };
        self.writers.iter().map(of_writer).sum()
    }

    /// The longest time between two acknowledgements, or since the last one, in which at least a part of this window lies.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let mut ends: Vec<Duration> = Vec::new();
        for attempts in &self.writers {
            let attempts = lock(attempts);
            let acknowledged = attempts
                .iter()
                .rev()
                .filter(|attempt| attempt.outcome == Outcome::Acknowledged);
            let mut before = None;
            for attempt in acknowledged {
                if attempt.ended < from {
                    before = Some(attempt.ended);
                    break;
                }
                if attempt.ended <= to {
                    ends.push(attempt.ended);
                }
            }
            ends.extend(before);
        }
        ends.sort_unstable();
        // Of those before the window the newest alone counts.
        let first = ends.partition_point(|end| *end < from).saturating_sub(1);
        let mut ends = ends.split_off(first);
        if ends.first().is_none_or(|end| *end > from) {
            ends.insert(0, from);
        }
        ends.push(to);
        let gaps = ends
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0].max(Duration::ZERO)));
        gaps.max().unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(ended_ms: u64) -> Attempt {
        Attempt {
            round: 0,
            seen: 1,
            to: 0,
            began: Duration::from_millis(ended_ms.saturating_sub(1)),
            ended: Duration::from_millis(ended_ms),
            outcome: Outcome::Acknowledged,
        }
    }

    #[test]
    fn the_longest_gap_counts_what_reaches_into_the_window_and_what_is_open_at_its_end() {
        let history = History::of(2);
        for ended in [10, 100, 210] {
            history.add(0, acknowledged(ended));
        }
        history.add(1, acknowledged(150));
        let gap = |from, to| {
            let window =
                history.longest_gap(Duration::from_millis(from), Duration::from_millis(to));
            window.as_millis()
        };
        assert_eq!(90, gap(20, 160));
        assert_eq!(60, gap(155, 230));
        assert_eq!(290, gap(205, 500));
        assert_eq!(90, gap(0, 210));
    }

    #[test]
    fn an_epoch_is_first_seen_once_and_a_second_primary_of_it_is_kept() {
        let history = History::of(0);
        history.saw(1, "mysql-1");
        history.saw(1, "mysql-1");
        history.saw(1, "mysql-2");
        let names: Vec<String> = history.sightings()[&1]
            .iter()
            .map(|sighting| sighting.primary.clone())
            .collect();
        assert_eq!(["mysql-1", "mysql-2"], names[..]);
    }
}
