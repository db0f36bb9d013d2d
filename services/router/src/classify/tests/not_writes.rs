//! Reads that look like something else to those who look for words. Each one that is taken for a write costs the primary a read.

use super::*;

#[test]
fn what_only_reads_is_a_read_however_it_is_dressed() {
    all(
        Class::Read,
        &[
            "SELECT 1",
            "select * from t where id = ?",
            "SELECT 1;",
            "SELECT 1 ; ; -- and a comment",
            "(SELECT a FROM t) UNION ALL (SELECT b FROM u) ORDER BY 1 LIMIT 3",
            "((SELECT 1))",
            "-- a comment\nSELECT 1",
            "--\nSELECT 1",
            "# a comment\n/* and another */ SELECT /*+ MAX_EXECUTION_TIME(100) */ 1;",
            "SELECT /*+ SET_VAR(sort_buffer_size = 16M) QB_NAME(`a`) */ * FROM t",
            "SELECT 1--1",
            "SELECT 1 - -1",
            "\u{b}\u{c}SELECT\t1\r\n",
            "SELECT SQL_NO_CACHE HIGH_PRIORITY STRAIGHT_JOIN SQL_SMALL_RESULT (1)",
            "TABLE t ORDER BY a LIMIT 1",
            "(TABLE t) UNION TABLE u",
            "VALUES ROW(1, 2), ROW(3, 4)",
            "SELECT a FROM t INTERSECT SELECT a FROM u EXCEPT ALL SELECT 3",
        ],
    );
}

#[test]
fn functions_and_clauses_that_share_a_word_with_a_write_are_reads() {
    all(
        Class::Read,
        &[
            "SELECT REPLACE(a, 'x', 'y'), INSERT(a, 1, 2, 'z') FROM t",
            "SELECT REPLACE (a, 'x', 'y'), insert /* x */ (a, 1, 2, 'z') FROM t",
            "SELECT TRUNCATE(a, 2), RELEASE, CALL.x, LEFT(a, 1) FROM t CALL",
            "SELECT * FROM t USE INDEX FOR ORDER BY (k) WHERE a = 1",
            "SELECT * FROM t FORCE INDEX FOR JOIN (k), u IGNORE KEY FOR GROUP BY (PRIMARY)",
            "SELECT GROUP_CONCAT(DISTINCT a ORDER BY a SEPARATOR ';') FROM t",
            "SELECT CONVERT(a USING utf8mb4), CAST(b AS CHAR(10) CHARACTER SET latin1), CONVERT(c, DECIMAL(10, 2)) FROM t",
            "SELECT SUBSTRING(a FROM 1 FOR 2), TRIM(BOTH (b) FROM (c)), SUBSTRING(a FROM (1) FOR (2)) FROM t",
            "SELECT a, COUNT(*) FROM t GROUP BY a WITH ROLLUP HAVING COUNT(*) > 1",
            "SELECT a FROM t GROUP BY ROLLUP (a)",
            "SELECT a FROM t GROUP BY GROUPING SETS ((a), ())",
            "SELECT a, GROUPING(a) FROM t GROUP BY CUBE (a)",
            "SELECT MATCH (a, b) AGAINST ('x' IN BOOLEAN MODE), MATCH a AGAINST ('x' WITH QUERY EXPANSION) FROM t",
            "SELECT JSON_VALUE(j, '$.a' RETURNING DECIMAL(4, 2) DEFAULT 1 ON EMPTY ERROR ON ERROR) FROM t",
            "SELECT DEFAULT(a), VALUES(a) FROM t",
            "SELECT * FROM t PARTITION (p0, p1) AS x",
            "SELECT * FROM t TABLESAMPLE BERNOULLI (10)",
            "SELECT 1 FROM t WHERE a SOUNDS LIKE (b) AND c RLIKE (d) AND e DIV (f) XOR (g)",
        ],
    );
}

#[test]
fn names_are_names_in_quotes_and_behind_a_period() {
    all(
        Class::Read,
        &[
            "SELECT t.`update`, t.share, t.begin AS `into` FROM t",
            "SELECT t.update, t.delete, t.into, t.for, t.lock, t.insert FROM t",
            "SELECT t .update FROM t",
            "SELECT share, begin, commit, work, `lock`, handler, prepare, execute, xa, rollback, offset FROM t",
            "SELECT share AS begin, `for` FROM `update`.`delete` AS `into`",
            "SELECT update.a FROM `update`",
            "SELECT 1 AS `x;y`, `FOR UPDATE`, `@x` FROM t",
            "WITH `delete` AS (SELECT 1) SELECT * FROM `delete`",
            "WITH begin AS (SELECT 1), share AS (SELECT 2) SELECT * FROM begin, share",
            "SELECT `a``b` FROM `c`` FOR UPDATE`",
            "SELECT größe, 名前, 1a, $x, _y FROM straße",
            "SELECT 1a.2b, t.5for, 3e FROM 1a",
            // Where `\"` quotes names, and it is no string.
            "SELECT \"u\".\"id\" AS \"id\" FROM \"users\" \"u\"",
        ],
    );
}

#[test]
fn words_in_strings_and_comments_say_nothing() {
    all(
        Class::Read,
        &[
            "SELECT 'INSERT INTO t; DELETE @x := GET_LOCK(1)', \"FOR UPDATE\"",
            "SELECT 'it''s; \\'quoted\\' FOR UPDATE', \"a\"\"b\\\" FOR UPDATE\"",
            "SELECT 'a@b.example', \"@@x\", 'x' 'y'",
            "SELECT 1 /* FOR UPDATE */ -- INTO @x\n # @x\n, 2",
            "SELECT /* /* */ 1",
            "SELECT N'x', _utf8mb4'FOR UPDATE', x'4A', X'41', b'01', 0x41, 0b01, _binary x'41'",
            "SELECT '\\\\', 1",
            "SELECT {d '2020-01-01'}, {fn now()}, {ts '2020-01-01 00:00:00'}",
        ],
    );
}

#[test]
fn common_table_expressions_derived_tables_and_windows_are_read() {
    all(
        Class::Read,
        &[
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n",
            "WITH a (x) AS (SELECT 1), b (y, z) AS (SELECT 2, 3) SELECT * FROM a, b",
            "WITH a AS (SELECT 1), b (y) AS (WITH c (d) AS (SELECT 1), e (f) AS (SELECT 2) SELECT * FROM c, e) SELECT * FROM b",
            "SELECT * FROM (WITH a (x) AS (SELECT 1), b (x) AS (TABLE a) SELECT * FROM b) AS d",
            "WITH a AS (SELECT 1) (SELECT * FROM a) ORDER BY (1), ABS(2)",
            "WITH a AS (SELECT 1) VALUES ROW(1)",
            "WITH a AS (SELECT 1) TABLE a",
            "SELECT * FROM (SELECT 1 AS a) AS d (b) WHERE b IN (1, 2) AND EXISTS (SELECT 1)",
            "SELECT * FROM (SELECT 1) d (b), LATERAL (SELECT b) e (c)",
            "SELECT * FROM JSON_TABLE(?, '$[*]' COLUMNS (a INT PATH '$.a' DEFAULT '1' ON EMPTY NULL ON ERROR, n FOR ORDINALITY, \
             NESTED PATH '$.b[*]' COLUMNS (c VARCHAR(10) PATH '$', d INT EXISTS PATH '$.d'))) AS j",
            "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b), SUM(c) OVER w FROM t WINDOW w AS (ORDER BY d ROWS BETWEEN 1 \
             PRECEDING AND CURRENT ROW), v AS (w RANGE UNBOUNDED PRECEDING)",
            "SELECT a FROM t QUALIFY RANK() OVER (ORDER BY a) = 1",
            "SELECT (a, b) = ROW(1, 2), (SELECT 1) IN (SELECT 2), a > ALL (SELECT 3), b = ANY (TABLE u) FROM t",
            "SELECT 1 MEMBER OF ('[1]'), j->'$.a', j->>'$.b' FROM t",
        ],
    );
}

#[test]
fn pure_built_in_functions_are_read_in_any_case_and_spacing() {
    all(
        Class::Read,
        &[
            "SELECT UUID(), RAND(), NOW(6), SYSDATE(), CURRENT_USER(), USER(), DATABASE(), SCHEMA(), VERSION()",
            "SELECT count (*), Max (a), substring (b, 1) FROM t",
            "SELECT `abs`(1), `Concat`('a', 'b'), abs/**/(1), abs -- x\n (1)",
            "SELECT NOW() - INTERVAL 1 DAY, DATE_ADD(a, INTERVAL (1) DAY), INTERVAL(1, 2, 3), TIMESTAMPDIFF(DAY, a, b) FROM t",
            "SELECT ST_AsText(ST_Buffer(POINT(1, 2), 3)), MBRContains(a, b), ST_SRID(a, 4326) FROM t",
            "SELECT STRING_TO_VECTOR('[1,2]'), VECTOR_DIM(v) FROM t",
            "SELECT ExtractValue(x, '/a'), UpdateXML(x, '/a', '<b/>') FROM t",
            "SELECT AES_ENCRYPT('a', 'b'), MD5('a'), SHA1('a'), SHA2('a', 256), RANDOM_BYTES(8)",
            "SELECT GTID_SUBSET('a', 'b'), NAME_CONST('a', 1), GET_FORMAT(DATE, 'EUR'), ANY_VALUE(a), INET6_ATON('::1') FROM t",
        ],
    );
}

#[test]
fn definitions_and_plans_are_read() {
    all(
        Class::Read,
        &[
            "SHOW TABLES",
            "SHOW EXTENDED FULL TABLES FROM d LIKE 'a%'",
            "SHOW FULL COLUMNS FROM t LIKE 'a%'",
            "SHOW INDEX FROM t WHERE Key_name = 'PRIMARY'",
            "show create table t",
            "SHOW CREATE TABLE performance_schema.threads",
            "SHOW CREATE PROCEDURE p",
            "SHOW CREATE DATABASE IF NOT EXISTS d",
            "SHOW DATABASES",
            "SHOW TABLE STATUS LIKE 't'",
            "SHOW PROCEDURE STATUS",
            "SHOW CHARACTER SET",
            "SHOW COLLATION WHERE Charset = 'utf8mb4'",
            "SHOW TRIGGERS",
            "SHOW GRANTS FOR 'a'@'%'",
            "SHOW GRANTS FOR root@localhost USING role_1, `role 2`@`%`",
            "SHOW CREATE USER app@'10.%'",
            "DESCRIBE t",
            "DESC t a",
            "DESC d.t 'a%'",
            "EXPLAIN `t`",
            "EXPLAIN SELECT * FROM t",
            "EXPLAIN (SELECT * FROM t)",
            "EXPLAIN ANALYZE SELECT * FROM t",
            "EXPLAIN ANALYZE FORMAT=TREE WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN FORMAT=JSON SELECT * FROM t",
            "EXPLAIN FORMAT = JSON FOR SCHEMA d TABLE t",
            "DESC VALUES ROW(1)",
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
            "SELECT * FROM INFORMATION_SCHEMA . COLUMNS",
            "SELECT host, user FROM mysql.user",
        ],
    );
}

#[test]
fn executable_comments_are_read_as_the_server_reads_them() {
    all(
        Class::Read,
        &[
            "SELECT /*!40001 SQL_NO_CACHE */ * FROM t",
            "/*!40000 SELECT */ 1",
            "/*! SELECT 1 */",
            "SELECT 1 /*!080000 + 1 */",
            "SELECT * FROM t /*!80013 FORCE INDEX (a) */",
            // No server has these versions, and MySQL is no MariaDB: comments.
            "SELECT 1 /*!99999 FOR UPDATE */",
            "SELECT 1 /*!999999 FOR UPDATE */",
            "SELECT 1 /*!999999FOR UPDATE */",
            "SELECT 1 /*!99999 /* nested */ INTO @x */",
            "SELECT 1 /*M! FOR UPDATE */",
            "SELECT 1 /*! /* nested */ + 1 */",
        ],
    );
}
