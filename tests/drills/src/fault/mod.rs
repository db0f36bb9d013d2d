//! What can be done to a pair, and how long.

mod carry_out;
pub mod dice;
pub mod plan;

use std::fmt;
use std::time::Duration;

pub use carry_out::{Done, carry_out};

use crate::link::Broken;

/// Whom something is done to: whoever has the role when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who was last published as primary.
    Primary,
    /// The other one.
    Replica,
}

/// Links by the roles at their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// From the arbiter to the primary.
    ArbiterToPrimary,
    /// From the arbiter to the replica.
    ArbiterToReplica,
    /// From the replica's receiver to the primary.
    Replication,
    /// Everything that leads to the primary, clients aside.
    AllToPrimary,
    /// Everything that the arbiter has.
    AllOfArbiter,
}

/// What makes the arbiter do the steps of which it is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The primary is killed.
    PrimaryDies,
    /// The replica is killed.
    ReplicaDies,
    /// It is told to change the primary.
    Switchover,
}

/// Something that goes wrong, or is done on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again after this time.
    Kill(Role, Duration),
    /// SIGSTOP, and SIGCONT after this time.
    Freeze(Role, Duration),
    /// A link is broken for this time.
    Break(Path, Broken, Duration),
    /// A clean stop and start.
    Restart(Role),
    /// Both are killed, and started again after this time.
    KillBoth(Duration),
    /// Both are stopped cleanly, and started.
    RestartBoth,
    /// SIGKILL of the arbiter.
    KillArbiter,
    /// The arbiter dies at a step.
    Failpoint(String, Trigger),
    /// A server gets nothing done most of the time: stopped for 200 ms and let run for 50 ms, again and again, for this time. In place of
    /// a disk that is slow: the engine can set no rate of a container that runs.
    SlowDisk(Role, Duration),
    /// The replica's applier is held up for this time; it receives and acknowledges meanwhile.
    HoldApplier(Duration),
    /// The primary is changed by command.
    Switchover,
    /// The replica is taken out by command, restarted, and brought back.
    Maintenance(Duration),
}

impl Fault {
    /// What it is called in a table: without its length and its details.
    pub fn kind(&self) -> String {
        match self {
            Fault::Kill(role, _) => format!("{role} killed"),
            Fault::Freeze(role, _) => format!("{role} frozen"),
            Fault::Break(path, ..) => format!("link broken: {path}"),
            Fault::Restart(role) => format!("{role} restarted"),
            Fault::KillBoth(_) => "both killed".to_owned(),
            Fault::RestartBoth => "both restarted".to_owned(),
            Fault::KillArbiter => "arbiter killed".to_owned(),
            Fault::Failpoint(_, trigger) => format!("arbiter dies at a step, {trigger}"),
            Fault::SlowDisk(role, _) => format!("{role} stutters"),
            Fault::HoldApplier(_) => "applier held up".to_owned(),
            Fault::Switchover => "switchover".to_owned(),
            Fault::Maintenance(_) => "maintenance".to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Fault::Break(_, how, length) => write!(f, "{kind}, {how}, for {length:?}"),
            Fault::Failpoint(point, _) => write!(f, "{kind}: {point}"),
            Fault::Kill(_, length)
            | Fault::Freeze(_, length)
            | Fault::KillBoth(length)
            | Fault::SlowDisk(_, length)
            | Fault::HoldApplier(length)
            | Fault::Maintenance(length) => write!(f, "{kind}, for {length:?}"),
            Fault::Restart(_) | Fault::RestartBoth | Fault::KillArbiter | Fault::Switchover => {
                f.write_str(&kind)
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::ArbiterToPrimary => "arbiter to primary",
            Path::ArbiterToReplica => "arbiter to replica",
            Path::Replication => "replica to primary",
            Path::AllToPrimary => "both to primary",
            Path::AllOfArbiter => "arbiter to both",
        })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trigger::PrimaryDies => "primary killed",
            Trigger::ReplicaDies => "replica killed",
            Trigger::Switchover => "switchover",
        })
    }
}
