//! How a request ended, in one word from a closed list: the access log's and the metrics' vocabulary.

use serde::{Serialize, Serializer};

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// A backend's answer was delivered whole.
    Completed,
    /// The edge answered by itself, because the request is not one to pass on.
    Refused,
    /// The client went away, or stopped reading.
    ClientAbort,
    /// The client stopped sending.
    ClientTimeout,
    /// What the client sent is not HTTP.
    ParseError,
    /// The client sent more than is taken.
    TooLarge,
    /// No backend was in rotation.
    NoBackend,
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
    /// A backend's answer is not HTTP.
    BadAnswer,
    /// A backend took too long.
    AnswerTimeout,
    /// A fault of the edge itself.
    Internal,
}

impl Termination {
    /// Every one, for the metrics' labels.
    pub const ALL: [Termination; 15] = [
        Termination::Completed,
        Termination::Refused,
        Termination::ClientAbort,
        Termination::ClientTimeout,
        Termination::ParseError,
        Termination::TooLarge,
        Termination::NoBackend,
        Termination::ConnectRefused,
        Termination::ConnectTimeout,
        Termination::TlsFailure,
        Termination::WrongRole,
        Termination::BackendReset,
        Termination::BadAnswer,
        Termination::AnswerTimeout,
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
            Termination::NoBackend => "no_backend",
            Termination::ConnectRefused => "connect_refused",
            Termination::ConnectTimeout => "connect_timeout",
            Termination::TlsFailure => "tls_failure",
            Termination::WrongRole => "wrong_role",
            Termination::BackendReset => "backend_reset",
            Termination::BadAnswer => "bad_answer",
            Termination::AnswerTimeout => "answer_timeout",
            Termination::Internal => "internal",
        }
    }
}

impl Serialize for Termination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
