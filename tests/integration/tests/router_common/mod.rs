//! Routers on a real replicating pair, in the test's process, as each web server has one in its own.

#![allow(dead_code)] // every test file takes what it needs

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Account, Pair, Proxy, Server, wait_until};
use prometheus::Registry;
use replication::Endpoint;
use router::{
    CausalKey, Credentials, Password, Router, RouterConfig, RouterError, ServerHealth, ServerState,
};
use sqlx::MySqlConnection;

/// For what takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What the tokens of all routers of a test are signed with.
pub(crate) const CAUSAL_KEY: &[u8] = b"the key of every web server's tokens";

/// A pair with one table in it: `ledger.counters (id, n)`.
pub(crate) async fn pair() -> Result<Pair> {
    let pair = Pair::replicating().await?;
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
    sqlx::raw_sql("CREATE TABLE ledger.counters (id INT PRIMARY KEY, n INT NOT NULL)")
        .execute(&mut migrate)
        .await?;
    sqlx::raw_sql("INSERT INTO ledger.counters VALUES (0, 0), (1, 0), (2, 0), (3, 0)")
        .execute(&mut migrate)
        .await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    Ok(pair)
}

/// Functions and views that write, beside the counters: `count_up()`, and what calls it; and what else is given.
pub(crate) async fn make_routines(pair: &Pair, others: &[&'static str]) -> Result<()> {
    const COUNTING: [&str; 4] = [
        "USE ledger",
        "CREATE TABLE counted (id INT PRIMARY KEY AUTO_INCREMENT)",
        "CREATE FUNCTION count_up() RETURNS BIGINT MODIFIES SQL DATA
         BEGIN INSERT INTO counted VALUES (NULL); RETURN (SELECT COUNT(*) FROM counted); END",
        "CREATE VIEW counting AS SELECT count_up() AS n",
    ];
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
    for sql in COUNTING.iter().chain(others) {
        sqlx::raw_sql(*sql).execute(&mut migrate).await?;
    }
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await
}

/// A session without a mark, with the replica fresh for it.
pub(crate) async fn fresh_session(web: &Web, pair: &Pair) -> Result<Router> {
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    web.is_whole().await?;
    Ok(web.session())
}

/// A configuration that reacts fast, with room for everything.
pub(crate) fn config(pair: &Pair) -> RouterConfig {
    let endpoint = |server: &Server| Endpoint {
        name: server.name().to_owned(),
        host: "127.0.0.1".to_owned(),
        port: server.port(),
    };
    let servers = pair.servers().map(endpoint).collect();
    RouterConfig {
        max_lag_ms: 1500,
        statement_timeout_ms: 3000,
        probe_interval_ms: 100,
        // One look that a busy machine makes late is not a server that is away.
        probe_timeout_ms: 1000,
        ..RouterConfig::new(servers, "ledger")
    }
}

/// An account's name and password, with the certificate that it needs.
pub(crate) fn credentials(pair: &Pair, account: Account) -> Result<Credentials> {
    let user = account.user();
    let identity = pair.identities().of(account.consumer()).join("current");
    let key = CausalKey::new(CAUSAL_KEY);
    let password = Password::Fixed(pair.identities().password(user)?);
    Ok(Credentials::new(user, password, &identity, key))
}

/// The same configuration with a proxy's port instead of the server's.
pub(crate) fn through(mut config: RouterConfig, server: &Server, proxy: &Proxy) -> RouterConfig {
    for endpoint in &mut config.servers {
        if endpoint.name == server.name() {
            endpoint.port = proxy.port();
        }
    }
    config
}

/// A proxy in front of a server.
pub(crate) async fn proxy(server: &Server) -> Result<Proxy> {
    Proxy::start(([127, 0, 0, 1], server.port()).into()).await
}

/// One web server's router, and its metrics.
pub(crate) struct Web {
    pub(crate) router: Router,
    registry: Registry,
}

impl Web {
    /// Starts it as the account `app`, and waits until it knows a primary that takes writes and a replica that is fresh.
    pub(crate) async fn start(pair: &Pair, config: RouterConfig) -> Result<Self> {
        Self::start_as(pair, config, Account::App).await
    }

    /// The same as another account.
    pub(crate) async fn start_as(
        pair: &Pair,
        config: RouterConfig,
        account: Account,
    ) -> Result<Self> {
        let web = Self::connect(pair, config, account)?;
        web.is_whole().await?;
        Ok(web)
    }

    /// Starts it while the replica is away.
    pub(crate) async fn start_degraded(pair: &Pair, config: RouterConfig) -> Result<Self> {
        let web = Self::connect(pair, config, Account::App)?;
        web.router.wait_for_primary(SOON).await?;
        Ok(web)
    }

    fn connect(pair: &Pair, config: RouterConfig, account: Account) -> Result<Self> {
        Self::connect_with(config, &credentials(pair, account)?)
    }

    /// Starts it with these credentials, and waits for nothing.
    pub(crate) fn connect_with(config: RouterConfig, credentials: &Credentials) -> Result<Self> {
        let registry = Registry::new();
        let router = Router::connect(config, credentials, &registry)?;
        Ok(Self { router, registry })
    }

    /// A request's session, without a token.
    pub(crate) fn session(&self) -> Router {
        self.router.session(None)
    }

    /// Waits until writes can be sent to the primary and reads to the replica.
    pub(crate) async fn is_whole(&self) -> Result<()> {
        let whole = wait_until("the router knows both servers", SOON, async || {
            self.router.health().writable && self.goes("SELECT 1") == "replica;reason=fresh"
        });
        whole
            .await
            .with_context(|| format!("{:?}", self.router.health()))
    }

    /// Waits until the replica counts as too far behind, which it does until it has caught up; one probe that is late is not that.
    pub(crate) async fn lags(&self) -> Result<()> {
        wait_until("the replica lags", SOON, async || {
            let servers = self.router.health().servers;
            let mut states = servers.iter().map(|server| server.state);
            states.any(|state| state == ServerState::Lagging)
        })
        .await
    }

    /// Where a new session's statement would go now.
    pub(crate) fn goes(&self, sql: &str) -> String {
        match self.session().explain(sql) {
            Ok(decision) => format!("{};reason={}", decision.target, decision.reason),
            Err(error) => error.to_string(),
        }
    }

    /// The value of the metric that has these labels' values.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family
            .with_context(|| format!("no metric {name}"))?
            .get_metric();
        let labelled = |metric: &&prometheus::proto::Metric| {
            let pairs = metric.get_label();
            let has = |label: &&str| pairs.iter().any(|pair| pair.value() == *label);
            labels.iter().all(has)
        };
        let metric = metrics.iter().find(labelled);
        let metric = metric.with_context(|| format!("{name} has no {labels:?}"))?;
        // It is one of the two, and the other one is 0.
        Ok(metric.get_counter().get_value() + metric.get_gauge().get_value())
    }
}

/// Where a session's statements went: `replica;reason=fresh`, as in the header `x-db`.
pub(crate) fn went(session: &Router) -> Vec<String> {
    let decisions = session.decisions();
    let text = decisions
        .iter()
        .map(|decision| format!("{};reason={}", decision.target, decision.reason));
    text.collect()
}

/// What is known of the server of this name.
pub(crate) fn health_of(web: &Web, name: &str) -> Result<ServerHealth> {
    let servers = web.router.health().servers;
    let server = servers.into_iter().find(|server| server.name == name);
    server.with_context(|| format!("no {name}"))
}

/// Waits until the router says that the server is so.
pub(crate) async fn is_in_state(web: &Web, name: &str, state: ServerState) -> Result<()> {
    let waiting = wait_until("the server's state", SOON, async || {
        health_of(web, name).is_ok_and(|server| server.state == state)
    });
    waiting
        .await
        .with_context(|| format!("{name} is not {state}: {:?}", web.router.health()))
}

/// Sets a counter in the session.
pub(crate) async fn set(session: &Router, id: i32, n: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE counters SET n = ? WHERE id = ?")
        .bind(n)
        .bind(id)
        .execute(session)
        .await
        .map(drop)
}

/// Reads a counter in the session.
pub(crate) async fn get(session: &Router, id: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT n FROM counters WHERE id = ?")
        .bind(id)
        .fetch_one(session)
        .await
}

/// Reads a counter in a new session, and says where it was read.
pub(crate) async fn look(session: &Router, id: i32) -> Result<(i32, String)> {
    let n = get(session, id).await?;
    let last = went(session).pop().context("a read is a decision")?;
    Ok((n, last))
}

/// One statement as the arbiter, whose account may stop and start replication.
pub(crate) async fn as_arbiter(server: &Server, sql: &'static str) -> Result<()> {
    let mut arbiter = server.connect(Account::Arbiter).await?;
    sqlx::raw_sql(sql).execute(&mut arbiter).await?;
    Ok(())
}

/// The same question to a server itself, past the router.
pub(crate) async fn ask<T>(connection: &mut MySqlConnection, sql: &'static str) -> Result<T>
where
    T: Send + Unpin + sqlx::Type<sqlx::MySql> + for<'r> sqlx::Decode<'r, sqlx::MySql>,
{
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

/// The router's own error, out of what came through sqlx.
pub(crate) fn ours<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) -> Result<String> {
    let error = result.err().context("it was done")?;
    let ours = RouterError::of(&error).with_context(|| format!("not the router's: {error:?}"))?;
    Ok(kind(ours))
}

/// An error of the router's, also inside of sqlx's.
pub(crate) trait Typed {
    fn text(&self) -> String;
}

impl Typed for RouterError {
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl Typed for sqlx::Error {
    fn text(&self) -> String {
        RouterError::of(self).map_or_else(|| format!("{self:?}"), |ours| format!("{ours:?}"))
    }
}

/// The name of an error's variant.
pub(crate) fn kind(error: &impl Typed) -> String {
    let text = error.text();
    let end = text.find([' ', '(']).unwrap_or(text.len());
    text[..end].to_owned()
}

/// Holds what must be so, and says what was found.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    ensure!(found == expected, "found {found:?}, expected {expected:?}");
    Ok(())
}
