//! What has reached the backends: each request, whenever one of them has read all of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// One request at one backend.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    number: u64,
    backend: usize,
    at: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Vec<Arrival>>);

impl Tally {
    /// One more, now.
    pub(super) fn note(&self, backend: usize, number: u64) {
        let at = Instant::now();
        self.arrivals().push(Arrival {
            number,
            backend,
            at,
        });
    }

    /// How many have reached this backend in this time.
    pub(super) fn at(&self, backend: usize, during: &Range<Instant>) -> usize {
        let arrivals = self.arrivals();
        let here = arrivals.iter().filter(|a| a.backend == backend);
        here.filter(|a| during.contains(&a.at)).count()
    }

    /// How often each request has reached a backend.
    pub(super) fn times(&self) -> BTreeMap<u64, usize> {
        let mut times = BTreeMap::new();
        for arrival in self.arrivals().iter() {
            *times.entry(arrival.number).or_default() += 1;
        }
        times
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_counted_twice_wherever_it_comes() {
        let tally = Tally::default();
        let begin = Instant::now();
        tally.note(0, 1);
        tally.note(1, 1);
        tally.note(1, 2);
        let end = Instant::now() + std::time::Duration::from_secs(1);
        assert_eq!(BTreeMap::from([(1, 2), (2, 1)]), tally.times());
        assert_eq!(2, tally.at(1, &(begin..end)));
        assert_eq!(0, tally.at(1, &(end..end)));
    }
}
