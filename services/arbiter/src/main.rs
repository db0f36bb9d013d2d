//! The program `arbiter`; everything is in the library beside it.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use arbiter::{
    config::Config,
    events::Event,
    run::run,
    state::{Phase, Store},
    status::Status,
};
use chassis::{
    admin,
    cli::{self, Invocation},
};

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks at how a change comes on.
const LOOK: Duration = Duration::from_millis(50);
/// How long a change of the primary is followed.
const CHANGE_MAX: Duration = Duration::from_secs(120);

#[derive(clap::Subcommand)]
enum Command {
    /// Say who is primary, what is in sync, and what is waited for
    Status {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the replica the primary, as planned: writes are held for a moment, and none is lost
    Switchover,
    /// Take the replica out of the rotation and the in-sync set, to work on it, and back
    Maintenance {
        #[command(subcommand)]
        what: Maintenance,
    },
    /// Make a replica that is not in sync the primary, because the primary is lost for good
    ForcePromote {
        /// The replica
        server: String,
        /// You have read what is lost (without this it is said), and accept it
        #[arg(long)]
        accept_loss: bool,
    },
    /// Take over two servers that run already; the data of the one that is named counts
    Adopt {
        /// The primary
        server: String,
    },
    /// Put the durable state aside, while the arbiter is stopped: the next start finds none, and `adopt` makes a new one
    ForgetState,
    /// Say what was decided, and from what
    Events {
        /// As one document of JSON a line
        #[arg(long)]
        json: bool,
    },
    /// List what was saved before a server's data was made anew, or show one of these files
    Discarded {
        /// A file of the list
        name: Option<String>,
    },
}

#[derive(clap::Subcommand)]
enum Maintenance {
    /// The replica is going to be worked on
    Begin {
        /// The replica
        server: String,
    },
    /// It is done
    End {
        /// The replica
        server: String,
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
async fn perform(invocation: Invocation<Config, Command>) -> Result<()> {
    match invocation {
        Invocation::Run(config, _) => run(config).await,
        Invocation::Extra(config, command) => tell(&config, command).await,
    }
}

async fn tell(config: &Config, command: Command) -> Result<()> {
    match command {
        Command::Status { json: true } => println!("{}", call(config, "status").await?),
        Command::Status { json: false } => print!("{}", status(config).await?.to_text()),
        Command::Switchover => {
            follow(config, "switchover", "given up").await?;
        }
        Command::Maintenance {
            what: Maintenance::Begin { server },
        } => {
            call(config, &format!("maintenance begin {server}")).await?;
            is_out(config, &server).await?;
            println!(
                "{server} is out of the in-sync set, and routers send it nothing that another server can do, from their next look on. \
                 `arbiter maintenance end {server}` takes it back"
            );
        }
        Command::Maintenance {
            what: Maintenance::End { server },
        } => {
            call(config, &format!("maintenance end {server}")).await?;
            println!("{server} is back; it is in sync again once it has caught up");
        }
        Command::ForcePromote {
            server,
            accept_loss,
        } => {
            let flag = if accept_loss { " --accept-loss" } else { "" };
            let command = format!("force-promote {server}{flag}");
            follow(
                config,
                &command,
                "taken back: the primary answers again, or the replica has no data to offer",
            )
            .await?;
        }
        Command::Adopt { server } => {
            call(config, &format!("adopt {server}")).await?;
            println!("{server} is the primary; `arbiter status` says how the other one comes on");
        }
        Command::ForgetState => {
            let store = Store::open(&config.state_directory);
            // Their sentences have their causes in them.
            let forgotten = store.and_then(|store| store.forget());
            match forgotten.map_err(|error| anyhow::Error::msg(error.to_string()))? {
                Some(kept) => println!(
                    "the state is forgotten, and kept as {}. Start the arbiter: `arbiter adopt SERVER` names the server whose data counts",
                    kept.display()
                ),
                None => println!("there is no state"),
            }
        }
        Command::Events { json } => {
            let events: Vec<Event> = serde_json::from_str(&call(config, "events").await?)?;
            for event in events {
                if json {
                    println!("{}", serde_json::to_string(&event)?);
                } else {
                    print!("{}", event.to_text());
                }
            }
        }
        Command::Discarded { name: None } => {
            let names: Vec<String> = serde_json::from_str(&call(config, "discarded").await?)?;
            for name in names {
                println!("{name}");
            }
        }
        Command::Discarded { name: Some(name) } => {
            let said = call(config, &format!("discarded {name}")).await?;
            print!("{}", serde_json::from_str::<String>(&said)?);
        }
    }
    Ok(())
}

/// Waits until that is published and no commit waits for the server any more.
async fn is_out(config: &Config, server: &str) -> Result<()> {
    let phase = Phase::Maintenance(server.to_owned()).to_string();
    let begun = Instant::now();
    loop {
        let now = status(config).await?;
        if now.phase != phase {
            bail!("the maintenance was ended by something else: `arbiter events` says by what");
        }
        let commits_wait = now.servers.iter().any(|server| server.semi_sync);
        if now.published && !commits_wait {
            return Ok(());
        }
        if begun.elapsed() > CHANGE_MAX {
            bail!(
                "{server} is out of the in-sync set, and after {CHANGE_MAX:?} that is not published yet: `arbiter status` says what is waited for"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Asks for a change of the primary, and says what came of it.
async fn follow(config: &Config, command: &str, otherwise: &str) -> Result<()> {
    let before = status(config).await?;
    let begun = Instant::now();
    call(config, command).await?;
    loop {
        let now = status(config).await?;
        if now.epoch > before.epoch && now.open {
            println!(
                "{} is the primary of epoch {}, after {} ms",
                now.primary,
                now.epoch,
                begun.elapsed().as_millis()
            );
            return Ok(());
        }
        if now.epoch == before.epoch && now.phase == "steady" {
            bail!(
                "the change was {otherwise}: {} is still the primary. `arbiter events` says why",
                now.primary
            );
        }
        if begun.elapsed() > CHANGE_MAX {
            bail!(
                "after {CHANGE_MAX:?} it has not come to an end: `arbiter status` says what is waited for"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn status(config: &Config) -> Result<Status> {
    Ok(serde_json::from_str(&call(config, "status").await?)?)
}

/// Its sentence has the cause in it.
async fn call(config: &Config, command: &str) -> Result<String> {
    let asked = admin::call(&config.admin_socket, command, TIMEOUT).await;
    asked.map_err(|error| anyhow::Error::msg(error.to_string()))
}
