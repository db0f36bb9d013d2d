//! The program `web`; everything is in the library beside it.

use std::process::ExitCode;

use chassis::cli::{self, Invocation};
use clap::Subcommand;
use web::{config::Config, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What only the web server has.
#[derive(Subcommand)]
enum Command {
    /// Bring the schema to what this release needs, once there is a primary, and end
    Migrate,
    /// Audit the whole ledger: exit 0 if it is sound, 1 if not
    CheckLedger,
    /// Ask the running web server where a statement would go, and why, without sending it
    Explain {
        /// The statement
        sql: String,
    },
    /// Print what the running web server knows of itself and of the databases, as JSON
    Status,
}

fn main() -> ExitCode {
    let done = match cli::parse::<Config, Command>() {
        Invocation::Run(config) => run::serve(config),
        Invocation::Extra(config, command) => extra(config, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Each error here says its cause in its own sentence.
        Err(error) => cli::failed("web", error),
    }
}

fn extra(config: Config, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Migrate => logged(&config).and_then(|()| run::migrate(&config)),
        Command::CheckLedger => {
            anyhow::ensure!(run::check_ledger(config)?, "the ledger is not sound");
            Ok(())
        }
        Command::Explain { sql } => told(&config, &format!("explain {}", sql.replace('\n', " "))),
        Command::Status => told(&config, "status"),
    }
}

fn told(config: &Config, command: &str) -> anyhow::Result<()> {
    println!("{}", run::ask(config, command)?);
    Ok(())
}

fn logged(config: &Config) -> anyhow::Result<()> {
    telemetry::logs::init("web", &config.log)?;
    Ok(())
}
