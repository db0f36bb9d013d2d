//! What is known of the servers, and what follows from it. Pure: the probes ([`crate::health`]) make the next view from their answers.
//!
//! Roles are taken from `holdfast.cluster`: the highest epoch that was ever read on any server wins, for a server that was cut off may
//! still hold an older one. Of two rows of one epoch the primary's own wins, else the later one, for a replica may not have applied it.

use std::{
    cmp::Ordering,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use replication::{ClusterRow, GtidSet, Published, ReplicaFacts, ServerFacts};

/// A replica that was further behind than allowed is fresh again when it is behind by this share of it, so that reads do not go back and
/// forth.
const RECOVERED_LAG: (u32, u32) = (3, 4);

/// What the last round of probes found.
#[derive(Clone)]
pub(crate) struct View {
    /// When the round began; `None` before the first.
    pub(crate) began: Option<Instant>,
    pub(crate) servers: Vec<ServerView>,
    pub(crate) row: Option<ClusterRow>,
    pub(crate) epoch: u64,
    /// The highest epoch in which the primary itself was heard. A replica's row is as old as the replica: that it is in sync it says for ever.
    heard: u64,
    /// The index of the primary of the highest epoch, whether it is there or not.
    pub(crate) primary: Option<usize>,
}

/// One server in it.
#[derive(Clone)]
pub(crate) struct ServerView {
    /// It gets statements: it answered, and as often in a row as is asked of one that was away.
    pub(crate) up: bool,
    /// Why it is not up.
    pub(crate) error: Arc<str>,
    /// It did not answer the last look in time. Once that is nothing yet.
    is_late: bool,
    /// What is known of it is from the last look, not from an earlier one.
    is_current: bool,
    /// How many probes in a row it has answered.
    answered: u32,
    pub(crate) facts: Option<ServerFacts>,
    pub(crate) replica: Option<ReplicaFacts>,
    /// It has executed everything that the primary had executed when the round began.
    has_all: bool,
    /// It was in sync and has applied all that it received.
    is_complete: bool,
    /// It has executed everything that the primary of this epoch had executed then.
    had_all: Option<Instant>,
    /// What the primary had executed when a round began, and when that was: what is waited for to move `had_all` on.
    next: Option<(Instant, GtidSet)>,
    /// How old its data may have been when the round began.
    lag: Option<Duration>,
    /// It was further behind than `max_lag_ms`, and has not recovered yet.
    lags: bool,
    /// What it has executed and the primary has not: a history of its own.
    errant: GtidSet,
    /// It is being worked on.
    drains: bool,
}

/// What a server said when it was asked.
pub(crate) struct Answer {
    pub(crate) facts: ServerFacts,
    pub(crate) row: Option<ClusterRow>,
    pub(crate) replica: Option<ReplicaFacts>,
}

/// Why a server said nothing of itself.
#[derive(Debug)]
pub(crate) enum Silence {
    /// It takes no more connections: it is there, and serves those that it has.
    Full,
    /// It did not answer in time, in words: it is away, or it or this machine was busy for a moment.
    Late(String),
    /// It is away, or closed: in words.
    Away(String),
}

/// The bounds that a view is made by.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_lag: Duration,
    pub(crate) recovery_probes: u32,
}

/// How a server is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// It is there. A replica is as fresh as is asked.
    Healthy,
    /// A replica that is further behind than `max_lag_ms`, or of which that is not known.
    Lagging,
    /// It is being worked on: it gets nothing that another one can do.
    Draining,
    /// It has executed what the primary has not: its answers may be of another history.
    Errant,
    /// It does not answer, or is closed.
    Down,
}

impl ServerState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Healthy,
        Self::Lagging,
        Self::Draining,
        Self::Errant,
        Self::Down,
    ];
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Lagging => "lagging",
            Self::Draining => "draining",
            Self::Errant => "errant",
            Self::Down => "down",
        })
    }
}

impl View {
    pub(crate) fn unknown(servers: usize) -> Self {
        let server = ServerView {
            up: false,
            error: "not asked yet".into(),
            is_late: false,
            is_current: false,
            // The first answer is enough.
            answered: u32::MAX,
            facts: None,
            replica: None,
            has_all: false,
            is_complete: false,
            had_all: None,
            next: None,
            lag: None,
            lags: false,
            errant: GtidSet::default(),
            drains: false,
        };
        Self {
            began: None,
            servers: vec![server; servers],
            row: None,
            epoch: 0,
            heard: 0,
            primary: None,
        }
    }

    /// The view after a round that began then: what each server of these names said, or why it did not.
    pub(crate) fn after(
        &self,
        began: Instant,
        names: &[&str],
        answers: Vec<Result<Answer, Silence>>,
        bounds: Bounds,
    ) -> Self {
        let mut view = Self {
            began: Some(began),
            servers: Vec::with_capacity(names.len()),
            row: self.row.clone(),
            epoch: self.epoch,
            heard: self.heard,
            primary: None,
        };
        for (answer, before) in answers.into_iter().zip(&self.servers) {
            let server = match answer {
                Ok(mut answer) => {
                    let is_news = |row: &ClusterRow| view.is_news(row, &answer.facts.uuid);
                    if let Some(row) = answer.row.take_if(|row| is_news(row)) {
                        view.epoch = row.epoch;
                        if row.primary_uuid == answer.facts.uuid {
                            view.heard = row.epoch;
                        }
                        view.row = Some(row);
                    }
                    before.answered(answer, bounds.recovery_probes)
                }
                Err(Silence::Full) => before.full(),
                Err(Silence::Late(_)) if before.up && !before.is_late => before.late(),
                Err(Silence::Late(error)) => before.silent(error),
                Err(Silence::Away(error)) => before.silent(error),
            };
            view.servers.push(server);
        }
        let primary = view.row.as_ref().map(|row| row.primary_server.as_str());
        view.primary = names.iter().position(|name| Some(*name) == primary);
        if view.epoch != self.epoch {
            for server in &mut view.servers {
                (server.had_all, server.next) = (None, None);
            }
        }
        view.compare(began, names, bounds.max_lag);
        view
    }

    /// Whether a row that the server with this UUID holds is newer than the one that is known.
    fn is_news(&self, row: &ClusterRow, held_by: &str) -> bool {
        match row.epoch.cmp(&self.epoch) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => {
                let is_later = |known: &ClusterRow| row.changed_at > known.changed_at;
                row.primary_uuid == held_by || self.row.as_ref().is_none_or(is_later)
            }
        }
    }

    /// What only several answers together tell.
    fn compare(&mut self, began: Instant, names: &[&str], max_lag: Duration) {
        // What it has executed since it was asked last, nobody can be compared with.
        let of_primary = self
            .primary
            .filter(|&primary| self.servers[primary].is_current && self.is_the_published(primary))
            .and_then(|primary| self.servers[primary].facts.as_ref())
            .map(|facts| facts.executed.clone());
        let primary_uuid = match &self.row {
            Some(row) => row.primary_uuid.clone(),
            None => String::new(),
        };
        let in_maintenance = match self.row.as_ref().map(ClusterRow::published) {
            Some(Published::Maintenance(server)) => names.iter().position(|name| *name == server),
            _ => None,
        };
        let row = self.row.as_ref();
        // One that goes on and is not heard may have been left alone since.
        let is_unheard = |primary: usize| {
            let primary = &self.servers[primary];
            primary.up && !primary.is_current
        };
        let was_heard = self.heard == self.epoch && !self.primary.is_some_and(is_unheard);
        let in_sync = |name: &str| {
            was_heard && row.is_some_and(|row| row.in_sync.iter().any(|one| one == name))
        };
        for (index, server) in self.servers.iter_mut().enumerate() {
            server.drains = in_maintenance == Some(index);
            server.has_all = false;
            server.is_complete = in_sync(names[index]) && server.has_applied_all();
            if Some(index) == self.primary {
                server.lags = false;
                server.lag = None;
                server.errant = GtidSet::default();
                continue;
            }
            // A history of its own is not forgotten while there is nobody to compare it with.
            if let (Some(facts), Some(of_primary)) = (&server.facts, &of_primary) {
                // What the primary makes may come to a replica between the two answers; what others have made cannot.
                let only_here = facts.executed.subtract(of_primary);
                server.errant = only_here.without_server(&primary_uuid);
                server.has_all = facts.executed.contains(of_primary);
                match server.has_all {
                    true => (server.had_all, server.next) = (Some(began), None),
                    false => server.reach(began, of_primary),
                }
            }
            let bound = match server.lags {
                true => max_lag * RECOVERED_LAG.0 / RECOVERED_LAG.1,
                false => max_lag,
            };
            server.lag = server.lag_at(began);
            server.lags = server.lag.is_none_or(|lag| lag > bound);
        }
    }

    /// The primary, if it takes writes.
    pub(crate) fn writable_primary(&self) -> Option<usize> {
        let primary = self.readable_primary()?;
        let server = &self.servers[primary];
        let facts = server.facts.as_ref()?;
        let open = !facts.read_only && !facts.super_read_only && !facts.offline_mode;
        (open && !server.drains).then_some(primary)
    }

    /// The primary, if it answers reads: it may be closed to writes.
    pub(crate) fn readable_primary(&self) -> Option<usize> {
        self.primary
            .filter(|&primary| self.servers[primary].up && self.is_the_published(primary))
    }

    /// Whether writes wait: the primary is about to change, or about to be opened.
    pub(crate) fn holds_writes(&self) -> bool {
        self.is_to_change() || self.is_opening()
    }

    /// Whether the primary is about to change, as planned.
    pub(crate) fn is_to_change(&self) -> bool {
        self.row.as_ref().map(ClusterRow::published) == Some(Published::Switchover)
    }

    /// Whether the arbiter writes on the primary already, and everybody may in a moment: it publishes the primary before that.
    fn is_opening(&self) -> bool {
        let primary = self.readable_primary();
        let facts = primary.and_then(|primary| self.servers[primary].facts.as_ref());
        facts.is_some_and(|facts| facts.read_only && !facts.super_read_only && !facts.offline_mode)
    }

    /// A server of the primary's name with another data directory is another server.
    pub(crate) fn is_the_published(&self, primary: usize) -> bool {
        match (&self.row, &self.servers[primary].facts) {
            (Some(row), Some(facts)) => row.primary_uuid == facts.uuid,
            _ => false,
        }
    }

    /// Whether every answer was asked for after this.
    pub(crate) fn asked_after(&self, time: Instant) -> bool {
        self.began.is_some_and(|began| began > time)
    }

    /// How old a replica's data may be by now; `None` where that is not known.
    pub(crate) fn age(&self, server: usize) -> Option<Duration> {
        Some(self.servers[server].lag()? + self.began?.elapsed())
    }

    /// Whether the replica may answer reads of sessions whose writes it has: it is there, of the primary's history, and not worked on.
    pub(crate) fn may_read(&self, server: usize) -> bool {
        let server = &self.servers[server];
        server.up && !server.drains && server.errant.is_empty()
    }

    /// Whether it was further behind than allowed and has not recovered.
    pub(crate) fn lags(&self, server: usize) -> bool {
        self.servers[server].lags
    }

    /// Whether it is being worked on.
    pub(crate) fn drains(&self, server: usize) -> bool {
        self.servers[server].drains
    }

    /// Whether the replica was in sync and has applied all that it received: then it has every acknowledged write.
    pub(crate) fn is_complete(&self, server: usize) -> bool {
        self.servers[server].is_complete
    }

    /// Whether it had every write that was acknowledged before the round began.
    pub(crate) fn has_every_write(&self, server: usize) -> bool {
        self.servers[server].has_all || self.is_complete(server)
    }

    /// How a server is.
    pub(crate) fn state(&self, index: usize) -> ServerState {
        let server = &self.servers[index];
        if !server.up {
            ServerState::Down
        } else if server.drains {
            ServerState::Draining
        } else if !server.errant.is_empty() {
            ServerState::Errant
        } else if server.lags {
            ServerState::Lagging
        } else {
            ServerState::Healthy
        }
    }

    /// Whether it is worth looking more often: somebody is away or late, or writes wait for the next primary.
    pub(crate) fn is_suspicious(&self) -> bool {
        let is_in_doubt = |server: &ServerView| !server.up || server.is_late;
        self.holds_writes() || self.servers.iter().any(is_in_doubt)
    }
}

impl ServerView {
    fn answered(&self, answer: Answer, recovery_probes: u32) -> Self {
        let answered = self.answered.saturating_add(1);
        let up = answered >= recovery_probes;
        let error = match up {
            true => "".into(),
            false => {
                format!("it was away, and has answered {answered} of {recovery_probes} probes")
                    .into()
            }
        };
        Self {
            up,
            error,
            is_late: false,
            is_current: true,
            answered,
            facts: Some(answer.facts),
            replica: answer.replica,
            ..self.clone()
        }
    }

    fn has_applied_all(&self) -> bool {
        match (&self.facts, &self.replica) {
            (Some(facts), Some(replica)) => self.up && facts.executed.contains(&replica.received),
            _ => false,
        }
    }

    /// It is as it was, but how fresh a replica is now is not known.
    fn full(&self) -> Self {
        Self {
            is_current: false,
            replica: None,
            ..self.clone()
        }
    }

    /// As one that is full: statements go on, and none of them waits for the next look longer than for this one.
    fn late(&self) -> Self {
        Self {
            is_late: true,
            ..self.full()
        }
    }

    fn silent(&self, error: String) -> Self {
        Self {
            up: false,
            error: error.into(),
            is_late: false,
            is_current: false,
            answered: 0,
            facts: None,
            replica: None,
            ..self.clone()
        }
    }

    /// It has not all that the primary has. Where it has all that the primary had earlier, that says how old its data is.
    fn reach(&mut self, began: Instant, of_primary: &GtidSet) {
        let executed = self.facts.as_ref().map(|facts| &facts.executed);
        let has = |set: &GtidSet| executed.is_some_and(|executed| executed.contains(set));
        match self.next.take_if(|(_, set)| has(set)) {
            Some((then, _)) => self.had_all = Some(then),
            None if self.next.is_some() => return,
            None => {}
        }
        self.next = Some((began, of_primary.clone()));
    }

    /// How old its data may have been when this round began. Each of these is true by itself: it is not older than the newest transaction
    /// in it, nor than the time at which it had all. A sign of life from the source proves nothing, for that may have been on its way
    /// for as long as anything else.
    fn lag_at(&self, began: Instant) -> Option<Duration> {
        let replica = self.replica.as_ref()?;
        let since = self
            .had_all
            .map(|then| began.saturating_duration_since(then));
        let ages = [since, replica.newest_applied_age];
        ages.into_iter().flatten().min()
    }

    /// How old a replica's data may have been when the round began; `None` on a server that replicates from nobody, or where it is not
    /// known.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.lag
    }

    /// What it has executed and the primary has not.
    pub(crate) fn errant(&self) -> &GtidSet {
        &self.errant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["mysql-1", "mysql-2"];
    const UUIDS: [&str; 2] = [
        "3e11fa47-71ca-11e1-9e33-c80aa9429561",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    ];
    const BOUNDS: Bounds = Bounds {
        max_lag: Duration::from_millis(1000),
        recovery_probes: 3,
    };

    fn row(epoch: u64, primary: usize, phase: &str) -> ClusterRow {
        ClusterRow {
            epoch,
            primary_server: NAMES[primary].to_owned(),
            primary_uuid: UUIDS[primary].to_owned(),
            in_sync: NAMES.map(str::to_owned).into(),
            phase: phase.to_owned(),
            changed_at: sqlx::types::time::PrimitiveDateTime::MIN,
        }
    }

    /// The GTIDs of the two servers, such as `1-7`, made into a set.
    fn executed(of: [&str; 2]) -> GtidSet {
        let made = |(uuid, numbers): (&str, &str)| match numbers {
            "" => None,
            numbers => Some(format!("{uuid}:{numbers}")),
        };
        let sets: Vec<String> = UUIDS.into_iter().zip(of).filter_map(made).collect();
        sets.join(",").parse().unwrap()
    }

    fn primary(server: usize, set: GtidSet, row: &ClusterRow) -> Result<Answer, Silence> {
        Ok(Answer {
            facts: ServerFacts {
                uuid: UUIDS[server].to_owned(),
                read_only: false,
                super_read_only: false,
                offline_mode: false,
                executed: set,
                purged: GtidSet::default(),
            },
            row: Some(row.clone()),
            replica: None,
        })
    }

    /// A replica whose newest data are so old, with more received than executed.
    fn replica(
        server: usize,
        set: GtidSet,
        age_ms: u64,
        row: &ClusterRow,
    ) -> Result<Answer, Silence> {
        let mut answer = primary(server, set.clone(), row)?;
        answer.facts.super_read_only = true;
        answer.facts.read_only = true;
        let age = Some(Duration::from_millis(age_ms));
        answer.replica = Some(ReplicaFacts {
            source_host: NAMES[1 - server].to_owned(),
            source_port: 3306,
            source_uuid: UUIDS[1 - server].to_owned(),
            receiver: "ON".to_owned(),
            applier_on: true,
            received: set.union(&executed(["1-1000", ""])),
            receiver_error: 0,
            receiver_message: String::new(),
            applier_error: 0,
            applier_message: String::new(),
            newest_applied_age: age,
            link_age: age,
        });
        Ok(answer)
    }

    fn away() -> Result<Answer, Silence> {
        Err(Silence::Away("connection refused".to_owned()))
    }

    fn after(view: &View, answers: [Result<Answer, Silence>; 2]) -> View {
        view.after(Instant::now(), &NAMES, answers.into(), BOUNDS)
    }

    fn states(view: &View) -> [ServerState; 2] {
        [view.state(0), view.state(1)]
    }

    #[test]
    fn a_whole_pair_is_known_from_the_first_answers() {
        let row = row(1, 0, "steady");
        let set = || executed(["1-7", ""]);
        let view = after(
            &View::unknown(2),
            [primary(0, set(), &row), replica(1, set(), 700, &row)],
        );
        assert_eq!([ServerState::Healthy; 2], states(&view));
        assert_eq!(
            (Some(0), Some(0)),
            (view.writable_primary(), view.readable_primary())
        );
        assert_eq!(Some(Duration::ZERO), view.servers[1].lag(), "it has all");
        assert!(view.has_every_write(1));
    }

    #[test]
    fn a_server_that_was_away_answers_some_times_before_it_gets_statements() {
        let row = row(1, 0, "steady");
        let set = || executed(["1-7", ""]);
        let both = || [primary(0, set(), &row), replica(1, set(), 0, &row)];
        let mut view = after(&View::unknown(2), both());
        view = after(&view, [primary(0, set(), &row), away()]);
        assert_eq!(ServerState::Down, view.state(1));
        assert_eq!("connection refused", &*view.servers[1].error);
        for _ in 0..2 {
            view = after(&view, both());
            assert_eq!(ServerState::Down, view.state(1));
        }
        // One that answers now and then does not get there.
        view = after(&view, [primary(0, set(), &row), away()]);
        for expected in [ServerState::Down, ServerState::Down, ServerState::Healthy] {
            view = after(&view, both());
            assert_eq!(expected, view.state(1));
        }
    }

    #[test]
    fn a_replica_that_lagged_is_fresh_again_well_below_the_bound() {
        let row = row(1, 0, "steady");
        let at = |view: &View, age_ms| {
            let answers = [
                primary(0, executed(["1-1000", ""]), &row),
                replica(1, executed(["1-7", ""]), age_ms, &row),
            ];
            after(view, answers)
        };
        let mut view = View::unknown(2);
        for (age_ms, expected) in [
            (900, ServerState::Healthy),
            (1001, ServerState::Lagging),
            (900, ServerState::Lagging),
            (750, ServerState::Healthy),
            (900, ServerState::Healthy),
        ] {
            view = at(&view, age_ms);
            assert_eq!(expected, view.state(1), "{age_ms} ms");
        }
    }

    #[test]
    fn a_replica_with_a_history_of_its_own_gets_no_reads_and_an_old_primarys_history_is_none() {
        let one = row(1, 0, "steady");
        let errant = [
            primary(0, executed(["1-9", "1-3"]), &one),
            replica(1, executed(["1-9", "1-4"]), 0, &one),
        ];
        let view = after(&View::unknown(2), errant);
        assert_eq!(ServerState::Errant, view.state(1));
        assert_eq!(executed(["", "4"]), *view.servers[1].errant());
        assert!(!view.may_read(1));
        // The primary's own newest ones are on their way.
        let newer = [
            primary(0, executed(["1-8", "1-3"]), &one),
            replica(1, executed(["1-9", "1-3"]), 0, &one),
        ];
        assert_eq!(
            ServerState::Healthy,
            after(&View::unknown(2), newer).state(1)
        );
        let follows = [
            primary(0, executed(["1-9", "1-4"]), &one),
            replica(1, executed(["1-9", "1-4"]), 0, &one),
        ];
        assert_eq!(ServerState::Healthy, after(&view, follows).state(1));
    }

    #[test]
    fn the_highest_epoch_wins_whoever_says_it_and_is_not_forgotten() {
        let (one, two) = (row(1, 0, "steady"), row(2, 1, "steady"));
        let set = || executed(["1-7", ""]);
        let mut view = after(
            &View::unknown(2),
            [primary(0, set(), &one), primary(1, set(), &two)],
        );
        assert_eq!((2, Some(1)), (view.epoch, view.primary));
        // The old one alone still says what it knew.
        view = after(&view, [primary(0, set(), &one), away()]);
        assert_eq!((2, Some(1)), (view.epoch, view.primary));
        assert_eq!(
            (None, None),
            (view.writable_primary(), view.readable_primary())
        );
    }

    #[test]
    fn another_server_of_the_primarys_name_takes_nothing() {
        let row = row(1, 0, "steady");
        let mut other = primary(0, executed(["1-7", ""]), &row).unwrap();
        other.facts.uuid = UUIDS[1].to_owned();
        let view = after(&View::unknown(2), [Ok(other), away()]);
        assert_eq!(
            (None, None),
            (view.writable_primary(), view.readable_primary())
        );
    }

    #[test]
    fn a_closed_primary_answers_reads_and_a_planned_change_holds_writes() {
        let steady = row(1, 0, "steady");
        let mut closed = primary(0, executed(["1-7", ""]), &steady).unwrap();
        closed.facts.super_read_only = true;
        let view = after(&View::unknown(2), [Ok(closed), away()]);
        assert_eq!(
            (None, Some(0)),
            (view.writable_primary(), view.readable_primary())
        );
        assert!(!view.holds_writes());
        let changing = row(1, 0, ClusterRow::SWITCHOVER);
        let view = after(
            &view,
            [primary(0, executed(["1-7", ""]), &changing), away()],
        );
        assert!(view.holds_writes());
    }

    #[test]
    fn a_primary_that_the_arbiter_is_opening_holds_writes() {
        let steady = row(1, 0, "steady");
        let at_the_door = |super_read_only| {
            let mut answer = primary(0, executed(["1-7", ""]), &steady).unwrap();
            answer.facts.read_only = true;
            answer.facts.super_read_only = super_read_only;
            after(&View::unknown(2), [Ok(answer), away()])
        };
        assert!(at_the_door(false).holds_writes());
        assert!(!at_the_door(true).holds_writes());
    }

    #[test]
    fn a_server_in_maintenance_gets_nothing_that_another_one_can_do() {
        let set = || executed(["1-7", ""]);
        let of = |server: &str| format!("{}{server}", ClusterRow::MAINTENANCE);
        let at_2 = row(1, 0, &of("mysql-2"));
        let view = after(
            &View::unknown(2),
            [primary(0, set(), &at_2), replica(1, set(), 0, &at_2)],
        );
        assert_eq!([ServerState::Healthy, ServerState::Draining], states(&view));
        assert!(!view.may_read(1));
        let at_1 = row(1, 0, &of("mysql-1"));
        let view = after(
            &view,
            [primary(0, set(), &at_1), replica(1, set(), 0, &at_1)],
        );
        assert_eq!([ServerState::Draining, ServerState::Healthy], states(&view));
        assert_eq!(
            (None, Some(0)),
            (view.writable_primary(), view.readable_primary())
        );
    }
    #[test]
    fn of_two_rows_of_one_epoch_the_primarys_own_wins_else_the_later_one() {
        let old = row(1, 0, "steady");
        let mut new = row(1, 0, ClusterRow::SWITCHOVER);
        let set = || executed(["1-7", ""]);
        let both = |view: &View, own: &ClusterRow, replicas: &ClusterRow| {
            after(
                view,
                [primary(0, set(), own), replica(1, set(), 0, replicas)],
            )
        };
        let view = both(&View::unknown(2), &new, &old);
        assert!(view.holds_writes(), "the replica has not heard of it");
        assert!(!both(&view, &old, &new).holds_writes(), "it was called off");
        // With the primary away, what the replica holds is news only if it is later.
        let alone = |view: &View, row: &ClusterRow| {
            after(view, [away(), replica(1, set(), 0, row)]).holds_writes()
        };
        let view = both(&View::unknown(2), &old, &old);
        assert!(!alone(&view, &new));
        new.changed_at = sqlx::types::time::PrimitiveDateTime::MAX;
        assert!(alone(&view, &new));
    }

    #[test]
    fn a_server_that_is_late_once_goes_on_and_twice_in_a_row_is_away() {
        let row = row(1, 0, "steady");
        let set = || executed(["1-1000", ""]);
        let both = || [primary(0, set(), &row), replica(1, set(), 0, &row)];
        let late = || Err(Silence::Late("no answer within 600 ms".to_owned()));
        let whole = after(&View::unknown(2), both());
        assert!(!whole.is_suspicious());
        let once = after(&whole, [late(), late()]);
        assert!(once.is_suspicious());
        assert_eq!(Some(0), once.writable_primary());
        // How fresh a replica is is not known meanwhile.
        assert_eq!([ServerState::Healthy, ServerState::Lagging], states(&once));
        // Nor whether it has what the primary has acknowledged since it was heard.
        let unheard = after(&whole, [late(), replica(1, set(), 0, &row)]);
        assert!(whole.has_every_write(1) && !unheard.has_every_write(1));
        let again = after(&after(&once, both()), [late(), late()]);
        assert_eq!(Some(0), again.writable_primary());
        let twice = after(&once, [late(), late()]);
        assert_eq!([ServerState::Down; 2], states(&twice));
        assert_eq!("no answer within 600 ms", &*twice.servers[0].error);
        // Who was away and is late is away.
        let away = after(&whole, [away(), away()]);
        assert_eq!(
            [ServerState::Down; 2],
            states(&after(&away, [late(), late()]))
        );
    }

    #[test]
    fn a_replica_is_not_in_sync_because_it_says_so() {
        let row = row(1, 0, "steady");
        let set = || executed(["1-1000", ""]);
        let alone = |view: &View| after(view, [away(), replica(1, set(), 0, &row)]);
        assert!(!alone(&View::unknown(2)).is_complete(1));
        let both = [primary(0, set(), &row), replica(1, set(), 0, &row)];
        assert!(alone(&after(&View::unknown(2), both)).is_complete(1));
    }

    #[test]
    fn a_history_of_its_own_is_not_forgotten_while_nobody_can_be_compared_with() {
        let row = row(1, 0, "steady");
        let errant = || replica(1, executed(["1-9", "4"]), 0, &row);
        let view = after(
            &View::unknown(2),
            [primary(0, executed(["1-9", ""]), &row), errant()],
        );
        let view = after(&view, [away(), errant()]);
        assert_eq!([ServerState::Down, ServerState::Errant], states(&view));
        let answers = [primary(0, executed(["1-9", "4"]), &row), errant()];
        assert_eq!(ServerState::Healthy, after(&view, answers).state(1));
    }

    #[test]
    fn a_replica_is_as_old_as_what_it_is_known_to_have_had() {
        let row = row(1, 0, "steady");
        let start = Instant::now();
        let mut view = View::unknown(2);
        let mut round = |second: u64, of_primary: &str, of_replica: &str| {
            let answers = vec![
                primary(0, executed([of_primary, ""]), &row),
                replica(1, executed([of_replica, ""]), 100_000, &row),
            ];
            let began = start + Duration::from_secs(second);
            view = view.after(began, &NAMES, answers, BOUNDS);
            view.servers[1].lag().map(|lag| lag.as_secs())
        };
        assert_eq!(Some(0), round(0, "1-5", "1-5"));
        assert_eq!(Some(1), round(1, "1-6", "1-5"), "it had all a second ago");
        assert_eq!(Some(2), round(2, "1-7", "1-5"));
        assert_eq!(Some(2), round(3, "1-9", "1-6"), "what the primary had at 1");
        assert_eq!(Some(3), round(4, "1-10", "1-8"), "not yet what it had at 3");
        assert_eq!(Some(2), round(5, "1-10", "1-9"));
        assert_eq!(Some(0), round(6, "1-10", "1-10"));
    }

    #[test]
    fn a_server_that_lets_nobody_in_is_as_it_was_but_nobody_knows_how_fresh() {
        let row = row(1, 0, "steady");
        let set = || executed(["1-7", ""]);
        let both = || [primary(0, set(), &row), replica(1, set(), 0, &row)];
        let full = || [Err(Silence::Full), Err(Silence::Full)];
        let view = after(&View::unknown(2), both());
        let view = after(&view, full());
        assert_eq!([ServerState::Healthy, ServerState::Lagging], states(&view));
        assert_eq!(Some(0), view.writable_primary());
        assert!(!view.is_complete(1));
        // One that was away is away until it answers.
        let view = after(&view, [away(), away()]);
        assert_eq!([ServerState::Down; 2], states(&after(&view, full())));
    }
}
