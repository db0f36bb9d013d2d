//! What one would write first: a lock around the counts, a list of those with the least, and one of them by turn. With weights it is not as fair
//! as ours, and it knows neither ranks nor limits nor who was tried.

use std::sync::{Mutex, PoisonError};

/// The counts, and whose turn it is.
pub(crate) struct Naive(Mutex<Counts>);

struct Counts {
    each: Vec<Count>,
    turn: usize,
}

struct Count {
    in_flight: u32,
    share: u32,
}

/// A request on one of them.
pub(crate) struct NaiveLease<'a> {
    naive: &'a Naive,
    at: usize,
}

impl Naive {
    /// Among those of these shares.
    pub(crate) fn new(shares: impl Iterator<Item = u32>) -> Naive {
        let each = shares.map(|share| Count {
            in_flight: 0,
            share,
        });
        Naive(Mutex::new(Counts {
            each: each.collect(),
            turn: 0,
        }))
    }

    /// One with the least for its share.
    pub(crate) fn choose(&self) -> NaiveLease<'_> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let loads: Vec<f64> = counts
            .each
            .iter()
            .map(|count| f64::from(count.in_flight + 1) / f64::from(count.share))
            .collect();
        let least = loads.iter().copied().fold(f64::INFINITY, f64::min);
        let equal: Vec<usize> = (0..loads.len()).filter(|at| loads[*at] <= least).collect();
        let at = equal[counts.turn % equal.len()];
        counts.turn = counts.turn.wrapping_add(1);
        counts.each[at].in_flight += 1;
        NaiveLease { naive: self, at }
    }
}

impl Drop for NaiveLease<'_> {
    fn drop(&mut self) {
        let mut counts = self.naive.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.each[self.at].in_flight -= 1;
    }
}
