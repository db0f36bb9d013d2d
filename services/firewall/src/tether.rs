//! Runs a program that does not watch its network itself: signals are passed on, and when the pod's network is gone, the program is
//! ended, so that the restart policy starts it again in the new one.

use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

/// How a program that was ended by a signal is told of, as shells do.
const SIGNALLED: u8 = 128;

/// Runs `program` with its arguments, and ends as it does.
///
/// # Errors
/// When it cannot be started.
pub fn tether(program: &[String]) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(program))
}

async fn run(program: &[String]) -> Result<ExitCode> {
    let (name, arguments) = program
        .split_first()
        .context("which program? `firewall tether -- PROGRAM ARGUMENTS`")?;
    // Before there is a child, so that its end is not missed.
    let mut ended = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let child = std::process::Command::new(name)
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let gone = chassis::namespace::gone();
    tokio::pin!(gone);
    let mut lost = false;
    loop {
        let pass_on = tokio::select! {
            _ = ended.recv() => {
                if let Some(code) = reap(pid) {
                    return Ok(ExitCode::from(if lost { 1 } else { code }));
                }
                continue;
            }
            _ = terminate.recv() => Signal::SIGTERM,
            _ = interrupt.recv() => Signal::SIGINT,
            _ = hangup.recv() => Signal::SIGHUP,
            () = &mut gone, if !lost => {
                eprintln!("firewall: the network of this pod is gone; ending {name}, to be started again in the new one");
                lost = true;
                Signal::SIGTERM
            }
        };
        // It may have ended just now, which SIGCHLD tells.
        let _ = kill(pid, pass_on);
    }
}

/// Takes leave of whoever has ended: in a container this is process 1. The child's exit code, if it is among them.
fn reap(child: Pid) -> Option<u8> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let mut code = None;
    while let Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) =
        waitid(Id::All, flags)
    {
        let _ = waitpid(pid, None);
        if pid == child {
            code = Some(match status {
                WaitStatus::Exited(_, code) => u8::try_from(code).unwrap_or(u8::MAX),
                WaitStatus::Signaled(_, signal, _) => {
                    SIGNALLED.saturating_add(u8::try_from(signal as i32).unwrap_or(0))
                }
                _ => u8::MAX,
            });
        }
    }
    code
}
