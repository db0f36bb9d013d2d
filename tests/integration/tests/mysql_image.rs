//! The MySQL image: what it refuses to boot on, how it boots, whom it lets in, how it stops.
#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail as the test does"
)]

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{Account, Identities, MysqlImage, Pair, Server, error_number, run, wait_until};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::task::JoinSet;

const ACCESS_DENIED: Option<u16> = Some(1045);
const OFFLINE: Option<u16> = Some(3032);

/// Replaces all that a server has.
const CLONE: &str = "CLONE INSTANCE FROM 'replication'@'127.0.0.1':1 IDENTIFIED BY 'x'";

/// The entrypoint's exit status for what a person has to put right.
const CONFIGURATION: Option<i32> = Some(78);

#[tokio::test]
async fn a_server_boots_closed_and_lets_the_arbiter_alone_in() {
    let server = server().await;
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    for (variable, expected) in [
        ("super_read_only", "1"),
        ("offline_mode", "1"),
        ("skip_replica_start", "1"),
        ("gtid_executed", ""),
        ("rpl_semi_sync_source_enabled", "0"),
        ("rpl_semi_sync_replica_enabled", "1"),
        ("rpl_semi_sync_source_wait_point", "AFTER_SYNC"),
        ("rpl_semi_sync_source_wait_no_replica", "1"),
        ("rpl_semi_sync_source_timeout", "1000000000000000000"),
        ("relay_log_recovery", "0"),
        ("sync_relay_log", "1"),
        ("replica_net_timeout", "2"),
        ("sync_binlog", "1"),
        ("innodb_flush_log_at_trx_commit", "1"),
        ("gtid_mode", "ON"),
        ("binlog_format", "ROW"),
        ("binlog_row_image", "FULL"),
        ("binlog_row_metadata", "FULL"),
        ("binlog_rows_query_log_events", "1"),
        ("binlog_expire_logs_seconds", "259200"),
        ("clone_ssl_ca", "/run/holdfast/pki/current/ca.crt"),
        ("clone_ssl_cert", "/run/holdfast/pki/current/tls.crt"),
        ("clone_ssl_key", "/run/holdfast/pki/current/tls.key"),
        ("require_secure_transport", "1"),
        ("performance_schema", "1"),
        ("lower_case_table_names", "0"),
        ("innodb_page_size", "16384"),
        ("collation_server", "utf8mb4_0900_ai_ci"),
        ("sql_require_primary_key", "1"),
    ] {
        assert_eq!(expected, global(&mut arbiter, variable).await, "{variable}");
    }
    for account in Account::ALL
        .into_iter()
        .filter(|account| *account != Account::Arbiter)
    {
        assert_eq!(
            OFFLINE,
            error_number(&server.connect(account).await.unwrap_err()),
            "{account:?}"
        );
    }
    server.run(&["/usr/local/bin/healthcheck"]).await.unwrap();
}

#[tokio::test]
async fn every_account_is_there_after_a_boot_and_root_is_not() {
    let pair = Pair::replicating().await.unwrap();
    for account in Account::ALL {
        for server in [pair.mysql_1(), pair.mysql_2()] {
            server.connect(account).await.unwrap();
        }
    }
    let root = pair
        .mysql_1()
        .run(&[
            "mysql",
            "--no-defaults",
            "--socket=/run/mysqld/mysqld.sock",
            "--user=root",
        ])
        .await
        .unwrap_err();
    assert!(root.to_string().contains("ERROR 1045"), "{root}");
}

#[tokio::test]
async fn an_account_may_do_what_its_role_needs_and_no_more() {
    let pair = Pair::replicating().await.unwrap();
    let server = pair.mysql_1();
    let mut migrate = server.connect(Account::Migrate).await.unwrap();
    for allowed in [
        "CREATE TABLE ledger.t (id INT PRIMARY KEY, n INT)",
        "CREATE TRIGGER ledger.positive BEFORE INSERT ON ledger.t FOR EACH ROW SET NEW.n = ABS(NEW.n)",
        "SELECT * FROM holdfast.cluster",
    ] {
        sqlx::raw_sql(allowed).execute(&mut migrate).await.unwrap();
    }
    let mut app = server.connect(Account::App).await.unwrap();
    for allowed in [
        "INSERT INTO ledger.t VALUES (1, -1)",
        "UPDATE ledger.t SET n = 2",
        "DELETE FROM ledger.t",
        "SELECT epoch, in_sync FROM holdfast.cluster",
        "SELECT beat FROM holdfast.heartbeat",
        "SELECT * FROM performance_schema.replication_connection_status",
        "SELECT * FROM performance_schema.replication_applier_status",
        "SELECT * FROM performance_schema.replication_applier_status_by_worker",
        "SELECT @@GLOBAL.gtid_executed, WAIT_FOR_EXECUTED_GTID_SET('', 1)",
    ] {
        sqlx::raw_sql(allowed)
            .execute(&mut app)
            .await
            .unwrap_or_else(|error| panic!("{allowed}: {error}"));
    }
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    for allowed in ["SHOW BINARY LOGS", "SHOW BINLOG EVENTS LIMIT 1"] {
        sqlx::raw_sql(allowed).execute(&mut arbiter).await.unwrap();
    }
    let mut replication = server.connect(Account::Replication).await.unwrap();
    sqlx::raw_sql("LOCK INSTANCE FOR BACKUP; UNLOCK INSTANCE")
        .execute(&mut replication)
        .await
        .unwrap();
    for (account, refused) in [
        (Account::App, "DROP TABLE ledger.t"),
        (
            Account::App,
            "UPDATE holdfast.cluster SET epoch = epoch + 1",
        ),
        (Account::App, "SET GLOBAL super_read_only = OFF"),
        (Account::App, "SELECT * FROM mysql.user"),
        (Account::Migrate, "DELETE FROM holdfast.cluster"),
        (Account::Migrate, "CREATE DATABASE another"),
        (Account::Replication, "SELECT * FROM holdfast.cluster"),
        (Account::Replication, "SET GLOBAL offline_mode = OFF"),
        (Account::Replication, "RESTART"),
        (Account::Replication, CLONE),
        (Account::Monitor, "SHOW BINLOG EVENTS"),
        (Account::Backup, "RESTART"),
        (Account::Backup, CLONE),
        (Account::Monitor, "SELECT * FROM ledger.t"),
        (Account::Backup, "INSERT INTO ledger.t VALUES (2, 2)"),
        (Account::Arbiter, "SELECT * FROM ledger.t"),
    ] {
        let mut connection = server.connect(account).await.unwrap();
        let error = sqlx::raw_sql(refused)
            .execute(&mut connection)
            .await
            .expect_err(refused)
            .into();
        assert!(
            matches!(error_number(&error), Some(1044 | 1142 | 1227)),
            "{refused}: {error}"
        );
    }
}

#[tokio::test]
async fn an_account_is_refused_with_the_certificate_of_another_role_or_with_none_or_with_a_wrong_password()
 {
    let pair = Pair::replicating().await.unwrap();
    let server = pair.mysql_1();
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    assert_eq!(replication::refused_logins(&mut arbiter).await.unwrap(), 0);
    let mut refused = 0;
    for account in Account::ALL {
        for consumer in [
            "balancer-1",
            "web-1",
            "mysql-1",
            "arbiter",
            "migrate",
            "prometheus",
        ] {
            let options = server
                .options_with_certificate_of(account, consumer)
                .unwrap();
            let same_role = consumer == account.consumer();
            refused += u64::from(!same_role);
            assert_eq!(
                if same_role { None } else { ACCESS_DENIED },
                refusal(&options).await,
                "{account:?} as {consumer}"
            );
        }
        let certificate = server.options(account).unwrap();
        assert_eq!(
            ACCESS_DENIED,
            refusal(&certificate.password("not-the-password")).await,
            "{account:?}"
        );
        let ca = pair.identities().of("web-1").join("current/ca.crt");
        let none = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(server.port())
            .username(account.user())
            .password(&pair.identities().password(account.user()).unwrap())
            .ssl_mode(MySqlSslMode::VerifyIdentity)
            .ssl_ca(ca);
        assert_eq!(ACCESS_DENIED, refusal(&none).await, "{account:?}");
        refused += 2;
    }
    // The server counts each of them, for the arbiter's metric.
    assert_eq!(
        replication::refused_logins(&mut arbiter).await.unwrap(),
        refused
    );
}

#[tokio::test]
async fn plain_text_is_refused_on_tcp() {
    let pair = Pair::replicating().await.unwrap();
    for account in Account::ALL {
        let options = pair.mysql_1().options(account).unwrap();
        // Once over TLS, for then the server knows the password's digest, and a client may try without sending the password itself.
        assert_eq!(None, refusal(&options).await, "{account:?}");
        let options = options.ssl_mode(MySqlSslMode::Disabled);
        // Refused for want of a certificate, before require_secure_transport is asked (3159).
        assert_eq!(ACCESS_DENIED, refusal(&options).await, "{account:?}");
    }
}

#[tokio::test]
async fn a_password_is_in_no_argument_and_no_environment_and_the_rendered_accounts_are_gone() {
    let identities = Identities::make().unwrap();
    let server = Server::start("mysql-1", &identities).await.unwrap();
    wait_until(
        "the accounts are removed",
        Duration::from_secs(10),
        async || {
            server
                .run(&["ls", "/run/mysqld"])
                .await
                .is_ok_and(|files| !files.contains("accounts.sql"))
        },
    )
    .await
    .unwrap();
    // Its own arguments hold the pattern; a shell's pipe would hide a failure of the first command.
    let visible = server
        .run(&[
            "bash",
            "-c",
            "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'",
        ])
        .await
        .unwrap();
    assert!(
        visible.contains("--init-file=") && visible.contains("HOLDFAST_MYSQL_SERVER_ID=1"),
        "{visible}"
    );
    for account in Account::ALL {
        assert!(
            !visible.contains(&identities.password(account.user()).unwrap()),
            "{account:?}"
        );
    }
}

#[tokio::test]
async fn a_commit_that_waits_for_the_replica_is_never_answered_ok_by_a_stop() {
    let mut pair = Pair::replicating().await.unwrap();
    create_table(&pair).await;
    pair.stop_heartbeat();
    pair.mysql_2().kill().await.unwrap();

    const CLIENTS: i32 = 64;
    let mut commits = JoinSet::new();
    for id in 0..CLIENTS {
        let mut app = pair.mysql_1().connect(Account::App).await.unwrap();
        commits.spawn(async move {
            sqlx::query("INSERT INTO ledger.t VALUES (?)")
                .bind(id)
                .execute(&mut app)
                .await
                .map(drop)
        });
    }
    // The arbiter stays connected when a server goes offline, so it is closed in another way.
    let mut heart = pair.mysql_1().connect(Account::Arbiter).await.unwrap();
    commits.spawn(async move {
        let beat = "INSERT INTO holdfast.heartbeat VALUES ('last', 1, NOW(6))";
        sqlx::raw_sql(beat).execute(&mut heart).await.map(drop)
    });
    let mut arbiter = pair.mysql_1().connect(Account::Arbiter).await.unwrap();
    // One of a group waits for all of it; the others wait for that one, or for their turn.
    wait_until(
        "all commits wait for an acknowledgement",
        Duration::from_secs(30),
        async || {
            waiting(&mut arbiter, "Waiting for semi-sync ACK from replica").await == 1
                && waiting(&mut arbiter, "waiting for handler commit").await == i64::from(CLIENTS)
        },
    )
    .await
    .unwrap();

    assert_eq!(0, pair.mysql_1().stop().await.unwrap());
    let answers = commits.join_all().await;
    let acknowledged = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(
        (CLIENTS as usize + 1, 0),
        (answers.len(), acknowledged),
        "{:?}",
        pair.mysql_1().log().await
    );
}

#[tokio::test]
async fn data_survives_a_stop_and_a_crash_and_the_server_is_closed_after_each() {
    let pair = Pair::replicating().await.unwrap();
    create_table(&pair).await;
    let server = pair.mysql_1();
    let uuid = global(
        &mut server.connect(Account::Arbiter).await.unwrap(),
        "server_uuid",
    )
    .await;

    for (row, stop_cleanly) in [(1, true), (2, false)] {
        let mut app = server.connect(Account::App).await.unwrap();
        sqlx::query("INSERT INTO ledger.t VALUES (?)")
            .bind(row)
            .execute(&mut app)
            .await
            .unwrap();
        let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
        // A setting that a person made must not open it either.
        sqlx::raw_sql("SET PERSIST offline_mode = OFF")
            .execute(&mut arbiter)
            .await
            .unwrap();
        if stop_cleanly {
            assert_eq!(
                0,
                server.stop().await.unwrap(),
                "{}",
                server.log().await.unwrap()
            );
        } else {
            server.kill().await.unwrap();
        }
        server.restart().await.unwrap();

        let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
        assert_eq!("1", global(&mut arbiter, "offline_mode").await);
        assert_eq!("1", global(&mut arbiter, "super_read_only").await);
        assert_eq!(
            "0",
            global(&mut arbiter, "rpl_semi_sync_source_enabled").await
        );
        assert_eq!(uuid, global(&mut arbiter, "server_uuid").await);
        pair.open(server).await.unwrap();
        let mut app = server.connect(Account::App).await.unwrap();
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ledger.t")
            .fetch_one(&mut app)
            .await
            .unwrap();
        assert_eq!(row, rows);
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_killed_within_the_deadline() {
    let server = server().await;
    server
        .run(&["bash", "-c", "kill -STOP $(< /run/mysqld/mysqld.pid)"])
        .await
        .unwrap();
    let asked = Instant::now();
    assert_eq!(137, server.stop().await.unwrap());
    assert!(
        asked.elapsed() < Duration::from_secs(12),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        server
            .log()
            .await
            .unwrap()
            .contains("may still acknowledge")
    );
    server.restart().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_that_was_left_half_made_is_made_again() {
    let directory = run::directory("half-made").unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join(".initialising"), "").unwrap();
    fs::write(data.join("ibdata1"), "half").unwrap();
    let server = Server::start_on("mysql-1", &Identities::make().unwrap(), directory)
        .await
        .unwrap();
    let mut arbiter = server.connect(Account::Arbiter).await.unwrap();
    assert_eq!("", global(&mut arbiter, "gtid_executed").await);
    assert_eq!("1", global(&mut arbiter, "offline_mode").await);
    assert!(server.log().await.unwrap().contains("making it again"));
}

#[tokio::test]
async fn a_data_directory_that_was_in_use_is_never_made_again() {
    let (identity, data) = (
        Identities::make().unwrap(),
        run::directory("in-use").unwrap(),
    );
    fs::write(data.path().join(".initialising"), "").unwrap();
    fs::write(data.path().join("binlog.index"), "").unwrap();
    MysqlImage::get().await.unwrap().give(data.path()).unwrap();
    let ended = boot(&identity, &[&volume(data.path(), "/var/lib/mysql")]).await;
    refused_with(&ended, "/var/lib/mysql/.initialising");
    assert!(data.path().join("binlog.index").exists());
}

#[tokio::test]
async fn an_image_without_a_plugin_is_refused_by_name() {
    let server = server().await;
    let plugins = server
        .run(&[
            "bash",
            "-c",
            "mysqld --no-defaults --verbose --help 2>/dev/null | grep ^plugin-dir",
        ])
        .await
        .unwrap();
    let plugins = plugins.split_whitespace().last().unwrap();
    let ended = boot(
        &Identities::make().unwrap(),
        &[&format!("--tmpfs={plugins}")],
    )
    .await;
    refused_with(&ended, "semisync_source.so");
}

#[tokio::test]
async fn bad_secrets_and_a_missing_identity_are_refused_by_file() {
    for (content, complaint) in [
        (None, "cannot read the secret"),
        (Some(""), "malformed"),
        (Some("quo'te-quo'te-quo'te"), "malformed"),
    ] {
        let identities = Identities::make().unwrap();
        let secret = identities
            .of("mysql-1")
            .join("current/secrets/mysql_app_password");
        match content {
            Some(content) => fs::write(&secret, content).unwrap(),
            None => fs::remove_file(&secret).unwrap(),
        }
        let ended = boot(&identities, &[]).await;
        refused_with(
            &ended,
            "/run/holdfast/pki/current/secrets/mysql_app_password",
        );
        refused_with(&ended, complaint);
        assert!(
            content.is_none_or(|content| content.is_empty() || !said(&ended).contains(content)),
            "the secret is in the log"
        );
    }
    let identities = Identities::make().unwrap();
    fs::remove_file(identities.of("mysql-1").join("current/tls.key")).unwrap();
    refused_with(
        &boot(&identities, &[]).await,
        "/run/holdfast/pki/current/tls.key",
    );
}

#[tokio::test]
async fn a_wrong_environment_is_refused_by_variable() {
    for (setting, variable) in [
        (
            "--env=HOLDFAST_MYSQL_SERVER_ID=",
            "HOLDFAST_MYSQL_SERVER_ID",
        ),
        (
            "--env=HOLDFAST_MYSQL_SERVER_ID=one",
            "HOLDFAST_MYSQL_SERVER_ID",
        ),
        ("--env=HOLDFAST_MYSQL_PORT=mysql", "HOLDFAST_MYSQL_PORT"),
        (
            "--env=HOLDFAST_MYSQL_BUFFER_POOL=big",
            "HOLDFAST_MYSQL_BUFFER_POOL",
        ),
        (
            "--env=HOLDFAST_MYSQL_STOP_SECONDS=0",
            "HOLDFAST_MYSQL_STOP_SECONDS",
        ),
    ] {
        refused_with(
            &boot(&Identities::make().unwrap(), &[setting]).await,
            variable,
        );
    }
}

async fn server() -> Server {
    Server::start("mysql-1", &Identities::make().unwrap())
        .await
        .unwrap()
}

async fn create_table(pair: &Pair) {
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await.unwrap();
    sqlx::raw_sql("CREATE TABLE ledger.t (id INT PRIMARY KEY)")
        .execute(&mut migrate)
        .await
        .unwrap();
    pair.caught_up(pair.mysql_1(), pair.mysql_2())
        .await
        .unwrap();
}

/// Runs the image as mysql-1 of `identities`, without a network and with more options, until it gives up.
async fn boot(identities: &Identities, options: &[&str]) -> Output {
    let identity = volume(&identities.of("mysql-1"), "/run/holdfast/pki");
    let mut all = vec![
        "--network=none",
        &identity,
        "--env=HOLDFAST_MYSQL_SERVER_ID=1",
    ];
    all.extend(options);
    MysqlImage::get()
        .await
        .unwrap()
        .run_to_end(&all)
        .await
        .unwrap()
}

fn volume(from: &std::path::Path, to: &str) -> String {
    format!("--volume={}:{to}", from.display())
}

fn refused_with(ended: &Output, text: &str) {
    assert_eq!(CONFIGURATION, ended.status.code(), "{}", said(ended));
    assert!(
        said(ended).contains(text),
        "no {text:?} in:\n{}",
        said(ended)
    );
}

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// The error with which a login is refused; none when it is not.
async fn refusal(options: &MySqlConnectOptions) -> Option<u16> {
    let login: Result<MySqlConnection> = options.connect().await.map_err(Into::into);
    match login {
        Ok(connection) => {
            connection.close().await.unwrap();
            None
        }
        Err(error) => Some(
            error_number(&error)
                .unwrap_or_else(|| panic!("not an answer of the server: {error:#}")),
        ),
    }
}

async fn global(connection: &mut MySqlConnection, variable: &str) -> String {
    let sql = format!("SELECT CAST(@@GLOBAL.{variable} AS CHAR)");
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Sessions in this state.
async fn waiting(connection: &mut MySqlConnection, state: &str) -> i64 {
    let sql = "SELECT COUNT(*) FROM performance_schema.processlist WHERE STATE = ?";
    sqlx::query_scalar(sql)
        .bind(state)
        .fetch_one(connection)
        .await
        .unwrap()
}
