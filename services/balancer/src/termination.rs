//! How a request ended, in one word from a closed list: the access log's and the metrics' vocabulary.

use crate::http1::Refusal;

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// A backend's answer was delivered whole.
    Completed,
    /// The edge answered by itself, because the request is not one to pass on.
    Refused,
    /// The client went away, or gave the request up.
    ClientAbort,
    /// The client stopped sending or reading, or did so too slowly.
    ClientTimeout,
    /// What the client sent breaks a rule of HTTP.
    ParseError,
    /// The client sent more than is taken.
    TooLarge,
    /// The client sends more than it may.
    RateLimited,
    /// No backend was in rotation.
    NoBackend,
    /// Every backend had as many requests as it takes, and the queue was full.
    QueueFull,
    /// The same, and nothing became free in time.
    QueueTimeout,
    /// A backend refused the connection.
    ConnectRefused,
    /// A backend did not take the connection in time.
    ConnectTimeout,
    /// The TLS handshake with a backend failed.
    TlsFailure,
    /// A backend's certificate is of the wrong role.
    WrongRole,
    /// A backend broke the connection off.
    BackendReset,
    /// A backend was found dead while its answer was awaited.
    BackendDown,
    /// A backend's answer is not HTTP.
    BadAnswer,
    /// A backend sent no head of an answer in time.
    FirstByteTimeout,
    /// A backend stopped in the middle of its answer, or of taking the request.
    AnswerTimeout,
    /// The exchange took too long as a whole.
    TotalTimeout,
    /// A fault of the edge itself.
    Internal,
}

impl Termination {
    /// How a request ends that breaks a rule.
    pub fn of(refusal: Refusal) -> Termination {
        match refusal {
            Refusal::HeadTooLarge | Refusal::TooManyFields | Refusal::TargetTooLong => {
                Termination::TooLarge
            }
            _ => Termination::ParseError,
        }
    }

    /// Every one, for the metrics' labels.
    pub const ALL: [Termination; 21] = [
        Termination::Completed,
        Termination::Refused,
        Termination::ClientAbort,
        Termination::ClientTimeout,
        Termination::ParseError,
        Termination::TooLarge,
        Termination::RateLimited,
        Termination::NoBackend,
        Termination::QueueFull,
        Termination::QueueTimeout,
        Termination::ConnectRefused,
        Termination::ConnectTimeout,
        Termination::TlsFailure,
        Termination::WrongRole,
        Termination::BackendReset,
        Termination::BackendDown,
        Termination::BadAnswer,
        Termination::FirstByteTimeout,
        Termination::AnswerTimeout,
        Termination::TotalTimeout,
        Termination::Internal,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Termination::Completed => "completed",
            Termination::Refused => "refused",
            Termination::ClientAbort => "client_abort",
            Termination::ClientTimeout => "client_timeout",
            Termination::ParseError => "parse_error",
            Termination::TooLarge => "too_large",
            Termination::RateLimited => "rate_limited",
            Termination::NoBackend => "no_backend",
            Termination::QueueFull => "queue_full",
            Termination::QueueTimeout => "queue_timeout",
            Termination::ConnectRefused => "connect_refused",
            Termination::ConnectTimeout => "connect_timeout",
            Termination::TlsFailure => "tls_failure",
            Termination::WrongRole => "wrong_role",
            Termination::BackendReset => "backend_reset",
            Termination::BackendDown => "backend_down",
            Termination::BadAnswer => "bad_answer",
            Termination::FirstByteTimeout => "first_byte_timeout",
            Termination::AnswerTimeout => "answer_timeout",
            Termination::TotalTimeout => "total_timeout",
            Termination::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_word_is_explained() {
        let page = include_str!("../../../docs/balancer.md");
        for end in Termination::ALL {
            let row = format!("\n| `{}` | ", end.as_str());
            assert!(page.contains(&row), "{row} is not in docs/balancer.md");
        }
    }

    #[test]
    fn every_word_is_there_once() {
        let words: HashSet<_> = Termination::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(Termination::ALL.len(), words.len());
    }
}
