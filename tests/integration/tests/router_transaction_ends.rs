//! How transactions end: committed and seen, rolled back, unknown, refused, begun again, or given up in time.

mod router_common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use harness::{Account, Direction, Pair, wait_for, wait_until};
use replication::errors;
use router::{Router, RouterConfig, RouterError, Transaction};
use router_common::{
    SOON, Web, as_arbiter, ask, config, get, kind, look, ours, pair, proxy, same, set, through,
    went,
};
use sqlx::{Connection, MySqlConnection, MySqlExecutor, mysql::MySql};
use tokio::{sync::Barrier, time::timeout};

const STALE: &str = "primary;reason=stale";

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_ends_as_it_says_and_its_session_sees_what_it_did() -> Result<()> {
    let pair = pair().await?;
    let web = Web::start(&pair, config(&pair)).await?;
    a_commit_marks_its_session(&pair, &web)
        .await
        .context("a commit")?;
    a_session_sees_what_cannot_be_seen_from_here(&pair, &web)
        .await
        .context("writes that the router cannot see")?;
    what_reads_shows_one_snapshot_and_refuses_to_write(&pair, &web)
        .await
        .context("read only")?;
    session_state_is_refused_with_its_cure(&web)
        .await
        .context("session state")?;
    what_is_begun_within_it_is_a_savepoint(&web)
        .await
        .context("savepoints")?;
    functions_take_it_as_a_connection_or_as_an_executor(&web).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_as_a_closure_is_begun_again_after_contention_and_never_after_its_commit()
-> Result<()> {
    let pair = pair().await?;
    let web = Web::start(&pair, config(&pair)).await?;
    a_deadlock_is_tried_again(&web)
        .await
        .context("a deadlock")?;
    a_lock_that_does_not_come_is_tried_again_and_not_for_ever(&pair)
        .await
        .context("a lock that does not come")?;
    other_errors_are_given_at_once(&web)
        .await
        .context("other errors")?;
    after_a_deadlock_nothing_is_done_outside_of_a_transaction(&pair, &web)
        .await
        .context("a deadlock that nobody minded")?;
    a_commit_whose_answer_is_lost_is_unknown_and_not_done_again(&pair)
        .await
        .context("the link is cut during COMMIT")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_a_server_that_falls_silent_ends_in_time_and_takes_no_more() -> Result<()>
{
    let pair = pair().await?;
    let web = Web::start(&pair, config(&pair)).await?;
    a_statement_has_its_time(&pair, &web)
        .await
        .context("the statement timeout")?;
    a_frozen_primary(&pair, &web).await.context("frozen")
}

async fn a_commit_marks_its_session(pair: &Pair, web: &Web) -> Result<()> {
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let session = web.session();
    let mut transaction = session.begin().await?;
    put(&mut transaction, 0, 5).await?;
    ensure!(session.causal_token().await?.is_none(), "not committed yet");
    transaction.commit().await?;
    same(&look(&session, 0).await?, &(5, STALE.to_owned()))?;
    let token = session.causal_token().await?.context("it wrote")?;
    same(&get(&web.router.session(Some(&token)), 0).await?, &5)?;
    // By a closure too.
    let session = web.session();
    let put_six = session.transaction(|tx| Box::pin(async move { put(tx, 0, 6).await }));
    let done: Result<(), sqlx::Error> = put_six.await;
    done?;
    same(&look(&session, 0).await?, &(6, STALE.to_owned()))?;
    // What is committed by text, or by a definition, is committed.
    let session = web.session();
    let mut transaction = session.begin().await?;
    put(&mut transaction, 0, 7).await?;
    sqlx::raw_sql("COMMIT").execute(&mut transaction).await?;
    drop(transaction);
    let seen = get(&session, 0).await?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    same(&seen, &7).context("committed by text")
}

async fn a_session_sees_what_cannot_be_seen_from_here(pair: &Pair, web: &Web) -> Result<()> {
    web.is_whole().await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let unseen = async {
        // sqlx's own transaction.
        let session = web.session();
        let mut own = sqlx::Acquire::begin(&session).await?;
        sqlx::query("UPDATE counters SET n = 21 WHERE id = 1")
            .execute(&mut *own)
            .await?;
        same(&get(&session, 1).await?, &0).context("before it is committed")?;
        own.commit().await?;
        same(&look(&session, 1).await?, &(21, STALE.to_owned()))?;
        let token = session.causal_token().await?.context("it wrote")?;
        same(&get(&web.router.session(Some(&token)), 1).await?, &21)?;
        // A pinned connection, while it is there and afterwards; also in a clone.
        let session = web.session();
        let mut pinned = session.pinned().await?;
        sqlx::query("UPDATE counters SET n = 22 WHERE id = 1")
            .execute(&mut *pinned)
            .await?;
        same(&look(&session.clone(), 1).await?, &(22, STALE.to_owned()))?;
        let token = session
            .causal_token()
            .await?
            .context("it may have written")?;
        same(&get(&web.router.session(Some(&token)), 1).await?, &22)?;
        sqlx::raw_sql("BEGIN; UPDATE counters SET n = 23 WHERE id = 1; COMMIT")
            .execute(&mut pinned)
            .await?;
        drop(pinned);
        same(&look(&session, 1).await?, &(23, STALE.to_owned()))?;
        // One that came by sqlx's trait.
        let mut pinned = sqlx::Acquire::acquire(&session).await?;
        sqlx::query("UPDATE counters SET n = 24 WHERE id = 1")
            .execute(&mut *pinned)
            .await?;
        same(&get(&session, 1).await?, &24)?;
        drop(pinned);
        same(&get(&session, 1).await?, &24)
    };
    let unseen = unseen.await;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    unseen
}

async fn what_reads_shows_one_snapshot_and_refuses_to_write(pair: &Pair, web: &Web) -> Result<()> {
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    web.is_whole().await?;
    let session = web.session();
    let mut reading = session.begin_read_only().await?;
    same(&went(&session), &vec!["replica;reason=fresh".to_owned()])?;
    same(&read(&mut reading, 2).await?, &0)?;
    set(&web.session(), 2, 1).await?;
    set(&web.session(), 3, 1).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    same(&read(&mut reading, 2).await?, &0).context("one snapshot")?;
    same(&read(&mut reading, 3).await?, &0).context("of all tables and rows")?;
    for write in [
        "UPDATE counters SET n = 9 WHERE id = 2",
        "INSERT INTO counters VALUES (50, 0)",
        "DELETE FROM counters",
    ] {
        let refused = sqlx::query(write).execute(&mut reading).await.err();
        let refused = refused.context("the replica took a write")?;
        let number = errors::number(&refused);
        ensure!(matches!(number, Some(1290 | 1792)), "{refused:?}");
        // It goes on.
        same(&read(&mut reading, 2).await?, &0).context(write)?;
    }
    reading.commit().await?;
    ensure!(session.causal_token().await?.is_none(), "it wrote nothing");
    same(&get(&session, 2).await?, &1)
}

async fn session_state_is_refused_with_its_cure(web: &Web) -> Result<()> {
    for (sql, cure) in [
        ("SELECT @a := 1", "router.pinned()"),
        ("SET @a = 1", "router.pinned()"),
        ("SELECT GET_LOCK('a', 0)", "router.pinned()"),
        ("SELECT LAST_INSERT_ID()", "router.pinned()"),
        ("SET SESSION sql_mode = ''", "router.pinned()"),
        ("CREATE TEMPORARY TABLE t (id INT)", "router.pinned()"),
        ("LOCK TABLES counters WRITE", "router.pinned()"),
        ("START TRANSACTION", "router.begin()"),
        ("BEGIN", "router.begin()"),
        ("COMMIT", "router.begin()"),
        ("SAVEPOINT a", "router.begin()"),
    ] {
        let session = web.session();
        let refused = sqlx::raw_sql(sql).execute(&session).await.err();
        let refused = refused.with_context(|| format!("{sql}: done"))?;
        let typed = RouterError::of(&refused).with_context(|| format!("{sql}: {refused:?}"))?;
        same(&kind(typed), &"SessionState".to_owned()).context(sql)?;
        ensure!(typed.to_string().contains(cure), "{sql}: {typed}");
        ensure!(went(&session).is_empty(), "{sql}: was sent");
        let explained = session.explain(sql).err().context("explained")?;
        same(&kind(&explained), &"SessionState".to_owned()).context(sql)?;
    }
    // Where the state has its own connection, it is kept.
    let mut transaction = web.session().begin().await?;
    sqlx::raw_sql("SET @a = 7; SAVEPOINT a")
        .execute(&mut transaction)
        .await?;
    let kept: i64 = sqlx::query_scalar("SELECT @a")
        .fetch_one(&mut transaction)
        .await?;
    same(&kept, &7)?;
    transaction.rollback().await?;
    Ok(())
}

async fn what_is_begun_within_it_is_a_savepoint(web: &Web) -> Result<()> {
    web.is_whole().await?;
    let session = web.session();
    let mut outer = session.begin().await?;
    insert(&mut **outer, 100).await?;
    let mut inner = Connection::begin(&mut **outer).await?;
    insert(&mut *inner, 101).await?;
    inner.rollback().await?;
    let mut inner = Connection::begin(&mut **outer).await?;
    insert(&mut *inner, 102).await?;
    let mut innermost = inner.begin().await?;
    insert(&mut *innermost, 103).await?;
    drop(innermost);
    inner.commit().await?;
    let mut dropped = Connection::begin(&mut **outer).await?;
    insert(&mut *dropped, 104).await?;
    drop(dropped);
    insert(&mut outer, 105).await?;
    same(&ids(&session).await?, &Vec::new()).context("before the outer one is committed")?;
    outer.commit().await?;
    same(&ids(&session).await?, &vec![100, 102, 105])?;

    // The outer one takes all with it, also one that was forgotten open.
    let mut outer = session.begin().await?;
    let mut inner = Connection::begin(&mut **outer).await?;
    insert(&mut *inner, 110).await?;
    inner.commit().await?;
    outer.rollback().await?;
    let mut outer = session.begin().await?;
    let inner = Connection::begin(&mut **outer).await?;
    std::mem::forget(inner);
    insert(&mut outer, 111).await?;
    outer.commit().await?;
    same(&ids(&session).await?, &vec![100, 102, 105, 111])
}

async fn insert(executor: impl MySqlExecutor<'_>, id: i32) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO counters VALUES (?, 0)")
        .bind(id)
        .execute(executor)
        .await
        .map(drop)
}

/// What was inserted beyond the counters that every test has.
async fn ids(session: &Router) -> Result<Vec<i32>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM counters WHERE id >= 100 ORDER BY id")
        .fetch_all(session)
        .await
}

async fn functions_take_it_as_a_connection_or_as_an_executor(web: &Web) -> Result<()> {
    async fn of_a_connection(connection: &mut MySqlConnection, id: i32) -> Result<i32> {
        sqlx::query("UPDATE counters SET n = n + 1 WHERE id = ?")
            .bind(id)
            .execute(&mut *connection)
            .await?;
        let query = sqlx::query_scalar("SELECT n FROM counters WHERE id = ?");
        Ok(query.bind(id).fetch_one(&mut *connection).await?)
    }
    async fn of_an_executor<'e, E: MySqlExecutor<'e>>(executor: E, id: i32) -> Result<i32> {
        let query = sqlx::query_scalar("SELECT n FROM counters WHERE id = ?");
        Ok(query.bind(id).fetch_one(executor).await?)
    }
    async fn of_any<'a, A: sqlx::Acquire<'a, Database = MySql>>(any: A, id: i32) -> Result<i32> {
        let mut connection = any.acquire().await?;
        of_a_connection(&mut connection, id).await
    }
    let session = web.session();
    set(&session, 3, 30).await?;
    let mut transaction = session.begin().await?;
    same(&of_a_connection(&mut transaction, 3).await?, &31)?;
    same(&of_an_executor(&mut transaction, 3).await?, &31)?;
    same(&of_an_executor(&mut *transaction, 3).await?, &31)?;
    same(&of_an_executor(&mut **transaction, 3).await?, &31)?;
    same(&of_any(&mut **transaction, 3).await?, &32)?;
    same(&of_an_executor(&session, 3).await?, &30)?;
    transaction.commit().await?;
    same(&of_an_executor(&session, 3).await?, &32)?;
    same(&of_any(&session, 3).await?, &33)?;
    let mut pinned = session.pinned().await?;
    same(&of_a_connection(&mut pinned, 3).await?, &34)?;
    same(&of_an_executor(&mut pinned, 3).await?, &34)
}

/// Two that lock two rows in opposite order, so that one of them is chosen as the victim.
async fn a_deadlock_is_tried_again(web: &Web) -> Result<()> {
    set(&web.session(), 0, 0).await?;
    set(&web.session(), 1, 0).await?;
    let retried = || web.metric("router_transactions_retried_total", &[]);
    let before = retried()?;
    let both_hold_one = Arc::new(Barrier::new(2));
    let runs = Arc::new(AtomicUsize::new(0));
    let crossing = [(0, 1), (1, 0)].map(|(first, second)| {
        let (session, both) = (web.session(), both_hold_one.clone());
        let runs = runs.clone();
        tokio::spawn(async move {
            let done: Result<(), sqlx::Error> = session
                .transaction(|tx| {
                    let (both, runs) = (both.clone(), runs.clone());
                    Box::pin(async move {
                        let run = runs.fetch_add(1, Ordering::AcqRel);
                        add(tx, first).await?;
                        if run < 2 {
                            both.wait().await;
                        }
                        add(tx, second).await
                    })
                })
                .await;
            done?;
            anyhow::Ok(get(&session, first).await?)
        })
    });
    for one in crossing {
        let seen = timeout(SOON, one).await???;
        ensure!(seen >= 1, "its own commit: {seen}");
    }
    same(&get(&strong(web), 0).await?, &2)?;
    same(&get(&strong(web), 1).await?, &2)?;
    // Who is chosen to be rolled back may then wait too long for the other one's commit.
    let runs = runs.load(Ordering::Acquire);
    ensure!(runs >= 3, "{runs} runs");
    same(&(retried()? - before), &(runs as f64 - 2.0))
}

fn strong(web: &Web) -> Router {
    web.session().with_consistency(router::Consistency::Strong)
}

/// The server gives up waiting before the router gives up the server.
async fn a_lock_that_does_not_come_is_tried_again_and_not_for_ever(pair: &Pair) -> Result<()> {
    let patient = RouterConfig {
        transaction_retries: 1,
        ..config(pair)
    };
    let web = Web::start(pair, patient).await?;
    let mut holder = pair.mysql_1().connect(Account::App).await?;
    sqlx::raw_sql("BEGIN; SELECT n FROM ledger.counters WHERE id = 2 FOR UPDATE")
        .execute(&mut holder)
        .await?;
    let session = web.session();
    let runs = AtomicUsize::new(0);
    let waits = session.transaction(|tx| {
        runs.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move { add(tx, 2).await })
    });
    let refused: Result<(), sqlx::Error> = timeout(SOON, waits).await?;
    let refused = refused.err().context("it has waited for nothing")?;
    same(&errors::number(&refused), &Some(1205)).with_context(|| format!("{refused:?}"))?;
    same(&runs.load(Ordering::Acquire), &2)?;
    same(&web.metric("router_transactions_retried_total", &[])?, &1.0)?;

    // The lock comes while the second one waits for it.
    runs.store(0, Ordering::Release);
    let holder = Mutex::new(Some(holder));
    let waits = session.transaction(|tx| {
        let run = runs.fetch_add(1, Ordering::AcqRel);
        let leaves = (run == 1)
            .then(|| holder.lock().expect("no panic").take())
            .flatten();
        Box::pin(async move {
            if let Some(holder) = leaves {
                holder.close().await?;
            }
            add(tx, 2).await
        })
    });
    let done: Result<(), sqlx::Error> = timeout(SOON, waits).await?;
    done?;
    same(&runs.load(Ordering::Acquire), &2)?;
    web.router.close().await;
    Ok(())
}

async fn other_errors_are_given_at_once(web: &Web) -> Result<()> {
    let retried = web.metric("router_transactions_retried_total", &[])?;
    let runs = AtomicUsize::new(0);
    let session = web.session();
    let twice = session.transaction(|tx| {
        runs.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move {
            add(tx, 3).await?;
            insert(&mut *tx, 0).await
        })
    });
    let refused: Result<(), sqlx::Error> = twice.await;
    same(
        &refused.as_ref().err().and_then(errors::number),
        &Some(1062),
    )?;
    let own = session.transaction(|tx| {
        runs.fetch_add(1, Ordering::AcqRel);
        Box::pin(async move {
            add(tx, 3).await?;
            Err(sqlx::Error::RowNotFound)
        })
    });
    let refused: Result<(), sqlx::Error> = own.await;
    ensure!(
        matches!(refused, Err(sqlx::Error::RowNotFound)),
        "{refused:?}"
    );
    same(&runs.load(Ordering::Acquire), &2)?;
    same(&get(&strong(web), 3).await?, &0).context("it was not rolled back")?;
    same(
        &web.metric("router_transactions_retried_total", &[])?,
        &retried,
    )
}

/// A deadlock has rolled everything back: what comes later must not commit by itself, and the rest must not count as committed.
async fn after_a_deadlock_nothing_is_done_outside_of_a_transaction(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    for (id, ends) in [(200, "commit"), (210, "rollback"), (220, "drop")] {
        let session = web.session();
        let mut victim = session.begin().await?;
        insert(&mut victim, id).await?;
        add(&mut victim, 0).await?;
        // It has written more, so it is not chosen.
        let mut other = pair.mysql_1().connect(Account::App).await?;
        sqlx::raw_sql(
            "USE ledger; BEGIN;
             INSERT INTO counters VALUES (1000, 0), (1001, 0), (1002, 0), (1003, 0), (1004, 0), (1005, 0), (1006, 0), (1007, 0);
             UPDATE counters SET n = n + 1 WHERE id = 1",
        )
        .execute(&mut other)
        .await?;
        let crossing = tokio::spawn(async move {
            let added = sqlx::raw_sql("UPDATE counters SET n = n + 1 WHERE id = 0")
                .execute(&mut other)
                .await;
            sqlx::raw_sql("ROLLBACK").execute(&mut other).await?;
            added
        });
        wait_until("the other one waits", SOON, async || {
            waiting_for_locks(pair)
                .await
                .is_ok_and(|waiting| waiting > 0)
        })
        .await?;
        let chosen = add(&mut victim, 1).await.err();
        let chosen = chosen.context("somebody has to be chosen")?;
        same(&errors::number(&chosen), &Some(1213))?;
        crossing.await??;
        // Nobody minds.
        let after = insert(&mut victim, id + 1).await;
        let ended = match ends {
            "commit" => Some(victim.commit().await),
            "rollback" => {
                victim.rollback().await.ok();
                None
            }
            _ => {
                drop(victim);
                None
            }
        };
        wait_until("it has ended", SOON, async || {
            web.metric("router_in_flight", &["mysql-1"])
                .is_ok_and(|held| held == 0.0)
        })
        .await?;
        let mut primary = pair.mysql_1().connect(Account::App).await?;
        let there = "SELECT COUNT(*) FROM ledger.counters WHERE id BETWEEN 200 AND 299";
        same(&ask::<i64>(&mut primary, there).await?, &0)
            .with_context(|| format!("{ends}: done outside of a transaction ({after:?})"))?;
        if let Some(ended) = ended {
            ensure!(ended.is_err(), "half of it was committed");
        }
    }
    Ok(())
}

async fn waiting_for_locks(pair: &Pair) -> Result<i64> {
    let mut arbiter = pair.mysql_1().connect(Account::Arbiter).await?;
    ask(
        &mut arbiter,
        "SELECT COUNT(*) FROM performance_schema.data_lock_waits",
    )
    .await
}

/// The server has done it, and the answer never came; or it never came to the server.
async fn a_commit_whose_answer_is_lost_is_unknown_and_not_done_again(pair: &Pair) -> Result<()> {
    let link = Arc::new(proxy(pair.mysql_1()).await?);
    let web = Web::start(pair, through(config(pair), pair.mysql_1(), &link)).await?;
    let mut primary = pair.mysql_1().connect(Account::App).await?;
    for (id, frozen) in [(301, Direction::ToClient), (302, Direction::ToServer)] {
        web.is_whole().await?;
        let (session, link) = (web.session(), Arc::clone(&link));
        let runs = AtomicUsize::new(0);
        let committing = session.transaction(|tx| {
            runs.fetch_add(1, Ordering::AcqRel);
            let link = Arc::clone(&link);
            Box::pin(async move {
                insert(&mut *tx, id).await?;
                link.freeze(frozen);
                Ok(())
            })
        });
        let cutting = async {
            if frozen == Direction::ToClient {
                wait_until("it is committed", SOON, async || {
                    has(&mut primary, id).await.is_ok_and(|has| has)
                })
                .await?;
            } else {
                // COMMIT is on its way; the transaction is what the server knows of it.
                wait_until("it is away", SOON, async || !web.router.health().writable).await?;
            }
            link.cut();
            anyhow::Ok(())
        };
        let began = Instant::now();
        let (unknown, cut): (Result<(), RouterError>, _) = tokio::join!(committing, cutting);
        cut?;
        ensure!(began.elapsed() < SOON, "after {:?}", began.elapsed());
        let unknown = unknown.err().context("nobody can have known")?;
        let RouterError::CommitOutcomeUnknown { server, reason, .. } = &unknown else {
            anyhow::bail!("{frozen:?}: {unknown:?}");
        };
        same(server, &"mysql-1".to_owned())?;
        ensure!(!reason.is_empty());
        same(&runs.load(Ordering::Acquire), &1).context("begun again")?;
        link.heal();
        web.is_whole().await?;
        // What the application can find out, by what was written in it: the session's reads see it, if it is there. That all is whole may
        // have been said before the cut was noticed.
        let found: Option<i32> = wait_for("it is read", SOON, async || {
            let look = sqlx::query_scalar("SELECT id FROM counters WHERE id = ?");
            look.bind(id).fetch_optional(&session).await.ok()
        })
        .await?;
        let is_done = frozen == Direction::ToClient;
        same(&found.is_some(), &is_done)?;
        ensure!(
            session.causal_token().await?.is_none(),
            "nothing was acknowledged"
        );
    }
    // It was an error, and is counted.
    same(
        &web.metric("router_errors_total", &["commit_outcome_unknown"])?,
        &2.0,
    )?;
    web.router.close().await;
    Ok(())
}

async fn has(connection: &mut MySqlConnection, id: i32) -> Result<bool> {
    let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ledger.counters WHERE id = ?")
        .bind(id)
        .fetch_one(connection)
        .await?;
    Ok(found == 1)
}

/// Each statement has as much time as is configured, within a transaction and without.
async fn a_statement_has_its_time(pair: &Pair, _: &Web) -> Result<()> {
    let hasty = RouterConfig {
        statement_timeout_ms: 1000,
        ..config(pair)
    };
    let web = Web::start(pair, hasty).await?;
    let long = "SELECT SLEEP(3)";
    let session = web.session();
    // A read that is not known for one.
    let began = Instant::now();
    same(
        &ours(sqlx::query(long).fetch_all(&session).await)?,
        &"CommitOutcomeUnknown".to_owned(),
    )?;
    let mut transaction = session.begin().await?;
    same(
        &ours(sqlx::query(long).fetch_all(&mut transaction).await)?,
        &"PrimaryUnavailable".to_owned(),
    )?;
    takes_no_more(transaction).await?;
    let mut pinned = session.pinned().await?;
    same(
        &ours(sqlx::query(long).fetch_all(&mut pinned).await)?,
        &"CommitOutcomeUnknown".to_owned(),
    )?;
    drop(pinned);
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    wait_until("nothing is held", SOON, async || {
        ["mysql-1", "mysql-2"].iter().all(|server| {
            ["router_in_flight", "router_abandoned_connections"]
                .iter()
                .all(|metric| web.metric(metric, &[server]).is_ok_and(|held| held == 0.0))
        })
    })
    .await?;
    set(&session, 0, 1).await?;
    web.router.close().await;
    Ok(())
}

async fn takes_no_more(mut transaction: Transaction) -> Result<()> {
    let began = Instant::now();
    for _ in 0..2 {
        let refused = sqlx::query("UPDATE counters SET n = 99 WHERE id = 0")
            .execute(&mut transaction)
            .await;
        same(&ours(refused)?, &"PrimaryUnavailable".to_owned())?;
        let rows = sqlx::query("SELECT 1").fetch(&mut transaction);
        same(
            &ours(rows.try_collect::<Vec<_>>().await)?,
            &"PrimaryUnavailable".to_owned(),
        )?;
    }
    let refused = transaction.commit().await.err().context("committed")?;
    same(&kind(&refused), &"PrimaryUnavailable".to_owned())?;
    ensure!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

async fn a_frozen_primary(pair: &Pair, web: &Web) -> Result<()> {
    web.is_whole().await?;
    set(&web.session(), 1, 0).await?;
    let limit = Duration::from_millis(config(pair).statement_timeout_ms);
    let session = web.session();
    let mut executing = session.begin().await?;
    let mut reading = session.begin().await?;
    let mut preparing = session.begin().await?;
    let mut rolling_back = session.begin().await?;
    let committing = session.begin().await?;
    put(&mut executing, 1, 77).await?;
    for transaction in [&mut reading, &mut preparing, &mut rolling_back] {
        read(transaction, 1).await?;
    }
    let mut pinned = session.pinned().await?;
    read_by(&mut pinned, 1).await?;
    pair.mysql_1().freeze().await?;
    let began = Instant::now();
    let frozen = async {
        let (executed, seen, prepared, committed, rolled_back, on_pinned) = tokio::join!(
            put(&mut executing, 1, 78),
            read(&mut reading, 1),
            async {
                use sqlx::Executor;
                let sql = sqlx::SqlSafeStr::into_sql_str("SELECT n FROM counters WHERE id = 3");
                (&mut preparing).prepare(sql).await.map(drop)
            },
            committing.commit(),
            rolling_back.rollback(),
            put_by(&mut pinned, 1, 79),
        );
        same(&ours(executed)?, &"PrimaryUnavailable".to_owned())?;
        same(&ours(seen)?, &"PrimaryUnavailable".to_owned())?;
        same(&ours(prepared)?, &"PrimaryUnavailable".to_owned())?;
        let committed = committed.err().context("committed")?;
        same(&kind(&committed), &"CommitOutcomeUnknown".to_owned())?;
        let rolled_back = rolled_back.err().context("rolled back")?;
        same(&kind(&rolled_back), &"PrimaryUnavailable".to_owned())?;
        same(&ours(on_pinned)?, &"CommitOutcomeUnknown".to_owned())?;
        takes_no_more(executing).await?;
        takes_no_more(reading).await?;
        takes_no_more(preparing).await
    };
    let ended = timeout(limit * 3, frozen).await;
    let took = began.elapsed();
    drop(pinned);
    pair.mysql_1().thaw().await?;
    ended.context("somebody hangs")??;
    ensure!(took < limit * 2, "after {took:?}");
    web.is_whole().await?;
    wait_until("nothing is held", SOON, async || {
        ["router_in_flight", "router_abandoned_connections"]
            .iter()
            .all(|metric| {
                web.metric(metric, &["mysql-1"])
                    .is_ok_and(|held| held == 0.0)
            })
    })
    .await?;
    let n = get(&strong(web), 1).await?;
    ensure!(
        [0, 79].contains(&n),
        "a transaction that was given up has left {n}"
    );
    set(&web.session(), 1, 1).await?;
    same(&get(&strong(web), 1).await?, &1)
}

async fn put(transaction: &mut Transaction, id: i32, n: i32) -> Result<(), sqlx::Error> {
    put_by(transaction, id, n).await
}

async fn put_by(executor: impl MySqlExecutor<'_>, id: i32, n: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE counters SET n = ? WHERE id = ?")
        .bind(n)
        .bind(id)
        .execute(executor)
        .await
        .map(drop)
}

async fn add(transaction: &mut Transaction, id: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE counters SET n = n + 1 WHERE id = ?")
        .bind(id)
        .execute(transaction)
        .await
        .map(drop)
}

async fn read(transaction: &mut Transaction, id: i32) -> Result<i32, sqlx::Error> {
    read_by(transaction, id).await
}

async fn read_by(executor: impl MySqlExecutor<'_>, id: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT n FROM counters WHERE id = ?")
        .bind(id)
        .fetch_one(executor)
        .await
}
