//! An empty pair gets its first state: epoch 1, both in sync, the first server primary. Nothing else happens before that is on disk, so
//! a pair that is not empty and has no state is never one that a bootstrap left half done.

use replication::Endpoint;

use super::{Decision, answer};
use crate::condition::Condition;
use crate::look::Look;
use crate::observe::Facts;
use crate::state::State;
use crate::step::Step;

pub(super) fn decide(servers: &[Endpoint; 2], look: &Look, decision: &mut Decision) {
    let answers = servers
        .each_ref()
        .map(|server| answer(server, "new", look, decision));
    for (server, facts) in servers.iter().zip(answers) {
        if let Some(what) = facts.and_then(history) {
            decision.say(Condition::NotEmpty {
                server: server.name.clone(),
                what,
            });
        }
    }
    let [Some(first), Some(second)] = answers else {
        return;
    };
    if first.server.uuid == second.server.uuid {
        let [first, second] = servers.each_ref().map(|server| server.name.clone());
        decision.say(Condition::SameServer(first, second));
    }
    if decision.conditions.is_empty() {
        let uuids = [first, second].map(|facts| facts.server.uuid.clone());
        let names = servers.each_ref().map(|server| server.name.clone());
        decision.step(Step::Save(State::first(
            &servers[0].name,
            &second.boot,
            names.into_iter().zip(uuids).collect(),
        )));
    }
}

/// What makes a server other than new.
fn history(facts: &Facts) -> Option<String> {
    if let Some(row) = &facts.row {
        return Some(format!(
            "has a publication of epoch {} with primary {}",
            row.epoch, row.primary_server
        ));
    }
    if let Some(replica) = &facts.replica {
        return Some(format!("replicates from {}", replica.source_host));
    }
    if !facts.server.executed.is_empty() {
        return Some(format!("has executed {}", facts.server.executed));
    }
    (!facts.server.super_read_only || !facts.server.offline_mode)
        .then(|| "was opened by somebody".to_owned())
}
