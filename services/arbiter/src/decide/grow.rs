//! GROW: a replica that is not in sync becomes so. It catches up; commits on the primary wait for it; once it has applied all that the
//! primary had executed before any of that could be acknowledged by the primary alone, it is recorded as in sync.
//!
//! While it is far behind it does not wait for its disk at each event, for then a primary that is written to would stay ahead of it. What it
//! received so is not safe on its disk, but what it has applied is: therefore the proof asks for what it has *applied*.

use std::time::Duration;

use super::{Decision, Roles};
use crate::condition::Condition;
use crate::look::{Heart, Look, is_attached};
use crate::observe::Facts;
use crate::state::Phase;
use crate::step::Step;

/// Commits wait for the replica only when at most this many transactions have not been received by it: they wait until it has them. How many it has
/// not applied does not matter to them, and a primary that waits is one that the replica's applier can catch up with.
const BACKLOG_MAX: u64 = 100;
/// From here on it does not wait for its disk.
const BACKLOG_RELAXED: u64 = 1_000;
/// How long a primary that waits for nobody may commit nothing before that is said: the heartbeats come back a moment after it was left alone.
const COMMITS_NOTHING_MAX: Duration = Duration::from_secs(3);

pub(super) fn decide(
    roles: &Roles<'_>,
    look: &Look,
    replica_is_fit: bool,
    decision: &mut Decision,
) {
    let Some(primary) = roles.primary_facts.filter(|facts| facts.takes_ours()) else {
        return;
    };
    let (name, replica_name) = (&roles.primary.name, &roles.replica.name);
    if let Phase::Maintenance(server) = &roles.state.phase {
        decision.say(Condition::Maintained(server.clone()));
    }
    decision.say(Condition::Alone {
        primary: name.clone(),
        replica: replica_name.clone(),
    });
    if look.commits_nothing > COMMITS_NOTHING_MAX {
        decision.say(Condition::CommitsNothing(name.clone()));
    }
    let replica = roles
        .replica_facts
        .filter(|_| replica_is_fit && roles.state.phase == Phase::Steady);
    let attached = replica.filter(|replica| is_attached(primary, replica));
    let Some(replica) = attached else {
        if primary.semi_sync.source_enabled {
            decision.step(Step::DisableSemiSync(name.clone()));
        }
        return;
    };
    if !primary.semi_sync.source_lossless {
        decision.say(Condition::Lossy(name.clone()));
        return;
    }
    if primary.semi_sync.source_enabled {
        acknowledged_by_both(roles, replica, look, decision);
        return;
    }
    let missing = primary.server.executed.subtract(&replica.holds()).count();
    if missing > BACKLOG_MAX {
        decision.say(Condition::CatchingUp {
            primary: name.clone(),
            replica: replica_name.clone(),
            missing,
        });
        if missing > BACKLOG_RELAXED && replica.semi_sync.relay_log_synced {
            decision.step(Step::RelaxRelayLog(replica_name.clone()));
        }
        return;
    }
    // A primary that cannot commit even alone has no use for one more to wait for.
    if look.heart != Heart::Beats {
        return;
    }
    if !replica.semi_sync.relay_log_synced {
        decision.step(Step::SyncRelayLog(replica_name.clone()));
    }
    decision.step(Step::EnableSemiSync(name.clone()));
}

/// Commits wait for the replica: either it has everything, or it does not acknowledge and is waited for no more.
fn acknowledged_by_both(roles: &Roles<'_>, replica: &Facts, look: &Look, decision: &mut Decision) {
    let (primary, name) = (roles.primary.name.clone(), roles.replica.name.clone());
    if look.heart == Heart::Silent {
        decision.step(Step::DisableSemiSync(primary));
    } else if has_everything(replica, look) {
        decision.step(Step::Save(roles.state.grown(&replica.boot)));
    } else {
        decision.say(Condition::Growing {
            primary,
            replica: name,
        });
    }
}

/// Whether the replica has applied all that the primary had executed when it was first known that nothing more is acknowledged by the primary
/// alone: what is acknowledged beyond this is on the replica's disk.
pub(super) fn has_everything(replica: &Facts, look: &Look) -> bool {
    look.heart == Heart::Beats
        && replica.semi_sync.relay_log_synced
        && look
            .executed_before
            .as_ref()
            .is_some_and(|executed| replica.server.executed.contains(executed))
}
