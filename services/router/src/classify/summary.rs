//! What a statement does, in a few words that are the same for every call of it: its verb and its tables, `SELECT entries parts`.
//!
//! For people who look at steps and spans (OpenTelemetry calls it the query's summary). Nothing is decided by it.

use super::{
    lexer::{Kind, Lexer, NEWEST, Token},
    words::Role,
};

/// The longest summary, in bytes.
const BYTES_MAX: usize = 120;

/// The summary; `statement` where the text cannot be read.
#[must_use]
pub fn summary(sql: &str) -> String {
    let mut summary = Summary::default();
    let mut lexer = Lexer::new(sql, NEWEST);
    loop {
        let token = lexer.next();
        if token.kind == Kind::End {
            return summary.end(lexer.failed.is_none());
        }
        summary.add(&lexer, &token);
    }
}

/// A summary in the making.
#[derive(Default)]
pub(super) struct Summary<'a> {
    said: String,
    tables: Vec<&'a str>,
    state: State<'a>,
    /// The token before was FOR, or KEY of `ON DUPLICATE KEY`.
    no_table_follows: bool,
    full: bool,
}

/// Where a table's name is waited for.
#[derive(Clone, Copy, Default)]
enum State<'a> {
    #[default]
    Elsewhere,
    /// Behind FROM, JOIN, INTO or UPDATE.
    Expected,
    /// A name has come; it may be the schema's.
    Named(&'a str),
    /// A name and a period.
    Qualified,
}

impl<'a> Summary<'a> {
    /// Adds the next token of the text.
    pub(super) fn add(&mut self, lexer: &Lexer<'a>, token: &Token) {
        if self.said.is_empty() {
            if token.kind == Kind::Word {
                self.said = lexer.text(token).to_ascii_uppercase();
                self.said.truncate(self.said.floor_char_boundary(BYTES_MAX));
            } else {
                return;
            }
        }
        self.state = match self.state {
            State::Expected if token.is_name() => State::Named(lexer.text(token)),
            State::Named(_) if token.is(b'.') => State::Qualified,
            State::Qualified if token.is_name() => {
                self.table(lexer.text(token));
                State::Elsewhere
            }
            State::Named(table) => {
                self.table(table);
                State::Elsewhere
            }
            _ => State::Elsewhere,
        };
        let brings_a_table = match token.role {
            Role::From | Role::Join | Role::Into => true,
            Role::Update => !self.no_table_follows,
            _ => false,
        };
        if brings_a_table && matches!(self.state, State::Elsewhere) {
            self.state = State::Expected;
        }
        self.no_table_follows = token.role == Role::For
            || token.role == Role::Syntax && lexer.text(token).eq_ignore_ascii_case("KEY");
    }

    /// What has been said.
    pub(super) fn end(mut self, is_readable: bool) -> String {
        if let State::Named(table) = self.state {
            self.table(table);
        }
        if self.said.is_empty() || !is_readable {
            return "statement".to_owned();
        }
        self.said
    }

    fn table(&mut self, table: &'a str) {
        if self.full || table.eq_ignore_ascii_case("LATERAL") || self.tables.contains(&table) {
            return;
        }
        if self.said.len() + 1 + table.len() > BYTES_MAX {
            self.full = true;
            return;
        }
        self.tables.push(table);
        self.said.push(' ');
        self.said.push_str(table);
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_by_its_verb_and_its_tables() {
        for (sql, said) in [
            ("SELECT name FROM owners WHERE id = ?", "SELECT owners"),
            (
                "select 1 from ledger.`entries` e join parts t on t.id = e.part_id join entries x",
                "SELECT entries parts",
            ),
            ("INSERT INTO accounts (id) VALUES (?)", "INSERT accounts"),
            (
                "UPDATE accounts SET size = ? WHERE id = ?",
                "UPDATE accounts",
            ),
            (
                "SELECT id FROM accounts WHERE id = ? FOR UPDATE",
                "SELECT accounts",
            ),
            (
                "INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
                "INSERT t",
            ),
            (
                "SELECT a FROM (SELECT 1 FROM inner_table) x JOIN LATERAL (SELECT 2) y",
                "SELECT inner_table",
            ),
            ("SELECT 'FROM secrets'", "SELECT"),
            ("'unfinished", "statement"),
            ("", "statement"),
        ] {
            assert_eq!(summary(sql), said, "{sql}");
        }
    }

    #[test]
    fn a_summary_is_bounded() {
        let tables: String = (0..1000).map(|n| format!(" JOIN table_{n}")).collect();
        let said = summary(&format!("SELECT 1 FROM t{tables}"));
        assert!(said.len() <= BYTES_MAX, "{said}");
    }
}
