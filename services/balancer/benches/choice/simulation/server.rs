//! A server: a queue with a few workers behind it.

use std::collections::VecDeque;
use std::time::Duration;

/// What kind of a server it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nature {
    /// It needs so many times as long as an ordinary one.
    Works { slowness: f64 },
    /// Its caches are empty: at first it needs so many times as long, and with every request the rest of it shrinks, by two thirds after so many.
    Warms { slowness: f64, requests: f64 },
    /// It answers with an error after so long, and needs no worker for it.
    Fails { after: Duration },
}

/// An ordinary one.
pub(crate) const ORDINARY: Nature = Nature::Works { slowness: 1.0 };

/// One of them, at work. Requests are numbers.
#[derive(Debug)]
pub(crate) struct Server {
    nature: Nature,
    idle: usize,
    waiting: VecDeque<usize>,
    begun: u64,
}

impl Server {
    /// With nothing to do.
    pub(crate) fn new(nature: Nature, workers: usize) -> Server {
        Server {
            nature,
            idle: workers,
            waiting: VecDeque::new(),
            begun: 0,
        }
    }

    /// After how long it fails, if it does.
    pub(crate) fn fails_after(&self) -> Option<Duration> {
        match self.nature {
            Nature::Fails { after } => Some(after),
            Nature::Works { .. } | Nature::Warms { .. } => None,
        }
    }

    /// A request comes.
    pub(crate) fn comes(&mut self, request: usize) {
        self.waiting.push_back(request);
    }

    /// A worker is done.
    pub(crate) fn is_done(&mut self) {
        self.idle += 1;
    }

    /// The next request that a worker begins with, if there are both.
    pub(crate) fn begins(&mut self) -> Option<usize> {
        self.idle = match (self.idle, self.waiting.is_empty()) {
            (0, _) | (_, true) => return None,
            (idle, false) => idle - 1,
        };
        self.begun += 1;
        self.waiting.pop_front()
    }

    /// How long it needs for this much work.
    pub(crate) fn needs(&self, work: Duration) -> Duration {
        match self.nature {
            Nature::Works { slowness } => work.mul_f64(slowness),
            Nature::Warms { slowness, requests } => {
                let rest = (-(self.begun as f64) / requests).exp();
                work.mul_f64(1.0 + (slowness - 1.0) * rest)
            }
            Nature::Fails { after } => after,
        }
    }

    /// How many wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
