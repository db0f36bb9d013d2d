//! What clients did and were told, in a form that can be judged afterwards. No I/O, and no clock but the one of the events.
//!
//! Each item belongs to one client, which numbers what it writes to it and has at most one write to it under way. A write sets the item's
//! number to the larger of its own and what is there, or adds a row, or both in one transaction; so one that arrives late, long after it
//! was given up, takes nothing back.

use std::fmt;
use std::time::Duration;

pub(crate) type Item = u32;
/// The number of a write among those to its item; 0 is before the first.
pub(crate) type Seq = u64;
pub(crate) type SessionId = u64;
pub(crate) type TokenId = u64;

/// How a write was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A statement alone that sets the item's number.
    Number,
    /// A statement alone that adds a row.
    Row,
    /// A transaction with both.
    Both,
    /// A transaction with both that was taken back.
    TakenBack,
}

impl How {
    pub(crate) const ALL: [Self; 4] = [Self::Number, Self::Row, Self::Both, Self::TakenBack];

    pub(crate) fn sets_the_number(self) -> bool {
        matches!(self, Self::Number | Self::Both)
    }

    pub(crate) fn adds_a_row(self) -> bool {
        matches!(self, Self::Row | Self::Both)
    }
}

/// What a client was told of its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done, and stays.
    Acknowledged,
    /// It may have been done, may still be, or never.
    Unknown,
    /// It is not done, and never will be.
    Refused,
}

/// Rows of one item that a client has asked for: those with a number of `from` and above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) from: Seq,
    pub(crate) seen: Vec<Seq>,
}

/// One step of a client.
#[derive(Clone, Debug)]
pub(crate) enum Did {
    /// A session began, with what this token proves.
    Began(Option<TokenId>),
    /// The session was asked for a token. `None`: it has written nothing, or there was an error.
    Proved(Option<TokenId>),
    Wrote {
        item: Item,
        seq: Seq,
        how: How,
        outcome: Outcome,
    },
    /// One statement, or a transaction that reads the number twice and the rows in between.
    Read {
        item: Item,
        numbers: Vec<Seq>,
        rows: Option<Rows>,
    },
    /// A read that was refused or failed.
    ReadNothing(Item),
}

/// A step, with all that the client knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Which of the processes, 0 or 1.
    pub(crate) process: usize,
    pub(crate) session: SessionId,
    /// Since the beginning of the round; before the process was asked.
    pub(crate) began: Duration,
    /// After it had answered.
    pub(crate) ended: Duration,
    pub(crate) did: Did,
    /// What it called, and how long each took.
    pub(crate) calls: Vec<(String, Duration)>,
    /// Where the router sent it.
    pub(crate) went: Vec<String>,
    /// The error, if it was one.
    pub(crate) error: Option<String>,
    /// The error is of a kind that the router's documentation does not have for this.
    pub(crate) odd: bool,
}

impl Event {
    /// The item that it is about.
    pub(crate) fn item(&self) -> Option<Item> {
        match &self.did {
            Did::Wrote { item, .. } | Did::Read { item, .. } | Did::ReadNothing(item) => {
                Some(*item)
            }
            Did::Began(_) | Did::Proved(_) => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.began.as_secs_f64(), self.ended.as_secs_f64());
        let process = ["A", "B"][self.process % 2];
        write!(
            f,
            "{from:9.4} to {to:9.4}  {process}, session {:4}: ",
            self.session
        )?;
        match &self.did {
            Did::Began(None) => write!(f, "begins without a token")?,
            Did::Began(Some(token)) => write!(f, "begins with token {token}")?,
            Did::Proved(None) => write!(f, "has no token to give")?,
            Did::Proved(Some(token)) => write!(f, "gives token {token}")?,
            Did::Wrote {
                item,
                seq,
                how,
                outcome,
            } => {
                write!(f, "writes {seq} to item {item} ({how:?}): {outcome:?}")?;
            }
            Did::Read {
                item,
                numbers,
                rows,
            } => {
                write!(f, "reads item {item}: {numbers:?}")?;
                if let Some(rows) = rows {
                    write!(f, ", rows from {}: {:?}", rows.from, rows.seen)?;
                }
            }
            Did::ReadNothing(item) => write!(f, "reads item {item}: nothing")?,
        }
        if !self.went.is_empty() {
            write!(f, "  [{}]", self.went.join(", "))?;
        }
        if let Some(error) = &self.error {
            write!(f, "  {error}")?;
        }
        Ok(())
    }
}
