//! The program `firewall`; everything is in the library beside it.

use std::process::ExitCode;

use chassis::{
    cli::{self, Invocation},
    matrix::matrix,
};
use clap::Subcommand;
use firewall::{config::Config, owner, probe, reach, ruleset::ruleset, serve, table, tether};

/// What only the firewall has.
#[derive(Subcommand)]
enum Command {
    /// Print the rules of the pod, as they are loaded
    Rules,
    /// Print the matrix: who may talk to whom
    Matrix {
        /// As a table in Markdown, which is what docs/firewall.md holds
        #[arg(long, required = true)]
        markdown: bool,
    },
    /// Try to connect to HOST:PORT, each, and print what came of it
    Reach {
        /// Where to
        #[arg(required = true, value_name = "HOST:PORT")]
        addresses: Vec<String>,
    },
    /// Run a program; end it when the pod's network is gone
    Tether {
        /// The program and its arguments
        #[arg(required = true, last = true)]
        program: Vec<String>,
    },
    /// Ask whether http://HOST:PORT/PATH answers well: exit 0 if so, 1 if not
    Probe {
        /// The URL
        url: String,
    },
    /// What the owner starts under another user: starts `serve` again when it ends
    #[command(hide = true)]
    Keep,
    /// What has the open ports
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    let done = match cli::parse::<Config, Command>() {
        Invocation::Run(config, _) => owner::run(config).map(|()| ExitCode::SUCCESS),
        Invocation::Extra(config, command) => extra(config, command),
    };
    match done {
        Ok(code) => code,
        Err(error) => cli::failed("firewall", format!("{error:#}")),
    }
}

fn extra(config: Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Rules => print!("{}", ruleset(matrix(), &config.pod, &config.subnet)?),
        Command::Matrix { .. } => print!("{}", table::markdown(matrix())),
        Command::Reach { addresses } => reach::reach(&addresses)?,
        Command::Tether { program } => return tether::tether(&program),
        Command::Probe { url } => probe::probe(&url)?,
        Command::Keep => serve::keep()?,
        Command::Serve => serve::serve(config)?,
    }
    Ok(ExitCode::SUCCESS)
}
