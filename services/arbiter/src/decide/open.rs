//! OPEN(p): how a primary that boots closed is opened, by three doors, each behind a proof.
//!
//! 1. *Let in* (offline_mode off, still super_read_only): the replica's receiver has to log in to fetch what the primary had committed
//!    and nobody acknowledged. Only while the replica is there, with a history that fits.
//! 2. *The arbiter writes* (super_read_only off, read_only on): the replica has received all that the primary has executed, semi-sync is
//!    on, the replica acknowledges. Now roles are published, and a heartbeat comes back acknowledged.
//! 3. *Everybody writes* (read_only off).
//!
//! A primary that is offline but not read-only was opened once and then closed by its entrypoint, which is about to stop it: opening it
//! then would let a commit in that the stop acknowledges falsely. It is left alone.

use replication::ClusterRow;

use super::replicate::not_connected;
use super::{Decision, Roles};
use crate::condition::Condition;
use crate::look::Heart;
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

/// Whether, by all that is visible, the replica would acknowledge a commit on the primary. A proof is only a heartbeat.
pub(crate) fn would_acknowledge(primary: &Facts, replica: &Facts) -> bool {
    let connected = replica.replica.as_ref().is_some_and(|channel| {
        channel.receiver == "ON"
            && channel
                .source_uuid
                .eq_ignore_ascii_case(&primary.server.uuid)
    });
    connected
        && replica.semi_sync.replica_active
        && primary.semi_sync.source_enabled
        && primary.semi_sync.source_active
        && primary.semi_sync.clients >= 1
}

/// Whether what is published is the state; else it is seen to.
fn publish(roles: &Roles<'_>, primary: &Facts, decision: &mut Decision) -> bool {
    let name = &roles.primary.name;
    let mut state = roles.state.clone();
    if primary.row.is_none() {
        decision.step(Step::CreateSchema(name.clone()));
    }
    if state.phase == Phase::Bootstrap {
        state.phase = Phase::Steady;
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
fn says(row: &ClusterRow, state: &State) -> bool {
    row.epoch == state.epoch
        && row.primary_server == state.primary
        && Some(&row.primary_uuid) == state.uuids.get(&row.primary_server)
        && row.in_sync.iter().eq(&state.in_sync)
        && row.phase == state.phase.as_str()
}
