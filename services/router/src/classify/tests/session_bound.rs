//! What uses or changes its session: an error on the shared executor, which names the cure.

use super::*;

#[test]
fn user_variables_are_seen_in_every_clause_and_quoting() {
    bound(
        Session::UserVariables,
        &[
            "SELECT @n",
            "SELECT @ n",
            "SELECT @n := @n + 1",
            "SELECT a := 1 FROM t",
            "SELECT 1 WHERE 1 = @`n`",
            "SELECT a FROM t WHERE b = @'n' OR c = @\"n\"",
            "SELECT ABS(@n.x$y)",
            "SELECT a FROM t ORDER BY @n LIMIT 1",
            "SELECT (SELECT @n)",
            "SELECT * FROM t JOIN (SELECT @r := 0) i",
            "VALUES ROW(@n)",
            "INSERT INTO t VALUES (@n)",
            "UPDATE t SET a = (@n := a)",
            "CALL p(@out)",
            "CREATE TABLE t SELECT @n",
            "SHOW TABLES LIKE @n",
            "SHOW TABLES WHERE a = @n",
            "SET @n = 1",
            "SET @n := 1",
            "/*!80000 SELECT @n */",
            "SELECT 1 /*!50000 + @n */",
        ],
    );
}

#[test]
fn results_go_into_variables_from_every_position() {
    bound(
        Session::UserVariables,
        &[
            "SELECT 1 INTO @n",
            "SELECT a INTO @n FROM t",
            "SELECT a FROM t INTO @n",
            "SELECT a FROM t LIMIT 1 INTO @n FOR UPDATE",
            "TABLE t INTO @a, @b",
            "VALUES ROW(1) INTO @n",
            "(SELECT 1) INTO @n",
            "(SELECT 1) UNION SELECT 2 INTO @n",
            "SELECT 1 INTO @n UNION SELECT 2",
            "WITH a AS (SELECT 1) SELECT * FROM a INTO @n",
            "EXPLAIN FORMAT=JSON INTO @n SELECT 1",
        ],
    );
}

#[test]
fn named_locks_are_seen_in_every_clause_and_spelling() {
    bound(
        Session::NamedLocks,
        &[
            "SELECT GET_LOCK('a', 1)",
            "SELECT GET_LOCK ('a', 1)",
            "SELECT get_lock/**/('a', 1)",
            "SELECT GET_LOCK -- x\n('a', 1)",
            "SELECT `GET_LOCK`('a', 1)",
            "SELECT\u{b}Get_Lock\t('a', 1)",
            "DO RELEASE_LOCK('a')",
            "SELECT RELEASE_ALL_LOCKS()",
            "SELECT IS_USED_LOCK('a')",
            "WITH a AS (SELECT GET_LOCK('a', 1)) SELECT * FROM a",
            "VALUES ROW(GET_LOCK('a', 1))",
            "(SELECT GET_LOCK('a', 1))",
            "SELECT 1 FROM t WHERE IS_FREE_LOCK('a')",
            "SELECT 1 FROM t HAVING CONCAT(GET_LOCK('a', 1), 'x')",
            "SELECT {fn GET_LOCK('a', 1)}",
            "SELECT 1 /*!50000 , GET_LOCK('a', 1) */",
            "EXPLAIN SELECT * FROM (SELECT GET_LOCK('a', 1)) d",
            "UPDATE t SET a = GET_LOCK('a', 1)",
        ],
    );
}

#[test]
fn what_the_statement_before_left_is_not_read_by_anybody_else() {
    bound(
        Session::LastStatement,
        &[
            "SELECT LAST_INSERT_ID()",
            "SELECT `last_insert_id` ( )",
            "SELECT * FROM t WHERE id = LAST_INSERT_ID()",
            "UPDATE t SET a = LAST_INSERT_ID(a + 1)",
            "SELECT @@identity",
            "SELECT @@`identity`",
            "SELECT @@session.last_insert_id",
            "SELECT @@local . `warning_count`",
            "SELECT @@error_count",
            "SELECT SQL_CALC_FOUND_ROWS * FROM t LIMIT 1",
            "SELECT sql_calc_found_rows * FROM t LIMIT 1",
            "SELECT FOUND_ROWS()",
            "SELECT ROW_COUNT()",
            "SHOW WARNINGS LIMIT 1",
            "SHOW ERRORS",
            "SHOW COUNT(*) ERRORS",
            "SHOW PROFILES",
            "SHOW PROFILE CPU FOR QUERY 1",
            "GET DIAGNOSTICS CONDITION 1 a = MESSAGE_TEXT",
            "SELECT * FROM information_schema.OPTIMIZER_TRACE",
            "SELECT * FROM `information_schema` . `profiling`",
        ],
    );
}

#[test]
fn transactions_opened_by_text_are_refused() {
    bound(
        Session::Transactions,
        &[
            "BEGIN",
            "begin work",
            "START TRANSACTION READ ONLY",
            "START /**/ TRANSACTION",
            "commit",
            "ROLLBACK TO a",
            "SAVEPOINT a",
            "RELEASE SAVEPOINT a",
            "XA START 'x'",
            "XA RECOVER",
            "DELETE FROM t; BEGIN",
            "SELECT 1; COMMIT",
            "/*!80000 BEGIN */",
        ],
    );
}

#[test]
fn settings_and_objects_of_the_session_are_refused() {
    bound(
        Session::Settings,
        &[
            "SET NAMES utf8mb4",
            "SET SESSION sql_mode = ''",
            "SET autocommit = 0",
            "SET GLOBAL a = 1, SESSION b = 2",
            "SET @@sql_mode = ''",
            "SET @@SESSION.sql_mode = ''",
            "SET TRANSACTION READ ONLY",
            "SET ROLE NONE",
            "SET RESOURCE GROUP g",
            "SET x := 1",
            "USE other",
            "LOCK TABLES t READ",
            "LOCK INSTANCE FOR BACKUP",
            "UNLOCK TABLES",
            "FLUSH TABLES WITH READ LOCK",
            "FLUSH TABLES a, b FOR EXPORT",
            "PREPARE s FROM 'SELECT 1'",
            "EXECUTE s",
            "DROP PREPARE s",
            "CREATE TEMPORARY TABLE t (a INT)",
            "DROP TEMPORARY TABLE t",
            "HANDLER t OPEN",
            "SELECT CONNECTION_ID()",
            "SELECT @@pseudo_thread_id",
            "KILL CONNECTION_ID()",
            "SELECT 1; SET autocommit = 0",
            "SELECT 1;;USE other; SELECT 2",
            "/*!40101 SET NAMES utf8mb4 */",
        ],
    );
}

#[test]
fn each_error_names_the_cure() {
    for (sql, cure) in [
        ("SELECT @x", "router.pinned()"),
        ("BEGIN", "router.begin()"),
        ("SELECT LAST_INSERT_ID()", "query's own result"),
    ] {
        let said = verdict(sql).cause.to_string();
        assert!(said.contains(cure), "{sql}: {said}");
    }
}
