//! `&Router` in place of `&MySqlPool`: every way to ask that sqlx has, through a plain pool and through a router, with the answers
//! compared; and a whole application, the router's example, compiled once for each and called over HTTP.
//!
//! What is compared is text: everything that a caller can see of an answer or of an error.

#![allow(clippy::duplicate_mod)] // one source for two types is what is tested

mod router_common;

#[path = "../../../services/router/examples/guestbook/on_pool.rs"]
mod on_pool;
#[path = "../../../services/router/examples/guestbook/on_router.rs"]
mod on_router;

use std::{
    fmt::{Debug, Write as _},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use harness::{Account, Pair, wait_until};
use reqwest::{Client, Method};
use router_common::{SOON, Web, as_arbiter, config, same};
use serde_json::{Value, json};
use sqlx::{
    Acquire, AssertSqlSafe, Column, Either, Execute, MySql, MySqlExecutor, MySqlPool, QueryBuilder,
    Row, SqlSafeStr, Statement, TypeInfo,
    migrate::Migrator,
    mysql::{MySqlPoolOptions, MySqlQueryResult, MySqlRow, MySqlStatement},
};
use tokio::net::TcpListener;

/// The example's tables, without sqlx's own record of them.
const GUESTBOOK: &str =
    include_str!("../../../services/router/examples/guestbook/migrations/0001_guestbook.sql");

/// A long answer, so that a stream of it can be dropped half-way.
const MANY: &str = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 500) SELECT a.n * 1000 + b.n AS n FROM c a, c b";

/// One pair for all: each part makes its tables anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_does_what_a_pool_does() -> Result<()> {
    let pair = Pair::replicating().await?;
    let pool = MySqlPoolOptions::new()
        .connect_with(pair.mysql_1().options(Account::App)?.database("ledger"))
        .await?;
    let web = Web::start(&pair, config(&pair)).await?;

    every_way_to_ask_has_the_same_answer(&pair, &pool, &web).await?;
    streams_that_are_dropped_half_way_leave_no_trace(&pair, &pool, &web).await?;
    what_the_driver_gives_up_costs_no_connection(&pair, &web).await?;
    the_example_answers_the_same_on_either(&pair, &pool, &web).await?;
    what_takes_a_connection_does_what_it_does_with_a_pool(&pair, &pool, &web).await?;
    what_was_written_on_such_a_connection_is_read_in_the_session(&pair, &web).await?;
    migrations_run_on_either(&pair).await
}

/// The tables as they are at first, on both servers.
async fn fresh_tables(pair: &Pair) -> Result<()> {
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
    let mut sql = "USE ledger; DROP TABLE IF EXISTS notes, guests, items;\
        CREATE TABLE items (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20) NOT NULL, size INT NULL, UNIQUE by_name (name));"
        .to_owned();
    sql.push_str(GUESTBOOK);
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut migrate)
        .await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await
}

async fn every_way_to_ask_has_the_same_answer(
    pair: &Pair,
    pool: &MySqlPool,
    web: &Web,
) -> Result<()> {
    fresh_tables(pair).await?;
    let by_pool = transcript(pool).await;
    fresh_tables(pair).await?;
    web.is_whole().await?;
    let by_router = transcript(&web.session()).await;
    ensure!(by_pool.lines().count() > 40, "{by_pool}");
    compare(&by_pool, &by_router)?;
    // Both servers have had a part in it.
    let sent =
        async |target: &str, reason: &str| web.metric("router_statements_total", &[target, reason]);
    ensure!(sent("replica", "fresh").await? > 0.0 || sent("primary", "stale").await? > 0.0);
    ensure!(sent("primary", "write").await? > 5.0);
    Ok(())
}

/// What a caller sees, a line for each answer.
#[derive(Default)]
struct Seen(String);

impl Seen {
    fn note(&mut self, what: &str, answer: impl Debug) {
        let _ = writeln!(self.0, "{what}: {answer:?}");
    }

    fn result<T: Debug>(&mut self, what: &str, answer: Result<T, sqlx::Error>) {
        match answer {
            Ok(answer) => self.note(what, answer),
            Err(error) => self.error(what, &error),
        }
    }

    /// All that sqlx tells of an error.
    fn error(&mut self, what: &str, error: &sqlx::Error) {
        let database = error.as_database_error().map(|error| {
            (
                error.code().map(|code| code.into_owned()),
                error.message().to_owned(),
                format!("{:?}", error.kind()),
                error.constraint().map(str::to_owned),
            )
        });
        self.note(what, (error.to_string(), database));
    }
}

fn done(result: MySqlQueryResult) -> (u64, u64) {
    (result.rows_affected(), result.last_insert_id())
}

fn cells(row: MySqlRow) -> Vec<(String, String)> {
    let columns = row.columns().iter();
    let cells = columns.map(|column| {
        (
            column.name().to_owned(),
            column.type_info().name().to_owned(),
        )
    });
    cells.collect()
}

/// Asks in every way there is; generic, as a repository is.
async fn transcript<'e, E: MySqlExecutor<'e> + Copy>(db: E) -> String {
    let mut seen = Seen::default();
    writes(db, &mut seen).await;
    reads(db, &mut seen).await;
    several(db, &mut seen).await;
    prepared(db, &mut seen).await;
    errors(db, &mut seen).await;
    seen.0
}

async fn writes<'e, E: MySqlExecutor<'e> + Copy>(db: E, seen: &mut Seen) {
    let one = sqlx::query("INSERT INTO items (name, size) VALUES (?, ?)")
        .bind("one")
        .bind(1)
        .execute(db)
        .await;
    seen.result("execute", one.map(done));
    let unprepared = sqlx::query("INSERT INTO items (name, size) VALUES (?, ?)")
        .bind("two")
        .bind(None::<i32>)
        .persistent(false)
        .execute(db)
        .await;
    seen.result("not persistent", unprepared.map(done));
    let mut built = QueryBuilder::<MySql>::new("INSERT INTO items (name, size) ");
    built.push_values([("three", 3), ("four", 4)], |mut row, (name, size)| {
        row.push_bind(name).push_bind(size);
    });
    seen.result("push_values", built.build().execute(db).await.map(done));
    let text = db
        .execute("UPDATE items SET size = size + 10 WHERE size IS NOT NULL")
        .await;
    seen.result("text", text.map(done));
    let same_value = db.execute("UPDATE items SET size = size").await;
    seen.result("rows that are found, not changed", same_value.map(done));
    let nothing = sqlx::query("DELETE FROM items WHERE id = 4711")
        .execute(db)
        .await;
    seen.result("none", nothing.map(done));
    let macro_checked = on_pool::app::insert_guest(db, "Ada").await;
    seen.result("query!", macro_checked);
    let selected = db
        .execute("INSERT INTO notes (guest_id, text) SELECT id, 'Hello' FROM guests")
        .await;
    seen.result("INSERT … SELECT", selected.map(done));
}

async fn reads<'e, E: MySqlExecutor<'e> + Copy>(db: E, seen: &mut Seen) {
    let all = sqlx::query("SELECT * FROM items ORDER BY id")
        .fetch_all(db)
        .await;
    seen.result(
        "fetch_all",
        all.map(|rows| rows.into_iter().map(cells).collect::<Vec<_>>()),
    );
    let all: Result<Vec<(u32, String, Option<i32>)>, _> =
        sqlx::query_as("SELECT id, name, size FROM items ORDER BY id")
            .fetch_all(db)
            .await;
    seen.result("query_as", all);
    let one: Result<String, _> = sqlx::query_scalar("SELECT name FROM items WHERE id = ?")
        .bind(3)
        .fetch_one(db)
        .await;
    seen.result("query_scalar", one);
    let none: Result<Option<i32>, _> = sqlx::query_scalar("SELECT size FROM items WHERE id = ?")
        .bind(4711)
        .fetch_optional(db)
        .await;
    seen.result("fetch_optional of none", none);
    let null: Result<Option<Option<i32>>, _> =
        sqlx::query_scalar("SELECT size FROM items WHERE id = 2")
            .fetch_optional(db)
            .await;
    seen.result("fetch_optional of NULL", null);
    let first: Result<Option<i32>, _> = sqlx::query_scalar("SELECT size FROM items ORDER BY id")
        .fetch_optional(db)
        .await;
    seen.result("fetch_optional of many", first);
    let mut rows = sqlx::query_scalar::<_, String>("SELECT name FROM items ORDER BY id").fetch(db);
    loop {
        match rows.try_next().await {
            Ok(Some(name)) => seen.note("fetch", name),
            Ok(None) => break,
            Err(error) => seen.error("fetch", &error),
        }
    }
    drop(rows);
    let mapped = sqlx::query("SELECT size FROM items ORDER BY id")
        .try_map(|row: MySqlRow| row.try_get::<Option<i64>, _>(0))
        .fetch_all(db)
        .await;
    seen.result("try_map", mapped);
    let mut built = QueryBuilder::<MySql>::new("SELECT name FROM items WHERE id IN (");
    let mut ids = built.separated(", ");
    for id in [1, 4] {
        ids.push_bind(id);
    }
    ids.push_unseparated(") ORDER BY id FOR UPDATE");
    let built = built.build_query_scalar::<String>().fetch_all(db).await;
    seen.result("push_bind", built);
    let with_a_comment: Result<i64, _> =
        sqlx::query_scalar("-- how many\nSELECT COUNT(*) FROM items -- all")
            .fetch_one(db)
            .await;
    seen.result("a comment at its end", with_a_comment);
    seen.result("query_scalar!", on_pool::app::find_guest(db, "Ada").await);
    seen.result("query_as!", on_pool::app::note(db, 1).await);
}

async fn several<'e, E: MySqlExecutor<'e> + Copy>(db: E, seen: &mut Seen) {
    let texts = [
        "SELECT id FROM items WHERE id < 3 ORDER BY id; INSERT INTO items (name) VALUES ('five'), ('six'); SELECT name FROM items WHERE id > 4 ORDER BY id",
        "SELECT 1 AS a; SELECT id FROM nowhere; SELECT 3",
        "SELECT 1; ; SELECT 2",
        "SELECT 'a;b' AS only -- one;",
    ];
    for text in texts {
        let mut answers = sqlx::raw_sql(text).fetch_many(db);
        loop {
            match answers.try_next().await {
                Ok(Some(Either::Left(result))) => seen.note("fetch_many, end", done(result)),
                Ok(Some(Either::Right(row))) => seen.note("fetch_many, row", cells(row)),
                Ok(None) => break,
                Err(error) => {
                    seen.error("fetch_many", &error);
                    break;
                }
            }
        }
    }
    let all = sqlx::raw_sql("SELECT 1 AS a; SELECT 2 AS b")
        .fetch_all(db)
        .await;
    seen.result(
        "raw_sql fetch_all",
        all.map(|rows| rows.into_iter().map(cells).collect::<Vec<_>>()),
    );
    let run = sqlx::raw_sql("DELETE FROM items WHERE id = 5; DELETE FROM items WHERE id = 6")
        .execute(db)
        .await;
    seen.result("raw_sql execute", run.map(done));
    let many: Result<Vec<_>, _> = db
        .execute_many(
            "UPDATE items SET size = 0 WHERE id = 1; UPDATE items SET size = 0 WHERE id < 3",
        )
        .map_ok(done)
        .try_collect()
        .await;
    seen.result("execute_many", many);
    let prepared = sqlx::query("SELECT ?; SELECT ?")
        .bind(1)
        .bind(2)
        .fetch_all(db)
        .await;
    seen.result("several, prepared", prepared.map(|rows| rows.len()));
}

async fn prepared<'e, E: MySqlExecutor<'e> + Copy>(db: E, seen: &mut Seen) {
    let sql = "SELECT id, name FROM items WHERE id >= ? ORDER BY id";
    let statement: MySqlStatement = match db.prepare(sql.into_sql_str()).await {
        Ok(statement) => statement,
        Err(error) => return seen.error("prepare", &error),
    };
    let columns = statement.columns().iter().map(Column::name);
    seen.note("prepared columns", columns.collect::<Vec<_>>());
    seen.note(
        "prepared parameters",
        statement
            .parameters()
            .map(|either| either.either(|types| types.len(), |count| count)),
    );
    for from in [1, 3] {
        let rows = statement
            .query_as::<(u32, String)>()
            .bind(from)
            .fetch_all(db)
            .await;
        seen.result("Statement::query_as", rows);
    }
    let rows = statement.query().bind(2).fetch_all(db).await;
    seen.result("Statement::query", rows.map(|rows| rows.len()));
    let insert = db
        .prepare("INSERT INTO items (name) VALUES (?)".into_sql_str())
        .await;
    if let Ok(insert) = insert {
        seen.result(
            "Statement::query of a write",
            insert.query().bind("seven").execute(db).await.map(done),
        );
        seen.note("its text", Execute::sql(insert.query()).as_str().to_owned());
    }
    let nothing = db
        .prepare("SELECT nothing FROM nowhere".into_sql_str())
        .await;
    seen.result("prepare of what is not there", nothing.map(drop));
    let described = db.describe("SELECT name FROM items".into_sql_str()).await;
    seen.result(
        "describe",
        described.map(|described| (described.columns().len(), described.nullable(0))),
    );
}

async fn errors<'e, E: MySqlExecutor<'e> + Copy>(db: E, seen: &mut Seen) {
    let twice = sqlx::query("INSERT INTO items (name) VALUES ('one')")
        .execute(db)
        .await;
    seen.result("a duplicate key", twice.map(done));
    let reference = sqlx::query("INSERT INTO notes (guest_id, text) VALUES (4711, '')")
        .execute(db)
        .await;
    seen.result("a foreign key", reference.map(done));
    let null = sqlx::query("INSERT INTO items (name) VALUES (?)")
        .bind(None::<String>)
        .execute(db)
        .await;
    seen.result("not null", null.map(done));
    let long = sqlx::query("INSERT INTO items (name) VALUES (?)")
        .bind("x".repeat(99))
        .execute(db)
        .await;
    seen.result("too long", long.map(done));
    for text in [
        "SELECT id FROM nowhere",
        "SELECT nothing FROM items",
        "SELEKT 1",
        "SELECT",
        "",
        "DROP TABLE items",
        "SELECT id FROM items WHERE id = (SELECT id FROM items)",
    ] {
        let text_protocol = sqlx::raw_sql(text).fetch_optional(db).await;
        seen.result("refused text", text_protocol.map(|row| row.map(cells)));
        let prepared = sqlx::query(text).fetch_all(db).await;
        seen.result("refused", prepared.map(|rows| rows.len()));
    }
    let one: Result<i32, _> = sqlx::query_scalar("SELECT id FROM items WHERE id = 4711")
        .fetch_one(db)
        .await;
    seen.result("no row", one);
    let one: Result<i32, _> = sqlx::query_scalar("SELECT name FROM items ORDER BY id")
        .fetch_one(db)
        .await;
    seen.result("another type", one);
    let none: Result<Vec<(i32, i32)>, _> = sqlx::query_as("SELECT 1").fetch_all(db).await;
    seen.result("a column too few", none);
    let few = sqlx::query("SELECT ?, ?").bind(1).fetch_all(db).await;
    seen.result("an argument too few", few.map(|rows| rows.len()));
    let still: Result<i64, _> = sqlx::query_scalar("SELECT COUNT(*) FROM items")
        .fetch_one(db)
        .await;
    seen.result("and then", still);
}

async fn streams_that_are_dropped_half_way_leave_no_trace(
    pair: &Pair,
    pool: &MySqlPool,
    web: &Web,
) -> Result<()> {
    fresh_tables(pair).await?;
    web.is_whole().await?;
    let session = web.session();
    let expected = half_way(pool).await?;
    same(&half_way(&session).await?, &expected)?;
    wait_until("no connection is in use", SOON, async || {
        let health = web.router.health();
        health.servers.iter().all(|server| server.in_use == 0)
    })
    .await?;
    for server in ["mysql-1", "mysql-2"] {
        let within = Duration::from_secs(30);
        wait_until("nothing that was given up is left", within, async || {
            web.metric("router_abandoned_connections", &[server])
                .is_ok_and(|count| count == 0.0)
        })
        .await?;
    }
    Ok(())
}

/// More streams than there are connections, each dropped after three rows; and after each an answer that must be its own.
async fn half_way<'e, E: MySqlExecutor<'e> + Copy>(db: E) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    for round in 0..40_i64 {
        let mut rows = match round % 2 {
            0 => sqlx::query(MANY).fetch(db),
            _ => db.fetch(MANY),
        };
        for _ in 0..3 {
            let row = rows.try_next().await?.context("a row")?;
            found.push(row.try_get("n")?);
        }
        drop(rows);
        let answer: i64 = sqlx::query_scalar("SELECT ?")
            .bind(-round)
            .fetch_one(db)
            .await?;
        found.push(answer);
    }
    Ok(found)
}

/// Where arguments are too few, sqlx 0.9 leaves the connection waiting for an answer to what it never sent. A plain pool takes it back and
/// loses it so; the router closes it.
async fn what_the_driver_gives_up_costs_no_connection(pair: &Pair, web: &Web) -> Result<()> {
    let session = web.session();
    for _ in 0..config(pair).max_connections * 2 {
        let few = sqlx::query("SELECT ?, ?").bind(1).fetch_all(&session).await;
        let error = few.err().context("it was done")?.to_string();
        ensure!(error.contains("expected 2 parameters"), "{error}");
    }
    let health = web.router.health();
    ensure!(
        health.servers.iter().all(|server| server.in_use == 0),
        "{health:?}"
    );
    let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&session).await?;
    same(&one, &1)
}

/// Functions that are generic over `Acquire`.
async fn what_takes_a_connection_does_what_it_does_with_a_pool(
    pair: &Pair,
    pool: &MySqlPool,
    web: &Web,
) -> Result<()> {
    fresh_tables(pair).await?;
    let by_pool = on_one_connection(pool).await?;
    let by_pool = (by_pool, in_a_transaction(pool, "kept", true).await?);
    let by_pool = (by_pool, in_a_transaction(pool, "gone", false).await?);
    fresh_tables(pair).await?;
    web.is_whole().await?;
    let session = web.session();
    let by_router = on_one_connection(&session).await?;
    let by_router = (by_router, in_a_transaction(&session, "kept", true).await?);
    let by_router = (by_router, in_a_transaction(&session, "gone", false).await?);
    same(&by_router, &by_pool)?;
    same(
        &by_router,
        &(
            ((7, true), vec!["kept".to_owned()]),
            vec!["kept".to_owned(), "gone".to_owned()],
        ),
    )?;
    // The one that was rolled back left nothing, on either.
    for names in [names(pool).await?, names(&session).await?] {
        same(&names, &vec!["kept".to_owned()])?;
    }
    // So does one that is dropped: its locks are gone when its connection is.
    let mut dropped = Acquire::begin(&session).await?;
    sqlx::query("INSERT INTO items (name) VALUES ('dropped')")
        .execute(&mut *dropped)
        .await?;
    drop(dropped);
    wait_until("it was rolled back", SOON, async || {
        let again = sqlx::query("INSERT INTO items (name) VALUES ('dropped')");
        again.execute(&session).await.is_ok()
    })
    .await
}

/// What a session variable held two statements later, and whether both were on one connection.
async fn on_one_connection<'a, A: Acquire<'a, Database = MySql>>(db: A) -> Result<(i64, bool)> {
    let mut connection = db.acquire().await?;
    sqlx::query("SET @kept = 7")
        .execute(&mut *connection)
        .await?;
    let first: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()")
        .fetch_one(&mut *connection)
        .await?;
    let kept: i64 = sqlx::query_scalar("SELECT @kept")
        .fetch_one(&mut *connection)
        .await?;
    let second: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()")
        .fetch_one(&mut *connection)
        .await?;
    Ok((kept, first == second))
}

/// What there is before the transaction ends.
async fn in_a_transaction<'a, A: Acquire<'a, Database = MySql>>(
    db: A,
    name: &str,
    commit: bool,
) -> Result<Vec<String>> {
    let mut transaction = db.begin().await?;
    sqlx::query("INSERT INTO items (name) VALUES (?)")
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    let seen = names(&mut *transaction).await?;
    if commit {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(seen)
}

async fn names<'e, E: MySqlExecutor<'e>>(db: E) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT name FROM items ORDER BY id")
        .fetch_all(db)
        .await
}

/// Nobody tells the router what was done on a connection that it has handed out; so all of it counts. The replica applies nothing here:
/// only the primary can know.
async fn what_was_written_on_such_a_connection_is_read_in_the_session(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    fresh_tables(pair).await?;
    web.is_whole().await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let by_begin = web.session();
    in_a_transaction(&by_begin, "by begin", true).await?;
    same(&names(&by_begin).await?, &vec!["by begin".to_owned()])?;
    let by_acquire = web.session();
    let mut connection = Acquire::acquire(&by_acquire).await?;
    sqlx::query("INSERT INTO items (name) VALUES ('by acquire')")
        .execute(&mut *connection)
        .await?;
    drop(connection);
    let both = vec!["by begin".to_owned(), "by acquire".to_owned()];
    same(&names(&by_acquire).await?, &both)?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    web.is_whole().await
}

/// The example's.
static MIGRATIONS: Migrator = sqlx::migrate!("../../services/router/examples/guestbook/migrations");

/// The example's migrations, through a pool and through a router of the account that may make tables.
async fn migrations_run_on_either(pair: &Pair) -> Result<()> {
    let pool = MySqlPoolOptions::new()
        .connect_with(pair.mysql_1().options(Account::Migrate)?.database("ledger"))
        .await?;
    no_tables(&pool).await?;
    MIGRATIONS.run(&pool).await?;
    let by_pool = applied(&pool).await?;
    no_tables(&pool).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;

    let web = Web::start_as(pair, config(pair), Account::Migrate).await?;
    let session = web.session();
    MIGRATIONS.run(&session).await?;
    same(&applied(&session).await?, &by_pool)?;
    ensure!(by_pool.len() == 1, "{by_pool:?}");
    // What it made is there for the session at once, and a second run finds nothing to do.
    same(&on_router::app::notes(&session).await?, &Vec::new())?;
    MIGRATIONS.run(&session).await?;
    same(&applied(&session).await?, &by_pool)?;
    // One that was changed afterwards is refused, as with a pool. Without sqlx's lock, for it does not give that back when it refuses.
    let mut migrations = sqlx::migrate!("../../services/router/examples/guestbook/migrations");
    migrations.set_locking(false);
    for sql in [
        "UPDATE _sqlx_migrations SET checksum = 'x'",
        "UPDATE _sqlx_migrations SET success = FALSE",
    ] {
        sqlx::query(sql).execute(&session).await?;
        let by_pool = migrations
            .run(&pool)
            .await
            .err()
            .map(|error| error.to_string());
        let by_router = migrations
            .run(&session)
            .await
            .err()
            .map(|error| error.to_string());
        ensure!(by_pool.is_some(), "{sql} was not noticed");
        same(&by_router, &by_pool)?;
    }
    Ok(())
}

async fn no_tables(pool: &MySqlPool) -> Result<()> {
    for table in ["notes", "guests", "_sqlx_migrations"] {
        let drop = AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}"));
        sqlx::raw_sql(drop).execute(pool).await?;
    }
    Ok(())
}

/// What sqlx has written down of them, but for the times.
async fn applied<'e, E: MySqlExecutor<'e>>(
    db: E,
) -> sqlx::Result<Vec<(i64, String, bool, Vec<u8>)>> {
    sqlx::query_as(
        "SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version",
    )
    .fetch_all(db)
    .await
}

async fn the_example_answers_the_same_on_either(
    pair: &Pair,
    pool: &MySqlPool,
    web: &Web,
) -> Result<()> {
    fresh_tables(pair).await?;
    let by_pool = visit(on_pool::app::app(pool.clone())).await?;
    fresh_tables(pair).await?;
    web.is_whole().await?;
    let by_router = visit(on_router::app::app(web.session())).await?;
    ensure!(by_pool.lines().count() > 20, "{by_pool}");
    compare(&by_pool, &by_router)
}

/// Serves the application, calls it as a visitor would, and writes down what it answers.
async fn visit(app: axum::Router) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let client = Client::new();
    let note = |guest: &str, text: &str| json!({ "guest": guest, "text": text });
    // Longer than a note may be, so that the guest who was entered before it has to be taken back.
    let long = "x".repeat(501);
    let calls: Vec<(Method, &str, Option<Value>)> = vec![
        (Method::GET, "/notes", None),
        (Method::POST, "/guests", Some(json!("Ada"))),
        (Method::GET, "/guests/Ada", None),
        (Method::POST, "/guests", Some(json!("Grace"))),
        (Method::POST, "/guests", Some(json!("Ada"))),
        (Method::GET, "/guests/Nobody", None),
        (Method::POST, "/notes", Some(json!([]))),
        (
            Method::POST,
            "/notes",
            Some(json!([note("Nobody", "lost")])),
        ),
        (
            Method::POST,
            "/notes",
            Some(json!([
                note("Ada", "first; DROP TABLE notes"),
                note("Nobody", "lost"),
                note("Grace", "second")
            ])),
        ),
        (Method::GET, "/notes", None),
        (Method::GET, "/notes/1", None),
        (Method::GET, "/notes/9", None),
        (Method::POST, "/sign", Some(note("Ada", "again"))),
        (Method::POST, "/sign", Some(note("Barbara", "new here"))),
        (Method::POST, "/sign", Some(note("Cleo", &long))),
        (Method::GET, "/guests/Barbara", None),
        (Method::GET, "/guests/Cleo", None),
        (Method::GET, "/notes.csv", None),
        (Method::GET, "/statistics", None),
        (Method::DELETE, "/notes/1", None),
        (Method::DELETE, "/notes/1", None),
        (Method::GET, "/notes", None),
        (Method::DELETE, "/notes", None),
        (Method::GET, "/statistics", None),
    ];
    let mut seen = String::new();
    for (method, path, body) in calls {
        let mut call = client.request(method.clone(), format!("{base}{path}"));
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call.send().await?;
        let _ = writeln!(
            seen,
            "{method} {path}: {}\n{}",
            answer.status(),
            answer.text().await?.trim_end()
        );
    }
    serving.abort();
    Ok(seen)
}

/// Line by line, so that a difference can be seen.
fn compare(by_pool: &str, by_router: &str) -> Result<()> {
    for (number, (pool, router)) in by_pool.lines().zip(by_router.lines()).enumerate() {
        ensure!(
            pool == router,
            "line {number}\nby the pool:   {pool}\nby the router: {router}"
        );
    }
    same(&by_router.lines().count(), &by_pool.lines().count())
}
