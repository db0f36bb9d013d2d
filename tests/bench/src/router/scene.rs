//! What all ways share: the pair of servers with its tables, and MySQL Router before it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Account, Pair, Server};
use replication::Endpoint;
use sqlx::MySqlConnection;

use super::client::{Link, Setting};
use super::mysql_router::{self, MysqlRouter, Tls};
use super::query;
use super::relay::Relay;
use super::way::Way;
use crate::group::Group;

/// The account of an application, and whose certificate it needs.
const ACCOUNT: Account = Account::App;

/// To each server, from each client. So many that nobody waits for one, and reads do not spill over to the primary.
pub(super) const CONNECTIONS_MAX: u32 = 32;

/// How often a router asks the servers how they are, as in the stack.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// Stays for the whole run.
#[derive(Debug)]
pub(super) struct Scene {
    /// The program that the clients are.
    pub(super) client: PathBuf,
    pub(super) pair: Pair,
    proxies: BTreeMap<Way, MysqlRouter>,
    password: String,
    identity: PathBuf,
    /// What each is.
    pub(super) versions: Vec<String>,
}

/// The relays on a way.
#[derive(Debug)]
pub(super) struct Relays {
    relays: Vec<Relay>,
}

impl Relays {
    /// Round trips so far, on all of them.
    pub(super) fn turns(&self) -> u64 {
        self.relays.iter().map(Relay::turns).sum()
    }
}

/// Of which way the CPU time is told apart: the proxy's processes, if there is one, and the servers'.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    proxy: Option<Group>,
    servers: Vec<Group>,
}

impl Groups {
    /// What they have used so far: the proxy, then both servers.
    pub(super) fn cpu(&self) -> Result<[Duration; 2]> {
        let proxy = self.proxy.map_or(Ok(Duration::ZERO), Group::cpu)?;
        let mut servers = Duration::ZERO;
        for server in &self.servers {
            servers += server.cpu()?;
        }
        Ok([proxy, servers])
    }
}

impl Scene {
    /// Starts a replicating pair, makes the tables, and starts a MySQL Router for each of these ways that needs one.
    pub(super) async fn set(ways: &[Way], client: PathBuf) -> Result<Scene> {
        let pair = Pair::replicating().await?;
        let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
        for statement in query::TABLES {
            sqlx::raw_sql(statement).execute(&mut migrate).await?;
        }
        pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
        let version: String = sqlx::query_scalar("SELECT VERSION()")
            .fetch_one(&mut migrate)
            .await?;
        let mut versions = vec![format!("MySQL {version}")];
        let mut proxies = BTreeMap::new();
        for way in ways {
            let tls = match way {
                Way::MysqlRouter => Tls::Both,
                Way::MysqlRouterPassing => Tls::Passing,
                Way::Router | Way::Pool | Way::PoolNoTest => continue,
            };
            let proxy = MysqlRouter::start(&pair, tls).await?;
            versions.push(format!("MySQL Router {}", proxy.version));
            proxies.insert(*way, proxy);
        }
        versions.dedup();
        let password = pair.identities().password(ACCOUNT.user())?;
        let identity = pair.identities().of(ACCOUNT.consumer()).join("current");
        Ok(Scene {
            client,
            pair,
            proxies,
            password,
            identity,
            versions,
        })
    }

    /// The clients of a way.
    pub(super) fn setting(&self, way: Way) -> Result<Setting> {
        let (reads, writes) = self.ports(way)?;
        Ok(self.setting_to(way, reads, writes))
    }

    /// The same with a relay before each port that the client connects to.
    pub(super) async fn setting_relayed(&self, way: Way) -> Result<(Setting, Relays)> {
        let (reads, writes) = self.ports(way)?;
        let (reads, writes) = (Relay::start(reads).await?, Relay::start(writes).await?);
        let setting = self.setting_to(way, reads.port(), writes.port());
        let relays = vec![reads, writes];
        Ok((setting, Relays { relays }))
    }

    /// A router that knows these servers only.
    pub(super) fn router_of(&self, servers: &[&Server], connections_max: u32) -> Setting {
        let servers = servers
            .iter()
            .map(|server| endpoint(server.name(), server.port()))
            .collect();
        self.as_application(Link::Router { servers }, connections_max)
    }

    /// Who works while a way is measured, beside the client.
    pub(super) async fn groups(&self, way: Way) -> Result<Groups> {
        let mut servers = Vec::new();
        for server in [self.pair.mysql_1(), self.pair.mysql_2()] {
            servers.push(mysql_router::group_of(server.container()).await?);
        }
        let proxy = match self.proxies.get(&way) {
            Some(proxy) => Some(proxy.group().await?),
            None => None,
        };
        Ok(Groups { proxy, servers })
    }

    fn ports(&self, way: Way) -> Result<(u16, u16)> {
        if way.has_proxy() {
            let proxy = self.proxies.get(&way).context("it was started")?;
            return Ok((proxy.reads, proxy.writes));
        }
        Ok((self.pair.mysql_2().port(), self.pair.mysql_1().port()))
    }

    fn setting_to(&self, way: Way, reads: u16, writes: u16) -> Setting {
        let link = if way == Way::Router {
            Link::Router {
                servers: vec![endpoint("mysql-1", writes), endpoint("mysql-2", reads)],
            }
        } else {
            Link::Pools {
                reads: endpoint("reads", reads),
                writes: endpoint("writes", writes),
                test_before_acquire: way != Way::PoolNoTest,
            }
        };
        self.as_application(link, CONNECTIONS_MAX)
    }

    fn as_application(&self, link: Link, connections_max: u32) -> Setting {
        Setting {
            link,
            connections_max,
            probe_interval: PROBE_INTERVAL,
            user: ACCOUNT.user().to_owned(),
            password: self.password.clone(),
            identity: self.identity.clone(),
        }
    }
}

fn endpoint(name: &str, port: u16) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// What a server was told by the application's account, by kind: `Execute`, `Ping`, `Query`.
pub(super) type Commands = BTreeMap<String, u64>;

/// What this server was told so far.
pub(super) async fn commands(observer: &mut MySqlConnection) -> Result<Commands> {
    let counts: Vec<(String, u64)> = sqlx::query_as(
        "SELECT EVENT_NAME, COUNT_STAR FROM performance_schema.events_statements_summary_by_account_by_event_name
         WHERE USER = 'app' AND COUNT_STAR > 0",
    )
    .fetch_all(observer)
    .await?;
    let mut commands = Commands::new();
    for (event, count) in counts {
        // What came as text is told by the kind of statement.
        let kind = event.strip_prefix("statement/com/").unwrap_or("Query");
        *commands.entry(kind.to_owned()).or_default() += count;
    }
    Ok(commands)
}

/// What came between two looks.
pub(super) fn since(before: &Commands, after: &Commands) -> Commands {
    let news = after.iter().map(|(kind, count)| {
        let old = before.get(kind).copied().unwrap_or_default();
        (kind.clone(), count - old)
    });
    news.filter(|(_, count)| *count > 0).collect()
}
