//! What the admin socket answers: what is known, from the last look, and what a person asks for, which the loop grants or refuses in its next
//! round, for it alone changes the state.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use telemetry::metrics::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::decide::Ask;
use crate::discarded;
use crate::events::Events;
use crate::state::State;
use crate::status::Status;

/// A loop that has not come round for this long is not healthy.
const STUCK: Duration = Duration::from_secs(20);
/// How long a request waits for its round.
const ROUND: Duration = Duration::from_secs(10);
/// Requests that wait at one time.
const REQUESTS: usize = 8;
/// How many decisions are told.
const EVENTS: usize = 100;

/// The status, and when it is from.
pub type LastLook = (Status, Option<Instant>);

/// Something that a person asks for, and where the answer goes.
#[derive(Debug)]
pub struct Request {
    /// What.
    pub ask: Ask,
    reply: oneshot::Sender<Result<Granted, String>>,
}

/// What a request led to.
#[derive(Clone, Debug, Serialize)]
pub struct Granted {
    epoch: u64,
    phase: String,
}

impl Request {
    /// Whether somebody still waits for the answer. Who was told that the loop does not come round has gone on to something else.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        !self.reply.is_closed()
    }

    /// It was not granted, because.
    pub fn refuse(self, refusal: String) {
        // Who does not wait any more need not be told.
        let _ = self.reply.send(Err(refusal));
    }

    /// It was granted, and the state is this one now.
    pub fn grant(self, state: Option<&State>) {
        let granted = state.map(|state| Granted {
            epoch: state.epoch,
            phase: state.phase.to_string(),
        });
        let granted = granted.ok_or_else(|| "the state could not be written".to_owned());
        let _ = self.reply.send(granted);
    }
}

/// The requests, one after another.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// The next one; for ever, where nobody can ask any more.
    pub async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

/// Where requests go in, and where they come out.
#[must_use]
pub fn channel() -> (mpsc::Sender<Request>, Requests) {
    let (sender, receiver) = mpsc::channel(REQUESTS);
    (sender, Requests(receiver))
}

/// All that commands are answered from.
#[derive(Clone, Debug)]
pub struct Known {
    /// The last look.
    pub statuses: watch::Receiver<LastLook>,
    /// The metrics.
    pub registry: Registry,
    /// Where requests go.
    pub asks: mpsc::Sender<Request>,
    /// The log of decisions.
    pub events: Events,
    /// Where discarded transactions are saved.
    pub discarded: PathBuf,
}

impl Known {
    /// Answers a command, in JSON.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub async fn answer(&self, command: &str) -> Result<String, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["status"] => json(&self.statuses.borrow().0),
            ["metrics"] => json(&telemetry::metrics::render(&self.registry)),
            ["health"] => json(&self.health()),
            ["events"] => json(
                &self
                    .events
                    .last(EVENTS)
                    .map_err(|error| error.to_string())?,
            ),
            ["discarded"] => {
                json(&discarded::list(&self.discarded).map_err(|error| error.to_string())?)
            }
            ["discarded", name] => {
                let text = discarded::read(&self.discarded, name);
                json(&text.map_err(|error| format!("{name}: {error}"))?)
            }
            ["switchover"] => self.ask(Ask::Switchover).await,
            ["maintenance", "begin", server] => {
                self.ask(Ask::BeginMaintenance((*server).to_owned())).await
            }
            ["maintenance", "end", server] => {
                self.ask(Ask::EndMaintenance((*server).to_owned())).await
            }
            ["adopt", server] => self.ask(Ask::Adopt((*server).to_owned())).await,
            ["force-promote", server, rest @ ..] if matches!(rest, [] | ["--accept-loss"]) => {
                let (server, accept_loss) = ((*server).to_owned(), !rest.is_empty());
                let ask = Ask::ForcePromote {
                    server,
                    accept_loss,
                };
                self.ask(ask).await
            }
            _ => Err(format!(
                "no such command: {command}; `arbiter --help` says which there are"
            )),
        }
    }

    async fn ask(&self, ask: Ask) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let late = || {
            format!(
                "the arbiter's loop has not come round within {ROUND:?}: `arbiter status` says what holds it up"
            )
        };
        let request = Request { ask, reply };
        let asked = timeout(ROUND, async {
            self.asks.send(request).await.map_err(|_| late())?;
            answer.await.map_err(|_| late())?
        });
        json(&asked.await.map_err(|_| late())??)
    }

    /// Healthy is an arbiter whose loop comes round and whose primary is open, so that whoever waits for a healthy stack waits for the pair.
    /// A replica that is away is no illness: reads and writes go on, and the status says so.
    fn health(&self) -> String {
        let (status, at) = &*self.statuses.borrow();
        match at.map(|at| at.elapsed()) {
            None => "it has not looked at the servers yet".to_owned(),
            Some(age) if age > STUCK => format!("the last look at the servers was {age:?} ago"),
            Some(_) if status.open => "ok".to_owned(),
            Some(_) => {
                let why = [&status.refusals[..], &status.waits[..]].concat();
                format!("the pair is not open: {}", why.join("; "))
            }
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}
