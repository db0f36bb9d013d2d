//! One look at the pair: what both servers said, and what only several looks together can tell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use replication::GtidSet;

use crate::observe::{Facts, Observation};
use crate::state::{Phase, State};

/// All that a decision is made from, beside the durable state.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Each server by name.
    pub servers: BTreeMap<String, Observation>,
    /// The heartbeat on the primary.
    pub heart: Heart,
    /// What the primary had executed at an earlier look, the first after a heartbeat that began when semi-sync had been seen to be on, with both
    /// servers in the boots that they are in now and semi-sync on since: whatever is acknowledged beyond this, the replica has acknowledged.
    pub executed_before: Option<GtidSet>,
    /// For how long the replica's receiver has been running without acknowledging.
    pub receiving_only: Duration,
    /// For how long the primary has said nothing, not even no.
    pub primary_away: Duration,
    /// For how long it has not been seen: it said nothing, or no.
    pub primary_unseen: Duration,
    /// What the primary had executed when it last answered in this epoch.
    pub primary_executed: Option<GtidSet>,
    /// For how long the primary has answered, closed, with no replica that has all that it has and would acknowledge more.
    pub closed_alone: Duration,
    /// For how long the primary has answered, writable and waiting for nobody, and acknowledged no heartbeat.
    pub commits_nothing: Duration,
    /// For how long the replica has answered, writable.
    pub writable_replica: Duration,
    /// For how long the state has been in its phase, since this process first saw it.
    pub phase_age: Duration,
    /// The server whose data is being made anew, or was just now in vain.
    pub cloning: Option<String>,
    /// Why what a server alone has could not be saved at the last attempt.
    pub not_saved: Option<String>,
}

impl Look {
    /// What a server said of itself, if it answered.
    #[must_use]
    pub fn facts(&self, server: &str) -> Option<&Facts> {
        self.servers.get(server)?.as_ref().ok()
    }

    /// Whether a server gave no answer of any kind.
    #[must_use]
    pub fn is_silent(&self, server: &str) -> bool {
        let said = self.servers.get(server);
        said.is_none_or(|said| said.as_ref().is_err_and(|silence| !silence.alive))
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

/// A heartbeat that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// When it was sent.
    pub begun: Instant,
    /// When it was acknowledged.
    pub at: Instant,
}

/// What is known of the heartbeats.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// The last one that was acknowledged.
    pub acknowledged: Option<Beaten>,
    /// How long there may be none.
    pub limit: Duration,
}

/// When a look was made.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// When the servers were asked.
    pub asked: Instant,
    /// When they had answered, or were not waited for any longer.
    pub answered: Instant,
}

/// What is kept from look to look. Nothing but time is lost with it: it begins empty in every process, and in every epoch.
#[derive(Debug, Default)]
pub struct Earlier {
    epoch: u64,
    /// The boots of primary and replica in the look before.
    boots: Option<[String; 2]>,
    /// What becomes [`Look::executed_before`] from the next look on. It stays, for a replica that is always a little behind reaches it too.
    executed: Option<GtidSet>,
    semi_sync: Since,
    writable: Since,
    receiving_only: Since,
    primary_away: Since,
    primary_unseen: Since,
    closed_alone: Since,
    commits_nothing: Since,
    writable_replica: Since,
    phase: Option<(Phase, Instant)>,
    primary_executed: Option<GtidSet>,
}

impl Earlier {
    /// Adds what the looks before tell to what both servers say now.
    pub fn look(
        &mut self,
        servers: BTreeMap<String, Observation>,
        state: Option<&State>,
        pulse: Pulse,
        moment: Moment,
    ) -> Look {
        let now = moment.answered;
        let mut look = Look {
            servers,
            ..Look::default()
        };
        let Some(state) = state else { return look };
        if self.epoch != state.epoch {
            *self = Self {
                epoch: state.epoch,
                ..Self::default()
            };
        }
        look.phase_age = self.phase_age(&state.phase, now);

        let replica_name = state.replica().unwrap_or_default();
        // From when they were asked: a server that hangs was away all the time that it was waited for.
        let silent = look.is_silent(&state.primary);
        self.primary_away.seen(silent, moment.asked);
        look.primary_away = self.primary_away.age(now);
        let unseen = look.facts(&state.primary).is_none();
        self.primary_unseen.seen(unseen, moment.asked);
        look.primary_unseen = self.primary_unseen.age(now);

        let primary = look.facts(&state.primary);
        let replica = look.facts(replica_name);
        if let Some(primary) = primary {
            self.primary_executed = Some(primary.server.executed.clone());
        }
        // A look that one of them did not answer in time tells nothing of this.
        let mut executed_before = None;
        if let Some((primary, replica)) = primary.zip(replica) {
            let boots = Some([primary.boot.clone(), replica.boot.clone()]);
            let semi_sync = boots == self.boots && primary.semi_sync.source_enabled;
            self.boots = boots;
            self.semi_sync.seen(semi_sync, now);
            let proven = self.semi_sync.0.zip(pulse.acknowledged);
            let proven =
                proven.is_some_and(|(since, beat)| beat.begun > since && beat.at <= moment.asked);
            executed_before = self.executed.take().filter(|_| semi_sync);
            self.executed = executed_before
                .clone()
                .or_else(|| proven.then(|| primary.server.executed.clone()));
        }

        let receiving_only = replica.is_some_and(|facts| {
            let channel = facts.replica.as_ref();
            channel.is_some_and(|channel| channel.receiver == "ON")
                && !facts.semi_sync.replica_active
        });
        self.receiving_only.seen(receiving_only, now);
        self.writable_replica.seen(
            replica.is_some_and(|facts| !facts.server.super_read_only),
            now,
        );
        self.writable
            .seen(primary.is_some_and(Facts::takes_ours), now);
        let accompanied = |primary: &Facts| {
            replica.is_some_and(|replica| {
                would_acknowledge(primary, replica)
                    && replica.holds().contains(&primary.server.executed)
            })
        };
        let closed_alone = |facts: &Facts| facts.server.super_read_only && !accompanied(facts);
        self.closed_alone
            .seen(primary.is_some_and(closed_alone), now);
        let heart = match (self.writable.0, pulse.acknowledged) {
            // One from before says nothing: the primary may have restarted in between.
            (Some(since), Some(beat)) if beat.at > since && now - beat.at < pulse.limit => {
                Heart::Beats
            }
            (Some(_), _) if self.writable.age(now) > pulse.limit => Heart::Silent,
            _ => Heart::Unknown,
        };
        let waits_for_nobody =
            |facts: &Facts| facts.takes_ours() && !facts.semi_sync.source_enabled;
        let commits_nothing = heart == Heart::Silent && primary.is_some_and(waits_for_nobody);
        self.commits_nothing.seen(commits_nothing, now);
        look.heart = heart;
        look.commits_nothing = self.commits_nothing.age(now);
        look.executed_before = executed_before;
        look.primary_executed = self.primary_executed.clone();
        look.receiving_only = self.receiving_only.age(now);
        look.closed_alone = self.closed_alone.age(now);
        look.writable_replica = self.writable_replica.age(now);
        look
    }

    fn phase_age(&mut self, phase: &Phase, now: Instant) -> Duration {
        match &self.phase {
            Some((known, since)) if known == phase => now - *since,
            _ => {
                self.phase = Some((phase.clone(), now));
                Duration::ZERO
            }
        }
    }
}

/// Since when something has been so, counted from the first look that found it.
#[derive(Clone, Copy, Debug, Default)]
struct Since(Option<Instant>);

impl Since {
    fn seen(&mut self, holds: bool, at: Instant) {
        self.0 = self.0.or(Some(at)).filter(|_| holds);
    }

    fn age(self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |since| now - since)
    }
}

/// Whether, by all that is visible, the replica would acknowledge a commit on the primary. A proof is only a heartbeat.
pub(crate) fn would_acknowledge(primary: &Facts, replica: &Facts) -> bool {
    is_attached(primary, replica)
        && primary.semi_sync.source_enabled
        && primary.semi_sync.source_active
}

/// Whether, by all that is visible, the replica receives from the primary, and would acknowledge if it were asked to.
pub(crate) fn is_attached(primary: &Facts, replica: &Facts) -> bool {
    let connected = replica.replica.as_ref().is_some_and(|channel| {
        channel.receiver == "ON"
            && channel
                .source_uuid
                .eq_ignore_ascii_case(&primary.server.uuid)
    });
    connected && replica.semi_sync.replica_active && primary.semi_sync.clients >= 1
}

/// What [`Earlier`] keeps, for tests that go through all that it can be.
#[cfg(test)]
pub(crate) struct Parts<'a> {
    pub(crate) epoch: &'a mut u64,
    pub(crate) boots: &'a mut Option<[String; 2]>,
    pub(crate) executed: &'a mut Option<GtidSet>,
    /// Since when semi-sync has been on, then since when the primary has been writable, then the rest that steps are decided from.
    pub(crate) since: [&'a mut Option<Instant>; 6],
    pub(crate) phase: &'a mut Option<(Phase, Instant)>,
}

#[cfg(test)]
impl Earlier {
    pub(crate) fn parts(&mut self) -> Parts<'_> {
        Parts {
            epoch: &mut self.epoch,
            boots: &mut self.boots,
            executed: &mut self.executed,
            since: [
                &mut self.semi_sync.0,
                &mut self.writable.0,
                &mut self.receiving_only.0,
                &mut self.primary_away.0,
                &mut self.closed_alone.0,
                &mut self.writable_replica.0,
            ],
            phase: &mut self.phase,
        }
    }
}
