//! A MySQL server, as far as it matters to who has which transaction and who may acknowledge one.
//!
//! Transactions are bits; the world numbers them. A commit is in the binary log before it is executed, and between the two it may wait for
//! an acknowledgement. Where MySQL may or may not do something, the model can do both: acknowledgements that are under way arrive at any
//! time, also when the one who sent them is gone.

use std::time::Duration;

use replication::{CloneState, ReplicaFacts, SemiSyncFacts, ServerFacts};
use time::macros::datetime;

use super::gtids::Gtids;
use super::world::{NAMES, UUIDS};
use crate::observe::Facts;

/// Transactions, one bit each.
pub(super) type Set = u32;

/// Whether something is so for a moment only, or for longer than anything is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Age {
    Young,
    Old,
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub epoch: u8,
    pub primary: u8,
    pub redundant: bool,
    pub phase: Stage,
}

/// The phases, without a name in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Bootstrap,
    Steady,
    Failover,
    ForcedPromotion,
    Switchover,
    Maintenance,
}

/// What a transaction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Client,
    /// As many as a replica is far behind by.
    Bulk,
    Beat,
    Schema,
    Row(Row),
}

/// A transaction that not everybody has executed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    pub by: u8,
    pub write: Write,
    /// A client was told OK.
    pub promised: bool,
}

/// A commit that is in the binary log and not executed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Commit {
    pub number: u8,
    /// For an acknowledgement.
    pub waits: bool,
    /// Whether its client is still connected, to be told OK.
    pub heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Receiver {
    Off,
    Connecting,
    On,
}

/// The replica side: its source is the other server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Channel {
    pub receiver: Receiver,
    pub applier: bool,
    pub received: Set,
    /// Of these, what a power cut takes.
    pub unsynced: Set,
    /// Since the last sign of life.
    pub link: Option<Age>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Run {
    Up,
    Frozen,
    Down,
}

/// What became of a CLONE onto it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Copy {
    Whole,
    Running,
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    pub run: Run,
    /// Whether it has what everybody had before.
    pub base: bool,
    pub executed: Set,
    pub pipeline: Vec<Commit>,
    /// Whose acknowledgement has arrived, or is under way.
    pub acked: Set,
    pub read_only: bool,
    pub super_read_only: bool,
    pub offline: bool,
    pub semi_sync: bool,
    /// A replica is connected, as far as it can tell.
    pub dumping: bool,
    pub relay_synced: bool,
    pub channel: Option<Channel>,
    pub schema: bool,
    pub row: Option<Row>,
    pub purged: Set,
    pub purged_base: bool,
    pub copy: Copy,
}

impl Server {
    /// Just initialised, closed.
    pub(super) fn new() -> Self {
        Self {
            run: Run::Up,
            base: false,
            executed: 0,
            pipeline: Vec::new(),
            acked: 0,
            read_only: true,
            super_read_only: true,
            offline: true,
            semi_sync: false,
            dumping: false,
            relay_synced: true,
            channel: None,
            schema: false,
            row: None,
            purged: 0,
            purged_base: false,
            copy: Copy::Whole,
        }
    }

    pub(super) fn waiting(&self) -> Set {
        self.pipeline
            .iter()
            .fold(0, |set, commit| set | 1 << commit.number)
    }

    /// Its binary log.
    pub(super) fn log(&self) -> Set {
        self.executed | self.waiting()
    }

    /// What is on its disk, in any form.
    pub(super) fn holds(&self) -> Set {
        self.log() | self.channel.as_ref().map_or(0, |channel| channel.received)
    }

    /// The arbiter can write here.
    pub(super) fn takes_ours(&self) -> bool {
        !self.super_read_only && !self.offline
    }

    /// Everybody can.
    pub(super) fn open(&self) -> bool {
        !self.read_only && !self.offline
    }

    /// A commit gets into the binary log.
    pub(super) fn commit(&mut self, number: u8) {
        self.pipeline.push(Commit {
            number,
            waits: self.semi_sync,
            heard: true,
        });
    }

    /// A transaction is executed: its effect is there.
    pub(super) fn execute(&mut self, number: u8, write: Write) {
        self.executed |= 1 << number;
        match write {
            Write::Schema => self.schema = true,
            Write::Row(row) => self.row = Some(row),
            Write::Client | Write::Bulk | Write::Beat => {}
        }
    }

    /// The next commit that is done: none before it waits any more.
    pub(super) fn next_done(&mut self) -> Option<Commit> {
        let next = *self.pipeline.first()?;
        let done = !next.waits || self.acked & (1 << next.number) != 0;
        done.then(|| self.pipeline.remove(0))
    }

    /// Semi-sync off: whoever waits is told OK.
    pub(super) fn wait_for_nobody(&mut self) {
        self.semi_sync = false;
        for commit in &mut self.pipeline {
            commit.waits = false;
        }
    }

    /// Clients are cut off. Their commits go on waiting, and nobody hears of them.
    pub(super) fn take_offline(&mut self) {
        self.offline = true;
        for commit in &mut self.pipeline {
            commit.heard = false;
        }
    }

    /// Its process ends, by whatever: what waited in the log is there at the next boot, what was received and synced is kept. It will boot
    /// closed.
    pub(super) fn end(&mut self, transactions: &[Transaction]) {
        for commit in std::mem::take(&mut self.pipeline) {
            self.execute(
                commit.number,
                transactions[usize::from(commit.number)].write,
            );
        }
        self.acked = 0;
        (self.read_only, self.super_read_only, self.offline) = (true, true, true);
        (self.semi_sync, self.dumping, self.relay_synced) = (false, false, true);
        if let Some(channel) = &mut self.channel {
            channel.received &= !channel.unsynced | self.executed;
            channel.unsynced = 0;
            (channel.receiver, channel.applier, channel.link) = (Receiver::Off, false, None);
        }
        if self.copy == Copy::Running {
            self.lose_all();
        }
    }

    /// A CLONE begins by dropping what is there.
    pub(super) fn lose_all(&mut self) {
        self.copy = Copy::Broken;
        (self.base, self.executed, self.schema, self.row) = (false, 0, false, None);
        (self.purged, self.purged_base, self.channel) = (0, false, None);
    }

    /// What it says of itself.
    pub(super) fn facts(&self, me: usize, gtids: &mut Gtids<'_>) -> Facts {
        let replica = self.channel.as_ref().map(|channel| ReplicaFacts {
            source_host: NAMES[1 - me].to_owned(),
            source_port: 3306,
            source_uuid: match channel.link {
                Some(_) => UUIDS[1 - me].to_owned(),
                None => String::new(),
            },
            receiver: match channel.receiver {
                Receiver::Off => "OFF",
                Receiver::Connecting => "CONNECTING",
                Receiver::On => "ON",
            }
            .to_owned(),
            applier_on: channel.applier,
            received: gtids.of(false, channel.received),
            receiver_error: 0,
            receiver_message: String::new(),
            applier_error: 0,
            applier_message: String::new(),
            newest_applied_age: None,
            link_age: channel.link.map(|age| match age {
                Age::Young => Duration::ZERO,
                Age::Old => Duration::from_secs(3600),
            }),
        });
        let waits = self.pipeline.iter().filter(|commit| commit.waits);
        let semi_sync = SemiSyncFacts {
            source_enabled: self.semi_sync,
            source_lossless: true,
            source_active: self.semi_sync,
            clients: self.dumping.into(),
            waiting_sessions: waits.count() as u64,
            replica_enabled: true,
            replica_active: self
                .channel
                .as_ref()
                .is_some_and(|channel| channel.receiver == Receiver::On),
            relay_log_synced: self.relay_synced,
        };
        Facts {
            boot: boot(me, true),
            server: ServerFacts {
                uuid: UUIDS[me].to_owned(),
                read_only: self.read_only,
                super_read_only: self.super_read_only,
                offline_mode: self.offline,
                executed: gtids.of(self.base, self.executed),
                purged: gtids.of(self.purged_base, self.purged),
            },
            replica,
            semi_sync,
            row: self.row.map(|row| replication::ClusterRow {
                epoch: row.epoch.into(),
                primary_server: NAMES[usize::from(row.primary)].to_owned(),
                primary_uuid: UUIDS[usize::from(row.primary)].to_owned(),
                in_sync: match row.redundant {
                    true => NAMES.map(str::to_owned).into(),
                    false => vec![NAMES[usize::from(row.primary)].to_owned()],
                },
                phase: row.phase.full(row.primary).to_string(),
                changed_at: datetime!(2026-01-01 0:00),
            }),
            refused_logins: 0,
            clone: match self.copy {
                Copy::Whole => CloneState::Whole,
                Copy::Running => CloneState::Running,
                Copy::Broken => CloneState::Broken,
            },
            open_transactions: Some(self.pipeline.len() as u64),
        }
    }
}

/// The boot that a server is in, or one before.
pub(super) fn boot(server: usize, current: bool) -> String {
    match current {
        true => format!("boot of {server}"),
        false => "a boot before".to_owned(),
    }
}
