//! A replica whose data cannot lead to the primary's gets it anew, by CLONE: it has transactions of its own, or lacks what the primary has
//! purged, or was in the middle of a CLONE before. What it alone has is saved first. Only while the primary is alone in sync: a commit that
//! waits for an acknowledgement would hold the copying up, and it is the replica's data that is thrown away.

use replication::GtidSet;

use super::{Decision, Roles};
use crate::condition::Condition;
use crate::observe::Facts;
use crate::state::Phase;
use crate::step::Step;

pub(super) fn decide(
    roles: &Roles<'_>,
    replica: &Facts,
    errant: &GtidSet,
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
