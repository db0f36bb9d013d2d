//! The scenes: which servers there are, and what comes to them.

use std::time::Duration;

use super::server::{Nature, ORDINARY};
use super::work::{MEAN, Work};

/// How many requests a server works on at one time.
pub(crate) const WORKERS: usize = 4;
/// What is not measured, at the beginning of each run.
pub(crate) const WARM_UP: Duration = Duration::from_secs(5);

/// A scene.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The servers.
    pub(crate) servers: Vec<Nature>,
    /// How uneven the work is.
    pub(crate) work: Work,
    /// What comes, as a part of what the servers that work can do.
    pub(crate) load: f64,
    /// How many balancers share what comes.
    pub(crate) balancers: usize,
    /// Who is out of rotation until the warm-up is over.
    pub(crate) recovers: Option<usize>,
    /// How long it is measured.
    pub(crate) measured: Duration,
    /// How often it is played, each time with other dice.
    pub(crate) times: u64,
}

impl Scene {
    /// Four servers that are equal, and work that is not.
    pub(crate) fn equal(work: Work) -> Scene {
        Scene {
            servers: vec![ORDINARY; 4],
            work,
            load: 0.7,
            balancers: 1,
            recovers: None,
            measured: Duration::from_secs(30),
            times: 4,
        }
    }

    /// The last of them needs three times as long.
    pub(crate) fn one_is_slow(load: f64) -> Scene {
        Scene {
            load,
            ..Scene::equal(Work::Lognormal).with_last(Nature::Works { slowness: 3.0 })
        }
    }

    /// The last of them answers with errors, at once.
    pub(crate) fn one_fails() -> Scene {
        let after = Duration::from_micros(100);
        Scene {
            load: 0.65,
            ..Scene::equal(Work::Lognormal).with_last(Nature::Fails { after })
        }
    }

    /// Two balancers, each of which counts alone.
    pub(crate) fn of_a_pair() -> Scene {
        Scene {
            balancers: 2,
            ..Scene::equal(Work::Lognormal)
        }
    }

    /// The last of them was away, and comes back with empty caches.
    pub(crate) fn one_recovers() -> Scene {
        let cold = Nature::Warms {
            slowness: 10.0,
            requests: 1000.0,
        };
        Scene {
            load: 0.65,
            recovers: Some(3),
            measured: Duration::from_secs(10),
            times: 20,
            ..Scene::equal(Work::Lognormal).with_last(cold)
        }
    }

    fn with_last(mut self, nature: Nature) -> Scene {
        self.servers.pop();
        self.servers.push(nature);
        self
    }

    /// How many requests come in a second. Who fails can do nothing; who is away is counted as what it will be once it is warm.
    pub(crate) fn requests_per_s(&self) -> f64 {
        let speed = |nature: &Nature| match nature {
            Nature::Works { slowness } => 1.0 / slowness,
            Nature::Warms { .. } => 1.0,
            Nature::Fails { .. } => 0.0,
        };
        let speeds: f64 = self.servers.iter().map(speed).sum();
        self.load * speeds * WORKERS as f64 / MEAN.as_secs_f64()
    }
}
