//! What an errant server is about to lose, saved so that a person can read it.
//!
//! A primary that died may have transactions that no other server has. It cannot keep them and be a replica, so it is cloned; before
//! that, [`save`] writes them into a file of the state's volume. Nothing applies them again: whether a change that nobody was told of
//! is still wanted is a person's decision.
//!
//! They are read from the server's own binary logs, by SQL ([`events`]): the statements that made them, not the values of each row. The file
//! is bounded ([`document`]) and is there as a whole or not at all ([`file`]).

mod document;
mod events;
mod file;

use std::{
    future::poll_fn,
    io,
    path::{Path, PathBuf},
};

use replication::GtidSet;
use sqlx::{AssertSqlSafe, MySqlConnection, Row, mysql::MySqlRow};
use time::OffsetDateTime;

use self::{
    document::{Document, Heading},
    events::{Event, Reader},
};

pub use self::file::{list, read};

/// Events that are asked for at a time: a statement of the server's that ends soon, and a row at a time in memory.
const EVENTS_AT_A_TIME: u64 = 10_000;

/// The header of a binary log ends here, and its first event begins.
const FIRST_EVENT: u64 = 4;

/// `Format_desc`, where logs are encrypted `Start_encryption`, and `Previous_gtids`.
const EVENTS_OF_A_HEAD: u64 = 3;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Where it is.
    pub path: PathBuf,
    /// How many transactions are in it.
    pub transactions: u64,
    /// Its size.
    pub bytes: u64,
    /// How many transactions had no room; the file has their GTIDs.
    pub left_out: u64,
    /// How many transactions are in no binary log; the file has their GTIDs.
    pub missing: u64,
}

/// Why nothing was saved. Nothing that is cloned away then is kept: do not clone.
#[derive(Debug, thiserror::Error)]
pub enum DiscardedError {
    /// The server refused, or is gone.
    #[error("read the binary logs: {0}")]
    Sql(#[from] sqlx::Error),
    /// The server wrote what no server is known to write.
    #[error("read the binary log {log}: {reason}")]
    Unreadable {
        /// The log's file.
        log: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes the transactions `errant` of the server `server`, which is what `connection` is to, into a new file in `directory`; the account
/// needs REPLICATION CLIENT and REPLICATION SLAVE. When this returns, the file is on disk. Nothing on the server is changed, so it can be
/// done again; each time makes a file of its own.
///
/// The file has at most `bytes_max` bytes, unless the names alone of what is lost have more: those it always has.
///
/// It takes as long as the server takes to read those of its logs that may have one of the transactions. There is no limit of time in
/// it, and a connection on which it was given up is no use any more.
///
/// # Errors
/// The file is then not there.
pub async fn save(
    connection: &mut MySqlConnection,
    server: &str,
    errant: &GtidSet,
    directory: &Path,
    bytes_max: u64,
    now: OffsetDateTime,
) -> Result<Saved, DiscardedError> {
    let room = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut document = Document::new(room);
    for (log, wanted) in logs_with(connection, errant).await? {
        scan(connection, &log, wanted, room, &mut document).await?;
    }
    let rendered = document.render(&Heading {
        server,
        saved_at: now,
        errant,
    });
    let bytes = rendered.text.len() as u64;
    let name = file::name(server, now);
    let path = directory.join(&name);
    let written = {
        let directory = directory.to_owned();
        let write = move || file::write(&directory, &name, rendered.text.as_bytes());
        tokio::task::spawn_blocking(write).await
    };
    match written.map_err(io::Error::other) {
        Ok(Ok(())) => Ok(Saved {
            path,
            transactions: rendered.transactions,
            bytes,
            left_out: rendered.left_out,
            missing: rendered.missing,
        }),
        Ok(Err(source)) | Err(source) => Err(DiscardedError::File { path, source }),
    }
}

/// The binary logs that may have a transaction of the set, oldest first, each with those that it may have. From the newest on: each log
/// begins with the set of all that is older, but for one that a crash cut off; that one may have all that was not in a newer one.
async fn logs_with(
    connection: &mut MySqlConnection,
    errant: &GtidSet,
) -> Result<Vec<(String, GtidSet)>, DiscardedError> {
    let rows = sqlx::raw_sql("SHOW BINARY LOGS")
        .fetch_all(&mut *connection)
        .await?;
    let mut found = Vec::new();
    let mut older = errant.clone();
    for row in rows.iter().rev() {
        if older.is_empty() {
            break;
        }
        let log = text(row, "Log_name")?;
        let here = match before(connection, &log).await? {
            Some(before) => {
                let here = older.subtract(&before);
                older = older.subtract(&here);
                here
            }
            None => older.clone(),
        };
        if !here.is_empty() {
            found.push((log, here));
        }
    }
    found.reverse();
    Ok(found)
}

/// What was executed before a log was begun; `None` where it was cut off before it says that.
async fn before(
    connection: &mut MySqlConnection,
    log: &str,
) -> Result<Option<GtidSet>, DiscardedError> {
    let sql = show_events(log, FIRST_EVENT, EVENTS_OF_A_HEAD);
    let rows = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await?;
    for row in &rows {
        if text(row, "Event_type")? == "Previous_gtids" {
            let set = text(row, "Info")?.parse();
            return set
                .map(Some)
                .map_err(|error| unreadable(log, &format!("its previous GTIDs: {error}")));
        }
    }
    Ok(None)
}

/// Reads one log, until it ends or everything that is wanted of it was there.
async fn scan(
    connection: &mut MySqlConnection,
    log: &str,
    wanted: GtidSet,
    bytes_max: usize,
    document: &mut Document,
) -> Result<(), DiscardedError> {
    let mut reader = Reader::new(log, wanted, bytes_max);
    let mut position = FIRST_EVENT;
    loop {
        let begin = position;
        let mut events = 0;
        let sql = show_events(log, position, EVENTS_AT_A_TIME);
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut *connection);
        while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
            let row = row?;
            events += 1;
            position = position.max(row.try_get_unchecked("End_log_pos")?);
            let event = Event {
                position: row.try_get_unchecked("Pos")?,
                kind: text(&row, "Event_type")?,
                info: text(&row, "Info")?,
            };
            let read = reader.feed(event);
            document.add(read.map_err(|reason| unreadable(log, &reason))?);
        }
        drop(rows);
        if events < EVENTS_AT_A_TIME || reader.is_done() {
            document.add(reader.end());
            return Ok(());
        }
        if position <= begin {
            return Err(unreadable(log, &format!("it goes back at {begin}")));
        }
    }
}

fn show_events(log: &str, position: u64, limit: u64) -> String {
    let log = log.replace('\\', "\\\\").replace('\'', "''");
    format!("SHOW BINLOG EVENTS IN '{log}' FROM {position} LIMIT {limit}")
}

/// A column as text, whatever bytes are in it: a statement is of its client's character set.
fn text(row: &MySqlRow, column: &str) -> sqlx::Result<String> {
    let bytes: &[u8] = row.try_get_unchecked(column)?;
    Ok(events::printable(bytes))
}

fn unreadable(log: &str, reason: &str) -> DiscardedError {
    DiscardedError::Unreadable {
        log: log.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_asked_for_by_log_and_position() {
        assert_eq!(
            show_events("it's\\.000001", 4, 3),
            "SHOW BINLOG EVENTS IN 'it''s\\\\.000001' FROM 4 LIMIT 3"
        );
    }
}
