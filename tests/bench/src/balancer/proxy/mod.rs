//! The proxies, each set up to do the same.

mod envoy;
mod haproxy;
mod holdfast;
mod nginx;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::sleep;

use crate::certificates::Identity;
use crate::group::Group;
use crate::process::Process;
use crate::programs::Proxy;
use crate::tls_client::{Answer, TlsClient};

use super::backend::SEEN;
use super::cell::Link;

/// What a proxy is to do. The same for all of them.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Its own, and empty.
    pub(super) directory: PathBuf,
    /// What it shows to clients and to backends.
    pub(super) identity: Identity,
    /// Where clients come.
    pub(super) port: u16,
    /// Two more, for metrics and the like.
    pub(super) aside: [u16; 2],
    /// web-1 and web-2.
    pub(super) backends: [u16; 2],
    pub(super) link: Link,
    /// Connections of clients.
    pub(super) connections_max: u64,
    /// Between two checks of a backend that is well; nginx has none.
    pub(super) check_interval: Duration,
}

impl Setting {
    fn access_log(&self) -> PathBuf {
        self.directory.join("access.log")
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// How it is started once its configuration is written.
struct Launch {
    arguments: Vec<OsString>,
    /// Its access log is its standard output; else it writes the file itself.
    logs_to_output: bool,
}

fn launch(proxy: Proxy, setting: &Setting) -> Result<Launch> {
    match proxy {
        Proxy::Holdfast => holdfast::launch(setting),
        Proxy::Nginx => nginx::launch(setting),
        Proxy::Haproxy => haproxy::launch(setting),
        Proxy::Envoy => envoy::launch(setting),
    }
}

/// Under what it runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Under<'a> {
    /// Nothing, on this core alone.
    Core(usize),
    /// callgrind, which writes to this directory.
    Callgrind { valgrind: &'a Path, to: &'a Path },
}

/// One that runs, and has shown that it does what it is to do.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) proxy: Proxy,
    pub(super) port: u16,
    process: Process,
    log: PathBuf,
    /// Whether there was a line in it.
    logged: bool,
}

impl Running {
    pub(super) async fn start(
        proxy: Proxy,
        program: &Path,
        setting: &Setting,
        under: Under<'_>,
    ) -> Result<Running> {
        fs::create_dir_all(&setting.directory)?;
        let Launch {
            arguments,
            logs_to_output,
        } = launch(proxy, setting)?;
        let (mut command, patience) = match under {
            Under::Core(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string());
                (command, Duration::from_secs(15))
            }
            Under::Callgrind { valgrind, to } => {
                let mut command = Command::new(valgrind);
                let out = to.join("callgrind.%p");
                command
                    .args(["--tool=callgrind", "--quiet"])
                    .arg(format!("--callgrind-out-file={}", out.display()));
                (command, Duration::from_secs(120))
            }
        };
        command.arg(program).args(arguments);
        let log = setting.access_log();
        let output = if logs_to_output {
            log.clone()
        } else {
            setting.directory.join("output")
        };
        let mut running = Running {
            proxy,
            port: setting.port,
            process: Process::start(&proxy.to_string(), command, &output)?,
            log,
            logged: false,
        };
        running.wait_until_ready(setting, patience).await?;
        Ok(running)
    }

    /// Its processes.
    pub(super) fn group(&self) -> Group {
        self.process.group()
    }

    /// Ends it in the ordinary way.
    pub(super) async fn stop(self) -> Result<()> {
        self.process.stop(Duration::from_secs(60)).await
    }

    /// Empties its access log, which else would fill the disk.
    pub(super) fn empty_log(&mut self) -> Result<()> {
        self.process.ensure_running()?;
        self.logged |= fs::metadata(&self.log).is_ok_and(|log| log.len() > 0);
        if self.logged {
            let log = File::options().write(true).truncate(true).open(&self.log);
            log.with_context(|| format!("empty {}", self.log.display()))?;
        }
        Ok(())
    }

    /// Whether it logs requests at all; some gather lines for up to a second.
    pub(super) async fn ensure_logged(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.logged {
            self.empty_log()?;
            ensure!(
                begun.elapsed() < Duration::from_secs(3),
                "{} logs no request",
                self.proxy
            );
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn wait_until_ready(&mut self, setting: &Setting, patience: Duration) -> Result<()> {
        let client = TlsClient::new(&setting.identity.authority(), false)?;
        let begun = Instant::now();
        loop {
            self.process.ensure_running()?;
            match client.get(Ipv4Addr::LOCALHOST, self.port, SEEN).await {
                Ok((_, answer)) => {
                    return ensure_same_features(&answer)
                        .with_context(|| format!("{} is not set up like the others", self.proxy));
                }
                Err(error) if begun.elapsed() > patience => {
                    return Err(error.context(format!(
                        "{} is not ready after {patience:?}; it said:\n{}",
                        self.proxy,
                        self.process.words()
                    )));
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// What a client and a backend see of each proxy. What is logged is looked at when the log is emptied.
fn ensure_same_features(answer: &Answer) -> Result<()> {
    let id = answer.field("x-request-id").context("no x-request-id")?;
    answer
        .field("strict-transport-security")
        .context("no strict-transport-security")?;
    let seen = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    let client = seen
        .strip_prefix(&format!("[{id}] ["))
        .and_then(|rest| rest.strip_suffix("] [https]"))
        .unwrap_or_default();
    // Of a client on loopback Envoy tells its own address instead; the work is the same.
    ensure!(
        client.parse::<IpAddr>().is_ok(),
        "the backend has seen {seen} as request id, client and protocol, and the client the id {id}"
    );
    Ok(())
}
