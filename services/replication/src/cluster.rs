//! The row by which the arbiter publishes roles. It is the only publication: a router believes the highest epoch that it has read.

use serde::{Deserialize, Serialize};
use sqlx::{MySqlConnection, Row};
use time::PrimitiveDateTime;

/// `holdfast.cluster`, which has one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRow {
    /// Counts the configurations; grows with each change of the primary.
    pub epoch: u64,
    /// The primary's name: `mysql-1`.
    pub primary_server: String,
    /// Its `server_uuid`: a server of that name with another UUID is another server.
    pub primary_uuid: String,
    /// The servers that hold every acknowledged write, sorted.
    pub in_sync: Vec<String>,
    /// What the arbiter is doing: `steady`, or a phase of a change; see [`ClusterRow::published`].
    pub phase: String,
    /// When the row was written, UTC.
    pub changed_at: PrimitiveDateTime,
}

/// What a phase means to somebody who sends statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published<'a> {
    /// Nothing is going on that concerns others.
    Steady,
    /// The primary is about to change, as planned: hold writes back, and finish what has begun.
    Switchover,
    /// This server is being worked on: send it nothing that another one can do.
    Maintenance(&'a str),
}

impl ClusterRow {
    /// The phase of a planned change of the primary.
    pub const SWITCHOVER: &'static str = "switchover";
    /// What the phase of a maintenance begins with; the server's name follows.
    pub const MAINTENANCE: &'static str = "maintenance ";

    /// What the phase means to others. One that is not known here concerns nobody.
    #[must_use]
    pub fn published(&self) -> Published<'_> {
        if self.phase == Self::SWITCHOVER {
            return Published::Switchover;
        }
        match self.phase.strip_prefix(Self::MAINTENANCE) {
            Some(server) => Published::Maintenance(server),
            None => Published::Steady,
        }
    }
}

/// Reads the row. `None` where there is none yet: before the first bootstrap there is no table either.
///
/// # Errors
/// Anything but the missing table.
pub async fn cluster_row(
    connection: &mut MySqlConnection,
) -> Result<Option<ClusterRow>, sqlx::Error> {
    const NO_SUCH_DATABASE: u16 = 1049;
    const NO_SUCH_TABLE: u16 = 1146;
    let row = sqlx::query(
        "SELECT epoch, primary_server, primary_uuid, in_sync, phase, changed_at FROM holdfast.cluster WHERE one = 1",
    )
    .fetch_optional(connection)
    .await;
    let row = match row {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(None),
        Err(error)
            if matches!(
                crate::errors::number(&error),
                Some(NO_SUCH_DATABASE | NO_SUCH_TABLE)
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let in_sync: String = row.try_get("in_sync")?;
    Ok(Some(ClusterRow {
        epoch: row.try_get("epoch")?,
        primary_server: row.try_get("primary_server")?,
        primary_uuid: row.try_get("primary_uuid")?,
        in_sync: in_sync
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        phase: row.try_get("phase")?,
        // A TIMESTAMP; the connection's time zone is UTC.
        changed_at: row.try_get_unchecked("changed_at")?,
    }))
}
