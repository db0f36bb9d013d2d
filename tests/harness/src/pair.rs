//! Two servers of the stack's image: closed, as they boot, or wired to each other as primary and replica; and a third one for who asks.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::identity::Identities;
use crate::server::{Account, Server};
use crate::wait_until;

/// How often the heartbeat row is written, as the arbiter does it.
const BEAT: Duration = Duration::from_millis(500);

/// For steps of replication that take milliseconds on an idle machine.
const SETTLED_MAX: Duration = Duration::from_secs(30);

/// The schema that the arbiter publishes roles in.
const PUBLICATION: [&str; 3] = [
    "CREATE DATABASE IF NOT EXISTS holdfast",
    "CREATE TABLE IF NOT EXISTS holdfast.cluster (
        one TINYINT PRIMARY KEY CHECK (one = 1), epoch BIGINT UNSIGNED NOT NULL, primary_server VARCHAR(64) NOT NULL,
        primary_uuid CHAR(36) NOT NULL, in_sync VARCHAR(255) NOT NULL, phase VARCHAR(32) NOT NULL, changed_at TIMESTAMP(6) NOT NULL)",
    "CREATE TABLE IF NOT EXISTS holdfast.heartbeat (
        server VARCHAR(64) PRIMARY KEY, beat BIGINT UNSIGNED NOT NULL, at TIMESTAMP(6) NOT NULL)",
];

/// mysql-1 and mysql-2 with a CA of their own. Everything is removed when the value is dropped.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use harness::{Account, Pair};
///
/// let pair = Pair::replicating().await?;
/// let mut app = pair.mysql_1().connect(Account::App).await?; // the primary
/// // … pair.mysql_2().port() is the replica's port on 127.0.0.1; the identity of web-1 is in pair.identities().of("web-1") …
/// pair.mysql_2().kill().await?; // commits on mysql-1 now wait for an acknowledgement
/// pair.mysql_2().restart().await?; // closed, and not replicating: as after any boot
/// pair.follow(pair.mysql_2(), pair.mysql_1().port()).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pair {
    mysql_1: Server,
    mysql_2: Server,
    mysql_3: Option<Server>,
    /// The name of the primary.
    primary: String,
    identities: Identities,
    hearts: JoinSet<()>,
}

impl Pair {
    /// Starts both servers, closed and knowing nothing of each other: what the arbiter finds at the first `up`.
    pub async fn start() -> Result<Pair> {
        let identities = Identities::make()?;
        let (mysql_1, mysql_2) = tokio::try_join!(
            Server::start("mysql-1", &identities),
            Server::start("mysql-2", &identities)
        )?;
        Ok(Pair {
            mysql_1,
            mysql_2,
            mysql_3: None,
            primary: "mysql-1".to_owned(),
            identities,
            hearts: JoinSet::new(),
        })
    }

    /// Starts both servers and does by SQL what the arbiter does: mysql-1 is open as the primary of epoch 1, mysql-2 replicates from it
    /// over TLS, lossless semi-sync is on, both are published as in sync, the empty schema `ledger` is there, and the heartbeat beats.
    pub async fn replicating() -> Result<Pair> {
        let mut pair = Pair::start().await?;
        let mut one = pair.mysql_1.connect(Account::Arbiter).await?;
        pair.open(&pair.mysql_1).await?;
        for statement in PUBLICATION {
            sqlx::raw_sql(statement).execute(&mut one).await?;
        }
        publish(&mut one, 1, &pair.mysql_1, "mysql-1,mysql-2", "steady").await?;
        let mut migrate = pair.mysql_1.connect(Account::Migrate).await?;
        sqlx::raw_sql("CREATE DATABASE ledger")
            .execute(&mut migrate)
            .await?;
        pair.follow(&pair.mysql_2, pair.mysql_1.port()).await?;
        pair.caught_up(&pair.mysql_1, &pair.mysql_2).await?;
        sqlx::raw_sql("SET GLOBAL rpl_semi_sync_source_enabled = ON")
            .execute(&mut one)
            .await?;
        pair.start_heartbeat();
        Ok(pair)
    }

    /// The server that is the primary at first.
    pub fn mysql_1(&self) -> &Server {
        &self.mysql_1
    }

    /// The server that is the replica at first.
    pub fn mysql_2(&self) -> &Server {
        &self.mysql_2
    }

    /// Starts mysql-3, a second replica of the primary: an asynchronous one, which acknowledges nothing and is not published as in sync.
    /// Returns once it has caught up.
    pub async fn add_mysql_3(&mut self) -> Result<()> {
        let third = Server::start("mysql-3", &self.identities).await?;
        let mut arbiter = third.connect(Account::Arbiter).await?;
        sqlx::raw_sql("SET GLOBAL rpl_semi_sync_replica_enabled = OFF")
            .execute(&mut arbiter)
            .await?;
        let primary = self.of_name(&self.primary)?;
        self.follow(&third, primary.port()).await?;
        self.caught_up(primary, &third).await?;
        self.mysql_3 = Some(third);
        self.start_heartbeat();
        Ok(())
    }

    /// The second replica.
    ///
    /// # Errors
    /// Where [`add_mysql_3`](Pair::add_mysql_3) has not made one.
    pub fn mysql_3(&self) -> Result<&Server> {
        self.mysql_3.as_ref().context("there is no mysql-3")
    }

    /// All of them.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        [&self.mysql_1, &self.mysql_2]
            .into_iter()
            .chain(&self.mysql_3)
    }

    fn of_name(&self, name: &str) -> Result<&Server> {
        self.servers()
            .find(|server| server.name() == name)
            .with_context(|| format!("there is no {name}"))
    }

    /// Certificates and passwords, for the servers and for whoever calls them.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    /// Opens a server for writes, as its arbiter would; semi-sync stays as it is.
    pub async fn open(&self, server: &Server) -> Result<()> {
        let mut connection = server.connect(Account::Arbiter).await?;
        for statement in [
            "SET GLOBAL super_read_only = OFF",
            "SET GLOBAL read_only = OFF",
            "SET GLOBAL offline_mode = OFF",
        ] {
            sqlx::raw_sql(statement).execute(&mut connection).await?;
        }
        Ok(())
    }

    /// Publishes a phase of the arbiter's on the primary, as part of the configuration that it has: the epoch stays.
    pub async fn publish_phase(&self, phase: &str) -> Result<()> {
        let mut primary = self
            .of_name(&self.primary)?
            .connect(Account::Arbiter)
            .await?;
        sqlx::query(
            "UPDATE holdfast.cluster SET phase = ?, changed_at = CURRENT_TIMESTAMP(6) WHERE one = 1",
        )
        .bind(phase)
        .execute(&mut primary)
        .await
        .context("publish a phase")?;
        Ok(())
    }

    /// Makes `replica` replicate from `port` on 127.0.0.1 (another server's, or a proxy's before it), over TLS with both sides
    /// verified, and opens it for reads. Returns once both threads run.
    pub async fn follow(&self, replica: &Server, port: u16) -> Result<()> {
        let password = self.identities.password(Account::Replication.user())?;
        let mut connection = replica.connect(Account::Arbiter).await?;
        let wiring = format!(
            "STOP REPLICA;
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'replication',
                SOURCE_PASSWORD = '{password}', SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0,
                SOURCE_HEARTBEAT_PERIOD = 0.5, SOURCE_SSL = 1, SOURCE_SSL_VERIFY_SERVER_CERT = 1,
                SOURCE_SSL_CA = '/run/holdfast/pki/current/ca.crt', SOURCE_SSL_CERT = '/run/holdfast/pki/current/tls.crt',
                SOURCE_SSL_KEY = '/run/holdfast/pki/current/tls.key'"
        );
        // A server that restarted is still wired, and wiring it again would throw away what it has received and not applied.
        let wired: Option<(i32,)> =
            sqlx::query_as("SELECT PORT FROM performance_schema.replication_connection_configuration WHERE HOST = '127.0.0.1'")
                .fetch_optional(&mut connection)
                .await?;
        if wired != Some((port.into(),)) {
            sqlx::raw_sql(AssertSqlSafe(wiring))
                .execute(&mut connection)
                .await?;
        }
        sqlx::raw_sql("START REPLICA; SET GLOBAL offline_mode = OFF")
            .execute(&mut connection)
            .await?;
        let running = wait_until("both replication threads run", SETTLED_MAX, async || {
            let states = sqlx::query_as::<_, (String, String)>(
                "SELECT c.SERVICE_STATE, a.SERVICE_STATE FROM performance_schema.replication_connection_status c
                 JOIN performance_schema.replication_applier_status a USING (CHANNEL_NAME)",
            );
            states
                .fetch_one(&mut connection)
                .await
                .is_ok_and(|(receiver, applier)| receiver == "ON" && applier == "ON")
        });
        match running.await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(format!(
                "{} wrote:\n{}",
                replica.name(),
                replica.log().await?
            ))),
        }
    }

    /// Waits until `replica` has applied everything that `primary` has executed now.
    pub async fn caught_up(&self, primary: &Server, replica: &Server) -> Result<()> {
        let executed: String = sqlx::query("SELECT @@GLOBAL.gtid_executed")
            .fetch_one(&mut primary.connect(Account::Arbiter).await?)
            .await?
            .try_get(0)?;
        let mut connection = replica.connect(Account::Arbiter).await?;
        let late: i64 = sqlx::query("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)")
            .bind(executed)
            .bind(SETTLED_MAX.as_secs())
            .fetch_one(&mut connection)
            .await?
            .try_get(0)?;
        if late != 0 {
            let state: Vec<(String, String, String)> = sqlx::query_as(
                "SELECT c.SERVICE_STATE, c.LAST_ERROR_MESSAGE, w.LAST_ERROR_MESSAGE
                 FROM performance_schema.replication_connection_status c
                 LEFT JOIN performance_schema.replication_applier_status_by_worker w USING (CHANNEL_NAME)",
            )
            .fetch_all(&mut connection)
            .await?;
            bail!(
                "{} has not caught up within {SETTLED_MAX:?}: {state:?}; it wrote:\n{}",
                replica.name(),
                replica.log().await?
            );
        }
        Ok(())
    }

    /// A planned change of roles, with nothing in flight: `name` becomes the primary of `epoch`, alone in the in-sync set, and the one
    /// before is left closed. A stand-in for the arbiter's switchover; it loses nothing only because nobody writes meanwhile.
    pub async fn promote(&mut self, name: &str, epoch: u64) -> Result<()> {
        self.stop_heartbeat();
        let (new, old) = (self.of_name(name)?, self.of_name(&self.primary)?);
        let mut closing = old.connect(Account::Arbiter).await?;
        sqlx::raw_sql("SET SESSION lock_wait_timeout = 1; SET GLOBAL super_read_only = ON")
            .execute(&mut closing)
            .await?;
        self.caught_up(old, new).await?;
        // Were semi-sync left on, what it applies once it follows would wait for a replica of its own.
        sqlx::raw_sql(
            "SET GLOBAL offline_mode = ON; SET GLOBAL rpl_semi_sync_source_enabled = OFF",
        )
        .execute(&mut closing)
        .await?;
        let mut opening = new.connect(Account::Arbiter).await?;
        sqlx::raw_sql("STOP REPLICA; RESET REPLICA ALL")
            .execute(&mut opening)
            .await?;
        self.open(new).await?;
        publish(&mut opening, epoch, new, new.name(), "steady").await?;
        self.primary = name.to_owned();
        self.start_heartbeat();
        Ok(())
    }

    /// Writes the heartbeat row every half second on whichever server takes it, until [`stop_heartbeat`](Pair::stop_heartbeat).
    pub fn start_heartbeat(&mut self) {
        self.stop_heartbeat();
        let mut hearts = JoinSet::new();
        for server in self.servers() {
            let Ok(options) = server.options(Account::Arbiter) else {
                continue;
            };
            let name = server.name().to_owned();
            hearts.spawn(async move {
                let mut tick = interval(BEAT);
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tick.tick().await;
                    // A commit that waits for an acknowledgement is given up here; it stays waiting there.
                    let _ = timeout(BEAT * 4, beat(&name, &options)).await;
                }
            });
        }
        self.hearts = hearts;
    }

    /// Lets the heartbeat stop.
    pub fn stop_heartbeat(&mut self) {
        self.hearts.abort_all();
    }
}

async fn beat(name: &str, options: &sqlx::mysql::MySqlConnectOptions) -> sqlx::Result<()> {
    let mut connection = MySqlConnection::connect_with(options).await?;
    let read_only: bool = sqlx::query_scalar("SELECT @@GLOBAL.read_only")
        .fetch_one(&mut connection)
        .await?;
    if !read_only {
        sqlx::raw_sql("SET SESSION gtid_next = 'AUTOMATIC:arbiter'")
            .execute(&mut connection)
            .await?;
        sqlx::query(
            "INSERT INTO holdfast.heartbeat (server, beat, at) VALUES (?, 1, CURRENT_TIMESTAMP(6))
             ON DUPLICATE KEY UPDATE beat = beat + 1, at = CURRENT_TIMESTAMP(6)",
        )
        .bind(name)
        .execute(&mut connection)
        .await?;
    }
    connection.close().await
}

pub(crate) async fn publish(
    connection: &mut MySqlConnection,
    epoch: u64,
    primary: &Server,
    in_sync: &str,
    phase: &str,
) -> Result<()> {
    let uuid: String = sqlx::query_scalar("SELECT @@server_uuid")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(
        "REPLACE INTO holdfast.cluster (one, epoch, primary_server, primary_uuid, in_sync, phase, changed_at)
         VALUES (1, ?, ?, ?, ?, ?, CURRENT_TIMESTAMP(6))",
    )
    .bind(epoch)
    .bind(primary.name())
    .bind(uuid)
    .bind(in_sync)
    .bind(phase)
    .execute(connection)
    .await
    .context("publish the roles")?;
    Ok(())
}
