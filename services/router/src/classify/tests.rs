use proptest::prelude::*;

use super::{Class, Session, classify};

fn all(class: Class, statements: &[&str]) {
    for sql in statements {
        assert_eq!(classify(sql), class, "{sql}");
    }
}

#[test]
fn what_only_reads_is_a_read_however_it_is_dressed() {
    all(
        Class::Read,
        &[
            "SELECT 1",
            "select * from t where id = ?",
            "(SELECT a FROM t) UNION ALL (SELECT b FROM u) ORDER BY 1 LIMIT 3",
            "-- a comment\nSELECT 1",
            "# a comment\n/* and another */ SELECT /*+ MAX_EXECUTION_TIME(100) */ 1;",
            "SELECT 1--1",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n",
            "WITH `delete` AS (SELECT 1) SELECT * FROM `delete`",
            "TABLE t ORDER BY a LIMIT 1",
            "VALUES ROW(1, 2), ROW(3, 4)",
            "SELECT a FROM t INTERSECT SELECT a FROM u EXCEPT SELECT 3",
            "SELECT REPLACE(a, 'x', 'y'), INSERT(a, 1, 2, 'z') FROM t",
            "SELECT * FROM t USE INDEX FOR ORDER BY (k) WHERE a = 1",
            "SELECT t.`update`, t.share, t.begin AS `into` FROM t",
            "SELECT 'INSERT INTO t; DELETE @x := GET_LOCK(1)', \"FOR UPDATE\"",
            "SELECT 'it''s; \\'quoted\\' FOR UPDATE'",
            "SELECT GROUP_CONCAT(a ORDER BY a SEPARATOR ';') FROM t",
            "SELECT CONVERT(a USING utf8mb4), CAST(b AS CHAR(10)), SUBSTRING(a FROM 1 FOR 2) FROM t",
            "SELECT a, COUNT(*) FROM t GROUP BY a WITH ROLLUP HAVING COUNT(*) > 1",
            "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b), SUM(c) OVER w FROM t WINDOW w AS (ORDER BY d)",
            "SELECT UUID(), RAND(), NOW(6), CURRENT_USER()",
            "SELECT * FROM (SELECT 1 AS a) AS d (b) WHERE b IN (1, 2) AND EXISTS (SELECT 1)",
            "SELECT * FROM JSON_TABLE(?, '$[*]' COLUMNS (a INT PATH '$.a')) AS j",
            "SHOW TABLES",
            "SHOW FULL COLUMNS FROM t LIKE 'a%'",
            "SHOW CREATE TABLE t",
            "DESCRIBE t",
            "DESC t a",
            "EXPLAIN SELECT * FROM t",
            "EXPLAIN ANALYZE SELECT * FROM t",
            "EXPLAIN FORMAT=JSON SELECT * FROM t",
            "SELECT user@example FROM (SELECT 1) x"
                .split('@')
                .next()
                .unwrap_or_default(),
        ],
    );
}

#[test]
fn locking_reads_go_to_the_primary() {
    all(
        Class::Locking,
        &[
            "SELECT * FROM t FOR UPDATE",
            "SELECT * FROM t FOR /* x */ UPDATE SKIP LOCKED",
            "SELECT * FROM t for\nshare nowait",
            "(SELECT * FROM t FOR UPDATE)",
            "WITH a AS (SELECT * FROM t FOR SHARE) SELECT * FROM a",
            "SELECT * FROM t LOCK IN SHARE MODE",
            "SELECT (SELECT a FROM t LIMIT 1 FOR UPDATE)",
            "TABLE t FOR UPDATE",
            "EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE",
        ],
    );
}

#[test]
fn what_changes_data_is_a_write() {
    all(
        Class::Write,
        &[
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "REPLACE INTO t VALUES (1)",
            "CALL p()",
            "CREATE TABLE t (a INT)",
            "TRUNCATE t",
            "WITH a AS (SELECT 1) DELETE FROM t",
            "WITH a AS (SELECT 1) UPDATE t SET a = 1",
            "DO SLEEP(1)",
            "ANALYZE TABLE t",
            "FLUSH TABLES",
            "KILL 3",
            "IMPORT TABLE FROM 'x'",
            "GRANT SELECT ON t TO u",
        ],
    );
}

#[test]
fn what_is_not_proven_goes_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "SELECT my_function(1)",
            "SELECT my_function /* x */ (1)",
            "SELECT `my_function`(1)",
            "SELECT \"my_function\"(1)",
            "SELECT db.now()",
            "SELECT 1 FROM t ORDER BY f(a)",
            "SELECT 1; DELETE FROM t",
            "SELECT 1;SELECT 2",
            "CREATE PROCEDURE p() BEGIN DECLARE a INT; SET a = 1; COMMIT; END",
            "CREATE TRIGGER r BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; SET NEW.b = 2; END",
            "/*!80000 SELECT */ 1",
            "SELECT /*! 1 */",
            "SELECT a INTO OUTFILE '/x' FROM t",
            "SELECT a FROM t INTO DUMPFILE '/x'",
            "TABLE t INTO OUTFILE '/x'",
            "SELECT @@server_id",
            "SELECT @@global.gtid_executed",
            "SELECT LOAD_FILE('/x')",
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('x', 1)",
            "SELECT SLEEP(1)",
            "SELECT BENCHMARK(1, 1)",
            "SELECT UUID_SHORT()",
            "SELECT * FROM performance_schema.threads",
            "SELECT * FROM `performance_schema`.threads",
            "SELECT * FROM information_schema.processlist",
            "SHOW STATUS",
            "SHOW VARIABLES LIKE 'x'",
            "SHOW PROCESSLIST",
            "SHOW REPLICA STATUS",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN ANALYZE DELETE FROM t",
            "EXPLAIN FOR CONNECTION 4",
            "EXPLAIN ANALYZE t",
            "SELECT 'unfinished",
            "SELECT /* unfinished",
            "SELECT `unfinished",
            "SELECT \0",
            "",
            ";",
            "((",
        ],
    );
}

#[test]
fn session_state_is_an_error_that_names_the_cure() {
    for (session, statements) in [
        (
            Session::UserVariables,
            &[
                "SELECT @n",
                "SELECT @n := @n + 1",
                "SELECT 1 WHERE 1 = @`n`",
                "SELECT a FROM t WHERE b = @'n'",
                "SELECT 1 INTO @n",
                "SELECT a INTO @n FROM t",
                "TABLE t INTO @n",
                "(SELECT 1) UNION SELECT 2 INTO @n",
                "INSERT INTO t VALUES (@n)",
                "SELECT (SELECT @n)",
                "/*!80000 SELECT @n */",
            ][..],
        ),
        (
            Session::NamedLocks,
            &[
                "SELECT GET_LOCK('a', 1)",
                "SELECT GET_LOCK ('a', 1)",
                "SELECT get_lock/**/('a', 1)",
                "SELECT `GET_LOCK`('a', 1)",
                "DO RELEASE_LOCK('a')",
                "WITH a AS (SELECT GET_LOCK('a', 1)) SELECT * FROM a",
                "VALUES ROW(GET_LOCK('a', 1))",
                "SELECT 1 FROM t WHERE IS_FREE_LOCK('a')",
            ],
        ),
        (
            Session::LastStatement,
            &[
                "SELECT LAST_INSERT_ID()",
                "UPDATE t SET a = LAST_INSERT_ID(a + 1)",
                "SELECT @@identity",
                "SELECT @@session.last_insert_id",
                "SELECT SQL_CALC_FOUND_ROWS * FROM t",
                "SELECT FOUND_ROWS()",
                "SELECT ROW_COUNT()",
                "SHOW WARNINGS",
                "SHOW COUNT(*) ERRORS",
                "GET DIAGNOSTICS CONDITION 1 a = MESSAGE_TEXT",
            ],
        ),
        (
            Session::Transactions,
            &[
                "BEGIN",
                "START TRANSACTION READ ONLY",
                "commit",
                "ROLLBACK TO a",
                "SAVEPOINT a",
                "XA START 'x'",
                "DELETE FROM t; BEGIN",
                "/*!80000 BEGIN */",
            ],
        ),
        (
            Session::Settings,
            &[
                "SET NAMES utf8mb4",
                "SET SESSION sql_mode = ''",
                "USE other",
                "LOCK TABLES t READ",
                "PREPARE s FROM 'SELECT 1'",
                "CREATE TEMPORARY TABLE t (a INT)",
                "HANDLER t OPEN",
                "SELECT CONNECTION_ID()",
                "SELECT 1; SET autocommit = 0",
                "SELECT 1;;USE other; SELECT 2",
                "/*!40101 SET NAMES utf8mb4 */",
            ],
        ),
    ] {
        for sql in statements {
            let class = classify(sql);
            // A variable that is set counts as a setting; both are errors.
            let also = class == Class::SessionState(Session::Settings) && sql.starts_with("SET");
            assert!(
                class == Class::SessionState(session) || also,
                "{sql}: {class:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_classified_without_a_panic(sql in "\\PC{0,200}") {
        let _ = classify(&sql);
    }

    #[test]
    fn statements_of_sql_words_are_classified_without_a_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "SELECT", "FOR", "UPDATE", "(", ")", "'", "\"", "`", "@", "@@", ".", ";", "/*", "*/", "/*!", "--", "#", "\n", "INTO", "x",
                ",", "WITH", "AS", "EXPLAIN", "SHOW", "FORMAT", "=", "\\", "1", "DESC", "ANALYZE", "é",
            ]),
            0..40,
        ),
        separator in prop::sample::select(vec!["", " "]),
    ) {
        let _ = classify(&parts.join(separator));
    }

    #[test]
    fn a_read_with_a_forbidden_part_appended_is_no_longer_one(
        column in "[a-z]{1,8}",
        part in prop::sample::select(vec![
            "FOR UPDATE", "FOR SHARE", "LOCK IN SHARE MODE", "INTO @x", "INTO OUTFILE 'x'", "; DELETE FROM t", "/*! FOR UPDATE */",
        ]),
        comment in prop::sample::select(vec![" ", "\n", "/**/", " -- x\n", " # x\n", " /* ' */ "]),
    ) {
        let read = format!("SELECT `{column}` FROM t WHERE a = 'x'");
        prop_assert_eq!(classify(&read), Class::Read);
        let spoilt = format!("{read}{comment}{}", part.replace(' ', comment));
        prop_assert_ne!(classify(&spoilt), Class::Read, "{}", spoilt);
    }
}
