//! Two replicas: reads are spread over those that are fresh, the one with the least at work first; what one of them cannot do the other
//! one does; and each can become the primary.

mod router_common;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::{Account, Pair, Server, wait_until};
use router::{Router, RouterConfig, ServerState, Transaction};
use router_common::{
    SOON, Web, as_arbiter, config, get, health_of, is_in_state, pair, same, set, went,
};

const FRESH: &str = "replica;reason=fresh";
const REPLICAS: [&str; 2] = ["mysql-2", "mysql-3"];

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_spread_over_the_replicas_that_are_fresh_and_each_can_become_the_primary()
-> Result<()> {
    let mut pair = pair().await?;
    pair.add_mysql_3().await?;
    let web = Web::start(&pair, config(&pair)).await?;
    all_are_fresh(&web).await?;

    equal_ones_take_turns(&web).await.context("turns")?;
    the_least_busy_one_is_first(&web)
        .await
        .context("least busy")?;
    a_full_one_leaves_its_reads_to_the_other(&pair)
        .await
        .context("full")?;
    own_writes_are_seen_on_both(&web)
        .await
        .context("own writes")?;
    for name in REPLICAS {
        let other = REPLICAS.into_iter().find(|other| *other != name);
        let (late, other) = (server(&pair, name)?, other.context("the other one")?);
        one_that_is_late_gets_no_reads(&web, late, other)
            .await
            .with_context(|| format!("{name} is late"))?;
    }
    one_that_dies_costs_no_read(&pair, &web)
        .await
        .context("dead")?;
    roles_move_to_the_third(&mut pair, &web)
        .await
        .context("roles")?;
    one_that_has_what_the_new_primary_lacks_gets_no_reads(&pair, &web)
        .await
        .context("a lost write")
}

fn server<'p>(pair: &'p Pair, name: &str) -> Result<&'p Server> {
    let found = pair.servers().find(|server| server.name() == name);
    found.with_context(|| format!("no {name}"))
}

async fn all_are_fresh(web: &Web) -> Result<()> {
    for name in REPLICAS {
        is_in_state(web, name, ServerState::Healthy).await?;
    }
    web.is_whole().await
}

/// Where the session's last statement was answered.
fn last(session: &Router) -> Result<String> {
    let decisions = session.decisions();
    let last = decisions.last().context("a statement is a decision")?;
    Ok(last.server.to_string())
}

/// Reads in new sessions, one after the other, and counts who answers.
async fn read(web: &Web, times: usize) -> Result<BTreeMap<String, usize>> {
    let mut answered = BTreeMap::new();
    for _ in 0..times {
        let session = web.session();
        get(&session, 0).await?;
        same(&went(&session), &vec![FRESH.to_owned()])?;
        *answered.entry(last(&session)?).or_default() += 1;
    }
    Ok(answered)
}

async fn only(web: &Web, name: &str) -> Result<()> {
    same(
        &read(web, 12).await?,
        &BTreeMap::from([(name.to_owned(), 12)]),
    )
}

async fn equal_ones_take_turns(web: &Web) -> Result<()> {
    let answered = read(web, 60).await?;
    for name in REPLICAS {
        let count = answered.get(name).copied().unwrap_or_default();
        ensure!(count >= 15, "{answered:?}");
    }
    same(&answered.len(), &REPLICAS.len())
}

/// Transactions that read on this one, which need several tries where the other one is as good.
async fn hold(web: &Web, name: &str, count: usize) -> Result<Vec<Transaction>> {
    let (mut held, mut others) = (Vec::new(), Vec::new());
    while held.len() < count {
        let session = web.session();
        let transaction = session.begin_read_only().await?;
        match last(&session)? == name {
            true => held.push(transaction),
            false => others.push(transaction),
        }
        ensure!(others.len() <= count + 2, "{} elsewhere", others.len());
    }
    for other in others {
        other.commit().await?;
    }
    Ok(held)
}

async fn the_least_busy_one_is_first(web: &Web) -> Result<()> {
    for (busy, other) in [REPLICAS, [REPLICAS[1], REPLICAS[0]]].map(|[a, b]| (a, b)) {
        let held = hold(web, busy, 2).await?;
        only(web, other).await?;
        // What comes together fills the other one up to the same, then both.
        let mut together = Vec::new();
        for _ in 0..6 {
            together.push(web.session().begin_read_only().await?);
        }
        for name in REPLICAS {
            same(&health_of(web, name)?.in_use, &4)?;
        }
        for transaction in held.into_iter().chain(together) {
            transaction.commit().await?;
        }
    }
    Ok(())
}

async fn a_full_one_leaves_its_reads_to_the_other(pair: &Pair) -> Result<()> {
    let config = RouterConfig {
        max_connections: 2,
        write_reserve: 1,
        ..config(pair)
    };
    let web = Web::start(pair, config).await?;
    all_are_fresh(&web).await?;
    let mut held = Vec::new();
    for _ in 0..2 * REPLICAS.len() {
        held.push(web.session().begin_read_only().await?);
    }
    for name in REPLICAS {
        same(&health_of(&web, name)?.in_use, &2)?;
    }
    let session = web.session();
    let primary = session.begin_read_only().await?;
    same(
        &went(&session),
        &vec!["primary;reason=replica-full".to_owned()],
    )?;
    primary.commit().await?;
    held.pop().context("one of them")?.commit().await?;
    let session = web.session();
    get(&session, 0).await?;
    same(&went(&session), &vec![FRESH.to_owned()])
}

async fn own_writes_are_seen_on_both(web: &Web) -> Result<()> {
    let sessions = (0..4).map(async |id| {
        let mut answered = BTreeMap::<String, usize>::new();
        for n in 1..=40 {
            let session = web.session();
            set(&session, id, n).await?;
            for _ in 0..3 {
                let seen = get(&session, id).await?;
                let server = last(&session)?;
                ensure!(seen == n, "counter {id} is {n}, read {seen} on {server}");
                *answered.entry(server).or_default() += 1;
            }
        }
        Ok(answered)
    });
    futures::future::try_join_all(sessions).await?;
    // Each of them comes to have it.
    let session = web.session();
    set(&session, 0, 100).await?;
    for name in REPLICAS {
        let token = session.causal_token().await?;
        wait_until("it is read there", SOON, async || {
            let session = web.router.session(token.as_deref());
            get(&session, 0).await.is_ok_and(|n| n == 100)
                && last(&session).is_ok_and(|server| server == name)
        })
        .await
        .context(name)?;
    }
    Ok(())
}

async fn one_that_is_late_gets_no_reads(web: &Web, late: &Server, other: &str) -> Result<()> {
    all_are_fresh(web).await?;
    as_arbiter(late, "STOP REPLICA SQL_THREAD").await?;
    // Not for who wrote, at once.
    let writer = web.session();
    let n = get(&writer, 1).await? + 1;
    set(&writer, 1, n).await?;
    for _ in 0..20 {
        same(&get(&writer, 1).await?, &n)?;
        ensure!(last(&writer)? != late.name(), "{:?}", went(&writer));
    }
    // Nor for anybody, soon.
    is_in_state(web, late.name(), ServerState::Lagging).await?;
    only(web, other).await?;
    as_arbiter(late, "START REPLICA SQL_THREAD").await?;
    all_are_fresh(web).await?;
    same(&read(web, 12).await?.len(), &REPLICAS.len())
}

async fn one_that_dies_costs_no_read(pair: &Pair, web: &Web) -> Result<()> {
    all_are_fresh(web).await?;
    let third = pair.mysql_3()?;
    // Which of the two it hits is not known: some of these were under way there.
    let reads = async {
        for _ in 0..300 {
            get(&web.session(), 0).await?;
        }
        anyhow::Ok(())
    };
    let (done, killed) = tokio::join!(reads, third.kill());
    done?;
    killed?;
    is_in_state(web, "mysql-3", ServerState::Down).await?;
    only(web, "mysql-2").await?;
    third.restart().await?;
    as_arbiter(third, "SET GLOBAL rpl_semi_sync_replica_enabled = OFF").await?;
    pair.follow(third, pair.mysql_1().port()).await?;
    all_are_fresh(web).await?;
    same(&read(web, 12).await?.len(), &REPLICAS.len())
}

async fn roles_move_to_the_third(pair: &mut Pair, web: &Web) -> Result<()> {
    let writer = web.session();
    set(&writer, 2, 1).await.context("before")?;
    let token = writer.causal_token().await?.context("it wrote")?;
    pair.promote("mysql-3", 2).await.context("promoted")?;
    for follower in [pair.mysql_1(), pair.mysql_2()] {
        let followed = pair.follow(follower, pair.mysql_3()?.port()).await;
        followed.context("its followers")?;
    }
    web.router.wait_for_primary(SOON).await?;
    same(&web.router.health().primary.as_deref(), &Some("mysql-3"))?;
    let session = web.router.session(Some(&token));
    same(&get(&session, 2).await?, &1)?;
    set(&session, 2, 2).await?;
    same(&last(&session)?, &"mysql-3".to_owned())?;
    same(&get(&session, 2).await?, &2)?;
    for name in ["mysql-1", "mysql-2"] {
        is_in_state(web, name, ServerState::Healthy).await?;
    }
    pair.caught_up(pair.mysql_3()?, pair.mysql_1()).await?;
    pair.caught_up(pair.mysql_3()?, pair.mysql_2()).await?;
    let answered = read(web, 40).await?;
    let who: Vec<&str> = answered.keys().map(String::as_str).collect();
    same(&who, &vec!["mysql-1", "mysql-2"])?;
    let mut third = pair.mysql_3()?.connect(Account::App).await?;
    let n: i32 = sqlx::query_scalar("SELECT n FROM ledger.counters WHERE id = 2")
        .fetch_one(&mut third)
        .await?;
    same(&n, &2)
}

/// The primary dies after one replica has applied a write, and the other one, which never got it, takes its place. Whoever reads that write
/// now reads what is lost.
async fn one_that_has_what_the_new_primary_lacks_gets_no_reads(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let (new, ahead, old) = (pair.mysql_1(), pair.mysql_2(), pair.mysql_3()?);
    as_arbiter(new, "STOP REPLICA IO_THREAD").await?;
    set(&web.session(), 3, 1000).await?;
    pair.caught_up(old, ahead).await?;
    old.kill().await?;
    as_arbiter(new, "STOP REPLICA; RESET REPLICA ALL").await?;
    pair.open(new).await?;
    as_arbiter(
        new,
        "UPDATE holdfast.cluster SET epoch = 3, primary_server = 'mysql-1', primary_uuid = @@server_uuid, in_sync = 'mysql-1',
           phase = 'steady', changed_at = CURRENT_TIMESTAMP(6)",
    )
    .await?;
    pair.follow(ahead, new.port()).await?;
    pair.caught_up(new, ahead).await?;
    web.router.wait_for_primary(SOON).await?;
    is_in_state(web, ahead.name(), ServerState::Errant).await?;
    for _ in 0..10 {
        let session = web.session();
        ensure!(get(&session, 3).await? != 1000, "{:?}", session.decisions());
        same(
            &went(&session),
            &vec!["primary;reason=replica-down".to_owned()],
        )?;
    }
    Ok(())
}
