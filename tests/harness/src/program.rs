//! One of Holdfast's programs as a process: the very binary that the images hold.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::wait_for;

/// A running program. Killed when dropped.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use std::time::Duration;
/// use harness::Program;
///
/// let mut web = Program::spawn("web", ["--config", "/tmp/web.toml"], [("HOLDFAST_WEB__LISTEN", "127.0.0.1:20001")])?;
/// web.wait_for_log("it listens", Duration::from_secs(5), |line| line.contains("listening")).await?;
/// web.terminate()?;
/// assert!(web.exited(Duration::from_secs(5)).await?.success());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// One for standard output, one for standard error; each ends when nobody can write there any more.
    readers: JoinSet<()>,
}

impl Program {
    /// Starts the release binary `name` that lies beside this test executable. Its environment is the test's without `HOLDFAST_*`,
    /// plus `environment`; what it writes to standard output and error is kept.
    pub fn spawn<A: AsRef<OsStr>>(
        name: &str,
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (A, A)>,
    ) -> Result<Program> {
        let path = path_of(name)?;
        let mut command = Command::new(&path);
        for (key, _) in
            std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("HOLDFAST_"))
        {
            command.env_remove(key);
        }
        let mut child = command
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", path.display()))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut readers = JoinSet::new();
        keep(child.stdout.take(), &log, &mut readers);
        keep(child.stderr.take(), &log, &mut readers);
        Ok(Program {
            name: name.to_owned(),
            child,
            log,
            readers,
        })
    }

    /// The process id, as long as it has not been seen to end.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Every line that it has written so far, standard output and error together.
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Waits for a line, already written or to come; the error shows the log.
    pub async fn wait_for_log(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        wait_for(what, within, async || {
            self.log().into_iter().find(|line| wanted(line))
        })
        .await
        .with_context(|| format!("{} wrote:\n{}", self.name, self.log().join("\n")))
    }

    /// Sends SIGTERM: the clean way to stop.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGHUP: its configuration is another.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Sends SIGKILL: a crash.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Stops it from running, connections open (SIGSTOP), until [`thaw`](Program::thaw).
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen program run on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// How it ended, if it has; its last lines may still be on their way, until [`exited`](Program::exited) has returned.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end; then [`log`](Program::log) has every line that it wrote.
    pub async fn exited(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = timeout(within, async {
            let status = self.child.wait().await;
            while self.readers.join_next().await.is_some() {}
            status
        })
        .await;
        ended
            .with_context(|| {
                format!(
                    "{} has not ended within {within:?}; it wrote:\n{}",
                    self.name,
                    self.log().join("\n")
                )
            })?
            .map_err(Into::into)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} has ended", self.name))?;
        Ok(kill(Pid::from_raw(pid.try_into()?), signal)?)
    }
}

/// Where the release binary of a service is, beside this test executable: `target/<host>/release/<name>`.
pub fn path_of(name: &str) -> Result<PathBuf> {
    let path = build_directory()?.join(name);
    ensure!(
        path.is_file(),
        "{} is not built: `cargo build --release -p {name}` makes it",
        path.display()
    );
    Ok(path)
}

/// The directory that cargo builds into: the test executable is in it, or in its `deps`.
pub(crate) fn build_directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let directory = executable
        .parent()
        .context("a test executable has a directory")?;
    let inner = directory
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    Ok(if inner {
        directory.parent().unwrap_or(directory)
    } else {
        directory
    }
    .to_path_buf())
}

fn keep(
    stream: Option<impl AsyncRead + Unpin + Send + 'static>,
    log: &Arc<Mutex<Vec<String>>>,
    readers: &mut JoinSet<()>,
) {
    let Some(stream) = stream else { return };
    let log = Arc::clone(log);
    readers.spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .push(line);
        }
    });
}
