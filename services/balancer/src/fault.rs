//! Why a try on a backend has failed, and what the client is told if there is no other.

use crate::backend_connection::Broken;
use crate::problem::Problem;
use crate::retry::Sent;
use crate::termination::Termination;

/// A try that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub end: Termination,
    /// How far the request had come.
    pub sent: Sent,
    /// The rule that the answer breaks, by its name.
    pub refusal: Option<&'static str>,
}

impl Fault {
    /// No connection was made.
    pub fn unconnected(end: Termination) -> Fault {
        Fault {
            end,
            sent: Sent::Nothing,
            refusal: None,
        }
    }

    /// A connection broke in the middle; `has_answered` once there was a whole head of an answer.
    pub fn of(broken: Broken, sent: Sent, has_answered: bool) -> Fault {
        let (end, refusal) = match broken {
            Broken::Closed => (Termination::BackendReset, None),
            Broken::Late if has_answered => (Termination::AnswerTimeout, None),
            Broken::Late => (Termination::FirstByteTimeout, None),
            Broken::Dead => (Termination::BackendDown, None),
            Broken::Malformed(refusal) => (Termination::BadAnswer, Some(refusal.name())),
        };
        Fault { end, sent, refusal }
    }

    /// What the client is told.
    pub fn problem(&self) -> Problem {
        match (self.sent, self.end) {
            (Sent::Nothing, _) => Problem::BackendsUnreachable,
            (Sent::Perhaps, Termination::FirstByteTimeout | Termination::AnswerTimeout) => {
                Problem::GatewayTimeout
            }
            (Sent::Perhaps, _) => Problem::BadGateway,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Refusal;

    #[test]
    fn what_was_not_sent_is_unavailable_and_what_was_is_a_bad_gateway() {
        let refused = Fault::unconnected(Termination::ConnectRefused);
        assert_eq!(Problem::BackendsUnreachable, refused.problem());
        let closed = Fault::of(Broken::Closed, Sent::Perhaps, false);
        assert_eq!(Problem::BadGateway, closed.problem());
        let unheard = Fault::of(Broken::Closed, Sent::Nothing, false);
        assert_eq!(Problem::BackendsUnreachable, unheard.problem());
        let bad = Fault::of(Broken::Malformed(Refusal::StatusLine), Sent::Perhaps, false);
        assert_eq!(Problem::BadGateway, bad.problem());
        assert_eq!(Some("StatusLine"), bad.refusal);
    }

    #[test]
    fn a_backend_that_says_nothing_is_told_from_one_that_stops() {
        let late = |has_answered| Fault::of(Broken::Late, Sent::Perhaps, has_answered);
        assert_eq!(Termination::FirstByteTimeout, late(false).end);
        assert_eq!(Termination::AnswerTimeout, late(true).end);
        assert_eq!(Problem::GatewayTimeout, late(false).problem());
    }
}
