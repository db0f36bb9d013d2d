//! Which statements only read. Deny by default: what is not proven to read goes to the primary.
//!
//! One pass of a lexer, then rules over its tokens; no grammar of MySQL, which every release changes. A statement is a read only if it
//! is one statement that begins as one, and holds nothing that changes data, takes a lock, looks at or changes the session's
//! state, asks what only one server can answer, or calls a function that is not known to be pure.
//!
//! ```
//! use router::classify::{Class, Classifier, Hint, Session};
//!
//! let classifier = Classifier::new(&["slug".to_owned(), "shop.price".to_owned()])?;
//! for (sql, class) in [
//!     ("SELECT slug(title) FROM posts", Class::Read),
//!     ("SELECT * FROM jobs FOR UPDATE SKIP LOCKED", Class::Locking),
//!     ("WITH old AS (SELECT 1) DELETE FROM posts", Class::Write),
//!     ("SELECT f(title) FROM posts", Class::Unproven),
//!     ("SELECT @n := @n + 1", Class::SessionState(Session::UserVariables)),
//! ] {
//!     assert_eq!(classifier.classify(sql).class, class, "{sql}");
//! }
//!
//! let verdict = classifier.classify("/* router:primary */ SELECT 1");
//! assert_eq!((verdict.class, verdict.hint), (Class::Read, Some(Hint::Primary)));
//!
//! let sql = "SELECT f(title) FROM posts";
//! let cause = classifier.classify(sql).cause;
//! assert_eq!(&sql[cause.range().unwrap()], "f");
//! assert_eq!(
//!     cause.to_string(),
//!     "`f` is not known to be pure: register it in pure_functions if it only reads"
//! );
//! # Ok::<(), String>(())
//! ```
//!
//! # What counts as a read
//!
//! `SELECT`, `TABLE`, `VALUES`, `WITH`; `SHOW` of definitions; `DESCRIBE`, and `EXPLAIN` of such. The time, chance, the account and the
//! default database are no state: `NOW()`, `UUID()`, `CURRENT_USER()` and `DATABASE()` are the same on every connection of a pool, or as
//! good as each other. `VERSION()` counts as one, too: it is that of both servers, but for the hour in which one of them is upgraded.
//! `@@x` goes to the primary, and so do functions, tables and SHOWs that tell of one server. An optimizer hint is no reason for
//! anything: `SET_VAR` lasts as long as its statement.
//!
//! # Hints
//!
//! A comment before the statement may speak to the router: `/* router:primary */` asks for the primary, whatever the statement is, and
//! `/* router:replica */` for a replica, which counts only for a read. Other comments, blanks and parentheses may stand before it; of two
//! hints, the primary counts. In a string, or behind the statement's first word, it is a comment like any other. Another word behind
//! `router:` is no hint; a read with such a comment is kept on the primary, as whoever wrote it wanted something special, and the cause
//! says which words there are.
//!
//! # What it cannot see
//!
//! - A view over a function that writes. Only the server knows; a replica refuses it.
//! - A stored function that takes the name of a built-in of a newer or older MySQL. `MD5`, `SHA` and `SHA1` are a component's since 9.6.
//! - The `sql_mode`. It assumes that a backslash escapes, which it does unless `NO_BACKSLASH_ESCAPES` or, within `"`, `ANSI_QUOTES` is
//!   on, and that blanks may stand before a function's parenthesis, which the driver asks for. A statement that changes the mode is
//!   refused on the shared executor.
//! - A temporary table, or another session's state behind a name: what opens such state is refused, so there is none.

mod cause;
mod lexer;
mod registered;
mod statement;
mod summary;
mod words;

use std::fmt;

use lexer::{Asked, NEWEST, OLDEST};
use registered::Registered;
use statement::Reader;
use summary::Summary;

pub use cause::{Cause, Why};
pub use summary::summary;

/// What a statement is, as far as it can be told from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It only reads, and any server with the same data gives the same answer.
    Read,
    /// It takes locks: the replica would grant them, to no effect.
    Locking,
    /// It changes data or definitions.
    Write,
    /// It may read only, but that is not proven.
    Unproven,
    /// It uses or changes the state of its session, which on a shared executor is anybody's.
    SessionState(Session),
}

impl Class {
    /// Whether something may be changed by it, as far as can be told; locks are no change.
    #[must_use]
    pub fn may_write(self) -> bool {
        !matches!(self, Self::Read | Self::Locking)
    }

    /// Of two statements, or of two parts of one, the heavier class is that of both.
    fn weight(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Unproven => 1,
            Self::Locking => 2,
            Self::Write => 3,
            Self::SessionState(_) => 4,
        }
    }
}

/// What of the session's state a statement uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// `@x`, `:=`, `SELECT … INTO @x`.
    UserVariables,
    /// `GET_LOCK` and its kin.
    NamedLocks,
    /// `LAST_INSERT_ID`, `FOUND_ROWS`, `ROW_COUNT`, `SHOW WARNINGS`, …
    LastStatement,
    /// `BEGIN`, `COMMIT`, `SAVEPOINT`, `XA`, …
    Transactions,
    /// `SET`, `USE`, `PREPARE`, `LOCK TABLES`, `HANDLER`, temporary tables, `CONNECTION_ID()`, …
    Settings,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UserVariables => "user variables",
            Self::NamedLocks => "named locks",
            Self::LastStatement => "what the statement before left",
            Self::Transactions => "transactions opened by text",
            Self::Settings => "settings and objects of the session",
        })
    }
}

impl std::error::Error for Session {}

impl Session {
    /// What to do instead.
    #[must_use]
    pub fn cure(self) -> &'static str {
        match self {
            Self::Transactions => "use `router.begin()`",
            Self::LastStatement => "take it from the query's own result, or use `router.pinned()`",
            _ => "use `router.pinned()`, which keeps one connection",
        }
    }
}

/// What a comment before a statement asks for: `/* router:primary */ SELECT …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The primary, whatever the statement is.
    Primary,
    /// A replica, if the statement is a read.
    Replica,
}

/// What a classifier says of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the statement is. A hint changes nothing about it.
    pub class: Class,
    /// What a comment before the statement asks for.
    pub hint: Option<Hint>,
    /// What decided the class.
    pub cause: Cause,
}

/// Classifies statements. Make one and share it.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    registered: Registered,
}

impl Classifier {
    /// With the names of users' own stored functions that only read: `name` for calls without a schema, `schema.name` for calls with
    /// one. Case does not matter; a part with other characters than letters, digits, `_` and `$` stands in backquotes.
    ///
    /// # Errors
    ///
    /// A name that is none, or that of a built-in function which uses the session or the server, such as `GET_LOCK`, with what is
    /// expected.
    pub fn new(pure_functions: &[String]) -> Result<Self, String> {
        let registered = Registered::new(pure_functions)?;
        Ok(Self { registered })
    }

    /// Classifies one text as MySQL 8.0 to 9.7 would read it. Linear in its length; never panics.
    #[must_use]
    pub fn classify(&self, sql: &str) -> Verdict {
        self.verdict(sql, None).0
    }

    /// As [`Classifier::classify`], with the text's [`summary`], in the same pass.
    #[must_use]
    pub fn classify_with_summary(&self, sql: &str) -> (Verdict, String) {
        let mut summary = Summary::default();
        let (verdict, is_readable) = self.verdict(sql, Some(&mut summary));
        (verdict, summary.end(is_readable))
    }

    /// And whether the text could be read to its end.
    fn verdict<'a>(&self, sql: &'a str, summary: Option<&mut Summary<'a>>) -> (Verdict, bool) {
        let newest = Reader::new(sql, NEWEST, &self.registered, summary).read();
        let mut found = newest.found;
        if newest.depends_on_version {
            // Then it is what it is for those servers for which it is more.
            let oldest = Reader::new(sql, OLDEST, &self.registered, None)
                .read()
                .found;
            found = heavier(found, oldest);
        }
        let (class, cause) = found.unwrap_or((Class::Read, Cause::READS));
        let (hint, unknown) = match newest.asked {
            Asked::Nothing => (None, None),
            Asked::For(hint) => (Some(hint), None),
            Asked::Unknown(start, end) => (None, Some(start..end)),
        };
        let verdict = match unknown {
            // Somebody wanted something else than what happens without a hint.
            Some(range) if class == Class::Read => Verdict {
                class: Class::Unproven,
                hint,
                cause: Cause {
                    why: Why::UnknownHint(cause::name(sql[range.clone()].trim())),
                    range: Some(range),
                },
            },
            _ => Verdict { class, hint, cause },
        };
        (verdict, newest.is_readable)
    }
}

type Finding = Option<(Class, Cause)>;

fn heavier(one: Finding, other: Finding) -> Finding {
    let weight = |finding: &Finding| finding.as_ref().map_or(0, |(class, _)| class.weight());
    if weight(&other) > weight(&one) {
        other
    } else {
        one
    }
}

/// The class of one text, without any registered function.
#[must_use]
pub fn classify(sql: &str) -> Class {
    Classifier::default().classify(sql).class
}

#[cfg(test)]
mod tests;
