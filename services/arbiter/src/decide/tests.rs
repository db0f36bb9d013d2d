//! The core against a model of two servers, which does each step as the real ones do, and dies wherever it hurts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use replication::{ClusterRow, GtidSet, ReplicaFacts};
use time::macros::datetime;

use super::*;
use crate::look::{Earlier, Heart, Pulse};
use crate::state::Phase;

const P: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429561";
const Q: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const ONE: &str = "mysql-1";
const TWO: &str = "mysql-2";
/// Between two rounds of the model.
const ROUND: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(2);
/// More than any recovery takes.
const ROUNDS: usize = 40;

fn gtids(text: &str) -> GtidSet {
    text.parse().unwrap()
}

/// What is in a transaction, as far as it matters.
#[derive(Clone, Debug)]
enum Write {
    Clients,
    Beat,
    Schema,
    Row(ClusterRow),
}

/// A model server: its facts, whether it runs, and its binary log, where a commit is before it is acknowledged.
#[derive(Clone, Debug)]
struct Model {
    facts: Facts,
    runs: bool,
    boots: u32,
    log: GtidSet,
    waiting: Vec<(u64, Write)>,
    schema: bool,
}

impl Model {
    fn new(uuid: &str) -> Self {
        Self {
            facts: Facts::of_a_new_server(uuid),
            runs: true,
            boots: 0,
            log: GtidSet::default(),
            waiting: Vec::new(),
            schema: false,
        }
    }

    /// A commit gets into the log, and waits there.
    fn commit(&mut self, write: Write) -> u64 {
        let number = self.log.count() + 1;
        self.log = self.log.union(&gtids(&format!("{P}:{number}")));
        self.waiting.push((number, write));
        number
    }

    /// A commit is done: it is executed, and others see it.
    fn finish(&mut self, number: u64, write: Write) {
        let server = &mut self.facts.server;
        server.executed = server.executed.union(&gtids(&format!("{P}:{number}")));
        match write {
            Write::Schema => self.schema = true,
            Write::Row(row) => self.facts.row = Some(row),
            Write::Clients | Write::Beat => {}
        }
    }
}

/// Two servers, the link between them, the arbiter and its disk.
struct World {
    pair: [Endpoint; 2],
    servers: BTreeMap<String, Model>,
    link: bool,
    // The disk survives, the rest of the arbiter does not.
    state: Option<State>,
    earlier: Earlier,
    acknowledged: Option<Instant>,
    now: Instant,
    /// What clients were told OK for.
    promised: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            pair: [ONE, TWO].map(|name| Endpoint {
                name: name.to_owned(),
                host: name.to_owned(),
                port: 3306,
            }),
            servers: [(ONE, P), (TWO, Q)]
                .map(|(name, uuid)| (name.to_owned(), Model::new(uuid)))
                .into(),
            link: true,
            state: None,
            earlier: Earlier::default(),
            acknowledged: None,
            now: Instant::now(),
            promised: BTreeSet::new(),
        }
    }

    fn opened() -> Self {
        let mut world = Self::new();
        world.settle();
        assert!(world.is_well(), "{:?}", world.decide());
        world
    }

    fn of(&mut self, name: &str) -> &mut Model {
        self.servers.get_mut(name).unwrap()
    }

    fn facts(&mut self, name: &str) -> &mut Facts {
        &mut self.of(name).facts
    }

    fn observations(&self) -> BTreeMap<String, Observation> {
        let observation = |model: &Model| match model.runs {
            true => Ok(model.facts.clone()),
            false => Err("connection refused".to_owned()),
        };
        self.servers
            .iter()
            .map(|(name, model)| (name.clone(), observation(model)))
            .collect()
    }

    fn decide(&mut self) -> Decision {
        self.now += ROUND;
        let pulse = Pulse {
            acknowledged: self.acknowledged,
            limit: LIMIT,
        };
        let look = self
            .earlier
            .look(self.observations(), self.state.as_ref(), pulse, self.now);
        decide(&self.pair, self.state.as_ref(), &look)
    }

    /// One round of the arbiter, which dies after `steps` of it. A heartbeat comes after the look, as the real one does at some time.
    fn round(&mut self, steps: usize) -> Decision {
        self.replicate();
        let decision = self.decide();
        self.beat();
        for step in decision.steps.iter().take(steps) {
            let done = self.step(step.clone());
            self.check();
            if !done {
                break;
            }
        }
        if steps < decision.steps.len() {
            self.restart_arbiter();
        }
        decision
    }

    fn settle(&mut self) -> Decision {
        for _ in 0..ROUNDS {
            self.round(usize::MAX);
        }
        self.replicate();
        self.decide()
    }

    fn restart_arbiter(&mut self) {
        self.earlier = Earlier::default();
        self.acknowledged = None;
    }

    fn beat(&mut self) {
        let one = self.of(ONE);
        if one.runs && one.facts.takes_ours() && one.schema {
            let number = one.commit(Write::Beat);
            self.replicate();
            if self
                .facts(ONE)
                .server
                .executed
                .contains(&gtids(&format!("{P}:{number}")))
            {
                self.now += Duration::from_millis(1);
                self.acknowledged = Some(self.now);
            }
        }
    }

    fn client_writes(&mut self) {
        let one = self.of(ONE);
        if one.runs && one.facts.open() {
            let number = one.commit(Write::Clients);
            self.replicate();
            let executed = &self.facts(ONE).server.executed;
            if executed.contains(&gtids(&format!("{P}:{number}"))) {
                self.promised.insert(number);
            }
        }
    }

    /// What the servers do by themselves: connect, send, receive, acknowledge, apply.
    fn replicate(&mut self) {
        let one = &self.servers[ONE];
        let sends = self.link && one.runs && !one.facts.server.offline_mode;
        let (log, row, uuid) = (
            one.log.clone(),
            one.facts.row.clone(),
            one.facts.server.uuid.clone(),
        );
        let two = self.of(TWO);
        let mut connected = false;
        if let Some(channel) = two.facts.replica.as_mut().filter(|_| two.runs) {
            if channel.receiver != "OFF" {
                connected = sends;
                let state = if sends { "ON" } else { "CONNECTING" };
                channel.receiver = state.to_owned();
            }
            if connected {
                channel.received = channel.received.union(&log);
                channel.source_uuid = uuid;
            }
            if channel.applier_on {
                two.facts.server.executed = two.facts.server.executed.union(&channel.received);
                two.facts.row = row;
            }
        }
        let acknowledges = connected && two.facts.semi_sync.replica_enabled;
        two.facts.semi_sync.replica_active = acknowledges;
        let one = self.of(ONE);
        let semi_sync = &mut one.facts.semi_sync;
        semi_sync.clients = acknowledges.into();
        semi_sync.source_active = semi_sync.source_enabled;
        if acknowledges || !semi_sync.source_enabled {
            for (number, write) in std::mem::take(&mut one.waiting) {
                one.finish(number, write);
            }
        }
    }

    /// Does a step, and gives whether it was done.
    fn step(&mut self, step: Step) -> bool {
        if let Some(server) = step.server()
            && !self.servers[server].runs
        {
            return false;
        }
        match step {
            Step::Save(state) => self.state = Some(state),
            Step::Wire { replica, .. } => {
                let two = self.facts(&replica);
                let received = two.replica.as_ref().map(|channel| &channel.received);
                assert!(
                    received.is_none_or(|received| two.server.executed.contains(received)),
                    "wiring deleted what was received"
                );
                two.replica = Some(channel(ONE));
            }
            Step::StartApplier(name) => self.channel(&name).applier_on = true,
            Step::StartReceiver(name) => self.channel(&name).receiver = "CONNECTING".to_owned(),
            Step::StopReceiver(name) => self.channel(&name).receiver = "OFF".to_owned(),
            Step::EnableAcknowledging(name) => {
                self.facts(&name).semi_sync.replica_enabled = true;
            }
            Step::EnableSemiSync(name) => self.facts(&name).semi_sync.source_enabled = true,
            Step::ForbidWrites(name) => {
                let server = &mut self.facts(&name).server;
                (server.super_read_only, server.read_only) = (true, true);
            }
            Step::LiftOfflineMode(name) => {
                let server = &mut self.facts(&name).server;
                assert!(server.super_read_only, "let clients in who can write");
                server.offline_mode = false;
            }
            Step::AllowArbiter(name) => {
                let log = self.of(&name).log.clone();
                let received = self.channel(TWO).received.clone();
                assert!(
                    received.contains(&log),
                    "opened while the replica misses {}",
                    log.subtract(&received)
                );
                self.facts(&name).server.super_read_only = false;
            }
            Step::CreateSchema(name) => return self.write_ours(&name, Write::Schema),
            Step::Publish { on, state } => {
                assert_eq!(
                    Some(&state),
                    self.state.as_ref(),
                    "published what is not recorded"
                );
                let row = ClusterRow {
                    epoch: state.epoch,
                    primary_server: state.primary.clone(),
                    primary_uuid: state.uuids[&state.primary].clone(),
                    in_sync: state.in_sync.iter().cloned().collect(),
                    phase: state.phase.as_str().to_owned(),
                    changed_at: datetime!(2026-01-01 0:00),
                };
                assert!(self.of(&on).schema, "published before there is a table");
                return self.write_ours(&on, Write::Row(row));
            }
            Step::AllowWrites(name) => {
                assert!(
                    self.facts(&name).row.is_some(),
                    "opened before it was published"
                );
                self.facts(&name).server.read_only = false;
            }
        }
        true
    }

    fn channel(&mut self, name: &str) -> &mut ReplicaFacts {
        self.facts(name).replica.as_mut().expect("a channel")
    }

    fn write_ours(&mut self, name: &str, write: Write) -> bool {
        assert_eq!(name, ONE);
        if !self.facts(name).takes_ours() {
            return false;
        }
        let number = self.of(name).commit(write);
        self.replicate();
        let executed = &self.facts(name).server.executed;
        executed.contains(&gtids(&format!("{P}:{number}")))
    }

    /// SIGKILL. What waited in the log is there at the next boot, acknowledged or not; what was received is kept.
    fn kill(&mut self, name: &str) {
        let model = self.of(name);
        model.runs = false;
        for (number, write) in std::mem::take(&mut model.waiting) {
            model.finish(number, write);
        }
        let server = &mut model.facts.server;
        (
            server.read_only,
            server.super_read_only,
            server.offline_mode,
        ) = (true, true, true);
        let semi_sync = &mut model.facts.semi_sync;
        (
            semi_sync.source_enabled,
            semi_sync.source_active,
            semi_sync.clients,
        ) = (false, false, 0);
        semi_sync.replica_active = false;
        if let Some(channel) = &mut model.facts.replica {
            (channel.receiver, channel.applier_on) = ("OFF".to_owned(), false);
        }
    }

    fn start(&mut self, name: &str) {
        let model = self.of(name);
        if !model.runs {
            model.runs = true;
            model.boots += 1;
            model.facts.boot = model.boots.to_string();
        }
    }

    /// What must hold at any time.
    fn check(&self) {
        let [one, two] = [ONE, TWO].map(|name| &self.servers[name]);
        assert!(two.facts.server.super_read_only, "the replica is writable");
        if one.runs && one.facts.open() {
            let state = self.state.as_ref().expect("opened without a state");
            assert_eq!((state.phase, state.primary.as_str()), (Phase::Steady, ONE));
            assert!(
                one.facts.semi_sync.source_enabled,
                "opened without semi-sync"
            );
        }
        for &number in &self.promised {
            let one_has = one.log.contains(&gtids(&format!("{P}:{number}")));
            let two_has = two.facts.holds().contains(&gtids(&format!("{P}:{number}")));
            assert!(
                one_has && two_has,
                "{number} was promised and is not on both"
            );
        }
    }

    fn is_well(&mut self) -> bool {
        let decision = self.decide();
        let state = self.state.clone();
        let boot = self.facts(TWO).boot.clone();
        decision == Decision::default()
            && self.facts(ONE).open()
            && !self.facts(TWO).server.offline_mode
            && state.is_some_and(|state| {
                state.phase == Phase::Steady && state.replica_boot == Some(boot)
            })
    }
}

fn channel(host: &str) -> ReplicaFacts {
    ReplicaFacts {
        source_host: host.to_owned(),
        source_port: 3306,
        source_uuid: String::new(),
        receiver: "OFF".to_owned(),
        applier_on: false,
        received: GtidSet::default(),
        receiver_error: 0,
        receiver_message: String::new(),
        applier_error: 0,
        applier_message: String::new(),
        newest_applied_age: None,
        link_age: None,
    }
}

fn says(decision: &Decision, condition: &Condition) {
    assert!(
        decision.conditions.contains(condition),
        "{condition:?} is not in {decision:?}"
    );
}

fn opens_nothing(decision: &Decision) {
    let opening = decision.steps.iter().find(|step| {
        matches!(
            step,
            Step::AllowArbiter(_) | Step::AllowWrites(_) | Step::Publish { .. }
        )
    });
    assert_eq!(opening, None, "{decision:?}");
}

#[test]
fn an_empty_pair_gets_a_state_before_anything_else_and_is_opened_and_published() {
    let mut world = World::new();
    let first = world.decide();
    assert!(
        matches!(&first.steps[..], [Step::Save(state)] if state.phase == Phase::Bootstrap && state.epoch == 1),
        "{first:?}"
    );
    world.settle();
    assert!(world.is_well());
    let row = world.facts(TWO).row.clone().expect("replicated");
    assert_eq!(
        (row.primary_server.as_str(), row.phase.as_str()),
        (ONE, "steady")
    );
}

#[test]
fn a_crash_of_anybody_after_any_step_of_the_bootstrap_is_recovered_from() {
    let mut crashes = 0;
    for victims in [&[][..], &[ONE], &[TWO], &[ONE, TWO]] {
        for before in 0..ROUNDS {
            for steps in 0..4 {
                let mut world = World::new();
                for _ in 0..before {
                    world.round(usize::MAX);
                }
                if world.round(steps).steps.len() > steps {
                    crashes += 1;
                }
                victims.iter().for_each(|victim| world.kill(victim));
                world.round(usize::MAX);
                victims.iter().for_each(|victim| world.start(victim));
                let last = world.settle();
                assert!(world.is_well(), "{victims:?}, {before}+{steps}: {last:?}");
            }
        }
    }
    assert!(
        crashes > 30,
        "only {crashes} crashes were in the middle of a round"
    );
}

/// What happens to a pair.
#[derive(Clone, Copy, Debug)]
enum Event {
    Write,
    Round(usize),
    KillArbiter,
    Kill(&'static str),
    Start(&'static str),
    Link(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let server = prop::sample::select(vec![ONE, TWO]);
    prop_oneof![
        3 => Just(Event::Write),
        6 => (0..5_usize).prop_map(Event::Round),
        4 => Just(Event::Round(usize::MAX)),
        1 => Just(Event::KillArbiter),
        1 => server.clone().prop_map(Event::Kill),
        2 => server.prop_map(Event::Start),
        2 => any::<bool>().prop_map(Event::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_promise_is_broken_and_the_pair_recovers(events in prop::collection::vec(event(), 0..120)) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Write => world.client_writes(),
                Event::Round(steps) => drop(world.round(steps)),
                Event::KillArbiter => world.restart_arbiter(),
                Event::Kill(name) => world.kill(name),
                Event::Start(name) => world.start(name),
                Event::Link(link) => world.link = link,
            }
            world.check();
        }
        [ONE, TWO].iter().for_each(|name| world.start(name));
        world.link = true;
        let last = world.settle();
        prop_assert!(world.is_well(), "{last:?}");
    }
}

#[test]
fn the_first_start_waits_for_both_servers_and_says_so() {
    let mut world = World::new();
    world.kill(TWO);
    let decision = world.decide();
    assert!(decision.steps.is_empty(), "{decision:?}");
    assert_eq!(
        decision.waits(),
        ["mysql-2 (new) does not answer: connection refused"]
    );
    world.start(TWO);
    world.settle();
    assert!(world.is_well());
}

#[test]
fn servers_with_a_past_are_not_adopted_without_a_state() {
    type Past = fn(&mut Facts);
    let pasts: [(Past, &str); 4] = [
        (
            |facts| facts.server.executed = gtids(&format!("{Q}:1")),
            "has executed",
        ),
        (
            |facts| facts.replica = Some(channel("elsewhere")),
            "replicates from elsewhere",
        ),
        (
            |facts| facts.server.super_read_only = false,
            "was opened by somebody",
        ),
        (
            |facts| {
                facts.row = Some(ClusterRow {
                    epoch: 3,
                    primary_server: TWO.to_owned(),
                    primary_uuid: Q.to_owned(),
                    in_sync: vec![TWO.to_owned()],
                    phase: "steady".to_owned(),
                    changed_at: datetime!(2026-01-01 0:00),
                });
            },
            "publication of epoch 3",
        ),
    ];
    for (past, what) in pasts {
        let mut world = World::new();
        past(world.facts(TWO));
        let decision = world.decide();
        assert!(decision.steps.is_empty(), "{decision:?}");
        assert!(decision.refusals()[0].contains(what), "{decision:?}");
    }
    let mut world = World::new();
    world.facts(TWO).server.uuid = P.to_owned();
    says(
        &world.decide(),
        &Condition::SameServer(ONE.to_owned(), TWO.to_owned()),
    );
}

#[test]
fn a_pair_that_does_not_fit_the_state_is_not_touched() {
    // Both volumes were removed, the state was not.
    let mut world = World::opened();
    world.kill(ONE);
    world.servers.insert(ONE.to_owned(), Model::new("another"));
    let decision = world.decide();
    assert!(decision.steps.is_empty(), "{decision:?}");
    assert!(
        decision.refusals()[0].contains("another data directory"),
        "{decision:?}"
    );

    // The state was restored from an older copy.
    let mut world = World::opened();
    world.facts(TWO).row.as_mut().unwrap().epoch = 2;
    let decision = world.decide();
    assert!(decision.steps.is_empty(), "{decision:?}");
    assert!(
        decision.refusals()[0].contains("not the newest"),
        "{decision:?}"
    );

    // The configuration is another pair's.
    let mut world = World::opened();
    world.pair[1].name = "mysql-3".to_owned();
    let decision = world.decide();
    assert!(decision.steps.is_empty(), "{decision:?}");
    assert!(
        decision.refusals()[0].contains("mysql-1 and mysql-3"),
        "{decision:?}"
    );

    // A later arbiter went on with one server.
    let mut world = World::opened();
    let state = world.state.as_mut().unwrap();
    (state.in_sync, state.replica_boot) = ([ONE.to_owned()].into(), None);
    let decision = world.decide();
    assert_eq!(decision.steps, []);
    says(&decision, &Condition::Alone(ONE.to_owned()));
}

#[test]
fn a_primary_that_was_killed_stays_closed_until_the_replica_has_its_last_transaction() {
    let mut world = World::opened();
    world.link = false;
    world.replicate();
    world.client_writes();
    world.kill(ONE);
    world.kill(TWO);
    world.start(ONE);
    for _ in 0..5 {
        let decision = world.round(usize::MAX);
        opens_nothing(&decision);
        says(
            &decision,
            &Condition::ClosedWithoutReplica {
                primary: ONE.to_owned(),
                replica: TWO.to_owned(),
            },
        );
        assert!(world.facts(ONE).server.offline_mode, "let clients in");
    }
    world.start(TWO);
    for _ in 0..5 {
        opens_nothing(&world.round(usize::MAX));
    }
    says(
        &world.decide(),
        &Condition::Receiving {
            primary: ONE.to_owned(),
            replica: TWO.to_owned(),
            missing: 1,
        },
    );
    world.link = true;
    world.settle();
    assert!(world.is_well());
}

#[test]
fn a_primary_that_its_entrypoint_took_offline_is_not_let_in_again() {
    let mut world = World::opened();
    world.facts(ONE).server.offline_mode = true;
    let decision = world.decide();
    assert_eq!(decision.steps, []);
    says(&decision, &Condition::TakenOffline(ONE.to_owned()));
}

#[test]
fn a_primary_that_has_lost_what_its_replica_received_is_not_opened() {
    let mut world = World::opened();
    world.kill(ONE);
    let lost = world.of(ONE).log.count();
    let one = world.of(ONE);
    one.log = gtids(&format!("{P}:1-{}", lost - 1));
    one.facts.server.executed = one.log.clone();
    world.start(ONE);
    let decision = world.round(usize::MAX);
    assert_eq!(decision.steps, []);
    says(
        &decision,
        &Condition::PrimaryLost {
            primary: ONE.to_owned(),
            replica: TWO.to_owned(),
            missing: gtids(&format!("{P}:{lost}")),
        },
    );
}

#[test]
fn a_replica_with_transactions_of_its_own_is_not_attached() {
    let mut world = World::opened();
    world.kill(TWO);
    let executed = &mut world.facts(TWO).server.executed;
    *executed = executed.union(&gtids(&format!("{Q}:1")));
    world.start(TWO);
    let decision = world.round(usize::MAX);
    assert_eq!(decision.steps, []);
    says(
        &decision,
        &Condition::Errant {
            server: TWO.to_owned(),
            errant: gtids(&format!("{Q}:1")),
        },
    );
    // The primary is left as it is: commits wait.
    assert!(world.facts(ONE).open());
}

#[test]
fn a_replica_that_needs_what_was_purged_is_not_attached() {
    let mut world = World::opened();
    world.kill(TWO);
    world.client_writes();
    world.kill(ONE);
    let log = world.of(ONE).log.clone();
    world.facts(ONE).server.purged = log.clone();
    world.start(ONE);
    world.start(TWO);
    let decision = world.round(usize::MAX);
    opens_nothing(&decision);
    let holds = world.facts(TWO).holds();
    says(
        &decision,
        &Condition::Purged {
            primary: ONE.to_owned(),
            replica: TWO.to_owned(),
            missing: log.subtract(&holds),
        },
    );
}

#[test]
fn an_applier_that_met_an_error_is_left_to_a_person() {
    let mut world = World::opened();
    let channel = world.channel(TWO);
    channel.applier_on = false;
    channel.applier_error = 1062;
    channel.applier_message = "Duplicate entry".to_owned();
    let decision = world.decide();
    assert_eq!(decision.steps, []);
    assert!(
        decision.refusals()[0].contains("1062: Duplicate entry"),
        "{decision:?}"
    );
}

#[test]
fn a_replica_that_somebody_opened_is_closed_before_anything_else() {
    let mut world = World::opened();
    world.facts(TWO).server.super_read_only = false;
    let decision = world.decide();
    assert_eq!(decision.steps, [Step::ForbidWrites(TWO.to_owned())]);
    says(&decision, &Condition::WritableReplica(TWO.to_owned()));
}

#[test]
fn semi_sync_that_is_off_or_not_lossless_is_put_right_or_refused() {
    let mut world = World::opened();
    world.facts(ONE).semi_sync.source_enabled = false;
    let decision = world.decide();
    assert_eq!(decision.steps, [Step::EnableSemiSync(ONE.to_owned())]);
    says(&decision, &Condition::SemiSyncWasOff(ONE.to_owned()));

    let mut world = World::opened();
    world.kill(ONE);
    world.facts(ONE).semi_sync.source_lossless = false;
    world.start(ONE);
    let decision = world.settle();
    opens_nothing(&decision);
    says(&decision, &Condition::Lossy(ONE.to_owned()));
}

#[test]
fn a_primary_that_replicates_or_a_replica_of_somebody_else_is_not_opened_upon() {
    let mut world = World::opened();
    world.kill(ONE);
    world.facts(ONE).replica = Some(channel("elsewhere"));
    world.start(ONE);
    let decision = world.settle();
    opens_nothing(&decision);
    says(&decision, &Condition::PrimaryReplicates(ONE.to_owned()));

    let mut world = World::opened();
    world.channel(TWO).source_uuid = Q.to_owned();
    says(
        &world.decide(),
        &Condition::ForeignSource {
            replica: TWO.to_owned(),
            primary: ONE.to_owned(),
            found: Q.to_owned(),
        },
    );
}

#[test]
fn a_channel_that_leads_elsewhere_is_emptied_before_it_is_wired_anew() {
    let mut world = World::opened();
    let received = world.channel(TWO).received.clone();
    world.kill(TWO);
    let replica = world.channel(TWO);
    replica.source_host = "old-name".to_owned();
    // Received and not applied.
    replica.received = received;
    world.facts(TWO).server.executed = gtids(&format!("{P}:1"));
    world.start(TWO);
    // The model asserts that wiring deletes nothing.
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        seen.extend(world.round(usize::MAX).steps);
    }
    assert!(
        seen.iter().any(|step| matches!(step, Step::Wire { .. })),
        "{seen:?}"
    );
    assert!(world.is_well());
}

#[test]
fn without_the_replica_an_open_primary_stays_open_and_writes_are_said_to_wait() {
    let mut world = World::opened();
    world.kill(TWO);
    for _ in 0..10 {
        assert_eq!(world.round(usize::MAX).steps, []);
    }
    let decision = world.decide();
    let waits = decision.waits();
    assert!(
        waits.contains(&"mysql-2 (replica) does not answer: connection refused".to_owned())
            && waits.contains(
                &"degraded: writes wait for mysql-2 to acknowledge them; reads go on".to_owned()
            ),
        "{waits:?}"
    );
}

#[test]
fn without_the_primary_a_restarted_replica_serves_reads_and_is_not_attached_unseen() {
    let mut world = World::opened();
    world.kill(ONE);
    world.kill(TWO);
    world.start(TWO);
    let decision = world.round(usize::MAX);
    assert_eq!(
        decision.steps,
        [
            Step::StartApplier(TWO.to_owned()),
            Step::LiftOfflineMode(TWO.to_owned())
        ]
    );
    world.start(ONE);
    world.settle();
    assert!(world.is_well());
}

#[test]
fn a_replica_that_restarted_is_in_sync_again_only_when_it_has_everything() {
    let mut world = World::opened();
    let before = world.state.clone();
    world.kill(TWO);
    world.link = false;
    world.client_writes();
    world.start(TWO);
    for _ in 0..5 {
        world.round(usize::MAX);
    }
    // It has all that the primary has executed, for nothing more is acknowledged.
    let recorded = world.state.clone().unwrap();
    assert_ne!(Some(&recorded), before.as_ref());
    assert_eq!(recorded.replica_boot.as_deref(), Some("1"));

    // It lost its relay log, and says so by what it holds.
    world.kill(TWO);
    world.channel(TWO).received = GtidSet::default();
    world.facts(TWO).server.executed = gtids(&format!("{P}:1"));
    world.promised.clear();
    world.start(TWO);
    for _ in 0..5 {
        world.round(usize::MAX);
    }
    assert_eq!(world.state, Some(recorded));
    says(&world.decide(), &Condition::GrowingBack(TWO.to_owned()));
    world.link = true;
    world.settle();
    assert!(world.is_well());
}

/// A replica that restarted at the end of the bootstrap gave two states in one round, the phase's made from the one before the boot's,
/// which undid it.
#[test]
fn a_round_changes_the_state_at_most_once() {
    let mut world = World::new();
    while !world.facts(ONE).takes_ours() {
        world.round(usize::MAX);
    }
    world.kill(TWO);
    world.start(TWO);
    for _ in 0..ROUNDS {
        let saves = |step: &&Step| matches!(step, Step::Save(_));
        let decision = world.round(usize::MAX);
        assert!(
            decision.steps.iter().filter(saves).count() <= 1,
            "{decision:?}"
        );
    }
    assert!(world.is_well());
}

#[test]
fn a_receiver_that_does_not_acknowledge_is_restarted_after_a_while() {
    let mut world = World::opened();
    world.facts(TWO).semi_sync.replica_active = false;
    // The link is as it is: the model would put it right.
    let restart = [
        Step::StopReceiver(TWO.to_owned()),
        Step::StartReceiver(TWO.to_owned()),
    ];
    assert_eq!(world.decide().steps, []);
    let decision = (0..8)
        .map(|_| world.decide())
        .find(|decision| !decision.steps.is_empty())
        .expect("it is restarted");
    assert_eq!(decision.steps, restart);

    world.facts(TWO).semi_sync.replica_enabled = false;
    let steps = world.decide().steps;
    assert_eq!(steps[0], Step::EnableAcknowledging(TWO.to_owned()));
    world.settle();
    assert!(world.is_well());
}

#[test]
fn an_acknowledgement_from_before_a_restart_opens_nothing() {
    let mut world = World::opened();
    world.beat();
    world.kill(ONE);
    world.start(ONE);
    // Every round but without heartbeats: the acknowledgement of before is still young enough.
    for _ in 0..3 {
        world.replicate();
        world.now -= ROUND;
        let decision = world.decide();
        assert!(
            !decision.steps.contains(&Step::AllowWrites(ONE.to_owned())),
            "{decision:?}"
        );
        decision.steps.into_iter().for_each(|step| {
            world.step(step);
        });
    }
    assert!(world.facts(ONE).takes_ours() && !world.facts(ONE).open());
    let look = world.earlier.look(
        world.observations(),
        world.state.as_ref(),
        Pulse {
            acknowledged: world.acknowledged,
            limit: LIMIT,
        },
        world.now,
    );
    assert_eq!(look.heart, Heart::Unknown);
}
