//! A statement that was taken for a read and that a replica refuses as a write: it is done on the primary, once, and goes there at once from
//! then on. What makes such statements here is a view over a function that writes, which looks like a table.

mod router_common;

use std::{
    fmt::{Debug, Write as _},
    sync::{Mutex, OnceLock},
};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use harness::{Account, Direction, Pair, wait_until};
use replication::{ErrorKind, errors};
use router::{Router, RouterConfig};
use router_common::{
    SOON, Web, as_arbiter, ask, config, fresh_session, make_routines, ours, pair, proxy, same,
    through, went,
};
use sqlx::{AssertSqlSafe, MySqlConnection};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const COUNTING: &str = "SELECT n FROM counting";
const FRESH: &str = "replica;reason=fresh";
const CORRECTED: &str = "primary;reason=corrected";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_refuses_as_a_write_is_done_once_on_the_primary_and_goes_there_at_once_later()
-> Result<()> {
    let warnings = Warnings::listen()?;
    let pair = pair().await?;
    make_routines(&pair, &OTHERS).await?;
    let web = Web::start(&pair, config(&pair)).await?;

    the_first_call_is_corrected_and_the_next_is_sent_right(&pair, &web, warnings).await?;
    several_first_calls_at_once_are_each_done_once(&pair, &web, warnings).await?;
    what_was_written_by_a_corrected_statement_is_seen_by_its_session(&pair, &web)
        .await
        .context("own writes")?;
    after_the_first_row_an_error_is_an_error(&pair, &web).await?;
    web.router.close().await;
    the_oldest_is_forgotten_where_as_many_are_known_as_may(&pair).await?;
    a_corrected_statement_is_never_sent_twice(&pair)
        .await
        .context("a corrected statement whose answer is lost")
}

#[tokio::test]
async fn a_function_that_only_reads_goes_to_the_replica_once_it_is_registered() -> Result<()> {
    let pair = pair().await?;
    make_routines(&pair, &OTHERS).await?;
    let plain = Web::start_as(&pair, config(&pair), Account::Migrate).await?;
    let registered = RouterConfig {
        pure_functions: ["doubled", "ledger.doubled", "tripled", "ledger.tripled"]
            .map(str::to_owned)
            .into(),
        ..config(&pair)
    };
    let registered = Web::start_as(&pair, registered, Account::Migrate).await?;
    for (sql, expected) in [
        ("SELECT doubled(21)", FRESH),
        ("SELECT Doubled (21)", FRESH),
        ("SELECT ledger.doubled(21)", FRESH),
        ("SELECT `ledger` . `doubled` (21)", FRESH),
        ("SELECT tripled(14)", FRESH),
        ("SELECT ledger.tripled(14)", FRESH),
        ("SELECT doubled(tripled(7))", FRESH),
        // A function of that name in another schema is another one.
        ("SELECT holdfast.tripled(14)", "primary;reason=unproven"),
        ("SELECT doubled(count_up())", "primary;reason=unproven"),
        ("SELECT doubled(21) FOR UPDATE", "primary;reason=locking"),
    ] {
        same(&registered.goes(sql), &expected.to_owned()).context(sql)?;
        ensure!(plain.goes(sql).starts_with("primary;"), "{sql}");
    }
    for (web, place) in [(&registered, FRESH), (&plain, "primary;reason=unproven")] {
        let session = fresh_session(web, &pair).await?;
        let n: i64 = sqlx::query_scalar("SELECT doubled(21)")
            .fetch_one(&session)
            .await?;
        same(&n, &42)?;
        same(&went(&session), &vec![place.to_owned()])?;
    }
    // Who registers one that writes is corrected by the replica.
    let wrong = RouterConfig {
        pure_functions: vec!["count_up".to_owned()],
        ..config(&pair)
    };
    let wrong = Web::start_as(&pair, wrong, Account::Migrate).await?;
    let session = fresh_session(&wrong, &pair).await?;
    let counted: i64 = sqlx::query_scalar("SELECT count_up()")
        .fetch_one(&session)
        .await?;
    same(&counted, &1)?;
    same(&went(&session), &corrected_at_first())?;
    let nonsense = RouterConfig {
        pure_functions: vec!["no name(".to_owned()],
        ..config(&pair)
    };
    let refused = Web::start(&pair, nonsense).await.err();
    let refused = refused.context("a function of no name")?.to_string();
    ensure!(refused.contains("pure_functions"), "{refused}");
    Ok(())
}

async fn the_first_call_is_corrected_and_the_next_is_sent_right(
    pair: &Pair,
    web: &Web,
    warnings: &Warnings,
) -> Result<()> {
    let before = counted(pair).await?;
    let session = fresh_session(web, pair).await?;
    same(&count(&session, COUNTING).await?, &(before + 1))?;
    same(&went(&session), &corrected_at_first())?;
    same(&counted(pair).await?, &(before + 1)).context("executed once")?;
    same(&refusals(pair).await?, &1)?;
    same(&web.metric("router_corrected_total", &[])?, &1.0)?;
    same(&web.metric("router_corrections", &[])?, &1.0)?;
    same(&warnings.about("SELECT counting"), &1)?;

    // In whichever way it is asked, and in whichever session.
    let session = fresh_session(web, pair).await?;
    same(&web.goes(COUNTING), &CORRECTED.to_owned())?;
    same(&count(&session, COUNTING).await?, &(before + 2))?;
    let rows: Vec<i64> = sqlx::query_scalar(COUNTING).fetch_all(&session).await?;
    same(&rows, &vec![before + 3])?;
    sqlx::raw_sql(COUNTING).execute(&session).await?;
    same(&went(&session), &vec![CORRECTED.to_owned(); 3])?;
    same(&counted(pair).await?, &(before + 4))?;
    same(&refusals(pair).await?, &1).context("the replica was asked again")?;
    same(&web.metric("router_corrected_total", &[])?, &1.0)?;
    same(
        &web.metric("router_statements_total", &["primary", "corrected"])?,
        &4.0,
    )?;
    same(&warnings.about("SELECT counting"), &1).context("said again")
}

async fn several_first_calls_at_once_are_each_done_once(
    pair: &Pair,
    web: &Web,
    warnings: &Warnings,
) -> Result<()> {
    fresh_session(web, pair).await?;
    let (before, known) = (counted(pair).await?, web.metric("router_corrections", &[])?);
    let said = warnings.about("SELECT counting");
    let sql = "SELECT n AS at_once FROM counting";
    let calls = (0..8).map(async |_| count(&web.session(), sql).await);
    let mut done = Vec::new();
    for call in futures::future::join_all(calls).await {
        match call {
            Ok(n) => done.push(n),
            // They meet in the table; what was rolled back was not done.
            Err(error) => same(&errors::kind(&error), &ErrorKind::Contention)?,
        }
    }
    done.sort_unstable();
    let times = i64::try_from(done.len())?;
    ensure!(times > 0, "none was done");
    same(&done, &(before + 1..=before + times).collect())?;
    same(&counted(pair).await?, &(before + times))?;
    same(&web.metric("router_corrections", &[])?, &(known + 1.0))?;
    same(&warnings.about("SELECT counting"), &(said + 1))
}

/// It was taken for a read, and is a write: whoever did it sees what it did.
async fn what_was_written_by_a_corrected_statement_is_seen_by_its_session(
    pair: &Pair,
    web: &Web,
) -> Result<()> {
    let (known, new) = (COUNTING, "SELECT n AS seen FROM counting");
    for sql in [known, new] {
        let session = fresh_session(web, pair).await?;
        as_arbiter(pair.mysql_2(), "STOP REPLICA SQL_THREAD").await?;
        let n = count(&session, sql).await?;
        let seen = count(&session, "SELECT COUNT(*) FROM counted").await;
        let place = went(&session).pop();
        let token = session.causal_token().await;
        as_arbiter(pair.mysql_2(), "START REPLICA SQL_THREAD").await?;
        same(&seen?, &n).with_context(|| format!("{sql}: read at {place:?}"))?;
        ensure!(token?.is_some(), "{sql}: it was a write");
    }
    Ok(())
}

/// A function may say what a server says that is read-only, and in the middle of an answer.
async fn after_the_first_row_an_error_is_an_error(pair: &Pair, web: &Web) -> Result<()> {
    let session = fresh_session(web, pair).await?;
    let corrected = web.metric("router_corrected_total", &[])?;
    let mut rows =
        sqlx::query_scalar::<_, i64>("SELECT n FROM refusing ORDER BY id").fetch(&session);
    same(&rows.try_next().await?, &Some(0))?;
    let error = rows.try_next().await.err().context("the second row")?;
    drop(rows);
    ensure!(
        error.to_string().contains("not from here on"),
        "it does not say why: {error}"
    );
    same(&went(&session), &vec![FRESH.to_owned()])?;
    same(&web.metric("router_corrected_total", &[])?, &corrected)?;
    // Nothing is remembered of it, and the connection is whole.
    same(
        &web.goes("SELECT n FROM refusing ORDER BY id"),
        &FRESH.to_owned(),
    )?;
    for _ in 0..4 {
        same(&count(&session, "SELECT 7").await?, &7)?;
    }
    Ok(())
}

async fn the_oldest_is_forgotten_where_as_many_are_known_as_may(pair: &Pair) -> Result<()> {
    let few = RouterConfig {
        corrections_max: 2,
        ..config(pair)
    };
    let web = Web::start(pair, few).await?;
    let texts = [
        "SELECT n AS a FROM counting",
        "SELECT n AS b FROM counting",
        "SELECT n AS c FROM counting",
    ];
    let forgotten = || web.metric("router_corrections_forgotten_total", &[]);
    for (number, sql) in texts.into_iter().enumerate() {
        same(&forgotten()?, &0.0)?;
        let session = fresh_session(&web, pair).await?;
        count(&session, sql).await?;
        same(&went(&session), &corrected_at_first()).context(sql)?;
        let known = web.metric("router_corrections", &[])?;
        same(&known, &((number + 1).min(2) as f64))?;
    }
    same(&forgotten()?, &1.0)?;
    same(&web.goes(texts[0]), &FRESH.to_owned())?;
    same(&web.goes(texts[1]), &CORRECTED.to_owned())?;
    same(&web.goes(texts[2]), &CORRECTED.to_owned())?;
    // It costs one refusal more, and no wrong answer.
    let (before, refused) = (counted(pair).await?, refusals(pair).await?);
    let session = fresh_session(&web, pair).await?;
    same(&count(&session, texts[0]).await?, &(before + 1))?;
    same(&went(&session), &corrected_at_first())?;
    same(&refusals(pair).await?, &(refused + 1))?;
    same(&forgotten()?, &2.0)?;
    same(&web.metric("router_corrections", &[])?, &2.0)?;
    web.router.close().await;
    Ok(())
}

/// The answer is lost after the primary has done it.
async fn a_corrected_statement_is_never_sent_twice(pair: &Pair) -> Result<()> {
    let link = proxy(pair.mysql_1()).await?;
    let web = Web::start(pair, through(config(pair), pair.mysql_1(), &link)).await?;
    for sql in [COUNTING, "SELECT n AS lost FROM counting"] {
        // Once before, for the connection, and so that it is known.
        let session = fresh_session(&web, pair).await?;
        count(&session, COUNTING).await?;
        let before = counted(pair).await?;
        let session = fresh_session(&web, pair).await?;
        link.freeze(Direction::ToClient);
        let calling = tokio::spawn({
            let session = session.clone();
            // By text: to prepare it would be another round trip.
            async move { sqlx::raw_sql(sql).execute(&session).await }
        });
        wait_until("it is done", SOON, async || {
            counted(pair).await.is_ok_and(|now| now > before)
        })
        .await
        .with_context(|| format!("{sql}: {:?}", web.router.health()))?;
        link.cut();
        let lost = ours(calling.await?);
        link.heal();
        web.is_whole().await?;
        same(&counted(pair).await?, &(before + 1)).context(sql)?;
        same(&lost?, &"CommitOutcomeUnknown".to_owned()).context(sql)?;
    }
    Ok(())
}

fn corrected_at_first() -> Vec<String> {
    vec![FRESH.to_owned(), CORRECTED.to_owned()]
}

/// What else is called here.
const OTHERS: [&str; 4] = [
    "CREATE FUNCTION refuse(id INT) RETURNS BIGINT NO SQL
     BEGIN IF id > 1 THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'not from here on'; END IF;
     RETURN 0; END",
    "CREATE VIEW refusing AS SELECT id, refuse(id) AS n FROM counters WHERE id > 0",
    "CREATE FUNCTION doubled(n BIGINT) RETURNS BIGINT DETERMINISTIC NO SQL RETURN 2 * n",
    "CREATE FUNCTION tripled(n BIGINT) RETURNS BIGINT DETERMINISTIC NO SQL RETURN 3 * n",
];

async fn count(session: &Router, sql: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(session)
        .await
}

/// How often the function has written, by the primary itself.
async fn counted(pair: &Pair) -> Result<i64> {
    let mut primary: MySqlConnection = pair.mysql_1().connect(Account::Migrate).await?;
    ask(&mut primary, "SELECT COUNT(*) FROM ledger.counted").await
}

/// How often the replica has refused something as a write.
async fn refusals(pair: &Pair) -> Result<i64> {
    let mut replica = pair.mysql_2().connect(Account::Arbiter).await?;
    let raised = "SELECT CAST(SUM(SUM_ERROR_RAISED) AS SIGNED) FROM performance_schema.events_errors_summary_global_by_error
         WHERE ERROR_NUMBER IN (1290, 1792, 1836)";
    ask(&mut replica, raised).await
}

/// What the process has warned of.
#[derive(Debug, Default)]
struct Warnings(Mutex<Vec<String>>);

/// The one that all tests of this file share, as they share the process.
struct Listening(&'static Warnings);

impl Warnings {
    fn listen() -> Result<&'static Self> {
        static WARNINGS: OnceLock<Warnings> = OnceLock::new();
        let warnings = WARNINGS.get_or_init(Self::default);
        tracing::subscriber::set_global_default(Listening(warnings))?;
        Ok(warnings)
    }

    /// How often it has said of a statement that a replica refused it.
    fn about(&self, summary: &str) -> usize {
        let warnings = self.0.lock().expect("no panic");
        let ours = warnings
            .iter()
            .filter(|text| text.contains("refused what was taken for a read"));
        ours.filter(|text| text.contains(&format!("summary={summary:?}")))
            .count()
    }
}

impl Subscriber for Listening {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.0.lock().expect("no panic").push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
