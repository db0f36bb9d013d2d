//! One way to the database, in a process of its own, so that the kernel's account of CPU time is that way's alone.
//!
//! Its first line of standard input says what to connect to, each further one is a job, and it answers each with a line. It ends when
//! its input does.

use std::io::{Write, stdin, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::wait_until;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::Registry;
use replication::{Account, Endpoint, TlsFiles, connect_options};
use router::{CausalKey, Credentials, Password, Router, RouterConfig};
use serde::{Deserialize, Serialize};
use sqlx::MySqlPool;
use sqlx::mysql::MySqlPoolOptions;
use tokio::task::JoinSet;

use super::query::Query;
use crate::median::quantile;

/// The database of the tables.
const DATABASE: &str = "ledger";

/// For what takes milliseconds on an idle machine, and under callgrind a second.
const SOON: Duration = Duration::from_secs(120);

/// The longest that a statement may take; a server whose CPU is rationed is slow.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// How a client gets to the database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Link {
    /// `&Router`, a new session for each query, as for each request of a web server.
    Router {
        /// All that it may use, in any role.
        servers: Vec<Endpoint>,
    },
    /// `&MySqlPool`: one for reads, one for writes.
    Pools {
        reads: Endpoint,
        writes: Endpoint,
        /// sqlx's `test_before_acquire`, which is on unless it is switched off.
        test_before_acquire: bool,
    },
}

/// What to connect to, and as whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) link: Link,
    /// To each server.
    pub(super) connections_max: u32,
    /// How often a router asks the servers how they are.
    pub(super) probe_interval: Duration,
    pub(super) user: String,
    pub(super) password: String,
    /// The directory with `ca.crt`, `tls.crt` and `tls.key`.
    pub(super) identity: PathBuf,
}

/// The same query again and again, by some tasks at one time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) query: Query,
    pub(super) tasks: u32,
    pub(super) until: Until,
}

/// When a job ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Until {
    /// After this time.
    Over(Duration),
    /// When each task has sent so many.
    Each(u32),
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Queries that were answered.
    pub(super) done: u32,
    /// Queries that were not, or not rightly.
    pub(super) failed: u32,
    /// What the first of those said.
    pub(super) error: Option<String>,
    /// How long it took.
    pub(super) time: Duration,
    /// What this process used of the processors for it, user and kernel.
    pub(super) cpu: Duration,
    /// Of the times to an answer, in microseconds.
    pub(super) median: f64,
    /// The same.
    pub(super) p99: f64,
}

/// What [`Link`] comes to.
#[derive(Clone)]
enum Database {
    Router(Router),
    Pools { reads: MySqlPool, writes: MySqlPool },
}

impl Database {
    async fn connect(setting: &Setting) -> Result<Database> {
        match &setting.link {
            Link::Router { servers } => {
                let credentials = Credentials::new(
                    &setting.user,
                    Password::Fixed(setting.password.clone()),
                    &setting.identity,
                    CausalKey::new(b"nobody else reads these tokens"),
                );
                let config = router_config(servers.clone(), setting);
                let router = Router::connect(config, &credentials, &Registry::new())?;
                // Where there is only a replica, nobody is waited for who cannot come.
                if servers.len() > 1 {
                    router.wait_for_primary(SOON).await?;
                }
                let known = wait_until("the router knows every server", SOON, async || {
                    let known = router.health().servers;
                    known.len() == servers.len() && known.iter().all(|server| server.up)
                });
                known.await?;
                Ok(Database::Router(router))
            }
            Link::Pools {
                reads,
                writes,
                test_before_acquire,
            } => {
                let pool = |endpoint: &Endpoint| {
                    let account = Account {
                        user: setting.user.clone(),
                        password: setting.password.clone(),
                    };
                    let tls = TlsFiles {
                        ca: setting.identity.join("ca.crt"),
                        cert: setting.identity.join("tls.crt"),
                        key: setting.identity.join("tls.key"),
                    };
                    let options = connect_options(endpoint, &account, &tls).database(DATABASE);
                    MySqlPoolOptions::new()
                        .max_connections(setting.connections_max)
                        .test_before_acquire(*test_before_acquire)
                        .connect_with(options)
                };
                Ok(Database::Pools {
                    reads: pool(reads).await?,
                    writes: pool(writes).await?,
                })
            }
        }
    }

    async fn ask(&self, query: Query, number: u32) -> Result<(), sqlx::Error> {
        match (self, query) {
            (Database::Router(router), _) => query.run(number, &router.session(None)).await,
            (Database::Pools { reads, .. }, Query::Point | Query::Ten) => {
                query.run(number, reads).await
            }
            (Database::Pools { writes, .. }, Query::Insert) => query.run(number, writes).await,
        }
    }

    async fn run(&self, job: Job) -> Result<Outcome> {
        let cpu = cpu()?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for task in 0..job.tasks {
            tasks.spawn(repeat(self.clone(), job, begun, task));
        }
        let mut failed = 0;
        let mut error = None;
        let mut times = Vec::new();
        while let Some(share) = tasks.join_next().await {
            let share = share?;
            times.extend(share.times);
            failed += share.failed;
            error = error.or(share.error);
        }
        let time = begun.elapsed();
        let cpu = self::cpu()?.saturating_sub(cpu);
        times.sort_unstable();
        Ok(Outcome {
            done: times.len().try_into()?,
            failed,
            error,
            time,
            cpu,
            median: quantile(&times, 0.5).unwrap_or_default(),
            p99: quantile(&times, 0.99).unwrap_or_default(),
        })
    }
}

/// The one place that says how the router is set up. No bound of time is to be met here but that of a statement that hangs.
fn router_config(servers: Vec<Endpoint>, setting: &Setting) -> RouterConfig {
    let millis = |time: Duration| time.as_millis().try_into().unwrap_or(u64::MAX);
    RouterConfig {
        max_lag_ms: millis(setting.probe_interval * 40),
        statement_timeout_ms: millis(STATEMENT_MAX),
        acquire_timeout_ms: millis(STATEMENT_MAX),
        probe_interval_ms: millis(setting.probe_interval),
        probe_timeout_ms: millis(setting.probe_interval * 8),
        max_connections: setting.connections_max,
        write_reserve: setting.connections_max / 4,
        ..RouterConfig::new(servers, DATABASE)
    }
}

/// What one task did.
#[derive(Default)]
struct Share {
    /// In microseconds, of what was answered.
    times: Vec<u32>,
    failed: u32,
    error: Option<String>,
}

async fn repeat(database: Database, job: Job, begun: Instant, task: u32) -> Share {
    let mut share = Share::default();
    // Each task begins elsewhere.
    let mut number = task.wrapping_mul(1_000_003);
    let mut sent = 0;
    loop {
        let over = match job.until {
            Until::Over(time) => begun.elapsed() >= time,
            Until::Each(queries) => sent >= queries,
        };
        if over {
            return share;
        }
        let asked = Instant::now();
        match database.ask(job.query, number).await {
            Ok(()) => {
                let micros = asked.elapsed().as_micros();
                share.times.push(micros.try_into().unwrap_or(u32::MAX));
            }
            Err(error) => {
                share.failed += 1;
                share.error.get_or_insert_with(|| error.to_string());
            }
        }
        number = number.wrapping_add(1);
        sent += 1;
    }
}

/// What this process has used so far, all of its threads.
fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.try_into()?))
}

/// Does what standard input says, until it ends.
///
/// # Errors
/// When the servers cannot be had, or a line is not understood. A query that fails is told in the answer.
pub(super) async fn serve() -> Result<()> {
    let Some(first) = line().await? else {
        bail!("this is a part of `./stack bench router`, not a command by itself");
    };
    let setting: Setting = serde_json::from_str(&first).context("read what to connect to")?;
    let database = Database::connect(&setting).await?;
    say("ready")?;
    while let Some(line) = line().await? {
        let job: Job = serde_json::from_str(&line).context("read a job")?;
        let outcome = database.run(job).await?;
        ensure!(
            outcome.done + outcome.failed > 0,
            "no query ended within a job"
        );
        say(&serde_json::to_string(&outcome)?)?;
    }
    Ok(())
}

/// The next line of standard input; a thread of its own waits for it.
async fn line() -> Result<Option<String>> {
    let reading = tokio::task::spawn_blocking(|| stdin().lines().next().transpose());
    Ok(reading.await??)
}

fn say(line: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
