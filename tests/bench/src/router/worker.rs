//! A [`client`](super::client) process, seen from the one that gives it jobs.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::client::{Job, Outcome, Setting};

/// The longest that a client may take to connect, or longer than its job to do it; under callgrind everything takes fifty times as long.
const LATE: Duration = Duration::from_secs(300);

/// Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    jobs: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts one, and waits until it is connected.
    pub(super) async fn start(program: &Path, setting: &Setting) -> Result<Worker> {
        Worker::start_as(&[program.into()], setting).await
    }

    /// The same by callgrind, which writes to this file when the client ends.
    pub(super) async fn start_under_callgrind(
        valgrind: &Path,
        to: &Path,
        program: &Path,
        setting: &Setting,
    ) -> Result<Worker> {
        let mut file = OsString::from("--callgrind-out-file=");
        file.push(to);
        Worker::start_as(
            &[
                valgrind.into(),
                "--tool=callgrind".into(),
                "--quiet".into(),
                file,
                program.into(),
            ],
            setting,
        )
        .await
    }

    async fn start_as(words: &[OsString], setting: &Setting) -> Result<Worker> {
        let (program, words) = words.split_first().context("there is a program")?;
        let mut child = Command::new(program)
            .args(words)
            .args(["router", "--serve-as-client"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start a client")?;
        let jobs = child.stdin.take().context("it was piped")?;
        let answers = BufReader::new(child.stdout.take().context("it was piped")?).lines();
        let mut worker = Worker {
            child,
            jobs,
            answers,
        };
        let ready = worker.ask(&serde_json::to_string(setting)?, LATE).await?;
        ensure!(ready == "ready", "the client says {ready}");
        Ok(worker)
    }

    /// Has it do a job.
    pub(super) async fn run(&mut self, job: Job) -> Result<Outcome> {
        let line = self.ask(&serde_json::to_string(&job)?, LATE).await?;
        serde_json::from_str(&line).with_context(|| format!("read what the client says: {line}"))
    }

    /// Lets it end by itself.
    pub(super) async fn end(self) -> Result<()> {
        let Worker {
            mut child, jobs, ..
        } = self;
        drop(jobs);
        let status = timeout(LATE, child.wait())
            .await
            .context("the client does not end")??;
        ensure!(status.success(), "the client has ended with {status}");
        Ok(())
    }

    async fn ask(&mut self, line: &str, within: Duration) -> Result<String> {
        self.jobs.write_all(format!("{line}\n").as_bytes()).await?;
        let answer = timeout(within, self.answers.next_line()).await;
        answer
            .context("the client does not answer")??
            .context("the client has ended: what it said is above")
    }
}
