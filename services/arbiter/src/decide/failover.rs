//! FAILOVER, its beginning: whether the primary is gone, and whether the replica may take its place.
//!
//! Gone is a primary that says nothing to the arbiter, not even no, *and* that its replica no longer hears: one that is full or busy answers
//! or goes on sending, and one that is cut off from the arbiter alone goes on serving. Only a replica that is in sync, in the boot in which
//! it was seen to be, is promoted; else a person decides.

use std::time::Duration;

use super::{Decision, Roles, Timing};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::state::Phase;
use crate::step::Step;

/// Gives whether it is begun.
pub(super) fn begin(
    roles: &Roles<'_>,
    look: &Look,
    timing: &Timing,
    decision: &mut Decision,
) -> bool {
    let Some(facts) = roles
        .replica_facts
        .filter(|_| roles.primary_facts.is_none())
    else {
        return false;
    };
    if look.primary_away < timing.failover_after {
        return false;
    }
    let (primary, replica) = (roles.primary.name.clone(), roles.replica.name.clone());
    if let Some(age) = hears(facts, timing) {
        decision.say(Condition::StillHeard {
            primary,
            replica,
            link: format!("{} ms ago", age.as_millis()),
        });
        return false;
    }
    if !roles.state.is_redundant() {
        decision.say(Condition::StaleReplica { primary, replica });
        return false;
    }
    if roles.state.phase == Phase::Bootstrap {
        return false;
    }
    if roles.state.replica_boot.as_deref() != Some(&facts.boot) {
        decision.say(Condition::RestartedReplica { primary, replica });
        return false;
    }
    if facts.replica.is_none() {
        return false;
    }
    decision.say(Condition::Fencing {
        primary,
        replica: replica.clone(),
    });
    decision.step(Step::Save(roles.state.in_phase(Phase::Failover)));
    decision.step(Step::StopReceiver(replica));
    true
}

/// How long ago the replica last heard from its source, if that is no longer than a link that is alive needs.
pub(super) fn hears(replica: &Facts, timing: &Timing) -> Option<Duration> {
    let channel = replica.replica.as_ref()?;
    channel
        .link_age
        .filter(|age| channel.receiver == "ON" && *age < timing.link_timeout)
}
