//! Where reads go when a server has no room, and that nobody waits without a bound: the primary's reads leave room for writes, a queue
//! has an end and a deadline, and a read that would be stale waits instead.

mod router_common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{Account, Direction, Pair, Server, wait_for, wait_until};
use router::{Consistency, Router, RouterConfig, ServerState, Transaction};
use router_common::{
    SOON, Web, as_arbiter, ask, config, get, health_of, is_in_state, look, ours, pair, proxy, same,
    set, through, went,
};
use sqlx::AssertSqlSafe;
use tokio::task::{JoinHandle, JoinSet};

const FRESH: &str = "replica;reason=fresh";
const STALE: &str = "primary;reason=stale";
const SPILL_OVER: &str = "replica;reason=spill-over";
const REPLICA_FULL: &str = "primary;reason=replica-full";

/// Connections to each server, and those of the primary's that reads may have.
const MAX: u32 = 4;
const READS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_costs_neither_freshness_nor_writes_nor_an_endless_wait() -> Result<()>
{
    let pair = pair().await?;
    let web = Web::start(&pair, small(&pair)).await?;

    reads_go_to_the_primary_when_the_replica_is_full(&web)
        .await
        .context("a replica that is full")?;
    a_stale_read_waits_for_room_or_for_the_replica(&pair, &web)
        .await
        .context("a stale read and a primary that is full")?;
    reads_leave_room_for_writes(&web)
        .await
        .context("the write reserve")?;
    a_queue_has_an_end_and_a_deadline(&pair)
        .await
        .context("the queue")?;
    what_goes_elsewhere_leaves_the_connections_that_it_waited_for(&pair)
        .await
        .context("a replica on which a login takes long")?;
    nobody_reads_stale_while_all_are_short_of_room(&pair)
        .await
        .context("mixed load")?;
    a_server_that_takes_no_more_connections_is_full_and_not_dead(&pair)
        .await
        .context("the server's own bound")
}

/// So few connections that a test can hold them all; who waits has time.
fn small(pair: &Pair) -> RouterConfig {
    RouterConfig {
        max_connections: MAX,
        write_reserve: MAX - READS,
        acquire_timeout_ms: 15_000,
        statement_timeout_ms: 20_000,
        ..config(pair)
    }
}

/// Holds connections, by transactions that read.
async fn hold(session: &Router, count: u32, place: &str) -> Result<Vec<Transaction>> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(session.begin_read_only().await?);
        same(&went(session).pop().as_deref(), &Some(place))?;
    }
    Ok(held)
}

fn strong(web: &Web) -> Router {
    web.session().with_consistency(Consistency::Strong)
}

/// A read of its own task, and the session that it is in.
fn reading(session: &Router, id: i32) -> JoinHandle<Result<(i32, String)>> {
    let session = session.clone();
    tokio::spawn(async move { look(&session, id).await })
}

async fn wait_at(web: &Web, server: &str, count: usize) -> Result<()> {
    let waiting = wait_until("statements wait", SOON, async || {
        health_of(web, server).is_ok_and(|server| server.waiting == count)
    });
    waiting
        .await
        .with_context(|| format!("{:?}", web.router.health()))
}

async fn reads_go_to_the_primary_when_the_replica_is_full(web: &Web) -> Result<()> {
    let mut on_replica = hold(&web.session(), MAX, FRESH).await?;
    same(&health_of(web, "mysql-2")?.in_use, &(MAX as usize))?;
    let mut on_primary = hold(&web.session(), READS, REPLICA_FULL).await?;
    // Now the primary has no more room for reads either: who comes waits for whichever is free first.
    for (held, place) in [(&mut on_primary, REPLICA_FULL), (&mut on_replica, FRESH)] {
        let read = reading(&web.session(), 0);
        wait_at(web, "mysql-1", 1).await?;
        wait_at(web, "mysql-2", 1).await?;
        ensure!(!read.is_finished());
        held.pop().context("one of them")?.commit().await?;
        same(&read.await??.1, &place.to_owned())?;
        wait_at(web, "mysql-1", 0).await?;
        wait_at(web, "mysql-2", 0).await?;
        held.extend(hold(&web.session(), 1, place).await?);
    }
    // Where the primary was asked for, the replica's room is of no use, and the other way round.
    on_replica.clear();
    let read = reading(&strong(web), 0);
    wait_at(web, "mysql-1", 1).await?;
    same(&look(&web.session(), 0).await?.1, &FRESH.to_owned())?;
    ensure!(!read.is_finished());
    on_primary.clear();
    same(&read.await??.1, &"primary;reason=strong".to_owned())
}

async fn a_stale_read_waits_for_room_or_for_the_replica(pair: &Pair, web: &Web) -> Result<()> {
    web.is_whole().await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let writer = web.session();
    set(&writer, 1, 10).await?;
    let mut held = hold(&strong(web), READS, "primary;reason=strong").await?;
    // The replica has all the room that there is, and not the write.
    let read = reading(&writer, 1);
    wait_at(web, "mysql-1", 1).await?;
    held.pop().context("one of them")?.commit().await?;
    same(&read.await??, &(10, STALE.to_owned())).context("room on the primary")?;

    set(&writer, 1, 11).await?;
    held.extend(hold(&strong(web), 1, "primary;reason=strong").await?);
    let reads = [reading(&writer, 1), reading(&writer, 1)];
    wait_at(web, "mysql-1", 2).await?;
    ensure!(reads.iter().all(|read| !read.is_finished()));
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    for read in reads {
        same(&read.await??, &(11, SPILL_OVER.to_owned())).context("the replica has it")?;
    }
    let counted = web.metric("router_statements_total", &["replica", "spill-over"])?;
    same(&counted, &2.0)?;
    held.clear();
    web.is_whole().await
}

async fn reads_leave_room_for_writes(web: &Web) -> Result<()> {
    let held = hold(&strong(web), READS, "primary;reason=strong").await?;
    let storm: Vec<_> = (0..100).map(|_| reading(&strong(web), 0)).collect();
    wait_at(web, "mysql-1", 100).await?;
    for n in 0..20 {
        set(&web.session(), 2, n).await?;
    }
    let mut transaction = web.session().begin().await?;
    sqlx::query("UPDATE counters SET n = n + 1 WHERE id = 2")
        .execute(&mut transaction)
        .await?;
    transaction.commit().await?;
    ensure!(storm.iter().all(|read| !read.is_finished()), "not one read");
    same(&health_of(web, "mysql-1")?.in_use, &(READS as usize))?;
    drop(held);
    for read in storm {
        same(&read.await??.1, &"primary;reason=strong".to_owned())?;
    }
    same(&get(&strong(web), 2).await?, &20)
}

async fn a_queue_has_an_end_and_a_deadline(pair: &Pair) -> Result<()> {
    const WAITING: usize = 3;
    let config = RouterConfig {
        max_waiting: WAITING as u32,
        acquire_timeout_ms: 3000,
        ..small(pair)
    };
    let web = Web::start(pair, config).await?;
    let refused = |server: &str, limit: &str| web.metric("router_refused_total", &[server, limit]);
    let mut held = Vec::new();
    for _ in 0..MAX {
        held.push(web.session().begin().await?);
    }
    let (began, mut waiting) = (Instant::now(), JoinSet::new());
    for _ in 0..WAITING {
        let session = web.session();
        waiting.spawn(async move { ours(session.begin().await) });
    }
    wait_at(&web, "mysql-1", WAITING).await?;
    same(
        &ours(web.session().begin().await)?,
        &"Overloaded".to_owned(),
    )?;
    same(
        &ours(set(&web.session(), 0, 0).await)?,
        &"Overloaded".to_owned(),
    )?;
    // At once: those before it are still waiting.
    same(&health_of(&web, "mysql-1")?.waiting, &WAITING)?;
    same(&refused("mysql-1", "max_waiting")?, &2.0)?;
    same(&web.metric("router_errors_total", &["overloaded"])?, &2.0)?;
    // Reads have a queue of their own, at the replica.
    same(&look(&web.session(), 0).await?.1, &FRESH.to_owned())?;

    while let Some(ended) = waiting.join_next().await {
        same(&ended??, &"Overloaded".to_owned())?;
        let waited = began.elapsed();
        ensure!(
            waited >= Duration::from_secs(3) && waited < Duration::from_secs(10),
            "{waited:?}"
        );
    }
    same(&refused("mysql-1", "acquire_timeout")?, &(WAITING as f64))?;
    same(&health_of(&web, "mysql-1")?.waiting, &0)?;
    held.clear();
    set(&web.session(), 0, 0).await?;
    wait_until("all of them come back", SOON, async || {
        web.metric("router_in_flight", &["mysql-1"])
            .is_ok_and(|count| count == 0.0)
    })
    .await
}

/// Reads that wait for both servers are mostly answered by the primary while the replica's connections are being made. They are made all
/// the same, and once.
async fn what_goes_elsewhere_leaves_the_connections_that_it_waited_for(pair: &Pair) -> Result<()> {
    let link = proxy(pair.mysql_2()).await?;
    let config = RouterConfig {
        probe_timeout_ms: 5000,
        max_lag_ms: 10_000,
        ..through(small(pair), pair.mysql_2(), &link)
    };
    let web = Web::start(pair, config).await?;
    link.delay(Direction::ToServer, Duration::from_millis(50));
    let mut arbiter = pair.mysql_2().connect(Account::Arbiter).await?;
    let logins = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Connections'";
    let before: i64 = ask(&mut arbiter, logins).await?;
    let places = passers_by(&web, Duration::from_secs(2)).await?;
    let logins = ask::<i64>(&mut arbiter, logins).await? - before;
    // The probes' connections, the heartbeat's and our own come to it.
    ensure!(
        logins <= i64::from(MAX) + 20,
        "{logins} logins, for {places:?}"
    );
    let on_replica =
        [FRESH, SPILL_OVER].map(|place| places.get(place).copied().unwrap_or_default());
    ensure!(
        on_replica.iter().sum::<usize>() >= 2 * MAX as usize,
        "{places:?}"
    );
    Ok(())
}

/// The replica applies by fits and starts.
async fn nobody_reads_stale_while_all_are_short_of_room(pair: &Pair) -> Result<()> {
    let web = Web::start(pair, small(pair)).await?;
    let places = writers_and_readers(&web, async || {
        for _ in 0..6 {
            as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    })
    .await?;
    // Else the test would be of no use.
    for place in [FRESH, STALE, SPILL_OVER] {
        ensure!(places.contains_key(place), "{places:?}");
    }
    Ok(())
}

/// Sessions that write and read what they wrote, more of them than there are connections, for as long as something else goes on. Gives how
/// often they read where.
async fn writers_and_readers(
    web: &Web,
    meanwhile: impl AsyncFnOnce() -> Result<()>,
) -> Result<BTreeMap<String, usize>> {
    const SESSIONS: i32 = 24;
    let stop = Arc::new(AtomicBool::new(false));
    let mut sessions = JoinSet::new();
    for id in 100..100 + SESSIONS {
        let (router, stop) = (web.router.clone(), stop.clone());
        sessions.spawn(async move {
            let mut places = BTreeMap::<String, usize>::new();
            let mut n = 0;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                let session = router.session(None);
                sqlx::query("REPLACE INTO counters VALUES (?, ?)")
                    .bind(id)
                    .bind(n)
                    .execute(&session)
                    .await
                    .context("a write")?;
                for _ in 0..3 {
                    let (seen, place) = look(&session, id).await.context("a read")?;
                    ensure!(seen == n, "counter {id} is {n}, read {seen} on {place}");
                    *places.entry(place).or_default() += 1;
                }
            }
            anyhow::Ok(places)
        });
    }
    let done = meanwhile().await;
    stop.store(true, Ordering::Release);
    let mut places = BTreeMap::<String, usize>::new();
    while let Some(one) = sessions.join_next().await {
        for (place, count) in one?? {
            *places.entry(place).or_default() += count;
        }
    }
    done.map(|()| places)
}

/// Sessions that only read, more of them than there are connections. Gives how often they read where.
async fn passers_by(web: &Web, time: Duration) -> Result<BTreeMap<String, usize>> {
    let end = tokio::time::Instant::now() + time;
    let mut sessions = JoinSet::new();
    for _ in 0..24 {
        let router = web.router.clone();
        sessions.spawn(async move {
            let mut places = BTreeMap::<String, usize>::new();
            while tokio::time::Instant::now() < end {
                let (_, place) = look(&router.session(None), 0).await.context("a read")?;
                *places.entry(place).or_default() += 1;
            }
            anyhow::Ok(places)
        });
    }
    let mut places = BTreeMap::<String, usize>::new();
    while let Some(one) = sessions.join_next().await {
        for (place, count) in one?? {
            *places.entry(place).or_default() += count;
        }
    }
    Ok(places)
}

async fn a_server_that_takes_no_more_connections_is_full_and_not_dead(pair: &Pair) -> Result<()> {
    let web = Web::start(pair, small(pair)).await?;
    set(&web.session(), 3, 1).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    for server in [pair.mysql_2(), pair.mysql_1()] {
        is_full(pair, &web, server)
            .await
            .with_context(|| format!("{}: {:?}", server.name(), web.router.health()))?;
    }
    Ok(())
}

async fn is_full(pair: &Pair, web: &Web, server: &Server) -> Result<()> {
    let is_primary = server.name() == pair.mysql_1().name();
    web.is_whole().await?;
    // Whatever its pool has now is in use, and the server lets nobody in any more.
    let mut arbiter = server.connect(Account::Arbiter).await?;
    let session = match is_primary {
        true => strong(web),
        false => web.session(),
    };
    let writer = web.session();
    if is_primary {
        as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
        set(&writer, 1, 20).await?;
    }
    let mut held = vec![session.begin_read_only().await?];
    while health_of(web, server.name())?.idle > 0 {
        held.push(session.begin_read_only().await?);
    }
    ensure!(held.len() < READS as usize, "{} held", held.len());
    sqlx::raw_sql("SET GLOBAL max_connections = 1")
        .execute(&mut arbiter)
        .await?;

    let refused = || web.metric("router_refused_total", &[server.name(), "server"]);
    if is_primary {
        // What only the primary has is not refused: the replica may have it soon.
        let read = reading(&writer, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        ensure!(!read.is_finished(), "{:?}", read.await?);
        as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
        same(&read.await??, &(20, SPILL_OVER.to_owned()))?;
        wait_until("the replica is young again", SOON, async || {
            web.goes("SELECT 1") == FRESH
        })
        .await?;
        let before = refused()?;
        same(
            &ours(set(&web.session(), 3, 2).await)?,
            &"Overloaded".to_owned(),
        )?;
        same(
            &ours(web.session().begin().await)?,
            &"Overloaded".to_owned(),
        )?;
        same(&refused()?, &(before + 2.0))?;
    } else {
        same(&look(&web.session(), 3).await?.1, &REPLICA_FULL.to_owned())?;
    }
    same(&health_of(web, server.name())?.state, &ServerState::Healthy)?;

    // When it must be asked on a new connection how it is, it lets that one not in either.
    let asking = "SELECT CAST(t.PROCESSLIST_ID AS SIGNED) FROM performance_schema.threads t
         JOIN performance_schema.events_statements_current s USING (THREAD_ID)
         WHERE t.PROCESSLIST_USER = 'app' AND s.SQL_TEXT LIKE '%holdfast.cluster%'";
    let asking = wait_for("the probe's connection", SOON, async || {
        let found: Vec<i64> = sqlx::query_scalar(asking)
            .fetch_all(&mut arbiter)
            .await
            .ok()?;
        (!found.is_empty()).then_some(found)
    })
    .await?;
    for connection in asking {
        let kill = AssertSqlSafe(format!("KILL {connection}"));
        sqlx::raw_sql(kill).execute(&mut arbiter).await?;
    }
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        let state = health_of(web, server.name())?.state;
        ensure!(state != ServerState::Down, "it is taken for dead");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is there serves on.
    held.pop().context("one of them")?.commit().await?;
    same(&look(&web.session(), 3).await?.0, &1)?;
    if is_primary {
        set(&web.session(), 3, 1)
            .await
            .context("a connection that came back")?;
    }
    sqlx::raw_sql("SET GLOBAL max_connections = 200")
        .execute(&mut arbiter)
        .await?;
    is_in_state(web, server.name(), ServerState::Healthy).await?;
    held.clear();
    web.is_whole().await?;
    set(&web.session(), 3, 1)
        .await
        .context("there is room again")
}
