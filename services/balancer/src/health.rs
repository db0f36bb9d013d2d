//! When a backend counts as up: rises and falls over the outcomes of checks, and how soon to look again.
//!
//! Knows nothing of sockets; `health_check.rs` makes the outcomes.

use std::time::Duration;

/// How a backend is watched.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Between two checks of a backend that is well.
    pub interval: Duration,
    /// Between two checks of one that is not, or that has just failed one: a recovery should be noticed sooner than a failure, and a
    /// doubt resolved soon.
    pub interval_in_doubt: Duration,
    /// Passes in a row that bring a backend back. Its very first needs one only.
    pub rise: u32,
    /// Failures in a row that take it out.
    pub fall: u32,
    /// By which share an interval is lengthened or shortened at random (0.2 is up to a fifth either way), so that two balancers and
    /// many backends do not all check in step.
    pub jitter: f64,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered that it is ready.
    Ready,
    /// It answered, and said no: it is about to stop, or has not finished starting.
    NotReady(String),
    /// No answer, or none that can be believed.
    Failed(String),
}

/// Where a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not passed a check yet since this balancer started.
    Starting,
    /// It works, and is ready.
    Up,
    /// It works, and says that it is not ready: it is about to stop, or has not finished starting.
    NotReady,
    /// It does not answer, or not as itself.
    Down,
}

impl State {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Up => "up",
            State::NotReady => "not ready",
            State::Down => "down",
        }
    }
}

/// The rises and falls of one backend.
#[derive(Debug)]
pub struct Health {
    state: State,
    /// Outcomes in a row that speak against the state.
    against: u32,
}

impl Health {
    /// Not looked at yet.
    pub fn starting() -> Health {
        Health {
            state: State::Starting,
            against: 0,
        }
    }

    /// Where the backend stands now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes in an outcome; true if the state has changed.
    pub fn observe(&mut self, policy: &Policy, outcome: &Outcome) -> bool {
        let next = match outcome {
            Outcome::Ready => State::Up,
            Outcome::NotReady(_) => State::NotReady,
            Outcome::Failed(_) => State::Down,
        };
        let needed = match (self.state, next) {
            (State::Down, State::Up) => policy.rise,
            (State::Up | State::NotReady, State::Down) => policy.fall,
            // It said so itself: that is no noise to be averaged away, and a server that stops has announced it this way.
            (State::Starting, State::Up)
            | (State::Up | State::Down, State::NotReady)
            | (State::NotReady, State::Up) => 1,
            // As before; or not begun yet, which nothing but a pass changes.
            _ => {
                self.against = 0;
                return false;
            }
        };
        self.against += 1;
        if self.against < needed {
            return false;
        }
        self.against = 0;
        self.state = next;
        true
    }

    /// How long to wait before the next check; `roll` is a random number from 0 to 1.
    pub fn next_check(&self, policy: &Policy, roll: f64) -> Duration {
        let base = if self.state == State::Up && self.against == 0 {
            policy.interval
        } else {
            policy.interval_in_doubt
        };
        base.mul_f64((1.0 + policy.jitter * (2.0 * roll - 1.0)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            interval: Duration::from_secs(1),
            interval_in_doubt: Duration::from_millis(250),
            rise: 2,
            fall: 3,
            jitter: 0.2,
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed("refused".to_owned())
    }

    fn up() -> Health {
        let mut health = Health::starting();
        assert!(health.observe(&policy(), &Outcome::Ready));
        health
    }

    #[test]
    fn the_first_pass_brings_a_backend_into_rotation() {
        let mut health = Health::starting();
        assert!(!health.observe(&policy(), &failed()));
        assert_eq!(State::Starting, health.state());
        assert!(health.observe(&policy(), &Outcome::Ready));
        assert_eq!(State::Up, health.state());
    }

    #[test]
    fn one_failed_check_takes_nothing_out_and_a_pass_forgets_it() {
        let mut health = up();
        for _ in 0..5 {
            assert!(!health.observe(&policy(), &failed()));
            assert!(!health.observe(&policy(), &failed()));
            assert!(!health.observe(&policy(), &Outcome::Ready));
        }
        assert_eq!(State::Up, health.state());
    }

    #[test]
    fn it_falls_after_failures_in_a_row_and_rises_after_passes_in_a_row() {
        let mut health = up();
        let changes: Vec<bool> = (0..3)
            .map(|_| health.observe(&policy(), &failed()))
            .collect();
        assert_eq!(vec![false, false, true], changes);
        assert_eq!(State::Down, health.state());
        assert!(!health.observe(&policy(), &Outcome::Ready));
        assert!(!health.observe(&policy(), &failed()));
        assert!(!health.observe(&policy(), &Outcome::Ready));
        assert!(health.observe(&policy(), &Outcome::Ready));
        assert_eq!(State::Up, health.state());
    }

    #[test]
    fn a_backend_that_says_it_is_not_ready_is_believed_at_once_and_so_when_it_is() {
        let mut health = up();
        let not_ready = Outcome::NotReady("503".to_owned());
        assert!(health.observe(&policy(), &not_ready));
        assert_eq!(State::NotReady, health.state());
        assert!(health.observe(&policy(), &Outcome::Ready));
        assert_eq!(State::Up, health.state());
    }

    #[test]
    fn one_that_is_not_ready_and_then_says_nothing_is_down() {
        let mut health = up();
        health.observe(&policy(), &Outcome::NotReady("503".to_owned()));
        let changes = [(); 3].map(|()| health.observe(&policy(), &failed()));
        assert_eq!([false, false, true], changes);
        assert_eq!(State::Down, health.state());
    }

    #[test]
    fn it_is_looked_at_sooner_while_in_doubt_and_never_in_step() {
        let mut health = up();
        assert_eq!(Duration::from_secs(1), health.next_check(&policy(), 0.5));
        assert_eq!(
            Duration::from_millis(800),
            health.next_check(&policy(), 0.0)
        );
        assert_eq!(
            Duration::from_millis(1200),
            health.next_check(&policy(), 1.0)
        );
        health.observe(&policy(), &failed());
        assert_eq!(
            Duration::from_millis(250),
            health.next_check(&policy(), 0.5)
        );
    }
}
