//! What a server says of itself: its identity and switches, its receiver and applier, and its semi-synchronous side.

use std::time::Duration;

use serde::Serialize;
use sqlx::{MySqlConnection, Row};

use crate::{errors, gtid::GtidSet};

/// Identity, switches and history of a server. Every account may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// `server_uuid`, which changes when the data directory is made anew.
    pub uuid: String,
    /// `read_only`.
    pub read_only: bool,
    /// `super_read_only`.
    pub super_read_only: bool,
    /// `offline_mode`: closed to everybody without CONNECTION_ADMIN.
    pub offline_mode: bool,
    /// What it has executed.
    pub executed: GtidSet,
    /// What it has executed and can no longer send to a replica.
    pub purged: GtidSet,
}

/// Reads them.
///
/// # Errors
/// As the connection's; a GTID set that cannot be read is a decoding error.
pub async fn server_facts(connection: &mut MySqlConnection) -> Result<ServerFacts, sqlx::Error> {
    let row = sqlx::query(
        "SELECT @@GLOBAL.server_uuid AS uuid, @@GLOBAL.read_only AS read_only, @@GLOBAL.super_read_only AS super_read_only, \
         @@GLOBAL.offline_mode AS offline_mode, @@GLOBAL.gtid_executed AS executed, @@GLOBAL.gtid_purged AS purged",
    )
    .fetch_one(connection)
    .await?;
    Ok(ServerFacts {
        uuid: row.try_get("uuid")?,
        read_only: flag(&row, "read_only")?,
        super_read_only: flag(&row, "super_read_only")?,
        offline_mode: flag(&row, "offline_mode")?,
        executed: gtids(&row, "executed")?,
        purged: gtids(&row, "purged")?,
    })
}

/// The replica side of a server: one channel, the unnamed one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaFacts {
    /// Where it receives from.
    pub source_host: String,
    /// And on which port.
    pub source_port: u16,
    /// The UUID of the server that it last received from; empty before the first connection.
    pub source_uuid: String,
    /// The receiver's service state: `ON`, `OFF` or `CONNECTING`.
    pub receiver: String,
    /// Whether the applier is running.
    pub applier_on: bool,
    /// What was received, whether applied or not.
    pub received: GtidSet,
    /// The receiver's last error number, 0 if none.
    pub receiver_error: u32,
    /// Its message.
    pub receiver_message: String,
    /// The applier's last error number, 0 if none.
    pub applier_error: u32,
    /// Its message.
    pub applier_message: String,
    /// How old the newest applied transaction is since its commit on the primary; `None` before the first.
    pub newest_applied_age: Option<Duration>,
    /// How long ago the link last gave a sign of life: a heartbeat or a transaction; `None` before the first.
    pub link_age: Option<Duration>,
}

impl ReplicaFacts {
    /// How far it is behind the primary.
    #[must_use]
    pub fn lag(&self, executed: &GtidSet) -> Lag {
        let behind = if executed.contains(&self.received) {
            Some(Duration::ZERO)
        } else {
            self.newest_applied_age
        };
        Lag {
            behind,
            link_age: self.link_age,
            running: self.receiver == "ON" && self.applier_on,
        }
    }
}

/// How old a replica's data may be. `Seconds_Behind_Source` is coarse, and says nothing while a thread is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// The age of what is received and not applied: zero if all is applied; `None` if nothing ever was and something waits.
    pub behind: Option<Duration>,
    /// How long ago the primary was last heard of.
    pub link_age: Option<Duration>,
    /// Whether receiver and applier both run. Idle looks like fresh, so this is looked at first.
    pub running: bool,
}

impl Lag {
    /// The most that the data can be behind; `None` where it cannot be known, which is as good as for ever.
    #[must_use]
    pub fn bound(&self) -> Option<Duration> {
        match (self.running, self.behind, self.link_age) {
            (true, Some(behind), Some(link_age)) => Some(behind.max(link_age)),
            _ => None,
        }
    }
}

/// Reads the replica side; `None` where no channel is configured.
///
/// # Errors
/// As the connection's.
pub async fn replica_facts(
    connection: &mut MySqlConnection,
) -> Result<Option<ReplicaFacts>, sqlx::Error> {
    // Ages come from the server's own clock. The zero timestamp means "never".
    let row = sqlx::query(
        "SELECT conf.HOST AS source_host, conf.PORT AS source_port, conn.SOURCE_UUID AS source_uuid, \
           conn.SERVICE_STATE AS receiver, conn.RECEIVED_TRANSACTION_SET AS received, \
           conn.LAST_ERROR_NUMBER AS receiver_error, conn.LAST_ERROR_MESSAGE AS receiver_message, \
           app.SERVICE_STATE AS applier, \
           GREATEST(COALESCE(coord.LAST_ERROR_NUMBER, 0), COALESCE(work.error, 0)) AS applier_error, \
           CONCAT(COALESCE(coord.LAST_ERROR_MESSAGE, ''), COALESCE(work.message, '')) AS applier_message, \
           IF(work.newest > '1971-01-01', TIMESTAMPDIFF(MICROSECOND, work.newest, NOW(6)), NULL) AS newest_us, \
           IF(conn.seen > '1971-01-01', TIMESTAMPDIFF(MICROSECOND, conn.seen, NOW(6)), NULL) AS link_us \
         FROM performance_schema.replication_connection_configuration conf \
         JOIN (SELECT *, GREATEST(LAST_HEARTBEAT_TIMESTAMP, LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP, \
                 QUEUEING_TRANSACTION_START_QUEUE_TIMESTAMP) AS seen \
               FROM performance_schema.replication_connection_status) conn USING (CHANNEL_NAME) \
         JOIN performance_schema.replication_applier_status app USING (CHANNEL_NAME) \
         LEFT JOIN performance_schema.replication_applier_status_by_coordinator coord USING (CHANNEL_NAME) \
         LEFT JOIN (SELECT CHANNEL_NAME, MAX(LAST_ERROR_NUMBER) AS error, MAX(LAST_ERROR_MESSAGE) AS message, \
                 MAX(LAST_APPLIED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP) AS newest \
               FROM performance_schema.replication_applier_status_by_worker GROUP BY CHANNEL_NAME) work USING (CHANNEL_NAME) \
         WHERE conf.CHANNEL_NAME = ''",
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let age = |name: &str| -> Result<Option<Duration>, sqlx::Error> {
        let microseconds: Option<i64> = row.try_get_unchecked(name)?;
        // Two clocks are compared; a little before now is now.
        Ok(microseconds.map(|us| Duration::from_micros(us.max(0).unsigned_abs())))
    };
    let port: i64 = row.try_get_unchecked("source_port")?;
    Ok(Some(ReplicaFacts {
        source_host: row.try_get_unchecked("source_host")?,
        source_port: u16::try_from(port).map_err(|error| sqlx::Error::Decode(error.into()))?,
        source_uuid: row.try_get_unchecked("source_uuid")?,
        receiver: row.try_get_unchecked("receiver")?,
        applier_on: row.try_get_unchecked::<String, _>("applier")? == "ON",
        received: gtids(&row, "received")?,
        receiver_error: error_number(&row, "receiver_error")?,
        receiver_message: row.try_get_unchecked("receiver_message")?,
        applier_error: error_number(&row, "applier_error")?,
        applier_message: row.try_get_unchecked("applier_message")?,
        newest_applied_age: age("newest_us")?,
        link_age: age("link_us")?,
    }))
}

/// When the server was started, in its own words: a text that is another one after each boot, and else the same. Two texts can be compared
/// and nothing more. Needs PROCESS.
///
/// # Errors
/// As the connection's.
pub async fn boot(connection: &mut MySqlConnection) -> Result<String, sqlx::Error> {
    // Uptime is counted in whole seconds and moves with the clock; this is written down once, when the server switches its meters on.
    let row = sqlx::query(
        "SELECT CAST(MIN(TIME_ENABLED) AS CHAR) AS boot FROM information_schema.INNODB_METRICS WHERE STATUS = 'enabled'",
    )
    .fetch_one(connection)
    .await?;
    row.try_get_unchecked("boot")
}

/// How many logins the server has refused since it was started: for a certificate of another role, a wrong password, a name that it does not
/// know. It tells nobody which of them, so that a stranger learns nothing. Needs SELECT on performance_schema.
///
/// # Errors
/// As the connection's.
pub async fn refused_logins(connection: &mut MySqlConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query(
        "SELECT SUM_ERROR_RAISED AS refused FROM performance_schema.events_errors_summary_global_by_error WHERE ERROR_NUMBER = ?",
    )
    .bind(errors::ACCESS_DENIED)
    .fetch_one(connection)
    .await?;
    row.try_get_unchecked("refused")
}

/// Semi-sync that gives up waiting after less than this many milliseconds (ten years) is not lossless.
const FOR_EVER_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

/// The semi-synchronous side of a server, as source and as replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SemiSyncFacts {
    /// `rpl_semi_sync_source_enabled`: commits wait for an acknowledgement.
    pub source_enabled: bool,
    /// Whether the settings beside it let nothing be acknowledged that one server alone has: AFTER_SYNC, at least one acknowledgement,
    /// waiting also while no replica is connected, and in effect for ever.
    pub source_lossless: bool,
    /// `Rpl_semi_sync_source_status`: it is in force. Stays ON for a while on a dead link.
    pub source_active: bool,
    /// Replicas that are connected and would acknowledge. Counts dead links too.
    pub clients: u64,
    /// Sessions that wait for an acknowledgement now.
    pub waiting_sessions: u64,
    /// `rpl_semi_sync_replica_enabled`.
    pub replica_enabled: bool,
    /// `Rpl_semi_sync_replica_status`: it acknowledges to its source.
    pub replica_active: bool,
    /// `sync_relay_log` is 1: what it acknowledges is on its disk.
    pub relay_log_synced: bool,
}

/// Reads it; needs SELECT on performance_schema.
///
/// # Errors
/// As the connection's; 1193 where a plugin is missing.
pub async fn semi_sync_facts(
    connection: &mut MySqlConnection,
) -> Result<SemiSyncFacts, sqlx::Error> {
    let switches = sqlx::query(
        "SELECT @@GLOBAL.rpl_semi_sync_source_enabled AS source_enabled, @@GLOBAL.rpl_semi_sync_replica_enabled AS replica_enabled, \
           @@GLOBAL.sync_relay_log = 1 AS relay_log_synced, @@GLOBAL.rpl_semi_sync_source_wait_point = 'AFTER_SYNC' AND @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count >= 1 \
             AND @@GLOBAL.rpl_semi_sync_source_wait_no_replica AND @@GLOBAL.rpl_semi_sync_source_timeout >= ? AS source_lossless",
    )
    .bind(FOR_EVER_MS)
    .fetch_one(&mut *connection)
    .await?;
    let mut facts = SemiSyncFacts {
        source_enabled: flag(&switches, "source_enabled")?,
        source_lossless: flag(&switches, "source_lossless")?,
        source_active: false,
        clients: 0,
        waiting_sessions: 0,
        replica_enabled: flag(&switches, "replica_enabled")?,
        replica_active: false,
        relay_log_synced: flag(&switches, "relay_log_synced")?,
    };
    let rows = sqlx::query(
        "SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM performance_schema.global_status \
         WHERE VARIABLE_NAME IN ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_clients', \
           'Rpl_semi_sync_source_wait_sessions', 'Rpl_semi_sync_replica_status')",
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let name: String = row.try_get_unchecked("name")?;
        let value: String = row.try_get_unchecked("value")?;
        match name.to_ascii_lowercase().as_str() {
            "rpl_semi_sync_source_status" => facts.source_active = value == "ON",
            "rpl_semi_sync_source_clients" => facts.clients = value.parse().unwrap_or(0),
            "rpl_semi_sync_source_wait_sessions" => {
                facts.waiting_sessions = value.parse().unwrap_or(0)
            }
            "rpl_semi_sync_replica_status" => facts.replica_active = value == "ON",
            _ => {}
        }
    }
    Ok(facts)
}

/// What became of the last CLONE that made this server's data anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneState {
    /// There was none, or it came to its end.
    #[default]
    Whole,
    /// It is under way.
    Running,
    /// It failed, or the server died in it: what the server has is no data of anybody's.
    Broken,
}

/// Reads it; needs SELECT on performance_schema.
///
/// # Errors
/// As the connection's.
pub async fn clone_state(connection: &mut MySqlConnection) -> Result<CloneState, sqlx::Error> {
    let row = sqlx::query("SELECT PID AS pid, STATE AS state FROM performance_schema.clone_status")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else {
        return Ok(CloneState::Whole);
    };
    let state: String = row.try_get_unchecked("state")?;
    let process: i64 = row.try_get_unchecked("pid")?;
    Ok(match (state.as_str(), process) {
        ("Completed" | "Not Started", _) => CloneState::Whole,
        // A server that was killed in it says "In Progress" for ever, in no process.
        ("In Progress", 1..) => CloneState::Running,
        _ => CloneState::Broken,
    })
}

/// The process list's ids of the threads that apply what was received; needs SELECT on performance_schema.
///
/// # Errors
/// As the connection's.
pub async fn applier_threads(connection: &mut MySqlConnection) -> Result<Vec<u64>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT CAST(PROCESSLIST_ID AS UNSIGNED) AS id FROM performance_schema.threads \
         WHERE NAME IN ('thread/sql/replica_sql', 'thread/sql/replica_worker') AND PROCESSLIST_ID IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row.try_get_unchecked("id")).collect()
}

/// How many transactions of others are open that may still write; needs PROCESS.
///
/// # Errors
/// As the connection's.
pub async fn open_transactions(connection: &mut MySqlConnection) -> Result<u64, sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS open FROM information_schema.INNODB_TRX \
         WHERE trx_is_read_only = 0 AND trx_mysql_thread_id NOT IN (0, CONNECTION_ID())",
    )
    .fetch_one(connection)
    .await?;
    row.try_get_unchecked("open")
}

fn flag(row: &sqlx::mysql::MySqlRow, name: &str) -> Result<bool, sqlx::Error> {
    Ok(row.try_get_unchecked::<i64, _>(name)? != 0)
}

fn error_number(row: &sqlx::mysql::MySqlRow, name: &str) -> Result<u32, sqlx::Error> {
    let number: i64 = row.try_get_unchecked(name)?;
    u32::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn gtids(row: &sqlx::mysql::MySqlRow, name: &str) -> Result<GtidSet, sqlx::Error> {
    let text: String = row.try_get_unchecked(name)?;
    text.parse()
        .map_err(|error: crate::gtid::GtidError| sqlx::Error::Decode(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_bounded_only_while_both_threads_run_and_the_link_is_known() {
        let ms = Duration::from_millis;
        let lag = |behind, link_age, running| {
            Lag {
                behind,
                link_age,
                running,
            }
            .bound()
        };
        assert_eq!(lag(Some(ms(3)), Some(ms(200)), true), Some(ms(200)));
        assert_eq!(lag(Some(ms(900)), Some(ms(200)), true), Some(ms(900)));
        assert_eq!(lag(Some(ms(0)), Some(ms(0)), false), None);
        assert_eq!(lag(None, Some(ms(0)), true), None);
        assert_eq!(lag(Some(ms(0)), None, true), None);
    }
}
