//! The program `bench`; everything is in the library beside it.

use std::process::ExitCode;

use bench::{balancer, cores::Cores, descriptors};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// What Holdfast costs beside others
#[derive(Parser)]
#[command(name = "./stack bench", bin_name = "./stack bench")]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The balancer beside nginx, HAProxy and Envoy; exits 1 when a request failed
    Balancer(balancer::Options),
}

fn main() -> ExitCode {
    let Line { command } = Line::parse();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // Before there is a thread, for each takes after the one that starts it.
    let cores = Cores::share()?;
    descriptors::raise()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.others.len())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let Command::Balancer(options) = command;
        // Whichever ends first: what was started goes when the other is dropped.
        tokio::select! {
            outcome = balancer::run(&options, &cores) => outcome,
            _ = terminate.recv() => anyhow::bail!("told to stop"),
            _ = hang_up.recv() => anyhow::bail!("the terminal is gone"),
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
        }
    })
}
