//! What only one server can answer: a replica would answer, and say something else.

use super::*;

#[test]
fn system_variables_are_read_where_they_are_written() {
    all(
        Class::Unproven,
        &[
            "SELECT @@server_id",
            "SELECT @@global.gtid_executed",
            "SELECT @@session.sql_mode",
            "SELECT @@ version_comment LIMIT 1",
            "SELECT * FROM t WHERE a = @@max_connections",
            "SELECT (SELECT @@x) UNION SELECT 1",
        ],
    );
}

#[test]
fn functions_that_ask_or_wait_for_a_server_go_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "SELECT LOAD_FILE('/x')",
            "SELECT `load_file` ('/x')",
            "SELECT WAIT_FOR_EXECUTED_GTID_SET('x', 1)",
            "SELECT SOURCE_POS_WAIT('x', 1), MASTER_POS_WAIT('x', 1)",
            "SELECT SLEEP(1)",
            "SELECT BENCHMARK(1, 1)",
            "SELECT UUID_SHORT()",
            "SELECT CURRENT_ROLE()",
            "SELECT VALIDATE_PASSWORD_STRENGTH('x')",
        ],
    );
}

#[test]
fn tables_of_what_a_server_does_go_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "SELECT * FROM performance_schema.threads",
            "SELECT * FROM `performance_schema`.threads",
            "TABLE performance_schema . `threads`",
            // Where `\"` quotes names.
            "SELECT * FROM \"performance_schema\".\"threads\"",
            "SELECT * FROM t JOIN sys.schema_table_statistics s",
            "SELECT * FROM information_schema.processlist",
            "SELECT * FROM INFORMATION_SCHEMA.INNODB_TRX",
            "SELECT * FROM information_schema.`plugins`",
            "SELECT * FROM information_schema.events",
            "SELECT * FROM mysql.slow_log",
            "SELECT * FROM mysql.gtid_executed",
            "EXPLAIN SELECT * FROM performance_schema.threads",
        ],
    );
}

#[test]
fn shows_of_what_a_server_does_go_to_the_primary() {
    all(
        Class::Unproven,
        &[
            "SHOW STATUS",
            "SHOW GLOBAL STATUS LIKE 'x'",
            "SHOW VARIABLES LIKE 'x'",
            "SHOW SESSION VARIABLES",
            "SHOW PROCESSLIST",
            "SHOW FULL PROCESSLIST",
            "SHOW REPLICA STATUS",
            "SHOW BINARY LOGS",
            "SHOW BINARY LOG STATUS",
            "SHOW BINLOG EVENTS",
            "SHOW REPLICAS",
            "SHOW ENGINES",
            "SHOW ENGINE INNODB STATUS",
            "SHOW PLUGINS",
            "SHOW OPEN TABLES",
            "SHOW GRANTS",
            "SHOW EVENTS",
            "SHOW CREATE EVENT e",
            "SHOW",
            "SHOW CREATE",
            "SHOW TABLES WHERE my_function(1)",
            "SHOW TABLES WHERE (SELECT 1 FROM performance_schema.threads)",
            "EXPLAIN FOR CONNECTION 4",
            "EXPLAIN FORMAT=JSON FOR CONNECTION 4",
        ],
    );
}

#[test]
fn the_cause_says_what_and_where() {
    let sql = "SELECT a, @@server_id FROM t";
    let cause = verdict(sql).cause;
    assert_eq!(cause.why(), &Why::SystemVariable);
    assert_eq!(cause.range().map(|range| &sql[range]), Some("@@server_id"));

    let sql = "show  create EVENT e";
    let cause = verdict(sql).cause;
    assert_eq!(
        cause.to_string(),
        "`show  create EVENT` tells of one server, not of the data"
    );
    assert_eq!(cause.range(), Some(0..18));
}
