//! Statements that change or lock something, in all the places where that hides.

use super::*;

#[test]
fn what_changes_data_is_a_write() {
    all(
        Class::Write,
        &[
            "INSERT INTO t VALUES (1)",
            "insert t select * from u",
            "INSERT INTO t SELECT 1 ON DUPLICATE KEY UPDATE a = 1",
            "UPDATE t SET a = 1",
            "DELETE FROM t",
            "REPLACE INTO t VALUES (1)",
            "/*!80000 REPLACE */ INTO t VALUES (1)",
            "-- SELECT\nDELETE FROM t",
            "CALL p()",
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t SELECT * FROM u",
            "DROP TABLE t",
            "TRUNCATE t",
            "ALTER TABLE t ADD b INT",
            "RENAME TABLE t TO u",
            "LOAD DATA INFILE 'x' INTO TABLE t (a, @b) SET c = @b",
            "DO SLEEP(1)",
            "ANALYZE TABLE t",
            "OPTIMIZE TABLE t",
            "FLUSH TABLES",
            "KILL 3",
            "IMPORT TABLE FROM 'x'",
            "INSTALL PLUGIN x SONAME 'y'",
            "SET GLOBAL read_only = 1",
            "SET PERSIST max_connections = 1, GLOBAL read_only = 0",
            "SET @@GLOBAL.read_only = 1",
            "START REPLICA",
            "EXPLAIN ANALYZE DELETE FROM t",
            "EXPLAIN ANALYZE UPDATE t SET a = 1",
        ],
    );
}

#[test]
fn a_change_behind_with_is_a_write() {
    all(
        Class::Write,
        &[
            "WITH a AS (SELECT 1) DELETE FROM t",
            "WITH a AS (SELECT 1) UPDATE t SET a = 1",
            "WITH RECURSIVE a (b) AS (SELECT 1) /* SELECT */ DELETE t FROM t, a",
            "WITH `select` AS (SELECT 1), `delete` AS (SELECT 2)\nUPDATE t JOIN `select` SET a = 1",
        ],
    );
}

#[test]
fn accounts_and_routines_are_writes_whatever_their_text_looks_like() {
    all(
        Class::Write,
        &[
            "GRANT SELECT ON t TO u",
            "GRANT ALL ON *.* TO 'a'@'%', b@localhost WITH GRANT OPTION",
            "CREATE USER 'a'@'%' IDENTIFIED BY 'x', `b`@`h`",
            "DROP USER a@h",
            "SET PASSWORD FOR a@h = 'x'",
            "SET DEFAULT ROLE ALL TO a@h",
            "CREATE DEFINER = a@h VIEW v AS SELECT 1",
            "CREATE PROCEDURE p() BEGIN DECLARE a INT; SET @x = 1; COMMIT; SELECT GET_LOCK('a', 1); END",
            "CREATE DEFINER=`a`@`h` TRIGGER r BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; SET @b = 2; END",
            "CREATE OR REPLACE DEFINER = CURRENT_USER() FUNCTION f() RETURNS INT RETURN LAST_INSERT_ID()",
            "CREATE AGGREGATE FUNCTION f RETURNS STRING SONAME 'x.so'",
            "ALTER EVENT e DO SET @x = 1",
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
            "SELECT * FROM t FOR -- x\nUPDATE NOWAIT",
            "SELECT * FROM t for\nshare nowait",
            "SELECT * FROM t FOR UPDATE OF t FOR SHARE OF u",
            "(SELECT * FROM t FOR UPDATE)",
            "(SELECT 1) UNION (SELECT a FROM t FOR UPDATE)",
            "WITH a AS (SELECT * FROM t FOR SHARE) SELECT * FROM a",
            "WITH a AS (SELECT 1) SELECT * FROM a FOR UPDATE",
            "SELECT * FROM t LOCK IN SHARE MODE",
            "SELECT * FROM t LOCK/**/IN\nSHARE MODE",
            "SELECT (SELECT a FROM t LIMIT 1 FOR UPDATE)",
            "SELECT * FROM (SELECT * FROM t FOR UPDATE) d",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM t FOR SHARE)",
            "TABLE t FOR UPDATE",
            "TABLE t LOCK IN SHARE MODE",
            "SELECT * FROM t /*! FOR UPDATE */",
            "SELECT * FROM t FOR /*!50000 UPDATE */",
            "SELECT * FROM t /*!90001 FOR UPDATE */",
            "EXPLAIN SELECT * FROM t FOR UPDATE",
            "EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE",
            "SHOW TABLES WHERE (SELECT 1 FROM t FOR UPDATE)",
        ],
    );
}

#[test]
fn a_keyword_right_behind_a_number_or_a_quote_is_one() {
    all(
        Class::Locking,
        &[
            "SELECT * FROM t WHERE a = 1.FOR UPDATE",
            "SELECT * FROM t WHERE a = 1.5FOR UPDATE",
            "SELECT * FROM t WHERE a = .5FOR UPDATE",
            "SELECT * FROM t WHERE a = 1e5FOR UPDATE",
            "SELECT * FROM t WHERE a = 1.e+5FOR UPDATE",
            "SELECT * FROM t WHERE a = x'41'FOR UPDATE",
            "SELECT * FROM t WHERE a = 'b'FOR UPDATE",
            "SELECT * FROM `t`FOR UPDATE",
            "SELECT * FROM t WHERE (1)FOR UPDATE",
        ],
    );
}

#[test]
fn results_that_stay_at_the_server_go_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "SELECT a INTO OUTFILE '/x' FROM t",
            "SELECT a FROM t INTO OUTFILE '/x' FIELDS TERMINATED BY ','",
            "SELECT a FROM t INTO DUMPFILE '/x'",
            "(SELECT a FROM t) INTO OUTFILE '/x'",
            "TABLE t INTO OUTFILE '/x'",
            "SELECT a FROM t PROCEDURE ANALYSE()",
        ],
    );
}

#[test]
fn several_statements_are_never_a_read() {
    all(
        Class::Unproven,
        &[
            "SELECT 1;SELECT 2",
            "SELECT 1; SELECT 2;",
            ";SELECT 1;;SELECT 2",
            "EXPLAIN FORMAT=;SELECT 1",
            "EXPLAIN FOR SCHEMA;SELECT 1",
            "DESC a.;SELECT 1",
        ],
    );
    all(
        Class::Write,
        &[
            "SELECT 1; DELETE FROM t",
            "SELECT 1;\u{a0}SELECT 2; DROP TABLE t",
            "SELECT ';'; UPDATE t SET a = 1",
        ],
    );
}

#[test]
fn what_is_no_statement_goes_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "",
            ";",
            " -- x",
            "((",
            "1",
            "'SELECT 1'",
            "`SELECT` 1",
            "SELECT.1",
            "HELP 'select'",
            "PRAGMA x",
            "(INSERT INTO t VALUES (1))",
            "(SHOW TABLES)",
            "EXPLAIN",
            "EXPLAIN ANALYZE t",
            "EXPLAIN FORMAT=JSON INTO x SELECT 1",
            "EXPLAIN CALL p()",
            "EXPLAIN PREPARE s FROM 'SELECT 1'",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN INSERT INTO t VALUES (1)",
            "DESC UPDATE t SET a = 1",
            "CHECKSUM TABLE t",
        ],
    );
}
