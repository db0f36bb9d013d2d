//! What can go wrong, in types that a caller can answer to.

use std::{io, time::Duration};

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
    /// The primary takes no writes for a while, as planned: a switchover took longer than a write is held, or the server is in
    /// maintenance. Nothing was sent.
    #[error("no writes for a while: {reason}")]
    Maintenance {
        /// What is being done.
        reason: String,
    },
    /// No server can answer a read now. Nothing was sent.
    #[error("no database server is available: {reason}")]
    NoServer {
        /// What is known of them.
        reason: String,
    },
    /// No connection became free in time, or as many wait for one as may, or the server takes no more. Nothing was sent.
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
    /// The transaction is rolled back, and takes no further statement: the server did so to end a deadlock, or a statement of it was dropped
    /// in the middle of its answer. It may be begun again.
    #[error("the transaction was rolled back: {reason}")]
    RolledBack {
        /// What happened.
        reason: String,
    },
    /// The statement uses what belongs to one connection.
    #[error("the statement uses {state}, which a shared executor cannot keep: {}", .state.cure())]
    SessionState {
        /// What of it.
        state: Session,
    },
    /// What the database or the driver said.
    #[error(transparent)]
    Sqlx(sqlx::Error),
}

impl RouterError {
    /// Ours inside of an error that came through sqlx.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
            sqlx::Error::Configuration(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// A closed list for a metric's label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "configuration",
            Self::PrimaryUnavailable { .. } => "primary_unavailable",
            Self::Maintenance { .. } => "maintenance",
            Self::NoServer { .. } => "no_server",
            Self::Overloaded { .. } => "overloaded",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::CommitOutcomeUnknown { .. } => "commit_outcome_unknown",
            Self::RolledBack { .. } => "rolled_back",
            Self::SessionState { .. } => "session_state",
            Self::Sqlx(_) => "database",
        }
    }

    /// All values of [`Self::kind`].
    pub(crate) const KINDS: [&'static str; 10] = [
        "configuration",
        "primary_unavailable",
        "maintenance",
        "no_server",
        "overloaded",
        "deadline_exceeded",
        "commit_outcome_unknown",
        "rolled_back",
        "session_state",
        "database",
    ];
}

/// Ours comes out of sqlx's again.
impl From<sqlx::Error> for RouterError {
    fn from(error: sqlx::Error) -> Self {
        if Self::of(&error).is_none() {
            return Self::Sqlx(error);
        }
        let inner = match error {
            sqlx::Error::Io(error) => error.into_inner(),
            sqlx::Error::Configuration(error) => Some(error as _),
            _ => None,
        };
        let ours = inner.and_then(|inner| inner.downcast::<Self>().ok());
        *ours.expect("it was found in it")
    }
}

/// What is known of a server reads as an error of communication, and is one to whoever does not look closer.
impl From<RouterError> for sqlx::Error {
    fn from(error: RouterError) -> Self {
        match error {
            RouterError::Sqlx(error) => error,
            // The program or its settings are wrong, not a server.
            ours @ (RouterError::Configuration(_) | RouterError::SessionState { .. }) => {
                Self::Configuration(Box::new(ours))
            }
            ours => Self::Io(io::Error::other(ours)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_is_found_in_sqlxs_and_says_the_same() {
        for (error, said) in [
            (
                RouterError::NoServer {
                    reason: "mysql-1: connection refused".to_owned(),
                },
                "error communicating with database: no database server is available: mysql-1: connection refused",
            ),
            (
                RouterError::SessionState {
                    state: Session::NamedLocks,
                },
                "error with configuration: the statement uses named locks, which a shared executor cannot keep: use `router.pinned()`, which keeps one connection",
            ),
        ] {
            let kind = error.kind();
            let error = sqlx::Error::from(error);
            assert_eq!(error.to_string(), said);
            assert_eq!(RouterError::of(&error).map(RouterError::kind), Some(kind));
            assert_eq!(RouterError::from(error).kind(), kind);
        }
        assert!(RouterError::of(&sqlx::Error::RowNotFound).is_none());
        assert!(RouterError::of(&io::Error::from(io::ErrorKind::TimedOut).into()).is_none());
    }
}
