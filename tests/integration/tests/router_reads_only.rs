//! Invariant 4: no statement that changes state is executed by a replica. The router runs here as an account that may do anything in the
//! schema, so that nothing but the router and the replica itself stand in the way; the replica's own log is the evidence.

mod router_common;

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use harness::{Account, Pair, Server};
use router::RouterError;
use router_common::{Web, ask, config, fresh_session, make_routines, pair, same, went};
use sqlx::{AssertSqlSafe, Executor};

/// Inside the container.
const LOG: &str = "/var/lib/mysql/statements.log";

/// What reads, in the ways in which sqlx can be asked; each has to come to the replica.
const READS: &[&str] = &[
    "SELECT n FROM counters WHERE id = 0",
    "(SELECT id FROM counters) UNION ALL (SELECT n FROM counters) ORDER BY 1",
    "WITH c AS (SELECT id FROM counters) SELECT COUNT(*) FROM c",
    "TABLE counters",
    "VALUES ROW(1, 2)",
    "SELECT REPLACE('a', 'a', 'b'), INSERT('abc', 1, 1, 'x'), UUID(), NOW(6)",
    "SELECT 'FOR UPDATE; DELETE FROM counters', \"INTO @x\"",
    "SELECT `n` AS `delete` FROM counters USE INDEX FOR ORDER BY (PRIMARY) WHERE id IN (1, 2)",
    "SHOW CREATE TABLE counters",
    "DESCRIBE counters",
    "EXPLAIN ANALYZE SELECT * FROM counters",
];

/// What changes state, takes a lock or may do so, and where it has to go.
const CHANGES: &[(&str, &[&str])] = &[
    (
        "primary;reason=write",
        &[
            "SELECT 1; DELETE FROM counters WHERE id = 100",
            "SELECT 1;UPDATE counters SET n = 0 WHERE id = 1",
            "/*!80000 DELETE FROM counters WHERE id = 100 */",
            "INSERT INTO counters VALUES (100, 0)",
            "REPLACE INTO counters VALUES (101, 0)",
            "UPDATE counters SET n = n + 1 WHERE id = 100",
            "DELETE FROM counters WHERE id = 100",
            "WITH d AS (SELECT 101 AS id) DELETE FROM counters WHERE id IN (SELECT id FROM d)",
            "WITH d AS (SELECT 1 AS id) UPDATE counters, d SET n = 0 WHERE counters.id = d.id",
            "CALL add_one()",
            "DO count_up()",
            "CREATE TABLE made (id INT PRIMARY KEY)",
            "TRUNCATE made",
            "ANALYZE TABLE made",
            "DROP TABLE made",
        ],
    ),
    (
        "primary;reason=locking",
        &[
            "SELECT n FROM counters WHERE id = 1 /*! FOR UPDATE */",
            "SELECT * FROM counters FOR UPDATE",
            "SELECT * FROM counters WHERE id = 1 for/**/update skip locked",
            "(SELECT * FROM counters WHERE id = 1 FOR UPDATE)",
            "(SELECT n FROM counters WHERE id = 1 FOR SHARE) UNION (SELECT 1)",
            "SELECT * FROM counters FOR -- a word\n SHARE NOWAIT",
            "SELECT * FROM counters LOCK IN SHARE MODE",
            "SELECT * FROM (SELECT * FROM counters FOR UPDATE) AS d",
            "WITH c AS (SELECT * FROM counters FOR SHARE) SELECT * FROM c",
            "SELECT (SELECT n FROM counters WHERE id = 1 FOR UPDATE)",
            "EXPLAIN ANALYZE SELECT * FROM counters FOR UPDATE",
        ],
    ),
    (
        "primary;reason=unproven",
        &[
            "SELECT count_up()",
            "SELECT ledger.count_up()",
            "SELECT `count_up`()",
            "SELECT `ledger` . `count_up` ()",
            "SELECT count_up /* a word */ ()",
            "SELECT 1 WHERE count_up() > 0",
            "SELECT id FROM counters ORDER BY count_up(), id",
            "SELECT IF(count_up() > 0, 1, 2)",
            "VALUES ROW(count_up())",
            "WITH c AS (SELECT count_up() AS n) SELECT n FROM c",
            "EXPLAIN ANALYZE SELECT count_up()",
            "SELECT SLEEP(0)",
            "SELECT n FROM counters INTO OUTFILE '/tmp/counters'",
            "SELECT n FROM counters WHERE id = 1 INTO DUMPFILE '/tmp/counter'",
            "SELECT @@GLOBAL.server_id",
            "SHOW VARIABLES LIKE 'server_id'",
        ],
    ),
];

/// What uses a connection's state; on a shared executor it is nobody's.
const REFUSED: &[&str] = &[
    "SELECT GET_LOCK('a', 0)",
    "SELECT GET_LOCK ('a', 0)",
    "DO RELEASE_LOCK('a')",
    "WITH l AS (SELECT `GET_LOCK`('a', 0)) SELECT * FROM l",
    "SELECT n FROM counters WHERE id = 1 INTO @n",
    "SELECT n INTO @n FROM counters WHERE id = 1",
    "SELECT @n := 1",
    "SELECT LAST_INSERT_ID(7)",
    "SELECT SQL_CALC_FOUND_ROWS * FROM counters",
    "CREATE TEMPORARY TABLE scratch (id INT PRIMARY KEY)",
    "BEGIN",
    "SET autocommit = 0",
    "SELECT 1; SET autocommit = 0",
    "SELECT 1; BEGIN",
    "/*!80000 SET autocommit = 0 */",
    "LOCK TABLES counters READ",
    "USE holdfast",
];

#[tokio::test]
async fn reads_go_to_the_replica_and_what_changes_state_never_does() -> Result<()> {
    let pair = pair().await?;
    make_routines(
        &pair,
        &["CREATE PROCEDURE add_one() INSERT INTO counted VALUES (NULL)"],
    )
    .await?;
    for server in [pair.mysql_1(), pair.mysql_2()] {
        let set_up = format!("SET GLOBAL general_log_file = '{LOG}'; SET GLOBAL general_log = ON");
        let mut arbiter = server.connect(Account::Arbiter).await?;
        sqlx::raw_sql(AssertSqlSafe(set_up))
            .execute(&mut arbiter)
            .await?;
    }
    let web = Web::start_as(&pair, config(&pair), Account::Migrate).await?;

    reads_reach_the_replica(&pair, &web).await?;
    changes_reach_the_primary_alone(&pair, &web).await?;
    what_is_bound_to_a_session_reaches_nobody(&pair, &web).await?;
    nothing_was_refused_by_the_replica(&pair).await?;
    what_only_the_server_can_tell_is_corrected_once(&pair, &web).await?;
    the_replica_has_no_transaction_of_its_own(&pair).await
}

async fn reads_reach_the_replica(pair: &Pair, web: &Web) -> Result<()> {
    let (statements, marks) = marked(READS, "read");
    for sql in statements {
        let session = fresh_session(web, pair).await?;
        let explained = session.explain(&sql)?;
        let query = || AssertSqlSafe(sql.clone());
        // By text and prepared; in one go and row by row.
        sqlx::raw_sql(query()).execute(&session).await?;
        sqlx::query(query()).fetch_all(&session).await?;
        sqlx::query(query()).fetch_optional(&session).await?;
        let rows = (&session).fetch(sqlx::query(query()));
        rows.try_for_each(async |_| Ok(())).await?;
        same(&went(&session), &vec!["replica;reason=fresh".to_owned(); 4])
            .with_context(|| sql.clone())?;
        for decision in session.decisions() {
            ensure!(&*decision.server == "mysql-2", "{decision:?}");
            ensure!(
                decision.epoch == 1 && decision.lag.is_some(),
                "{decision:?}"
            );
            ensure!((decision.target, decision.reason) == (explained.target, explained.reason));
        }
    }
    let (primary, replica) = (log(pair.mysql_1()).await?, log(pair.mysql_2()).await?);
    for mark in marks {
        ensure!(replica.contains(&mark), "{mark}: not on the replica");
        ensure!(!primary.contains(&mark), "{mark}: on the primary");
    }
    Ok(())
}

async fn changes_reach_the_primary_alone(pair: &Pair, web: &Web) -> Result<()> {
    for (target, statements) in CHANGES {
        let (statements, marks) = marked(statements, target);
        for sql in statements {
            // Fresh, so that nothing but the statement itself keeps it away from the replica.
            let session = fresh_session(web, pair).await?;
            let by_text = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
                .execute(&session)
                .await
                .map(drop);
            let prepared = sqlx::query(AssertSqlSafe(sql.clone()))
                .fetch_all(&session)
                .await
                .map(drop);
            // Some are refused by the primary too (no privilege for files), but by nobody else.
            for error in [by_text, prepared].into_iter().filter_map(Result::err) {
                ensure!(error.as_database_error().is_some(), "{sql}: {error:?}");
            }
            same(&went(&session), &vec![(*target).to_owned(); 2]).context(sql)?;
        }
        let (primary, replica) = (log(pair.mysql_1()).await?, log(pair.mysql_2()).await?);
        for mark in marks {
            ensure!(primary.contains(&mark), "{mark}: not on the primary");
            ensure!(!replica.contains(&mark), "{mark}: on the replica");
        }
    }
    Ok(())
}

async fn what_is_bound_to_a_session_reaches_nobody(pair: &Pair, web: &Web) -> Result<()> {
    let (statements, marks) = marked(REFUSED, "refused");
    for sql in statements {
        let session = web.session();
        let answer = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .execute(&session)
            .await;
        let error = answer.err().with_context(|| format!("{sql}: done"))?;
        let ours = RouterError::of(&error);
        ensure!(
            matches!(ours, Some(RouterError::SessionState { .. })),
            "{sql}: {error:?}"
        );
        ensure!(error.to_string().contains("`router."), "{error}");
        same(&went(&session), &Vec::new()).context(sql)?;
    }
    for server in [pair.mysql_1(), pair.mysql_2()] {
        let log = log(server).await?;
        for mark in &marks {
            ensure!(!log.contains(mark), "{mark}: on {}", server.name());
        }
    }
    Ok(())
}

async fn nothing_was_refused_by_the_replica(pair: &Pair) -> Result<()> {
    same(&refusals(pair).await?, &0)
}

/// A view over a function that writes looks like a table.
async fn what_only_the_server_can_tell_is_corrected_once(pair: &Pair, web: &Web) -> Result<()> {
    let session = fresh_session(web, pair).await?;
    let mut primary = pair.mysql_1().connect(Account::Migrate).await?;
    let count = "SELECT CAST(COUNT(*) AS SIGNED) FROM ledger.counted";
    let before: i64 = ask(&mut primary, count).await?;
    let counted: i64 = sqlx::query_scalar("SELECT n FROM counting")
        .fetch_one(&session)
        .await?;
    same(&counted, &(before + 1))?;
    same(&ask(&mut primary, count).await?, &(before + 1)).context("executed once")?;
    same(
        &went(&session),
        &vec![
            "replica;reason=fresh".to_owned(),
            "primary;reason=corrected".to_owned(),
        ],
    )?;
    same(&refusals(pair).await?, &1)?;
    let corrected = web.metric("router_statements_total", &["primary", "corrected"])?;
    ensure!(corrected == 1.0, "{corrected} corrections");
    // It was a write, so the session has a mark, and sees it.
    ensure!(session.causal_token().await?.is_some());
    let seen: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM counted")
        .fetch_one(&session)
        .await?;
    same(&seen, &(before + 1))
}

async fn the_replica_has_no_transaction_of_its_own(pair: &Pair) -> Result<()> {
    let mut replica = pair.mysql_2().connect(Account::Arbiter).await?;
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let replica = replication::server_facts(&mut replica).await?;
    let primary = replication::server_facts(&mut primary).await?;
    let own = replica.executed.subtract(&primary.executed);
    ensure!(own.is_empty(), "only the replica has {own}");
    Ok(())
}

/// The statements, each with a comment in it by which a log can be searched, and those comments.
fn marked(statements: &[&str], group: &str) -> (Vec<String>, Vec<String>) {
    let marks = (0..statements.len()).map(|number| format!("/* {group}, number {number} */"));
    let marks: Vec<String> = marks.collect();
    let pairs = statements.iter().zip(&marks);
    let marked = pairs.map(|(sql, mark)| format!("{sql} {mark}")).collect();
    (marked, marks)
}

/// What the router's connections have sent to a server. The applier's statements are in its log too: definitions replicate as text.
async fn log(server: &Server) -> Result<String> {
    let text = server.run(&["cat", LOG]).await?;
    let mut ours = HashSet::new();
    let mut statements = String::new();
    let mut is_ours = false;
    for line in text.lines() {
        // `<time>\t<connection> <command>\t<text>`; a line of another form goes on with the statement before.
        let mut fields = line.splitn(3, '\t');
        if let (Some(_), Some(head), Some(what)) = (fields.next(), fields.next(), fields.next())
            && let Some((connection, command)) = head.trim().split_once(' ')
            && connection.parse::<u64>().is_ok()
        {
            if command == "Connect" && what.starts_with("migrate@") {
                ours.insert(connection);
            }
            is_ours = ours.contains(connection);
        }
        if is_ours {
            statements.extend([line, "\n"]);
        }
    }
    Ok(statements)
}

/// How often the replica has said that it is read-only (1290) or that a transaction is (1792).
async fn refusals(pair: &Pair) -> Result<i64> {
    let mut replica = pair.mysql_2().connect(Account::Arbiter).await?;
    let raised = "SELECT CAST(SUM(SUM_ERROR_RAISED) AS SIGNED) FROM performance_schema.events_errors_summary_global_by_error
         WHERE ERROR_NUMBER IN (1290, 1792)";
    ask(&mut replica, raised).await
}
