//! What an errant server is about to lose, read from the binary logs of a real one.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail as the test does"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use arbiter::discarded::{Saved, list, read, save};
use harness::{Account, Pair, Server, run, wait_until};
use replication::{GtidSet, server_facts};
use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, MySqlConnection};

const ROOM: u64 = 1 << 20;

#[tokio::test]
async fn what_is_errant_and_nothing_else_is_saved_in_a_form_that_a_person_reads() {
    let (pair, mut migrate) = open("b VARBINARY(16), s VARCHAR(99)").await;
    let server = pair.mysql_1();
    let mut app = server.connect(Account::App).await.unwrap();
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    insert(&mut app, 1, b"before").await;
    let kept = executed(server).await;

    execute(&mut migrate, "ALTER TABLE ledger.t ADD n INT").await;
    insert(&mut app, 2, b"\0\xff'\\\x1b[2J").await;
    let both = "BEGIN; UPDATE ledger.t SET s = 'x;\ny' WHERE id = 1; DELETE FROM ledger.t WHERE id = 2; COMMIT";
    execute(&mut app, both).await;
    execute(&mut arbiter, "FLUSH BINARY LOGS").await;
    execute(
        &mut arbiter,
        "SET GLOBAL binlog_rows_query_log_events = OFF",
    )
    .await;
    let mut app = server.connect(Account::App).await.unwrap();
    insert(&mut app, 3, b"alone").await;
    execute(&mut arbiter, "CREATE DATABASE holdfast").await;
    let beat = "SET SESSION gtid_next = 'AUTOMATIC:arbiter'; CREATE TABLE holdfast.beat (id INT PRIMARY KEY)";
    execute(&mut arbiter, beat).await;
    let errant = executed(server).await.subtract(&kept);
    assert_eq!(6, errant.count());
    execute(&mut arbiter, "SET SESSION gtid_next = 'AUTOMATIC'").await;
    execute(&mut arbiter, "FLUSH BINARY LOGS").await;
    insert(&mut app, 4, b"after").await;

    let (saved, text) = save_from(server, &errant, ROOM).await;
    assert_eq!(
        (6, 0, 0),
        (saved.transactions, saved.left_out, saved.missing),
        "{text}"
    );
    assert_eq!(text.len() as u64, saved.bytes);
    let (head, entries) = text.split_once("\n\n").unwrap();
    assert!(head.contains(&format!("discarded: 6 ({errant})")), "{head}");
    let uuid = server_facts(&mut arbiter).await.unwrap().uuid;
    let said: Vec<&str> = entries
        .lines()
        .filter(|line| !line.starts_with(&format!("-- {uuid}:")) && !line.is_empty())
        .collect();
    assert_eq!(
        [
            "ALTER TABLE ledger.t ADD n INT;",
            "INSERT INTO ledger.t (id, b) VALUES (2, '\\0\\xff\\'\\\\\\u{1b}[2J');",
            "-- rows written to ledger.t (1 event)",
            "UPDATE ledger.t SET s = 'x;",
            "y' WHERE id = 1;",
            "-- rows updated in ledger.t (1 event)",
            "DELETE FROM ledger.t WHERE id = 2;",
            "-- rows deleted from ledger.t (1 event)",
            "-- no statement was logged; rows written to ledger.t (1 event)",
            "CREATE DATABASE holdfast;",
            "CREATE TABLE holdfast.beat (id INT PRIMARY KEY);",
        ]
        .as_slice(),
        said,
        "{text}"
    );
    assert!(entries.contains(":arbiter:1 (binlog.00000"), "{entries}");
}

#[tokio::test]
async fn what_has_no_room_and_what_is_in_no_log_any_more_is_named() {
    let (pair, _) = open("b VARBINARY(60000)").await;
    let server = pair.mysql_1();
    let mut app = server.connect(Account::App).await.unwrap();
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    let purged = executed(server).await;
    execute(
        &mut arbiter,
        "SET GLOBAL binlog_expire_logs_seconds = 1; FLUSH BINARY LOGS",
    )
    .await;
    // A log is purged by a flush, once the second is over in which it was written last.
    wait_until("a log is purged", Duration::from_secs(30), async || {
        execute(&mut arbiter, "FLUSH BINARY LOGS").await;
        server_facts(&mut arbiter).await.unwrap().purged == purged
    })
    .await
    .unwrap();
    execute(
        &mut arbiter,
        "SET GLOBAL binlog_expire_logs_seconds = 259200",
    )
    .await;
    insert(&mut app, 1, b"small").await;
    insert(&mut app, 2, &[b'x'; 50_000]).await;
    insert(&mut app, 3, b"small, too").await;
    let all = executed(server).await;
    let uuid = server_facts(&mut arbiter).await.unwrap().uuid;

    let (saved, text) = save_from(server, &all, 8192).await;
    assert_eq!(
        (2, 1, 2),
        (saved.transactions, saved.left_out, saved.missing),
        "{text}"
    );
    assert!(saved.bytes <= 8192, "{}", saved.bytes);
    for said in [
        format!("-- left out: 1 ({uuid}:4): "),
        format!("-- not found: 2 ({purged}): "),
        "small, too".to_owned(),
    ] {
        assert!(text.contains(&said), "{said}: {text}");
    }
    let nothing = save_from(server, &GtidSet::default(), 8192).await.0;
    assert_eq!((0, 0), (nothing.transactions, nothing.missing));
}

#[tokio::test]
async fn a_log_of_more_events_than_are_asked_for_at_a_time_is_read_to_its_end() {
    let (pair, _) = open("b VARBINARY(16)").await;
    let server = pair.mysql_1();
    let mut app = server.connect(Account::App).await.unwrap();
    let kept = executed(server).await;
    // Three events a statement.
    let mut transaction = "BEGIN".to_owned();
    for id in 0..8000 {
        transaction += &format!("; INSERT INTO ledger.t (id) VALUES ({id})");
    }
    execute(&mut app, &(transaction + "; COMMIT")).await;
    insert(&mut app, 8000, b"last").await;
    let errant = executed(server).await.subtract(&kept);

    let (saved, text) = save_from(server, &errant, ROOM).await;
    assert_eq!(
        (2, 0, 0),
        (saved.transactions, saved.left_out, saved.missing)
    );
    assert_eq!(8001, text.matches("INSERT INTO").count());
    assert_eq!(8001, text.matches("-- rows written to ledger.t").count());
}

/// mysql-1 is open, without semi-sync, and has a table `ledger.t` with an `id` and these columns; with the connection that made it.
async fn open(columns: &str) -> (Pair, MySqlConnection) {
    let pair = Pair::start().await.unwrap();
    pair.open(pair.mysql_1()).await.unwrap();
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await.unwrap();
    execute(&mut migrate, "CREATE DATABASE ledger").await;
    let table = format!("CREATE TABLE ledger.t (id INT PRIMARY KEY, {columns})");
    execute(&mut migrate, &table).await;
    (pair, migrate)
}

/// Closes the server, as an errant one is, and saves what it is about to lose.
async fn save_from(server: &Server, errant: &GtidSet, bytes_max: u64) -> (Saved, String) {
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    let close = "SET GLOBAL offline_mode = ON; SET GLOBAL super_read_only = ON";
    execute(&mut arbiter, close).await;
    let state = run::directory("discarded").unwrap();
    let directory = state.path().join("discarded");
    let now = OffsetDateTime::now_utc();
    let saved = save(
        &mut arbiter,
        server.name(),
        errant,
        &directory,
        bytes_max,
        now,
    )
    .await
    .unwrap();
    let names = list(&directory).unwrap();
    assert_eq!(directory.join(&names[0]), saved.path);
    assert_eq!(names.len(), 1);
    assert!(names[0].contains("mysql-1"), "{names:?}");
    let mode = fs::metadata(&saved.path).unwrap().permissions().mode();
    assert_eq!(0o600, mode & 0o777);
    (saved, read(&directory, &names[0]).unwrap())
}

async fn executed(server: &Server) -> GtidSet {
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    server_facts(&mut arbiter).await.unwrap().executed
}

/// By a prepared statement, as the web servers do it.
async fn insert(app: &mut MySqlConnection, id: i32, bytes: &[u8]) {
    sqlx::query("INSERT INTO ledger.t (id, b) VALUES (?, ?)")
        .bind(id)
        .bind(bytes)
        .execute(app)
        .await
        .unwrap();
}

async fn execute(connection: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql:.200}: {error}"));
}
