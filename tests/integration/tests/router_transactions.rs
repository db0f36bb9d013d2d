//! What belongs to one connection: transactions, pinned connections, and the bounds of how many there are.

mod router_common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Account, Pair, wait_until};
use router::{Router, RouterConfig, Transaction};
use router_common::{
    SOON, Web, as_arbiter, ask, config, get, kind, look, ours, pair, same, set, went,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_connection_stays_on_it_and_connections_are_bounded() -> Result<()> {
    let pair = pair().await?;
    let web = Web::start(&pair, config(&pair)).await?;
    a_transaction_is_on_the_primary_and_is_seen_once_it_is_committed(&pair, &web).await?;
    a_transaction_that_is_dropped_is_rolled_back(&pair, &web).await?;
    a_transaction_that_reads_is_on_the_replica_and_changes_nothing(&pair, &web).await?;
    a_pinned_connection_keeps_its_state_and_takes_it_along(&pair, &web).await?;
    web.router.close().await;

    let small = Web::start(&pair, small(&pair)).await?;
    writes_that_find_no_connection_are_refused_in_time_and_counted(&small).await?;
    reads_spread_to_the_primary_where_the_replica_is_full(&pair, &small).await?;
    reads_leave_the_write_reserve_alone(&pair, &small).await
}

/// Room for three statements on each server, one of them for writes.
fn small(pair: &Pair) -> RouterConfig {
    RouterConfig {
        max_connections: 3,
        write_reserve: 1,
        acquire_timeout_ms: 2500,
        ..config(pair)
    }
}

async fn add(transaction: &mut Transaction, id: i32) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE counters SET n = n + 1 WHERE id = ?")
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map(drop)
}

async fn read(transaction: &mut Transaction, id: i32) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT n FROM counters WHERE id = ?")
        .bind(id)
        .fetch_one(&mut *transaction)
        .await
}

async fn a_transaction_is_on_the_primary_and_is_seen_once_it_is_committed(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let (session, other) = (web.session(), web.session());
    let mut transaction = session.begin().await?;
    add(&mut transaction, 0).await?;
    same(&read(&mut transaction, 0).await?, &1)?;
    same(&get(&session, 0).await?, &0).context("before the commit")?;
    same(&get(&other, 0).await?, &0).context("before the commit")?;
    transaction.commit().await?;
    same(&get(&session, 0).await?, &1)?;
    same(&went(&session)[0], &"primary;reason=transaction".to_owned())?;
    // A transaction that was rolled back is no write. The new session owes nothing to the write before it, and may find it not yet applied.
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let session = web.session();
    let mut transaction = session.begin().await?;
    add(&mut transaction, 0).await?;
    transaction.rollback().await?;
    ensure!(session.causal_token().await?.is_none());
    same(&get(&session, 0).await?, &1)
}

async fn a_transaction_that_is_dropped_is_rolled_back(pair: &Pair, web: &Web) -> Result<()> {
    let session = web.session();
    let mut transaction = session.begin().await?;
    add(&mut transaction, 1).await?;
    drop(transaction);
    let mut app = pair.mysql_1().connect(Account::App).await?;
    // Its lock goes with it; the value it had set does not come back.
    wait_until("the row is free", SOON, async || {
        let look = "SELECT n FROM ledger.counters WHERE id = 1 FOR UPDATE NOWAIT";
        ask::<i32>(&mut app, look).await.is_ok_and(|n| n == 0)
    })
    .await?;
    ensure!(session.causal_token().await?.is_none());
    none_is_held(web).await
}

async fn a_transaction_that_reads_is_on_the_replica_and_changes_nothing(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    web.is_whole().await?;
    let session = web.session();
    let mut reading = session.begin_read_only().await?;
    same(&went(&session), &vec!["replica;reason=fresh".to_owned()])?;
    same(&read(&mut reading, 2).await?, &0)?;
    set(&web.session(), 2, 1).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    same(&read(&mut reading, 2).await?, &0).context("one snapshot")?;
    let refused = add(&mut reading, 2).await.err();
    let refused = refused.context("the replica took a write")?;
    let number = replication::errors::number(&refused);
    ensure!(matches!(number, Some(1290 | 1792)), "{refused:?}");
    reading.commit().await?;
    ensure!(session.causal_token().await?.is_none());
    same(&get(&web.session(), 2).await?, &1)
}

async fn a_pinned_connection_keeps_its_state_and_takes_it_along(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let session = web.session();
    let mut pinned = session.pinned().await?;
    sqlx::raw_sql("SET @n = 7; DO GET_LOCK('pinned', 0)")
        .execute(&mut *pinned)
        .await?;
    same(&ask::<i64>(&mut pinned, "SELECT @n").await?, &7)?;
    let mut app = pair.mysql_1().connect(Account::App).await?;
    let free = "SELECT IS_FREE_LOCK('pinned')";
    same(&ask::<i64>(&mut app, free).await?, &0)?;
    drop(pinned);
    wait_until("the lock is free", SOON, async || {
        ask::<i64>(&mut app, free).await.is_ok_and(|free| free == 1)
    })
    .await?;
    same(&went(&session), &vec!["primary;reason=pinned".to_owned()])?;
    ensure!(
        session.causal_token().await?.is_some(),
        "it may have written"
    );
    Ok(())
}

async fn writes_that_find_no_connection_are_refused_in_time_and_counted(web: &Web) -> Result<()> {
    let session = web.session();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(session.begin().await?);
    }
    same(&web.metric("router_in_flight", &["mysql-1"])?, &3.0)?;
    let began = Instant::now();
    let refused = session.begin().await.err().context("a fourth connection")?;
    same(&kind(&refused), &"Overloaded".to_owned())?;
    same(&ours(set(&session, 0, 9).await)?, &"Overloaded".to_owned())?;
    ensure!(
        began.elapsed() < Duration::from_secs(15),
        "two refusals took {:?}",
        began.elapsed()
    );
    same(&web.metric("router_errors_total", &["overloaded"])?, &2.0)?;
    // Reads have their own room.
    same(
        &look(&web.session(), 0).await?.1,
        &"replica;reason=fresh".to_owned(),
    )?;
    held.pop().context("held")?.rollback().await?;
    session.begin().await?.rollback().await?;
    drop(held);
    none_is_held(web).await
}

async fn reads_spread_to_the_primary_where_the_replica_is_full(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    web.is_whole().await?;
    let held = hold_reading(web, 3, "replica;reason=fresh").await?;
    same(
        &look(&web.session(), 0).await?.1,
        &"primary;reason=replica-full".to_owned(),
    )?;
    drop(held);
    none_is_held(web).await?;
    same(
        &look(&web.session(), 0).await?.1,
        &"replica;reason=fresh".to_owned(),
    )
}

async fn reads_leave_the_write_reserve_alone(pair: &Pair, web: &Web) -> Result<()> {
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    web.lags().await?;
    let held = hold_reading(web, 2, "primary;reason=lag").await?;
    let before = web.metric("router_errors_total", &["overloaded"])?;
    let refused = ours(get(&web.session(), 0).await)?;
    same(&refused, &"Overloaded".to_owned())?;
    same(
        &web.metric("router_errors_total", &["overloaded"])?,
        &(before + 1.0),
    )?;
    set(&web.session(), 0, 10)
        .await
        .context("the reserve is for writes")?;
    drop(held);
    none_is_held(web).await?;
    same(&get(&web.session(), 0).await?, &10)?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    web.is_whole().await
}

async fn hold_reading(web: &Web, count: usize, place: &str) -> Result<Vec<Transaction>> {
    let session: Router = web.session();
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(session.begin_read_only().await?);
    }
    same(&went(&session), &vec![place.to_owned(); count])?;
    Ok(held)
}

async fn none_is_held(web: &Web) -> Result<()> {
    // What is dropped is rolled back, or read to its end, while nobody waits for it.
    wait_until("no connection is in use", SOON, async || {
        ["mysql-1", "mysql-2"].iter().all(|server| {
            web.metric("router_in_flight", &[server])
                .is_ok_and(|held| held == 0.0)
        })
    })
    .await
}
