//! A program that runs until the value that holds it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::group::Group;

/// How long a program may take to end when it is asked to, and then the system to end it.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// A running program: all of its process group.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    group: Group,
    said: [PathBuf; 2],
}

impl Process {
    /// Starts it in a process group of its own. Its standard output is appended to `output`, its standard error to a file beside it.
    pub(crate) fn start(name: &str, mut command: Command, output: &Path) -> Result<Process> {
        let complaints = output.with_extension("stderr");
        without_settings(&mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(append(output)?)
            .stderr(append(&complaints)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}: is it installed?"))?;
        let id = child.id().context("it has just been started")?;
        Ok(Process {
            name: name.to_owned(),
            child,
            group: Group(id.try_into()?),
            said: [complaints, output.to_owned()],
        })
    }

    /// What its processes are to the system.
    pub(crate) fn group(&self) -> Group {
        self.group
    }

    /// An error with its own words, if it has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} has ended with {status}:\n{}", self.name, self.words());
        }
        Ok(())
    }

    /// The end of what it said.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        for path in &self.said {
            let text = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(8)..] {
                words.push_str(line);
                words.push('\n');
            }
        }
        words
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self, within: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM);
        let ended = timeout(within, self.child.wait()).await;
        ended.with_context(|| format!("{} has not ended within {within:?}", self.name))??;
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // What has ended already is not there any more.
        let _ = killpg(Pid::from_raw(self.group.0), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What has workers should end them itself. Then its directory is removed: nobody should be writing there any more.
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            self.signal(signal);
            let begun = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < ENDS_WITHIN {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Leaves the variables of whoever runs this out: they would configure the balancer.
fn without_settings(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("HOLDFAST_") {
            command.env_remove(key);
        }
    }
}

fn append(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("write {}", path.display()))
}
