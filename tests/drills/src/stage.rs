//! Two servers, the arbiter, a link on each path between them, and clients.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Account, Identities, MysqlImage, Server, docker, run, wait_for, wait_until};
use replication::{GtidSet, replica_facts, semi_sync_facts, server_facts};
use serde_json::{Value, json};
use sqlx::Connection;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::arbiter::{Arbiter, SETTLED};
use crate::history::{History, Outcome};
use crate::judge::{Evidence, Row, Verdict, judge};
use crate::link::{Broken, Link, Links};
use crate::load::{Load, Pause, WRITERS};
use crate::sight::{self, View, name};

/// How long a pair may take to be whole again.
pub const WHOLE_MAX: Duration = Duration::from_secs(120);

/// What a hundred rounds write.
const MEMORY_MIN: u64 = 8 << 30;

/// How long asking a server for a report may take.
const ASK_MAX: Duration = Duration::from_secs(2);

const TABLES: &str = "CREATE DATABASE ledger;
    CREATE TABLE ledger.drill (
        id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, writer INT UNSIGNED NOT NULL, sequence INT UNSIGNED NOT NULL,
        round INT UNSIGNED NOT NULL, seen BIGINT UNSIGNED NOT NULL, epoch BIGINT UNSIGNED NOT NULL, server INT UNSIGNED NOT NULL, KEY (round));
    CREATE TABLE ledger.bulk (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, text VARCHAR(200) NOT NULL, KEY (text));
    CREATE TABLE ledger.marker (id INT PRIMARY KEY, text VARCHAR(200) NOT NULL)";

/// What the servers stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data in memory, where there is room, so that no disk slows the clients down.
    Usual,
    /// mysql-1 on a disk of so many bytes.
    SmallDisk(u64),
}

/// Everything, until it is dropped. Clients write from the beginning.
#[derive(Debug)]
pub struct Stage {
    // In the order in which they go.
    load: Load,
    view: watch::Receiver<View>,
    _looking: JoinSet<()>,
    arbiter: Arbiter,
    links: Links,
    servers: [Arc<Server>; 2],
    history: Arc<History>,
    /// At how many places the arbiter dies in a drill that has one for each step; all, if it is not said.
    pub(crate) deaths_max: Option<usize>,
    _directory: TempDir,
}

impl Stage {
    /// Sets it, and waits until the pair is open and clients are writing.
    pub async fn set(kind: Kind) -> Result<Stage> {
        let identities = Identities::make()?;
        let first = async {
            match kind {
                Kind::Usual => start(&name(0), &identities).await,
                Kind::SmallDisk(bytes) => {
                    Server::start_on_small_disk(&name(0), &identities, bytes).await
                }
            }
        };
        let second_name = name(1);
        let (one, two) = tokio::try_join!(first, start(&second_name, &identities))?;
        let servers = [Arc::new(one), Arc::new(two)];
        let links = Links::before([&servers[0], &servers[1]]).await?;
        let directory = run::directory("arbiter")?;
        let arbiter = Arbiter::start(directory.path(), &configuration(&identities, &links))?;
        whole(&arbiter, WHOLE_MAX)
            .await
            .with_context(|| arbiter.log_from(0).join("\n"))?;
        let mut migrate = servers[0].connect(Account::Migrate).await?;
        sqlx::raw_sql(TABLES).execute(&mut migrate).await?;

        let history = Arc::new(History::of(WRITERS));
        let options = [
            servers[0].options(Account::App)?,
            servers[1].options(Account::App)?,
        ];
        let (view, looking) = sight::look([&servers[0], &servers[1]], options.clone(), &history);
        let load = Load::begin(&options, &view, &history);
        let stage = Stage {
            load,
            view,
            _looking: looking,
            arbiter,
            links,
            servers,
            history,
            deaths_max: None,
            _directory: directory,
        };
        stage.acknowledges(200, Duration::ZERO, None).await?;
        Ok(stage)
    }

    /// mysql-1 is 0.
    pub fn server(&self, server: usize) -> &Arc<Server> {
        &self.servers[server]
    }

    /// The arbiter.
    pub fn arbiter(&self) -> &Arbiter {
        &self.arbiter
    }

    /// Whether the servers' data is in memory.
    pub fn is_in_memory(&self) -> bool {
        self.servers
            .iter()
            .all(|server| run::is_in_memory(server.directory()))
    }

    /// What clients have been told.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The time on the history's clock.
    pub fn now(&self) -> Duration {
        self.history.now()
    }

    /// The links.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Breaks several links at once.
    pub fn break_links(&self, links: &[Link], how: Broken) {
        links
            .iter()
            .for_each(|link| self.links.break_it(*link, how));
    }

    /// What clients write from now on carries this number.
    pub fn set_round(&self, round: u32) {
        self.load.set_round(round);
    }

    /// Lets nobody write as long as the value lives.
    pub async fn pause(&self) -> Pause {
        self.load.pause().await
    }

    /// Who is published as primary, as clients see it; waits for one.
    pub async fn primary(&self) -> Result<usize> {
        wait_for("somebody is published as primary", SETTLED, async || {
            self.view.borrow().primary()
        })
        .await
        .map(|(server, _)| server)
    }

    /// The primary that clients saw last, even if none is there now: for who wants to do something to it.
    pub fn last_primary(&self) -> usize {
        let sightings = self.history.sightings();
        let last = sightings.last_key_value().map(|(_, of_epoch)| of_epoch);
        let primary = last.and_then(|of_epoch| of_epoch.last());
        primary.map_or(0, |sighting| usize::from(sighting.primary == name(1)))
    }

    /// Waits until so many writes that were begun since then have been acknowledged, by this server if one is asked for.
    pub async fn acknowledges(
        &self,
        writes: usize,
        since: Duration,
        by: Option<usize>,
    ) -> Result<()> {
        let what = match by {
            Some(server) => format!("{} acknowledges {writes} writes", name(server)),
            None => format!("{writes} writes are acknowledged"),
        };
        wait_until(&what, SETTLED, async || {
            self.history.count(Outcome::Acknowledged, since, by) >= writes
        })
        .await
    }

    /// Waits until both are in sync, and writes are open and acknowledged by the replica.
    pub async fn whole(&self) -> Result<Value> {
        whole(&self.arbiter, WHOLE_MAX).await
    }

    /// Waits for the status of a pair in which this one is primary and writes are open, alone or not.
    pub async fn open_with(&self, primary: usize, in_sync: &[usize]) -> Result<Value> {
        let what = format!("{} is open, in sync: {in_sync:?}", name(primary));
        let in_sync: Vec<String> = in_sync.iter().copied().map(name).collect();
        let wanted = |status: &Value| {
            status["open"] == true
                && status["primary"] == name(primary)
                && status["in_sync"] == json!(in_sync)
        };
        self.arbiter.until(&what, SETTLED, wanted).await
    }

    /// Takes back whatever was done: links, frozen and ended servers, an ended arbiter.
    pub async fn heal(&self) -> Result<()> {
        self.links.heal_all();
        self.arbiter.resume();
        self.arbiter.disarm().await?;
        let heal = async |server: &Server| {
            let _ = server.thaw().await;
            server.restart().await
        };
        tokio::try_join!(heal(&self.servers[0]), heal(&self.servers[1]))?;
        Ok(())
    }

    /// What a round has come to, with the pair whole: its rows alone. Nobody may be writing.
    pub async fn judge_round(&self, round: u32, _paused: &Pause) -> Result<Verdict> {
        self.arbiter.has_ended_as_meant()?;
        self.settle(true).await?;
        let verdict = self.compare(Some(round), None).await?;
        ensure!(verdict.wrong == 0, "{verdict}");
        Ok(verdict)
    }

    /// Judges everything, with the pair whole; the arbiter is away meanwhile, so that nothing is written.
    pub async fn judge(&self) -> Result<Verdict> {
        self.judge_with(None).await
    }

    /// The same where a person has accepted that what was acknowledged within this time may be lost.
    pub async fn judge_with(&self, accepted: Option<(Duration, Duration)>) -> Result<Verdict> {
        let _paused = self.pause().await;
        self.arbiter.stop().await?;
        let verdict = self.judge_all(accepted).await;
        self.arbiter.resume();
        let verdict = verdict?;
        ensure!(verdict.wrong == 0, "{verdict}");
        Ok(verdict)
    }

    async fn judge_all(&self, accepted: Option<(Duration, Duration)>) -> Result<Verdict> {
        self.arbiter.has_ended_as_meant()?;
        self.settle(false).await?;
        let mut verdict = self.compare(None, accepted).await?;
        let made = self
            .history
            .count(Outcome::Acknowledged, Duration::ZERO, None);
        ensure!(
            verdict.acknowledged == made,
            "it has judged other writes than were made, {made} of which were acknowledged: {verdict}"
        );
        for table in ["drill", "bulk", "marker"] {
            let sums = [self.checksum(0, table), self.checksum(1, table)];
            let [one, two] = sums;
            let (one, two) = tokio::try_join!(one, two)?;
            if one != two || one.is_none() {
                verdict.wrong += 1;
                let told = format!("ledger.{table} differs: its checksums are {one:?}, {two:?}");
                verdict.told.push(told);
            }
        }
        Ok(verdict)
    }

    /// Waits until both servers have executed the same, the arbiter's heartbeats aside if it beats.
    async fn settle(&self, beating: bool) -> Result<()> {
        let executed = async |server: usize| -> Result<GtidSet> {
            let mut connection = self.servers[server].connect(Account::Arbiter).await?;
            let executed = server_facts(&mut connection).await?.executed;
            connection.close().await?;
            Ok(if beating {
                executed.without_tag("arbiter")
            } else {
                executed
            })
        };
        let mut last = None;
        let equal = wait_until("both servers have executed the same", SETTLED, async || {
            last = match (executed(0).await, executed(1).await) {
                (Ok(one), Ok(two)) => Some((one, two)),
                _ => None,
            };
            last.as_ref()
                .is_some_and(|(one, two)| one.contains(two) && two.contains(one))
        });
        let equal = equal.await;
        equal.with_context(|| match &last {
            Some((one, two)) => format!("mysql-1: {one}\nmysql-2: {two}"),
            None => "they do not answer".to_owned(),
        })
    }

    async fn compare(
        &self,
        round: Option<u32>,
        accepted: Option<(Duration, Duration)>,
    ) -> Result<Verdict> {
        let attempts = self.history.attempts();
        let sightings = self.history.sightings();
        let (one, two) = tokio::try_join!(self.rows(0, round), self.rows(1, round))?;
        // Sorting and comparing takes a while for a long history, and others wait for this thread.
        let judged = tokio::task::spawn_blocking(move || {
            judge(&Evidence {
                attempts: &attempts,
                round,
                rows: [&one, &two],
                sightings: &sightings,
                accepted,
            })
        });
        Ok(judged.await?)
    }

    async fn rows(&self, server: usize, round: Option<u32>) -> Result<Vec<Row>> {
        let mut app = self.servers[server].connect(Account::App).await?;
        let rows: Vec<(u32, u32, u64, u32)> = sqlx::query_as(
            "SELECT writer, sequence, epoch, server FROM ledger.drill WHERE ? OR round = ?",
        )
        .bind(round.is_none())
        .bind(round.unwrap_or_default())
        .fetch_all(&mut app)
        .await?;
        let row = |(writer, sequence, epoch, server)| Row {
            writer,
            sequence,
            epoch,
            server: server as usize - 1,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    async fn checksum(&self, server: usize, table: &str) -> Result<Option<i64>> {
        let mut app = self.servers[server].connect(Account::App).await?;
        let sql = format!("CHECKSUM TABLE ledger.{table}");
        let (_, sum): (String, Option<i64>) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut app)
            .await?;
        Ok(sum)
    }

    /// Empties the table of bulky rows, as a migration would. Nobody may be writing.
    pub async fn sweep(&self, _paused: &Pause) -> Result<()> {
        let primary = self.primary().await?;
        let mut migrate = self.servers[primary].connect(Account::Migrate).await?;
        sqlx::raw_sql("TRUNCATE TABLE ledger.bulk")
            .execute(&mut migrate)
            .await?;
        Ok(())
    }

    /// What everybody says, for who has to find out what went wrong.
    pub async fn describe(&self, from_line: usize) -> String {
        let mut text = String::new();
        let status = self.arbiter.status().await;
        let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let _ = writeln!(text, "the arbiter's status: {status}");
        let _ = writeln!(text, "how it ended before: {:?}", self.arbiter.deaths());
        let _ = writeln!(text, "epochs: {:#?}", self.history.sightings());
        for server in &self.servers {
            let said = timeout(ASK_MAX, facts(server)).await;
            let said = said.unwrap_or_else(|_| bail!("no answer"));
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(text, "{}: {said}", server.name());
            let format = "--format={{.State.Status}} {{.State.ExitCode}}";
            let state = docker(["inspect", format, server.container()]).await;
            let _ = writeln!(text, "its container: {state:?}");
            let log = server.log().await.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(40)..];
            let _ = writeln!(text, "it wrote at last:\n{}", end.join("\n"));
        }
        let log = self.arbiter.log_from(from_line);
        let _ = writeln!(text, "the arbiter wrote:\n{}", log.join("\n"));
        text
    }
}

async fn start(name: &str, identities: &Identities) -> Result<Server> {
    let directory = run::directory_in_memory(name, MEMORY_MIN)?;
    let image = MysqlImage::get().await?;
    image.copy_seed(&directory.path().join("data")).await?;
    Server::start_on(name, identities, directory).await
}

fn configuration(identities: &Identities, links: &Links) -> [(&'static str, String); 3] {
    let pair = |link: fn(usize) -> Link| {
        let one = |server: usize| {
            let port = links.port(link(server));
            format!(
                "{{ name = '{}', host = '127.0.0.1', port = {port} }}",
                name(server)
            )
        };
        format!("[{}, {}]", one(0), one(1))
    };
    let identity = identities.of("arbiter").join("current");
    [
        ("IDENTITY", identity.display().to_string()),
        ("SERVERS", pair(Link::Arbiter)),
        ("SOURCES", pair(Link::Source)),
    ]
}

async fn whole(arbiter: &Arbiter, within: Duration) -> Result<Value> {
    let wanted = |status: &Value| {
        status["phase"] == "steady"
            && status["open"] == true
            && status["acknowledging"] == true
            && status["in_sync"]
                .as_array()
                .is_some_and(|all| all.len() == 2)
            && status["waits"] == json!([])
            && status["refusals"] == json!([])
    };
    arbiter.until("the pair is whole", within, wanted).await
}

async fn facts(server: &Server) -> Result<String> {
    let mut arbiter = server.connect(Account::Arbiter).await?;
    let mut text = format!("{:#?}", server_facts(&mut arbiter).await?);
    let replica = replica_facts(&mut arbiter).await?;
    let semi_sync = semi_sync_facts(&mut arbiter).await?;
    let sessions: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT USER, COALESCE(STATE, ''), COALESCE(LEFT(INFO, 80), ''), COUNT(*) FROM performance_schema.processlist GROUP BY 1, 2, 3",
    )
    .fetch_all(&mut arbiter)
    .await?;
    let _ = write!(
        text,
        "\n{replica:#?}\n{semi_sync:#?}\nsessions: {sessions:#?}"
    );
    Ok(text)
}
