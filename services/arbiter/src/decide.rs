//! From what is recorded and what is seen to what is done next. Pure: it asks nothing and does nothing, so every situation is a test.
//!
//! A decision never trusts an earlier one. It looks at the state and at the servers as they are, and gives the steps that are safe now
//! and lead on; once they are done, the next round looks again. That is why an arbiter that died between any two steps needs no memory
//! of them, and why a change that will be added here (shrink, failover, switchover, rejoin) is a phase in the state and rules of its own.

mod bootstrap;
mod open;
mod replicate;
#[cfg(test)]
mod tests;

pub(crate) use open::would_acknowledge;
use replication::Endpoint;

use crate::condition::Condition;
use crate::look::Look;
use crate::observe::{Facts, Observation};
use crate::state::State;
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

    fn say(&mut self, condition: Condition) {
        self.conditions.push(condition);
    }
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
pub fn decide(servers: &[Endpoint; 2], state: Option<&State>, look: &Look) -> Decision {
    let mut decision = Decision::default();
    let Some(state) = state else {
        bootstrap::decide(servers, look, &mut decision);
        return decision;
    };
    let Some(roles) = roles(servers, state, look, &mut decision) else {
        return decision;
    };
    let replica_is_fit = replicate::decide(&roles, look, &mut decision);
    // One change of the state a round: whatever else is made from it now would undo this one.
    if matches!(decision.steps.last(), Some(Step::Save(_))) {
        return decision;
    }
    open::decide(&roles, look.heart, replica_is_fit, &mut decision);
    decision
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
    if state.in_sync.len() < 2 {
        decision.say(Condition::Alone(state.primary.clone()));
        return None;
    }
    let before = decision.conditions.len();
    let primary_facts = identified(primary, "primary", state, look, decision);
    let replica_facts = identified(replica, "replica", state, look, decision);
    let refused = decision.conditions[before..]
        .iter()
        .any(|condition| !condition.passes());
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
        decision.say(Condition::OtherServer {
            server: server.name.clone(),
            found: facts.server.uuid.clone(),
            recorded: recorded.to_owned(),
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
        Some(Err(why)) => why.as_str(),
        None => "it was not looked at",
    };
    decision.say(Condition::Silent {
        server: server.name.clone(),
        role,
        why: why.to_owned(),
    });
    None
}
