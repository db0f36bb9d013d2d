//! From the fence to the commit point: the replica's receiver is stopped, so the old primary can acknowledge nothing any more; what was
//! received is applied; the next epoch is recorded. Then the new primary is opened.
//!
//! Until the commit point nothing has changed but that the replica has stopped receiving: where the primary is back and the replica is not
//! what it was, or cannot apply what it has, the change is taken back. After it the old primary is only a server that has to be closed.

use super::{Decision, Roles, open, replicate, reprovision};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::state::Phase;
use crate::step::Step;

/// In the phases of a promotion whose reason is that the primary is gone.
pub(super) fn decide(roles: &Roles<'_>, look: &Look, decision: &mut Decision) {
    let state = roles.state;
    let (primary, name) = (&roles.primary.name, &roles.replica.name);
    let forced = state.phase == Phase::ForcedPromotion;
    let fit = roles.replica_facts.filter(|facts| match forced {
        true => reprovision::unusable(primary, name, facts, look).is_none(),
        // What it had acknowledged it must still have.
        false => state.replica_boot.as_deref() == Some(&facts.boot),
    });
    let back = roles.primary_facts.is_some();
    let answers = look.facts(name).is_some();
    match fit {
        Some(replica) if !(back && (forced || cannot_apply(replica))) => {
            drain(roles, replica, decision);
        }
        None if !back && !answers => decision.say(Condition::PromotionWaits {
            primary: primary.clone(),
            replica: name.clone(),
        }),
        None if !back && !forced => decision.say(Condition::RestartedReplica {
            primary: primary.clone(),
            replica: name.clone(),
        }),
        // The one that has everything is back, or what the other one has is nobody's data any more.
        _ => decision.step(Step::Save(state.in_phase(Phase::Steady))),
    }
}

fn cannot_apply(replica: &Facts) -> bool {
    let channel = replica.replica.as_ref();
    channel.is_some_and(|channel| !channel.applier_on && channel.applier_error != 0)
}

/// Fence, apply, commit: as far as it is known to have come.
pub(super) fn drain(roles: &Roles<'_>, replica: &Facts, decision: &mut Decision) {
    let (primary, name) = (&roles.primary.name, &roles.replica.name);
    if let Some(channel) = &replica.replica {
        if channel.receiver != "OFF" {
            decision.say(Condition::Fencing {
                primary: primary.clone(),
                replica: name.clone(),
            });
            decision.step(Step::StopReceiver(name.clone()));
            return;
        }
        let missing = channel.received.subtract(&replica.server.executed);
        if !missing.is_empty() {
            if replicate::keep_applying(name, channel, decision) {
                decision.say(Condition::Draining {
                    primary: primary.clone(),
                    replica: name.clone(),
                    missing: missing.count(),
                });
            }
            return;
        }
    }
    let state = roles.state.promoted(name);
    decision.step(Step::Save(state.clone()));
    open::alone(&state, replica, decision);
}
