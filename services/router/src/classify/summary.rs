//! What a statement does, in a few words that are the same for every call of it: its verb and its tables, `SELECT entries parts`.
//!
//! For people who look at steps and spans (OpenTelemetry calls it the query's summary). Nothing is decided by it.

use super::lexer::{Token, tokens};

/// The longest summary, in bytes.
const BYTES_MAX: usize = 120;

/// The summary; `statement` where the text cannot be read.
#[must_use]
pub fn summary(sql: &str) -> String {
    let tokens = tokens(sql).unwrap_or_default();
    let verb = tokens.iter().find_map(Token::keyword);
    let Some(mut summary) = verb else {
        return "statement".to_owned();
    };
    let mut named: Vec<&str> = Vec::new();
    for at in 0..tokens.len() {
        let Some(table) = table(&tokens, at).filter(|table| !named.contains(table)) else {
            continue;
        };
        if summary.len() + 1 + table.len() > BYTES_MAX {
            break;
        }
        named.push(table);
        summary.push(' ');
        summary.push_str(table);
    }
    summary
}

/// The table that the keyword at this place brings in, without its schema.
fn table<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    let before = at.checked_sub(1).and_then(|at| tokens[at].keyword());
    match tokens[at].keyword()?.as_str() {
        "FROM" | "JOIN" | "INTO" => {}
        // Not that of `FOR UPDATE` and `ON DUPLICATE KEY UPDATE`.
        "UPDATE" if !matches!(before.as_deref(), Some("FOR" | "KEY")) => {}
        _ => return None,
    }
    let name = |at: usize| match tokens.get(at) {
        Some(Token::Word(name) | Token::Quoted(name)) => Some(*name),
        _ => None,
    };
    let first = name(at + 1)?;
    if tokens.get(at + 2) == Some(&Token::Symbol('.')) {
        return name(at + 3);
    }
    (!first.eq_ignore_ascii_case("LATERAL")).then_some(first)
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
