//! One look at the pair: what both servers said, and what only several looks together can tell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use replication::GtidSet;

use crate::observe::{Facts, Observation};
use crate::state::State;

/// All that a decision is made from, beside the durable state.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Each server by name.
    pub servers: BTreeMap<String, Observation>,
    /// The heartbeat on the primary.
    pub heart: Heart,
    /// What the primary had executed one look ago, if semi-sync was on and both servers were in the boots that they are in now:
    /// whatever it acknowledges beyond this, the replica has acknowledged in this boot.
    pub executed_before: Option<GtidSet>,
    /// For how long the replica's receiver has been running without acknowledging.
    pub receiving_only: Duration,
}

impl Look {
    /// What a server said of itself, if it answered.
    #[must_use]
    pub fn facts(&self, server: &str) -> Option<&Facts> {
        self.servers.get(server)?.as_ref().ok()
    }
}

/// Whether heartbeats are acknowledged: the only proof that a replica acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heart {
    /// The primary is closed to the arbiter too, or was let write too short a time ago to tell.
    #[default]
    Unknown,
    /// One was acknowledged just now, and since the primary was last let write.
    Beats,
    /// None was for longer than it may take.
    Silent,
}

/// What is known of the heartbeats.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// When the last one was acknowledged.
    pub acknowledged: Option<Instant>,
    /// How long there may be none.
    pub limit: Duration,
}

/// What is kept from look to look. Nothing but time is lost with it: it begins empty in every process.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The boots of primary and replica in the look before.
    boots: Option<[String; 2]>,
    /// What the primary had executed in the look before, if the boots had been the same in the one before that, and semi-sync was on.
    executed: Option<GtidSet>,
    /// Since when the primary has been seen to take the arbiter's writes.
    writable_since: Option<Instant>,
    /// Since when the replica's receiver has been seen to run without acknowledging.
    receiving_only_since: Option<Instant>,
}

impl Earlier {
    /// Adds what the looks before tell to what both servers say now.
    pub fn look(
        &mut self,
        servers: BTreeMap<String, Observation>,
        state: Option<&State>,
        pulse: Pulse,
        now: Instant,
    ) -> Look {
        let mut look = Look {
            servers,
            ..Look::default()
        };
        let Some(state) = state else { return look };
        let primary = look.facts(&state.primary);
        let replica = state.replica().and_then(|replica| look.facts(replica));

        let boots = primary
            .zip(replica)
            .map(|(primary, replica)| [primary.boot.clone(), replica.boot.clone()]);
        let same = boots.is_some() && boots == self.boots;
        let executed_before = self.executed.take().filter(|_| same);
        self.executed = primary
            .filter(|primary| same && primary.semi_sync.source_enabled)
            .map(|primary| primary.server.executed.clone());
        self.boots = boots;

        let receiving_only = replica.is_some_and(|facts| {
            let channel = facts.replica.as_ref();
            channel.is_some_and(|channel| channel.receiver == "ON")
                && !facts.semi_sync.replica_active
        });
        let receiving_only = duration(&mut self.receiving_only_since, receiving_only, now);
        let writable = primary.is_some_and(Facts::takes_ours);
        let writable = duration(&mut self.writable_since, writable, now);
        look.heart = match (self.writable_since, pulse.acknowledged) {
            // One from before says nothing: the primary may have restarted in between.
            (Some(since), Some(at)) if at > since && now - at < pulse.limit => Heart::Beats,
            (Some(_), _) if writable > pulse.limit => Heart::Silent,
            _ => Heart::Unknown,
        };
        look.receiving_only = receiving_only;
        look.executed_before = executed_before;
        look
    }
}

/// For how long it has been so, counted from the first look that found it.
fn duration(since: &mut Option<Instant>, holds: bool, now: Instant) -> Duration {
    *since = since.or(Some(now)).filter(|_| holds);
    since.map_or(Duration::ZERO, |since| now - since)
}
