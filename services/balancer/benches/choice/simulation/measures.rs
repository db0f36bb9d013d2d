//! What is measured in a run.

use std::time::Duration;

/// Counts and times of one run, or of several together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measures {
    /// From a request's coming to its good answer, the shortest first once they were sorted.
    latencies: Vec<Duration>,
    /// How many requests went to each server.
    sent: Vec<u64>,
    errors: u64,
    /// The distance between the most and the fewest requests in flight on a server, of all balancers together, looked at with each request.
    skews: u64,
    skew_max: usize,
    /// The most requests that waited for a worker of each server.
    waiting_max: Vec<usize>,
}

impl Measures {
    /// Nothing yet.
    pub(crate) fn new(servers: usize) -> Measures {
        Measures {
            sent: vec![0; servers],
            waiting_max: vec![0; servers],
            ..Measures::default()
        }
    }

    /// A request was sent to this server, and now there is this skew and a queue of this length.
    pub(crate) fn sent(&mut self, server: usize, skew: usize, waiting: usize) {
        self.sent[server] += 1;
        self.skews += skew as u64;
        self.skew_max = self.skew_max.max(skew);
        self.waiting_max[server] = self.waiting_max[server].max(waiting);
    }

    /// A good answer came after so long.
    pub(crate) fn answered(&mut self, after: Duration) {
        self.latencies.push(after);
    }

    /// An error came.
    pub(crate) fn erred(&mut self) {
        self.errors += 1;
    }

    /// Several runs together.
    pub(crate) fn of_all(runs: impl IntoIterator<Item = Measures>) -> Measures {
        let mut all = Measures::default();
        for run in runs {
            all.latencies.extend(run.latencies);
            all.sent.resize(run.sent.len(), 0);
            for (sum, sent) in all.sent.iter_mut().zip(run.sent) {
                *sum += sent;
            }
            all.errors += run.errors;
            all.skews += run.skews;
            all.skew_max = all.skew_max.max(run.skew_max);
            all.waiting_max.resize(run.waiting_max.len(), 0);
            for (most, waiting) in all.waiting_max.iter_mut().zip(run.waiting_max) {
                *most = waiting.max(*most);
            }
        }
        all.latencies.sort_unstable();
        all
    }

    /// The time within which this part of the good answers came, 0 to 1, in milliseconds.
    pub(crate) fn quantile_ms(&self, part: f64) -> f64 {
        let rank = (part * self.latencies.len() as f64).ceil() as usize;
        let at = rank.saturating_sub(1).min(self.latencies.len() - 1);
        self.latencies[at].as_secs_f64() * 1000.0
    }

    /// The mean, in milliseconds.
    pub(crate) fn mean_ms(&self) -> f64 {
        let sum: Duration = self.latencies.iter().sum();
        sum.as_secs_f64() * 1000.0 / self.latencies.len() as f64
    }

    /// The part of the requests that each server got, 0 to 1.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let all = self.requests() as f64;
        self.sent.iter().map(|sent| *sent as f64 / all).collect()
    }

    /// The part of the requests that were answered with an error, 0 to 1.
    pub(crate) fn errors(&self) -> f64 {
        self.errors as f64 / self.requests() as f64
    }

    /// How far apart the servers were, on the mean.
    pub(crate) fn skew_mean(&self) -> f64 {
        self.skews as f64 / self.requests() as f64
    }

    /// How far apart they ever were.
    pub(crate) fn skew_max(&self) -> usize {
        self.skew_max
    }

    /// The most that ever waited at each server.
    pub(crate) fn waiting_max(&self) -> &[usize] {
        &self.waiting_max
    }

    /// How many there were.
    fn requests(&self) -> u64 {
        self.sent.iter().sum()
    }
}
