//! Why the ledger refused, or could not answer.

use router::RouterError;

use super::Cents;

/// A refusal (nothing was written), or a fault of the database.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The account is not there, or is another owner's: a caller cannot tell which.
    #[error("no such account")]
    NoSuchAccount,
    /// The account that should receive is not there.
    #[error("no such account to send to")]
    NoSuchRecipient,
    /// The owner is not there, although its token is good.
    #[error("no such owner")]
    NoSuchOwner,
    /// The balance would go below zero.
    #[error("the account holds {balance} cents, which is less than {amount}")]
    InsufficientFunds {
        /// What the account holds.
        balance: Cents,
        /// What should have left it.
        amount: Cents,
    },
    /// The receiving account would hold more than it may.
    #[error("the receiving account would hold more than 2^53 - 1 cents")]
    BalanceTooLarge,
    /// The idempotency key belongs to a request with other values.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The cursor is of another list, or of none.
    #[error("the cursor is not of this list")]
    CursorOfAnotherList,
    /// Too many transfers of one of the accounts were waiting before this one; nothing was written.
    #[error("too many transfers wait for one of these accounts")]
    TooBusy,
    /// The primary did not get as far as the commit in time; nothing was written.
    #[error("the primary did not answer within {0:?}")]
    TookTooLong(std::time::Duration),
    /// A server did not answer, or not in time; inside may be a [`RouterError`], see [`LedgerError::router`].
    #[error(transparent)]
    Sql(sqlx::Error),
    /// The router could not place the statement, or does not know what became of it.
    #[error(transparent)]
    Router(RouterError),
}

impl LedgerError {
    /// What the router says went wrong, if it was the router that failed.
    #[must_use]
    pub fn router(&self) -> Option<&RouterError> {
        match self {
            Self::Router(error) => Some(error),
            Self::Sql(error) => RouterError::of(error),
            _ => None,
        }
    }

    /// The server broke off, was closed, is not the primary any more, or was held up by others: it may answer when asked again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Sql(error) | Self::Router(RouterError::Sqlx(error)) => is_passing(error),
            Self::TookTooLong(_) | Self::TooBusy => true,
            _ => false,
        }
    }

    /// Whether a transaction that met this is rolled back for sure, and may do better when it is done over at once: it was in a deadlock, or
    /// its server is not the primary any more.
    pub(super) fn is_rolled_back(&self) -> bool {
        let closed = matches!(self.router(), Some(RouterError::PrimaryUnavailable { .. }));
        closed || self.server_code() == Some(ER_LOCK_DEADLOCK)
    }

    /// Whether a lock did not come in time.
    pub(super) fn has_waited_for_a_lock(&self) -> bool {
        self.server_code() == Some(ER_LOCK_WAIT_TIMEOUT)
    }

    /// The server's error number, if it was the server that refused.
    pub(super) fn server_code(&self) -> Option<u16> {
        let error = match self {
            Self::Sql(error) | Self::Router(RouterError::Sqlx(error)) => error,
            _ => return None,
        };
        number(error)
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    error
        .as_database_error()?
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map(sqlx::mysql::MySqlDatabaseError::number)
}

/// Whether it is worth asking again: the connection broke, or the server was closed or made a replica, or is full.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        // It knows better: whoever asks looks at that first.
        _ if RouterError::of(error).is_some() => false,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        _ => number(error).is_some_and(|number| PASSING.contains(&number)),
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<RouterError> for LedgerError {
    fn from(error: RouterError) -> Self {
        Self::Router(error)
    }
}

/// A row with this key is there already.
pub(super) const ER_DUP_ENTRY: u16 = 1062;
/// Rolled back by the server, because two transactions waited for each other.
const ER_LOCK_DEADLOCK: u16 = 1213;
/// Somebody else held a lock for too long. The statement is rolled back, the transaction is not.
const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;
/// A foreign key names a row that is not there.
pub(super) const ER_NO_REFERENCED_ROW: u16 = 1452;
/// Too many connections; shutting down; lock wait timeout; deadlock; read-only (twice); read-only engine; gone; lost; offline; killed.
const PASSING: [u16; 12] = [
    1040, 1203, 1053, 1205, 1213, 1290, 1792, 1836, 2006, 2013, 3032, 3169,
];
