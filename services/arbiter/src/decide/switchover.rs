//! SWITCHOVER: the replica takes the primary's place as planned. It is announced, so that routers hold writes back; transactions that are
//! open may end; the primary is made read-only; the replica applies all of it; then it goes on as any promotion, from the fence on.
//!
//! It has a limit: whatever is not as it should be by then, or goes away meanwhile, ends it, and the primary is opened again.

use replication::ReplicaFacts;

use super::{Decision, Roles, Timing, open, promote, replicate};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::state::Phase;
use crate::step::Step;

pub(super) fn decide(roles: &Roles<'_>, look: &Look, timing: &Timing, decision: &mut Decision) {
    let state = roles.state;
    let both = roles.primary_facts.zip(roles.replica_facts);
    let fit = both.and_then(|(primary, replica)| {
        let same_boot = state.replica_boot.as_deref() == Some(&replica.boot);
        let channel = replica.replica.as_ref()?;
        (same_boot && replica.server.super_read_only).then_some((primary, replica, channel))
    });
    let in_time = look.phase_age < timing.switchover_limit;
    let Some((primary, replica, channel)) = fit.filter(|_| in_time) else {
        // What is amiss is the business of the other phases.
        decision.step(Step::Save(state.in_phase(Phase::Steady)));
        return;
    };
    if primary.server.super_read_only {
        hand_over(roles, primary, replica, channel, decision);
    } else {
        close(roles, primary, look, timing, decision);
    }
}

/// Announces, waits for what has begun, and closes the primary for writes.
fn close(
    roles: &Roles<'_>,
    primary: &Facts,
    look: &Look,
    timing: &Timing,
    decision: &mut Decision,
) {
    let name = &roles.primary.name;
    let published = primary
        .row
        .as_ref()
        .is_some_and(|row| open::says(row, roles.state));
    if !published {
        decision.say(Condition::SwitchingOver("it is announced"));
        decision.step(Step::Publish {
            on: name.clone(),
            state: roles.state.clone(),
        });
        return;
    }
    // Half of what is left of the time is theirs; whoever is not done then finds the primary read-only at COMMIT (1290).
    let announced = timing.switchover_announce;
    let patience = announced + timing.switchover_limit.saturating_sub(announced) / 2;
    let busy = primary.open_transactions != Some(0);
    if look.phase_age < announced || (busy && look.phase_age < patience) {
        decision.say(Condition::SwitchingOver(
            "transactions that have begun may end",
        ));
        return;
    }
    decision.say(Condition::SwitchingOver("the primary is made read-only"));
    decision.step(Step::ForbidWrites(name.clone()));
}

/// Hands over once the replica has all of it.
fn hand_over(
    roles: &Roles<'_>,
    primary: &Facts,
    replica: &Facts,
    channel: &ReplicaFacts,
    decision: &mut Decision,
) {
    let name = &roles.replica.name;
    let missing = primary.server.executed.subtract(&replica.server.executed);
    if missing.is_empty() {
        decision.say(Condition::SwitchingOver("the replica has everything"));
        promote::drain(roles, replica, decision);
    } else if replicate::keep_applying(name, channel, decision) {
        decision.say(Condition::Draining {
            primary: roles.primary.name.clone(),
            replica: name.clone(),
            missing: missing.count(),
        });
    }
}
