//! `web queries`: what class each query of the program is of, so that a review sees what may go to a replica.
//!
//! The queries are those of the compile-time macros, as they lie in `.sqlx/`. The list is committed as `queries.md` beside this crate's
//! manifest; a test here holds it against the classifier and the queries.

use std::{fs, path::Path};

use anyhow::{Result, anyhow, ensure};
use router::classify::{self, Class};
use serde::Deserialize;

use crate::explain::class_word;

/// The part of a prepared query's file that is looked at.
#[derive(Deserialize)]
struct Prepared {
    query: String,
}

/// The list of the queries in this directory, in Markdown, one query a line: sorted by class, then by what they do.
///
/// # Errors
/// A directory without prepared queries, or a file that is none.
pub fn list(directory: &Path) -> Result<String> {
    let mut queries = Vec::new();
    let entries = fs::read_dir(directory)
        .map_err(|error| anyhow!("cannot read {}: {error}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let prepared: Prepared = serde_json::from_str(&text)
            .map_err(|error| anyhow!("{} is no prepared query: {error}", path.display()))?;
        queries.push(prepared.query);
    }
    ensure!(
        !queries.is_empty(),
        "{} holds no prepared query; services/web/refresh-sqlx writes them",
        directory.display()
    );
    Ok(render(queries))
}

fn render(queries: Vec<String>) -> String {
    let mut rows: Vec<_> = queries
        .into_iter()
        .map(|sql| {
            let class = classify::classify(&sql);
            (order(class), class, classify::summary(&sql), one_line(&sql))
        })
        .collect();
    rows.sort_by(|a, b| (a.0, &a.2, &a.3).cmp(&(b.0, &b.2, &b.3)));
    let of = |target: &str| rows.iter().filter(|row| goes(row.1) == target).count();
    let mut text = format!(
        "# Queries, by where they go\n\n\
         Written by `web queries`; services/web/refresh-sqlx runs it. Of {} queries {} may go to a replica when all is well.\n\n\
         | class | goes to | what | query |\n|---|---|---|---|\n",
        rows.len(),
        of("replica"),
    );
    for (_, class, what, sql) in &rows {
        let sql = sql.replace('|', "\\|");
        text.push_str(&format!(
            "| {} | {} | {what} | `{sql}` |\n",
            class_word(*class),
            goes(*class)
        ));
    }
    text
}

/// Those that may go to a replica first.
fn order(class: Class) -> u8 {
    match class {
        Class::Read => 0,
        Class::Unproven => 1,
        Class::Locking => 2,
        Class::Write => 3,
        Class::SessionState(_) => 4,
    }
}

/// Where a statement of this class goes while both servers are well and the replica is fresh.
fn goes(class: Class) -> &'static str {
    match class {
        Class::Read => "replica",
        Class::Locking | Class::Write | Class::Unproven => "primary",
        Class::SessionState(_) => "refused",
    }
}

/// The text without its breaks; what is between quotes may lose some spaces too, for this is to be looked at.
fn one_line(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_says_where_each_query_goes() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let now = list(&here.join(".sqlx")).unwrap();
        let committed = fs::read_to_string(here.join("queries.md")).unwrap_or_default();
        let differs: Vec<String> = [(&committed, &now, '-'), (&now, &committed, '+')]
            .into_iter()
            .flat_map(|(one, other, sign)| {
                let only = one
                    .lines()
                    .filter(|line| !other.lines().any(|l| l == *line));
                only.map(move |line| format!("{sign} {line}"))
            })
            .collect();
        assert!(
            committed == now,
            "a query is new or gone, or its class has changed:\n{}\nIf that is meant, write the list anew and commit it:\n    \
             cargo run --release --bin web -- queries services/web/.sqlx >services/web/queries.md",
            differs.join("\n")
        );
    }

    #[test]
    fn a_query_is_one_line_and_what_may_go_to_a_replica_comes_first() {
        let text = render(vec![
            "DELETE FROM a\n  WHERE b | 1".to_owned(),
            "SELECT @x".to_owned(),
            "SELECT c\n           FROM d".to_owned(),
        ]);
        let rows: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .collect();
        assert_eq!(
            rows,
            [
                "| read | replica | SELECT d | `SELECT c FROM d` |",
                "| write | primary | DELETE a | `DELETE FROM a WHERE b \\| 1` |",
                "| session-state | refused | SELECT | `SELECT @x` |",
            ]
        );
        assert!(
            text.contains("Of 3 queries 1 may go to a replica"),
            "{text}"
        );
    }

    #[test]
    fn a_directory_without_queries_is_refused_in_words() {
        let empty = tempfile::tempdir().unwrap();
        let error = list(empty.path()).unwrap_err().to_string();
        assert!(error.contains("holds no prepared query"), "{error}");
        fs::write(empty.path().join("query-1.json"), "{}").unwrap();
        let error = list(empty.path()).unwrap_err().to_string();
        assert!(error.contains("is no prepared query"), "{error}");
    }
}
