//! What the arbiter knows, for people and for programs.

use std::{fmt::Write, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    condition::Condition,
    decide::{self, Decision},
    look::{Heart, Look},
    observe::Observation,
    state::State,
};

/// Everything, as `arbiter status --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The epoch, 0 before the first state.
    pub epoch: u64,
    /// The phase: `none` before the first state.
    pub phase: String,
    /// The primary of the epoch.
    pub primary: String,
    /// The servers that hold every acknowledged write.
    pub in_sync: Vec<String>,
    /// Whether the primary tells the routers what is recorded.
    #[serde(default)]
    pub published: bool,
    /// Whether the primary takes writes.
    pub open: bool,
    /// Whether the last heartbeat was acknowledged in time, by the replica if it is in sync: if not, commits wait.
    pub acknowledging: bool,
    /// What is waited for.
    pub waits: Vec<String>,
    /// What a person has to look at.
    pub refusals: Vec<String>,
    /// The servers.
    pub servers: Vec<ServerStatus>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// `primary`, `replica`, or `none` before the first state.
    pub role: String,
    /// Whether it answered.
    pub reachable: bool,
    /// Why not.
    pub error: String,
    /// `read_only`: nobody but the arbiter can write here, and if `super_read_only`, nobody at all.
    pub read_only: bool,
    /// `super_read_only`.
    pub super_read_only: bool,
    /// `offline_mode`: nobody but the arbiter can log in.
    pub offline_mode: bool,
    /// Whether it acknowledges what it receives, by the last heartbeat; for a replica.
    pub acknowledging: Option<bool>,
    /// What it has executed.
    pub executed: String,
    /// The receiver's state, for a replica.
    pub receiver: Option<String>,
    /// Whether the applier runs, for a replica.
    pub applier: Option<bool>,
    /// The age of what it has received and not applied, in milliseconds, for a replica that receives and applies.
    pub lag_ms: Option<u64>,
    /// How many transactions of the primary it has not applied, for a replica.
    pub lag_transactions: Option<u64>,
    /// Whether commits on it wait for an acknowledgement, and how many do now.
    pub semi_sync: bool,
    /// Sessions that wait for one.
    pub waiting_sessions: u64,
}

impl Status {
    /// From what was decided and seen last, and what was known before it: a primary that has missed a look, and is not missed for longer than
    /// `patience`, takes writes as it did; and so does one that only the arbiter misses.
    #[must_use]
    pub fn of(
        state: Option<&State>,
        decision: &Decision,
        look: &Look,
        before: &Self,
        patience: Duration,
    ) -> Self {
        let primary = state.map_or("", |state| state.primary.as_str());
        let is_the_same = state.is_some_and(|state| state.epoch == before.epoch);
        let open = match look.facts(primary) {
            Some(facts) => facts.open(),
            None => {
                let is_heard = |said: &Condition| matches!(said, Condition::StillHeard { .. });
                let is_heard = decision.conditions.iter().any(is_heard);
                is_the_same && before.open && (look.primary_unseen < patience || is_heard)
            }
        };
        let acknowledging = match look.heart {
            Heart::Beats => true,
            Heart::Silent => false,
            Heart::Unknown => is_the_same && before.acknowledging && open,
        };
        let servers = look
            .servers
            .iter()
            .map(|(name, observation)| server(name, primary, acknowledging, observation, look))
            .collect();
        Self {
            epoch: state.map_or(0, |state| state.epoch),
            phase: state.map_or_else(|| "none".to_owned(), |state| state.phase.to_string()),
            primary: primary.to_owned(),
            in_sync: state
                .map(|state| state.in_sync.iter().cloned().collect())
                .unwrap_or_default(),
            published: look
                .facts(primary)
                .and_then(|facts| facts.row.as_ref())
                .zip(state)
                .is_some_and(|(row, state)| decide::says(row, state)),
            open,
            acknowledging,
            waits: decision.waits(),
            refusals: decision.refusals(),
            servers,
        }
    }

    /// Takes over what is recorded, before the servers are looked at again.
    pub fn record(&mut self, state: Option<&State>) {
        let Some(state) = state else { return };
        self.epoch = state.epoch;
        self.phase = state.phase.to_string();
        self.in_sync = state.in_sync.iter().cloned().collect();
        self.published = false;
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let writes = match (self.open, self.acknowledging, self.in_sync.len()) {
            (true, true, ..2) => "open, on one server alone",
            (true, false, ..2) => "open, on one server alone, which commits nothing",
            (true, true, _) => "open",
            (true, false, _) => "wait for the replica's acknowledgement",
            (false, ..) => "closed",
        };
        let _ = writeln!(
            text,
            "epoch {}   phase {}   in sync {}   writes {writes}",
            self.epoch,
            self.phase,
            self.in_sync.join(", ")
        );
        for server in &self.servers {
            let state = match (server.reachable, server.offline_mode, server.read_only) {
                (false, ..) => "away",
                (_, true, _) => "closed",
                (_, _, true) => "read-only",
                _ => "open",
            };
            let lag = server
                .lag_ms
                .map(|lag| format!("   lag {lag} ms"))
                .unwrap_or_default();
            let error = if server.error.is_empty() {
                String::new()
            } else {
                format!("   {}", server.error)
            };
            let _ = writeln!(
                text,
                "{:<10} {:<8} {state:<10}{lag}{error}",
                server.name, server.role
            );
        }
        for wait in &self.waits {
            let _ = writeln!(text, "waits: {wait}");
        }
        for refusal in &self.refusals {
            let _ = writeln!(text, "needs a person: {refusal}");
        }
        text
    }
}

fn server(
    name: &str,
    primary: &str,
    acknowledging: bool,
    observation: &Observation,
    look: &Look,
) -> ServerStatus {
    let role = match primary {
        "" => "none",
        primary if primary == name => "primary",
        _ => "replica",
    };
    // Else the heartbeat was acknowledged by the primary itself.
    let is_waited_for = match look.facts(primary) {
        Some(primary) => primary.semi_sync.source_enabled,
        None => true,
    };
    let facts = observation.as_ref().ok();
    let replica = facts.and_then(|facts| facts.replica.as_ref());
    // One that receives nothing has applied all of it, and may be behind by any time.
    let lag = facts
        .zip(replica)
        .map(|(facts, replica)| replica.lag(&facts.server.executed))
        .filter(|lag| lag.running)
        .and_then(|lag| lag.behind);
    ServerStatus {
        name: name.to_owned(),
        role: role.to_owned(),
        reachable: facts.is_some(),
        error: observation
            .as_ref()
            .err()
            .map(|silence| silence.why.clone())
            .unwrap_or_default(),
        read_only: facts.is_some_and(|facts| facts.server.read_only),
        super_read_only: facts.is_some_and(|facts| facts.server.super_read_only),
        offline_mode: facts.is_some_and(|facts| facts.server.offline_mode),
        acknowledging: (role == "replica").then_some(acknowledging && is_waited_for),
        executed: facts
            .map(|facts| facts.server.executed.to_string())
            .unwrap_or_default(),
        receiver: replica.map(|replica| replica.receiver.clone()),
        applier: replica.map(|replica| replica.applier_on),
        lag_transactions: (role == "replica")
            .then(|| {
                let (primary, facts) = look.facts(primary).zip(facts)?;
                let behind = primary.server.executed.subtract(&facts.server.executed);
                Some(behind.count())
            })
            .flatten(),
        semi_sync: facts.is_some_and(|facts| facts.semi_sync.source_enabled),
        waiting_sessions: facts.map_or(0, |facts| facts.semi_sync.waiting_sessions),
        lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
    }
}
