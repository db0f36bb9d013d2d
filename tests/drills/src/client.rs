//! One client: a connection to the server that it takes for the primary, and one row after the other.

use std::time::Duration;

use replication::errors::{self, ErrorKind};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use tokio::time::timeout;

use crate::history::Outcome;
use crate::sight::View;

/// How long a login may take.
const LOGIN_MAX: Duration = Duration::from_secs(1);

/// The row says on which server and in which epoch it was executed: whatever the client believes. Without a lock on the row that it reads,
/// which nobody but the arbiter may hold up.
const INSERT: &str = "INSERT INTO ledger.drill (writer, sequence, round, seen, epoch, server) \
     SELECT ?, ?, ?, ?, epoch, @@server_id FROM holdfast.cluster WHERE one = 1";

/// Much to apply for one acknowledgement.
const BULK: &str = "INSERT INTO ledger.bulk (text) \
     WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 300) SELECT UUID() FROM numbers";

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Goes to who is published as primary.
    Simple,
    /// Also holds back while a planned change is announced, as the router does.
    Holding,
    /// Also has 300 more rows in each transaction.
    Heavy,
    /// Writes to this server, whatever it is.
    Stubborn(usize),
}

impl Habit {
    /// Where it wants to write now, and the epoch that it believes in.
    pub(crate) fn aim(self, view: &View) -> Option<(usize, u64)> {
        match self {
            Habit::Simple | Habit::Heavy => view.primary(),
            Habit::Holding if view.announces_a_switchover() => None,
            Habit::Holding => view.primary(),
            Habit::Stubborn(server) => view.epoch_at(server).map(|epoch| (server, epoch)),
        }
    }

    /// Whether it goes on with the connection that it has when nobody is published.
    pub(crate) fn goes_on_blindly(self) -> bool {
        self != Habit::Holding
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) writer: usize,
    pub(crate) sequence: usize,
    pub(crate) round: u32,
    pub(crate) seen: u64,
    pub(crate) bulky: bool,
}

/// A connection to one of the servers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) server: usize,
    connection: MySqlConnection,
}

impl Client {
    pub(crate) async fn connect(server: usize, options: &MySqlConnectOptions) -> Option<Client> {
        let connecting = async {
            let mut connection = options.connect().await?;
            sqlx::raw_sql("SET SESSION transaction_isolation = 'READ-COMMITTED'")
                .execute(&mut connection)
                .await?;
            Ok::<_, sqlx::Error>(connection)
        };
        let connection = timeout(LOGIN_MAX, connecting).await.ok()?.ok()?;
        Some(Client { server, connection })
    }

    /// Writes, and waits no longer than this. After anything but an acknowledgement or a refusal the client has to be dropped.
    pub(crate) async fn write(&mut self, write: Write, within: Duration) -> Outcome {
        match timeout(within, self.insert(write)).await {
            Ok(Ok(1..)) => Outcome::Acknowledged,
            // Nobody is published there.
            Ok(Ok(0)) => Outcome::Refused,
            Ok(Err(error)) => meaning(&error),
            Err(_) => Outcome::Unknown,
        }
    }

    async fn insert(&mut self, write: Write) -> Result<u64, sqlx::Error> {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let insert = sqlx::query(INSERT)
            .bind(number(write.writer))
            .bind(number(write.sequence))
            .bind(write.round)
            .bind(write.seen);
        if !write.bulky {
            return Ok(insert.execute(&mut self.connection).await?.rows_affected());
        }
        let connection = &mut self.connection;
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        let rows = insert.execute(&mut *connection).await?.rows_affected();
        sqlx::raw_sql(BULK).execute(&mut *connection).await?;
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        Ok(rows)
    }
}

/// Refused is what the server says it has not done; everything else may have been done.
fn meaning(error: &sqlx::Error) -> Outcome {
    match errors::kind(error) {
        ErrorKind::WrongServer | ErrorKind::Contention => Outcome::Refused,
        ErrorKind::Gone | ErrorKind::Capacity | ErrorKind::Other => Outcome::Unknown,
    }
}
