//! What a person may ask for, and when it is granted: each is a change of the state, from which the rules do the rest.

use std::collections::BTreeMap;

use replication::Endpoint;

use super::{Timing, failover, reprovision, says_no};
use crate::look::{Heart, Look};
use crate::observe::Facts;
use crate::state::{Phase, State};

/// More transactions than this to be applied would make a switchover's hold a long one.
const TO_APPLY_MAX: u64 = 1_000;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The replica takes the primary's place.
    Switchover,
    /// This server is going to be worked on.
    BeginMaintenance(String),
    /// It is done.
    EndMaintenance(String),
    /// This server, which is not in sync, takes the place of the primary, which is lost.
    ForcePromote {
        /// The server.
        server: String,
        /// Whether the person has read what is lost, and accepts it.
        accept_loss: bool,
    },
    /// The servers are running already, and the data of this one counts.
    Adopt(String),
}

/// The state that a request leads to.
///
/// # Errors
/// Why it is not granted, and what to do.
pub fn grant(
    servers: &[Endpoint; 2],
    state: Option<&State>,
    look: &Look,
    timing: &Timing,
    ask: &Ask,
) -> Result<State, String> {
    if let Ask::Adopt(server) = ask {
        return match state {
            None => adopt(servers, look, server),
            Some(state) => Err(format!(
                "there is a state already, of epoch {} with primary {}: there is nothing to adopt",
                state.epoch, state.primary
            )),
        };
    }
    let state = state.ok_or("there is no state yet: `arbiter status` says what is waited for")?;
    let replica = state.replica().ok_or("the state names one server only")?;
    if let Some(refusal) = says_no(servers, state, look) {
        return Err(refusal);
    }
    match ask {
        Ask::Switchover => switchover(state, replica, look),
        Ask::BeginMaintenance(server) => begin_maintenance(state, replica, look, server),
        Ask::EndMaintenance(server) => match &state.phase {
            Phase::Maintenance(of) if of == server => Ok(state.in_phase(Phase::Steady)),
            _ => Err(format!("{server} is not in maintenance")),
        },
        Ask::ForcePromote {
            server,
            accept_loss,
        } => {
            may_be_promoted(state, replica, look, timing, server)?;
            match accept_loss {
                true => Ok(state.alone().in_phase(Phase::ForcedPromotion)),
                false => Err(loss(state, replica, look)),
            }
        }
        Ask::Adopt(_) => Err("it is adopted already".to_owned()),
    }
}

fn steady(state: &State) -> Result<(), String> {
    match &state.phase {
        Phase::Steady => Ok(()),
        Phase::Maintenance(server) => Err(format!(
            "{server} is in maintenance: `arbiter maintenance end {server}` first"
        )),
        phase => Err(format!(
            "a change is under way ({phase}): ask again when it has ended"
        )),
    }
}

fn switchover(state: &State, replica: &str, look: &Look) -> Result<State, String> {
    steady(state)?;
    let both = look.facts(&state.primary).zip(look.facts(replica));
    let (primary, facts) = both.ok_or_else(|| {
        let silent = match look.facts(replica) {
            None => replica,
            Some(_) => &state.primary,
        };
        format!("both servers are needed, and {silent} does not answer")
    })?;
    let in_sync = state.is_redundant() && state.replica_boot.as_deref() == Some(&facts.boot);
    if !in_sync {
        return Err(format!(
            "{replica} is not in sync, so it cannot take over: ask again when `arbiter status` says that both are"
        ));
    }
    if !primary.open() {
        return Err(format!(
            "{} is not open yet: ask again when `arbiter status` says that it is",
            state.primary
        ));
    }
    if look.heart != Heart::Beats {
        return Err(format!(
            "{replica} has acknowledged nothing for a moment, so it might not have everything: ask again"
        ));
    }
    let missing = primary.server.executed.subtract(&facts.server.executed);
    if missing.count() > TO_APPLY_MAX {
        return Err(format!(
            "{replica} has {} transactions to apply, and writes would be held so long: ask again when it has caught up",
            missing.count()
        ));
    }
    Ok(state.in_phase(Phase::Switchover))
}

fn begin_maintenance(
    state: &State,
    replica: &str,
    look: &Look,
    server: &str,
) -> Result<State, String> {
    steady(state)?;
    if server == state.primary {
        return Err(format!(
            "{server} is the primary: `./stack switchover` makes {replica} the primary, then it can be worked on"
        ));
    }
    if server != replica {
        return Err(format!(
            "there is no server {server}: there are {} and {replica}",
            state.primary
        ));
    }
    if !look.facts(&state.primary).is_some_and(Facts::open) {
        return Err(format!(
            "{} is not open, so {server} is needed: `arbiter status` says why",
            state.primary
        ));
    }
    let phase = Phase::Maintenance(server.to_owned());
    Ok(state.alone().in_phase(phase))
}

/// Refused wherever the primary may still be there, for it would go on acknowledging, and where the replica has nothing to offer.
fn may_be_promoted(
    state: &State,
    replica: &str,
    look: &Look,
    timing: &Timing,
    server: &str,
) -> Result<(), String> {
    let primary = &state.primary;
    if server != replica {
        return Err(format!(
            "only {replica} can be promoted, for {primary} is the primary"
        ));
    }
    if !look.is_silent(primary) {
        return Err(format!(
            "{primary} answers, so nothing needs to be lost: `arbiter status` says what is waited for"
        ));
    }
    if look.primary_away < timing.failover_after {
        return Err(format!(
            "{primary} has not answered for {} ms only: ask again",
            look.primary_away.as_millis()
        ));
    }
    let facts = look
        .facts(replica)
        .ok_or_else(|| format!("{replica} does not answer either"))?;
    if failover::hears(facts, timing).is_some() {
        return Err(format!(
            "{replica} hears from {primary}, which is cut off from the arbiter alone and goes on acknowledging writes: mend that, or stop \
             {primary} first"
        ));
    }
    match reprovision::unusable(primary, replica, facts, look) {
        Some(why) => Err(format!("{why}. So it cannot be promoted")),
        None => Ok(()),
    }
}

/// What would be lost, as far as it is known.
fn loss(state: &State, replica: &str, look: &Look) -> String {
    let primary = &state.primary;
    let holds = look.facts(replica).map(Facts::holds).unwrap_or_default();
    let known = match &look.primary_executed {
        None => format!(
            "what {primary} had executed is not known, for it has not answered since the arbiter was started"
        ),
        Some(executed) => {
            let lost = executed.subtract(&holds);
            match lost.count() {
                0 => format!(
                    "{replica} has all that {primary} was seen to have; what {primary} did after it was last seen would be lost"
                ),
                count => format!(
                    "{count} transactions that {primary} was seen to have would be lost ({lost}), and what it did after it was last seen"
                ),
            }
        }
    };
    format!(
        "{known}. {replica} has {} transactions. Be sure that {primary} does not run: it would go on acknowledging writes, and they would be \
         lost too. If it comes back, what it alone has is saved where a person can read it, and its data is made anew. To accept that: \
         arbiter force-promote {replica} --accept-loss",
        holds.count()
    )
}

fn adopt(servers: &[Endpoint; 2], look: &Look, server: &str) -> Result<State, String> {
    let [first, second] = servers;
    let (primary, other) = match server {
        name if name == first.name => (first, second),
        name if name == second.name => (second, first),
        _ => {
            return Err(format!(
                "there is no server {server}: there are {} and {}",
                first.name, second.name
            ));
        }
    };
    let (Some(facts), Some(others)) = (look.facts(&primary.name), look.facts(&other.name)) else {
        return Err(
            "both servers have to answer, so that they can be compared: `arbiter status` says which does not"
                .to_owned(),
        );
    };
    let (uuid, other_uuid) = (&facts.server.uuid, &others.server.uuid);
    if uuid == other_uuid {
        return Err(format!(
            "{} and {} have the same server_uuid: the data of one is a copy of the other's (then remove the copy's auto.cnf)",
            primary.name, other.name
        ));
    }
    if let Some(channel) = &facts.replica {
        return Err(format!(
            "{} replicates from {}: adopt the server that is the primary",
            primary.name, channel.source_host
        ));
    }
    let foreign = others.replica.as_ref().is_some_and(|channel| {
        !channel.source_uuid.is_empty() && !channel.source_uuid.eq_ignore_ascii_case(uuid)
    });
    if foreign {
        return Err(format!(
            "{} replicates from another server than {}: end that first (STOP REPLICA, RESET REPLICA ALL)",
            other.name, primary.name
        ));
    }
    let more = others.holds().subtract(&facts.server.executed);
    // While it is open, the other one has a commit before it shows it.
    let errant = match facts.server.super_read_only {
        true => more,
        false => more.without_server(uuid),
    };
    if !errant.is_empty() {
        return Err(format!(
            "{} has transactions that {} has not ({errant}), and adopting would throw them away: bring them over, or begin {} empty",
            other.name, primary.name, other.name
        ));
    }
    let published = [facts, others].map(|facts| facts.row.as_ref().map_or(0, |row| row.epoch));
    let uuids: BTreeMap<String, String> = [
        (primary.name.clone(), uuid.clone()),
        (other.name.clone(), other_uuid.clone()),
    ]
    .into();
    let epoch = published.into_iter().max().unwrap_or(0) + 1;
    Ok(State::adopted(&primary.name, epoch, uuids))
}
