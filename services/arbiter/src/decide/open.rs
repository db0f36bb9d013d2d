//! OPEN(p): how a primary that boots closed is opened, by three doors, each behind a proof.
//!
//! 1. *Let in* (offline_mode off, still super_read_only): the replica's receiver has to log in to fetch what the primary had committed
//!    and nobody acknowledged. Only while the replica is there, with a history that fits.
//! 2. *The arbiter writes* (super_read_only off, read_only on): the replica has received all that the primary has executed, semi-sync is
//!    on, the replica acknowledges. Now roles are published, and a heartbeat comes back acknowledged.
//! 3. *Everybody writes* (read_only off).
//!
//! A primary that is alone in sync needs nobody, and nothing has to be proved but that it is the one: all three doors in one round.
//!
//! A primary that is offline but not read-only was opened once and then closed by its entrypoint, which is about to stop it: opening it
//! then would let a commit in that the stop acknowledges falsely. It is left alone.

use replication::ClusterRow;

use super::replicate::not_connected;
use super::{Decision, Roles};
use crate::condition::Condition;
use crate::look::{Heart, would_acknowledge};
use crate::observe::Facts;
use crate::state::{Phase, State};
use crate::step::Step;

pub(super) fn decide(
    roles: &Roles<'_>,
    heart: Heart,
    replica_is_fit: bool,
    decision: &mut Decision,
) {
    let Some(primary) = roles.primary_facts else {
        return;
    };
    let name = &roles.primary.name;
    if primary.replica.is_some() {
        decision.say(Condition::PrimaryReplicates(name.clone()));
    }
    if !primary.semi_sync.source_lossless {
        decision.say(Condition::Lossy(name.clone()));
    }
    let sound = primary.replica.is_none() && primary.semi_sync.source_lossless;
    if primary.server.super_read_only {
        if sound {
            first_and_second_door(roles, primary, replica_is_fit, decision);
        }
        return;
    }
    if !primary.semi_sync.source_enabled {
        decision.say(Condition::SemiSyncWasOff(name.clone()));
        decision.step(Step::EnableSemiSync(name.clone()));
        return;
    }
    if primary.server.offline_mode {
        decision.say(Condition::TakenOffline(name.clone()));
        return;
    }
    if primary.open() && heart == Heart::Silent {
        decision.say(Condition::NotAcknowledging {
            replica: roles.replica.name.clone(),
        });
    }
    // Writes of ours would wait as everybody's do: not before it is likely that they will be acknowledged.
    let published = acknowledges(roles, primary) && publish(roles, primary, decision);
    if primary.server.read_only && sound {
        if heart != Heart::Beats {
            decision.say(Condition::FirstHeartbeat {
                primary: name.clone(),
                replica: roles.replica.name.clone(),
            });
        } else if published {
            decision.step(Step::AllowWrites(name.clone()));
        }
    }
}

/// Opens a primary that alone has every acknowledged write. Commits on it wait for nobody, unless a replica is growing.
pub(super) fn alone(state: &State, primary: &Facts, decision: &mut Decision) {
    let name = &state.primary;
    let server = &primary.server;
    if let Some(channel) = &primary.replica {
        // It was promoted: all that it had received was applied before.
        if channel.receiver != "OFF" || !server.executed.contains(&channel.received) {
            decision.say(Condition::PrimaryReplicates(name.clone()));
            return;
        }
        decision.step(Step::ForgetSource(name.clone()));
    }
    if server.offline_mode && !server.super_read_only {
        decision.say(Condition::TakenOffline(name.clone()));
        return;
    }
    if server.super_read_only && primary.semi_sync.source_enabled {
        decision.step(Step::DisableSemiSync(name.clone()));
    }
    if server.offline_mode {
        decision.step(Step::LiftOfflineMode(name.clone()));
    }
    if server.super_read_only {
        decision.step(Step::AllowArbiter(name.clone()));
    }
    if primary.row.is_none() {
        decision.step(Step::CreateSchema(name.clone()));
    }
    // Where commits wait for a replica, so would this one; it is written when they no longer do, or when that one is in sync.
    let waits = primary.semi_sync.source_enabled && !server.super_read_only;
    let published = primary.row.as_ref().is_some_and(|row| says(row, state));
    if !waits && !published {
        decision.step(Step::Publish {
            on: name.clone(),
            state: state.clone(),
        });
    }
    if server.read_only && (published || !waits) {
        decision.step(Step::AllowWrites(name.clone()));
    }
}

fn first_and_second_door(
    roles: &Roles<'_>,
    primary: &Facts,
    replica_is_fit: bool,
    decision: &mut Decision,
) {
    let name = &roles.primary.name;
    let Some(replica) = roles.replica_facts else {
        decision.say(Condition::ClosedWithoutReplica {
            primary: name.clone(),
            replica: roles.replica.name.clone(),
        });
        return;
    };
    if !replica_is_fit {
        return;
    }
    if !primary.semi_sync.source_enabled {
        decision.step(Step::EnableSemiSync(name.clone()));
    }
    if primary.server.offline_mode {
        decision.step(Step::LiftOfflineMode(name.clone()));
        return;
    }
    let missing = primary.server.executed.subtract(&replica.holds());
    if !missing.is_empty() {
        decision.say(Condition::Receiving {
            primary: name.clone(),
            replica: roles.replica.name.clone(),
            missing: missing.count(),
        });
    }
    if !acknowledges(roles, primary) {
        if let Some(channel) = &replica.replica {
            decision.say(not_connected(roles, channel));
        }
    } else if missing.is_empty() {
        decision.step(Step::AllowArbiter(name.clone()));
    }
}

fn acknowledges(roles: &Roles<'_>, primary: &Facts) -> bool {
    let replica = roles.replica_facts;
    replica.is_some_and(|replica| would_acknowledge(primary, replica))
}

/// Whether what is published is the state; else it is seen to.
fn publish(roles: &Roles<'_>, primary: &Facts, decision: &mut Decision) -> bool {
    let name = &roles.primary.name;
    let mut state = roles.state.clone();
    if primary.row.is_none() {
        decision.step(Step::CreateSchema(name.clone()));
    }
    if state.phase == Phase::Bootstrap {
        state = state.in_phase(Phase::Steady);
        decision.step(Step::Save(state.clone()));
    }
    if primary.row.as_ref().is_some_and(|row| says(row, &state)) {
        return true;
    }
    decision.step(Step::Publish {
        on: name.clone(),
        state,
    });
    false
}

/// Whether the row says what the state says.
pub(crate) fn says(row: &ClusterRow, state: &State) -> bool {
    row.epoch == state.epoch
        && row.primary_server == state.primary
        && Some(&row.primary_uuid) == state.uuids.get(&row.primary_server)
        && row.in_sync.iter().eq(&state.in_sync)
        && row.phase == state.phase.to_string()
}
