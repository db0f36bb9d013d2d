//! Why a statement has its class: for the person who asks, in a sentence.

use std::{fmt, ops::Range};

use super::Session;

/// What decided a statement's class, and where in its text that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub(super) why: Why,
    pub(super) range: Option<Range<usize>>,
}

impl Cause {
    /// Of a statement in which nothing was found.
    pub(super) const READS: Self = Self {
        why: Why::Reads,
        range: None,
    };

    /// What decided.
    #[must_use]
    pub fn why(&self) -> &Why {
        &self.why
    }

    /// Which bytes of the text decided; none where nothing in particular did.
    #[must_use]
    pub fn range(&self) -> Option<Range<usize>> {
        self.range.clone()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

/// What can decide. Names are as the text has them, cut where they are long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Nothing but reading was found.
    Reads,
    /// The statement is one that changes data or definitions.
    Changes(Box<str>),
    /// `EXPLAIN` of one that does.
    ExplainsAChange,
    /// `FOR UPDATE`, `FOR SHARE`, `LOCK IN SHARE MODE`.
    Locks,
    /// A function that is neither a known built-in nor registered.
    UnknownFunction(Box<str>),
    /// A built-in function that asks or waits for one server.
    ServerFunction(Box<str>),
    /// `@@x`.
    SystemVariable,
    /// A table of what one server does, or a SHOW of that.
    OneServer(Box<str>),
    /// `INTO`.
    Into,
    /// `PROCEDURE`.
    Procedure,
    /// It begins with no word that a statement begins with.
    NotAStatement,
    /// There is nothing but blanks and comments.
    Empty,
    /// More statements than one.
    Several,
    /// It ends within a string, a name or a comment, or holds a byte that no statement has.
    Unreadable,
    /// Some of MySQL's versions read it otherwise than others.
    Ambiguous,
    /// A comment before the statement asks the router for what it does not know.
    UnknownHint(Box<str>),
    /// It uses or changes its session.
    Session(Session),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reads => f.write_str("it only reads"),
            Self::Changes(verb) => write!(f, "`{verb}` changes data or definitions"),
            Self::ExplainsAChange => f.write_str("a replica refuses to explain what changes data"),
            Self::Locks => {
                f.write_str("it locks rows, which only the primary can do to any effect")
            }
            Self::UnknownFunction(name) => write!(
                f,
                "`{name}` is not known to be pure: register it in pure_functions if it only reads"
            ),
            Self::ServerFunction(name) => {
                write!(f, "`{name}` asks or waits for one server, not for the data")
            }
            Self::SystemVariable => {
                f.write_str("a system variable is one server's or one session's")
            }
            Self::OneServer(what) => write!(f, "`{what}` tells of one server, not of the data"),
            Self::Into => f.write_str("`INTO` keeps the result at the server"),
            Self::Procedure => f.write_str("`PROCEDURE` hands the result to a procedure"),
            Self::NotAStatement => {
                f.write_str("it does not begin as a statement that is known to read")
            }
            Self::Empty => f.write_str("there is no statement in it"),
            Self::Several => f.write_str("there are several statements in it"),
            Self::Unreadable => f.write_str(
                "it ends within a string, a name or a comment, or holds what no statement does",
            ),
            Self::Ambiguous => f.write_str("MySQL's versions do not all read this the same way"),
            Self::UnknownHint(hint) => write!(
                f,
                "`{hint}` is no hint: write `router:primary` or `router:replica`"
            ),
            Self::Session(session) => write!(f, "it uses {session}: {}", session.cure()),
        }
    }
}

/// The longest name that a cause keeps, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// A name of a text, cut where it is long.
pub(super) fn name(text: &str) -> Box<str> {
    match text.char_indices().find(|(at, _)| *at >= NAME_BYTES_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}
