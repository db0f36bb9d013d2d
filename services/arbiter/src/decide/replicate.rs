//! The replica: closed where it is writable, as a deposed primary is; never attached with transactions of its own; threads started explicitly
//! after each boot; and in sync only in a boot in which it was seen to have everything.

use std::time::Duration;

use replication::{CloneState, GtidSet, ReplicaFacts};

use super::{Decision, Roles, grow, reprovision};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::step::Step;

/// How long a receiver may run without acknowledging. It says that it runs a moment before it says that it acknowledges.
const RECEIVING_ONLY_MAX: Duration = Duration::from_secs(3);

/// How long a server may stay writable that should not be; then it is restarted.
const WRITABLE_MAX: Duration = Duration::from_secs(5);

/// Gives whether the primary may be opened with this replica.
pub(super) fn decide(roles: &Roles<'_>, look: &Look, decision: &mut Decision) -> bool {
    let Some(replica) = roles.replica_facts else {
        return false;
    };
    let name = &roles.replica.name;
    if look.cloning.as_deref() == Some(name) || replica.clone == CloneState::Running {
        decision.say(Condition::Cloning {
            primary: roles.primary.name.clone(),
            replica: name.clone(),
        });
        return false;
    }
    let commits_wait = replica.semi_sync.source_enabled && replica.semi_sync.waiting_sessions > 0;
    if !replica.server.super_read_only || commits_wait {
        close(roles, replica, commits_wait, look, decision);
        return false;
    }
    if replica.semi_sync.source_enabled {
        // It was the primary, and nothing waits on it any more; what it applies would.
        decision.step(Step::DisableSemiSync(name.clone()));
    }
    // Whatever else the replica has: a primary that lost something is nobody to copy from.
    if let Some(missing) = lost_by_primary(roles) {
        decision.say(Condition::PrimaryLost {
            primary: roles.primary.name.clone(),
            replica: name.clone(),
            missing,
        });
        return false;
    }
    if let Some((why, errant)) = is_to_be_made_anew(roles, replica) {
        decision.say(why);
        reprovision::decide(roles, replica, &errant, look, decision);
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
    if roles.state.is_redundant() {
        grow_back(roles, replica, look, decision);
    }
    true
}

/// A server that is not the primary and takes writes, or has some that wait: deposed, most likely, while it hung. Its clients are cut off at
/// once. A commit that waits for an acknowledgement never ends, and holds read-only back, so the server is restarted then.
fn close(
    roles: &Roles<'_>,
    replica: &Facts,
    commits_wait: bool,
    look: &Look,
    decision: &mut Decision,
) {
    let name = &roles.replica.name;
    decision.say(Condition::WritableReplica(name.clone()));
    decision.step(if !replica.server.offline_mode {
        Step::TakeOffline(name.clone())
    } else if commits_wait || look.writable_replica > WRITABLE_MAX {
        Step::Restart(name.clone())
    } else {
        Step::ForbidWrites(name.clone())
    });
}

/// Why the replica's data cannot lead to the primary's, and the transactions that it alone has.
fn is_to_be_made_anew(roles: &Roles<'_>, replica: &Facts) -> Option<(Condition, GtidSet)> {
    let name = &roles.replica.name;
    if let Some(errant) = errant(roles) {
        let condition = Condition::Errant {
            server: name.clone(),
            errant: errant.clone(),
        };
        return Some((condition, errant));
    }
    let primary = roles.primary_facts?;
    let nothing = GtidSet::default();
    let empty = replica.server.executed.is_empty() && !primary.server.executed.is_empty();
    if replica.clone == CloneState::Broken || (empty && !roles.state.is_redundant()) {
        return Some((Condition::NotWhole(name.clone()), nothing));
    }
    let missing = primary.server.purged.subtract(&replica.holds());
    (!missing.is_empty()).then(|| {
        let condition = Condition::Purged {
            primary: roles.primary.name.clone(),
            replica: name.clone(),
            missing,
        };
        (condition, nothing)
    })
}

/// What the replica has and the primary has not. Only the primary can tell.
fn more_than_primary<'a>(roles: &'a Roles<'_>) -> Option<(GtidSet, &'a str)> {
    let (primary, replica) = roles.primary_facts.zip(roles.replica_facts)?;
    let more = replica.holds().subtract(&primary.server.executed);
    Some((more, &roles.state.uuids[&roles.primary.name]))
}

/// Transactions that the replica has and should not: nobody but the primary makes any.
pub(super) fn errant(roles: &Roles<'_>) -> Option<GtidSet> {
    let (more, primary) = more_than_primary(roles)?;
    Some(more.without_server(primary)).filter(|errant| !errant.is_empty())
}

/// Transactions of the primary that it should have, and only the replica has. While the primary is open, the replica has a commit before
/// the primary shows it. One that is closed has nothing under way.
pub(super) fn lost_by_primary(roles: &Roles<'_>) -> Option<GtidSet> {
    if !roles.primary_facts?.server.super_read_only {
        return None;
    }
    let (more, primary) = more_than_primary(roles)?;
    Some(more.of_server(primary)).filter(|lost| !lost.is_empty())
}

fn leads_to_primary(roles: &Roles<'_>, channel: &ReplicaFacts) -> bool {
    channel.source_host == roles.primary.host && channel.source_port == roles.primary.port
}

/// A replica without a channel gets one, when the primary is there to be compared with.
fn configure(roles: &Roles<'_>, decision: &mut Decision) -> bool {
    if roles.primary_facts.is_some() {
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

pub(super) fn keep_applying(name: &str, channel: &ReplicaFacts, decision: &mut Decision) -> bool {
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

/// A replica in another boot than the recorded one is in sync again once it is seen to have everything.
fn grow_back(roles: &Roles<'_>, replica: &Facts, look: &Look, decision: &mut Decision) {
    if !replica.semi_sync.relay_log_synced {
        decision.step(Step::SyncRelayLog(roles.replica.name.clone()));
    }
    if roles.state.replica_boot.as_deref() == Some(&replica.boot) {
        return;
    }
    if grow::has_everything(replica, look) {
        decision.step(Step::Save(roles.state.grown(&replica.boot)));
    } else {
        decision.say(Condition::GrowingBack(roles.replica.name.clone()));
    }
}
