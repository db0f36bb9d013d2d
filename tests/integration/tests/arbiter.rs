//! The real arbiter on a real pair.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{
    Account, Direction, Pair, Program, Proxy, Server, Span, TraceStore, free_port, metric,
    wait_for, wait_until,
};
use rand::RngExt;
use serde_json::Value;
use sqlx::{ConnectOptions, Row};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Where nobody takes spans.
const NOBODY: &str = "https://127.0.0.1:1";

/// What a step may take on a busy machine.
const SETTLED: Duration = Duration::from_secs(60);

struct Arbiter {
    program: Program,
    socket: PathBuf,
    environment: Vec<(String, String)>,
}

impl Arbiter {
    fn start(pair: &Pair, directory: &Path) -> Result<Self> {
        Self::start_with(pair, directory, pair.mysql_1().port(), NOBODY)
    }

    /// With mysql-1 reached by another port, which is its replica's way to it as well, and spans sent there.
    fn start_with(pair: &Pair, directory: &Path, port: u16, traces: &str) -> Result<Self> {
        Self::start_linked(pair, directory, [port, port], traces)
    }

    /// With mysql-1 reached by one port, and by another one from its replica.
    fn start_linked(
        pair: &Pair,
        directory: &Path,
        [port, source]: [u16; 2],
        traces: &str,
    ) -> Result<Self> {
        let server = |name: &str, port: u16| {
            format!("{{ name = '{name}', host = '127.0.0.1', port = {port} }}")
        };
        let both = |port: u16| {
            format!(
                "[{}, {}]",
                server("mysql-1", port),
                server("mysql-2", pair.mysql_2().port())
            )
        };
        let identity = pair.identities().of("arbiter").join("current");
        let socket = directory.join("admin.sock");
        let environment: Vec<(String, String)> = [
            ("ADMIN_SOCKET", socket.display().to_string()),
            (
                "STATE_DIRECTORY",
                directory.join("state").display().to_string(),
            ),
            ("IDENTITY", identity.display().to_string()),
            ("SERVERS", both(port)),
            ("SOURCES", both(source)),
            ("TICK_MS", "50".to_owned()),
            // What is to happen before the primary goes on alone, or within a switchover, has its time on a busy machine.
            ("ACKNOWLEDGE_TIMEOUT_MS", "5000".to_owned()),
            ("SWITCHOVER_LIMIT_MS", "20000".to_owned()),
            ("METRICS__LISTEN", "127.0.0.1:0".to_owned()),
            ("TRACES__ENDPOINT", traces.to_owned()),
            ("TRACES__DELAY_MS", "20".to_owned()),
        ]
        .map(|(key, value)| (format!("HOLDFAST_ARBITER__{key}"), value))
        .into();
        let program = Program::spawn("arbiter", Vec::<String>::new(), environment.clone())?;
        Ok(Self {
            program,
            socket,
            environment,
        })
    }

    /// Kills it, and waits until the system has taken back what it held, its lock among that.
    async fn killed(mut self) -> Result<()> {
        self.program.kill()?;
        self.program.exited(SETTLED).await.map(drop)
    }

    /// Runs a command of the program beside the running one, as `docker compose exec` does.
    async fn ask(&self, command: &[&str]) -> Result<Output> {
        let mut program = tokio::process::Command::new(harness::path_of("arbiter")?);
        program.args(command).envs(self.environment.clone());
        Ok(program.output().await?)
    }

    /// Runs a command that has to be granted, and returns what it says.
    async fn granted(&self, command: &[&str]) -> Result<String> {
        let asked = self.ask(command).await?;
        ensure!(
            asked.status.success(),
            "arbiter {command:?}: {}\n{}",
            String::from_utf8_lossy(&asked.stderr),
            self.program.log().join("\n")
        );
        Ok(String::from_utf8(asked.stdout)?)
    }

    /// Runs a command that has to be refused, and returns why it is.
    async fn refused(&self, command: &[&str]) -> Result<String> {
        let asked = self.ask(command).await?;
        ensure!(!asked.status.success(), "arbiter {command:?} was granted");
        Ok(String::from_utf8(asked.stderr)?)
    }

    /// Waits until this server is the primary, and open.
    async fn primary_is(&self, server: &str) -> Result<Value> {
        self.until(&format!("{server} is open as the primary"), |s| {
            s["primary"] == server && s["open"] == true && s["phase"] == "steady"
        })
        .await
    }

    /// Waits until only this server is in sync, and open.
    async fn alone_is(&self, server: &str) -> Result<Value> {
        self.until(&format!("{server} is alone in sync"), |s| {
            s["in_sync"] == serde_json::json!([server]) && s["open"] == true
        })
        .await
    }

    /// The value of a metric, by its name and labels as they are written.
    async fn metric(&self, name: &str) -> Result<u64> {
        let text = chassis::admin::call(&self.socket, "metrics", SETTLED).await?;
        let text: String = serde_json::from_str(&text)?;
        metric(&text, name)
    }

    async fn status(&self) -> Option<Value> {
        let asked = self.ask(&["status", "--json"]).await.ok()?;
        serde_json::from_slice(&asked.stdout).ok()
    }

    /// What `healthcheck` says; empty if all is well.
    async fn illness(&self) -> Result<String> {
        let asked = self.ask(&["healthcheck"]).await?;
        let said = String::from_utf8(asked.stdout)?;
        let expected = if said.is_empty() { 0 } else { 1 };
        ensure!(
            asked.status.code() == Some(expected),
            "it ended with {}, and said: {said}{}",
            asked.status,
            String::from_utf8_lossy(&asked.stderr)
        );
        Ok(said)
    }

    async fn is_healthy(&self) -> Result<()> {
        let mut last = None;
        let healthy = wait_until("it is healthy", SETTLED, async || {
            last = Some(self.illness().await);
            matches!(&last, Some(Ok(illness)) if illness.is_empty())
        });
        healthy.await.with_context(|| format!("{last:?}"))
    }

    /// Waits until the status is as wanted, and returns it.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = None;
        let found = wait_for(what, SETTLED, async || {
            last = self.status().await;
            last.clone().filter(&wanted)
        })
        .await;
        found.with_context(|| {
            format!(
                "the last status was {last:?}, and the log:\n{}",
                self.program.log().join("\n")
            )
        })
    }

    async fn open(&self) -> Result<Value> {
        self.until("the pair is open and acknowledging", |s| {
            s["phase"] == "steady"
                && s["open"] == true
                && s["acknowledging"] == true
                && s["in_sync"] == serde_json::json!(["mysql-1", "mysql-2"])
                && s["waits"] == serde_json::json!([])
                && s["refusals"] == serde_json::json!([])
        })
        .await
    }
}

async fn open_pair() -> Result<(Pair, TempDir, Arbiter)> {
    let pair = Pair::start().await?;
    let directory = tempfile::tempdir()?;
    let arbiter = Arbiter::start(&pair, directory.path())?;
    arbiter.open().await?;
    make_table(&pair).await?;
    Ok((pair, directory, arbiter))
}

async fn make_table(pair: &Pair) -> Result<()> {
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
    sqlx::raw_sql("CREATE DATABASE ledger; CREATE TABLE ledger.written (id INT PRIMARY KEY)")
        .execute(&mut migrate)
        .await?;
    Ok(())
}

async fn write(server: &Server, id: i32) -> Result<()> {
    let mut app = server.connect(Account::App).await?;
    sqlx::query("INSERT INTO ledger.written VALUES (?)")
        .bind(id)
        .execute(&mut app)
        .await?;
    Ok(())
}

async fn count(server: &Server) -> Result<i64> {
    let mut arbiter = server.connect(Account::App).await?;
    Ok(sqlx::query("SELECT COUNT(*) FROM ledger.written")
        .fetch_one(&mut arbiter)
        .await?
        .try_get(0)?)
}

#[tokio::test]
async fn an_empty_pair_is_opened_replicates_over_tls_and_is_published() -> Result<()> {
    let (pair, directory, arbiter) = open_pair().await?;
    let status = arbiter.open().await?;
    ensure!(
        status["epoch"] == 1 && status["primary"] == "mysql-1",
        "{status}"
    );
    ensure!(
        status["in_sync"] == serde_json::json!(["mysql-1", "mysql-2"]),
        "{status}"
    );

    write(pair.mysql_1(), 1).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    ensure!(count(pair.mysql_2()).await? == 1);
    let refused = write(pair.mysql_2(), 2)
        .await
        .err()
        .context("the replica took a write")?;
    ensure!(harness::error_number(&refused) == Some(1290), "{refused:#}");

    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let semi_sync = replication::semi_sync_facts(&mut primary).await?;
    ensure!(
        semi_sync.source_enabled && semi_sync.source_active && semi_sync.clients == 1,
        "{semi_sync:?}"
    );
    let row = replication::cluster_row(&mut primary)
        .await?
        .context("roles are published")?;
    ensure!(
        row.epoch == 1 && row.primary_server == "mysql-1" && row.phase == "steady",
        "{row:?}"
    );
    ensure!(directory.path().join("state/state").exists());
    let mut replica = pair.mysql_2().connect(Account::Arbiter).await?;
    let tls: String = sqlx::query(
        "SELECT SSL_ALLOWED FROM performance_schema.replication_connection_configuration",
    )
    .fetch_one(&mut replica)
    .await?
    .try_get(0)?;
    ensure!(tls == "YES", "the replica connects without TLS");
    // Heartbeats can be told from the app's writes by their tag.
    let executed = replication::server_facts(&mut primary).await?.executed;
    ensure!(executed.to_string().contains(":arbiter:"), "{executed}");
    Ok(())
}

#[tokio::test]
async fn an_arbiter_that_is_killed_changes_nothing_and_goes_on_when_it_is_back() -> Result<()> {
    let (pair, directory, arbiter) = open_pair().await?;
    arbiter.killed().await?;
    for id in 0..20 {
        write(pair.mysql_1(), id).await?;
    }
    let arbiter = Arbiter::start(&pair, directory.path())?;
    let status = arbiter.open().await?;
    ensure!(status["epoch"] == 1, "{status}");
    ensure!(count(pair.mysql_1()).await? == 20);
    Ok(())
}

#[tokio::test]
async fn a_primary_that_is_killed_is_replaced_and_comes_back_as_the_replica() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    for id in 0..50 {
        write(pair.mysql_1(), id).await?;
    }
    pair.mysql_1().kill().await?;
    let status = arbiter.primary_is("mysql-2").await?;
    ensure!(status["epoch"] == 2, "{status}");
    ensure!(
        count(pair.mysql_2()).await? == 50,
        "the replica did not have every acknowledged row"
    );
    write(pair.mysql_2(), 50).await?;
    pair.mysql_1().restart().await?;
    let status = arbiter.open().await?;
    ensure!(
        status["primary"] == "mysql-2" && status["epoch"] == 2,
        "{status}"
    );
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    ensure!(count(pair.mysql_1()).await? == 51);
    let refused = write(pair.mysql_1(), 51).await.err();
    let refused = refused.context("the old primary took a write")?;
    ensure!(harness::error_number(&refused) == Some(1290), "{refused:#}");
    let events = arbiter.granted(&["events"]).await?;
    ensure!(
        events.contains("save(epoch 2, primary mysql-2, in sync mysql-2, steady)"),
        "{events}"
    );
    Ok(())
}

/// Nobody had to be waited for but for the detection, and nothing was acknowledged before it was recorded that the primary is alone.
#[tokio::test]
async fn without_its_replica_the_primary_goes_on_alone_until_it_is_back() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    pair.mysql_2().kill().await?;
    let waiting = waiting_write(pair.mysql_1(), 1).await?;
    tokio::time::timeout(SETTLED, waiting)
        .await
        .context("the commit was not released")???;
    arbiter.alone_is("mysql-1").await?;
    arbiter.is_healthy().await?;
    let said = arbiter.granted(&["status"]).await?;
    ensure!(said.contains("writes open, on one server alone"), "{said}");
    write(pair.mysql_1(), 2).await?;
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let row = replication::cluster_row(&mut primary).await?;
    let row = row.context("roles are published")?;
    ensure!(row.epoch == 1 && row.in_sync == ["mysql-1"], "{row:?}");
    pair.mysql_2().restart().await?;
    arbiter.open().await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    ensure!(count(pair.mysql_2()).await? == 2);
    Ok(())
}

#[tokio::test]
async fn after_both_servers_restarted_the_pair_is_opened_again() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    write(pair.mysql_1(), 1).await?;
    // The replica first: the primary alone would be replaced.
    pair.mysql_2().kill().await?;
    pair.mysql_1().kill().await?;
    arbiter
        .until("both are away", |s| {
            s["servers"]
                .as_array()
                .is_some_and(|all| all.iter().all(|x| x["reachable"] == false))
        })
        .await?;
    pair.mysql_2().restart().await?;
    pair.mysql_1().restart().await?;
    arbiter.open().await?;
    ensure!(count(pair.mysql_1()).await? == 1);
    write(pair.mysql_1(), 2).await
}

#[tokio::test]
async fn a_damaged_state_and_a_second_arbiter_are_refused() -> Result<()> {
    let (pair, directory, arbiter) = open_pair().await?;
    let mut second = Arbiter::start(&pair, directory.path())?.program;
    ensure!(!second.exited(SETTLED).await?.success());
    ensure!(
        second
            .log()
            .iter()
            .any(|line| line.contains("another arbiter holds the lock")),
        "{:?}",
        second.log()
    );

    arbiter.killed().await?;
    let state = directory.path().join("state/state");
    let text = std::fs::read_to_string(&state)?.replace("mysql-1", "mysql-2");
    std::fs::write(&state, text)?;
    let mut damaged = Arbiter::start(&pair, directory.path())?.program;
    ensure!(!damaged.exited(SETTLED).await?.success());
    ensure!(
        damaged
            .log()
            .iter()
            .any(|line| line.contains("its checksum does not fit")),
        "{:?}",
        damaged.log()
    );
    Ok(())
}

/// A commit that waits: it ends when it is acknowledged, or with its connection.
async fn waiting_write(server: &Server, id: i32) -> Result<JoinHandle<Result<(), sqlx::Error>>> {
    let mut app = server.connect(Account::App).await?;
    let mut look = server.connect(Account::Arbiter).await?;
    let writing = tokio::spawn(async move {
        sqlx::query("INSERT INTO ledger.written VALUES (?)")
            .bind(id)
            .execute(&mut app)
            .await
            .map(drop)
    });
    wait_until("the commit waits", SETTLED, async || {
        // One commit waits for the acknowledgement, those after it wait for that one; ours need not be the first.
        let waits = "SELECT COUNT(*) FROM performance_schema.processlist WHERE USER = 'app'
             AND STATE IN ('Waiting for semi-sync ACK from replica', 'waiting for handler commit')";
        sqlx::query_scalar::<_, i64>(waits)
            .fetch_one(&mut look)
            .await
            .is_ok_and(|waiting| waiting == 1)
    })
    .await?;
    ensure!(
        !writing.is_finished(),
        "a commit was acknowledged that no replica has"
    );
    Ok(writing)
}

#[tokio::test]
async fn an_arbiter_that_is_there_before_the_servers_waits_and_says_what_for() -> Result<()> {
    let pair = Pair::start().await?;
    pair.mysql_2().kill().await?;
    let directory = tempfile::tempdir()?;
    let arbiter = Arbiter::start(&pair, directory.path())?;
    arbiter
        .until("it waits for mysql-2", |s| {
            s["epoch"] == 0
                && s["waits"][0]
                    .as_str()
                    .is_some_and(|wait| wait.starts_with("mysql-2 (new) does not answer"))
        })
        .await?;
    let illness = arbiter.illness().await?;
    ensure!(illness.contains("mysql-2 (new)"), "{illness}");
    ensure!(!directory.path().join("state/state").exists());
    pair.mysql_2().restart().await?;
    arbiter.open().await?;
    arbiter.is_healthy().await
}

#[tokio::test]
async fn an_arbiter_that_is_killed_again_and_again_while_it_sets_up_a_pair_gets_there() -> Result<()>
{
    let pair = Pair::start().await?;
    let directory = tempfile::tempdir()?;
    let mut lives = Vec::new();
    for _ in 0..12 {
        // From its first look to a little after the pair is open.
        let life = Duration::from_millis(rand::rng().random_range(20..700));
        lives.push(life);
        let mut arbiter = Arbiter::start(&pair, directory.path())?;
        tokio::time::sleep(life).await;
        arbiter.program.kill()?;
        arbiter.program.exited(SETTLED).await?;
    }
    let arbiter = Arbiter::start(&pair, directory.path())?;
    let opened = arbiter.open().await;
    let status = opened.with_context(|| format!("it lived for {lives:?}"))?;
    ensure!(status["epoch"] == 1, "{status}");
    make_table(&pair).await?;
    write(pair.mysql_1(), 1).await
}

#[tokio::test]
async fn a_pair_with_a_past_is_not_touched_without_a_state() -> Result<()> {
    let pair = Pair::replicating().await?;
    let directory = tempfile::tempdir()?;
    let arbiter = Arbiter::start(&pair, directory.path())?;
    let refuses = |s: &Value| {
        s["refusals"]
            .to_string()
            .contains("only an empty pair is set up")
    };
    arbiter.until("it refuses", refuses).await?;
    ensure!(!directory.path().join("state/state").exists());
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let facts = replication::server_facts(&mut primary).await?;
    ensure!(!facts.read_only && !facts.offline_mode, "{facts:?}");
    Ok(())
}

#[tokio::test]
async fn under_load_a_primary_that_is_killed_is_replaced_without_the_loss_of_an_acknowledged_row()
-> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    let writers: Vec<JoinHandle<Vec<i32>>> = (0..8)
        .map(|writer| {
            let options = pair.mysql_1().options(Account::App)?;
            Ok(tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                let Ok(mut app) = sqlx::ConnectOptions::connect(&options).await else {
                    return acknowledged;
                };
                for id in (writer * 100_000)..(writer + 1) * 100_000 {
                    let insert = sqlx::query("INSERT INTO ledger.written VALUES (?)").bind(id);
                    if insert.execute(&mut app).await.is_err() {
                        break;
                    }
                    acknowledged.push(id);
                }
                acknowledged
            }))
        })
        .collect::<Result<_>>()?;
    wait_until("some rows are written", SETTLED, async || {
        count(pair.mysql_1()).await.is_ok_and(|rows| rows > 200)
    })
    .await?;
    pair.mysql_1().kill().await?;
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await?);
    }
    arbiter.primary_is("mysql-2").await?;
    has_all(pair.mysql_2(), &acknowledged).await?;
    // What it had committed and nobody had acknowledged it has alone, most likely: then its data is made anew.
    pair.mysql_1().restart().await?;
    arbiter.open().await?;
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    has_all(pair.mysql_1(), &acknowledged).await?;
    ensure!(count(pair.mysql_1()).await? == count(pair.mysql_2()).await?);
    Ok(())
}

async fn has_all(server: &Server, acknowledged: &[i32]) -> Result<()> {
    let mut app = server.connect(Account::App).await?;
    let rows: Vec<i32> = sqlx::query_scalar("SELECT id FROM ledger.written")
        .fetch_all(&mut app)
        .await?;
    let rows: std::collections::HashSet<i32> = rows.into_iter().collect();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !rows.contains(id))
        .collect();
    ensure!(lost.is_empty(), "{} lost {lost:?}", server.name());
    Ok(())
}

/// A commit that no replica has is there after a crash. Nobody was told of it; it may stay, and then the replica gets it too.
#[tokio::test]
async fn a_primary_that_crashed_with_a_commit_of_its_own_is_opened_alone_when_its_replica_stays_away()
-> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    pair.mysql_2().kill().await?;
    let writing = waiting_write(pair.mysql_1(), 1).await?;
    pair.mysql_1().kill().await?;
    ensure!(writing.await?.is_err());
    pair.mysql_1().restart().await?;
    arbiter.alone_is("mysql-1").await?;
    ensure!(count(pair.mysql_1()).await? == 1);
    pair.mysql_2().restart().await?;
    let status = arbiter.open().await?;
    ensure!(status["epoch"] == 1, "{status}");
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    ensure!(count(pair.mysql_2()).await? == 1);
    Ok(())
}

/// The commit that nobody was told of is on the old primary alone. It is not brought over, and not lost without a word.
#[tokio::test]
async fn a_replaced_primary_with_a_commit_of_its_own_is_made_anew_and_the_commit_is_saved()
-> Result<()> {
    let pair = Pair::start().await?;
    let link = Proxy::start(([127, 0, 0, 1], pair.mysql_1().port()).into()).await?;
    let directory = tempfile::tempdir()?;
    let ports = [pair.mysql_1().port(), link.port()];
    let arbiter = Arbiter::start_linked(&pair, directory.path(), ports, NOBODY)?;
    arbiter.open().await?;
    make_table(&pair).await?;
    write(pair.mysql_1(), 1).await?;
    link.cut();
    let writing = waiting_write(pair.mysql_1(), 4711).await?;
    pair.mysql_1().kill().await?;
    ensure!(writing.await?.is_err());
    link.heal();
    arbiter.primary_is("mysql-2").await?;
    ensure!(count(pair.mysql_2()).await? == 1);
    write(pair.mysql_2(), 2).await?;
    pair.mysql_1().restart().await?;
    let status = arbiter.open().await?;
    ensure!(status["primary"] == "mysql-2", "{status}");
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    has_all(pair.mysql_1(), &[1, 2]).await?;
    ensure!(count(pair.mysql_1()).await? == 2, "the commit came back");
    let files = arbiter.granted(&["discarded"]).await?;
    let name = files.lines().next().context("nothing was saved")?;
    let saved = arbiter.granted(&["discarded", name]).await?;
    ensure!(
        saved.contains("4711") && saved.contains("INSERT INTO ledger.written"),
        "{saved}"
    );
    Ok(())
}

/// The replica has the row and the link died before its acknowledgement: only a later transaction's acknowledgement frees the commit.
#[tokio::test]
async fn a_commit_whose_acknowledgement_was_lost_with_the_link_is_freed() -> Result<()> {
    let pair = Pair::start().await?;
    let proxy = Proxy::start(([127, 0, 0, 1], pair.mysql_1().port()).into()).await?;
    let directory = tempfile::tempdir()?;
    let arbiter = Arbiter::start_with(&pair, directory.path(), proxy.port(), NOBODY)?;
    arbiter.open().await?;
    make_table(&pair).await?;

    proxy.freeze(Direction::ToServer);
    let writing = waiting_write(pair.mysql_1(), 1).await?;
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let mut replica = pair.mysql_2().connect(Account::Arbiter).await?;
    wait_until("the replica has received the row", SETTLED, async || {
        // The row is in the log, not in gtid_executed: it is the next one after those.
        let executed = replication::server_facts(&mut primary).await;
        let received = replication::replica_facts(&mut replica).await;
        match (executed, received) {
            (Ok(facts), Ok(Some(channel))) => !channel
                .received
                .without_tag("arbiter")
                .subtract(&facts.executed)
                .is_empty(),
            _ => false,
        }
    })
    .await?;
    proxy.cut();
    ensure!(!writing.is_finished(), "acknowledged through a frozen link");
    proxy.heal();
    tokio::time::timeout(SETTLED, writing)
        .await
        .context("the commit was not freed")???;
    arbiter.open().await?;
    Ok(())
}

#[tokio::test]
async fn a_replica_that_hangs_is_gone_on_without_until_it_answers_again() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    pair.mysql_2().freeze().await?;
    let writing = waiting_write(pair.mysql_1(), 1).await?;
    tokio::time::timeout(SETTLED, writing)
        .await
        .context("the commit was not released")???;
    arbiter.alone_is("mysql-1").await?;
    pair.mysql_2().thaw().await?;
    arbiter.open().await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    ensure!(count(pair.mysql_2()).await? == 1);
    Ok(())
}

/// It comes back open, with a commit that waits: it was deposed, and does not know.
#[tokio::test]
async fn a_primary_that_hangs_is_replaced_and_closed_when_it_goes_on() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    write(pair.mysql_1(), 1).await?;
    let mut held = pair.mysql_1().connect(Account::App).await?;
    pair.mysql_1().freeze().await?;
    let late = tokio::spawn(async move {
        let insert = sqlx::query("INSERT INTO ledger.written VALUES (4711)");
        insert.execute(&mut held).await.map(drop)
    });
    arbiter.primary_is("mysql-2").await?;
    write(pair.mysql_2(), 2).await?;
    pair.mysql_1().thaw().await?;
    let told = tokio::time::timeout(SETTLED, late).await;
    let told = told.context("the deposed primary keeps its clients")??;
    ensure!(told.is_err(), "a deposed primary acknowledged a commit");
    let status = arbiter.open().await?;
    ensure!(
        status["primary"] == "mysql-2" && status["epoch"] == 2,
        "{status}"
    );
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    has_all(pair.mysql_1(), &[1, 2]).await?;
    ensure!(count(pair.mysql_1()).await? == 2);
    Ok(())
}

#[tokio::test]
async fn a_switchover_by_command_loses_nothing_and_goes_back_as_well() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    write(pair.mysql_1(), 1).await?;
    for (epoch, from, to) in [
        (2, pair.mysql_1(), pair.mysql_2()),
        (3, pair.mysql_2(), pair.mysql_1()),
    ] {
        let said = arbiter.granted(&["switchover"]).await?;
        ensure!(
            said.starts_with(&format!("{} is the primary of epoch {epoch}", to.name())),
            "{said}"
        );
        write(to, epoch).await?;
        let status = arbiter.open().await?;
        ensure!(
            status["epoch"] == epoch && status["primary"] == to.name(),
            "{status}"
        );
        pair.caught_up(to, from).await?;
        ensure!(count(from).await? == count(to).await?);
    }
    pair.mysql_2().kill().await?;
    arbiter.alone_is("mysql-1").await?;
    let refusal = arbiter.refused(&["switchover"]).await?;
    ensure!(refusal.contains("mysql-2"), "{refusal}");
    Ok(())
}

#[tokio::test]
async fn a_server_in_maintenance_may_be_away_and_comes_back() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    let refusal = arbiter
        .refused(&["maintenance", "begin", "mysql-1"])
        .await?;
    ensure!(refusal.contains("./stack switchover"), "{refusal}");
    arbiter
        .granted(&["maintenance", "begin", "mysql-2"])
        .await?;
    arbiter
        .until("it is published", |s| {
            s["phase"] == "maintenance mysql-2" && s["in_sync"] == serde_json::json!(["mysql-1"])
        })
        .await?;
    pair.mysql_2().stop().await?;
    write(pair.mysql_1(), 1).await?;
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let row = replication::cluster_row(&mut primary).await?;
    let row = row.context("roles are published")?;
    ensure!(
        row.published() == replication::Published::Maintenance("mysql-2"),
        "{row:?}"
    );
    pair.mysql_2().restart().await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let status = arbiter.status().await.context("no status")?;
    ensure!(
        status["in_sync"] == serde_json::json!(["mysql-1"]),
        "{status}"
    );
    arbiter.granted(&["maintenance", "end", "mysql-2"]).await?;
    arbiter.open().await.map(drop)
}

#[tokio::test]
async fn a_stale_replica_is_promoted_only_by_a_person_who_accepts_the_loss() -> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    write(pair.mysql_1(), 1).await?;
    pair.mysql_2().kill().await?;
    arbiter.alone_is("mysql-1").await?;
    write(pair.mysql_1(), 2).await?;
    let early = arbiter.refused(&["force-promote", "mysql-2"]).await?;
    ensure!(early.contains("mysql-1 answers"), "{early}");
    pair.mysql_1().kill().await?;
    pair.mysql_2().restart().await?;
    arbiter
        .until("it refuses to promote mysql-2", |s| {
            s["open"] == false
                && s["refusals"]
                    .to_string()
                    .contains("arbiter force-promote mysql-2")
        })
        .await?;
    let loss = arbiter.refused(&["force-promote", "mysql-2"]).await?;
    ensure!(
        loss.contains("would be lost") && loss.contains("--accept-loss"),
        "{loss}"
    );
    arbiter
        .granted(&["force-promote", "mysql-2", "--accept-loss"])
        .await?;
    let status = arbiter.primary_is("mysql-2").await?;
    ensure!(status["epoch"] == 2, "{status}");
    has_all(pair.mysql_2(), &[1]).await?;
    ensure!(count(pair.mysql_2()).await? == 1);
    pair.mysql_1().restart().await?;
    arbiter.open().await?;
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    ensure!(count(pair.mysql_1()).await? == 1);
    let files = arbiter.granted(&["discarded"]).await?;
    ensure!(!files.is_empty(), "what was lost was not saved");
    Ok(())
}

#[tokio::test]
async fn a_running_pair_is_adopted_by_command() -> Result<()> {
    let pair = Pair::replicating().await?;
    let directory = tempfile::tempdir()?;
    let arbiter = Arbiter::start(&pair, directory.path())?;
    arbiter
        .until("it refuses", |s| {
            s["refusals"].to_string().contains("arbiter adopt SERVER")
        })
        .await?;
    let refusal = arbiter.refused(&["adopt", "mysql-2"]).await?;
    ensure!(refusal.contains("replicates from"), "{refusal}");
    arbiter.granted(&["adopt", "mysql-1"]).await?;
    let status = arbiter.open().await?;
    ensure!(
        status["primary"] == "mysql-1" && status["epoch"] == 2,
        "{status}"
    );
    Ok(())
}

#[tokio::test]
async fn a_clean_stop_of_both_servers_and_the_arbiter_is_no_end() -> Result<()> {
    let (pair, directory, mut arbiter) = open_pair().await?;
    write(pair.mysql_1(), 1).await?;
    arbiter.program.terminate()?;
    ensure!(arbiter.program.exited(SETTLED).await?.success());
    pair.mysql_1().stop().await?;
    pair.mysql_2().stop().await?;
    let arbiter = Arbiter::start(&pair, directory.path())?;
    pair.mysql_1().restart().await?;
    pair.mysql_2().restart().await?;
    arbiter.open().await?;
    ensure!(count(pair.mysql_1()).await? == 1);
    write(pair.mysql_1(), 2).await
}

/// The steps that the log tells of, by their trace and in their order; a state that is saved is one.
fn steps(arbiter: &Arbiter) -> BTreeMap<String, Vec<(String, String)>> {
    let mut steps: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for line in arbiter.program.log() {
        let Ok(line) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let step = match line["message"].as_str() {
            Some("step") => (text("step"), text("server")),
            Some("state") => ("save".to_owned(), String::new()),
            _ => continue,
        };
        steps.entry(text("trace_id")).or_default().push(step);
    }
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_changes_something_is_a_trace_and_a_round_that_does_not_is_none()
-> Result<()> {
    let pair = Pair::start().await?;
    let door = pair.identities().of("fw-telemetry").join("current");
    let store = TraceStore::start(&door, free_port()?).await?;
    let directory = tempfile::tempdir()?;
    let port = pair.mysql_1().port();
    let arbiter = Arbiter::start_with(&pair, directory.path(), port, &store.endpoint())?;
    arbiter.open().await?;

    let decisions = steps(&arbiter);
    ensure!(decisions.len() > 3, "{decisions:#?}");
    let mut opening = None;
    let mut spans_in_all = 0;
    for (trace, steps) in decisions {
        let mut spans = store.spans(&trace, steps.len() + 1).await?;
        spans_in_all += spans.len();
        spans.sort_by_key(|span| span.text("startTimeUnixNano").to_owned());
        let root = spans.iter().position(|span| span.name() == "decision");
        let root = spans.remove(root.context("no decision")?);
        ensure!(
            root.parent().is_empty() && !root.has_failed() && root.instance == "arbiter",
            "{root:#?}"
        );
        let of_spans: Vec<_> = spans
            .iter()
            .map(|span| (span.name().to_owned(), span.attribute("server.address")))
            .collect();
        ensure!(of_spans == steps, "{of_spans:#?} instead of {steps:#?}");
        let names: Vec<_> = steps.into_iter().map(|(name, _)| name).collect();
        ensure!(root.attribute("arbiter.steps") == names.join(", "));
        for span in &spans {
            ensure!(span.parent() == root.id(), "{span:#?}");
            let saves = span.name() == "save";
            ensure!(span.is(Span::CLIENT) != saves, "{span:#?}");
            let system = span.attribute("db.system.name");
            ensure!(system == if saves { "" } else { "mysql" }, "{span:#?}");
        }
        let password = pair.identities().password("replication")?;
        ensure!(!format!("{spans:?}").contains(&password), "a password");
        if names.iter().any(|name| name == "allow_writes") {
            opening = Some(root);
        }
    }
    // The evidence: what was so when the last door was opened.
    let opening = opening.context("nobody opened the primary")?;
    for (attribute, value) in [
        ("arbiter.epoch", "1"),
        ("arbiter.primary", "mysql-1"),
        ("arbiter.in_sync", "mysql-1, mysql-2"),
        ("arbiter.acknowledging", "true"),
    ] {
        ensure!(opening.attribute(attribute) == value, "{opening:#?}");
    }
    let saw: Value = serde_json::from_str(&opening.attribute("arbiter.saw.mysql-1"))?;
    ensure!(saw["read_only"] == true && saw["super_read_only"] == false);
    let saw: Value = serde_json::from_str(&opening.attribute("arbiter.saw.mysql-2"))?;
    ensure!(saw["receiver"] == "ON" && saw["role"] == "replica", "{saw}");

    // Twenty rounds in which nothing is to be done.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = arbiter.metric("arbiter_spans_exported_total").await?;
    ensure!(
        sent == spans_in_all as u64,
        "{sent} spans, not {spans_in_all}"
    );
    Ok(())
}

#[tokio::test]
async fn a_login_that_a_server_refuses_for_its_certificate_is_counted_and_a_restart_is_not()
-> Result<()> {
    let (pair, _directory, arbiter) = open_pair().await?;
    let counted = async |expected: [u64; 2]| {
        let mut last = Vec::new();
        let met = wait_until("refusals are counted", SETTLED, async || {
            last.clear();
            for server in ["mysql-1", "mysql-2"] {
                let name = format!("arbiter_mysql_access_denied_total{{server=\"{server}\"}}");
                last.push(arbiter.metric(&name).await.unwrap_or(u64::MAX));
            }
            last == expected
        });
        met.await
            .with_context(|| format!("{last:?} instead of {expected:?}"))
    };
    let refused = async || {
        let server = pair.mysql_2();
        let stranger = server.options_with_certificate_of(Account::App, "balancer-1")?;
        let refused = stranger.connect().await.err();
        let refused = refused.context("a balancer logged in as a web server")?;
        let number = replication::errors::number(&refused);
        ensure!(
            number == Some(replication::errors::ACCESS_DENIED),
            "{refused:?}"
        );
        Ok(())
    };
    counted([0, 0]).await?;
    refused().await?;
    refused().await?;
    counted([0, 2]).await?;
    pair.mysql_2().kill().await?;
    pair.mysql_2().restart().await?;
    arbiter.open().await?;
    counted([0, 2]).await?;
    refused().await?;
    counted([0, 3]).await
}
