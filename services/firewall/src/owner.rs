//! The owner itself: process 1 of its container, root with the right to administer its own namespace and nothing else, no open port.
//!
//! It loads the rules before anything else, and until they are in force it is not healthy, so nobody joins the pod. Then it verifies
//! them now and then and at every health check, hands what they count to its child, and reloads them at SIGHUP. It mends nothing by
//! itself: rules that are other ones than were loaded were changed by somebody, and that is to be seen.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use chassis::{admin, matrix::matrix, stop};
use nix::{
    ifaddrs::getifaddrs,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    unistd::Pid,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    process::ChildStdin,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{interval, timeout},
};

use crate::{config::Config, nft::Nft, privileges, report::Report, ruleset::ruleset};

/// How long a port of the child may take to answer a health check.
const PORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the child may take to read a report, before it is dropped: the next one says the same and more.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Owns the pod until it is asked to stop.
///
/// # Errors
/// When the rules are not in force, or there is no child.
pub fn run(config: Config) -> Result<()> {
    telemetry::logs::init("firewall", &config.log)?;
    check_addresses(&config)?;
    let rules = ruleset(matrix(), &config.pod, &config.subnet)?;
    let nft = Nft::new(&config.nft);
    let loaded = nft.load(&rules)?;
    tracing::info!(pod = config.pod, "the rules are in force");
    let child = start_child(&config)?;
    // While there is one thread.
    privileges::keep_only_net_admin().context("cannot give up what is not needed any more")?;
    let owner = Owner {
        config,
        rules,
        nft,
        loaded: RefCell::new(loaded),
        child: RefCell::new(child),
        report: RefCell::new(Report {
            rules_good: true,
            loads: 1,
            ..Report::default()
        }),
        child_lives: Cell::new(true),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(Rc::new(owner).live())
}

/// The rules go by addresses: in a namespace that has other ones they would be about nobody.
fn check_addresses(config: &Config) -> Result<()> {
    let pod = &matrix().pods[&config.pod];
    let wanted: BTreeSet<Ipv4Addr> = pod
        .hosts
        .keys()
        .filter_map(|network| matrix().address(&config.subnet, &config.pod, network))
        .collect();
    let found: BTreeSet<Ipv4Addr> = getifaddrs()
        .context("cannot list this namespace's addresses")?
        .filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
        .filter(|address| !address.is_loopback())
        .collect();
    ensure!(
        found == wanted,
        "this namespace has the addresses {found:?}, and {} in the matrix {wanted:?}: give this container the pod's networks, and set \
         HOLDFAST_FIREWALL__POD and HOLDFAST_FIREWALL__SUBNET to what it is",
        config.pod
    );
    Ok(())
}

/// The process that has the open ports, under a user that can do nothing.
fn start_child(config: &Config) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Command::new(program)
        .arg("keep")
        .uid(config.child_user)
        .gid(config.child_user)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the unprivileged child; the container needs the capabilities SETUID and SETGID for it")
}

struct Owner {
    config: Config,
    rules: String,
    nft: Nft,
    /// The rules as the kernel listed them when they were loaded.
    loaded: RefCell<String>,
    child: RefCell<Child>,
    report: RefCell<Report>,
    child_lives: Cell<bool>,
}

impl Owner {
    async fn live(self: Rc<Self>) -> Result<()> {
        let stdin = self.child.borrow_mut().stdin.take();
        let stdin = stdin.context("the child has no input")?;
        let mut stdin = ChildStdin::from_std(stdin)?;
        let (asking, mut asked) = mpsc::channel::<oneshot::Sender<String>>(16);
        let socket = self.config.admin_socket.clone();
        let admin = tokio::spawn(async move {
            admin::serve(&socket, move |command| {
                let asking = asking.clone();
                async move { answer(&command, &asking).await }
            })
            .await
        });
        tokio::pin!(admin);
        let mut reload = signal(SignalKind::hangup())?;
        let mut ended = signal(SignalKind::child())?;
        let mut verify = interval(Duration::from_millis(self.config.verify_ms));
        let mut count = interval(Duration::from_millis(self.config.counters_ms));
        let stop = stop::requested();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                served = &mut admin => {
                    served?.context("serve the admin socket")?;
                    bail!("the admin socket is not served any more");
                }
                _ = reload.recv() => self.reload(),
                _ = ended.recv() => self.reap(),
                _ = verify.tick() => drop(self.verify()),
                _ = count.tick() => self.tell(&mut stdin).await,
                Some(asker) = asked.recv() => {
                    let _ = asker.send(self.health().await);
                }
            }
        }
    }

    /// Whether the rules are as they were loaded; if not, why, which is logged when it begins.
    fn verify(&self) -> Result<(), String> {
        let found = match self.nft.list() {
            Ok(listing) if listing == *self.loaded.borrow() => Ok(()),
            Ok(_) => {
                Err("the rules are other ones than were loaded; SIGHUP loads them anew".to_owned())
            }
            Err(error) => Err(error.to_string()),
        };
        let mut report = self.report.borrow_mut();
        match &found {
            Err(reason) if report.rules_good => {
                tracing::error!(reason, "the rules are not in force as they should be");
                report.failures += 1;
            }
            Ok(()) if !report.rules_good => tracing::info!("the rules are in force again"),
            _ => {}
        }
        report.rules_good = found.is_ok();
        found
    }

    fn reload(&self) {
        match self.nft.load(&self.rules) {
            Ok(listing) => {
                *self.loaded.borrow_mut() = listing;
                self.report.borrow_mut().loads += 1;
                tracing::info!("the rules were loaded anew");
                let _ = self.verify();
            }
            Err(error) => {
                tracing::error!(%error, "the rules were not loaded anew; what was there stays");
            }
        }
    }

    /// `ok`, or what is wrong.
    async fn health(&self) -> String {
        if let Err(reason) = self.verify() {
            return reason;
        }
        if !self.child_lives.get() {
            return "the child that serves the counters has ended; start this container again"
                .to_owned();
        }
        for port in self.config.served() {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let connected = timeout(PORT_TIMEOUT, TcpStream::connect(address)).await;
            if !matches!(connected, Ok(Ok(_))) {
                return format!(
                    "nobody answers on port {port}: the child is starting, or keeps failing (see its log)"
                );
            }
        }
        "ok".to_owned()
    }

    /// Hands the child what is known now.
    async fn tell(&self, stdin: &mut ChildStdin) {
        let line = {
            let mut report = self.report.borrow_mut();
            match self.nft.counters() {
                Ok(counters) => report.counters = counters,
                Err(error) => tracing::debug!(%error, "the counters were not read"),
            }
            let json = serde_json::to_string(&*report).expect("a report has text keys");
            format!("{json}\n")
        };
        // A line that is cut short is thrown away by the child.
        let _ = timeout(REPORT_TIMEOUT, stdin.write_all(line.as_bytes())).await;
    }

    /// Whoever has lost its parent becomes ours, for this is process 1. nft is never running here: it is waited for where it is run.
    fn reap(&self) {
        let child = i32::try_from(self.child.borrow().id()).map(Pid::from_raw);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) =
            waitid(Id::All, flags)
        {
            if Ok(pid) == child {
                tracing::error!("the child that serves the counters has ended");
                self.child_lives.set(false);
                let _ = self.child.borrow_mut().try_wait();
            } else {
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
        }
    }
}

async fn answer(
    command: &str,
    asking: &mpsc::Sender<oneshot::Sender<String>>,
) -> Result<String, String> {
    if command != "health" {
        return Err(format!("no such command: {command}; there is `health`"));
    }
    let gone = |_| "the owner is ending".to_owned();
    let (asker, health) = oneshot::channel();
    asking.send(asker).await.map_err(|_| gone(()))?;
    let health = health.await.map_err(|_| gone(()))?;
    serde_json::to_string(&health).map_err(|error| error.to_string())
}
