//! The program `web`; everything is in the library beside it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use chassis::cli::{self, Invocation};
use clap::Subcommand;
use web::{
    config::Config,
    explain::{self, Explained},
    queries, run,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What only the web server has.
#[derive(Subcommand)]
enum Command {
    /// Bring the schema to what this release needs, once there is a primary, and end
    Migrate,
    /// Audit the whole ledger: exit 0 if it is sound, 1 if not
    CheckLedger,
    /// Ask the running web server where a statement would go, and why, without sending it: exit 1 if it would go nowhere
    Explain {
        /// The statement, in quotes
        sql: String,
        /// Print one line of JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// List the program's queries by where they go, from what `sqlx` has prepared
    Queries {
        /// The directory with the prepared queries
        #[arg(default_value = ".sqlx")]
        directory: PathBuf,
    },
    /// Print what the running web server knows of itself and of the databases, as JSON
    Status,
}

fn main() -> ExitCode {
    let done = match cli::parse::<Config, Command>() {
        Invocation::Run(config, _) => run::serve(config),
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
        Command::Explain { sql, json } => explain(&config, &sql, json),
        Command::Queries { directory } => {
            print!("{}", queries::list(&directory)?);
            Ok(())
        }
        Command::Status => {
            println!("{}", run::ask(&config, "status")?);
            Ok(())
        }
    }
}

fn explain(config: &Config, sql: &str, json: bool) -> anyhow::Result<()> {
    let command = format!("{}{}", explain::COMMAND, serde_json::to_string(sql)?);
    let answer = run::ask(config, &command)?;
    let explained: Explained = serde_json::from_str(&answer)?;
    if json {
        println!("{answer}");
    } else {
        print!("{}", explained.to_text());
    }
    match explained.error {
        None => Ok(()),
        Some(error) => bail!(error),
    }
}

fn logged(config: &Config) -> anyhow::Result<()> {
    telemetry::logs::init("web", &config.log)?;
    Ok(())
}
