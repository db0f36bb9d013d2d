//! What can go wrong, in types that a caller can answer to.

use std::time::Duration;

use crate::classify::Session;

/// Why a statement was not done, or what is not known about it.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// A value of the configuration makes no sense.
    #[error("{0}")]
    Configuration(String),
    /// No server takes writes now. Nothing was sent.
    #[error("the primary {server} is not available: {reason}")]
    PrimaryUnavailable {
        /// The primary of the newest epoch, or all servers where none is known.
        server: String,
        /// What is known of it.
        reason: String,
    },
    /// No server can answer a read now. Nothing was sent.
    #[error("no database server is available: {reason}")]
    NoServer {
        /// What is known of them.
        reason: String,
    },
    /// No connection became free in time, or too many were given up whose statements the server still works on. Nothing was sent.
    #[error("no connection to {server} became free within {waited:?}")]
    Overloaded {
        /// The server.
        server: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A read took too long.
    #[error("{server} did not answer within {limit:?}")]
    DeadlineExceeded {
        /// The server.
        server: String,
        /// The statement timeout.
        limit: Duration,
    },
    /// A write or commit was sent, and no answer came: it may have been done, and may still be.
    #[error("whether {server} has committed is not known: {reason}")]
    CommitOutcomeUnknown {
        /// The server.
        server: String,
        /// What happened instead of an answer.
        reason: String,
        /// The servers that do not answer, as far as is known: a commit waits for the replica's acknowledgement.
        away: Vec<String>,
    },
    /// The statement uses what belongs to one connection.
    #[error("the statement uses {state}, which a shared executor cannot keep: {}", .state.cure())]
    SessionState {
        /// What of it.
        state: Session,
    },
    /// What the database or the driver said.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
}

impl RouterError {
    /// Ours inside of an error that came through sqlx.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::AnyDriverError(inner) => inner.downcast_ref(),
            _ => None,
        }
    }

    /// A closed list for a metric's label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "configuration",
            Self::PrimaryUnavailable { .. } => "primary_unavailable",
            Self::NoServer { .. } => "no_server",
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::CommitOutcomeUnknown { .. } => "commit_outcome_unknown",
            Self::SessionState { .. } => "session_state",
            Self::Sqlx(_) => "database",
        }
    }

    /// All values of [`Self::kind`].
    pub(crate) const KINDS: [&'static str; 8] = [
        "configuration",
        "primary_unavailable",
        "no_server",
        "overloaded",
        "deadline_exceeded",
        "commit_outcome_unknown",
        "session_state",
        "database",
    ];
}

impl From<RouterError> for sqlx::Error {
    fn from(error: RouterError) -> Self {
        match error {
            RouterError::Sqlx(error) => error,
            ours => Self::AnyDriverError(Box::new(ours)),
        }
    }
}
