//! Two model servers, the ways between them, their clients, and the arbiter: its disk, which survives it, and its memory, which does not.
//!
//! A world has no clock and no counters that only grow: ages are young or old, a boot is the current one or one before, and transactions
//! that both servers have executed are forgotten. So worlds are finitely many and can be compared. The arbiter's memory is what
//! [`Earlier`] keeps, in these terms; the looks themselves are made by [`Earlier`].

use std::time::{Duration, Instant};

use replication::Endpoint;

use super::acts::{Act, Deed, Disk, index};
use super::gtids::Gtids;
use super::model::{
    Age, Channel, Copy, Receiver, Run, Server, Set, Stage, Transaction, Write, boot,
};
use crate::decide::{Ask, Decision, Timing, decide, grant};
use crate::heartbeat::Beat;
use crate::look::{Beaten, Earlier, Look, Moment, Pulse};
use crate::observe::Silence;
use crate::step::Step;

pub(super) const NAMES: [&str; 2] = ["mysql-1", "mysql-2"];
pub(super) const UUIDS: [&str; 2] = [
    "3e11fa47-71ca-11e1-9e33-c80aa9429561",
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
];

/// All limits are between what is young and what is old.
pub(super) const TIMING: Timing = Timing {
    failover_after: Duration::from_millis(1500),
    link_timeout: Duration::from_millis(1500),
    open_alone_after: Duration::from_millis(5000),
    switchover_announce: Duration::ZERO,
    switchover_limit: Duration::from_millis(1800),
};
const YOUNG_MAX: Duration = Duration::from_secs(1);
const OLD: Duration = Duration::from_secs(3600);

pub(super) fn pair() -> [Endpoint; 2] {
    NAMES.map(|name| Endpoint {
        name: name.to_owned(),
        host: name.to_owned(),
        port: 3306,
    })
}

/// A heartbeat that was acknowledged: what of its times matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Acknowledged {
    begun_under_semi_sync: bool,
    pub since_writable: bool,
    pub age: Age,
}

/// A heartbeat that is not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Beating {
    server: usize,
    pub number: u8,
    begun_under_semi_sync: bool,
}

/// What [`Earlier`] keeps, and the heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    epoch: u64,
    /// Whether the boots of the look before are the current ones.
    boots: Option<[bool; 2]>,
    pub executed: Option<(bool, Set)>,
    pub ages: [Option<Age>; 6],
    pub phase: Option<(Stage, Age)>,
    pub acknowledged: Option<Acknowledged>,
    /// Where heartbeats may be written.
    beat: Option<usize>,
    pub beating: Option<Beating>,
    /// The server whose data is being made anew, or was just now in vain.
    pub copying: Option<usize>,
}

pub(super) const SEMI_SYNC: usize = 0;
const WRITABLE: usize = 1;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub servers: [Server; 2],
    /// From one to the other.
    pub link: bool,
    /// From the arbiter to each.
    pub ways: [bool; 2],
    pub disk: Option<Disk>,
    pub memory: Memory,
    /// Steps that were decided and not done yet.
    pub pending: Vec<Act>,
    /// Whether each server is in the boot in which it was looked at.
    pub fresh: [bool; 2],
    /// A statement that was sent to a server which did not answer. It is carried out when the server goes on.
    pub late: [Option<Act>; 2],
    pub transactions: Vec<Transaction>,
    /// What was saved before it was thrown away.
    pub saved: Set,
    /// Which step may be carried out late.
    pub may_be_late: Option<Deed>,
    /// What must never be.
    pub fault: Option<&'static str>,
}

impl World {
    /// Two servers, just initialised, and an arbiter without a state.
    pub(super) fn new() -> Self {
        Self {
            servers: [Server::new(), Server::new()],
            link: true,
            ways: [true; 2],
            disk: None,
            memory: Memory::default(),
            pending: Vec::new(),
            fresh: [true; 2],
            late: [None; 2],
            transactions: Vec::new(),
            saved: 0,
            may_be_late: None,
            fault: None,
        }
    }

    /// A pair that is whole.
    pub(super) fn whole() -> Self {
        let mut world = Self::new();
        world.settle().unwrap();
        world
    }

    pub(super) fn primary(&self) -> usize {
        self.disk.expect("a state").primary()
    }

    fn gtids(&self) -> Gtids<'_> {
        Gtids(&self.transactions)
    }

    // Looking.

    /// What the arbiter sees; its memory has it then.
    pub(super) fn see(&mut self) -> Look {
        // Far from the clock's beginning, for it cannot go before it.
        let base = Instant::now() + 100 * OLD;
        let then = |age: Age| match age {
            Age::Young => base,
            Age::Old => base - 2 * OLD,
        };
        let observe = |me: usize| match self.servers[me].run == Run::Up && self.ways[me] {
            true => Ok(self.servers[me].facts(me, &mut self.gtids())),
            false => Err(Silence {
                why: "no answer".to_owned(),
                alive: false,
            }),
        };
        let servers = [0, 1].map(|me| (NAMES[me].to_owned(), observe(me))).into();
        let memory = &self.memory;
        let primary = self.disk.map_or(0, |disk| disk.primary());
        let mut earlier = Earlier::default();
        let parts = earlier.parts();
        *parts.epoch = memory.epoch;
        *parts.boots = memory
            .boots
            .map(|current| [primary, 1 - primary].map(|me| boot(me, current[me])));
        *parts.executed = memory
            .executed
            .map(|(base, set)| self.gtids().of(base, set));
        for (since, age) in parts.since.into_iter().zip(memory.ages) {
            *since = age.map(then);
        }
        *parts.phase = memory.phase.map(|(stage, age)| {
            let primary = u8::try_from(primary).unwrap();
            (stage.full(primary), then(age))
        });
        let acknowledged = memory.acknowledged.map(|beat| Beaten {
            begun: match beat.begun_under_semi_sync {
                true => base + Duration::from_millis(1),
                false => base - 9 * OLD,
            },
            at: match (beat.age, beat.since_writable) {
                (Age::Old, _) => base - OLD,
                (Age::Young, true) => base + Duration::from_millis(1),
                (Age::Young, false) => base - Duration::from_millis(1),
            },
        });
        let pulse = Pulse {
            acknowledged,
            limit: Duration::from_millis(2500),
        };
        let now = base + Duration::from_millis(2);
        let moment = Moment {
            asked: now,
            answered: now,
        };
        let state = self.disk.map(|disk| disk.state());
        let mut look = earlier.look(servers, state.as_ref(), pulse, moment);
        look.cloning = self.memory.copying.map(|me| NAMES[me].to_owned());

        let parts = earlier.parts();
        let age = |since: Instant| match now - since < YOUNG_MAX {
            true => Age::Young,
            false => Age::Old,
        };
        let since = parts.since.map(|since| *since);
        self.memory.epoch = *parts.epoch;
        self.memory.boots = parts.boots.as_ref().map(|_| [true; 2]);
        self.memory.executed = parts
            .executed
            .as_ref()
            .map(|_| (self.servers[primary].base, self.servers[primary].executed));
        self.memory.phase = parts
            .phase
            .as_ref()
            .map(|(phase, at)| (Stage::of(phase), age(*at)));
        let begun_before = memory_changed(self.memory.ages[SEMI_SYNC], since[SEMI_SYNC], now);
        let writable_before = memory_changed(self.memory.ages[WRITABLE], since[WRITABLE], now);
        if let Some(beat) = &mut self.memory.acknowledged {
            beat.begun_under_semi_sync &= !begun_before;
            beat.since_writable &= !writable_before;
        }
        if let Some(beating) = &mut self.memory.beating {
            beating.begun_under_semi_sync &= !begun_before;
        }
        self.memory.ages = since.map(|since| since.map(age));
        self.memory.beat = match crate::run::beat(state.as_ref(), &look) {
            Beat::On(server) => Some(index(&server)),
            Beat::Off => None,
        };
        look
    }

    /// Looks, and decides; the steps are to be done.
    pub(super) fn look(&mut self) -> Decision {
        let look = self.see();
        let state = self.disk.map(|disk| disk.state());
        let decision = decide(&pair(), state.as_ref(), &look, &TIMING);
        self.take_on(&decision.steps);
        decision
    }

    /// A round in which somebody asks for something. Gives why it was refused.
    pub(super) fn ask(&mut self, ask: &Ask) -> Result<(), String> {
        let look = self.see();
        let state = self.disk.map(|disk| disk.state());
        let state = grant(&pair(), state.as_ref(), &look, &TIMING, ask)?;
        self.take_on(&[Step::Save(state)]);
        Ok(())
    }

    fn take_on(&mut self, steps: &[Step]) {
        let mut gtids = Gtids(&self.transactions);
        self.pending = steps.iter().map(|step| Act::of(step, &mut gtids)).collect();
        self.fresh = [true; 2];
    }

    // Acting.

    /// Does the next step. One that fails ends the round.
    pub(super) fn step(&mut self) {
        let act = self.pending.remove(0);
        if !self.try_to(act) {
            self.pending.clear();
        }
        if self.pending.is_empty() {
            self.fresh = [true; 2];
        }
    }

    fn try_to(&mut self, act: Act) -> bool {
        let (me, on_the_connection_of_the_look) = match act {
            Act::Save(_) => return self.perform(act),
            Act::Do(Deed::Clone, me) => return self.begin_clone(me),
            Act::Do(Deed::CreateSchema, me) | Act::Publish(me, _) | Act::SaveDiscarded(me, _) => {
                (me, false)
            }
            Act::Do(_, me) => (me, true),
        };
        if self.servers[me].run == Run::Down || (on_the_connection_of_the_look && !self.fresh[me]) {
            return false;
        }
        if self.servers[me].run == Run::Frozen || !self.ways[me] {
            if self.servers[me].run == Run::Frozen && on_the_connection_of_the_look {
                self.late[me] = Some(act);
            }
            return false;
        }
        self.perform(act)
    }

    /// Whether the next step is a statement to a server.
    pub(super) fn can_be_late(&self) -> bool {
        let next = self.pending.first();
        next.is_some_and(|act| match act {
            Act::Do(deed, me) => {
                self.may_be_late == Some(*deed)
                    && self.fresh[*me]
                    && self.servers[*me].run != Run::Down
                    && self.late[*me].is_none()
            }
            _ => false,
        })
    }

    /// The next step is sent, and not waited for any longer.
    pub(super) fn step_late(&mut self) {
        let act = self.pending.remove(0);
        if let Act::Do(_, me) = act {
            self.late[me] = Some(act);
        }
        self.pending.clear();
        self.fresh = [true; 2];
    }

    /// The server does what it was told long ago.
    pub(super) fn carry_out(&mut self, me: usize) {
        if let Some(act) = self.late[me].take() {
            self.perform(act);
        }
    }

    fn perform(&mut self, act: Act) -> bool {
        let (deed, me) = match act {
            Act::Save(disk) => {
                self.save(disk);
                return true;
            }
            Act::Publish(me, row) => {
                let recorded = self.disk.expect("published without a state").row;
                if (row.epoch, row.primary) != (recorded.epoch, recorded.primary) {
                    self.fault = Some("what was published is not what is recorded");
                }
                return self.write_ours(me, Write::Row(row));
            }
            Act::SaveDiscarded(_, errant) => {
                self.saved |= errant;
                return true;
            }
            Act::Do(deed, me) => (deed, me),
        };
        match deed {
            Deed::CreateSchema => return self.write_ours(me, Write::Schema),
            Deed::ForbidWrites => {
                // It waits behind commits, and for a moment only.
                self.release(me);
                let free = self.servers[me].pipeline.is_empty();
                if free {
                    let server = &mut self.servers[me];
                    (server.read_only, server.super_read_only) = (true, true);
                }
                return free;
            }
            Deed::DisableSemiSync => {
                self.servers[me].wait_for_nobody();
                self.release(me);
            }
            Deed::TakeOffline => {
                self.servers[me].take_offline();
                self.disconnect(1 - me);
            }
            Deed::Restart => {
                // A clean shutdown tells OK to all who wait.
                self.servers[me].wait_for_nobody();
                self.release(me);
                self.end(me);
                self.servers[me].run = Run::Up;
            }
            _ => self.set(deed, me),
        }
        true
    }

    /// The steps that only set something.
    fn set(&mut self, deed: Deed, me: usize) {
        let linked = self.link;
        let [server, other] = self.two(me);
        match (deed, &mut server.channel) {
            (Deed::Wire, channel) => {
                *channel = Some(Channel {
                    receiver: Receiver::Off,
                    applier: false,
                    received: 0,
                    unsynced: 0,
                    link: None,
                });
            }
            (Deed::ForgetSource, channel) => *channel = None,
            (Deed::StartApplier, Some(channel)) => channel.applier = true,
            (Deed::StartReceiver, Some(channel)) if channel.receiver == Receiver::Off => {
                channel.receiver = Receiver::Connecting;
            }
            (Deed::StopReceiver, Some(channel)) => {
                channel.receiver = Receiver::Off;
                other.dumping &= !linked;
            }
            (Deed::EnableSemiSync, _) => server.semi_sync = true,
            (Deed::LiftOffline, _) => server.offline = false,
            (Deed::AllowArbiter, _) => server.super_read_only = false,
            (Deed::AllowWrites, _) => server.read_only = false,
            (Deed::RelaxRelayLog, _) => server.relay_synced = false,
            (Deed::SyncRelayLog, _) => server.relay_synced = true,
            _ => {}
        }
    }

    fn two(&mut self, me: usize) -> [&mut Server; 2] {
        let [first, second] = &mut self.servers;
        match me {
            0 => [first, second],
            _ => [second, first],
        }
    }

    fn save(&mut self, disk: Disk) {
        let state = disk.state();
        if let Some(before) = self.disk {
            let grows = !before.row.redundant && disk.row.redundant;
            let replica = 1 - disk.primary();
            let errant = self.servers[replica].holds() & !self.servers[disk.primary()].log();
            if grows && errant != 0 {
                self.fault = Some("a replica with transactions of its own became in sync");
            }
            if disk.row.epoch < before.row.epoch {
                self.fault = Some("the epoch went back");
            }
            if disk.row.phase == Stage::ForcedPromotion {
                // A person has accepted the loss.
                let kept = self.servers[replica].holds();
                for (number, one) in self.transactions.iter_mut().enumerate() {
                    one.promised &= kept & (1 << number) != 0;
                }
            }
        }
        if state.contradiction().is_some() {
            self.fault = Some("the state contradicts itself");
        }
        self.disk = Some(disk);
    }

    fn begin_clone(&mut self, me: usize) -> bool {
        self.memory.copying = Some(me);
        if self.servers[me].run != Run::Up || !self.ways[me] {
            return true;
        }
        self.servers[me].super_read_only = false;
        if self.can_copy(me) {
            let own = self.servers[me].executed & !self.servers[1 - me].log();
            if own & !self.saved != 0 {
                self.fault = Some("transactions were thrown away and not saved");
            }
            self.servers[me].lose_all();
            self.servers[me].copy = Copy::Running;
        }
        true
    }

    pub(super) fn can_copy(&self, me: usize) -> bool {
        let donor = &self.servers[1 - me];
        let both = self.servers[me].run == Run::Up && donor.run == Run::Up;
        both && self.link && !donor.offline && donor.copy == Copy::Whole
    }

    /// A CLONE comes to its end: the server restarts on the donor's data, or it has none.
    pub(super) fn end_clone(&mut self, me: usize) {
        if self.can_copy(me) {
            self.memory.copying = None;
            self.servers[me].copy = Copy::Whole;
            self.end(me);
            let [server, donor] = self.two(me);
            server.run = Run::Up;
            (server.base, server.executed) = (donor.base, donor.executed);
            (server.purged_base, server.purged) = (donor.base, donor.executed);
            (server.schema, server.row) = (donor.schema, donor.row);
        } else {
            self.servers[me].copy = Copy::Broken;
        }
    }

    // Writing.

    fn commit(&mut self, me: usize, write: Write) -> Option<u8> {
        let number = u8::try_from(self.transactions.len()).unwrap();
        assert!(u32::from(number) < Set::BITS, "too many transactions");
        self.transactions.push(Transaction {
            by: me.try_into().unwrap(),
            write,
            promised: false,
        });
        self.servers[me].commit(number);
        Some(number)
    }

    /// The arbiter writes, and waits until it is done.
    fn write_ours(&mut self, me: usize, write: Write) -> bool {
        let server = &self.servers[me];
        let ready = matches!(write, Write::Schema) || server.schema;
        if !server.takes_ours() || !ready {
            return false;
        }
        let Some(number) = self.commit(me, write) else {
            return false;
        };
        self.receive(1 - me);
        self.release(me);
        self.servers[me].executed & (1 << number) != 0
    }

    pub(super) fn can_write(&self, me: usize) -> bool {
        self.servers[me].run == Run::Up && self.servers[me].open()
    }

    /// A client commits.
    pub(super) fn write(&mut self, me: usize, write: Write) {
        assert!(self.can_write(me));
        self.commit(me, write);
    }

    pub(super) fn can_beat(&self) -> bool {
        let server = self.memory.beat.filter(|_| self.memory.beating.is_none());
        server.is_some_and(|me| {
            let server = &self.servers[me];
            server.run == Run::Up && self.ways[me] && server.takes_ours() && server.schema
        })
    }

    /// A heartbeat is sent.
    pub(super) fn beat(&mut self) {
        let server = self.memory.beat.expect("it may be sent");
        if let Some(number) = self.commit(server, Write::Beat) {
            self.memory.beating = Some(Beating {
                server,
                number,
                begun_under_semi_sync: self.memory.ages[SEMI_SYNC].is_some(),
            });
            if !self.servers[server].semi_sync {
                self.release(server);
            }
        }
    }

    /// A heartbeat is sent, and acknowledged if it can be.
    pub(super) fn beat_at_once(&mut self) {
        self.beat();
        for me in [0, 1] {
            self.receive(1 - me);
            self.release(me);
        }
    }

    // What servers do by themselves.

    fn delivers(&self, replica: usize) -> bool {
        let (me, source) = (&self.servers[replica], &self.servers[1 - replica]);
        let asks = me.channel.as_ref();
        asks.is_some_and(|channel| channel.receiver != Receiver::Off)
            && me.run == Run::Up
            && me.copy == Copy::Whole
            && source.run == Run::Up
            && source.copy == Copy::Whole
            && self.link
            && !source.offline
            && (me.base || !source.base)
            && source.purged & !me.holds() == 0
    }

    /// Connects, and receives all that there is; its acknowledgement is under way.
    pub(super) fn receive(&mut self, replica: usize) {
        if !self.delivers(replica) {
            return;
        }
        let [me, source] = self.two(replica);
        let new = source.log() & !me.holds();
        let (holds, synced) = (me.holds() | new, me.relay_synced);
        let Some(channel) = &mut me.channel else {
            return;
        };
        (channel.receiver, channel.link) = (Receiver::On, Some(Age::Young));
        channel.received |= new;
        if !synced {
            channel.unsynced |= new;
        } else if new != 0 {
            channel.unsynced = 0;
        }
        source.dumping = true;
        source.acked |= source.waiting() & holds;
    }

    /// Applies all that was received. On a server whose commits wait for acknowledgements, so would these.
    pub(super) fn apply(&mut self, replica: usize) {
        let server = &mut self.servers[replica];
        let Some(channel) = &server.channel else {
            return;
        };
        if server.run != Run::Up || !channel.applier || server.semi_sync {
            return;
        }
        let new = channel.received & !server.executed;
        for (number, one) in (0..).zip(&self.transactions) {
            if new & (1 << number) != 0 {
                server.execute(number, one.write);
            }
        }
    }

    /// Commits that need not wait, or whose acknowledgement arrives, are done.
    pub(super) fn release(&mut self, me: usize) {
        if self.servers[me].run != Run::Up {
            return;
        }
        while let Some(done) = self.servers[me].next_done() {
            let one = &mut self.transactions[usize::from(done.number)];
            one.promised |= done.heard && matches!(one.write, Write::Client | Write::Bulk);
            self.servers[me].execute(done.number, one.write);
            let beating = self.memory.beating;
            if let Some(beat) =
                beating.filter(|beat| (beat.server, beat.number) == (me, done.number))
            {
                self.memory.beating = None;
                if done.heard && self.ways[me] {
                    self.memory.acknowledged = Some(Acknowledged {
                        begun_under_semi_sync: beat.begun_under_semi_sync,
                        since_writable: self.memory.ages[WRITABLE].is_some(),
                        age: Age::Young,
                    });
                }
            }
        }
        if self.servers[me].pipeline.is_empty() {
            self.servers[me].acked = 0;
        }
    }

    /// More time passes than anything is waited for.
    pub(super) fn wait(&mut self) {
        let old = |age: &mut Option<Age>| *age = age.map(|_| Age::Old);
        let memory = &mut self.memory;
        memory.ages.iter_mut().for_each(old);
        memory.phase = memory.phase.map(|(stage, _)| (stage, Age::Old));
        memory.beating = None;
        if let Some(beat) = &mut memory.acknowledged {
            beat.age = Age::Old;
        }
        if memory
            .copying
            .is_some_and(|me| self.servers[me].copy != Copy::Running)
        {
            memory.copying = None;
        }
        for replica in [0, 1] {
            if self.servers[replica].run == Run::Up && !self.delivers(replica) {
                if let Some(channel) = &mut self.servers[replica].channel {
                    old(&mut channel.link);
                    if channel.receiver == Receiver::On {
                        channel.receiver = Receiver::Connecting;
                    }
                }
            } else if let (Run::Frozen, Some(channel)) = (
                self.servers[replica].run,
                &mut self.servers[replica].channel,
            ) {
                old(&mut channel.link);
            }
            self.receive(replica);
        }
    }

    // What happens to them.

    /// The replica's connection to its source ends, and it notices.
    fn disconnect(&mut self, replica: usize) {
        let linked = self.link;
        let [me, source] = self.two(replica);
        if let Some(channel) = me.channel.as_mut().filter(|_| linked)
            && channel.receiver == Receiver::On
        {
            channel.receiver = Receiver::Connecting;
        }
        source.dumping = false;
    }

    /// A process ends.
    fn end(&mut self, me: usize) {
        if self.servers[me].copy == Copy::Running {
            self.memory.copying = None;
        }
        self.servers[me].end(&self.transactions);
        self.disconnect(1 - me);
        self.servers[1 - me].dumping &= !self.link;
        self.fresh[me] = false;
        self.late[me] = None;
        if let Some(boots) = &mut self.memory.boots {
            boots[me] = false;
        }
        if self.memory.beating.is_some_and(|beat| beat.server == me) {
            self.memory.beating = None;
        }
        let before = |disk: &mut Disk| {
            if disk.primary() != me {
                disk.boot = disk.boot.map(|_| false);
            }
        };
        self.disk.as_mut().map(before);
        for act in &mut self.pending {
            if let Act::Save(disk) = act {
                before(disk);
            }
        }
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, me: usize) {
        self.end(me);
        self.servers[me].run = Run::Down;
    }

    pub(super) fn start(&mut self, me: usize) {
        if self.servers[me].run == Run::Down {
            self.servers[me].run = Run::Up;
        }
    }

    /// SIGSTOP.
    pub(super) fn freeze(&mut self, me: usize) {
        self.servers[me].run = Run::Frozen;
    }

    /// SIGCONT: first it does what it was told meanwhile.
    pub(super) fn thaw(&mut self, me: usize) {
        if self.servers[me].run == Run::Frozen {
            self.servers[me].run = Run::Up;
            if let Some(act) = self.late[me].take() {
                self.perform(act);
            }
        }
    }

    /// A way of the arbiter's is cut. What it asked for last does not come back.
    pub(super) fn cut_way(&mut self, me: usize) {
        self.ways[me] = false;
        self.fresh[me] = false;
        if self.memory.beating.is_some_and(|beat| beat.server == me) {
            self.memory.beating = None;
        }
    }

    /// The arbiter dies, and another one starts.
    pub(super) fn die(&mut self) {
        self.memory = Memory::default();
        self.pending.clear();
        self.fresh = [true; 2];
    }

    // Going on.

    /// Everything that is under way arrives.
    pub(super) fn flow(&mut self) {
        for me in [0, 1] {
            self.receive(me);
            self.release(1 - me);
            self.apply(me);
            self.release(me);
        }
    }

    /// A round, whole, and what servers do in the time of one.
    pub(super) fn round(&mut self) -> Decision {
        self.flow();
        let decision = self.look();
        while !self.pending.is_empty() {
            self.step();
            self.check();
        }
        self.flow();
        if self.can_beat() {
            self.beat();
            self.flow();
        }
        self.check();
        self.forget();
        decision
    }

    /// Everything is healed.
    pub(super) fn heal(&mut self) {
        (self.link, self.ways) = (true, [true; 2]);
        for me in [0, 1] {
            self.start(me);
            self.thaw(me);
        }
    }

    /// Goes on until the pair is whole, or no longer.
    pub(super) fn settle(&mut self) -> Result<(), Decision> {
        let mut last = Decision::default();
        for round in 0..80 {
            if round % 8 == 7 {
                self.wait();
                if self.can_beat() {
                    self.beat();
                }
            }
            for me in [0, 1] {
                if self.servers[me].copy == Copy::Running {
                    self.end_clone(me);
                }
            }
            last = self.round();
            if self.fault.is_some() || (last == Decision::default() && self.is_whole()) {
                return Ok(());
            }
        }
        Err(last)
    }

    /// Both are in sync, and the primary is open.
    pub(super) fn is_whole(&self) -> bool {
        self.disk.is_some_and(|disk| {
            let [primary, replica] =
                [disk.primary(), 1 - disk.primary()].map(|me| &self.servers[me]);
            disk.row.redundant
                && disk.boot == Some(true)
                && disk.row.phase == Stage::Steady
                && primary.open()
                && primary.semi_sync
                && !replica.offline
                && replica.super_read_only
        })
    }

    // What must hold.

    /// Looks for faults.
    pub(super) fn check(&mut self) {
        let Some(disk) = self.disk else { return };
        let promised = (0..)
            .zip(&self.transactions)
            .filter(|(_, one)| one.promised)
            .fold(0, |set: Set, (number, _)| set | 1 << number);
        let base = self.servers.iter().any(|server| server.base);
        for me in [0, 1] {
            let server = &self.servers[me];
            let in_sync = disk.row.redundant || disk.primary() == me;
            if in_sync && (promised & !server.holds() != 0 || base && !server.base) {
                self.fault = Some("an acknowledged write is not on a server that is in sync");
            }
            if server.open() && server.run != Run::Down {
                if disk.primary() == me && promised & !server.log() != 0 {
                    self.fault = Some("an acknowledged write is not on the open primary");
                }
                if disk.primary() == me && disk.row.redundant && !server.semi_sync {
                    self.fault = Some("with two in sync, the primary acknowledges alone");
                }
                let other = &self.servers[1 - me];
                let attached = other.channel.as_ref();
                let attached = attached.is_some_and(|channel| channel.receiver != Receiver::Off);
                if disk.primary() != me && (!server.semi_sync || attached) {
                    self.fault = Some("a server can acknowledge that is not the primary");
                }
            }
        }
    }
}

/// Whether what a look found is younger than all that was before it.
fn memory_changed(before: Option<Age>, since: Option<Instant>, now: Instant) -> bool {
    before.is_none() || since.is_none_or(|since| since == now)
}
