//! Whether a request that failed may be sent again: invariant 2 in one place.
//!
//! What provably has not reached a backend is sent to another one whatever its method. What may have is sent again only if doing it
//! twice is the same as doing it once: its method is idempotent, or it carries a key by which the app recognises it.

use std::sync::atomic::{AtomicI64, Ordering};

/// How far a try had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Not a byte of the request was written.
    Nothing,
    /// Something was written, so the backend may have acted on it.
    Perhaps,
}

/// A try that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// How far it had come.
    pub sent: Sent,
    /// Whether doing the request twice is as good as doing it once, by its method.
    pub is_idempotent: bool,
    /// Whether it carries an `Idempotency-Key`, on a route that knows them.
    pub has_key: bool,
    /// Whether every byte of its body that was read is still at hand.
    pub body_kept: bool,
    /// Whether the client has been sent a part of an answer.
    pub answer_begun: bool,
    /// How many tries there have been, this one included.
    pub tries: usize,
}

/// Whether to try once more, with at most `tries_max` tries in all.
pub fn again(failed: Failed, tries_max: usize) -> bool {
    if failed.answer_begun || failed.tries >= tries_max {
        return false;
    }
    let is_harmless = failed.is_idempotent || failed.has_key;
    failed.body_kept && (failed.sent == Sent::Nothing || is_harmless)
}

/// How many tries there may be beyond the first of each request: a share of the requests, so that an outage is not multiplied, and some
/// in any case, so that a single failure on a quiet day is met. In hundredths of a try.
#[derive(Debug)]
pub struct RetryBudget {
    left: AtomicI64,
    earned_per_request: i64,
    max: i64,
}

impl RetryBudget {
    /// Full: `burst` tries. Every request earns `percent` of one.
    pub fn new(percent: u8, burst: u32) -> RetryBudget {
        let max = i64::from(burst) * 100;
        RetryBudget {
            left: AtomicI64::new(max),
            earned_per_request: percent.into(),
            max,
        }
    }

    /// A request has come.
    pub fn earn(&self) {
        if self.left.load(Ordering::Relaxed) < self.max {
            self.left
                .fetch_add(self.earned_per_request, Ordering::Relaxed);
        }
    }

    /// Time has passed: so many tries are free.
    pub fn refill(&self, tries: u32) {
        if self.left.load(Ordering::Relaxed) < self.max {
            self.left
                .fetch_add(i64::from(tries) * 100, Ordering::Relaxed);
        }
    }

    /// Takes one, if there is one.
    pub fn take(&self) -> bool {
        let taken = self.left.fetch_sub(100, Ordering::Relaxed) >= 100;
        if !taken {
            self.left.fetch_add(100, Ordering::Relaxed);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(sent: Sent) -> Failed {
        Failed {
            sent,
            is_idempotent: false,
            has_key: false,
            body_kept: true,
            answer_begun: false,
            tries: 1,
        }
    }

    #[test]
    fn what_was_not_sent_goes_elsewhere_whatever_its_method() {
        assert!(again(failed(Sent::Nothing), 3));
        let idempotent = Failed {
            is_idempotent: true,
            ..failed(Sent::Nothing)
        };
        assert!(again(idempotent, 3));
    }

    #[test]
    fn what_may_have_been_sent_is_repeated_only_if_that_changes_nothing() {
        assert!(!again(failed(Sent::Perhaps), 3));
        let idempotent = Failed {
            is_idempotent: true,
            ..failed(Sent::Perhaps)
        };
        assert!(again(idempotent, 3));
        let with_key = Failed {
            has_key: true,
            ..failed(Sent::Perhaps)
        };
        assert!(again(with_key, 3));
    }

    #[test]
    fn a_body_that_is_gone_cannot_be_sent_again() {
        for sent in [Sent::Nothing, Sent::Perhaps] {
            let gone = Failed {
                body_kept: false,
                is_idempotent: true,
                ..failed(sent)
            };
            assert!(!again(gone, 3));
        }
    }

    #[test]
    fn an_answer_that_has_begun_is_never_started_over() {
        for sent in [Sent::Nothing, Sent::Perhaps] {
            let begun = Failed {
                answer_begun: true,
                is_idempotent: true,
                ..failed(sent)
            };
            assert!(!again(begun, 3));
        }
    }

    #[test]
    fn tries_are_bounded() {
        let last = Failed {
            tries: 3,
            ..failed(Sent::Nothing)
        };
        assert!(!again(last, 3));
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests_and_a_burst() {
        let budget = RetryBudget::new(20, 2);
        assert!(budget.take() && budget.take() && !budget.take());
        for _ in 0..4 {
            budget.earn();
        }
        assert!(!budget.take());
        budget.earn();
        assert!(budget.take() && !budget.take());
        budget.refill(1);
        assert!(budget.take() && !budget.take());
        for _ in 0..100 {
            budget.refill(10);
        }
        let taken = std::iter::repeat_with(|| budget.take()).take_while(|taken| *taken);
        assert!(taken.count() <= 12);
    }
}
