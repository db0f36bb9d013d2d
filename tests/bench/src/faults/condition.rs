//! How a backend is, and what that does to a request.

use std::time::Duration;

use super::dice::{For, roll};

/// How long a backend that is well works on a request, in the mean. It is from half of this to half as much again.
const WORK: Duration = Duration::from_millis(30);

/// How many times longer a cold backend takes at first.
const COLD_FACTOR: f64 = 10.0;

/// After so many answers a cold backend is warm.
const WARM_AFTER: u32 = 200;

/// So many requests at one time a cold backend works on; more have to share what there is.
const COLD_WIDTH: f64 = 8.0;

/// How long a backend that is slow to connect lets a new connection wait.
pub(super) const CONNECT_DELAY: Duration = Duration::from_millis(300);

/// How a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It works, and is ready.
    Well,
    /// It works, and says that it is not ready.
    Leaving,
    /// It reads nothing of a new connection for a while, and keeps none.
    SlowToConnect,
    /// It is ready, and answers 500 to everything else, at once.
    FailingFast,
    /// It answers nothing.
    Frozen,
    /// It is ready, and slow until it has answered some.
    Cold,
}

/// How long it works on a request: on the same one always as long, if it is as busy.
pub(super) fn work(condition: Condition, number: u64, in_flight: u32, answered: u32) -> Duration {
    let work = WORK.mul_f64(0.5 + roll(For::Work, number));
    if condition != Condition::Cold {
        return work;
    }
    let coldness = 1.0 - f64::from(answered.min(WARM_AFTER)) / f64::from(WARM_AFTER);
    let factor = 1.0 + (COLD_FACTOR - 1.0) * coldness;
    let crowd = 1.0 + (f64::from(in_flight) / COLD_WIDTH - 1.0).max(0.0) * coldness;
    work.mul_f64(factor * crowd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_backend_gets_warm_and_dislikes_a_crowd() {
        let well = work(Condition::Well, 1, 50, 0);
        let cold = |in_flight, answered| {
            work(Condition::Cold, 1, in_flight, answered).as_secs_f64() / well.as_secs_f64()
        };
        let near = |expected: f64, is: f64| assert!((expected - is).abs() < 0.01, "{is}");
        near(10.0, cold(1, 0));
        near(40.0, cold(32, 0));
        near(1.0, cold(32, WARM_AFTER));
        assert!(cold(8, WARM_AFTER / 2) < cold(8, 0));
    }
}
