//! RESTART and CLONE on the MySQL image: a server that ends to be started again is started again in its container, as at first.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail as the test does"
)]

use std::net::Ipv4Addr;
use std::time::Duration;

use harness::{Account, Direction, Pair, Proxy, Server, docker, error_number, wait_until};
use replication::{boot, server_facts};
use sqlx::{AssertSqlSafe, MySqlConnection};

/// For a restart: mysqld may wait 2 s for idle sessions, and boots in one or two.
const RESTARTED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_server_restarts_in_its_container_with_its_rows_its_accounts_and_closed() {
    let pair = donor().await;
    let server = pair.mysql_1();
    let started = started_at(server).await;
    let before = server_facts(&mut arbiter(server).await).await.unwrap();

    restart(server).await;
    let after = server_facts(&mut arbiter(server).await).await.unwrap();
    assert!(after.super_read_only && after.offline_mode, "{after:?}");
    assert_eq!((before.uuid, before.executed), (after.uuid, after.executed));
    assert_eq!(started, started_at(server).await, "another container");
    as_at_first(server).await;

    // As often as it likes; and what the entrypoint has at a boot is not kept twice.
    restart(server).await;
    as_at_first(server).await;
    pair.open(server).await.unwrap();
    for account in Account::ALL {
        server.connect(account).await.unwrap();
    }
    assert_eq!([1, 2, 3].as_slice(), rows(server).await);

    // Its session is a new one, so that it closes the server before it stops it.
    assert_eq!(0, server.stop().await.unwrap());
    let log = server.log().await.unwrap();
    assert_eq!(2, log.matches("asks to be started again").count(), "{log}");
    assert_eq!(1, log.matches("the server is offline").count(), "{log}");
}

#[tokio::test]
async fn a_restart_does_not_wait_for_a_session_of_the_entrypoint_that_was_killed() {
    let pair = donor().await;
    let server = pair.mysql_1();
    // An idle session makes the end 2 s longer: closed by force at last, which the server logs.
    let forced = "Forcing close of thread";
    let of_entrypoint = async || {
        let log = server.log().await.unwrap();
        let lines = log.lines();
        lines
            .filter(|l| l.contains(forced) && l.contains("'entrypoint'"))
            .count()
    };
    restart(server).await;
    let idle = of_entrypoint().await;
    execute(&mut arbiter(server).await, &kill_entrypoint(server).await)
        .await
        .unwrap();
    restart(server).await;
    assert_eq!((1, 1), (idle, of_entrypoint().await));
    // One that was killed and has not been missed is no hindrance at a stop either.
    execute(&mut arbiter(server).await, &kill_entrypoint(server).await)
        .await
        .unwrap();
    assert_eq!(0, server.stop().await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_while_it_restarts_does_not_come_back() {
    let pair = donor().await;
    let server = pair.mysql_1();
    execute(&mut arbiter(server).await, "RESTART")
        .await
        .unwrap();
    server.stop().await.unwrap();
    let state = "--format={{.State.Running}}";
    let running = docker(["inspect", state, server.container()]).await;
    assert_eq!("false", running.unwrap());
    server.restart().await.unwrap();
    pair.open(server).await.unwrap();
    assert_eq!([1, 2, 3].as_slice(), rows(server).await);
}

#[tokio::test]
async fn a_server_is_cloned_without_hands_and_replicates() {
    let pair = donor().await;
    let (donor, recipient) = (pair.mysql_1(), pair.mysql_2());
    have_errant(&pair, recipient).await;
    let started = started_at(recipient).await;
    let before = server_facts(&mut arbiter(recipient).await).await.unwrap();
    let of_donor = server_facts(&mut arbiter(donor).await).await.unwrap();

    clone(&pair, recipient, donor.port()).await;

    assert_eq!(
        Some(("Completed".to_owned(), 0)),
        status(&mut arbiter(recipient).await).await
    );
    let after = server_facts(&mut arbiter(recipient).await).await.unwrap();
    assert!(after.super_read_only && after.offline_mode, "{after:?}");
    assert_eq!(before.uuid, after.uuid);
    assert!(!of_donor.executed.contains(&before.executed));
    assert_eq!(
        (&of_donor.executed, &of_donor.executed),
        (&after.executed, &after.purged)
    );
    assert_eq!(started, started_at(recipient).await, "another container");
    as_at_first(recipient).await;

    pair.follow(recipient, donor.port()).await.unwrap();
    insert(donor, 4).await;
    pair.caught_up(donor, recipient).await.unwrap();
    assert_eq!([1, 2, 3, 4].as_slice(), rows(recipient).await);
    for account in Account::ALL {
        recipient.connect(account).await.unwrap();
    }
}

#[tokio::test]
async fn a_clone_needs_the_certificate_of_a_server_and_a_writable_recipient_and_leaves_it_as_it_was()
 {
    let pair = donor().await;
    let recipient = pair.mysql_2();
    // One that has no schema is not refused for super_read_only: there is nothing to drop.
    have_errant(&pair, recipient).await;
    let mut arbiter = arbiter(recipient).await;
    let before = server_facts(&mut arbiter).await.unwrap();
    execute(&mut arbiter, &donor_list(pair.mysql_1().port()))
        .await
        .unwrap();
    let sql = clone_statement(&pair, pair.mysql_1().port());
    let refused = execute(&mut arbiter, &sql).await.unwrap_err();
    assert_eq!(Some(1290), error_number(&refused.into()));

    let without = "SET GLOBAL super_read_only = OFF; SET GLOBAL clone_ssl_cert = ''; SET GLOBAL clone_ssl_key = ''";
    execute(&mut arbiter, without).await.unwrap();
    let refused = execute(&mut arbiter, &sql).await.unwrap_err().to_string();
    assert!(refused.contains("Access denied"), "{refused}");
    let after = server_facts(&mut arbiter).await.unwrap();
    // What a clone that failed leaves to be put right.
    assert!(!after.super_read_only, "{after:?}");
    assert!(after.offline_mode && after.read_only, "{after:?}");
    assert_eq!((before.uuid, before.executed), (after.uuid, after.executed));
    pair.open(recipient).await.unwrap();
    let mut app = recipient.connect(Account::App).await.unwrap();
    execute(&mut app, "SELECT * FROM ledger.errant")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_recipient_that_is_killed_in_the_middle_boots_closed_and_can_be_cloned_again() {
    let pair = donor().await;
    let (donor, recipient) = (pair.mysql_1(), pair.mysql_2());
    let before = server_facts(&mut arbiter(recipient).await).await.unwrap();
    // A slow link: at most 1 MiB in half a second.
    let link = Proxy::start((Ipv4Addr::LOCALHOST, donor.port()).into())
        .await
        .unwrap();
    link.delay(Direction::ToClient, Duration::from_millis(500));
    let (mut cloning, sql) = (
        arbiter(recipient).await,
        clone_statement(&pair, link.port()),
    );
    for statement in [
        donor_list(link.port()).as_str(),
        "SET GLOBAL super_read_only = OFF",
    ] {
        execute(&mut cloning, statement).await.unwrap();
    }
    let cloning = tokio::spawn(async move { execute(&mut cloning, &sql).await });
    let mut watching = arbiter(recipient).await;
    wait_until("files are being copied", RESTARTED, async || {
        let copying = "SELECT STATE FROM performance_schema.clone_progress WHERE STAGE = 'FILE COPY' AND DATA > 0";
        let state: Option<String> = sqlx::query_scalar(copying)
            .fetch_optional(&mut watching)
            .await
            .unwrap();
        state.as_deref() == Some("In Progress")
    })
    .await
    .unwrap();
    recipient.kill().await.unwrap();
    cloning.await.unwrap().unwrap_err();

    recipient.restart().await.unwrap();
    let mut killed = arbiter(recipient).await;
    let after = server_facts(&mut killed).await.unwrap();
    assert!(after.super_read_only && after.offline_mode, "{after:?}");
    assert_eq!(before.uuid, after.uuid);
    assert!(
        after.executed.is_empty() && after.purged.is_empty(),
        "{after:?}"
    );
    // It never says how that one ended; so "In Progress" after a boot is a failure. (1317 is "interrupted".)
    assert_eq!(
        Some(("In Progress".to_owned(), 1317)),
        status(&mut killed).await
    );

    clone(&pair, recipient, donor.port()).await;
    let after = server_facts(&mut arbiter(recipient).await).await.unwrap();
    assert!(after.super_read_only && after.offline_mode, "{after:?}");
    pair.follow(recipient, donor.port()).await.unwrap();
    pair.caught_up(donor, recipient).await.unwrap();
    assert_eq!([1, 2, 3].as_slice(), rows(recipient).await);
}

/// Two servers, of which mysql-1 is open, without semi-sync: CLONE would hang while a commit waits for its acknowledgement.
async fn donor() -> Pair {
    let pair = Pair::start().await.unwrap();
    pair.open(pair.mysql_1()).await.unwrap();
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await.unwrap();
    execute(
        &mut migrate,
        "CREATE DATABASE ledger; CREATE TABLE ledger.t (id INT PRIMARY KEY)",
    )
    .await
    .unwrap();
    for id in 1..=3 {
        insert(pair.mysql_1(), id).await;
    }
    pair
}

/// Gives a server a history of its own, with which it could not follow the donor, and closes it again.
async fn have_errant(pair: &Pair, server: &Server) {
    pair.open(server).await.unwrap();
    let mut migrate = server.connect(Account::Migrate).await.unwrap();
    let errant = "CREATE DATABASE ledger; CREATE TABLE ledger.errant (id INT PRIMARY KEY)";
    execute(&mut migrate, errant).await.unwrap();
    let close = "SET GLOBAL offline_mode = ON; SET GLOBAL super_read_only = ON";
    execute(&mut arbiter(server).await, close).await.unwrap();
}

async fn insert(server: &Server, id: i32) {
    sqlx::query("INSERT INTO ledger.t VALUES (?)")
        .bind(id)
        .execute(&mut server.connect(Account::App).await.unwrap())
        .await
        .unwrap();
}

async fn rows(server: &Server) -> Vec<i32> {
    sqlx::query_scalar("SELECT id FROM ledger.t ORDER BY id")
        .fetch_all(&mut server.connect(Account::App).await.unwrap())
        .await
        .unwrap()
}

async fn arbiter(server: &Server) -> MySqlConnection {
    server.connect(Account::Arbiter).await.unwrap()
}

async fn execute(connection: &mut MySqlConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(drop)
}

async fn kill_entrypoint(server: &Server) -> String {
    let id: u64 = sqlx::query_scalar(
        "SELECT ID FROM performance_schema.processlist WHERE USER = 'entrypoint'",
    )
    .fetch_one(&mut arbiter(server).await)
    .await
    .unwrap();
    format!("KILL {id}")
}

async fn restart(server: &Server) {
    let mut connection = arbiter(server).await;
    let before = boot(&mut connection).await.unwrap();
    execute(&mut connection, "RESTART").await.unwrap();
    drop(connection);
    booted_after(server, &before).await;
}

/// Waits until a later boot than `before` answers, and the entrypoint has its session with it.
async fn booted_after(server: &Server, before: &str) {
    let booted = wait_until("the server is back", RESTARTED, async || {
        let Ok(mut connection) = server.connect(Account::Arbiter).await else {
            return false;
        };
        let session =
            "SELECT COUNT(*) FROM performance_schema.processlist WHERE USER = 'entrypoint'";
        boot(&mut connection).await.is_ok_and(|now| now != before)
            && sqlx::query_scalar::<_, i64>(session)
                .fetch_one(&mut connection)
                .await
                .is_ok_and(|sessions| sessions > 0)
    });
    if let Err(error) = booted.await {
        panic!("{error}:\n{}", server.log().await.unwrap());
    }
}

/// What there is in the container after any boot.
async fn as_at_first(server: &Server) {
    server.run(&["/usr/local/bin/healthcheck"]).await.unwrap();
    wait_until(
        "the accounts are removed",
        Duration::from_secs(10),
        async || {
            let files = server.run(&["ls", "/run/mysqld"]).await.unwrap();
            !files.contains("accounts.sql")
        },
    )
    .await
    .unwrap();
    // The entrypoint, and itself again as the one that watches the network; for a moment more, while it forks.
    let count = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o '[/]bin/bash /usr/local/bin/entrypoint' | wc -l";
    wait_until("it runs twice", Duration::from_secs(10), async || {
        server.run(&["bash", "-c", count]).await.unwrap() == "2"
    })
    .await
    .unwrap();
}

async fn started_at(server: &Server) -> String {
    let format = "--format={{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
    docker(["inspect", format, server.container()])
        .await
        .unwrap()
}

fn donor_list(port: u16) -> String {
    format!("SET GLOBAL clone_valid_donor_list = '127.0.0.1:{port}'")
}

fn clone_statement(pair: &Pair, port: u16) -> String {
    let password = pair
        .identities()
        .password(Account::Replication.user())
        .unwrap();
    format!(
        "CLONE INSTANCE FROM 'replication'@'127.0.0.1':{port} IDENTIFIED BY '{password}' REQUIRE SSL"
    )
}

/// Clones `recipient` from what listens on `port`, as the arbiter does it; returns when it is back.
async fn clone(pair: &Pair, recipient: &Server, port: u16) {
    let mut connection = arbiter(recipient).await;
    let before = boot(&mut connection).await.unwrap();
    execute(&mut connection, &donor_list(port)).await.unwrap();
    execute(&mut connection, "SET GLOBAL super_read_only = OFF")
        .await
        .unwrap();
    let facts = server_facts(&mut connection).await.unwrap();
    assert!(facts.read_only && facts.offline_mode, "{facts:?}");
    let ended = execute(&mut connection, &clone_statement(pair, port)).await;
    // 3707: it could not be started again.
    if let Err(sqlx::Error::Database(error)) = &ended {
        panic!("{error}");
    }
    booted_after(recipient, &before).await;
}

/// State and error of the last CLONE.
async fn status(connection: &mut MySqlConnection) -> Option<(String, i32)> {
    let sql = "SELECT STATE, ERROR_NO FROM performance_schema.clone_status";
    sqlx::query_as(sql)
        .fetch_optional(connection)
        .await
        .unwrap()
}
