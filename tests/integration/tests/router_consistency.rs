//! How fresh what a session reads is: its three levels, what that costs the replica, and what a causal token is worth after whatever has
//! happened to the servers. Never stale, and never a hang.

mod router_common;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use harness::{Account, Pair, Server, wait_until};
use hmac::{Hmac, KeyInit, Mac};
use router::{Consistency, Router, RouterConfig, RouterError};
use router_common::{
    CAUSAL_KEY, SOON, Web, as_arbiter, ask, config, get, kind, look, ours, pair, same, set, went,
};
use sha2::Sha256;
use sqlx::AssertSqlSafe;

const FRESH: &str = "replica;reason=fresh";
const STALE: &str = "primary;reason=stale";
const LAG: &str = "primary;reason=lag";
const STRONG: &str = "primary;reason=strong";

/// For one of the sessions; the others differ in nothing that would show later only.
const READS: i64 = 1000;
const FOR_EVER: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_as_fresh_as_it_demands_and_at_no_cost() -> Result<()> {
    let pair = pair().await?;
    a_read_costs_the_replica_one_statement_and_nothing_else(&pair)
        .await
        .context("no query per read")?;
    let web = Web::start(&pair, config(&pair)).await?;
    each_level_reads_what_it_demands(&pair, &web)
        .await
        .context("levels")?;
    strong_reads_have_nowhere_else_to_go(&pair, &web)
        .await
        .context("strong, and the primary is away")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_small_or_there_is_none() -> Result<()> {
    let pair = pair().await?;
    let one = Web::start(&pair, config(&pair)).await?;
    let two = Web::start(&pair, config(&pair)).await?;
    a_token_proves_tagged_transactions_too(&pair, &one, &two)
        .await
        .context("tags")?;
    gaps_make_it_longer_until_there_is_none(&pair, &one, &two)
        .await
        .context("gaps")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_servers_no_session_reads_from_before_its_writes() -> Result<()> {
    let mut pair = pair().await?;
    let one = Web::start(&pair, config(&pair)).await?;
    let two = Web::start(&pair, config(&pair)).await?;
    a_token_of_the_future_is_an_error_in_time_or_dropped(&pair, &two)
        .await
        .context("tokens of the future")?;
    a_restart_shows_nothing_old(&pair, &one, &two)
        .await
        .context("restarts")?;
    a_change_of_roles_shows_nothing_old(&mut pair, &one, &two)
        .await
        .context("a change of roles")
}

/// Waits until the session's reads go there, where they have to find this.
async fn comes_to(place: &str, session: &Router, id: i32, n: i32) -> Result<()> {
    wait_until(place, SOON, async || {
        let goes = session.explain("SELECT 1");
        goes.is_ok_and(|d| format!("{};reason={}", d.target, d.reason) == place)
    })
    .await?;
    same(&get(session, id).await?, &n)
}

/// Statements of the web servers' account at a server, by their kind.
async fn statements(server: &Server) -> Result<BTreeMap<String, i64>> {
    let mut arbiter = server.connect(Account::Arbiter).await?;
    let counted = sqlx::query_as::<_, (String, i64)>(
        "SELECT EVENT_NAME, CAST(COUNT_STAR AS SIGNED) FROM performance_schema.events_statements_summary_by_user_by_event_name
         WHERE USER = 'app' AND COUNT_STAR > 0",
    );
    Ok(counted.fetch_all(&mut arbiter).await?.into_iter().collect())
}

async fn new_statements(
    server: &Server,
    before: &BTreeMap<String, i64>,
) -> Result<BTreeMap<String, i64>> {
    let mut now = statements(server).await?;
    for (kind, count) in &mut now {
        *count -= before.get(kind).unwrap_or(&0);
    }
    now.retain(|_, count| *count > 0);
    Ok(now)
}

async fn a_read_costs_the_replica_one_statement_and_nothing_else(pair: &Pair) -> Result<()> {
    // No probe for as long as this takes: what is counted is what reads cost.
    let quiet = RouterConfig {
        probe_interval_ms: 600_000,
        probe_timeout_ms: 10_000,
        max_lag_ms: 600_000,
        ..config(pair)
    };
    let web = Web::start(pair, quiet).await?;
    let writer = web.session();
    set(&writer, 0, 7).await?;
    // A session that owes nothing to the write may find it not yet applied.
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    let token = writer.causal_token().await?.context("it wrote")?;
    let dashboard = Consistency::Eventual { max_lag: FOR_EVER };
    let sessions = [
        ("nothing written", web.session()),
        ("its own write", writer.clone()),
        ("a token", web.router.session(Some(&token))),
        ("eventual", web.session().with_consistency(dashboard)),
    ];
    for (what, session) in &sessions {
        comes_to(FRESH, session, 0, 7).await.context(*what)?;
    }
    for (what, session) in &sessions {
        let at = [pair.mysql_1(), pair.mysql_2()];
        let before = [statements(at[0]).await?, statements(at[1]).await?];
        let reads = if *what == "a token" { READS } else { READS / 5 };
        for _ in 0..reads {
            same(&get(session, 0).await?, &7)?;
        }
        let mut replica = new_statements(at[1], &before[1]).await?;
        // A connection that was idle for a second is asked whether it lives, which is the price of time, not of reads.
        let pings = replica.remove("statement/com/Ping").unwrap_or(0);
        ensure!(pings < 5, "{what}: {pings} pings");
        let executes = BTreeMap::from([("statement/com/Execute".to_owned(), reads)]);
        same(&replica, &executes).with_context(|| format!("{what}: on the replica"))?;
        let primary = new_statements(at[0], &before[0]).await?;
        same(&primary, &BTreeMap::new()).with_context(|| format!("{what}: on the primary"))?;
    }
    // One sample serves all who wait, and nobody takes one while nobody does.
    let samples = web.metric("router_samples_total", &[])?;
    ensure!(samples < 20.0, "{samples} samples for one write");
    web.router.close().await;

    // With probes as they are, only time makes more of them.
    let web = Web::start(pair, config(pair)).await?;
    let session = web.session();
    get(&session, 0).await?;
    let (before, began) = (statements(pair.mysql_2()).await?, Instant::now());
    for _ in 0..READS / 2 {
        get(&session, 0).await?;
    }
    let rounds = began.elapsed().as_millis() as i64 / config(pair).probe_interval_ms as i64 + 2;
    let new = new_statements(pair.mysql_2(), &before).await?;
    let all: i64 = new.values().sum();
    // A probe is a handful of questions.
    ensure!(
        all <= READS / 2 + rounds * 8,
        "{rounds} rounds of probes: {new:?}"
    );
    let pings = new.get("statement/com/Ping");
    ensure!(pings.is_none_or(|pings| *pings < 5), "{new:?}");
    web.router.close().await;
    Ok(())
}

async fn each_level_reads_what_it_demands(pair: &Pair, web: &Web) -> Result<()> {
    let eventual = |max_lag| Consistency::Eventual { max_lag };
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let session = web.session();
    set(&session, 1, 1).await?;
    same(&look(&session, 1).await?, &(1, STALE.to_owned()))?;
    let strong = session.with_consistency(Consistency::Strong);
    same(&look(&strong, 1).await?, &(1, STRONG.to_owned()))?;
    // Its own write is not demanded, only an age.
    let dashboard = session.with_consistency(eventual(FOR_EVER));
    same(&look(&dashboard, 1).await?, &(0, FRESH.to_owned()))?;
    let none = session.with_consistency(eventual(Duration::ZERO));
    same(&look(&none, 1).await?, &(1, LAG.to_owned()))?;
    // The level is the value's, the writes are the session's.
    set(&dashboard, 1, 2).await?;
    same(&look(&session, 1).await?, &(2, STALE.to_owned()))?;
    same(&look(&strong, 1).await?, &(2, STRONG.to_owned()))?;
    same(&look(&dashboard, 1).await?, &(0, FRESH.to_owned()))?;
    let new = dashboard.session(None);
    same(&look(&new, 1).await?, &(0, FRESH.to_owned())).context("the level is inherited")?;
    let back = new.with_consistency(Consistency::Session);
    web.lags().await?;
    same(&look(&back, 1).await?, &(2, LAG.to_owned()))?;
    // Each by its own bound, whatever the configured one is.
    same(&look(&dashboard, 1).await?, &(0, FRESH.to_owned()))?;
    let bounded = session.with_consistency(eventual(Duration::from_secs(3)));
    comes_to(LAG, &bounded, 1, 2).await?;
    // A transaction that reads is a read.
    for (level, place) in [(&strong, STRONG), (&dashboard, FRESH)] {
        level.begin_read_only().await?.commit().await?;
        same(&went(level).pop(), &Some(place.to_owned()))?;
    }
    // A write is a write at each level, and what locks is on the primary.
    for level in [&strong, &dashboard, &session] {
        set(level, 2, 2).await?;
        same(&went(level).pop(), &Some("primary;reason=write".to_owned()))?;
    }
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    web.is_whole().await?;
    same(&look(&strong, 1).await?, &(2, STRONG.to_owned()))
}

async fn strong_reads_have_nowhere_else_to_go(pair: &Pair, web: &Web) -> Result<()> {
    let strong = web.session().with_consistency(Consistency::Strong);
    let dashboard = Consistency::Eventual { max_lag: FOR_EVER };
    let dashboard = web.session().with_consistency(dashboard);
    pair.mysql_1().kill().await?;
    wait_until("the primary is known to be away", SOON, async || {
        !web.router.health().writable
    })
    .await?;
    let began = Instant::now();
    same(
        &ours(get(&strong, 1).await)?,
        &"PrimaryUnavailable".to_owned(),
    )?;
    let refused = strong.begin_read_only().await.err().context("begun")?;
    same(&kind(&refused), &"PrimaryUnavailable".to_owned())?;
    ensure!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    same(&get(&dashboard, 1).await?, &2)
}

async fn a_token_proves_tagged_transactions_too(pair: &Pair, one: &Web, two: &Web) -> Result<()> {
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    // The session's own write has no tag; what was there before it has.
    as_arbiter(
        pair.mysql_1(),
        "SET SESSION gtid_next = 'AUTOMATIC:orders'; INSERT INTO holdfast.heartbeat VALUES ('tagged', 1, NOW(6))",
    )
    .await?;
    let session = one.session();
    set(&session, 0, 1).await?;
    let token = session.causal_token().await?.context("it wrote")?;
    let (epoch, executed) = opened(&token)?;
    same(&epoch, &"1".to_owned())?;
    ensure!(executed.contains(":orders:1"), "{executed}");
    ensure!(!executed.contains("arbiter"), "heartbeats: {executed}");
    let other = two.router.session(Some(&token));
    same(&look(&other, 0).await?, &(1, STALE.to_owned()))?;
    as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
    comes_to(FRESH, &other, 0, 1).await?;
    // A replica that lacks the tagged one alone has not all of it.
    let ahead = format!("{executed}:payments:1");
    let other = two
        .router
        .session(Some(&sign(&format!("1.1.{}", BASE64.encode(ahead)))));
    let first = look(&other, 0).await?;
    same(&first, &(1, STALE.to_owned()))?;
    comes_to(FRESH, &other, 0, 1).await?;
    same(
        &two.metric("router_causal_tokens_total", &["history_gone"])?,
        &1.0,
    )
}

/// A history of another server, of which every second transaction is there.
async fn gaps_make_it_longer_until_there_is_none(pair: &Pair, one: &Web, two: &Web) -> Result<()> {
    const OTHER: &str = "aaaaaaaa-1111-2222-3333-444444444444";
    // So many transactions would wait for the disk for long.
    for server in [pair.mysql_1(), pair.mysql_2()] {
        let hasty = "SET GLOBAL sync_binlog = 0; SET GLOBAL innodb_flush_log_at_trx_commit = 0; SET GLOBAL sync_relay_log = 0";
        as_arbiter(server, hasty).await?;
    }
    let mut arbiter = pair.mysql_1().connect(Account::Arbiter).await?;
    let mut execute = async |numbers: std::iter::StepBy<std::ops::Range<u32>>| {
        let all: String = numbers
            .map(|number| format!("SET gtid_next = '{OTHER}:gaps:{number}'; BEGIN; COMMIT; "))
            .collect();
        let all = format!("{all}SET gtid_next = 'AUTOMATIC'");
        sqlx::raw_sql(AssertSqlSafe(all))
            .execute(&mut arbiter)
            .await
            .map(drop)
    };
    execute((1..40).step_by(2)).await?;
    let session = one.session();
    set(&session, 1, 1).await?;
    let token = session.causal_token().await?.context("twenty gaps fit")?;
    let (_, executed) = opened(&token)?;
    ensure!(executed.contains(":gaps:1:3:5:"), "{executed}");
    same(&get(&two.router.session(Some(&token)), 1).await?, &1)?;

    execute((41..400).step_by(2)).await?;
    let session = one.session();
    set(&session, 1, 2).await?;
    ensure!(session.causal_token().await?.is_none(), "so many gaps fit");
    same(
        &one.metric("router_causal_tokens_total", &["too_long_to_make"])?,
        &1.0,
    )?;
    // Within the process it needs none.
    same(&get(&session, 1).await?, &2)?;

    execute((2..400).step_by(2)).await?;
    let session = one.session();
    set(&session, 1, 3).await?;
    let token = session.causal_token().await?.context("no gap is left")?;
    let (_, executed) = opened(&token)?;
    ensure!(executed.contains(":gaps:1-399"), "{executed}");
    ensure!(token.len() < 300, "{} bytes: {executed}", token.len());
    same(&get(&two.router.session(Some(&token)), 1).await?, &3)
}

/// What a token says: its epoch, and the set.
fn opened(token: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let executed = String::from_utf8(BASE64.decode(parts[2])?)?;
    Ok((parts[1].to_owned(), executed))
}

/// A token by its documented form.
fn sign(signed: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(CAUSAL_KEY).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// Signed by us; of a later epoch than anybody knows of, or of transactions that nobody has executed.
async fn a_token_of_the_future_is_an_error_in_time_or_dropped(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let limit = Duration::from_millis(config(pair).statement_timeout_ms);
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let uuid: String = ask(&mut primary, "SELECT @@server_uuid").await?;
    let tokens = [
        format!("1.99.{}", BASE64.encode(format!("{uuid}:1"))),
        format!("1.1.{}", BASE64.encode(format!("{uuid}:1-999999999"))),
        format!("1.99.{}", BASE64.encode(format!("{uuid}:1-999999999"))),
        format!("1.{}.{}", u64::MAX, BASE64.encode(format!("{uuid}:1"))),
    ]
    .map(|signed| sign(&signed));
    pair.mysql_2().kill().await?;
    wait_until("the replica is known to be away", SOON, async || {
        web.goes("SELECT 1") == "primary;reason=replica-down"
    })
    .await?;
    for (number, token) in tokens.iter().enumerate() {
        let session = web.router.session(Some(token));
        let errors = web.metric("router_errors_total", &["no_server"])?;
        let began = Instant::now();
        let answer = get(&session, 0).await;
        ensure!(began.elapsed() < limit * 2, "after {:?}", began.elapsed());
        match answer {
            // The set alone is of no harm on the primary: nobody knows more.
            Ok(n) => {
                same(&n, &0)?;
                same(&number, &1).context("nobody can know that this is fresh")?;
            }
            Err(error) => {
                same(
                    &RouterError::of(&error).map(kind),
                    &Some("NoServer".to_owned()),
                )?;
                same(
                    &web.metric("router_errors_total", &["no_server"])?,
                    &(errors + 1.0),
                )?;
            }
        }
        // A write does not ask.
        set(&session, 3, 0).await.ok();
    }
    pair.mysql_2().restart().await?;
    pair.follow(pair.mysql_2(), pair.mysql_1().port()).await?;
    web.is_whole().await?;
    for token in &tokens {
        let gone = web.metric("router_causal_tokens_total", &["history_gone"])?;
        let session = web.router.session(Some(token));
        comes_to(FRESH, &session, 0, 0).await?;
        let now = web.metric("router_causal_tokens_total", &["history_gone"])?;
        same(&now, &(gone + 1.0)).context("counted once")?;
    }
    Ok(())
}

/// Reads by whoever wrote and by whoever has a token, until the servers are whole again: right, or an error in time.
async fn reads_until_whole(what: &str, n: i32, web: &[(&Web, &Router)]) -> Result<()> {
    let mut whole = 0;
    let began = Instant::now();
    while whole < 3 {
        ensure!(began.elapsed() < SOON * 2, "{what}: it does not heal");
        let mut fresh = true;
        for (web, session) in web {
            let asked = Instant::now();
            match look(session, 1).await {
                Ok((seen, place)) => {
                    ensure!(seen == n, "{what}: read {seen}, wrote {n}: {place}");
                    fresh &= web.router.health().writable;
                }
                Err(_) => fresh = false,
            }
            ensure!(
                asked.elapsed() < Duration::from_secs(7),
                "{what}: {:?}",
                asked.elapsed()
            );
        }
        whole = if fresh { whole + 1 } else { 0 };
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn a_restart_shows_nothing_old(pair: &Pair, one: &Web, two: &Web) -> Result<()> {
    // It comes back without the last write.
    one.is_whole().await?;
    as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
    let session = one.session();
    set(&session, 1, 101).await?;
    let token = session.causal_token().await?.context("it wrote")?;
    let other = two.router.session(Some(&token));
    let both = [(one, &session), (two, &other)];
    pair.mysql_2().kill().await?;
    let restarted = async {
        pair.mysql_2().restart().await?;
        as_arbiter(pair.mysql_2(), "SET GLOBAL offline_mode = OFF").await
    };
    let (reads, restarted) = tokio::join!(
        reads_until_whole("the replica restarts", 101, &both),
        restarted
    );
    reads?;
    restarted?;
    for _ in 0..50 {
        for (_, session) in both {
            same(&get(session, 1).await?, &101).context("it has not applied it")?;
        }
    }
    pair.follow(pair.mysql_2(), pair.mysql_1().port()).await?;
    one.is_whole().await?;

    // The primary comes back.
    let session = one.session();
    set(&session, 1, 102).await?;
    let token = session.causal_token().await?.context("it wrote")?;
    let other = two.router.session(Some(&token));
    let both = [(one, &session), (two, &other)];
    pair.mysql_1().kill().await?;
    let restarted = async {
        pair.mysql_1().restart().await?;
        pair.open(pair.mysql_1()).await?;
        as_arbiter(
            pair.mysql_1(),
            "SET GLOBAL rpl_semi_sync_source_enabled = ON",
        )
        .await
    };
    let (reads, restarted) = tokio::join!(
        reads_until_whole("the primary restarts", 102, &both),
        restarted
    );
    reads?;
    restarted?;
    // Commits wait for it.
    pair.follow(pair.mysql_2(), pair.mysql_1().port()).await?;
    one.is_whole().await?;
    two.is_whole().await
}

async fn a_change_of_roles_shows_nothing_old(pair: &mut Pair, one: &Web, two: &Web) -> Result<()> {
    let before = one.session();
    set(&before, 1, 201).await?;
    let old = before.causal_token().await?.context("it wrote")?;
    let other = two.router.session(Some(&old));
    {
        let both = [(one, &before), (two, &other)];
        let (reads, promoted) = tokio::join!(
            reads_until_whole("roles change", 201, &both),
            pair.promote("mysql-2", 2)
        );
        reads?;
        promoted?;
    }
    pair.follow(pair.mysql_1(), pair.mysql_2().port()).await?;
    wait_until("both have heard of it", SOON, async || {
        [one, two].iter().all(|web| {
            let health = web.router.health();
            health.epoch == 2 && health.writable
        })
    })
    .await?;
    // The new replica lags: what it lacks is not read there.
    pair.caught_up(pair.mysql_2(), pair.mysql_1()).await?;
    as_arbiter(pair.mysql_1(), "STOP REPLICA SQL_THREAD").await?;
    set(&before, 1, 202).await?;
    let new = before.causal_token().await?.context("it wrote")?;
    let other = two.router.session(Some(&new));
    for session in [&before, &other] {
        same(&get(session, 1).await?, &202)?;
    }
    same(&opened(&new)?.0, &"2".to_owned())?;
    same(&two.router.newer(&old, &new), &new.as_str())?;
    as_arbiter(pair.mysql_1(), "START REPLICA SQL_THREAD").await?;
    for (session, n) in [
        (&before, 202),
        (&other, 202),
        (&two.router.session(Some(&old)), 202),
    ] {
        comes_to(FRESH, session, 1, n).await?;
    }
    Ok(())
}
