//! From what is recorded and what is seen to what is done next. Pure: it asks nothing and does nothing, so every situation is a test.
//!
//! A decision never trusts an earlier one. It looks at the state and at the servers as they are, and gives the steps that are safe now
//! and lead on; once they are done, the next round looks again. That is why an arbiter that died between any two steps needs no memory
//! of them. A change of the primary is a phase in the state, with rules of its own, and is committed by one write of the state.

mod ask;
mod bootstrap;
mod failover;
mod grow;
mod open;
mod promote;
mod replicate;
mod reprovision;
mod shrink;
mod switchover;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use ask::{Ask, grant};
pub(crate) use open::says;
use replication::Endpoint;

use crate::condition::Condition;
use crate::look::Look;
use crate::observe::{Facts, Observation};
use crate::state::{Phase, State};
use crate::step::Step;

/// What to do now, and what is in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// In this order; one that fails ends the round.
    pub steps: Vec<Step>,
    /// What keeps the pair from being as it should.
    pub conditions: Vec<Condition>,
}

impl Decision {
    /// What is waited for.
    #[must_use]
    pub fn waits(&self) -> Vec<String> {
        self.sentences(true)
    }

    /// What a person has to look at.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        self.sentences(false)
    }

    fn sentences(&self, passing: bool) -> Vec<String> {
        let these = self.conditions.iter().filter(|c| c.passes() == passing);
        these.map(ToString::to_string).collect()
    }

    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether it changes the state.
    fn saves(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Save(_)))
    }

    fn say(&mut self, condition: Condition) {
        self.conditions.push(condition);
    }
}

/// How long things may take before something is done about them.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long the primary may say nothing before it can be replaced.
    pub failover_after: Duration,
    /// How old the replica's last sign of life from the primary may be: an older one says that the link is dead.
    pub link_timeout: Duration,
    /// How long a primary that was restarted waits for its replica before it is opened alone.
    pub open_alone_after: Duration,
    /// How long a switchover is announced before writes are refused.
    pub switchover_announce: Duration,
    /// How long a switchover may take before it is given up.
    pub switchover_limit: Duration,
}

/// The primary and its replica, by the state, each with what it said if it answered and is who the state says it is.
struct Roles<'a> {
    state: &'a State,
    primary: &'a Endpoint,
    primary_facts: Option<&'a Facts>,
    replica: &'a Endpoint,
    replica_facts: Option<&'a Facts>,
}

/// Decides. `servers` are the configured two; the first becomes the primary of an empty pair.
#[must_use]
pub fn decide(
    servers: &[Endpoint; 2],
    state: Option<&State>,
    look: &Look,
    timing: &Timing,
) -> Decision {
    let mut decision = Decision::default();
    let Some(state) = state else {
        bootstrap::decide(servers, look, &mut decision);
        return decision;
    };
    let Some(roles) = roles(servers, state, look, &mut decision) else {
        return decision;
    };
    if decision.saves() {
        return decision;
    }
    match state.phase {
        Phase::Failover | Phase::ForcedPromotion => promote::decide(&roles, look, &mut decision),
        Phase::Switchover => switchover::decide(&roles, look, timing, &mut decision),
        Phase::Bootstrap | Phase::Steady | Phase::Maintenance(_) => {
            keep(&roles, look, timing, &mut decision);
        }
    }
    decision
}

/// Keeps the pair as it is recorded, or changes what is recorded: one change a round, for whatever else is made from the state in the same
/// round would undo it.
fn keep(roles: &Roles<'_>, look: &Look, timing: &Timing, decision: &mut Decision) {
    if failover::begin(roles, look, timing, decision)
        || shrink::decide(roles, look, timing, decision)
    {
        return;
    }
    let replica_is_fit = replicate::decide(roles, look, decision);
    if decision.saves() {
        return;
    }
    if roles.state.is_redundant() {
        open::decide(roles, look.heart, replica_is_fit, decision);
        return;
    }
    grow::decide(roles, look, replica_is_fit, decision);
    if decision.saves() {
        return;
    }
    if let Some(primary) = roles.primary_facts
        && replicate::lost_by_primary(roles).is_none()
    {
        open::alone(roles.state, primary, decision);
    }
}

/// Why nothing may be touched at all, if it is so.
fn says_no(servers: &[Endpoint; 2], state: &State, look: &Look) -> Option<String> {
    let mut decision = Decision::default();
    roles(servers, state, look, &mut decision);
    let refusals = decision.refusals();
    (!refusals.is_empty()).then(|| refusals.join("; "))
}

/// Who is who. `None` where the state does not fit what is there, so that nothing at all may be touched.
fn roles<'a>(
    servers: &'a [Endpoint; 2],
    state: &'a State,
    look: &'a Look,
    decision: &mut Decision,
) -> Option<Roles<'a>> {
    let named = |name: &str| servers.iter().find(|server| server.name == name);
    let (Some(primary), Some(replica)) = (named(&state.primary), state.replica().and_then(named))
    else {
        let mut recorded: Vec<&str> = state.uuids.keys().map(String::as_str).collect();
        recorded.sort_unstable();
        decision.say(Condition::OtherNames {
            recorded: recorded.join(" and "),
            configured: servers.each_ref().map(|s| s.name.as_str()).join(" and "),
        });
        return None;
    };
    let before = decision.conditions.len();
    let primary_facts = identified(primary, "primary", state, look, decision);
    let replica_facts = identified(replica, "replica", state, look, decision);
    // A primary goes on without a replica that is another one.
    let refused = decision.conditions[before..].iter().any(|condition| {
        !condition.passes() && !matches!(condition, Condition::OtherReplica { .. })
    });
    (!refused).then_some(Roles {
        state,
        primary,
        primary_facts,
        replica,
        replica_facts,
    })
}

/// What the server said, if it answered and is the one in the state.
fn identified<'a>(
    server: &Endpoint,
    role: &'static str,
    state: &State,
    look: &'a Look,
    decision: &mut Decision,
) -> Option<&'a Facts> {
    let facts = answer(server, role, look, decision)?;
    let recorded = state.uuids.get(&server.name).map_or("", String::as_str);
    if !facts.server.uuid.eq_ignore_ascii_case(recorded) {
        // A replica's data may be thrown away: it is made anew. Who has every acknowledged write is somebody else then.
        if server.name != state.primary && facts.is_new() {
            decision.say(Condition::Replaced(server.name.clone()));
            if !state.is_redundant() && state.phase != Phase::ForcedPromotion {
                let mut state = state.clone();
                state
                    .uuids
                    .insert(server.name.clone(), facts.server.uuid.clone());
                decision.step(Step::Save(state));
            }
            return None;
        }
        let (found, recorded) = (facts.server.uuid.clone(), recorded.to_owned());
        let primary = state.primary.clone();
        let replica = state.replica().unwrap_or_default().to_owned();
        decision.say(match server.name == primary {
            true => Condition::OtherPrimary {
                primary,
                replica,
                found,
                recorded,
            },
            false => Condition::OtherReplica {
                primary,
                replica,
                found,
                recorded,
            },
        });
        return None;
    }
    if let Some(row) = &facts.row {
        let contradicts = row.epoch == state.epoch && row.primary_server != state.primary;
        if row.epoch > state.epoch || contradicts {
            decision.say(Condition::OldState {
                server: server.name.clone(),
                published: row.epoch,
                primary: row.primary_server.clone(),
                recorded: state.epoch,
            });
            return None;
        }
    }
    Some(facts)
}

/// What the server said; that it does not answer is waited for.
fn answer<'a>(
    server: &Endpoint,
    role: &'static str,
    look: &'a Look,
    decision: &mut Decision,
) -> Option<&'a Facts> {
    let why = match look.servers.get(&server.name).map(Observation::as_ref) {
        Some(Ok(facts)) => return Some(facts),
        Some(Err(silence)) => silence.why.as_str(),
        None => "it was not looked at",
    };
    decision.say(Condition::Silent {
        server: server.name.clone(),
        role,
        why: why.to_owned(),
    });
    None
}
