//! The replica: never writable, never attached with transactions of its own, threads started explicitly after each boot, and in sync
//! only in a boot in which it was seen to have received everything.

use std::time::Duration;

use replication::{GtidSet, ReplicaFacts};

use super::{Decision, Roles};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::state::State;
use crate::step::Step;

/// How long a receiver may run without acknowledging. It says that it runs a moment before it says that it acknowledges.
const RECEIVING_ONLY_MAX: Duration = Duration::from_secs(3);

/// Gives whether the primary may be opened with this replica.
pub(super) fn decide(roles: &Roles<'_>, look: &Look, decision: &mut Decision) -> bool {
    let Some(replica) = roles.replica_facts else {
        return false;
    };
    let name = &roles.replica.name;
    if !replica.server.super_read_only {
        decision.say(Condition::WritableReplica(name.clone()));
        decision.step(Step::ForbidWrites(name.clone()));
        return false;
    }
    if let Some(refusal) = contradicting_history(roles, replica) {
        decision.say(refusal);
        return false;
    }
    let wired = match &replica.replica {
        None => configure(roles, decision),
        Some(channel) if !leads_to_primary(roles, channel) => {
            rewire(roles, replica, channel, decision);
            false
        }
        Some(channel) => {
            let applying = keep_applying(name, channel, decision);
            let receiving = keep_receiving(roles, replica, channel, look, decision);
            applying && receiving
        }
    };
    if !wired {
        return false;
    }
    if replica.server.offline_mode {
        decision.step(Step::LiftOfflineMode(name.clone()));
    }
    grow_back(roles, replica, look, decision);
    true
}

/// Transactions that the replica has and should not, or that the primary should have and has not.
fn contradicting_history(roles: &Roles<'_>, replica: &Facts) -> Option<Condition> {
    let holds = replica.holds();
    let errant = |errant: GtidSet| {
        (!errant.is_empty()).then(|| Condition::Errant {
            server: roles.replica.name.clone(),
            errant,
        })
    };
    let of_primary = &roles.state.uuids[&roles.primary.name];
    let Some(primary) = roles.primary_facts else {
        // What only the primary could judge is left for when it is back.
        let of_replica = &roles.state.uuids[&roles.replica.name];
        return errant(holds.without_server(of_primary).without_server(of_replica));
    };
    let more = holds.subtract(&primary.server.executed);
    let foreign = more.without_server(of_primary);
    if !foreign.is_empty() {
        return errant(foreign);
    }
    // While the primary is open, the replica has a commit before the primary shows it. One that is closed has nothing under way.
    (primary.server.super_read_only && !more.is_empty()).then(|| Condition::PrimaryLost {
        primary: roles.primary.name.clone(),
        replica: roles.replica.name.clone(),
        missing: more,
    })
}

fn leads_to_primary(roles: &Roles<'_>, channel: &ReplicaFacts) -> bool {
    channel.source_host == roles.primary.host && channel.source_port == roles.primary.port
}

/// A replica without a channel gets one, when the primary is there to be compared with and has all that it lacks.
fn configure(roles: &Roles<'_>, decision: &mut Decision) -> bool {
    if roles.primary_facts.is_some() && !lacks_what_was_purged(roles, decision) {
        decision.step(Step::Wire {
            replica: roles.replica.name.clone(),
            primary: roles.primary.name.clone(),
        });
    }
    false
}

/// A channel that leads elsewhere is emptied first: wiring it anew deletes what was received and not applied.
fn rewire(roles: &Roles<'_>, replica: &Facts, channel: &ReplicaFacts, decision: &mut Decision) {
    let name = &roles.replica.name;
    decision.say(Condition::Rewiring(name.clone()));
    if channel.receiver != "OFF" {
        decision.step(Step::StopReceiver(name.clone()));
    } else if !replica.server.executed.contains(&channel.received) {
        keep_applying(name, channel, decision);
    } else {
        configure(roles, decision);
    }
}

fn keep_applying(name: &str, channel: &ReplicaFacts, decision: &mut Decision) -> bool {
    if channel.applier_on {
        return true;
    }
    if channel.applier_error != 0 {
        // Starting it again would meet the same transaction.
        decision.say(Condition::ApplierStopped {
            server: name.to_owned(),
            number: channel.applier_error,
            message: channel.applier_message.clone(),
        });
        return false;
    }
    decision.step(Step::StartApplier(name.to_owned()));
    true
}

fn keep_receiving(
    roles: &Roles<'_>,
    replica: &Facts,
    channel: &ReplicaFacts,
    look: &Look,
    decision: &mut Decision,
) -> bool {
    let (name, primary) = (&roles.replica.name, &roles.primary.name);
    if !replica.semi_sync.replica_enabled {
        decision.step(Step::EnableAcknowledging(name.clone()));
        if channel.receiver != "OFF" {
            decision.step(Step::StopReceiver(name.clone()));
        }
        return false;
    }
    // Without the primary it cannot be judged whether the two fit, so the replica is not attached; it goes on applying, and reads go on.
    let Some(of_primary) = roles.primary_facts else {
        return true;
    };
    if channel.receiver == "OFF" {
        if lacks_what_was_purged(roles, decision) {
            return false;
        }
        if channel.receiver_error != 0 {
            decision.say(not_connected(roles, channel));
        }
        decision.step(Step::StartReceiver(name.clone()));
        return true;
    }
    let from_elsewhere = !channel.source_uuid.is_empty()
        && !channel
            .source_uuid
            .eq_ignore_ascii_case(&of_primary.server.uuid);
    if channel.receiver == "ON" && from_elsewhere {
        decision.say(Condition::ForeignSource {
            replica: name.clone(),
            primary: primary.clone(),
            found: channel.source_uuid.clone(),
        });
        return false;
    }
    if channel.receiver == "ON"
        && !replica.semi_sync.replica_active
        && look.receiving_only > RECEIVING_ONLY_MAX
    {
        decision.say(Condition::ReceivingOnly {
            replica: name.clone(),
            primary: primary.clone(),
        });
        decision.step(Step::StopReceiver(name.clone()));
        decision.step(Step::StartReceiver(name.clone()));
    }
    true
}

pub(super) fn not_connected(roles: &Roles<'_>, channel: &ReplicaFacts) -> Condition {
    let why = if channel.receiver_error == 0 {
        format!("its receiver is {}", channel.receiver)
    } else {
        format!(
            "error {}: {}",
            channel.receiver_error, channel.receiver_message
        )
    };
    Condition::NotConnected {
        replica: roles.replica.name.clone(),
        primary: roles.primary.name.clone(),
        why,
    }
}

fn lacks_what_was_purged(roles: &Roles<'_>, decision: &mut Decision) -> bool {
    let (Some(primary), Some(replica)) = (roles.primary_facts, roles.replica_facts) else {
        return false;
    };
    let missing = primary.server.purged.subtract(&replica.holds());
    if missing.is_empty() {
        return false;
    }
    decision.say(Condition::Purged {
        primary: roles.primary.name.clone(),
        replica: roles.replica.name.clone(),
        missing,
    });
    true
}

/// A replica in another boot than the recorded one is in sync again when it has received all that the primary had executed a round
/// ago, with semi-sync on: since then nothing is acknowledged that it has not.
fn grow_back(roles: &Roles<'_>, replica: &Facts, look: &Look, decision: &mut Decision) {
    if roles.state.replica_boot.as_deref() == Some(&replica.boot) {
        return;
    }
    let has_everything = look
        .executed_before
        .as_ref()
        .is_some_and(|executed| replica.holds().contains(executed));
    if has_everything {
        decision.step(Step::Save(State {
            replica_boot: Some(replica.boot.clone()),
            ..roles.state.clone()
        }));
    } else {
        decision.say(Condition::GrowingBack(roles.replica.name.clone()));
    }
}
