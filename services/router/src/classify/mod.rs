//! Which statements only read. Deny by default: what is not proven to read goes to the primary.
//!
//! One pass of a lexer, then rules over its tokens; no grammar of MySQL, which every release changes. A statement is a read only if it
//! is one statement that begins as one, and holds nothing that changes data, takes a lock, looks at or changes the session's
//! state, asks what only one server can answer, or calls a function that is not known to be pure. It assumes the `sql_mode` that
//! this crate's own connections have; a statement that would change it is refused on the shared executor.

mod functions;
mod lexer;
mod summary;

use lexer::{Token, tokens};

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

/// What of the session's state a statement uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Session {
    /// `@x`, `:=`, `SELECT … INTO @x`.
    #[error("user variables")]
    UserVariables,
    /// `GET_LOCK` and its kin.
    #[error("named locks")]
    NamedLocks,
    /// `LAST_INSERT_ID`, `FOUND_ROWS`, `ROW_COUNT`, `SHOW WARNINGS`, …
    #[error("what the statement before left")]
    LastStatement,
    /// `BEGIN`, `COMMIT`, `SAVEPOINT`, `XA`, …
    #[error("transactions opened by text")]
    Transactions,
    /// `SET`, `USE`, `PREPARE`, `LOCK TABLES`, `HANDLER`, temporary tables, `CONNECTION_ID()`, …
    #[error("settings and objects of the session")]
    Settings,
}

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

/// Classifies one text as MySQL 8.0 to 9.7 would read it. Linear in its length; never panics.
#[must_use]
pub fn classify(sql: &str) -> Class {
    let Ok(mut tokens) = tokens(sql) else {
        return Class::Unproven;
    };
    while tokens.last() == Some(&Token::Symbol(';')) {
        tokens.pop();
    }
    statement(&tokens)
}

fn statement(tokens: &[Token<'_>]) -> Class {
    let executable = tokens.contains(&Token::ExecutableComment);
    let several = tokens.contains(&Token::Symbol(';'));
    let session = if (executable || several) && !defines_a_routine(tokens) {
        // Each of them counts, and so does what an executable comment begins with.
        let mut plain = tokens.to_vec();
        plain.retain(|token| *token != Token::ExecutableComment);
        plain
            .split(|token| *token == Token::Symbol(';'))
            .find_map(session_state)
    } else {
        session_state(tokens)
    };
    if let Some(session) = session {
        return Class::SessionState(session);
    }
    if executable || several {
        return Class::Unproven;
    }
    let start = tokens
        .iter()
        .take_while(|t| **t == Token::Symbol('('))
        .count();
    let Some(Token::Word(first)) = tokens.get(start) else {
        return Class::Unproven;
    };
    match first.to_ascii_uppercase().as_str() {
        "SELECT" | "TABLE" | "VALUES" | "WITH" => query(tokens),
        "SHOW" if start == 0 => show(&tokens[1..]),
        "EXPLAIN" | "DESCRIBE" | "DESC" if start == 0 => explain(&tokens[1..]),
        "HELP" => Class::Unproven,
        _ => Class::Write,
    }
}

/// Its body has statements of its own, which are executed when it is called.
fn defines_a_routine(tokens: &[Token<'_>]) -> bool {
    let first = tokens.first().and_then(Token::keyword);
    let head = tokens.iter().take_while(|t| **t != Token::Symbol(';'));
    matches!(first.as_deref(), Some("CREATE" | "ALTER"))
        && head.filter_map(Token::keyword).any(|word| {
            matches!(
                word.as_str(),
                "PROCEDURE" | "FUNCTION" | "TRIGGER" | "EVENT"
            )
        })
}

/// The rules of session state apply to every statement, wherever in it the state is used.
fn session_state(tokens: &[Token<'_>]) -> Option<Session> {
    let word = |at: usize| tokens.get(at).and_then(Token::keyword);
    match (word(0).as_deref(), word(1).as_deref()) {
        (Some("BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "XA"), _) => {
            return Some(Session::Transactions);
        }
        (Some("START"), Some("TRANSACTION")) => return Some(Session::Transactions),
        (
            Some("SET"),
            Some("GLOBAL" | "PERSIST" | "PERSIST_ONLY" | "PASSWORD" | "RESOURCE" | "DEFAULT"),
        ) => {}
        (
            Some(
                "SET" | "USE" | "PREPARE" | "EXECUTE" | "DEALLOCATE" | "LOCK" | "UNLOCK"
                | "HANDLER",
            ),
            _,
        ) => {
            return Some(Session::Settings);
        }
        (Some("CREATE" | "DROP"), Some("TEMPORARY")) => return Some(Session::Settings),
        (Some("GET"), _) => return Some(Session::LastStatement),
        (Some("SHOW"), Some("WARNINGS" | "ERRORS" | "PROFILE" | "PROFILES" | "COUNT")) => {
            return Some(Session::LastStatement);
        }
        _ => {}
    }
    tokens
        .iter()
        .enumerate()
        .find_map(|(at, token)| match token {
            Token::UserVariable | Token::Assignment => Some(Session::UserVariables),
            Token::Word("SQL_CALC_FOUND_ROWS") => Some(Session::LastStatement),
            Token::Word(name) if name.eq_ignore_ascii_case("SQL_CALC_FOUND_ROWS") => {
                Some(Session::LastStatement)
            }
            Token::SystemVariable(name) => {
                functions::session_variable(name).then_some(Session::LastStatement)
            }
            Token::Word(name) | Token::Quoted(name)
                if tokens.get(at + 1) == Some(&Token::Symbol('(')) =>
            {
                functions::session_function(name)
            }
            _ => None,
        })
}

/// A SELECT, TABLE, VALUES or WITH, with whatever is nested in it.
fn query(tokens: &[Token<'_>]) -> Class {
    let mut unproven = false;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let after = tokens.get(at + 1);
        // After a period every word is a name, and a function behind a schema is not a built-in.
        let qualified = before == Some(&Token::Symbol('.'));
        let called = after == Some(&Token::Symbol('('));
        match token {
            Token::Word(name) if qualified && !called => {
                unproven |= of_one_server(tokens, at, &name.to_ascii_uppercase());
            }
            Token::Word(name) => {
                let upper = name.to_ascii_uppercase();
                match upper.as_str() {
                    "INTO" => unproven = true,
                    "FOR"
                        if matches!(
                            after.and_then(Token::keyword).as_deref(),
                            Some("UPDATE" | "SHARE")
                        ) =>
                    {
                        return Class::Locking;
                    }
                    "LOCK" => return Class::Locking,
                    "INSERT" | "REPLACE" if called && !qualified => {}
                    "UPDATE" | "DELETE" | "INSERT" | "REPLACE" => return Class::Write,
                    _ if called && (qualified || !pure_call(tokens, at, &upper)) => unproven = true,
                    "PERFORMANCE_SCHEMA" | "MYSQL" | "SYS"
                        if after == Some(&Token::Symbol('.')) =>
                    {
                        unproven = true
                    }
                    _ => {}
                }
            }
            Token::Quoted(name) => {
                unproven |= called && !names_columns(tokens, at);
                let schema = name.to_ascii_uppercase();
                unproven |= after == Some(&Token::Symbol('.'))
                    && matches!(schema.as_str(), "PERFORMANCE_SCHEMA" | "MYSQL" | "SYS");
                unproven |= of_one_server(tokens, at, &schema);
            }
            // Where `"` quotes names, this would be a call.
            Token::DoubleQuoted => unproven |= called,
            Token::SystemVariable(_) => unproven = true,
            _ => {}
        }
    }
    if unproven {
        Class::Unproven
    } else {
        Class::Read
    }
}

/// A word before a parenthesis that is no function, or a pure one.
fn pure_call(tokens: &[Token<'_>], at: usize, upper: &str) -> bool {
    functions::syntax(upper) || functions::pure(upper) || names_columns(tokens, at)
}

/// `t` in `AS t (a, b)` and in `WITH t (a, b) AS (…)`; a window's name in `OVER w (…)` there is none.
fn names_columns(tokens: &[Token<'_>], at: usize) -> bool {
    let before = at
        .checked_sub(1)
        .and_then(|before| tokens[before].keyword());
    if before.as_deref() == Some("AS") {
        return true;
    }
    let opens = matches!(before.as_deref(), Some("WITH" | "RECURSIVE"))
        || at
            .checked_sub(1)
            .is_some_and(|before| tokens[before] == Token::Symbol(','));
    if !opens {
        return false;
    }
    // A list of plain names, then AS and a parenthesis.
    let mut next = at + 2;
    loop {
        if !matches!(tokens.get(next), Some(Token::Word(_) | Token::Quoted(_))) {
            return false;
        }
        match tokens.get(next + 1) {
            Some(Token::Symbol(',')) => next += 2,
            Some(Token::Symbol(')')) => break,
            _ => return false,
        }
    }
    tokens.get(next + 2).and_then(Token::keyword).as_deref() == Some("AS")
        && tokens.get(next + 3) == Some(&Token::Symbol('('))
}

/// A table of information_schema that tells of one server, not of the data.
fn of_one_server(tokens: &[Token<'_>], at: usize, upper: &str) -> bool {
    let of_information_schema = at >= 2
        && tokens[at - 1] == Token::Symbol('.')
        && matches!(tokens[at - 2], Token::Word(schema) | Token::Quoted(schema)
            if schema.eq_ignore_ascii_case("information_schema"));
    of_information_schema
        && (upper.starts_with("INNODB_")
            || matches!(
                upper,
                "PROCESSLIST"
                    | "PROFILING"
                    | "FILES"
                    | "OPTIMIZER_TRACE"
                    | "USER_ATTRIBUTES"
                    | "PLUGINS"
            ))
}

/// SHOW of definitions; all else tells of one server.
fn show(tokens: &[Token<'_>]) -> Class {
    let mut words = tokens.iter().map_while(Token::keyword);
    let mut next = || words.next().unwrap_or_default();
    let mut what = next();
    while matches!(what.as_str(), "FULL" | "EXTENDED") {
        what = next();
    }
    let defined = match what.as_str() {
        "TABLES" | "COLUMNS" | "FIELDS" | "INDEX" | "INDEXES" | "KEYS" | "DATABASES"
        | "SCHEMAS" | "COLLATION" | "CHARSET" | "TRIGGERS" => true,
        "CHARACTER" => next() == "SET",
        "TABLE" | "PROCEDURE" | "FUNCTION" => next() == "STATUS",
        "CREATE" => matches!(
            next().as_str(),
            "TABLE"
                | "VIEW"
                | "DATABASE"
                | "SCHEMA"
                | "PROCEDURE"
                | "FUNCTION"
                | "TRIGGER"
                | "EVENT"
        ),
        _ => false,
    };
    if !defined {
        return Class::Unproven;
    }
    // What follows LIKE and WHERE may call functions.
    match query(tokens) {
        Class::Read | Class::Locking | Class::Write => Class::Read,
        other => other,
    }
}

/// EXPLAIN of a read reads; with ANALYZE it executes what it explains.
fn explain(tokens: &[Token<'_>]) -> Class {
    let mut rest = tokens;
    loop {
        match rest.first().and_then(Token::keyword).as_deref() {
            Some("ANALYZE" | "EXTENDED" | "PARTITIONS") => rest = &rest[1..],
            Some("FORMAT") if rest.get(1) == Some(&Token::Symbol('=')) && rest.len() > 2 => {
                rest = &rest[3..]
            }
            Some("FOR") => {
                // FOR SCHEMA name explains in another schema; FOR CONNECTION looks at this server.
                let schema = matches!(
                    rest.get(1).and_then(Token::keyword).as_deref(),
                    Some("SCHEMA" | "DATABASE")
                );
                if !schema || rest.len() < 3 {
                    return Class::Unproven;
                }
                rest = &rest[3..];
            }
            _ => break,
        }
    }
    let start = rest
        .iter()
        .take_while(|t| **t == Token::Symbol('('))
        .count();
    match rest.get(start).and_then(Token::keyword).as_deref() {
        Some("SELECT" | "TABLE" | "VALUES" | "WITH") => query(rest),
        Some("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "INTO") | None
            if start > 0 || rest.is_empty() =>
        {
            Class::Unproven
        }
        Some("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "INTO") => Class::Unproven,
        // DESCRIBE of a table, with a column or a pattern.
        _ if rest.len() == tokens.len() && rest.len() <= 5 => Class::Read,
        _ => Class::Unproven,
    }
}

#[cfg(test)]
mod tests;
