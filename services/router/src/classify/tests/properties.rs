//! What holds of every statement, made by chance. A failure prints the statement and the seed.

use proptest::prelude::*;

use super::*;

/// Reads of many shapes; each token between blanks, so that they can be taken apart.
const READS: &[&str] = &[
    "SELECT 1",
    "SELECT a , b FROM t WHERE c = 'x' AND d IN ( 1 , 2 ) ORDER BY a LIMIT 3",
    "( SELECT a FROM t ) UNION ALL ( SELECT b FROM u )",
    "WITH RECURSIVE n ( i ) AS ( SELECT 1 UNION ALL SELECT i + 1 FROM n ) , m ( j ) AS ( SELECT 2 ) SELECT * FROM n , m",
    "TABLE t ORDER BY a",
    "VALUES ROW ( 1 , 2 ) , ROW ( 3 , 4 )",
    "SELECT `a` , t . b , ABS ( c ) , IF ( d , 1 , 2 ) FROM t AS x JOIN u USING ( id )",
    "SELECT SUM ( a ) OVER ( PARTITION BY b ) FROM t WINDOW w AS ( ORDER BY c )",
    "SELECT * FROM ( SELECT 1 ) d ( a ) , LATERAL ( SELECT a ) AS e ( b )",
    "SELECT * FROM JSON_TABLE ( ? , '$[*]' COLUMNS ( a INT PATH '$.a' ) ) AS j",
    "SELECT INSERT ( a , 1 , 2 , 'x' ) , REPLACE ( a , 'b' , 'c' ) FROM t",
    "SHOW TABLES LIKE 'x'",
    "EXPLAIN SELECT a FROM t",
    "SELECT a FROM t ;",
];

/// Parts that no read has, wherever they stand; each between blanks, too.
const FORBIDDEN: &[&str] = &[
    "FOR UPDATE",
    "FOR SHARE",
    "LOCK IN SHARE MODE",
    "INTO @x",
    "INTO OUTFILE 'x'",
    "@x",
    "@`x`",
    ":=",
    "@@server_id",
    "GET_LOCK ( 'a' , 1 )",
    "LAST_INSERT_ID ( )",
    "SQL_CALC_FOUND_ROWS",
    "my_own ( 1 )",
    "`my_own` ( 1 )",
    "d . abs ( 1 )",
    "SLEEP ( 1 )",
    "; DELETE FROM t",
    "; SELECT 1",
    "UPDATE",
    "DELETE",
    "/*! FOR UPDATE */",
    "/*!50000 @x */",
    "/*!90100 my_own ( 1 ) */",
    "performance_schema . threads",
    "\0",
    "'",
    "`",
];

/// What may stand between two tokens.
const BLANKS: &[&str] = &[
    " ",
    "\n",
    "\t",
    "\r\n",
    "  ",
    "/**/",
    " /* ' */ ",
    " -- x\n",
    " # `\n",
    " /* ; */ ",
    "\u{b}",
    " /*!99999 @x */ ",
];

/// What is not a read, whatever is put around it.
const SPOILT: &[&str] = &[
    "SELECT a FROM t FOR UPDATE",
    "SELECT a FROM t LOCK IN SHARE MODE",
    "SELECT @x",
    "SELECT GET_LOCK('a', 1)",
    "SELECT FOUND_ROWS()",
    "SELECT my_own(1)",
    "SELECT d.my_own(1)",
    "SELECT @@server_id",
    "SELECT SLEEP(1)",
    "SELECT * FROM performance_schema.threads",
    "SELECT 1 INTO @x",
    "SELECT 1 INTO OUTFILE 'x'",
    "SELECT /*! @x */",
];

fn read() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::select(READS).prop_map(|read| read.split(' ').collect())
}

fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(BLANKS)
}

/// Only blanks, no comment: some functions want nothing else before their parenthesis.
fn is_plain(blank: &str) -> bool {
    blank
        .bytes()
        .all(|byte| byte.is_ascii_whitespace() || byte == 0x0b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_comes_is_classified_without_a_panic(sql in "\\PC{0,200}") {
        let (verdict, summary) = Classifier::default().classify_with_summary(&sql);
        prop_assert_eq!(summary, super::super::summary(&sql));
        prop_assert!(verdict.cause.range().is_none_or(|range| sql.get(range).is_some()));
    }

    #[test]
    fn statements_of_sql_words_are_classified_without_a_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "SELECT", "FOR", "UPDATE", "(", ")", "'", "\"", "`", "@", "@@", ".", ";", "/*", "*/", "/*!", "--", "#", "\n", "INTO", "x",
                ",", "WITH", "AS", "EXPLAIN", "SHOW", "FORMAT", "=", "\\", "1", "DESC", "ANALYZE", "é", "SET", "GLOBAL", "FLUSH", "CREATE",
                "DEFINER", "PROCEDURE", "{", "1e", "1.", "0x", "$", "50000", "90000", "999999", "router:primary", "router:", "INSERT", ":=",
            ]),
            0..40,
        ),
        separator in prop::sample::select(vec!["", " "]),
    ) {
        let sql = parts.join(separator);
        let (verdict, summary) = Classifier::default().classify_with_summary(&sql);
        prop_assert_eq!(summary, super::super::summary(&sql), "{}", &sql);
        prop_assert!(verdict.cause.range().is_none_or(|range| sql.get(range).is_some()), "{}", &sql);
    }

    #[test]
    fn a_read_is_one_in_any_case_and_with_anything_between_its_tokens(
        tokens in read(),
        blanks in prop::collection::vec(blank(), 60),
        upper in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut sql = String::new();
        for ((token, blank), upper) in tokens.iter().zip(&blanks).zip(&upper) {
            let quoted = token.starts_with(['\'', '`']);
            let token = match upper {
                _ if quoted => (*token).to_owned(),
                true => token.to_uppercase(),
                false => token.to_lowercase(),
            };
            // Behind some functions only blanks may stand.
            let blank = if is_plain(blank) || !token.eq_ignore_ascii_case("SUM") { *blank } else { " " };
            sql.push_str(&token);
            sql.push_str(blank);
        }
        prop_assert_eq!(classify(&sql), Class::Read, "{}", &sql);
    }

    #[test]
    fn a_read_with_a_forbidden_part_anywhere_is_no_longer_one(
        tokens in read(),
        part in prop::sample::select(FORBIDDEN),
        at in any::<prop::sample::Index>(),
        blank in blank(),
        lower in any::<bool>(),
    ) {
        // What is described is no table that is read.
        prop_assume!(tokens[0] != "SHOW" || !part.starts_with("performance_schema"));
        let mut spoilt = tokens.clone();
        let part = if lower { part.to_lowercase() } else { part.to_owned() };
        // A keyword behind a period is a name.
        let mut at = at.index(tokens.len() + 1);
        while at > 0 && tokens[at - 1] == "." || tokens.get(at) == Some(&".") {
            at -= 1;
        }
        let parts: Vec<&str> = part.split(' ').collect();
        // A quote would end at one within a comment.
        let blank = if matches!(parts[..], ["'" | "`"]) { " " } else { blank };
        spoilt.splice(at..at, parts);
        let sql = spoilt.join(blank);
        prop_assert_ne!(classify(&sql), Class::Read, "{}", &sql);
    }

    #[test]
    fn a_second_statement_makes_every_read_another_thing(
        first in read(),
        second in read(),
        blank in blank(),
    ) {
        let first = first.join(" ");
        let sql = format!("{}{blank};{blank}{}", first.trim_end_matches(';'), second.join(" "));
        prop_assert_ne!(classify(&sql), Class::Read, "{}", &sql);
    }

    #[test]
    fn nothing_around_it_makes_a_read_of_what_is_none(
        inner in prop::sample::select(SPOILT),
        around in prop::collection::vec(
            prop::sample::select(vec![
                "(#)",
                "SELECT * FROM (#) AS d",
                "SELECT * FROM (#) d (a)",
                "WITH c AS (#) SELECT * FROM c",
                "WITH b AS (SELECT 1), c (x) AS (#) SELECT * FROM c",
                "SELECT 1 UNION (#)",
                "(#) UNION ALL SELECT 1",
                "(SELECT 1) EXCEPT (#) ORDER BY 1",
                "SELECT (#)",
                "SELECT 1 WHERE EXISTS (#)",
                "SELECT 1 IN (#)",
                "VALUES ROW((#))",
                "SELECT ABS((#))",
                "EXPLAIN #",
                "EXPLAIN ANALYZE #",
                "EXPLAIN FORMAT=TREE #",
                "/* x */ #",
                "/*! # */",
            ]),
            1..4,
        ),
    ) {
        let mut sql = inner.to_owned();
        for around in around {
            sql = around.replace('#', &sql);
        }
        prop_assert_ne!(classify(&sql), Class::Read, "{}", &sql);
    }

    #[test]
    fn a_hint_never_changes_a_class(
        statement in prop::sample::select([READS, SPOILT].concat()),
        hint in prop::sample::select(vec!["/*router:primary*/", "-- router:replica\n", "# router:primary\n"]),
    ) {
        prop_assert_eq!(classify(&format!("{hint}{statement}")), classify(statement));
    }
}
