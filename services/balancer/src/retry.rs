//! Whether a request that failed may be sent again: invariant 2 in one place.
//!
//! What provably has not reached a backend is sent to another one whatever its method. What may have is sent again only if doing it
//! twice is the same as doing it once: its method is idempotent, or it carries a key by which the app recognises it.

use http::Method;

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
pub struct Failed<'a> {
    /// How far it had come.
    pub sent: Sent,
    /// The request's method.
    pub method: &'a Method,
    /// Whether it carries an `Idempotency-Key`.
    pub has_key: bool,
    /// Whether every byte of its body that was read is still at hand.
    pub body_kept: bool,
    /// Whether the client has been sent a part of an answer.
    pub answer_begun: bool,
    /// How many tries there have been, this one included.
    pub tries: usize,
}

/// Whether to try once more, with at most `tries_max` tries in all.
pub fn again(failed: Failed<'_>, tries_max: usize) -> bool {
    if failed.answer_begun || failed.tries >= tries_max {
        return false;
    }
    match failed.sent {
        Sent::Nothing => true,
        Sent::Perhaps => failed.body_kept && (failed.method.is_idempotent() || failed.has_key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(sent: Sent, method: &Method) -> Failed<'_> {
        Failed {
            sent,
            method,
            has_key: false,
            body_kept: true,
            answer_begun: false,
            tries: 1,
        }
    }

    #[test]
    fn what_was_not_sent_goes_elsewhere_whatever_its_method() {
        for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
            assert!(again(failed(Sent::Nothing, &method), 3), "{method}");
        }
    }

    #[test]
    fn what_may_have_been_sent_is_repeated_only_if_that_changes_nothing() {
        let cases = [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::POST, false),
            (Method::PATCH, false),
        ];
        for (method, expected) in cases {
            assert_eq!(
                expected,
                again(failed(Sent::Perhaps, &method), 3),
                "{method}"
            );
        }
    }

    #[test]
    fn a_key_makes_a_post_repeatable() {
        let with_key = Failed {
            has_key: true,
            ..failed(Sent::Perhaps, &Method::POST)
        };
        assert!(again(with_key, 3));
    }

    #[test]
    fn a_body_that_is_gone_cannot_be_sent_again() {
        let gone = Failed {
            body_kept: false,
            ..failed(Sent::Perhaps, &Method::PUT)
        };
        assert!(!again(gone, 3));
    }

    #[test]
    fn an_answer_that_has_begun_is_never_started_over() {
        for sent in [Sent::Nothing, Sent::Perhaps] {
            let begun = Failed {
                answer_begun: true,
                ..failed(sent, &Method::GET)
            };
            assert!(!again(begun, 3));
        }
    }

    #[test]
    fn tries_are_bounded() {
        let last = Failed {
            tries: 3,
            ..failed(Sent::Nothing, &Method::GET)
        };
        assert!(!again(last, 3));
    }
}
