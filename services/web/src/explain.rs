//! `web explain`: where a statement would go now, and why, without sending it.
//!
//! The running web server is asked by its admin socket: what it knows of the servers is what its requests go by. The answer is
//! [`Explained`], as JSON, or as the text of [`Explained::to_text`].

use std::fmt::Write as _;

use router::{
    Router, ServerState,
    classify::{self, Class},
};
use serde::{Deserialize, Serialize};

use crate::pages::panel;

/// The command on the admin socket; behind it the statement as a JSON string, which is one line whatever the statement is.
pub const COMMAND: &str = "explain ";

/// A statement, and where it would go for a session that has written nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Explained {
    /// Its verb and its tables.
    pub statement: String,
    /// What it is: `read`, `locking`, `write`, `unproven` or `session-state`.
    pub class: String,
    /// Why it is that.
    pub cause: String,
    /// Where it would go; none if nowhere.
    pub goes: Option<Goes>,
    /// Why it would go nowhere, and what to do.
    pub error: Option<String>,
    /// The newest configuration that is known; 0 if none is.
    pub epoch: u64,
    /// What is known of each server.
    pub servers: Vec<Server>,
}

/// Where a statement would go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Goes {
    /// `primary` or `replica`.
    pub target: String,
    /// The server's name.
    pub server: String,
    /// The reason, as the header `x-db` and the metrics have it.
    pub reason: String,
    /// The same in a sentence's end.
    pub because: String,
    /// How old the replica's data may be, in milliseconds; none on the primary.
    pub lag_ms: Option<u64>,
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// `primary`, `replica`, or `not known`.
    pub role: String,
    /// `open`, `read-only`, `lagging`, `draining`, `errant`, or why it is away.
    pub state: String,
    /// Whether it holds every acknowledged write.
    pub in_sync: bool,
    /// How old its data may be, in milliseconds; none where that is not known, or for the primary.
    pub lag_ms: Option<u64>,
    /// Statements that this web server has on it.
    pub in_use: usize,
}

/// Explains a statement by what this router knows now.
///
/// # Errors
/// A sentence, where there is no statement in the text.
pub fn explain(router: &Router, sql: &str) -> Result<Explained, String> {
    if sql.trim().is_empty() {
        return Err("there is no statement: give one, in quotes".to_owned());
    }
    let verdict = router.classify(sql);
    let (goes, error) = match router.session(None).explain(sql) {
        Ok(decision) => {
            let goes = Goes {
                target: decision.target.to_string(),
                server: decision.server.to_string(),
                reason: decision.reason.to_string(),
                because: panel::why(decision.target, decision.reason).to_owned(),
                lag_ms: decision.lag.map(|lag| milliseconds(lag.as_millis())),
            };
            (Some(goes), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let health = router.health();
    let servers = health.servers.into_iter().map(|server| {
        let is_primary = health.primary.as_ref() == Some(&server.name);
        Server {
            role: match (&health.primary, is_primary) {
                (None, _) => "not known",
                (_, true) => "primary",
                (_, false) => "replica",
            }
            .to_owned(),
            state: match (server.state, is_primary && health.writable) {
                (ServerState::Down, _) => format!("away: {}", server.error),
                (ServerState::Healthy, true) => "open".to_owned(),
                (ServerState::Healthy, false) => "read-only".to_owned(),
                (other, _) => other.to_string(),
            },
            in_sync: health.in_sync.contains(&server.name),
            lag_ms: server.lag_ms.filter(|_| !is_primary),
            in_use: server.in_use,
            name: server.name,
        }
    });
    Ok(Explained {
        statement: classify::summary(sql),
        class: class_word(verdict.class).to_owned(),
        cause: verdict.cause.to_string(),
        goes,
        error,
        epoch: health.epoch,
        servers: servers.collect(),
    })
}

/// A class in a word.
#[must_use]
pub fn class_word(class: Class) -> &'static str {
    match class {
        Class::Read => "read",
        Class::Locking => "locking",
        Class::Write => "write",
        Class::Unproven => "unproven",
        Class::SessionState(_) => "session-state",
    }
}

fn milliseconds(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Explained {
    /// For a person.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line("statement", self.statement.clone());
        line("class", format!("{}: {}", self.class, self.cause));
        match &self.goes {
            Some(goes) => {
                let lag = goes.lag_ms.map(|lag| format!(", at most {lag} ms behind"));
                line(
                    "goes to",
                    format!(
                        "the {} {}{}",
                        goes.target,
                        goes.server,
                        lag.unwrap_or_default()
                    ),
                );
                line("reason", format!("{}: {}", goes.reason, goes.because));
            }
            None => line("goes to", "nobody".to_owned()),
        }
        line("epoch", self.epoch.to_string());
        text.push('\n');
        text + &self.table()
    }

    /// The servers.
    fn table(&self) -> String {
        let head = ["SERVER", "ROLE", "IN SYNC", "LAG", "IN USE", "STATE"].map(str::to_owned);
        let rows = self.servers.iter().map(|server| {
            let lag = server.lag_ms;
            [
                server.name.clone(),
                server.role.clone(),
                if server.in_sync { "yes" } else { "no" }.to_owned(),
                lag.map_or_else(|| "-".to_owned(), |lag| format!("{lag} ms")),
                server.in_use.to_string(),
                server.state.clone(),
            ]
        });
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        let mut text = String::new();
        for row in &rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = rows.iter().map(|row| row[column].chars().count()).max();
                format!("{cell:<width$}", width = width.unwrap_or_default())
            });
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(goes: Option<Goes>) -> Explained {
        let server = |name: &str, role: &str, state: &str, lag_ms: Option<u64>| Server {
            name: name.to_owned(),
            role: role.to_owned(),
            state: state.to_owned(),
            in_sync: lag_ms.is_some(),
            lag_ms,
            in_use: 3,
        };
        Explained {
            statement: "SELECT owners".to_owned(),
            class: "read".to_owned(),
            cause: "it only reads".to_owned(),
            goes,
            error: None,
            epoch: 4,
            servers: vec![
                server("mysql-1", "primary", "away: no answer within 1s", None),
                server("mysql-2", "replica", "read-only", Some(12)),
            ],
        }
    }

    #[test]
    fn the_text_says_what_where_and_why_and_how_the_servers_are() {
        let goes = Goes {
            target: "replica".to_owned(),
            server: "mysql-2".to_owned(),
            reason: "fresh".to_owned(),
            because: "it is".to_owned(),
            lag_ms: Some(12),
        };
        let expected = "\
statement  SELECT owners
class      read: it only reads
goes to    the replica mysql-2, at most 12 ms behind
reason     fresh: it is
epoch      4

SERVER   ROLE     IN SYNC  LAG    IN USE  STATE
mysql-1  primary  no       -      3       away: no answer within 1s
mysql-2  replica  yes      12 ms  3       read-only
";
        assert_eq!(explained(Some(goes)).to_text(), expected);
        let nowhere = explained(None).to_text();
        assert!(nowhere.contains("\ngoes to    nobody\nepoch "), "{nowhere}");
    }

    #[test]
    fn every_class_has_a_word_of_its_own() {
        let of = |sql: &str| class_word(classify::classify(sql));
        assert_eq!(of("SELECT 1"), "read");
        assert_eq!(of("SELECT 1 FROM t FOR UPDATE"), "locking");
        assert_eq!(of("DELETE FROM t"), "write");
        assert_eq!(of("SELECT f()"), "unproven");
        assert_eq!(of("SELECT @a"), "session-state");
    }
}
