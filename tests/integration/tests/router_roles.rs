//! What becomes of reads and writes when a server is lost, closed, or of another mind, and when roles change: known within a second,
//! said by typed errors at once, and healed without a storm. Reads under way and commits that nobody answers are in `router_outages`.

mod router_common;

use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{Account, Direction, Pair, Proxy, Server, wait_until};
use replication::ClusterRow;
use router::{Consistency, Router, RouterConfig, ServerState};
use router_common::{
    SOON, Web, as_arbiter, ask, config, get, health_of, is_in_state, look, ours, pair, proxy, same,
    set, through,
};
use sqlx::AssertSqlSafe;
use tokio::{sync::oneshot, task::JoinSet};

const FRESH: &str = "replica;reason=fresh";
const REPLICA_DOWN: &str = "primary;reason=replica-down";
const PRIMARY_DOWN: &str = "replica;reason=primary-down";

/// A second, with room for a machine that is busy.
const KNOWN_WITHIN: Duration = Duration::from_secs(8);
/// Many times what it costs to say no without asking anybody; a fraction of the acquire timeout.
const AT_ONCE: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_lost_or_closed_is_known_and_comes_back_slowly() -> Result<()> {
    let pair = pair().await?;
    let links = [proxy(pair.mysql_1()).await?, proxy(pair.mysql_2()).await?];
    let linked = || {
        let config = through(config(&pair), pair.mysql_1(), &links[0]);
        through(config, pair.mysql_2(), &links[1])
    };
    let web = Web::start(&pair, linked()).await?;

    let frozen = |link: &Proxy| {
        link.freeze(Direction::ToServer);
        link.freeze(Direction::ToClient);
    };
    a_primary_that_is_away_is_known(&pair, &web, async || links[0].cut())
        .await
        .context("cut")?;
    links[0].heal();
    a_primary_that_is_away_is_known(&pair, &web, async || frozen(&links[0]))
        .await
        .context("silent")?;
    links[0].heal();
    a_primary_that_is_read_only_refuses_writes(&pair, &web)
        .await
        .context("read-only")?;
    a_server_that_answers_now_and_then_stays_away(&pair, &links[1])
        .await
        .context("hysteresis")?;
    a_server_that_comes_back_is_not_stormed(&pair, &links[0])
        .await
        .context("storm")?;
    web.is_whole().await?;
    a_primary_that_is_away_is_known(&pair, &web, async || pair.mysql_1().kill().await.unwrap())
        .await
        .context("killed")?;
    Ok(())
}

async fn a_primary_that_is_away_is_known(
    pair: &Pair,
    web: &Web,
    fault: impl AsyncFnOnce(),
) -> Result<()> {
    web.is_whole().await?;
    set(&web.session(), 0, 1).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    web.is_whole().await?;
    fault().await;
    let began = Instant::now();
    wait_until("it is known to be away", SOON, async || {
        !web.router.health().writable
    })
    .await?;
    let known = began.elapsed();
    ensure!(known < KNOWN_WITHIN, "known after {known:?}");
    same(&health_of(web, "mysql-1")?.state, &ServerState::Down)?;
    same(&web.metric("router_server_up", &["mysql-1"])?, &0.0)?;

    let mut took = Vec::new();
    for number in 0..21 {
        let began = Instant::now();
        let error = match number % 3 {
            0 => ours(set(&web.session(), 0, 2).await)?,
            1 => ours(web.session().begin().await)?,
            _ => ours(web.session().pinned().await)?,
        };
        same(&error, &"PrimaryUnavailable".to_owned())?;
        took.push(began.elapsed());
    }
    took.sort();
    ensure!(took[10] < AT_ONCE, "{took:?}");
    // Nobody waits for a connection to a server that is known to be away.
    ensure!(took[20] < Duration::from_secs(1), "{took:?}");

    for _ in 0..10 {
        let (n, place) = look(&web.session(), 0).await?;
        same(&n, &1)?;
        ensure!([FRESH, PRIMARY_DOWN].contains(&place.as_str()), "{place}");
    }
    // Who demands the primary is told so.
    let strong = web.session().with_consistency(Consistency::Strong);
    same(
        &ours(get(&strong, 0).await)?,
        &"PrimaryUnavailable".to_owned(),
    )
}

async fn a_primary_that_is_read_only_refuses_writes(pair: &Pair, web: &Web) -> Result<()> {
    web.is_whole().await?;
    // One router that asks often, and one that has not asked since.
    let slow = RouterConfig {
        probe_interval_ms: 600_000,
        probe_timeout_ms: 10_000,
        max_lag_ms: 600_000,
        ..config(pair)
    };
    let unaware = Web::start(pair, slow).await?;
    as_arbiter(pair.mysql_1(), "SET GLOBAL super_read_only = ON").await?;
    let session = unaware.session();
    let mut transaction = session.begin().await?;
    let write = sqlx::query("UPDATE counters SET n = 3 WHERE id = 0");
    let refused = ours(write.execute(&mut transaction).await)?;
    same(&refused, &"PrimaryUnavailable".to_owned())?;
    drop(transaction);
    // That was reason enough to ask.
    wait_until("it has asked", SOON, async || {
        !unaware.router.health().writable
    })
    .await?;
    wait_until("the other one too", SOON, async || {
        !web.router.health().writable
    })
    .await?;
    for router in [&unaware, web] {
        let began = Instant::now();
        for _ in 0..5 {
            let error = ours(set(&router.session(), 0, 3).await)?;
            same(&error, &"PrimaryUnavailable".to_owned())?;
        }
        ensure!(began.elapsed() < 5 * AT_ONCE, "{:?}", began.elapsed());
        // It still answers, and so does the replica.
        same(&look(&router.session(), 0).await?, &(1, FRESH.to_owned()))?;
        let strong = router.session().with_consistency(Consistency::Strong);
        same(&get(&strong, 0).await?, &1)?;
    }
    pair.open(pair.mysql_1()).await?;
    web.router.wait_for_primary(SOON).await?;
    set(&web.session(), 0, 1).await?;
    Ok(())
}

/// It takes fifty answers in a row here, and a link that breaks again and again gives fewer.
async fn a_server_that_answers_now_and_then_stays_away(pair: &Pair, link: &Proxy) -> Result<()> {
    let config = RouterConfig {
        recovery_probes: 50,
        ..through(config(pair), pair.mysql_2(), link)
    };
    let web = Web::start(pair, config).await?;
    link.cut();
    is_in_state(&web, "mysql-2", ServerState::Down).await?;
    let mut answers = 0;
    for _ in 0..12 {
        link.heal();
        let answered = wait_until("it has answered", SOON, async || {
            let health = health_of(&web, "mysql-2");
            health.is_ok_and(|server| server.up || server.error.contains("has answered"))
        });
        answered.await?;
        let health = health_of(&web, "mysql-2")?;
        ensure!(
            !health.up && health.state == ServerState::Down,
            "{health:?}"
        );
        answers += 1;
        same(&web.goes("SELECT 1"), &REPLICA_DOWN.to_owned())?;
        link.cut();
        wait_until("it is silent", SOON, async || {
            health_of(&web, "mysql-2").is_ok_and(|server| !server.error.contains("has answered"))
        })
        .await?;
    }
    same(&answers, &12)?;
    link.heal();
    is_in_state(&web, "mysql-2", ServerState::Healthy).await?;
    web.is_whole().await
}

/// Two hundred statements at once, on a pool that has no connection and a link on which a login takes long.
async fn a_server_that_comes_back_is_not_stormed(pair: &Pair, link: &Proxy) -> Result<()> {
    const LOGINS: u32 = 2;
    const MAX: u32 = 12;
    let config = RouterConfig {
        max_connecting: LOGINS,
        max_connections: MAX,
        acquire_timeout_ms: 18_000,
        statement_timeout_ms: 20_000,
        probe_timeout_ms: 2000,
        ..through(config(pair), pair.mysql_1(), link)
    };
    let web = Web::start(pair, config).await?;
    link.cut();
    is_in_state(&web, "mysql-1", ServerState::Down).await?;
    link.heal();
    web.router.wait_for_primary(SOON).await?;
    link.delay(Direction::ToServer, Duration::from_millis(50));
    let mut arbiter = pair.mysql_1().connect(Account::Arbiter).await?;
    let logins = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Connections'";
    // The heartbeat logs in as somebody else.
    let open = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'";
    let (logins_before, open_before): (i64, i64) = (
        ask(&mut arbiter, logins).await?,
        ask(&mut arbiter, open).await?,
    );
    let began = Instant::now();
    let mut statements = JoinSet::new();
    for _ in 0..200 {
        let session = web.session();
        // On the primary, and without the disk.
        statements.spawn(async move {
            let locking = sqlx::query("SELECT n FROM counters WHERE id = 3 FOR SHARE");
            locking.execute(&session).await.map(drop)
        });
    }
    // Those of the probes and of the sampler beside them.
    let at_one_time = i64::from(LOGINS) + 2;
    let being_made =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'unauthenticated user'";
    let mut most = 0;
    while !statements.is_empty() {
        let now: i64 = ask(&mut arbiter, being_made).await?;
        most = most.max(now);
        while let Some(done) = statements.try_join_next() {
            done?.context("a statement")?;
        }
    }
    ensure!(most <= at_one_time, "{most} logins at one time");
    ensure!(most > 0, "no login was seen");
    let open: i64 = ask(&mut arbiter, open).await?;
    ensure!(
        open <= open_before + i64::from(MAX) + 2,
        "{open} connections, {open_before} before"
    );
    let logins: i64 = ask::<i64>(&mut arbiter, logins).await? - logins_before;
    let others = 4 * (began.elapsed().as_secs() as i64 + 1) + 10;
    ensure!(logins <= i64::from(MAX) + others, "{logins} logins");
    link.heal();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_arbiter_publishes_is_done_and_a_change_of_roles_keeps_the_pools() -> Result<()> {
    let mut pair = pair().await?;
    let web = Web::start(&pair, config(&pair)).await?;

    a_replica_that_lags_gets_no_reads(&pair, &web)
        .await
        .context("lagging")?;
    maintenance_of_the_replica_sends_reads_to_the_primary(&pair, &web)
        .await
        .context("maintenance of the replica")?;
    maintenance_of_the_primary_refuses_writes(&pair, &web)
        .await
        .context("maintenance of the primary")?;
    a_phase_is_believed_although_the_replica_has_not_heard_of_it(&pair, &web)
        .await
        .context("a phase that the replica has not applied")?;
    a_switchover_that_does_not_end_refuses_writes(&pair)
        .await
        .context("a switchover that does not end")?;
    who_waits_for_a_connection_waits_into_a_switchover(&pair)
        .await
        .context("a switchover and a pool that is full")?;
    a_switchover_fails_no_write(&mut pair)
        .await
        .context("a switchover")?;
    pair.follow(pair.mysql_1(), pair.mysql_2().port()).await?;
    web.is_whole().await?;
    a_replica_with_a_history_of_its_own_gets_no_reads(pair.mysql_2(), pair.mysql_1(), &web)
        .await
        .context("errant")
}

async fn a_replica_that_lags_gets_no_reads(pair: &Pair, web: &Web) -> Result<()> {
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    set(&web.session(), 0, 1).await?;
    is_in_state(web, "mysql-2", ServerState::Lagging).await?;
    same(
        &web.metric("router_server_state", &["mysql-2", "lagging"])?,
        &1.0,
    )?;
    same(
        &web.metric("router_server_state", &["mysql-2", "healthy"])?,
        &0.0,
    )?;
    same(
        &look(&web.session(), 0).await?,
        &(1, "primary;reason=lag".to_owned()),
    )?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    is_in_state(web, "mysql-2", ServerState::Healthy).await?;
    web.is_whole().await
}

async fn maintenance_of_the_replica_sends_reads_to_the_primary(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let phase = format!("{}mysql-2", ClusterRow::MAINTENANCE);
    pair.publish_phase(&phase).await?;
    is_in_state(web, "mysql-2", ServerState::Draining).await?;
    for n in 0..10 {
        let session = web.session();
        set(&session, 0, n).await?;
        let place = look(&session, 0).await?.1;
        ensure!(place.starts_with("primary;"), "{place}");
        same(
            &look(&web.session(), 0).await?,
            &(n, REPLICA_DOWN.to_owned()),
        )?;
        same(&health_of(web, "mysql-2")?.state, &ServerState::Draining)?;
    }
    same(
        &web.metric("router_server_state", &["mysql-2", "draining"])?,
        &1.0,
    )?;
    same(&health_of(web, "mysql-2")?.in_use, &0)?;
    pair.publish_phase("steady").await?;
    web.is_whole().await
}

async fn maintenance_of_the_primary_refuses_writes(pair: &Pair, web: &Web) -> Result<()> {
    set(&web.session(), 0, 20).await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let phase = format!("{}mysql-1", ClusterRow::MAINTENANCE);
    pair.publish_phase(&phase).await?;
    is_in_state(web, "mysql-1", ServerState::Draining).await?;
    ensure!(!web.router.health().writable);
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        same(
            &ours(set(&web.session(), 0, 21).await)?,
            &"Maintenance".to_owned(),
        )?;
        same(
            &ours(web.session().begin().await)?,
            &"Maintenance".to_owned(),
        )?;
        same(
            &ours(web.session().pinned().await)?,
            &"Maintenance".to_owned(),
        )?;
        took.push(began.elapsed());
        same(&look(&web.session(), 0).await?, &(20, FRESH.to_owned()))?;
    }
    took.sort();
    ensure!(took[2] < 3 * AT_ONCE, "{took:?}");
    pair.publish_phase("steady").await?;
    web.router.wait_for_primary(SOON).await?;
    set(&web.session(), 0, 22).await.context("steady again")?;
    web.is_whole().await
}

/// The row is replicated as everything else is: the replica may hold an older one of the same epoch.
async fn a_phase_is_believed_although_the_replica_has_not_heard_of_it(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let phase = format!("{}mysql-2", ClusterRow::MAINTENANCE);
    pair.publish_phase(&phase).await?;
    let known = is_in_state(web, "mysql-2", ServerState::Draining).await;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    known?;
    pair.publish_phase("steady").await?;
    web.is_whole().await
}

async fn a_switchover_that_does_not_end_refuses_writes(pair: &Pair) -> Result<()> {
    let config = RouterConfig {
        hold_timeout_ms: 1000,
        max_waiting: 5,
        ..config(pair)
    };
    let limit = Duration::from_millis(config.hold_timeout_ms);
    let web = Web::start(pair, config).await?;
    pair.publish_phase(ClusterRow::SWITCHOVER).await?;
    holds(&web).await?;
    let mut writes = JoinSet::new();
    for _ in 0..5 {
        let session = web.session();
        writes.spawn(async move {
            let began = Instant::now();
            let error = ours(set(&session, 0, 30).await)?;
            anyhow::Ok((error, began.elapsed()))
        });
    }
    held(&web, 5.0).await?;
    // One too many, and nobody's read waits.
    same(
        &ours(set(&web.session(), 0, 31).await)?,
        &"Overloaded".to_owned(),
    )?;
    same(&web.metric("router_held", &[])?, &5.0)?;
    same(
        &web.metric("router_refused_total", &["mysql-1", "max_waiting"])?,
        &1.0,
    )?;
    same(&look(&web.session(), 0).await?.1, &FRESH.to_owned())?;
    while let Some(ended) = writes.join_next().await {
        let (error, took) = ended??;
        same(&error, &"Maintenance".to_owned())?;
        ensure!(
            limit <= took && took < limit + Duration::from_secs(1),
            "{took:?}"
        );
    }
    same(&web.metric("router_hold_expired_total", &[])?, &5.0)?;
    // It was called off: who waits then is served.
    let session = web.session();
    let write = tokio::spawn(async move {
        set(&session, 0, 32).await?;
        get(&session, 0).await
    });
    let pinned = web.session();
    let pinned = tokio::spawn(async move { pinned.pinned().await.map(drop) });
    held(&web, 2.0).await?;
    pair.publish_phase("steady").await?;
    pinned.await?.context("a pinned connection")?;
    same(&write.await?.context("called off")?, &32)
}

async fn holds(web: &Web) -> Result<()> {
    wait_until("writes are held", SOON, async || {
        web.router.health().holding
    })
    .await
}

async fn held(web: &Web, count: f64) -> Result<()> {
    wait_until("they wait", SOON, async || {
        web.metric("router_held", &[])
            .is_ok_and(|held| held == count)
    })
    .await
    .with_context(|| format!("{:?}", web.metric("router_held", &[])))
}

async fn a_switchover_fails_no_write(pair: &mut Pair) -> Result<()> {
    const WRITES: i32 = 60;
    let config = RouterConfig {
        hold_timeout_ms: 15_000,
        statement_timeout_ms: 20_000,
        acquire_timeout_ms: 10_000,
        max_connections: 8,
        max_connecting: 1,
        ..config(pair)
    };
    let web = Web::start(pair, config).await?;
    // The replica's pool has some connections, which are to stay.
    let mut reads = Vec::new();
    for _ in 0..5 {
        reads.push(web.session().begin_read_only().await?);
    }
    drop(reads);
    wait_until("they are back", SOON, async || {
        health_of(&web, "mysql-2").is_ok_and(|server| server.idle == 5)
    })
    .await?;
    let before = connections(pair.mysql_2()).await?;

    // One has begun, and does not end in time.
    let (begun, has_begun) = oneshot::channel();
    let (end, may_end) = oneshot::channel();
    let late = tokio::spawn(late(web.session(), begun, may_end));
    has_begun.await?;

    pair.publish_phase(ClusterRow::SWITCHOVER).await?;
    holds(&web).await?;
    let mut writes = JoinSet::new();
    for number in 0..WRITES {
        let session = web.session();
        writes.spawn(async move {
            let id = 2000 + number;
            let insert = sqlx::query("INSERT INTO counters VALUES (?, 1)").bind(id);
            match number % 2 {
                0 => {
                    let mut transaction = session.begin().await?;
                    insert.execute(&mut transaction).await?;
                    transaction.commit().await?;
                }
                _ => {
                    insert.execute(&session).await?;
                }
            }
            same(&get(&session, id).await?, &1)?;
            let places = session.decisions();
            ensure!(
                places.iter().all(|place| &*place.server == "mysql-2"),
                "{places:?}"
            );
            ensure!(places.iter().all(|place| place.epoch == 2), "{places:?}");
            anyhow::Ok(())
        });
    }
    held(&web, WRITES.into()).await?;
    same(&look(&web.session(), 0).await?.1, &FRESH.to_owned()).context("a read meanwhile")?;
    as_arbiter(pair.mysql_1(), "SET GLOBAL super_read_only = ON").await?;
    let _ = end.send(());
    held(&web, (WRITES + 1).into()).await?;
    pair.promote("mysql-2", 2).await?;
    while let Some(write) = writes.join_next().await {
        write?.context("a write that was held")?;
    }
    same(&web.metric("router_hold_expired_total", &[])?, &0.0)?;
    late.await?
        .context("a transaction whose primary was closed")?;
    same(&web.metric("router_transactions_retried_total", &[])?, &1.0)?;
    let after = connections(pair.mysql_2()).await?;
    let gone: Vec<_> = before.difference(&after).collect();
    ensure!(gone.is_empty(), "of {before:?} these are gone: {gone:?}");
    ensure!(
        after.len() <= before.len() + 8,
        "{before:?}, then {after:?}"
    );
    let mut primary = pair.mysql_2().connect(Account::App).await?;
    let count = "SELECT COUNT(*) FROM ledger.counters WHERE id >= 2000";
    same(&ask::<i64>(&mut primary, count).await?, &WRITES.into())
}

/// Counts to two in one transaction, and waits in between when it is done for the first time.
async fn late(
    session: Router,
    begun: oneshot::Sender<()>,
    may_end: oneshot::Receiver<()>,
) -> Result<()> {
    let first = Mutex::new(Some((begun, may_end)));
    let count = session.transaction(|tx| {
        let first = first.lock().expect("nobody panics with it").take();
        Box::pin(async move {
            let one = "INSERT INTO counters VALUES (1999, 1)";
            sqlx::query(one).execute(&mut *tx).await?;
            if let Some((begun, may_end)) = first {
                let _ = begun.send(());
                let _ = may_end.await;
            }
            let two = "UPDATE counters SET n = n + 1 WHERE id = 1999";
            sqlx::query(two).execute(&mut *tx).await.map(drop)
        })
    });
    let done: Result<(), sqlx::Error> = count.await;
    done?;
    same(&get(&session, 1999).await?, &2)?;
    let last = session.decisions().into_iter().next_back();
    let last = last.context("a place")?;
    same(&last.server.to_string(), &"mysql-2".to_owned())
}

/// Nothing of it has begun, so it is held: the server that it waited for may be closed when it gets its connection.
async fn who_waits_for_a_connection_waits_into_a_switchover(pair: &Pair) -> Result<()> {
    let config = RouterConfig {
        max_connections: 2,
        write_reserve: 1,
        hold_timeout_ms: 15_000,
        acquire_timeout_ms: 10_000,
        statement_timeout_ms: 20_000,
        ..config(pair)
    };
    let web = Web::start(pair, config).await?;
    let begun = [web.session().begin().await?, web.session().begin().await?];
    let mut writes = JoinSet::new();
    for number in 0..9 {
        let session = web.session();
        writes.spawn(async move {
            match number % 3 {
                0 => session.begin().await?.commit().await?,
                1 => drop(session.pinned().await?),
                _ => set(&session, 3, 1).await?,
            }
            anyhow::Ok(())
        });
    }
    wait_until("they wait for a connection", SOON, async || {
        health_of(&web, "mysql-1").is_ok_and(|server| server.waiting == 9)
    })
    .await?;
    pair.publish_phase(ClusterRow::SWITCHOVER).await?;
    holds(&web).await?;
    // What has begun is finished.
    for mut transaction in begun {
        sqlx::query("UPDATE counters SET n = n + 1 WHERE id = 2")
            .execute(&mut transaction)
            .await?;
        transaction.commit().await?;
    }
    held(&web, 9.0).await?;
    same(&health_of(&web, "mysql-1")?.in_use, &0)?;
    pair.publish_phase("steady").await?;
    while let Some(write) = writes.join_next().await {
        write?.context("a write that was held")?;
    }
    Ok(())
}

/// The connections of the routers' account.
async fn connections(server: &Server) -> Result<BTreeSet<u64>> {
    let mut arbiter = server.connect(Account::Arbiter).await?;
    let ids = "SELECT CAST(ID AS UNSIGNED) FROM information_schema.PROCESSLIST WHERE USER = 'app'";
    let ids: Vec<u64> = sqlx::query_scalar(ids).fetch_all(&mut arbiter).await?;
    Ok(ids.into_iter().collect())
}

async fn a_replica_with_a_history_of_its_own_gets_no_reads(
    primary: &Server,
    replica: &Server,
    web: &Web,
) -> Result<()> {
    let name = replica.name();
    as_arbiter(replica, "SET GLOBAL super_read_only = OFF").await?;
    as_arbiter(
        replica,
        "REPLACE INTO holdfast.heartbeat VALUES ('nobody', 1, CURRENT_TIMESTAMP(6))",
    )
    .await?;
    as_arbiter(replica, "SET GLOBAL super_read_only = ON").await?;
    is_in_state(web, name, ServerState::Errant).await?;
    same(&web.metric("router_server_state", &[name, "errant"])?, &1.0)?;
    same(
        &web.metric("router_server_state", &[name, "healthy"])?,
        &0.0,
    )?;
    let eventual = web.session().with_consistency(Consistency::Eventual {
        max_lag: Duration::from_secs(3600),
    });
    for session in [web.session(), eventual] {
        for _ in 0..10 {
            same(&look(&session, 0).await?.1, &REPLICA_DOWN.to_owned())?;
        }
    }

    // It is not forgotten while there is nobody to compare it with.
    primary.kill().await?;
    wait_until("the primary is away", SOON, async || {
        !web.router.health().writable
    })
    .await?;
    for _ in 0..20 {
        same(&health_of(web, name)?.state, &ServerState::Errant)?;
        let read = look(&web.session(), 0).await;
        ensure!(read.is_err(), "a read of another history: {read:?}");
    }
    primary.restart().await?;
    let mut arbiter = primary.connect(Account::Arbiter).await?;
    sqlx::raw_sql("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF; SET GLOBAL offline_mode = OFF")
        .execute(&mut arbiter)
        .await?;
    web.router.wait_for_primary(SOON).await?;
    same(&health_of(web, name)?.state, &ServerState::Errant)?;

    // Mended as usual: the primary takes it into its history as an empty transaction.
    let executed = "SELECT @@GLOBAL.gtid_executed";
    let of_replica: String = ask(&mut replica.connect(Account::Arbiter).await?, executed).await?;
    let of_primary: String = ask(&mut arbiter, executed).await?;
    let (of_replica, of_primary): (replication::GtidSet, replication::GtidSet) =
        (of_replica.parse()?, of_primary.parse()?);
    let errant = of_replica.subtract(&of_primary);
    for gtid in each(&errant.to_string())? {
        let sql = format!(
            "SET SESSION gtid_next = '{gtid}'; BEGIN; COMMIT; SET SESSION gtid_next = 'AUTOMATIC'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut arbiter)
            .await?;
    }
    is_in_state(web, name, ServerState::Healthy).await?;
    web.is_whole().await
}

/// The transactions of a set that has no tags: `uuid:1-2:5`.
fn each(set: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for of_server in set.split(',') {
        let (uuid, ranges) = of_server.trim().split_once(':').context("a set")?;
        for range in ranges.split(':') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            for number in first.parse::<u64>()?..=last.parse()? {
                all.push(format!("{uuid}:{number}"));
            }
        }
    }
    Ok(all)
}
