//! Changes of roles, done by SQL in the order in which they lose nothing: a planned switchover, a failover, and the way back into the pair.
//!
//! A stand-in for what the arbiter does. It looks after itself as far as links and a frozen server are concerned, for it can be called while
//! both are at fault: each step waits. It is called by one task at a time, with nobody else killing servers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use replication::{GtidSet, replica_facts, server_facts};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use tokio::time::timeout;

use crate::pair::{Pair, publish};
use crate::server::{Account, Server};
use crate::{wait_for, wait_until};

/// For a step that waits for links and servers to be whole again.
const STEP_MAX: Duration = Duration::from_secs(60);

/// After this a write that waits for its acknowledgement is followed by another one, on a new connection: an acknowledgement that a broken
/// link has lost is made up for by the next one only.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(2);

/// Servers that were made anew are numbered from here on, by their epoch; until their next start, when they have all that came before it.
const FIRST_NUMBER: u64 = 1000;

/// How a server came back into the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// On the data that it had.
    AsItWas,
    /// It had executed what the primary has not, so its data was thrown away, and it has copied the primary's history from its beginning.
    Anew,
}

impl Pair {
    /// The server of that name, and the other one.
    pub fn both(&self, name: &str) -> Result<(&Server, &Server)> {
        let (one, two) = (self.mysql_1(), self.mysql_2());
        ensure!(
            [one.name(), two.name()].contains(&name),
            "there is no {name}"
        );
        Ok(if one.name() == name {
            (one, two)
        } else {
            (two, one)
        })
    }

    /// A planned change of roles under load: `to` becomes the primary of `epoch`, and the other one follows it through `port` on 127.0.0.1.
    /// Both stay in sync and semi-sync stays on, so at no moment is anything acknowledged that only one of them has. False, with everything
    /// as before, if the old primary has commits that wait for their acknowledgement: it cannot be closed then.
    pub async fn switch_over(&self, to: &str, epoch: u64, port: u16) -> Result<bool> {
        let (new, old) = self.both(to)?;
        let mut closing = old.connect(Account::Arbiter).await?;
        let mut opening = new.connect(Account::Arbiter).await?;
        let close = "SET SESSION lock_wait_timeout = 1; SET GLOBAL super_read_only = ON";
        if sqlx::raw_sql(close).execute(&mut closing).await.is_err() {
            self.open(old).await?;
            return Ok(false);
        }
        // The end of the old history: nothing is being committed, and nothing will be.
        let end = server_facts(&mut closing).await?.executed;
        applied(&mut opening, &end)
            .await
            .context("apply the end of the old history")?;
        forget_the_source(&mut opening).await?;
        // It applies from now on, and nobody acknowledges that.
        execute(
            &mut closing,
            "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
        )
        .await?;
        self.follow(old, port).await?;
        execute(&mut opening, "SET GLOBAL rpl_semi_sync_source_enabled = ON").await?;
        self.open_as(new, epoch, "mysql-1,mysql-2").await?;
        Ok(true)
    }

    /// Kills the primary, and makes `to` the primary of `epoch`, alone in the in-sync set and without semi-sync. Nothing acknowledged is
    /// lost if semi-sync was on.
    pub async fn fail_over(&self, to: &str, epoch: u64) -> Result<()> {
        let (new, old) = self.both(to)?;
        old.kill().await?;
        let mut opening = new.connect(Account::Arbiter).await?;
        // The fence: from here on the old one can get no acknowledgement, whatever it does.
        execute(
            &mut opening,
            "STOP REPLICA IO_THREAD; START REPLICA SQL_THREAD",
        )
        .await?;
        let facts = replica_facts(&mut opening)
            .await?
            .context("it has no source")?;
        ensure!(
            facts.receiver == "OFF",
            "the receiver is {}",
            facts.receiver
        );
        applied(&mut opening, &facts.received)
            .await
            .context("apply what was received")?;
        forget_the_source(&mut opening).await?;
        execute(
            &mut opening,
            "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
        )
        .await?;
        self.open_as(new, epoch, new.name()).await
    }

    /// Starts a server that was killed, and makes it follow the primary through `port`; then semi-sync is on, and both are published as in
    /// sync, in the same epoch.
    pub async fn rejoin(&self, server: &str, epoch: u64, port: u16) -> Result<Rejoined> {
        let (replica, primary) = self.both(server)?;
        replica.restart().await?;
        let mut follower = replica.connect(Account::Arbiter).await?;
        let mut source = primary.connect(Account::Arbiter).await?;
        let has = server_facts(&mut follower).await?.executed;
        let of_primary = server_facts(&mut source).await?;
        // What the primary itself has begun, and waits to have acknowledged, is not in its own set yet.
        let errant = has
            .subtract(&of_primary.executed)
            .without_server(&of_primary.uuid);
        let rejoined = if errant.is_empty() {
            Rejoined::AsItWas
        } else {
            replica.renew().await?;
            follower = replica.connect(Account::Arbiter).await?;
            // A replica skips what carries its own number, and that is on all that it wrote in an earlier life.
            let number = FIRST_NUMBER + epoch;
            let renumber = format!("SET GLOBAL server_id = {number}");
            sqlx::raw_sql(AssertSqlSafe(renumber))
                .execute(&mut follower)
                .await?;
            Rejoined::Anew
        };
        self.follow(replica, port).await?;
        self.caught_up(primary, replica).await?;
        execute(&mut source, "SET GLOBAL rpl_semi_sync_source_enabled = ON").await?;
        // What is acknowledged from here on, the replica has; what was before, it must have before anybody is told.
        self.caught_up(primary, replica).await?;
        publish_acknowledged(primary, epoch, "mysql-1,mysql-2").await?;
        Ok(rejoined)
    }

    /// Publishes it as primary while it is closed to all but the arbiter, and opens it then.
    async fn open_as(&self, server: &Server, epoch: u64, in_sync: &str) -> Result<()> {
        let mut arbiter = server.connect(Account::Arbiter).await?;
        execute(&mut arbiter, "SET GLOBAL super_read_only = OFF").await?;
        publish_acknowledged(server, epoch, in_sync).await?;
        self.open(server).await
    }
}

async fn execute(connection: &mut MySqlConnection, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(connection).await.context(sql)?;
    Ok(())
}

async fn applied(connection: &mut MySqlConnection, set: &GtidSet) -> Result<()> {
    let late: i64 = sqlx::query_scalar("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)")
        .bind(set.to_string())
        .bind(STEP_MAX.as_secs())
        .fetch_one(connection)
        .await?;
    ensure!(late == 0, "not within {STEP_MAX:?}: {set}");
    Ok(())
}

/// A transaction that was received in part holds the applier, and STOP REPLICA gives up on it for a time.
async fn forget_the_source(connection: &mut MySqlConnection) -> Result<()> {
    wait_until("the source is forgotten", STEP_MAX, async || {
        execute(connection, "STOP REPLICA; RESET REPLICA ALL")
            .await
            .is_ok()
    })
    .await
}

/// Publishes roles, which nobody else may have to wait for.
async fn publish_acknowledged(primary: &Server, epoch: u64, in_sync: &str) -> Result<()> {
    let published = wait_for(
        "the roles are published and acknowledged",
        STEP_MAX,
        async || {
            let mut connection = primary.connect(Account::Arbiter).await.ok()?;
            let writing = publish(&mut connection, epoch, primary, in_sync, "steady");
            timeout(ACKNOWLEDGED_MAX, writing).await.ok()?.ok()
        },
    );
    published.await
}
