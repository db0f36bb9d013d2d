//! The program `balancer`; everything is in the library beside it.

use std::process::ExitCode;
use std::time::Duration;

use balancer::admin::{Status, table};
use balancer::config::Config;
use chassis::cli::{self, Invocation};
use clap::Subcommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long `status` waits for an answer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(3);

/// What only the balancer has.
#[derive(Subcommand)]
enum Command {
    /// Print what the running balancer knows about its backends
    Status {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let done = match cli::parse::<Config, Command>() {
        Invocation::Run(config) => run(config),
        Invocation::Extra(config, Command::Status { json }) => status(&config, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Each error here says its cause in its own sentence.
        Err(error) => cli::failed("balancer", error),
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    telemetry::logs::init("balancer", &config.log)?;
    balancer::run(config)
}

fn status(config: &Config, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(chassis::admin::call(
        &config.admin_socket,
        "status",
        STATUS_TIMEOUT,
    ))?;
    if json {
        println!("{answer}");
    } else {
        print!("{}", table(&serde_json::from_str::<Status>(&answer)?));
    }
    Ok(())
}
