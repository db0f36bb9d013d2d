//! What is sent a second time: a read, once, before its first row. What may write is never sent twice, whenever the link breaks.

mod router_common;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use harness::{Account, Direction, Pair, Proxy, Server, wait_until};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use router::{Router, RouterConfig, RouterError, ServerState};
use router_common::{
    SOON, Web, as_arbiter, config, is_in_state, kind, ours, pair, proxy, same, through, went,
};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, MySqlExecutor};
use tokio::time::sleep;

/// Inside the container.
const LOG: &str = "/var/lib/mysql/statements.log";
const FRESH: &str = "replica;reason=fresh";
const REPLICA_DOWN: &str = "primary;reason=replica-down";

const WRITERS: i64 = 4;
const CUTS: u32 = 14;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_never_sent_twice_whenever_the_link_breaks() -> Result<()> {
    let pair = pair().await?;
    let seed: u64 = rand::rng().random();
    eprintln!("seed {seed}");
    let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
    // Nothing but the router keeps a row from being there twice.
    sqlx::raw_sql(
        "CREATE TABLE ledger.written (seq INT PRIMARY KEY AUTO_INCREMENT, id BIGINT NOT NULL)",
    )
    .execute(&mut migrate)
    .await?;
    let link = proxy(pair.mysql_1()).await?;
    let hasty = RouterConfig {
        statement_timeout_ms: 1500,
        ..through(config(&pair), pair.mysql_1(), &link)
    };
    let web = Web::start(&pair, hasty).await?;

    let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let breaking = async {
        let broken = break_links(&link, &web, seed, &done).await;
        is_over.store(true, Ordering::Release);
        broken
    };
    let writers = (0..WRITERS).map(|writer| write(&web, writer, &is_over, &done));
    let (broken, wrote) = tokio::join!(breaking, futures::future::try_join_all(writers));
    broken.with_context(|| format!("seed {seed}"))?;
    let wrote = wrote.with_context(|| format!("seed {seed}"))?;
    web.router.close().await;
    what_was_written_is_as_was_said(&pair, &wrote)
        .await
        .with_context(|| format!("seed {seed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_sent_once_more_before_its_first_row_and_nothing_else_is() -> Result<()> {
    let pair = pair().await?;
    for server in [pair.mysql_1(), pair.mysql_2()] {
        let set_up = format!("SET GLOBAL general_log_file = '{LOG}'; SET GLOBAL general_log = ON");
        let mut arbiter = server.connect(Account::Arbiter).await?;
        sqlx::raw_sql(AssertSqlSafe(set_up))
            .execute(&mut arbiter)
            .await?;
    }
    let links = [proxy(pair.mysql_1()).await?, proxy(pair.mysql_2()).await?];
    // The probes notice nothing by themselves: what happens here happens to one connection.
    let patient = RouterConfig {
        probe_timeout_ms: 4000,
        statement_timeout_ms: 8000,
        // A replica that counted as healthy is still that when a busy machine comes to look.
        max_lag_ms: 3000,
        ..through(
            through(config(&pair), pair.mysql_1(), &links[0]),
            pair.mysql_2(),
            &links[1],
        )
    };
    let web = Web::start(&pair, patient).await?;
    a_read_whose_server_dies_is_answered_by_the_other(&pair, &web, &links)
        .await
        .context("before the first row")?;
    a_read_is_tried_twice_at_most(&pair, &web, &links)
        .await
        .context("twice")?;
    after_the_first_row_it_is_an_error(&pair, &web, &links)
        .await
        .context("after the first row")?;
    what_may_write_or_lock_is_sent_once(&pair, &web, &links)
        .await
        .context("what may write")
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Unknown,
    /// It says that nothing was done.
    Refused,
}

impl Outcome {
    fn of<T>(result: Result<T, sqlx::Error>) -> Result<Self> {
        let Err(error) = result else {
            return Ok(Self::Done);
        };
        match RouterError::of(&error) {
            Some(RouterError::CommitOutcomeUnknown { .. }) => Ok(Self::Unknown),
            Some(
                RouterError::PrimaryUnavailable { .. }
                | RouterError::Overloaded { .. }
                | RouterError::Maintenance { .. },
            ) => Ok(Self::Refused),
            _ => Err(error).context("an error that does not say what was done"),
        }
    }
}

/// Breaks the link at random moments, in one of the ways in which links break.
async fn break_links(link: &Proxy, web: &Web, seed: u64, done: &AtomicUsize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..CUTS {
        // Something has to be under way, and on a busy machine that takes its time.
        let enough = done.load(Ordering::Acquire) + 4;
        wait_until("writes go on", SOON, async || {
            done.load(Ordering::Acquire) >= enough
        })
        .await?;
        sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        match random.random_range(0..4) {
            0 => {}
            1 => link.freeze(Direction::ToServer),
            2 => link.freeze(Direction::ToClient),
            _ => link.delay(Direction::ToClient, Duration::from_millis(20)),
        }
        sleep(Duration::from_micros(random.random_range(0..30_000))).await;
        link.cut();
        sleep(Duration::from_micros(random.random_range(0..5000))).await;
        link.heal();
    }
    web.router.wait_for_primary(SOON).await?;
    Ok(())
}

/// Every write of one writer, by its number. Odd ones are transactions.
type Written = BTreeMap<i64, Outcome>;

/// Writes without a pause, and for a while after the last cut.
async fn write(
    web: &Web,
    writer: i64,
    is_over: &AtomicBool,
    done: &AtomicUsize,
) -> Result<Written> {
    let mut written = Written::new();
    let mut left = 5;
    for number in 0.. {
        if is_over.load(Ordering::Acquire) {
            left -= 1;
        }
        if left == 0 {
            break;
        }
        let id = writer * 1_000_000 + number;
        let (session, began) = (web.session(), Instant::now());
        let outcome = match number % 3 {
            0 => Outcome::of(insert(&session, id).await),
            1 => {
                let add = sqlx::query("UPDATE counters SET n = n + 1 WHERE id = ?").bind(writer);
                Outcome::of(add.execute(&session).await)
            }
            _ => Outcome::of(in_a_transaction(&session, id).await),
        };
        let outcome = outcome.with_context(|| format!("write {id}"))?;
        ensure!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
        written.insert(id, outcome);
        done.fetch_add(usize::from(outcome == Outcome::Done), Ordering::AcqRel);
        if outcome == Outcome::Refused {
            // There is nothing to be done before somebody is back.
            let _ = web.router.wait_for_primary(Duration::from_millis(50)).await;
        }
    }
    Ok(written)
}

async fn in_a_transaction(session: &Router, id: i64) -> Result<(), sqlx::Error> {
    let mut transaction = session.begin().await?;
    insert(&mut transaction, id).await?;
    transaction.commit().await
}

async fn insert(executor: impl MySqlExecutor<'_>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO written (id) VALUES (?)")
        .bind(id)
        .execute(executor)
        .await
        .map(drop)
}

async fn what_was_written_is_as_was_said(pair: &Pair, wrote: &[Written]) -> Result<()> {
    let mut primary = pair.mysql_1().connect(Account::App).await?;
    // Nothing is under way any more.
    wait_until("what was given up has ended", SOON, async || {
        transactions(pair).await.is_ok_and(|count| count == 0)
    })
    .await?;
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("SELECT id, COUNT(*) FROM ledger.written GROUP BY id")
            .fetch_all(&mut primary)
            .await?;
    let rows: BTreeMap<i64, i64> = rows.into_iter().collect();
    let counters: BTreeMap<i64, i64> =
        sqlx::query_as("SELECT CAST(id AS SIGNED), CAST(n AS SIGNED) FROM ledger.counters")
            .fetch_all(&mut primary)
            .await?
            .into_iter()
            .collect();
    let log = inserts_in_the_binary_log(pair).await?;
    let mut seen = BTreeMap::<_, usize>::new();
    for (writer, written) in (0..).zip(wrote) {
        let (mut done, mut unknown) = (0, 0);
        for (id, outcome) in written {
            *seen.entry(format!("{outcome:?}")).or_default() += 1;
            if id % 3 == (writer * 1_000_000 + 1) % 3 {
                done += i64::from(*outcome == Outcome::Done);
                unknown += i64::from(*outcome == Outcome::Unknown);
                continue;
            }
            let times = rows.get(id).copied().unwrap_or_default();
            let as_said = match outcome {
                Outcome::Done => times == 1,
                Outcome::Unknown => times <= 1,
                Outcome::Refused => times == 0,
            };
            ensure!(as_said, "{id} was {outcome:?}, and is there {times} times");
            let logged = log.get(id).copied().unwrap_or_default();
            ensure!(logged <= 1, "{id} is in the binary log {logged} times");
        }
        let n = counters[&writer];
        ensure!(
            (done..=done + unknown).contains(&n),
            "counter {writer} is {n}; {done} were done and {unknown} unknown"
        );
    }
    eprintln!("{seen:?}");
    // A link that breaks only where nothing is under way would show nothing.
    ensure!(seen.get("Done").is_some_and(|done| *done > 20), "{seen:?}");
    ensure!(seen.contains_key("Unknown"), "{seen:?}");
    Ok(())
}

async fn transactions(pair: &Pair) -> Result<i64> {
    let mut arbiter = pair.mysql_1().connect(Account::Arbiter).await?;
    let open = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id > 0";
    router_common::ask(&mut arbiter, open).await
}

/// How often each row was inserted, by the primary's own log.
async fn inserts_in_the_binary_log(pair: &Pair) -> Result<BTreeMap<i64, usize>> {
    let read = "cd /var/lib/mysql && mysqlbinlog --verbose --base64-output=decode-rows $(cat binlog.index) | grep -A3 'INSERT INTO .ledger.\\..written.' | grep '@2='";
    let text = pair.mysql_1().run(&["sh", "-c", read]).await?;
    let mut times = BTreeMap::new();
    for line in text.lines() {
        let (_, id) = line.split_once("@2=").context("a value")?;
        let id = id.split_whitespace().next().context("a number")?.parse()?;
        *times.entry(id).or_default() += 1;
    }
    Ok(times)
}

/// How often a statement with this mark came to a server.
async fn sent(server: &Server, mark: &str) -> Result<usize> {
    Ok(server.run(&["cat", LOG]).await?.matches(mark).count())
}

/// Both servers are there, and the web server has an idle connection to each.
async fn warm(pair: &Pair, web: &Web, links: &[Proxy; 2]) -> Result<Router> {
    for link in links {
        link.heal();
    }
    web.is_whole().await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let strong = web.session().with_consistency(router::Consistency::Strong);
    // That a link was cut may be noticed only now.
    wait_until("both answer", SOON, async || {
        for session in [&web.session(), &strong] {
            if sqlx::raw_sql("SELECT 1").execute(session).await.is_err() {
                return false;
            }
        }
        web.goes("SELECT 1") == FRESH && web.router.health().writable
    })
    .await?;
    Ok(web.session())
}

/// Asks by text, which is one round trip, and breaks the link of the server that has the question.
async fn ask_and_cut(
    session: &Router,
    sql: &'static str,
    mark: &str,
    server: &Server,
    link: &Proxy,
) -> Result<Result<usize, sqlx::Error>> {
    link.freeze(Direction::ToClient);
    let asking = tokio::spawn({
        let session = session.clone();
        async move { Ok(sqlx::raw_sql(sql).fetch_all(&session).await?.len()) }
    });
    wait_until("the server has it", SOON, async || {
        sent(server, mark).await.is_ok_and(|times| times == 1)
    })
    .await?;
    link.cut();
    Ok(asking.await?)
}

async fn a_read_whose_server_dies_is_answered_by_the_other(
    pair: &Pair,
    web: &Web,
    links: &[Proxy; 2],
) -> Result<()> {
    let session = warm(pair, web, links).await?;
    let retried = web.metric("router_reads_retried_total", &[])?;
    let sql = "SELECT n FROM counters WHERE id < 4 /* dies once */";
    let rows = ask_and_cut(&session, sql, "dies once", pair.mysql_2(), &links[1]).await?;
    same(&rows?, &4)?;
    same(
        &went(&session),
        &vec![FRESH.to_owned(), REPLICA_DOWN.to_owned()],
    )?;
    same(&sent(pair.mysql_2(), "dies once").await?, &1)?;
    same(&sent(pair.mysql_1(), "dies once").await?, &1)?;
    same(
        &web.metric("router_reads_retried_total", &[])?,
        &(retried + 1.0),
    )?;
    // The other way round: a read on the primary, and the replica is there when it is sent again. A lock holds the read back, not the
    // link: frozen, that would hold the probes back too, and the router could not learn that the replica has caught up.
    warm(pair, web, links).await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    web.lags().await?;
    let locking = lock_counters(pair.mysql_1()).await?;
    let session = web.session();
    let asking = tokio::spawn({
        let session = session.clone();
        async move {
            let sql = "SELECT n FROM counters WHERE id < 4 /* the other way */";
            Ok::<_, sqlx::Error>(sqlx::raw_sql(sql).fetch_all(&session).await?.len())
        }
    });
    wait_until("the primary has it", SOON, async || {
        sent(pair.mysql_1(), "the other way")
            .await
            .is_ok_and(|times| times == 1)
    })
    .await?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    is_in_state(web, pair.mysql_2().name(), ServerState::Healthy).await?;
    links[0].cut();
    same(&asking.await??, &4)?;
    locking.close().await?;
    same(&session.decisions().len(), &2)?;
    same(&sent(pair.mysql_1(), "the other way").await?, &1)?;
    same(&sent(pair.mysql_2(), "the other way").await?, &1)
}

/// Reads of the table wait on this server, until the connection ends.
async fn lock_counters(server: &Server) -> Result<MySqlConnection> {
    let mut locking = server.connect(Account::Migrate).await?;
    sqlx::raw_sql("LOCK TABLES ledger.counters WRITE")
        .execute(&mut locking)
        .await?;
    Ok(locking)
}

async fn a_read_is_tried_twice_at_most(pair: &Pair, web: &Web, links: &[Proxy; 2]) -> Result<()> {
    let session = warm(pair, web, links).await?;
    // On the primary it waits for a lock, so that there is time to cut that link too.
    let locking = lock_counters(pair.mysql_1()).await?;
    links[1].freeze(Direction::ToClient);
    let began = Instant::now();
    let asking = tokio::spawn({
        let session = session.clone();
        let sql = "SELECT n FROM counters /* dies twice */";
        async move { sqlx::raw_sql(sql).fetch_all(&session).await.map(drop) }
    });
    let has_it = async |server: &Server, count: usize| {
        wait_until(server.name(), SOON, async || {
            sent(server, "dies twice")
                .await
                .is_ok_and(|times| times == count)
        })
        .await
    };
    has_it(pair.mysql_2(), 1).await?;
    links[1].cut();
    has_it(pair.mysql_1(), 1).await?;
    // A third one could be sent to it.
    links[1].heal();
    web.is_whole().await?;
    links[0].cut();
    let answer = ours(asking.await?)?;
    ensure!(
        ["PrimaryUnavailable", "NoServer"].contains(&answer.as_str()),
        "{answer}"
    );
    ensure!(began.elapsed() < SOON, "{:?}", began.elapsed());
    locking.close().await?;
    warm(pair, web, links).await?;
    same(&session.decisions().len(), &2)?;
    same(&sent(pair.mysql_1(), "dies twice").await?, &1)?;
    same(&sent(pair.mysql_2(), "dies twice").await?, &1)
}

async fn after_the_first_row_it_is_an_error(
    pair: &Pair,
    web: &Web,
    links: &[Proxy; 2],
) -> Result<()> {
    let session = warm(pair, web, links).await?;
    let sql = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1000)
         SELECT i, REPEAT('x', 60000) FROM s /* breaks off */";
    let mut rows = sqlx::query_as::<_, (i64, String)>(sql).fetch(&session);
    same(&rows.try_next().await?.context("a row")?.0, &1)?;
    links[1].cut();
    let mut next = 2;
    let error = loop {
        match rows.try_next().await {
            Ok(Some(row)) => same(&row.0, &next)?,
            Ok(None) => anyhow::bail!("all of it came, {next} rows"),
            Err(error) => break error,
        }
        next += 1;
    };
    drop(rows);
    same(
        &RouterError::of(&error).map(kind),
        &Some("NoServer".to_owned()),
    )
    .with_context(|| format!("{error:?}"))?;
    same(&session.decisions().len(), &1)?;
    same(&sent(pair.mysql_1(), "breaks off").await?, &0)
}

async fn what_may_write_or_lock_is_sent_once(
    pair: &Pair,
    web: &Web,
    links: &[Proxy; 2],
) -> Result<()> {
    for (sql, mark, expected) in [
        (
            "UPDATE counters SET n = n + 1 WHERE id = 3 /* a write */",
            "a write",
            "CommitOutcomeUnknown",
        ),
        (
            "SELECT SLEEP(0) /* not proven */",
            "not proven",
            "CommitOutcomeUnknown",
        ),
        (
            "SELECT n FROM counters WHERE id = 3 FOR UPDATE /* locks */",
            "locks",
            "PrimaryUnavailable",
        ),
    ] {
        let session = warm(pair, web, links).await?;
        let lost = ask_and_cut(&session, sql, mark, pair.mysql_1(), &links[0]).await?;
        same(&ours(lost)?, &expected.to_owned()).context(sql)?;
        warm(pair, web, links).await?;
        same(&sent(pair.mysql_1(), mark).await?, &1).context(sql)?;
        same(&sent(pair.mysql_2(), mark).await?, &0).context(sql)?;
        same(&session.decisions().len(), &1).context(sql)?;
    }
    let n: i32 = router_common::get(&web.session(), 3).await?;
    same(&n, &1)
}
