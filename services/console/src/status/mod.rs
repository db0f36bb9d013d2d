//! `./stack status`: one look tells what is wrong.
//!
//! The first line is the verdict. Then every service, the databases with their roles, the backends as each balancer sees them, and what
//! is waited for.

mod report;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use report::{Report, Service, State};

use crate::compose;

/// The balancers.
pub const BALANCERS: [&str; 2] = ["balancer-1", "balancer-2"];

/// What the arbiter knows, as far as it matters here; `arbiter status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The number of the configuration, 0 before there is one.
    pub epoch: u64,
    /// The primary of the epoch.
    pub primary: String,
    /// The servers that hold every acknowledged write.
    pub in_sync: Vec<String>,
    /// Whether the primary takes writes.
    pub open: bool,
    /// Whether heartbeats are acknowledged: if not, commits wait, for the replica or for the primary itself where that is alone.
    pub acknowledging: bool,
    /// What is waited for.
    pub waits: Vec<String>,
    /// What a person has to look at.
    pub refusals: Vec<String>,
    /// The servers.
    pub servers: Vec<Server>,
}

/// A database server, as the arbiter sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// `primary`, `replica` or `none`.
    pub role: String,
    /// Whether it answers.
    pub reachable: bool,
    /// The age of what it has received and not applied, in milliseconds.
    pub lag_ms: Option<u64>,
}

/// What a balancer knows of its backends; `balancer status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The backends.
    pub backends: Vec<Backend>,
}

/// A backend, as one balancer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// `up`, `standby`, `starting`, `not_ready`, `down`, `ejected`, `drain` or `maint`.
    pub state: String,
    /// What the last check found.
    pub reason: String,
    /// Requests that it has now, of this balancer.
    pub in_flight: u64,
}

impl Backend {
    /// Whether it gets requests, or would if the others were gone.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.state.as_str(), "up" | "standby")
    }
}

/// Looks at everything at the same time.
pub async fn look() -> Report {
    let (expected, containers, pair, edge_1, edge_2) = tokio::join!(
        compose::services(),
        compose::containers(),
        ask::<Pair>("arbiter", &["/usr/local/bin/arbiter", "status", "--json"]),
        edge(BALANCERS[0]),
        edge(BALANCERS[1]),
    );
    let edges = BALANCERS
        .map(str::to_owned)
        .into_iter()
        .zip([edge_1, edge_2]);
    match (expected, containers) {
        (Ok(expected), Ok(containers)) => Report::of(&expected, &containers, pair, edges.collect()),
        (Err(error), _) | (_, Err(error)) => Report::unknown(&error.to_string()),
    }
}

/// What a balancer says of its backends.
///
/// # Errors
/// In a sentence, when it does not answer.
pub async fn edge(balancer: &str) -> Result<Edge, String> {
    let status = ["/usr/local/bin/balancer", "status", "--json"];
    ask(balancer, &status).await
}

async fn ask<T: DeserializeOwned>(service: &str, program: &[&str]) -> Result<T, String> {
    let text = compose::exec(service, program).await;
    let text = text.map_err(|error| error.to_string())?;
    serde_json::from_str(&text)
        .map_err(|error| format!("{service} answers what cannot be read: {error}"))
}
