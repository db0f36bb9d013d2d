//! What the loss of a server means to whoever reads and writes: reads go on, writes end in typed errors and in time, and all of it heals by
//! itself.

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
use harness::{Pair, wait_until};
use router::{Router, RouterConfig};
use router_common::{
    SOON, Web, as_arbiter, ask, config, get, kind, look, ours, pair, same, set, went,
};
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

/// What an error costs that nobody saw coming, with room for looks that a busy machine makes late on their way to it.
const PATIENCE_MS: u64 = 8000;
/// Well below that.
const QUICK: Duration = Duration::from_secs(5);
/// For what asks nobody; who waited for a connection would wait longer.
const AT_ONCE: Duration = Duration::from_millis(900);

const READERS: usize = 4;
const FRESH: &str = "replica;reason=fresh";
const REPLICA_DOWN: &str = "primary;reason=replica-down";
const PRIMARY_DOWN: &str = "replica;reason=primary-down";

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_through_the_loss_of_either_server_and_writes_end_in_time() -> Result<()> {
    let pair = pair().await?;
    let patient = RouterConfig {
        statement_timeout_ms: PATIENCE_MS,
        ..config(&pair)
    };
    let web = Web::start(&pair, patient).await?;

    a_replica_that_is_killed_fails_no_read(&pair, &web)
        .await
        .context("a replica that is killed")?;
    commits_without_the_replica_are_unknown_and_give_their_connections_back(&pair)
        .await
        .context("commits without the replica")?;
    what_was_unknown_is_done_and_all_is_as_before(&pair, &web)
        .await
        .context("the replica is back")?;

    a_replica_that_falls_silent_fails_no_read(&pair, &web)
        .await
        .context("a replica that falls silent")?;
    a_primary_that_falls_silent_refuses_writes_in_time(&pair, &web)
        .await
        .context("a primary that falls silent")?;

    a_primary_that_is_killed_fails_no_read_and_refuses_writes(&pair, &web)
        .await
        .context("a primary that is killed")?;
    pair.mysql_1().restart().await?;
    pair.open(pair.mysql_1()).await?;
    // Commits wait for it.
    pair.follow(pair.mysql_2(), pair.mysql_1().port()).await?;
    web.is_whole().await.context("the primary is back")?;
    set(&web.session(), 0, 5).await?;

    no_session_reads_from_before_its_own_write(&pair, &web)
        .await
        .context("a replica that has not applied a session's write")
}

/// Reads in new sessions, by several at once, until they are told to stop.
struct Readers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Reads>>,
}

#[derive(Default)]
struct Reads {
    slowest: Duration,
    places: BTreeMap<String, usize>,
}

impl Readers {
    /// Starts them, and waits until each has read from the replica.
    async fn start(web: &Web) -> Result<Self> {
        web.is_whole().await?;
        let stop = Arc::new(AtomicBool::new(false));
        let under_way = Arc::new(Barrier::new(READERS + 1));
        let mut tasks = JoinSet::new();
        for reader in 0..READERS {
            let (router, stop) = (web.router.clone(), stop.clone());
            let under_way = under_way.clone();
            tasks.spawn(async move {
                let mut reads = Reads::default();
                let first = timeout(SOON, async {
                    while reads.read(&router, reader).await? != FRESH {}
                    anyhow::Ok(())
                });
                let first = first.await;
                under_way.wait().await;
                first.context("no read has come to the replica")??;
                loop {
                    // The last read begins after the end is called for, so that what was waited for before that shows in it.
                    let is_last = stop.load(Ordering::Acquire);
                    reads.read(&router, reader).await?;
                    if is_last {
                        return Ok(reads);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        under_way.wait().await;
        Ok(Self { stop, tasks })
    }

    /// Ends them, and gives the slowest read, and where they were answered. A read that failed is an error, and so is one that took as
    /// long as an error that nobody saw coming.
    async fn stop(mut self) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Release);
        let mut all = Reads::default();
        while let Some(one) = self.tasks.join_next().await {
            let one = one??;
            all.slowest = all.slowest.max(one.slowest);
            for (place, count) in one.places {
                *all.places.entry(place).or_default() += count;
            }
        }
        ensure!(
            all.slowest < QUICK,
            "a read took {:?}: {:?}",
            all.slowest,
            all.places
        );
        Ok(all.places.into_keys().collect())
    }
}

impl Reads {
    /// One read, by a statement or by a transaction.
    async fn read(&mut self, router: &Router, reader: usize) -> Result<String> {
        let (session, began) = (router.session(None), Instant::now());
        let took = if reader.is_multiple_of(2) {
            get(&session, 1).await.context("a read failed")?;
            began.elapsed()
        } else {
            let reading = session.begin_read_only().await;
            let reading = reading.context("a transaction that reads failed")?;
            let took = began.elapsed();
            // What goes on in it is bound to its server.
            reading.rollback().await.ok();
            took
        };
        let place = went(&session).pop();
        let place = place.context("it was answered somewhere")?;
        self.slowest = self.slowest.max(took);
        *self.places.entry(place.clone()).or_default() += 1;
        Ok(place)
    }
}

async fn goes(web: &Web, place: &str) -> Result<()> {
    wait_until(place, SOON, async || web.goes("SELECT 1") == place)
        .await
        .with_context(|| format!("{:?}", web.router.health()))
}

async fn a_replica_that_is_killed_fails_no_read(pair: &Pair, web: &Web) -> Result<()> {
    let readers = Readers::start(web).await?;
    pair.mysql_2().kill().await?;
    goes(web, REPLICA_DOWN).await?;
    same(&look(&web.session(), 1).await?.1, &REPLICA_DOWN.to_owned())?;
    let places = readers.stop().await?;
    ensure!(places.contains(&REPLICA_DOWN.to_owned()), "{places:?}");
    Ok(())
}

/// The pool is small, so that a connection that does not come back would be missed.
fn brief(pair: &Pair) -> RouterConfig {
    RouterConfig {
        max_connections: 3,
        write_reserve: 1,
        statement_timeout_ms: 1000,
        ..config(pair)
    }
}

/// The rows whose commits wait for the replica, as many as the pool has connections.
const UNKNOWN: std::ops::Range<i32> = 1000..1003;

async fn commits_without_the_replica_are_unknown_and_give_their_connections_back(
    pair: &Pair,
) -> Result<()> {
    let web = Web::start_degraded(pair, brief(pair)).await?;
    let deadline = Duration::from_millis(brief(pair).statement_timeout_ms);
    for id in UNKNOWN {
        let (session, began) = (web.session(), Instant::now());
        let error = insert(&session, id).await?;
        same(&error, &"CommitOutcomeUnknown".to_owned())?;
        let took = began.elapsed();
        ensure!(
            deadline <= took && took < deadline * 5,
            "{id}: known to be unknown after {took:?}"
        );
        // Not acknowledged: nothing to prove to anybody.
        ensure!(session.causal_token().await?.is_none());
        same(&web.metric("router_in_flight", &["mysql-1"])?, &0.0)?;
    }
    let unknown = web.metric("router_errors_total", &["commit_outcome_unknown"])?;
    same(&unknown, &f64::from(UNKNOWN.end - UNKNOWN.start))?;
    // The server holds on to each of them; so that they do not become all that it has, writes are refused at once from now on.
    let abandoned = || web.metric("router_abandoned_connections", &["mysql-1"]);
    same(&abandoned()?, &3.0)?;
    let session = web.session();
    let refused = session.begin().await.err().context("one more commit")?;
    same(&kind(&refused), &"Overloaded".to_owned())?;
    // Reads have all their places.
    let held = [
        session.begin_read_only().await?,
        session.begin_read_only().await?,
    ];
    same(&went(&session), &vec![REPLICA_DOWN.to_owned(); 2])?;
    drop(held);

    pair.mysql_2().restart().await?;
    pair.follow(pair.mysql_2(), pair.mysql_1().port()).await?;
    wait_until("the server closes them", SOON, async || {
        abandoned().is_ok_and(|count| count == 0.0)
    })
    .await?;
    web.is_whole().await?;
    set(&web.session(), 2, 1).await?;
    Ok(())
}

/// Inserts a row, by a transaction or by a statement alone, and gives the error's name.
async fn insert(session: &Router, id: i32) -> Result<String> {
    let insert = || sqlx::query("INSERT INTO counters VALUES (?, 0)").bind(id);
    if id % 2 == 0 {
        return ours(insert().execute(session).await);
    }
    let mut transaction = session.begin().await?;
    insert().execute(&mut transaction).await?;
    let error = transaction.commit().await.err();
    error.as_ref().map(kind).context("it was committed")
}

async fn what_was_unknown_is_done_and_all_is_as_before(pair: &Pair, web: &Web) -> Result<()> {
    web.is_whole().await?;
    set(&web.session(), 1, 1).await?;
    let mut primary = pair.mysql_1().connect(harness::Account::App).await?;
    let count = "SELECT COUNT(*) FROM ledger.counters WHERE id >= 1000";
    let expected = i64::from(UNKNOWN.end - UNKNOWN.start);
    wait_until("the commits that waited are done", SOON, async || {
        ask::<i64>(&mut primary, count)
            .await
            .is_ok_and(|rows| rows == expected)
    })
    .await
}

/// A network that drops every packet: no connection breaks, nothing comes back.
async fn a_replica_that_falls_silent_fails_no_read(pair: &Pair, web: &Web) -> Result<()> {
    let readers = Readers::start(web).await?;
    pair.mysql_2().freeze().await?;
    goes(web, REPLICA_DOWN).await?;
    let places = readers.stop().await;
    pair.mysql_2().thaw().await?;
    let places = places?;
    ensure!(places.contains(&REPLICA_DOWN.to_owned()), "{places:?}");
    web.is_whole().await
}

async fn a_primary_that_falls_silent_refuses_writes_in_time(pair: &Pair, web: &Web) -> Result<()> {
    let readers = Readers::start(web).await?;
    pair.mysql_1().freeze().await?;
    let began = Instant::now();
    let refused = web.session().begin().await.err();
    let took = began.elapsed();
    let places = readers.stop().await;
    pair.mysql_1().thaw().await?;
    let refused = refused.context("a frozen server began a transaction")?;
    same(&kind(&refused), &"PrimaryUnavailable".to_owned())?;
    ensure!(took < QUICK, "known after {took:?}");
    places?;
    web.is_whole().await
}

async fn a_primary_that_is_killed_fails_no_read_and_refuses_writes(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let writer = web.session();
    set(&writer, 1, 2).await?;
    let token = writer.causal_token().await?.context("it wrote")?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let readers = Readers::start(web).await?;
    pair.mysql_1().kill().await?;
    let mut refusals = Vec::new();
    wait_until("the primary is known to be away", SOON, async || {
        let began = Instant::now();
        let refused = if refusals.len() % 2 == 0 {
            web.session().begin().await.map(drop).map_err(|e| kind(&e))
        } else {
            // The answer may have been lost with the connection; then this is not known.
            ours(set(&web.session(), 2, 2).await).map_or(Ok(()), Err)
        };
        refusals.push((refused, began.elapsed()));
        !web.router.health().writable && refusals.len() >= 4
    })
    .await?;
    for (refused, took) in &refusals {
        let refused = refused.as_ref().err().context("it was written")?;
        ensure!(
            ["PrimaryUnavailable", "CommitOutcomeUnknown"].contains(&refused.as_str()),
            "{refused}"
        );
        ensure!(*took < QUICK, "{refused} after {took:?}");
    }
    // Once that is known, nothing is sent.
    let began = Instant::now();
    same(
        &ours(set(&web.session(), 2, 2).await)?,
        &"PrimaryUnavailable".to_owned(),
    )?;
    let refused = web.session().pinned().await.err().context("pinned")?;
    same(&kind(&refused), &"PrimaryUnavailable".to_owned())?;
    ensure!(began.elapsed() < AT_ONCE, "after {:?}", began.elapsed());

    // The replica was in sync, so it has what was acknowledged, for whoever wrote it and for whoever proves it.
    same(&get(&writer, 1).await?, &2)?;
    same(&get(&web.router.session(Some(&token)), 1).await?, &2)?;
    goes(web, PRIMARY_DOWN).await?;
    same(&get(&writer, 1).await?, &2)?;
    let places = readers.stop().await?;
    ensure!(places.contains(&PRIMARY_DOWN.to_owned()), "{places:?}");
    let waited = web.router.wait_for_primary(Duration::from_millis(1)).await;
    same(
        &waited.as_ref().map_err(kind),
        &Err("PrimaryUnavailable".to_owned()),
    )
}

/// The replica has the write on its disk and has not applied it: the only server that is left must not answer without it.
async fn no_session_reads_from_before_its_own_write(pair: &Pair, web: &Web) -> Result<()> {
    as_arbiter(
        pair.mysql_1(),
        "SET GLOBAL rpl_semi_sync_source_enabled = ON",
    )
    .await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let writer = web.session();
    set(&writer, 1, 3).await?;
    let token = writer.causal_token().await?.context("it wrote")?;
    pair.mysql_1().kill().await?;
    wait_until("the primary is known to be away", SOON, async || {
        !web.router.health().writable
    })
    .await?;
    for session in [&writer, &web.router.session(Some(&token))] {
        same(&ours(get(session, 1).await)?, &"NoServer".to_owned())?;
    }
    // One that has written nothing reads on for as long as the data are young enough.
    wait_until("they are too old for anybody", SOON, async || {
        let read = get(&web.session(), 1).await;
        ours(read).is_ok_and(|error| error == "NoServer")
    })
    .await?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    wait_until("it is applied and read", SOON, async || {
        get(&writer, 1).await.is_ok_and(|n| n == 3)
    })
    .await?;
    same(&get(&web.session(), 1).await?, &3)
}
