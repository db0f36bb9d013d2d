//! Invariant 5: a session sees its own acknowledged writes, in the process that wrote and, by its causal token, in every other one.

mod router_common;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use harness::{Account, Pair, wait_for, wait_until};
use hmac::{Hmac, KeyInit, Mac};
use router_common::{CAUSAL_KEY, SOON, Web, as_arbiter, config, get, look, pair, same, set, went};
use sha2::Sha256;
use sqlx::Connection;

const ON_THE_REPLICA: &str = "replica;reason=fresh";
const STALE: &str = "primary;reason=stale";
const LAG: &str = "primary;reason=lag";
/// Where a session may read what it wrote: a replica that a busy machine holds up may lag, or miss a look, for a moment.
const RIGHT: [&str; 4] = [ON_THE_REPLICA, STALE, LAG, "primary;reason=replica-down"];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_its_writes_in_every_process_and_however_late_the_replica_is() -> Result<()>
{
    let pair = pair().await?;
    let one = Web::start(&pair, config(&pair)).await?;
    let two = Web::start(&pair, config(&pair)).await?;

    under_load_every_read_sees_the_write_before_it(&one, &two).await?;
    while_nothing_is_applied_only_the_primary_is_fresh(&pair, &one, &two).await?;
    a_session_without_a_mark_reads_data_of_at_most_the_allowed_age(&pair, &one).await?;
    what_is_no_token_of_ours_counts_as_none(&pair, &one, &two).await?;
    a_token_of_a_history_that_is_gone_counts_as_none(&two).await
}

/// Four sessions, each with a counter of its own: write, read here, read there.
async fn under_load_every_read_sees_the_write_before_it(one: &Web, two: &Web) -> Result<()> {
    let rounds = (0..4).map(async |id| {
        let mut replica = 0;
        for n in 1..=50 {
            let session = one.session();
            if n % 2 == 0 {
                set(&session, id, n).await?;
            } else {
                let mut transaction = session.begin().await?;
                sqlx::query("UPDATE counters SET n = ? WHERE id = ?")
                    .bind(n)
                    .bind(id)
                    .execute(&mut transaction)
                    .await?;
                transaction.commit().await?;
            }
            let token = session.causal_token().await?.context("it wrote")?;
            let other = two.router.session(Some(&token));
            for session in [&session, &other] {
                let (seen, place) = look(session, id).await?;
                ensure!(seen == n, "counter {id} is {n}, read {seen} on {place}");
                ensure!(RIGHT.contains(&place.as_str()), "{place}");
                replica += i32::from(place == ON_THE_REPLICA);
            }
        }
        Ok(replica)
    });
    let replica: Vec<i32> = futures::future::try_join_all(rounds).await?;
    // A router that sends all of them to the primary would be right, and of no use.
    ensure!(
        replica.iter().sum::<i32>() > 0,
        "no read came to the replica"
    );
    Ok(())
}

async fn while_nothing_is_applied_only_the_primary_is_fresh(
    pair: &Pair,
    one: &Web,
    two: &Web,
) -> Result<()> {
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let session = one.session();
    set(&session, 1, 1000).await?;
    let token = session.causal_token().await?.context("it wrote")?;
    let other = two.router.session(Some(&token));
    for session in [&session, &other] {
        for _ in 0..5 {
            same(&look(session, 1).await?, &(1000, STALE.to_owned()))?;
        }
        // A transaction that reads, and one on which a session's writes are not known.
        let mut reading = session.begin_read_only().await?;
        let n: i32 = sqlx::query_scalar("SELECT n FROM counters WHERE id = 1")
            .fetch_one(&mut reading)
            .await?;
        reading.commit().await?;
        same(&n, &1000)?;
        same(&went(session).pop(), &Some(STALE.to_owned()))?;
    }
    let mut pinned = one.session().pinned().await?;
    sqlx::query("UPDATE counters SET n = 1001 WHERE id = 1")
        .execute(&mut *pinned)
        .await?;
    drop(pinned);
    // What it is known for to be old is as good as for ever.
    two.lags().await?;
    same(&look(&two.session(), 1).await?, &(1001, LAG.to_owned()))?;

    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    for (session, n) in [(&session, 1001), (&other, 1001)] {
        wait_until("the replica is fresh again", SOON, async || {
            look(session, 1)
                .await
                .is_ok_and(|seen| seen == (n, ON_THE_REPLICA.to_owned()))
        })
        .await?;
    }
    Ok(())
}

/// The applier runs and waits for a lock, so that the replica falls behind as under load.
async fn a_session_without_a_mark_reads_data_of_at_most_the_allowed_age(
    pair: &Pair,
    one: &Web,
) -> Result<()> {
    one.is_whole().await?;
    let mut blocker = pair.mysql_2().connect(Account::App).await?;
    sqlx::raw_sql("START TRANSACTION; SELECT n FROM ledger.counters WHERE id = 2 FOR SHARE")
        .execute(&mut blocker)
        .await?;
    let session = one.session();
    set(&session, 2, 2000).await?;
    let written = Instant::now();
    let max_lag = std::time::Duration::from_millis(config(pair).max_lag_ms);

    let mut old = 0;
    let late = wait_for("the replica is too far behind", SOON, async || {
        let reader = one.session();
        let (asked, found) = (written.elapsed(), look(&reader, 2).await);
        let (n, place) = match found {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        match (n, place.as_str()) {
            (2000, LAG) => Some(Ok(())),
            (n, ON_THE_REPLICA) if n != 2000 && asked <= max_lag => {
                old += 1;
                None
            }
            other => Some(Err(anyhow::anyhow!("{asked:?} after the write: {other:?}"))),
        }
    });
    late.await??;
    ensure!(
        old > 0,
        "the replica was never used while it was young enough"
    );
    // Whoever wrote it never saw it missing.
    same(&look(&session, 2).await?, &(2000, STALE.to_owned()))?;
    blocker.close().await?;
    wait_until("the replica has caught up", SOON, async || {
        one.goes("SELECT 1") == ON_THE_REPLICA
            && look(&session, 2)
                .await
                .is_ok_and(|seen| seen == (2000, ON_THE_REPLICA.to_owned()))
    })
    .await
}

async fn what_is_no_token_of_ours_counts_as_none(pair: &Pair, one: &Web, two: &Web) -> Result<()> {
    two.is_whole().await?;
    let session = one.session();
    set(&session, 3, 3000).await?;
    let token = session.causal_token().await?.context("it wrote")?;
    ensure!(token.len() <= 1024, "{} bytes", token.len());
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let count = |outcome: &str| two.metric("router_causal_tokens_total", &[outcome]);

    let (signed, _) = token.rsplit_once('.').context("it has a signature")?;
    let cases = [
        ("forged", token.replacen("1.1.", "1.2.", 1)),
        ("forged", format!("{signed}.{}", BASE64.encode([0; 32]))),
        ("forged", sign(b"another key", signed)),
        ("too_long", format!("{token}{}", "A".repeat(1024))),
        ("too_long", "x".repeat(1_000_000)),
        ("malformed", String::new()),
        ("malformed", "1.1".to_owned()),
        ("malformed", "ünïcödé".to_owned()),
        ("malformed", sign(CAUSAL_KEY, "1.1.!")),
        ("malformed", sign(CAUSAL_KEY, "2.1.AAAA")),
        ("malformed", sign(CAUSAL_KEY, "1.one.AAAA")),
        (
            "malformed",
            sign(CAUSAL_KEY, &format!("1.1.{}", BASE64.encode("no set"))),
        ),
    ];
    for (outcome, text) in cases {
        let before = count(outcome)?;
        let session = two.router.session(Some(&text));
        same(
            &look(&session, 3).await?,
            &(3000, ON_THE_REPLICA.to_owned()),
        )
        .context(text)?;
        same(&count(outcome)?, &(before + 1.0)).context(outcome)?;
        // One that proves something is taken before one that does not, whichever comes first.
    }
    same(&two.router.newer(&token, "forged"), &token.as_str())?;
    same(&two.router.newer("forged", &token), &token.as_str())?;
    let accepted = count("accepted")?;
    same(&get(&two.router.session(Some(&token)), 3).await?, &3000)?;
    same(&count("accepted")?, &(accepted + 1.0))
}

/// Signed by us and never executed here: after a restore from a backup, say.
async fn a_token_of_a_history_that_is_gone_counts_as_none(web: &Web) -> Result<()> {
    let gone = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7";
    for (number, epoch) in [1, 99].into_iter().enumerate() {
        let signed = format!("1.{epoch}.{}", BASE64.encode(gone));
        let session = web.router.session(Some(&sign(CAUSAL_KEY, &signed)));
        wait_until("the token is dropped", SOON, async || {
            look(&session, 3)
                .await
                .is_ok_and(|seen| seen == (3000, ON_THE_REPLICA.to_owned()))
        })
        .await
        .with_context(|| format!("epoch {epoch}: {:?}", went(&session)))?;
        let dropped = web.metric("router_causal_tokens_total", &["history_gone"])?;
        ensure!(dropped == number as f64 + 1.0, "{dropped} dropped");
    }
    Ok(())
}

/// A token by its documented form: `1.<epoch>.<base64url GTID set>.<base64url MAC>`.
fn sign(key: &[u8], signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// The primary was replaced, and one web server has not heard of it: what it believes to be the primary is a replica now, and late.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_has_not_heard_of_a_new_primary_learns_it_from_the_token() -> Result<()> {
    let mut pair = pair().await?;
    let one = Web::start(&pair, config(&pair)).await?;
    let mut slow = config(&pair);
    slow.probe_interval_ms = 600_000;
    slow.probe_timeout_ms = 10_000;
    slow.statement_timeout_ms = 15_000;
    slow.max_lag_ms = 600_000;
    let two = Web::start(&pair, slow).await?;
    pair.promote("mysql-2", 2).await?;
    pair.follow(pair.mysql_1(), pair.mysql_2().port()).await?;
    wait_until("the first one has heard of it", SOON, async || {
        let health = one.router.health();
        health.epoch == 2 && health.writable
    })
    .await?;
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    as_arbiter(pair.mysql_1(), "STOP REPLICA SQL_THREAD").await?;

    let session = one.session();
    set(&session, 1, 7).await?;
    let token = session.causal_token().await?.context("it wrote")?;
    same(&two.router.health().epoch, &1)?;
    let other = two.router.session(Some(&token));
    same(&look(&other, 1).await?, &(7, STALE.to_owned()))?;
    same(&two.router.health().epoch, &2)?;
    ensure!(other.decisions().iter().all(|d| &*d.server == "mysql-2"));
    Ok(())
}
