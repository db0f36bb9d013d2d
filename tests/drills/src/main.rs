//! The program `drills`; everything is in the library beside it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use drills::fault_loop::{self, Options};
use drills::scenario::{self, ALL, Scenario};
use harness::Marks;
use tokio::signal::unix::{SignalKind, signal};

/// What `./stack drill loop` writes.
const MEASURED: Marks = Marks::new("<!-- drills: begin -->", "<!-- drills: end -->");

/// Failures with an asserted outcome, on two servers of their own and with clients that write all the time
#[derive(Parser)]
#[command(name = "./stack drill", bin_name = "./stack drill")]
struct Line {
    /// `list` names the drills, `all` runs each of them and then the loop; `loop` or `fault-loop` draws faults at random; else a
    /// drill's name
    #[arg(default_value = "list")]
    what: String,
    /// How many rounds the loop has
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..100_000))]
    rounds: u32,
    /// What the loop's faults are drawn by; another one each time unless given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The loop's first round: one that has failed can be had alone
    #[arg(long, value_name = "ROUND", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..100_000))]
    from: u32,
    /// Write the loop's figures into this file too, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let line = Line::parse();
    match run(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(line: &Line) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // Whichever ends first: what was started goes when the other is dropped.
    tokio::select! {
        outcome = drill(line) => outcome,
        _ = terminate.recv() => bail!("told to stop"),
        _ = hang_up.recv() => bail!("the terminal is gone"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn drill(line: &Line) -> Result<()> {
    if let Some(path) = &line.write {
        MEASURED.check(path)?;
    }
    match line.what.as_str() {
        "list" => {
            for scenario in ALL {
                println!("{:<36} {}", scenario.name, scenario.what);
            }
            println!(
                "{:<36} faults drawn at random, for as many rounds as are wanted",
                "loop"
            );
            Ok(())
        }
        "all" => {
            for scenario in ALL {
                play(scenario).await?;
            }
            rounds(line).await
        }
        "loop" | "fault-loop" => rounds(line).await,
        name => {
            let scenario = scenario::named(name);
            play(scenario.with_context(|| {
                format!("there is no drill '{name}': ./stack drill list names them")
            })?)
            .await
        }
    }
}

async fn play(scenario: &Scenario) -> Result<()> {
    let begun = Instant::now();
    eprintln!("{}: {}", scenario.name, scenario.what);
    let outcome = scenario.play().await?;
    println!(
        "{}: passed in {} s: {outcome}",
        scenario.name,
        begun.elapsed().as_secs()
    );
    Ok(())
}

async fn rounds(line: &Line) -> Result<()> {
    let options = Options {
        rounds: line.rounds,
        seed: line
            .seed
            .unwrap_or_else(|| rand::random_range(1..1_000_000)),
        from: line.from,
    };
    eprintln!("{}", options.command());
    let report = fault_loop::run(options).await?;
    println!("{report}");
    match &line.write {
        Some(path) => MEASURED.replace(path, &report),
        None => Ok(()),
    }
}
