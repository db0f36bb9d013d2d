//! A replica whose data cannot lead to the primary's gets it anew, by CLONE: it has transactions of its own, or lacks what the primary has
//! purged, or was in the middle of a CLONE before. What it alone has is saved first. Only while the primary is alone in sync: a commit that
//! waits for an acknowledgement would hold the copying up, and it is the replica's data that is thrown away.

use replication::{CloneState, GtidSet};

use super::{Decision, Roles};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::state::Phase;
use crate::step::Step;

pub(super) fn decide(
    roles: &Roles<'_>,
    replica: &Facts,
    errant: &GtidSet,
    look: &Look,
    decision: &mut Decision,
) {
    let (name, primary_name) = (&roles.replica.name, &roles.primary.name);
    let alone = !roles.state.is_redundant() && roles.state.phase == Phase::Steady;
    let ready = roles
        .primary_facts
        .is_some_and(|primary| primary.open() && !primary.semi_sync.source_enabled);
    if !alone || !ready {
        return;
    }
    if !replica.server.offline_mode {
        decision.step(Step::TakeOffline(name.clone()));
    }
    if replica.replica.is_some() {
        decision.step(Step::ForgetSource(name.clone()));
    }
    let own = errant.intersection(&replica.server.executed);
    if !own.is_empty() {
        if let Some(why) = &look.not_saved {
            decision.say(Condition::NotSaved {
                server: name.clone(),
                why: why.clone(),
            });
        }
        decision.step(Step::SaveDiscarded {
            server: name.clone(),
            errant: own,
        });
    }
    decision.say(Condition::Cloning {
        primary: primary_name.clone(),
        replica: name.clone(),
    });
    decision.step(Step::Clone {
        replica: name.clone(),
        primary: primary_name.clone(),
    });
}

/// Why nobody is to be given the data of this replica: they are being made anew, were so in vain, or there are none; or it is still open,
/// as a deposed primary is.
pub(super) fn unusable(
    primary: &str,
    replica: &str,
    facts: &Facts,
    look: &Look,
) -> Option<Condition> {
    let name = replica.to_owned();
    if look.cloning.as_deref() == Some(replica) || facts.clone == CloneState::Running {
        return Some(Condition::Cloning {
            primary: primary.to_owned(),
            replica: name,
        });
    }
    if facts.clone == CloneState::Broken || facts.server.executed.is_empty() {
        return Some(Condition::NotWhole(name));
    }
    (!facts.server.super_read_only).then_some(Condition::WritableReplica(name))
}
