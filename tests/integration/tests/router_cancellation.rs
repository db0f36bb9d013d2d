//! A future or stream that is dropped, wherever it was: what comes after it on the same small pool gets its own answer, no connection stays
//! in use, and a transaction that was dropped is rolled back.

mod router_common;

use std::{collections::BTreeSet, future::poll_fn, pin::pin, task::Poll, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use harness::{Account, Pair, Server, wait_until};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use router::{Consistency, Router, RouterConfig, RouterError};
use router_common::{SOON, Web, config, kind, pair, same, went};
use sqlx::MySqlExecutor;
use tokio::time::timeout;

/// How many are dropped in each of the two pools.
const DROPS: i64 = 80;

/// Rows of a result that does not fit into the buffers on its way.
const MANY: i64 = 900;
const LARGE: &str = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 900)
    SELECT i, ? AS name, REPEAT('x', 3000) FROM s";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_anywhere_leaves_every_connection_in_step() -> Result<()> {
    let pair = pair().await?;
    let seed: u64 = rand::rng().random();
    eprintln!("seed {seed}");
    for (max_connections, write_reserve) in [(1, 0), (2, 1)] {
        let small = RouterConfig {
            max_connections,
            write_reserve,
            // A commit that was dropped holds its connection until the disk has answered it.
            acquire_timeout_ms: 10_000,
            statement_timeout_ms: 15_000,
            ..config(&pair)
        };
        let web = Web::start(&pair, small).await?;
        let mut drops = Drops {
            web: &web,
            random: StdRng::seed_from_u64(seed),
            acknowledged: BTreeSet::new(),
            never: BTreeSet::new(),
            cut: 0,
        };
        for number in 1..=DROPS {
            let name = i64::from(max_connections) * 1000 + number;
            let what = drops.one(name).await;
            let what = what.with_context(|| format!("seed {seed}, number {name}"))?;
            // Where all that there may be are given up, a write is refused until the server has closed one.
            wait_until("what was given up is closed", SOON, async || {
                web.metric("router_abandoned_connections", &["mysql-1"])
                    .is_ok_and(|count| count < f64::from(max_connections))
            })
            .await?;
            let right = timeout(
                SOON,
                the_next_get_their_own_answers(&web, name, &mut drops.random),
            );
            right
                .await
                .unwrap_or_else(|_| bail!("somebody hangs"))
                .with_context(|| {
                    let health = web.router.health();
                    format!("seed {seed}, number {name}, after {what}: {health:?}")
                })?;
        }
        // A test that never drops anything in the middle would show nothing.
        ensure!(drops.cut > DROPS / 4, "{} were dropped", drops.cut);
        nothing_is_held(&web).await?;
        drops.writes_are_as_they_were_said_to_be(&pair).await?;
        web.router.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_costs_no_more_than_it_must() -> Result<()> {
    let pair = pair().await?;
    let small = RouterConfig {
        max_connections: 2,
        write_reserve: 1,
        ..config(&pair)
    };
    let web = Web::start(&pair, small).await?;
    a_slow_reader_holds_its_own_connection_and_no_other(&web)
        .await
        .context("a slow reader")?;
    between_statements_a_connection_goes_back_and_in_the_middle_of_one_it_does_not(&pair, &web)
        .await
        .context("logins")?;
    who_stops_waiting_takes_no_place(&web)
        .await
        .context("who stops waiting")
}

struct Drops<'w> {
    web: &'w Web,
    random: StdRng,
    /// Rows whose insertion was acknowledged.
    acknowledged: BTreeSet<i64>,
    /// Rows of transactions that did not come to their COMMIT.
    never: BTreeSet<i64>,
    /// How many did not end.
    cut: i64,
}

impl Drops<'_> {
    /// Drops something somewhere; says what.
    async fn one(&mut self, name: i64) -> Result<String> {
        let session = self.web.session();
        let session = match self.random.random_bool(0.5) {
            true => session,
            false => session.with_consistency(Consistency::Strong),
        };
        let when = When::random(&mut self.random);
        let rows = self.random.random_range(0..20);
        let which = self.random.random_range(0..12);
        let what = match which {
            0 => {
                let ended = when.cut(named(&session, name)).await;
                self.ended(ended.map(|found| Ok(found? == name)))?;
                "fetch_one"
            }
            1 => {
                let ended = when.cut(many(&session, name)).await;
                self.ended(ended.map(|found| Ok(found? == vec![name; MANY as usize])))?;
                "fetch_all"
            }
            2 => {
                let mut stream = sqlx::query_as::<_, (i64, i64, String)>(LARGE)
                    .bind(name)
                    .fetch(&session);
                for row in 1..=rows {
                    let next = stream.try_next().await?.context("a row")?;
                    ensure!((next.0, next.1) == (row, name), "{next:?}");
                }
                let ended = when.cut(stream.next()).await;
                self.cut += i64::from(ended.is_none());
                "a stream"
            }
            3 => {
                // The first row is enough: the rest is read by nobody.
                let one = sqlx::query_as::<_, (i64, i64, String)>(LARGE).bind(name);
                let ended = when.cut(one.fetch_optional(&session)).await;
                self.ended(ended.map(|found| Ok(found?.is_some_and(|row| row.1 == name))))?;
                "fetch_optional"
            }
            4 => {
                match when.cut(insert(&session, name)).await {
                    Some(done) => {
                        done?;
                        self.acknowledged.insert(name);
                    }
                    None => self.cut += 1,
                }
                "execute"
            }
            5 => {
                let text = sqlx::raw_sql("SELECT 1; SELECT 2; DO 0");
                self.cut += i64::from(when.cut(text.execute(&session)).await.is_none());
                "several statements"
            }
            6 => {
                match when.cut(session.begin()).await {
                    Some(transaction) => drop(transaction?),
                    None => self.cut += 1,
                }
                "begin"
            }
            7 => {
                match when.cut(session.begin_read_only()).await {
                    Some(transaction) => drop(transaction?),
                    None => self.cut += 1,
                }
                "begin_read_only"
            }
            8 => {
                let mut transaction = session.begin().await?;
                insert(&mut transaction, name).await?;
                match when.cut(transaction.commit()).await {
                    Some(committed) => {
                        committed?;
                        self.acknowledged.insert(name);
                    }
                    None => self.cut += 1,
                }
                "commit"
            }
            9 => {
                let mut transaction = session.begin().await?;
                insert(&mut transaction, name).await?;
                self.never.insert(name);
                let is_cut = when.cut(transaction.rollback()).await.is_none();
                self.cut += i64::from(is_cut);
                "rollback"
            }
            _ => {
                let mut transaction = session.begin().await?;
                insert(&mut transaction, name).await?;
                let is_cut = when.cut(many(&mut transaction, name)).await.is_none();
                self.cut += i64::from(is_cut);
                // It takes no further statement, or gives the right answer.
                match named(&mut transaction, -name).await {
                    Ok(found) => same(&found, &-name)?,
                    Err(error) => {
                        let error = RouterError::of(&error).map(kind);
                        same(&error, &Some("RolledBack".to_owned()))?;
                        ensure!(is_cut, "it was not dropped");
                    }
                }
                if which == 10 {
                    drop(transaction);
                    self.never.insert(name);
                } else {
                    match transaction.commit().await {
                        Ok(()) => self.acknowledged.insert(name),
                        Err(_) => self.never.insert(name),
                    };
                }
                "a statement in a transaction"
            }
        };
        Ok(format!("{what}, {when:?}"))
    }

    /// What was not dropped has to be right.
    fn ended(&mut self, is_right: Option<Result<bool, sqlx::Error>>) -> Result<()> {
        match is_right {
            Some(is_right) => ensure!(is_right?, "a wrong answer"),
            None => self.cut += 1,
        }
        Ok(())
    }

    async fn writes_are_as_they_were_said_to_be(&self, pair: &Pair) -> Result<()> {
        let mut primary = pair.mysql_1().connect(Account::App).await?;
        let there = sqlx::query_scalar::<_, i64>("SELECT CAST(id AS SIGNED) FROM ledger.counters");
        let there: BTreeSet<i64> = there.fetch_all(&mut primary).await?.into_iter().collect();
        let lost: Vec<_> = self.acknowledged.difference(&there).collect();
        ensure!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
        let kept: Vec<_> = self.never.intersection(&there).collect();
        ensure!(kept.is_empty(), "not rolled back: {kept:?}");
        Ok(())
    }
}

/// When something is dropped.
#[derive(Clone, Copy, Debug)]
enum When {
    /// When it has been polled so often and has to wait once more.
    Waiting(u32),
    /// When it could go on after so many times.
    Woken(u32),
    /// After so many microseconds, as coarse as the timer is.
    After(u64),
}

impl When {
    fn random(random: &mut StdRng) -> Self {
        let often = match random.random_bool(0.7) {
            true => random.random_range(1..6),
            false => random.random_range(6..80),
        };
        match random.random_range(0..3) {
            0 => Self::Waiting(often),
            1 => Self::Woken(often),
            _ => Self::After(random.random_range(1..5000)),
        }
    }

    /// `None` if it was dropped before it ended.
    async fn cut<F: Future>(self, future: F) -> Option<F::Output> {
        let (mut left, on_waiting) = match self {
            Self::Waiting(times) => (times, true),
            Self::Woken(times) => (times, false),
            Self::After(time) => return timeout(Duration::from_micros(time), future).await.ok(),
        };
        let mut future = pin!(future);
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if on_waiting && left == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// A read on either server, a large one, a write, and a transaction, at once or one after the other.
async fn the_next_get_their_own_answers(web: &Web, name: i64, random: &mut StdRng) -> Result<()> {
    let name = name * 10;
    let (any, strong) = (web.session(), web.session());
    let strong = strong.with_consistency(Consistency::Strong);
    let reads = async {
        for number in 1..=2 {
            same(&named(&any, name + number).await?, &(name + number)).context("a read")?;
            same(&named(&strong, name - number).await?, &(name - number))
                .context("a strong read")?;
        }
        anyhow::Ok(())
    };
    let writes = async {
        let session = web.session();
        let set = sqlx::query("UPDATE counters SET n = ? WHERE id = 0").bind(name);
        same(&set.execute(&session).await?.rows_affected(), &1).context("a write")?;
        let mut transaction = session.begin().await.context("begin")?;
        same(&named(&mut transaction, name + 3).await?, &(name + 3)).context("in a transaction")?;
        let n = sqlx::query_scalar::<_, i64>("SELECT CAST(n AS SIGNED) FROM counters WHERE id = 0");
        same(&n.fetch_one(&mut transaction).await?, &name).context("its own write")?;
        transaction.rollback().await.context("rollback")?;
        anyhow::Ok(())
    };
    if random.random_bool(0.5) {
        reads.await?;
        writes.await?;
    } else {
        tokio::try_join!(reads, writes)?;
    }
    if random.random_bool(0.2) {
        same(&many(&any, name + 4).await?.len(), &(MANY as usize))?;
    }
    Ok(())
}

async fn named(executor: impl MySqlExecutor<'_>, name: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT CAST(? AS SIGNED) FROM counters WHERE id = 1")
        .bind(name)
        .fetch_one(executor)
        .await
}

/// The name of every row.
async fn many(executor: impl MySqlExecutor<'_>, name: i64) -> Result<Vec<i64>, sqlx::Error> {
    let rows: Vec<(i64, i64, String)> =
        sqlx::query_as(LARGE).bind(name).fetch_all(executor).await?;
    Ok(rows.into_iter().map(|(_, name, _)| name).collect())
}

async fn insert(executor: impl MySqlExecutor<'_>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO counters VALUES (?, 0)")
        .bind(id)
        .execute(executor)
        .await
        .map(drop)
}

async fn nothing_is_held(web: &Web) -> Result<()> {
    let metrics = [
        "router_in_flight",
        "router_waiting",
        "router_abandoned_connections",
    ];
    wait_until("nothing is held", SOON, async || {
        ["mysql-1", "mysql-2"].iter().all(|server| {
            let is_none = |name: &&str| web.metric(name, &[server]).is_ok_and(|held| held == 0.0);
            metrics.iter().all(is_none)
        })
    })
    .await
    .with_context(|| format!("{:?}", web.router.health()))
}

async fn a_slow_reader_holds_its_own_connection_and_no_other(web: &Web) -> Result<()> {
    let (slow, other) = (web.session(), web.session());
    let mut stream = sqlx::query_as::<_, (i64, i64, String)>(LARGE)
        .bind(7)
        .fetch(&slow);
    for row in 1..=3 {
        same(&stream.try_next().await?.context("a row")?.0, &row)?;
    }
    same(&web.metric("router_in_flight", &["mysql-2"])?, &1.0)?;
    for name in 1..=20 {
        same(&named(&other, name).await?, &name)?;
        insert(&other, 10_000 + name).await?;
    }
    let mut second = sqlx::query_as::<_, (i64, i64, String)>(LARGE)
        .bind(8)
        .fetch(&other);
    second.try_next().await?.context("a row")?;
    // Where all the replica's are held, there is the primary.
    let third = web.session();
    same(&named(&third, 9).await?, &9)?;
    let held = web.metric("router_in_flight", &["mysql-2"])?;
    if held == 2.0 {
        same(
            &went(&third),
            &vec!["primary;reason=replica-full".to_owned()],
        )?;
    }
    drop(second);
    let rest: Vec<_> = stream.try_collect().await?;
    same(&rest.len(), &(MANY as usize - 3))?;
    ensure!(rest.iter().all(|row| row.1 == 7));
    nothing_is_held(web).await
}

async fn between_statements_a_connection_goes_back_and_in_the_middle_of_one_it_does_not(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let session = web.session();
    session.begin().await?.rollback().await?;
    nothing_is_held(web).await?;
    let before = logins(pair.mysql_1()).await?;
    for number in 0..10 {
        let mut transaction = session.begin().await?;
        if number % 2 == 0 {
            insert(&mut transaction, 20_000 + number).await?;
            named(&mut transaction, number).await?;
        }
        drop(transaction);
        nothing_is_held(web).await?;
    }
    same(&logins(pair.mysql_1()).await?, &before).context("between two statements")?;

    let mut cut = 0;
    for number in 0..100 {
        let mut transaction = session.begin().await?;
        insert(&mut transaction, 20_100 + number).await?;
        let ended = When::Waiting(1).cut(many(&mut transaction, number)).await;
        drop(transaction);
        nothing_is_held(web).await?;
        session.begin().await?.rollback().await?;
        // On a busy machine the answer may have been there at once.
        cut += i64::from(ended.is_none());
        if cut == 3 {
            break;
        }
    }
    same(&cut, &3)?;
    let after = logins(pair.mysql_1()).await?;
    ensure!(after >= before + cut, "{} logins", after - before);
    let mut primary = pair.mysql_1().connect(Account::App).await?;
    let left = "SELECT COUNT(*) FROM ledger.counters WHERE id BETWEEN 20000 AND 20999";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut primary).await?;
    same(&left, &0)
}

/// How often the web servers' account has logged in.
async fn logins(server: &Server) -> Result<i64> {
    let mut arbiter = server.connect(Account::Arbiter).await?;
    let total =
        "SELECT CAST(TOTAL_CONNECTIONS AS SIGNED) FROM performance_schema.users WHERE USER = 'app'";
    Ok(sqlx::query_scalar(total).fetch_one(&mut arbiter).await?)
}

async fn who_stops_waiting_takes_no_place(web: &Web) -> Result<()> {
    let session: Router = web.session();
    let held = [session.begin().await?, session.begin().await?];
    for _ in 0..20 {
        let waiting = When::Waiting(1).cut(session.begin()).await;
        ensure!(waiting.is_none(), "there was a third connection");
    }
    same(&web.metric("router_waiting", &["mysql-1"])?, &0.0)?;
    drop(held);
    for _ in 0..5 {
        let both = tokio::try_join!(session.begin(), session.begin())?;
        both.0.rollback().await?;
        both.1.rollback().await?;
    }
    nothing_is_held(web).await
}
