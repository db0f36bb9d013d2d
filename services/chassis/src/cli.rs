//! The command line that all services share: `PROGRAM [--config FILE] [COMMAND]`; without a command the service runs.

use std::{marker::PhantomData, path::PathBuf, process::ExitCode, time::Duration};

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
    /// Run the service; the configuration can be loaded anew.
    Run(C, Loader<C>),
    /// A command of the service's own.
    Extra(C, X),
}

/// Loads the configuration once more, from where it came from.
#[derive(Debug)]
pub struct Loader<C> {
    file: Option<PathBuf>,
    config: PhantomData<fn() -> C>,
}

impl<C: Config> Loader<C> {
    /// The configuration as it is now. The environment is that of the start.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load(&self) -> Result<C, config::ConfigError> {
        config::load::<C>(self.file.as_deref(), std::env::vars())
    }
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
    /// Print the configuration's JSON schema, for editors and for whoever checks a file without this program
    PrintConfigSchema,
    /// Print the configuration's reference, in Markdown
    PrintConfigReference,
    /// Ask the running service whether it is healthy: exit 0 if so, 1 if not
    Healthcheck(NoArguments),
    #[command(flatten)]
    Extra(X),
}

#[derive(Args)]
struct NoArguments {}

/// Reads the command line and the configuration; does what all services share, `check-config` and its like, itself and exits.
/// A wrong command line exits 2, a wrong configuration 78.
#[must_use]
pub fn parse<C: Config, X: Subcommand>() -> Invocation<C, X> {
    let matches = Line::<X>::command().name(C::SERVICE).get_matches();
    let line = Line::<X>::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let printed = match line.command {
        Some(Command::PrintDefaultConfig) => Some(C::DEFAULT.to_owned()),
        Some(Command::PrintConfigSchema) => Some(format!("{:#}\n", config::schema::<C>())),
        Some(Command::PrintConfigReference) => Some(config::reference::<C>()),
        _ => None,
    };
    if let Some(text) = printed {
        print!("{text}");
        std::process::exit(0);
    }
    let loader = Loader {
        file: line.config,
        config: PhantomData,
    };
    let config = match loader.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}: {error}", C::SERVICE);
            std::process::exit(EXIT_CONFIG.into());
        }
    };
    match line.command {
        None | Some(Command::Run) => Invocation::Run(config, loader),
        Some(Command::Extra(extra)) => Invocation::Extra(config, extra),
        Some(Command::Healthcheck(_)) => exit(healthcheck(&config)),
        Some(
            Command::CheckConfig
            | Command::PrintDefaultConfig
            | Command::PrintConfigSchema
            | Command::PrintConfigReference,
        ) => {
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
