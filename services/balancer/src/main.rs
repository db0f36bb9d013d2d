//! The program `balancer`; everything is in the library beside it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use balancer::config::Config;
use balancer::status::{Status, table};
use chassis::cli::{self, Invocation, Loader};
use clap::Subcommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often `--watch` and `--wait` look.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_WHILE_WAITING: Duration = Duration::from_millis(100);

/// What only the balancer has.
#[derive(Subcommand)]
enum Command {
    /// Print what the running balancer knows about its backends
    Status {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Print it again every second, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Let a backend finish what it has, and give it nothing new. It holds for all balancers of the pod, and through restarts
    Drain {
        /// Its name
        backend: String,
        /// Return when this balancer has nothing in flight there any more
        #[arg(long)]
        wait: bool,
    },
    /// Give a backend requests again
    Ready {
        /// Its name
        backend: String,
    },
    /// Like drain; besides, it is not looked at
    Maint {
        /// Its name
        backend: String,
        /// Return when this balancer has nothing in flight there any more
        #[arg(long)]
        wait: bool,
    },
    /// Change a backend's part of the work
    Weight {
        /// Its name
        backend: String,
        /// 1 to 1000, beside those of the others; or `default`
        weight: String,
    },
    /// Change how the backends share the work
    Mode {
        /// active-active, active-passive or default
        mode: String,
    },
    /// Read the backends of the configuration anew; the same as SIGHUP
    Reload,
}

fn main() -> ExitCode {
    let done = match cli::parse::<Config, Command>() {
        Invocation::Run(config, loader) => run(config, loader),
        Invocation::Extra(config, command) => ask(&config, command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Each error here says its cause in its own sentence.
        Err(error) => cli::failed("balancer", error),
    }
}

fn run(config: Config, loader: Loader<Config>) -> Result<()> {
    telemetry::logs::init("balancer", &config.log)?;
    balancer::run(config, loader)
}

fn ask(config: &Config, command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let call = |command: &str| {
        let call = chassis::admin::call(&config.admin_socket, command, ANSWER_TIMEOUT);
        runtime.block_on(call)
    };
    let status = || -> Result<Status> { Ok(serde_json::from_str(&call("status")?)?) };
    let tell = |command: String| -> Result<()> {
        println!("{}", serde_json::from_str::<String>(&call(&command)?)?);
        Ok(())
    };
    let wait_for = |backend: &str| -> Result<()> {
        let limit = config.balancing.drain_deadline() + ANSWER_TIMEOUT;
        let began = Instant::now();
        loop {
            let status = status()?;
            let one = status.backends.iter().find(|one| one.name == backend);
            match one.with_context(|| format!("there is no backend `{backend}` any more"))? {
                one if one.in_flight == 0 => break,
                one if began.elapsed() > limit => bail!(
                    "{backend} has still {} in flight; `balancer status` shows it",
                    one.in_flight
                ),
                _ => std::thread::sleep(LOOK_WHILE_WAITING),
            }
        }
        println!("{backend} has nothing in flight here");
        Ok(())
    };
    match command {
        Command::Status { json: true, watch } => repeat(watch, || Ok(call("status")? + "\n")),
        Command::Status { json: false, watch } => repeat(watch, || {
            let text = table(&status()?);
            // To the upper left corner, and whatever is there is gone.
            Ok(match watch {
                true => format!("\x1b[H\x1b[2J{text}"),
                false => text,
            })
        }),
        Command::Drain { backend, wait } => {
            tell(format!("drain {backend}"))?;
            if wait { wait_for(&backend) } else { Ok(()) }
        }
        Command::Maint { backend, wait } => {
            tell(format!("maint {backend}"))?;
            if wait { wait_for(&backend) } else { Ok(()) }
        }
        Command::Ready { backend } => tell(format!("ready {backend}")),
        Command::Weight { backend, weight } => tell(format!("weight {backend} {weight}")),
        Command::Mode { mode } => tell(format!("mode {mode}")),
        Command::Reload => tell("reload".to_owned()),
    }
}

/// Prints something, once or again and again.
fn repeat(again: bool, text: impl Fn() -> Result<String>) -> Result<()> {
    loop {
        let mut out = io::stdout();
        out.write_all(text()?.as_bytes())?;
        out.flush()?;
        if !again {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}
