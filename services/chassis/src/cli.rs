//! The command line that all services share: `PROGRAM [--config FILE] [COMMAND]`; without a command the service runs.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    admin,
    config::{self, Config},
};

/// The exit code for a wrong configuration: `EX_CONFIG` of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// How long `healthcheck` waits for an answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// What the program was asked to do, once what all services share is done.
#[derive(Debug)]
pub enum Invocation<C, X> {
    /// Run the service.
    Run(C),
    /// A command of the service's own.
    Extra(C, X),
}

/// For a service that has no command of its own.
#[derive(Debug, Subcommand)]
pub enum NoExtra {}

#[derive(Parser)]
struct Line<X: Subcommand> {
    /// A TOML file that overrides the shipped configuration key by key
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command<X>>,
}

#[derive(Subcommand)]
enum Command<X: Subcommand> {
    /// Run the service (what happens without a command, too)
    Run,
    /// Check the configuration, say what is wrong, and exit 78 if anything is
    CheckConfig,
    /// Print the shipped configuration: every key with its default
    PrintDefaultConfig,
    /// Ask the running service whether it is healthy: exit 0 if so, 1 if not
    Healthcheck(NoArguments),
    #[command(flatten)]
    Extra(X),
}

#[derive(Args)]
struct NoArguments {}

/// Reads the command line and the configuration; does `check-config`, `print-default-config` and `healthcheck` itself and exits.
/// A wrong command line exits 2, a wrong configuration 78.
#[must_use]
pub fn parse<C: Config, X: Subcommand>() -> Invocation<C, X> {
    let matches = Line::<X>::command().name(C::SERVICE).get_matches();
    let line = Line::<X>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(Command::PrintDefaultConfig) = line.command {
        print!("{}", C::DEFAULT);
        std::process::exit(0);
    }
    let config = match config::load::<C>(line.config.as_deref(), std::env::vars()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}: {error}", C::SERVICE);
            std::process::exit(EXIT_CONFIG.into());
        }
    };
    match line.command {
        None | Some(Command::Run) => Invocation::Run(config),
        Some(Command::Extra(extra)) => Invocation::Extra(config, extra),
        Some(Command::Healthcheck(_)) => exit(healthcheck(&config)),
        Some(Command::CheckConfig | Command::PrintDefaultConfig) => {
            println!("{}: the configuration is good", C::SERVICE);
            std::process::exit(0)
        }
    }
}

fn exit(healthy: bool) -> ! {
    std::process::exit(if healthy { 0 } else { 1 })
}

/// Asks the service's admin socket, and prints what is wrong.
fn healthcheck<C: Config>(config: &C) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("{error}");
            return false;
        }
    };
    let call = admin::call(config.admin_socket(), "health", HEALTH_TIMEOUT);
    match runtime.block_on(call) {
        Ok(answer) if answer == "\"ok\"" => true,
        Ok(answer) => {
            println!("{answer}");
            false
        }
        Err(error) => {
            println!("{error}");
            false
        }
    }
}

/// Prints an error with its causes, as a service's last words, and returns the exit code for it.
#[must_use]
pub fn failed(service: &str, error: impl std::fmt::Display) -> ExitCode {
    eprintln!("{service}: {error}");
    ExitCode::FAILURE
}
