//! How old a replica's data is said to be: never younger than it is, and not much older, whatever has stopped; and that a session which
//! bounds the age of what it reads gets nothing older.

mod router_common;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use harness::{Account, Direction, Pair, Proxy, wait_until};
use router::{Consistency, Router};
use router_common::{SOON, Web, as_arbiter, config, health_of, pair, proxy};
use sqlx::{MySqlConnection, Row};
use tokio::{task::JoinHandle, time::sleep};

/// What may be said beyond the truth, mostly: a few rounds of probes, with room for a machine that is busy.
const ABOVE: Duration = Duration::from_secs(2);
/// And now and then, when that machine has kept the probes waiting.
const FAR_ABOVE: Duration = Duration::from_secs(10);
/// How long each state of things is looked at.
const LOOKED_AT: Duration = Duration::from_millis(1500);
/// The bound of those who bound it.
const MAX_LAG: Duration = Duration::from_millis(600);

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_a_replicas_data_is_bounded_by_what_is_said_of_it() -> Result<()> {
    let pair = pair().await?;
    // Commits are to go on when the replica does not.
    as_arbiter(
        pair.mysql_1(),
        "SET GLOBAL rpl_semi_sync_source_enabled = OFF",
    )
    .await?;
    let link = proxy(pair.mysql_1()).await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA").await?;
    pair.follow(pair.mysql_2(), link.port()).await?;
    let web = Web::start(&pair, config(&pair)).await?;
    let replica = || async { pair.mysql_2().connect(Account::App).await };
    let mut observer = Observer {
        pair: &pair,
        web: &web,
        replica: replica().await?,
        clock: Clock::default(),
    };

    observer.idle().await?;
    let writer = observer.clock.start(&pair).await?;
    observer.sees("under load").await?;
    observer.is_young("under load").await?;

    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    observer.sees("without an applier").await?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    observer.sees("catching up").await?;
    observer.recovers("an applier again").await?;

    as_arbiter(pair.mysql_2(), "STOP REPLICA IO_THREAD").await?;
    observer.sees("without a receiver").await?;
    as_arbiter(pair.mysql_2(), "START REPLICA IO_THREAD").await?;
    observer.sees("receiving what it missed").await?;
    observer.recovers("a receiver again").await?;

    as_arbiter(
        pair.mysql_2(),
        "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 1; START REPLICA SQL_THREAD",
    )
    .await?;
    observer.sees("with an applier that waits").await?;
    as_arbiter(
        pair.mysql_2(),
        "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0; START REPLICA SQL_THREAD",
    )
    .await?;
    observer.recovers("an applier that does not").await?;

    link.freeze(Direction::ToClient);
    observer.sees("on a silent link").await?;
    link.heal();
    observer.sees("when the link has healed").await?;
    observer.recovers("a link again").await?;
    writer.abort();

    observer.a_source_that_is_silent().await?;
    observer.a_link_that_is_slow(&link).await
}

/// When a number was asked to be written, and when that was acknowledged.
type Tick = (Instant, Option<Instant>);

/// What was written when, in the order of its numbers.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<Vec<Tick>>>);

impl Clock {
    /// Writes the next number every few milliseconds on the primary.
    async fn start(&self, pair: &Pair) -> Result<JoinHandle<()>> {
        let mut primary = pair.mysql_1().connect(Account::App).await?;
        let clock = self.clone();
        Ok(tokio::spawn(async move {
            while clock.tick(&mut primary).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        }))
    }

    async fn tick(&self, primary: &mut MySqlConnection) -> Result<()> {
        let number = {
            let mut ticks = self.ticks();
            ticks.push((Instant::now(), None));
            i32::try_from(ticks.len())?
        };
        sqlx::query("UPDATE ledger.counters SET n = ? WHERE id = 1")
            .bind(number)
            .execute(primary)
            .await?;
        if let Some(tick) = self.ticks().last_mut() {
            tick.1 = Some(Instant::now());
        }
        Ok(())
    }

    /// How old data was for sure, at `time`, that holds all up to this number and not the next one. Nothing if that was not acknowledged.
    fn at_least(&self, number: i32, time: Instant) -> Option<Duration> {
        let next = self.ticks().get(number as usize).copied();
        Some(time.saturating_duration_since(next?.1?))
    }

    /// How old it may have been at most.
    fn at_most(&self, number: i32, time: Instant) -> Duration {
        let next = self.ticks().get(number as usize).copied();
        next.map_or(Duration::ZERO, |next| {
            time.saturating_duration_since(next.0)
        })
    }

    fn ticks(&self) -> std::sync::MutexGuard<'_, Vec<Tick>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Observer<'t> {
    pair: &'t Pair,
    web: &'t Web,
    replica: MySqlConnection,
    clock: Clock,
}

impl Observer<'_> {
    /// Compares again and again what is said with what is so.
    async fn sees(&mut self, when: &str) -> Result<()> {
        let (began, mut above) = (Instant::now(), Vec::new());
        while began.elapsed() < LOOKED_AT {
            above.push(self.look().await.with_context(|| when.to_owned())?);
            self.read().await.with_context(|| when.to_owned())?;
            sleep(Duration::from_millis(5)).await;
        }
        above.sort();
        let mostly = above[above.len() / 2];
        ensure!(mostly <= ABOVE, "{when}: mostly {mostly:?} too much");
        Ok(())
    }

    /// One comparison, and how much more is said than can be.
    async fn look(&mut self) -> Result<Duration> {
        let before = self.number().await?;
        let at = Instant::now();
        let said = health_of(self.web, "mysql-2")?.lag_ms;
        let after = self.number().await?;
        // What was not there after it was asked was not there before.
        let at_least = self.clock.at_least(after, at).unwrap_or_default();
        let at_most = self.clock.at_most(before, at);
        let Some(said) = said else {
            bail!("it is not known; it is between {at_least:?} and {at_most:?}");
        };
        // Told in whole milliseconds.
        let said = Duration::from_millis(said + 1);
        ensure!(said >= at_least, "said to be {said:?}, and is {at_least:?}");
        ensure!(
            said <= at_most + FAR_ABOVE,
            "said to be {said:?}, and is at most {at_most:?}"
        );
        Ok(said.saturating_sub(at_most))
    }

    /// A read of data that is not older than a bound.
    async fn read(&self) -> Result<()> {
        let bounded = self
            .web
            .session()
            .with_consistency(Consistency::Eventual { max_lag: MAX_LAG });
        let began = Instant::now();
        let read = read(&bounded).await?;
        let at_least = self.clock.at_least(read, began).unwrap_or_default();
        ensure!(
            at_least <= MAX_LAG,
            "read what was {at_least:?} old: {:?}",
            bounded.decisions()
        );
        Ok(())
    }

    /// What the replica has.
    async fn number(&mut self) -> Result<i32> {
        let row = sqlx::query("SELECT n FROM ledger.counters WHERE id = 1")
            .fetch_one(&mut self.replica)
            .await?;
        Ok(row.try_get(0)?)
    }

    async fn is_young(&mut self, when: &str) -> Result<()> {
        let bounded = self
            .web
            .session()
            .with_consistency(Consistency::Eventual { max_lag: ABOVE });
        read(&bounded).await?;
        let decisions = bounded.decisions();
        let is_of_replica = |decision: &router::Decision| &*decision.server == "mysql-2";
        ensure!(decisions.iter().all(is_of_replica), "{when}: {decisions:?}");
        Ok(())
    }

    async fn recovers(&mut self, when: &str) -> Result<()> {
        let recovered = wait_until("it is young again", SOON, async || {
            health_of(self.web, "mysql-2")
                .is_ok_and(|server| server.lag_ms.is_some_and(|lag| lag < 1000))
        });
        recovered.await.with_context(|| when.to_owned())?;
        self.web.is_whole().await.with_context(|| when.to_owned())
    }

    /// Nobody writes, and the heartbeat does not beat either.
    async fn idle(&mut self) -> Result<()> {
        self.sees("idle").await
    }

    async fn a_source_that_is_silent(&mut self) -> Result<()> {
        self.pair
            .caught_up(self.pair.mysql_1(), self.pair.mysql_2())
            .await?;
        self.web.is_whole().await?;
        self.pair.mysql_1().freeze().await?;
        // Nothing can have been written, but nobody knows that: what is said grows with the time.
        let began = Instant::now();
        let grows = wait_until("it grows", SOON, async || {
            health_of(self.web, "mysql-2")
                .is_ok_and(|server| server.lag_ms.is_some_and(|lag| lag > 1500))
        });
        let grows = grows.await;
        let (said, silent) = (health_of(self.web, "mysql-2")?.lag_ms, began.elapsed());
        self.pair.mysql_1().thaw().await?;
        grows.context("a silent source")?;
        let said = Duration::from_millis(said.context("a silent source")?);
        ensure!(
            said <= silent + ABOVE,
            "said to be {said:?} after {silent:?}"
        );
        self.recovers("a source that is there again").await
    }

    /// What the source says arrives a second later, its signs of life too.
    async fn a_link_that_is_slow(&mut self, link: &Proxy) -> Result<()> {
        link.delay(Direction::ToClient, Duration::from_secs(1));
        let mut primary = self.pair.mysql_1().connect(Account::App).await?;
        // So seldom that the source has something else to say between two of them.
        let began = Instant::now();
        while began.elapsed() < 3 * LOOKED_AT {
            self.clock.tick(&mut primary).await?;
            let written = Instant::now();
            while written.elapsed() < Duration::from_millis(700) {
                self.look().await.context("a slow link")?;
                self.read().await.context("a slow link")?;
                sleep(Duration::from_millis(5)).await;
            }
        }
        link.heal();
        Ok(())
    }
}

async fn read(session: &Router) -> Result<i32> {
    let read = sqlx::query_scalar("SELECT n FROM counters WHERE id = 1");
    Ok(read.fetch_one(session).await?)
}
