//! The arbiter as a process that is started again whenever it ends, as the stack's engine does it.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Program, wait_for, wait_until};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What a step may take on a busy machine.
pub const SETTLED: Duration = Duration::from_secs(60);

/// How soon it is looked after.
const WATCH: Duration = Duration::from_millis(20);

/// Between its end and its next life.
const RESTART: Duration = Duration::from_millis(200);

/// Between two questions to it, each of which is a process.
const ASK: Duration = Duration::from_millis(100);

/// How long a command may take.
const COMMAND_MAX: Duration = Duration::from_secs(90);

/// How often it may end by itself before nobody starts it again: it will not do better.
const DEATHS_MAX: usize = 20;

/// What it ends with at a failpoint, and when it is killed; their numbers on every Linux.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// A step that its log tells of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Its name: `save`, `publish`, …
    pub name: String,
    /// The server that it was done to; empty for `save`.
    pub server: String,
}

/// One end of it.
#[derive(Clone, Debug)]
pub struct Death {
    /// The failpoint of that life; empty if it had none.
    pub failpoint: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Death {
    /// Whether it died where this failpoint is.
    pub fn is_at(&self, failpoint: &str) -> bool {
        !failpoint.is_empty()
            && self.failpoint == failpoint
            && self.status.signal() == Some(SIGABRT)
    }

    /// Whether it was killed, or told to die there; else it has ended by itself.
    pub fn is_meant(&self) -> bool {
        self.status.signal() == Some(SIGKILL) || self.is_at(&self.failpoint)
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failpoint.as_str() {
            "" => write!(f, "{}", self.status),
            failpoint => write!(f, "{} with the failpoint {failpoint}", self.status),
        }
    }
}

/// The process, kept alive.
#[derive(Debug)]
pub struct Arbiter {
    shared: Arc<Shared>,
    state: PathBuf,
    keeping: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    environment: Vec<(String, String)>,
    life: Mutex<Life>,
}

#[derive(Debug)]
struct Life {
    program: Option<Program>,
    /// Of the life that is.
    failpoint: String,
    /// Of the life that comes next.
    next_failpoint: String,
    /// It has ended, and its last lines are being read.
    ending: bool,
    /// Whether it is to be started again.
    wanted: bool,
    /// Ends that nobody here has caused.
    unprovoked: usize,
    deaths: Vec<Death>,
    /// What earlier lives have written.
    log: Vec<String>,
}

impl Arbiter {
    /// Starts it with this configuration (`HOLDFAST_ARBITER__KEY`, without the prefix), its state and its socket below the directory.
    pub fn start(directory: &Path, configuration: &[(&str, String)]) -> Result<Arbiter> {
        let state = directory.join("state");
        let own = [
            (
                "ADMIN_SOCKET",
                directory.join("admin.sock").display().to_string(),
            ),
            ("STATE_DIRECTORY", state.display().to_string()),
            ("METRICS__LISTEN", "127.0.0.1:0".to_owned()),
            ("TRACES__ENABLED", "false".to_owned()),
        ];
        let all = own.iter().chain(configuration);
        let environment = all
            .map(|(key, value)| (format!("HOLDFAST_ARBITER__{key}"), value.clone()))
            .collect();
        let life = Life {
            program: None,
            failpoint: String::new(),
            next_failpoint: String::new(),
            ending: false,
            wanted: true,
            unprovoked: 0,
            deaths: Vec::new(),
            log: Vec::new(),
        };
        let shared = Arc::new(Shared {
            environment,
            life: Mutex::new(life),
        });
        shared.spawn_if_wanted()?;
        let keeping = tokio::spawn(keep(Arc::clone(&shared)));
        Ok(Arbiter {
            shared,
            state,
            keeping,
        })
    }

    /// Where its state is.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// SIGKILL; it is started again.
    pub fn kill(&self) -> Result<()> {
        let mut life = self.shared.life();
        life.unprovoked = 0;
        let Some(program) = &life.program else {
            return Ok(());
        };
        program.kill()
    }

    /// SIGKILL, and it stays away until [`resume`](Arbiter::resume).
    pub async fn stop(&self) -> Result<()> {
        self.shared.life().wanted = false;
        self.kill()?;
        wait_until("the arbiter has ended", SETTLED, async || {
            let life = self.shared.life();
            life.program.is_none() && !life.ending
        })
        .await
    }

    /// Takes [`stop`](Arbiter::stop) back.
    pub fn resume(&self) {
        let mut life = self.shared.life();
        life.wanted = true;
        life.unprovoked = 0;
    }

    /// Starts it anew with a failpoint: `before:publish`, `after:save#2`. The life after the one that has ended there has none.
    pub async fn arm(&self, failpoint: &str) -> Result<()> {
        self.stop().await?;
        failpoint.clone_into(&mut self.shared.life().next_failpoint);
        self.resume();
        self.answers().await
    }

    /// Takes a failpoint back that was not reached.
    pub async fn disarm(&self) -> Result<()> {
        if self.shared.life().failpoint.is_empty() {
            return Ok(());
        }
        self.stop().await?;
        self.resume();
        self.answers().await
    }

    /// Waits until it answers.
    pub async fn answers(&self) -> Result<()> {
        wait_until("the arbiter answers", SETTLED, async || {
            self.status().await.is_some()
        })
        .await
        .with_context(|| self.log_from(0).join("\n"))
    }

    /// How its lives have ended so far.
    pub fn deaths(&self) -> Vec<Death> {
        self.shared.life().deaths.clone()
    }

    /// That it has never ended by itself: the next life may have made up for it, and nobody would notice.
    pub fn has_ended_as_meant(&self) -> Result<()> {
        match self.deaths().iter().find(|death| !death.is_meant()) {
            Some(death) => bail!("the arbiter has ended by itself: {death}"),
            None => Ok(()),
        }
    }

    /// Runs a command of the program beside the running one, as `docker compose exec` does.
    pub async fn ask(&self, command: &[&str]) -> Result<Output> {
        let mut program = tokio::process::Command::new(harness::path_of("arbiter")?);
        program
            .args(command)
            .envs(self.shared.environment.clone())
            .kill_on_drop(true);
        let answer = timeout(COMMAND_MAX, program.output());
        answer
            .await
            .with_context(|| format!("arbiter {}: no end", command.join(" ")))?
            .map_err(Into::into)
    }

    /// Runs a command that has to succeed; gives what it said.
    pub async fn tell(&self, command: &[&str]) -> Result<String> {
        let answer = self.ask(command).await?;
        let said = said(&answer);
        ensure!(
            answer.status.success(),
            "arbiter {}: {}: {said}",
            command.join(" "),
            answer.status
        );
        Ok(said)
    }

    /// Runs a command that has to be refused; gives the sentence.
    pub async fn refuses(&self, command: &[&str]) -> Result<String> {
        let answer = self.ask(command).await?;
        let said = said(&answer);
        ensure!(
            !answer.status.success(),
            "arbiter {} was not refused: {said}",
            command.join(" ")
        );
        ensure!(!said.is_empty(), "it was refused without a word");
        Ok(said)
    }

    /// Asks for a switchover until it is granted, or refused for good: one that was just started does not know yet that the replica
    /// acknowledges. If it dies in it, it ends without an answer.
    pub async fn switchover(&self, within: Duration) -> Result<Output> {
        wait_for("the switchover is granted", within, async || {
            let asked = self.ask(&["switchover"]).await.ok()?;
            let words = String::from_utf8_lossy(&asked.stderr);
            (!words.contains("ask again")).then_some(asked)
        })
        .await
    }

    /// What `arbiter status --json` says, if it answers.
    pub async fn status(&self) -> Option<Value> {
        let asked = self.ask(&["status", "--json"]).await.ok()?;
        serde_json::from_slice(&asked.stdout).ok()
    }

    /// Waits until the status is as wanted, and returns it.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = None;
        let found = wait_for(what, within, async || {
            last = self.status().await;
            let found = last.clone().filter(&wanted);
            if found.is_none() {
                sleep(ASK).await;
            }
            found
        })
        .await;
        found.with_context(|| match &last {
            Some(status) => format!("the last status was {status}"),
            None => "the arbiter did not answer".to_owned(),
        })
    }

    /// How many lines it has written.
    pub fn lines(&self) -> usize {
        self.log_from(0).len()
    }

    /// What it has written in all its lives, from that line on.
    pub fn log_from(&self, line: usize) -> Vec<String> {
        let life = self.shared.life();
        let now = life.program.as_ref().map(Program::log);
        let all = life.log.iter().chain(now.iter().flatten());
        all.skip(line).cloned().collect()
    }

    /// The steps that it has done, from that line of its log on.
    pub fn steps_from(&self, line: usize) -> Vec<Step> {
        self.log_from(line)
            .iter()
            .filter_map(|line| step(line))
            .collect()
    }
}

impl Drop for Arbiter {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl Shared {
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn_if_wanted(&self) -> Result<()> {
        let mut life = self.life();
        if life.program.is_some() || !life.wanted || life.unprovoked >= DEATHS_MAX {
            return Ok(());
        }
        life.failpoint = std::mem::take(&mut life.next_failpoint);
        let mut environment = self.environment.clone();
        if !life.failpoint.is_empty() {
            let key = "HOLDFAST_ARBITER__FAILPOINT".to_owned();
            environment.push((key, life.failpoint.clone()));
        }
        let program = Program::spawn("arbiter", Vec::<String>::new(), environment)?;
        life.program = Some(program);
        Ok(())
    }

    /// Takes a program that has ended out of its life.
    async fn bury(&self) -> Result<bool> {
        let ended = match &mut self.life().program {
            Some(program) => program.has_ended()?.is_some(),
            None => return Ok(false),
        };
        if !ended {
            return Ok(false);
        }
        let (program, failpoint) = {
            let mut life = self.life();
            life.ending = true;
            let failpoint = std::mem::take(&mut life.failpoint);
            (life.program.take(), failpoint)
        };
        let mut program = program.context("somebody else has taken it")?;
        let status = program.exited(SETTLED).await?;
        let mut life = self.life();
        life.ending = false;
        life.log.extend(program.log());
        life.unprovoked += 1;
        life.deaths.push(Death { failpoint, status });
        Ok(true)
    }
}

/// Starts it again when it has ended, for as long as the arbiter's value lives.
async fn keep(shared: Arc<Shared>) {
    loop {
        sleep(WATCH).await;
        let ended = shared.bury().await;
        if ended.is_ok_and(|ended| ended) {
            sleep(RESTART).await;
        }
        let _ = shared.spawn_if_wanted();
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    both.join("\n").trim().to_owned()
}

fn step(line: &str) -> Option<Step> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    match line["message"].as_str()? {
        "step" => Some(Step {
            name: text("step"),
            server: text("server"),
        }),
        "state" => Some(Step {
            name: "save".to_owned(),
            server: String::new(),
        }),
        _ => None,
    }
}
