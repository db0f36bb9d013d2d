//! The program `console`; everything is in the library beside it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use console::{load::Load, roll::Kind, settings::Settings, trace::TraceId};

/// What ./stack asks when no single service can answer
#[derive(Parser)]
#[command(name = "./stack", bin_name = "./stack")]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Who is primary, who is in sync, what is away; exits 1 when something is wrong
    Status {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Find the commonest faults and say what to do; exits 1 when there is one
    Doctor {
        /// Print JSON instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Show the stack in five steps; two of them break something, and put it back
    Tour {
        /// Go through without waiting for Enter
        #[arg(long)]
        yes: bool,
    },
    /// Draw what a request did: its spans, from Jaeger, and the log lines of all services that name it
    Trace {
        /// A trace's id, or the whole value of a traceresponse or traceparent header
        #[arg(value_name = "ID")]
        id: TraceId,
    },
    /// Replace the containers of a kind one after the other; no request is lost
    Roll {
        /// Which ones
        kind: Kind,
    },
    /// At every save build the program on this machine and roll it over both containers; a build that fails changes nothing
    Dev {
        /// Which one
        kind: Kind,
        /// Build and roll once, now, and end
        #[arg(long)]
        once: bool,
    },
    /// Put the stack under load with k6, which is fetched where there is none; exits 1 when a threshold is crossed
    Load {
        /// How much
        #[arg(default_value = "smoke")]
        load: Load,
        /// Write a report in HTML as well, and print its path
        #[arg(long)]
        report: bool,
    },
}

fn main() -> ExitCode {
    let line = Line::parse();
    let run = || -> anyhow::Result<bool> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            Ok(match line.command {
                Command::Status { json } => {
                    let report = console::status::look().await;
                    print!(
                        "{}",
                        if json {
                            report.to_json()
                        } else {
                            report.to_text()
                        }
                    );
                    report.is_well()
                }
                Command::Doctor { json } => {
                    let report = console::doctor::examine().await;
                    print!(
                        "{}",
                        if json {
                            report.to_json()
                        } else {
                            report.to_text()
                        }
                    );
                    report.is_well()
                }
                Command::Tour { yes } => {
                    console::tour::tour(yes, &Settings::of_the_environment()).await?;
                    true
                }
                Command::Trace { id } => {
                    console::trace::show(&id, &Settings::of_the_environment()).await?
                }
                Command::Dev { kind, once } => {
                    console::dev::dev(kind, once).await?;
                    true
                }
                Command::Load { load, report } => {
                    console::load::run(load, report, &Settings::of_the_environment()).await?;
                    true
                }
                Command::Roll { kind } => {
                    console::roll::roll(kind).await?;
                    true
                }
            })
        })
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("console: {error}");
            ExitCode::FAILURE
        }
    }
}
