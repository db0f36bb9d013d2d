//! `./stack roll balancer|web`: replaces the containers of a kind one after the other, while the stack serves.
//!
//! A web server is out of both balancers' rotation before it stops, and in both again before the next one's turn. A balancer closes its
//! port at once, the other one has the same port, and the next one's turn comes when the new one sees both web servers. If one does
//! not come back, the next is left alone: then one of the two is as it was.

mod seen;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    command::{self, CommandError},
    compose,
    progress::Progress,
    status::{self, BALANCERS},
};

/// How long what is to be rolled may take to be whole before it begins: a check that came late on a busy machine is none that failed.
const WHOLE_WITHIN: Duration = Duration::from_secs(15);

/// How long the balancers may take to notice that a web server is about to stop. They look every second.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// How long Compose may take to replace a container, what it stops finishing its work included: a bit more than the longest
/// `stop_grace_period`.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// How long the new one may take to be well.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What can be rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// balancer-1, then balancer-2
    Balancer,
    /// web-1, then web-2
    Web,
}

impl Kind {
    /// Its services, in the order in which they are replaced.
    #[must_use]
    pub fn services(self) -> [&'static str; 2] {
        match self {
            Self::Balancer => BALANCERS,
            Self::Web => ["web-1", "web-2"],
        }
    }

    /// The program in its containers.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Web => "web",
        }
    }
}

/// Why not all of them were replaced.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// Taking one away now could take the last one that serves.
    #[error(
        "nothing was replaced, for not all is well: {0}; ./stack status says more, ./stack up brings back what is away"
    )]
    NotWhole(String),
    /// The balancers went on sending to it.
    #[error("{service} was asked to stop, and after {} s {why}; ./stack up brings it back", NOTICED_WITHIN.as_secs())]
    NotNoticed {
        /// Which one.
        service: String,
        /// Who still sends.
        why: String,
    },
    /// The new one is not well.
    #[error("{service} is new and after {} s not well: {why}; the rest was left as it was; ./stack logs {service} says more", BACK_WITHIN.as_secs())]
    NotBack {
        /// Which one.
        service: String,
        /// What is missing.
        why: String,
    },
    /// Compose did not do it.
    #[error(
        "{service} was not replaced: {error}; the rest was left as it was; ./stack status says how things are"
    )]
    NotReplaced {
        /// Which one.
        service: String,
        /// Its words.
        error: CommandError,
    },
}

/// Replaces both, then waits until the engine calls them healthy too, and says how it went.
///
/// # Errors
/// In a sentence that says what was replaced and what to do.
pub async fn roll(kind: Kind) -> Result<(), RollError> {
    let progress = Progress::begin();
    in_turn(kind, &progress).await?;
    let [first, second] = kind.services();
    for service in [first, second] {
        until(BACK_WITHIN, async || engine_calls_healthy(service).await)
            .await
            .map_err(|why| RollError::NotBack {
                service: service.to_owned(),
                why,
            })?;
    }
    progress.say(&format!("{first} and {second} are replaced and healthy"));
    Ok(())
}

/// Replaces both, each when the other serves.
///
/// # Errors
/// In a sentence that says what was replaced and what to do.
pub async fn in_turn(kind: Kind, progress: &Progress) -> Result<(), RollError> {
    until(WHOLE_WITHIN, async || whole(kind).await)
        .await
        .map_err(RollError::NotWhole)?;
    for service in kind.services() {
        if kind == Kind::Web {
            take_out(service, progress).await?;
        }
        replace(service).await?;
        progress.say(&format!("{service}: replaced"));
        until(BACK_WITHIN, async || {
            serves(service, kind.program()).await?;
            match kind {
                Kind::Web => seen::by_all_up(service, &edges().await),
                Kind::Balancer => seen::all_up(service, status::edge(service).await),
            }
        })
        .await
        .map_err(|why| RollError::NotBack {
            service: service.to_owned(),
            why,
        })?;
        progress.say(&match kind {
            Kind::Web => format!("{service}: answers, and both balancers send to it"),
            Kind::Balancer => format!("{service}: answers, and sends to both web servers"),
        });
    }
    Ok(())
}

/// All containers of the kind serve, and both balancers send to both web servers.
async fn whole(kind: Kind) -> Result<(), String> {
    for service in kind.services() {
        serves(service, kind.program()).await?;
    }
    let edges = edges().await;
    for service in Kind::Web.services() {
        seen::by_all_up(service, &edges)?;
    }
    Ok(())
}

/// Asks a web server to stop, and waits until no balancer sends it anything new. It serves until then, and some time longer.
async fn take_out(service: &str, progress: &Progress) -> Result<(), RollError> {
    let arguments = ["compose", "kill", "--signal", "SIGTERM", service];
    command::output("docker", &arguments)
        .await
        .map_err(|error| RollError::NotReplaced {
            service: service.to_owned(),
            error,
        })?;
    progress.say(&format!(
        "{service}: asked to stop; it serves on until the balancers have noticed"
    ));
    until(NOTICED_WITHIN, async || {
        seen::by_none_up(service, &edges().await)
    })
    .await
    .map_err(|why| RollError::NotNoticed {
        service: service.to_owned(),
        why,
    })?;
    progress.say(&format!("{service}: no balancer sends it anything new"));
    Ok(())
}

/// A new container for the service; the old one finishes what it has. A web server that was asked before is asked a second time by this,
/// which ends its announcement.
async fn replace(service: &str) -> Result<(), RollError> {
    let arguments = [
        "compose",
        "up",
        "--detach",
        "--no-deps",
        "--no-build",
        "--force-recreate",
        service,
    ];
    command::output_within(REPLACED_WITHIN, "docker", &arguments)
        .await
        .map(drop)
        .map_err(|error| RollError::NotReplaced {
            service: service.to_owned(),
            error,
        })
}

/// The container's own health check, now: the engine makes it every few seconds only.
async fn serves(service: &str, program: &str) -> Result<(), String> {
    let program = format!("/usr/local/bin/{program}");
    let answer = compose::exec(service, &[&program, "healthcheck"]).await;
    answer
        .map(drop)
        .map_err(|error| format!("{service}: {error}"))
}

async fn engine_calls_healthy(service: &str) -> Result<(), String> {
    let containers = compose::containers()
        .await
        .map_err(|error| error.to_string())?;
    let container = containers.iter().find(|found| found.service == service);
    match container {
        Some(container) if container.health == "healthy" => Ok(()),
        Some(container) => Err(format!("the engine calls it {}", container.health)),
        None => Err("it is gone".to_owned()),
    }
}

/// What both balancers see, asked at the same time.
async fn edges() -> seen::Edges {
    let (first, second) = tokio::join!(status::edge(BALANCERS[0]), status::edge(BALANCERS[1]));
    [(BALANCERS[0], first), (BALANCERS[1], second)]
}

/// Looks until it is so; the last reason why it was not, when the time is over.
pub(crate) async fn until(
    limit: Duration,
    look: impl AsyncFn() -> Result<(), String>,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    loop {
        let Err(why) = look().await else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(why);
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_looked_until_it_is_so_and_the_last_reason_is_told() {
        let looks = AtomicU32::new(0);
        let third = until(Duration::from_secs(1), async || {
            match looks.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        });
        assert_eq!(third.await, Ok(()));
        let never = until(Duration::from_secs(1), async || Err("away".to_owned()));
        assert_eq!(never.await, Err("away".to_owned()));
    }
}
