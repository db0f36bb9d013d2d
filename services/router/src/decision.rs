//! Every decision is a value: on the span, in a metric's label, in the answer's header.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// A role that a statement can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one that takes writes.
    Primary,
    /// One that follows it.
    Replica,
}

impl Target {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Primary, Self::Replica];
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        })
    }
}

/// Why a statement went where it went. A closed list; each is a token of RFC 9651.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A read, and the replica has everything that the session wrote.
    Fresh,
    /// It changes something.
    Write,
    /// It is in a transaction that may write.
    Transaction,
    /// On a pinned connection.
    Pinned,
    /// A read that takes locks.
    Locking,
    /// Not proven to only read.
    Unproven,
    /// A read, but no replica has everything that the session wrote yet.
    Stale,
    /// A read, but the replica is further behind than allowed.
    Lag,
    /// A read, but no replica is to be had.
    ReplicaDown,
    /// A read on the replica because the primary is away.
    PrimaryDown,
    /// A read on the replica because the primary has no room.
    SpillOver,
    /// A read on the primary because the replica has no room.
    ReplicaFull,
    /// A replica refused it as a write, now or before, so it was sent to the primary.
    Corrected,
    /// A read of a session that demands the primary.
    Strong,
    /// A hint in the statement says so.
    Hint,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Fresh,
        Self::Write,
        Self::Transaction,
        Self::Pinned,
        Self::Locking,
        Self::Unproven,
        Self::Stale,
        Self::Lag,
        Self::ReplicaDown,
        Self::PrimaryDown,
        Self::SpillOver,
        Self::ReplicaFull,
        Self::Corrected,
        Self::Strong,
        Self::Hint,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Write => "write",
            Self::Transaction => "transaction",
            Self::Pinned => "pinned",
            Self::Locking => "locking",
            Self::Unproven => "unproven",
            Self::Stale => "stale",
            Self::Lag => "lag",
            Self::ReplicaDown => "replica-down",
            Self::PrimaryDown => "primary-down",
            Self::SpillOver => "spill-over",
            Self::ReplicaFull => "replica-full",
            Self::Corrected => "corrected",
            Self::Strong => "strong",
            Self::Hint => "hint",
        })
    }
}

/// Where one statement went, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The role.
    pub target: Target,
    /// The server that had it.
    pub server: Arc<str>,
    /// Why.
    pub reason: Reason,
    /// The configuration that roles were taken from.
    pub epoch: u64,
    /// How old the replica's data may be; `None` on the primary, or where it is not known.
    pub lag: Option<Duration>,
}

/// One statement or transaction of a session: where it went, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it went, and why.
    pub decision: Decision,
    /// What it was, the same for every call of it: `SELECT accounts`.
    pub summary: String,
    /// When it was asked for.
    pub begun: Instant,
    /// Until it ended, waiting for a connection included; `None` while it has not.
    pub took: Option<Duration>,
}
