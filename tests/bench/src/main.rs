//! The program `bench`; everything is in the library beside it.

use std::process::ExitCode;

use bench::{balancer, cores::Cores, descriptors, faults, router};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Holdfast beside others
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
    /// What clients notice of sick backends behind each of them; exits 1 when something could not be run
    Faults(faults::Options),
    /// The router beside a plain pool and MySQL Router; exits 1 when a query failed
    Router(router::Options),
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
    // Before there is a thread, for each takes after the one that starts it. What is on the way to a database shares all cores with it.
    let cores = match &command {
        Command::Balancer(_) | Command::Faults(_) => Cores::share()?,
        Command::Router(_) => Cores::all()?,
    };
    descriptors::raise()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.others.len())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let measuring = async {
            match &command {
                Command::Balancer(options) => balancer::run(options, &cores).await,
                Command::Faults(options) => faults::run(options, &cores).await,
                Command::Router(options) => router::run(options, &cores).await,
            }
        };
        // Whichever ends first: what was started goes when the other is dropped.
        tokio::select! {
            outcome = measuring => outcome,
            _ = terminate.recv() => anyhow::bail!("told to stop"),
            _ = hang_up.recv() => anyhow::bail!("the terminal is gone"),
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
        }
    })
}
