//! MySQL's error numbers by name, and what they mean to somebody who chooses servers. The numbers are from the manual's server and
//! client error references; what a fenced or closed server answers was observed on 9.7.4.

use std::io;

/// `ER_CON_COUNT_ERROR`: too many connections.
pub const TOO_MANY_CONNECTIONS: u16 = 1040;
/// `ER_ACCESS_DENIED_ERROR`: a login was refused, for whatever reason.
pub const ACCESS_DENIED: u16 = 1045;
/// `ER_SERVER_SHUTDOWN`: the server is stopping.
pub const SERVER_SHUTDOWN: u16 = 1053;
/// `ER_DUP_ENTRY`: a unique key has that value already.
pub const DUPLICATE_ENTRY: u16 = 1062;
/// `ER_TOO_MANY_USER_CONNECTIONS`: too many connections of this account.
pub const TOO_MANY_USER_CONNECTIONS: u16 = 1203;
/// `ER_LOCK_WAIT_TIMEOUT`.
pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// `ER_LOCK_DEADLOCK`: the transaction was rolled back.
pub const DEADLOCK: u16 = 1213;
/// `ER_OPTION_PREVENTS_STATEMENT`: `read_only` or `super_read_only` is on.
pub const OPTION_PREVENTS_STATEMENT: u16 = 1290;
/// `ER_QUERY_INTERRUPTED`: KILL QUERY.
pub const QUERY_INTERRUPTED: u16 = 1317;
/// `ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION`.
pub const READ_ONLY_TRANSACTION: u16 = 1792;
/// `ER_READ_ONLY_MODE`: the server is read-only below SQL.
pub const READ_ONLY_MODE: u16 = 1836;
/// `ER_USER_LIMIT_REACHED`.
pub const USER_LIMIT_REACHED: u16 = 1226;
/// `CR_SERVER_GONE_ERROR`.
pub const SERVER_GONE: u16 = 2006;
/// `CR_SERVER_LOST`: the connection ended during a query.
pub const SERVER_LOST: u16 = 2013;
/// `ER_SERVER_OFFLINE_MODE`: the server is closed.
pub const OFFLINE_MODE: u16 = 3032;
/// `ER_CLIENT_INTERACTION_TIMEOUT`: the server closed an idle connection.
pub const IDLE_TIMEOUT: u16 = 4031;

/// What an error says about the server that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It is gone, closed or stopping: nothing was begun on a new connection; on one in use, what was sent may have been done.
    Gone,
    /// It is read-only: the statement belongs to another server and was not executed.
    WrongServer,
    /// It is there and full.
    Capacity,
    /// The transaction was rolled back, or the statement gave up waiting for a lock: it may be tried again from its beginning.
    Contention,
    /// Anything else: the statement itself, most likely.
    Other,
}

/// MySQL's number of an error that the server sent.
#[must_use]
pub fn number(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(database) = error else {
        return None;
    };
    Some(
        database
            .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?
            .number(),
    )
}

/// What an error says about the server.
#[must_use]
pub fn kind(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Io(error) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ErrorKind::Other,
            _ => ErrorKind::Gone,
        },
        sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => ErrorKind::Gone,
        sqlx::Error::PoolTimedOut => ErrorKind::Capacity,
        _ => match number(error) {
            Some(SERVER_GONE | SERVER_LOST | OFFLINE_MODE | SERVER_SHUTDOWN | IDLE_TIMEOUT) => {
                ErrorKind::Gone
            }
            Some(OPTION_PREVENTS_STATEMENT | READ_ONLY_TRANSACTION | READ_ONLY_MODE) => {
                ErrorKind::WrongServer
            }
            Some(TOO_MANY_CONNECTIONS | TOO_MANY_USER_CONNECTIONS | USER_LIMIT_REACHED) => {
                ErrorKind::Capacity
            }
            Some(DEADLOCK | LOCK_WAIT_TIMEOUT) => ErrorKind::Contention,
            _ => ErrorKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_a_server_that_is_gone_and_bad_data_is_not() {
        let io = |kind: io::ErrorKind| sqlx::Error::Io(kind.into());
        for kind_of in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::TimedOut,
        ] {
            assert_eq!(kind(&io(kind_of)), ErrorKind::Gone, "{kind_of:?}");
        }
        assert_eq!(kind(&io(io::ErrorKind::InvalidData)), ErrorKind::Other);
        assert_eq!(kind(&sqlx::Error::RowNotFound), ErrorKind::Other);
        assert_eq!(kind(&sqlx::Error::PoolTimedOut), ErrorKind::Capacity);
    }
}
