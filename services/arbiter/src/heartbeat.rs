//! The heartbeat: a row written on the primary twice a second. Its acknowledgement is the only proof that the replica acknowledges;
//! `clients = 1` stays for most of a minute on a dead link.
//!
//! It also frees a commit whose acknowledgement was lost with the link: such a commit waits until a later transaction is
//! acknowledged, however healthy the new link is. The row of a heartbeat that waits is locked, so the next one takes another row.

use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Executor, MySqlConnection, mysql::MySqlConnectOptions};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::look::Beaten;

/// How many rows the heartbeats of lost connections take before they take the first again.
const ROWS: u64 = 32;

/// Whether heartbeats may be sent, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The primary is closed or away.
    Off,
    /// It is open, and an acknowledgement can come: its replica is connected, or it needs none.
    On(String),
}

/// The last heartbeat that was acknowledged.
pub type Acknowledged = Option<Beaten>;

/// Beats on the server that `beat` names, for ever. `options` finds a server's connection options.
pub async fn run(
    mut beat: watch::Receiver<Beat>,
    options: impl Fn(&str) -> Option<MySqlConnectOptions>,
    period: Duration,
    limit: Duration,
    acknowledged: watch::Sender<Acknowledged>,
) {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection: Option<(String, MySqlConnection)> = None;
    let mut lost: u64 = 0;
    loop {
        tick.tick().await;
        let now = beat.borrow_and_update().clone();
        let Beat::On(server) = now else {
            connection = None;
            if beat.changed().await.is_err() {
                return;
            }
            continue;
        };
        if connection.as_ref().is_some_and(|(to, _)| *to != server) {
            connection = None;
        }
        let Some(options) = options(&server) else {
            continue;
        };
        let row = match lost % ROWS {
            0 => server.clone(),
            n => format!("{server}/{n}"),
        };
        let begun = Instant::now();
        let one_beat = timeout(limit, async {
            let (_, open) = match &mut connection {
                Some(connection) => connection,
                none => {
                    let mut new = options.connect().await?;
                    new.execute(
                        "SET SESSION gtid_next = 'AUTOMATIC:arbiter', innodb_lock_wait_timeout = 1",
                    )
                    .await?;
                    none.insert((server.clone(), new))
                }
            };
            sqlx::query(
                "INSERT INTO holdfast.heartbeat (server, beat, at) VALUES (?, 1, NOW(6)) \
                 ON DUPLICATE KEY UPDATE beat = beat + 1, at = NOW(6)",
            )
            .bind(&row)
            .execute(open)
            .await
        })
        .await;
        match one_beat {
            Ok(Ok(_)) => {
                let at = Instant::now();
                acknowledged.send_replace(Some(Beaten { begun, at }));
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, server, "no heartbeat");
                connection = None;
                lost += 1;
            }
            Err(_) => {
                // Given up here; there it goes on to wait, and holds its row.
                tracing::debug!(server, ?limit, "a heartbeat was not acknowledged");
                connection = None;
                lost += 1;
            }
        }
    }
}
