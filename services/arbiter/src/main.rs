//! The program `arbiter`; everything is in the library beside it.

use std::{process::ExitCode, time::Duration};

use arbiter::{config::Config, run::run, status::Status};
use chassis::{
    admin,
    cli::{self, Invocation},
};

/// How long `status` waits for an answer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Subcommand)]
enum Command {
    /// Say who is primary, what is in sync, and what is waited for
    Status {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    // Before there is a run-time: what all services share brings its own.
    let invocation = cli::parse::<Config, Command>();
    match perform(invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::failed("arbiter", format!("{error:#}")),
    }
}

#[tokio::main]
async fn perform(invocation: Invocation<Config, Command>) -> anyhow::Result<()> {
    match invocation {
        Invocation::Run(config, _) => run(config).await,
        Invocation::Extra(config, Command::Status { json }) => {
            let asked = admin::call(&config.admin_socket, "status", STATUS_TIMEOUT).await;
            // Its sentence has the cause in it.
            let answer = asked.map_err(|error| anyhow::Error::msg(error.to_string()))?;
            if json {
                println!("{answer}");
            } else {
                print!("{}", serde_json::from_str::<Status>(&answer)?.to_text());
            }
            Ok(())
        }
    }
}
