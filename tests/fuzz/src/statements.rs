//! SQL, as the router classifies it.
//!
//! The second reader takes a text apart character by character, without tables and without rules for what is a read: it only finds
//! words that no read has.

use crate::classify::{Class, Classifier, Session, classify, summary};

/// Statements to begin with: of every class, and of every lexical form.
pub fn seeds() -> Vec<Vec<u8>> {
    let statements = [
        "SELECT a, t.b FROM t WHERE c = 'x' AND d IN (1, 2) ORDER BY a LIMIT 3;",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n), m (j) AS (TABLE t) SELECT * FROM n, m",
        "SELECT * FROM JSON_TABLE(?, '$[*]' COLUMNS (a INT PATH '$.a')) AS j (b)",
        "SELECT SUM(a) OVER (PARTITION BY b) FROM t WINDOW w AS (ORDER BY c)",
        "SELECT REPLACE(a, 'b', 'c'), INSERT(a, 1, 2, 'd'), count (*) FROM `t``u` USE INDEX FOR ORDER BY (k)",
        "SELECT 0x41, x'41', 0b01, b'01', 1.5e3, .5, 1e5, N'a', _utf8mb4'b', 'it''s', \"a\\\"b\", {fn now()}",
        "(SELECT 1) UNION VALUES ROW(1), ROW(2)",
        "SELECT * FROM t WHERE a = 1.FOR UPDATE",
        "SELECT * FROM t FOR /* x */ SHARE",
        "SELECT * FROM t LOCK IN SHARE MODE",
        "SELECT a INTO @x FROM t",
        "SELECT @`a` := @'b' + @\"c\" + @@session . sql_mode + @@identity",
        "SELECT GET_LOCK -- x\n('a', 1), `last_insert_id` ()",
        "SELECT f(1), d . g (2), `h`(3), \"i\"(4)",
        "SELECT /*+ SET_VAR(a = 1) */ /*!50000 @x */ /*!99999 y */ /*!080000 z */ 1",
        "/* router:primary */ -- router:replica\n# router:x\nSELECT 1",
        "SELECT 1; DELETE FROM t",
        "SELECT * FROM performance_schema.threads, information_schema.processlist, mysql.slow_log",
        "SET GLOBAL a = 1, @@session.b = 2, @c := 3",
        "CREATE DEFINER = a@`b` PROCEDURE p() BEGIN SET @x = 1; COMMIT; END",
        "SHOW FULL TABLES WHERE a = (SELECT 1)",
        "SHOW GRANTS FOR a@'b' USING c",
        "EXPLAIN ANALYZE FORMAT=JSON INTO @x FOR SCHEMA d SELECT 1",
        "DESC d.t 'a%'",
        "FLUSH TABLES a FOR EXPORT",
    ];
    statements
        .iter()
        .map(|statement| statement.as_bytes().to_vec())
        .collect()
}

/// What is said of any text holds together, and no text that says what no read says is a read.
///
/// # Panics
///
/// If this does not hold.
pub fn check(data: &[u8]) {
    let sql = &*String::from_utf8_lossy(data);
    let (verdict, said) = Classifier::default().classify_with_summary(sql);
    assert_eq!(said, summary(sql));
    assert!(said.len() <= 120);
    assert_eq!(verdict.class, Classifier::default().classify(sql).class);
    if let Some(range) = verdict.cause.range() {
        assert!(sql.get(range).is_some());
    }
    assert_eq!(
        verdict.class == Class::Read,
        verdict.cause.to_string() == "it only reads"
    );

    if verdict.class == Class::Read {
        assert_eq!(None, why_not(sql), "{sql}");
    }
    // Nothing that comes behind a statement makes a read of it, and nothing before it that says nothing makes a difference.
    assert_ne!(Class::Read, classify(&format!("{sql}\n;SELECT 1")), "{sql}");
    assert_eq!(verdict.class, classify(&format!("/* x */ {sql}")), "{sql}");

    let is_query = matches!(&*said, "SELECT" | "WITH" | "TABLE" | "VALUES")
        || ["SELECT ", "WITH ", "TABLE ", "VALUES "]
            .iter()
            .any(|verb| said.starts_with(verb));
    let is_spoilt = matches!(
        verdict.class,
        Class::Locking
            | Class::SessionState(
                Session::UserVariables | Session::NamedLocks | Session::LastStatement
            )
    );
    if is_query && is_spoilt {
        for (before, behind) in [
            ("(", ")"),
            ("SELECT * FROM (", ") AS d"),
            ("WITH c (a) AS (", ") SELECT * FROM c"),
            ("SELECT 1 UNION (", ") LIMIT 1"),
            ("SELECT ABS((", "))"),
            ("EXPLAIN ", ""),
        ] {
            let wrapped = format!("{before}{sql}\n{behind}");
            assert_ne!(Class::Read, classify(&wrapped), "{wrapped}");
        }
    }
}

/// A word, or anything else by its first character.
#[derive(Debug, PartialEq)]
enum Piece {
    /// In upper case; `.` before it if it stands right behind a period.
    Word(String),
    Quoted(String),
    Assignment,
    Other(char),
}

/// What the text has that no read has, if it can be read to its end; executable comments count whatever their version.
fn why_not(sql: &str) -> Option<&'static str> {
    let pieces = pieces(sql)?;
    let word = |at: usize| match pieces.get(at) {
        Some(Piece::Word(word)) => word.as_str(),
        _ => "",
    };
    let shows = word(0) == "SHOW";
    for (at, piece) in pieces.iter().enumerate() {
        let calls = pieces.get(at + 1) == Some(&Piece::Other('('));
        match piece {
            Piece::Other(';') if pieces[at..].iter().any(|piece| *piece != Piece::Other(';')) => {
                return Some("a second statement");
            }
            Piece::Other('@') if !shows => return Some("a variable"),
            Piece::Assignment => return Some("an assignment"),
            Piece::Word(name) => match &**name {
                "INTO" | "LOCK" | "UPDATE" | "DELETE" | "SQL_CALC_FOUND_ROWS" => {
                    return Some("a word that no read has");
                }
                "INSERT" | "REPLACE" if !calls => return Some("a write"),
                "FOR" if matches!(word(at + 1), "UPDATE" | "SHARE") => return Some("a lock"),
                _ if calls && is_bound(name) => return Some("a function of the session"),
                _ => {}
            },
            Piece::Quoted(name) if calls && is_bound(name) => {
                return Some("a function of the session, in quotes");
            }
            _ => {}
        }
    }
    None
}

fn is_bound(name: &str) -> bool {
    [
        "GET_LOCK",
        "RELEASE_LOCK",
        "LAST_INSERT_ID",
        "FOUND_ROWS",
        "CONNECTION_ID",
        "SLEEP",
        "LOAD_FILE",
    ]
    .iter()
    .any(|bound| name.eq_ignore_ascii_case(bound))
}

/// `None` of a text that does not end well, or that the two readers may read otherwise.
fn pieces(sql: &str) -> Option<Vec<Piece>> {
    let text: Vec<char> = sql.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    // What versions decide is the router's to weigh.
    if sql.contains("/*!") || sql.contains('\0') {
        return None;
    }
    let mut pieces = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let begin = index;
        match at(index) {
            ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' => index += 1,
            '/' if at(index + 1) == '*' => {
                index += 2;
                while !(at(index) == '*' && at(index + 1) == '/') {
                    index += 1;
                    if index >= text.len() {
                        return None;
                    }
                }
                index += 2;
            }
            '-' if at(index + 1) == '-' && matches!(at(index + 2), '\0'..=' ' | '\u{7f}') => {
                while index < text.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            // With a name or a host behind it, which are no words.
            '@' => {
                pieces.push(Piece::Other('@'));
                index += 1;
                while index < text.len() && (is_name(at(index)) || at(index) == '.') {
                    index += 1;
                }
            }
            ':' if at(index + 1) == '=' => {
                pieces.push(Piece::Assignment);
                index += 2;
            }
            '#' => {
                while index < text.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            quote @ ('\'' | '"' | '`') => {
                let mut inside = String::new();
                index += 1;
                loop {
                    match at(index) {
                        _ if index >= text.len() => return None,
                        '\\' if quote != '`' => index += 2,
                        c if c == quote && at(index + 1) == quote => {
                            inside.push(c);
                            index += 2;
                        }
                        c if c == quote => break,
                        c => {
                            inside.push(c);
                            index += 1;
                        }
                    }
                }
                index += 1;
                pieces.push(match quote {
                    '`' => Piece::Quoted(inside),
                    quote => Piece::Other(quote),
                });
            }
            c if is_name(c) => {
                let behind_period = begin > 0 && at(begin - 1) == '.';
                // Numbers are a grammar of their own.
                if c.is_ascii_digit() {
                    return None;
                }
                while is_name(at(index)) && index < text.len() {
                    index += 1;
                }
                let before_period = at(index) == '.' && is_name(at(index + 1));
                let word: String = text[begin..index].iter().collect();
                pieces.push(match behind_period || before_period {
                    true => Piece::Word(format!(".{word}")),
                    false => Piece::Word(word.to_ascii_uppercase()),
                });
            }
            c => {
                pieces.push(Piece::Other(c));
                index += 1;
            }
        }
    }
    Some(pieces)
}
