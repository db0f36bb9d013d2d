//! The pair and the links to it: one link for each process and server, and one for each server that the other one receives through. And what is
//! true of the pair at any time: no replica has a transaction of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Account, Pair, Proxy, Server, wait_until};
use replication::{Endpoint, GtidSet, replica_facts, server_facts};
use router::RouterConfig;
use sqlx::Connection;
use tokio::time::timeout;

use crate::clients::{CLIENTS, ITEMS_EACH};
use crate::judge::Table;
use crate::router_common::{SOON, as_arbiter, config};

const TABLES: [&str; 2] = [
    "CREATE TABLE ledger.items (id INT UNSIGNED PRIMARY KEY, n BIGINT UNSIGNED NOT NULL, times BIGINT UNSIGNED NOT NULL)",
    // Not unique by item and number: one that is sent twice shall be there twice.
    "CREATE TABLE ledger.written (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, item INT UNSIGNED NOT NULL, seq BIGINT UNSIGNED NOT NULL,
        KEY (item, seq))",
];

/// Servers by their place: 0 is mysql-1, 1 is mysql-2.
pub(crate) const NAMES: [&str; 2] = ["mysql-1", "mysql-2"];

/// A fault that was made, or a change of roles.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) began: Duration,
    /// `None` while it lasts.
    pub(crate) ended: Option<Duration>,
    pub(crate) what: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let began = self.began.as_secs_f64();
        match self.ended {
            Some(ended) => write!(
                f,
                "{began:9.4} to {:9.4}  {}",
                ended.as_secs_f64(),
                self.what
            ),
            None => write!(f, "{began:9.4} to      end  {}", self.what),
        }
    }
}

/// Who is what, as the one task that changes it knows.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    pub(crate) primary: usize,
    pub(crate) epoch: u64,
    /// What the replica had executed of its own when it became one.
    own: GtidSet,
}

pub(crate) struct World {
    pub(crate) pair: Pair,
    /// By process, then by server.
    pub(crate) links: [[Proxy; 2]; 2],
    /// By the server that is received from.
    pub(crate) replication: [Proxy; 2],
    pub(crate) began: Instant,
    pub(crate) troubles: Mutex<Vec<Trouble>>,
}

impl World {
    /// A pair with the tables in it, mysql-1 as the primary of epoch 1.
    pub(crate) async fn start() -> Result<(Self, Roles)> {
        let pair = Pair::replicating().await?;
        let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
        for table in TABLES {
            sqlx::raw_sql(table).execute(&mut migrate).await?;
        }
        for item in 0..CLIENTS * ITEMS_EACH {
            let insert = sqlx::query("INSERT INTO ledger.items VALUES (?, 0, 0)").bind(item);
            insert.execute(&mut migrate).await?;
        }
        let to = async |server: &Server| Proxy::start(([127, 0, 0, 1], server.port()).into()).await;
        let both = async || anyhow::Ok([to(pair.mysql_1()).await?, to(pair.mysql_2()).await?]);
        let (links, replication) = ([both().await?, both().await?], both().await?);
        pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
        as_arbiter(pair.mysql_2(), "STOP REPLICA").await?;
        pair.follow(pair.mysql_2(), replication[0].port()).await?;
        let (began, troubles) = (Instant::now(), Mutex::default());
        let world = Self {
            pair,
            links,
            replication,
            began,
            troubles,
        };
        let own = world.own(1).await?;
        Ok((
            world,
            Roles {
                primary: 0,
                epoch: 1,
                own,
            },
        ))
    }

    /// What the router of a process has to know: the servers are at the ends of its own links.
    pub(crate) fn config_of(&self, process: usize) -> RouterConfig {
        let endpoint = |server: usize| Endpoint {
            name: NAMES[server].to_owned(),
            host: "127.0.0.1".to_owned(),
            port: self.links[process][server].port(),
        };
        RouterConfig {
            servers: vec![endpoint(0), endpoint(1)],
            // Short, so that a round sees many of them.
            statement_timeout_ms: 1500,
            probe_timeout_ms: 500,
            ..config(&self.pair)
        }
    }

    pub(crate) fn server(&self, server: usize) -> &Server {
        [self.pair.mysql_1(), self.pair.mysql_2()][server]
    }

    /// What a server has executed that began on it.
    async fn own(&self, server: usize) -> Result<GtidSet> {
        let mut arbiter = self.server(server).connect(Account::Arbiter).await?;
        let facts = server_facts(&mut arbiter).await?;
        Ok(facts
            .executed
            .subtract(&facts.executed.without_server(&facts.uuid)))
    }

    /// The replica is still what it was: it has executed nothing of its own since it became one.
    pub(crate) async fn replica_has_written_nothing(&self, roles: &Roles) -> Result<()> {
        let replica = 1 - roles.primary;
        let more = self.own(replica).await?.subtract(&roles.own);
        ensure!(
            more.is_empty(),
            "{} was a replica and has executed {more}",
            NAMES[replica]
        );
        Ok(())
    }

    /// The roles as they are now.
    pub(crate) async fn roles(&self, primary: usize, epoch: u64) -> Result<Roles> {
        let own = self.own(1 - primary).await?;
        Ok(Roles {
            primary,
            epoch,
            own,
        })
    }

    /// Notes that something begins; `over` notes its end.
    pub(crate) fn trouble(&self, what: impl fmt::Display) -> usize {
        let mut troubles = self.troubles.lock().expect("nothing panics with it");
        let (began, ended, what) = (self.began.elapsed(), None, what.to_string());
        troubles.push(Trouble { began, ended, what });
        troubles.len() - 1
    }

    pub(crate) fn over(&self, trouble: usize) {
        let mut troubles = self.troubles.lock().expect("nothing panics with it");
        troubles[trouble].ended = Some(self.began.elapsed());
    }

    /// What was broken, and what both servers say now, for the story of a round that could not be finished.
    pub(crate) async fn account(&self) -> String {
        let mut account = String::new();
        for trouble in self.troubles.lock().expect("nothing panics with it").iter() {
            account.push_str(&format!("\n  {trouble}"));
        }
        for server in [0, 1] {
            let said = async {
                let mut arbiter = self.server(server).connect(Account::Arbiter).await?;
                let (facts, replica) = (
                    server_facts(&mut arbiter).await?,
                    replica_facts(&mut arbiter).await?,
                );
                anyhow::Ok(format!("\n  {}: {facts:?}\n    {replica:?}", NAMES[server]))
            };
            let said = timeout(SOON, said).await.context("no answer").flatten();
            account
                .push_str(&said.unwrap_or_else(|error| format!("\n  {}: {error}", NAMES[server])));
        }
        account
    }

    /// Takes all faults of links back, and lets both servers run.
    pub(crate) async fn heal(&self) -> Result<()> {
        let links = self.links.iter().flatten().chain(&self.replication);
        links.for_each(Proxy::heal);
        for server in [0, 1] {
            self.server(server).thaw().await?;
        }
        Ok(())
    }

    /// Waits until nothing of the processes, which have ended, is under way on the servers any more; then compares the histories of the two,
    /// and reads what is in the tables.
    pub(crate) async fn in_the_end(&self, roles: &Roles) -> Result<[Table; 2]> {
        let (primary, replica) = (self.server(roles.primary), self.server(1 - roles.primary));
        let mut arbiter = primary.connect(Account::Arbiter).await?;
        let count = "SELECT COUNT(*) FROM performance_schema.processlist WHERE USER = 'app'";
        wait_until(
            "the primary is done with the processes that ended",
            SOON,
            async || {
                let left = sqlx::query_scalar::<_, i64>(count)
                    .fetch_one(&mut arbiter)
                    .await;
                left.is_ok_and(|left| left == 0)
            },
        )
        .await?;
        self.pair.caught_up(primary, replica).await?;
        self.replica_has_written_nothing(roles).await?;
        let mut follower = replica.connect(Account::Arbiter).await?;
        // A heartbeat may be on the replica and not acknowledged yet.
        let mut errant = GtidSet::default();
        let none = wait_until(
            "the replica has nothing that the primary has not",
            SOON,
            async || {
                let sets = async {
                    let has = server_facts(&mut follower).await?.executed;
                    anyhow::Ok(has.subtract(&server_facts(&mut arbiter).await?.executed))
                };
                errant = sets.await.unwrap_or_default();
                errant.is_empty()
            },
        );
        let none = none.await;
        none.with_context(|| format!("errant: {errant}"))?;
        Ok([self.table(0).await?, self.table(1).await?])
    }

    async fn table(&self, server: usize) -> Result<Table> {
        let mut app = self.server(server).connect(Account::App).await?;
        let numbers: Vec<(u32, u64, u64)> = sqlx::query_as("SELECT id, n, times FROM ledger.items")
            .fetch_all(&mut app)
            .await?;
        let rows = sqlx::query_as("SELECT item, seq FROM ledger.written")
            .fetch_all(&mut app)
            .await?;
        app.close().await?;
        let numbers: BTreeMap<_, _> = numbers
            .into_iter()
            .map(|(id, n, times)| (id, (n, times)))
            .collect();
        Ok(Table {
            server: NAMES[server].to_owned(),
            numbers,
            rows,
        })
    }
}
