//! The spans of statements, alone and in transactions: which server had each, why, by which epoch, and how far behind it was.

mod router_common;

use anyhow::{Context, Result, ensure};
use harness::{Span, TraceStore, free_port};
use router::{Router, Transaction};
use router_common::{Web, config, get, pair, same};
use telemetry::{
    logs,
    trace_context::TraceContext,
    traces::{Service, Traces, TracesConfig, join},
};
use tracing::Instrument;

/// What was done, in this order: the span's name, the role of the server, and why it was chosen.
const DONE: [(&str, &str, &str); 9] = [
    ("SELECT counters", "replica", "fresh"),
    ("START TRANSACTION", "primary", "transaction"),
    ("UPDATE counters", "primary", "transaction"),
    ("SELECT counters", "primary", "transaction"),
    ("INSERT counters", "primary", "transaction"),
    ("ROLLBACK", "primary", "transaction"),
    ("START TRANSACTION READ ONLY", "replica", "fresh"),
    ("SELECT counters", "replica", "fresh"),
    ("COMMIT", "replica", "fresh"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_says_where_it_went_and_why_also_in_a_transaction() -> Result<()> {
    let pair = pair().await?;
    let web = Web::start(&pair, config(&pair)).await?;
    let door = pair.identities().of("fw-telemetry").join("current");
    let store = TraceStore::start(&door, free_port()?).await?;
    let traces = traces(&store);
    let ours = pair.identities().of("web-1").join("current");
    let ours = chassis::identity::Identity::load(&ours)?;
    let tls = move || ours.client_config(Some("telemetry"), &[b"http/1.1"]);
    traces.start(&prometheus::Registry::new(), tls)?;
    logs::init_with("test", "off", &traces, &["router", "router_spans"])?;

    let caller = TraceContext::new(true);
    let request = tracing::info_span!("request", otel.kind = "server");
    let own = join(&request, Some(caller));
    statements(&web.session()).instrument(request).await?;
    let mut spans = store
        .spans(&caller.trace_id.to_string(), DONE.len() + 1)
        .await?;
    spans.retain(|span| span.is(Span::CLIENT));
    spans.sort_by_key(|span| span.text("startTimeUnixNano").to_owned());
    let found: Vec<_> = spans
        .iter()
        .map(|span| {
            let [target, reason] =
                ["router.target", "router.reason"].map(|key| span.attribute(key));
            (span.name().to_owned(), target, reason)
        })
        .collect();
    let done = DONE.map(|(name, target, reason)| {
        let [name, target, reason] = [name, target, reason].map(str::to_owned);
        (name, target, reason)
    });
    same(&found, &done.to_vec())?;
    for span in &spans {
        let of_replica = span.attribute("router.target") == "replica";
        let server = if of_replica { "mysql-2" } else { "mysql-1" };
        ensure!(span.parent() == own.span_id.to_string(), "{span:#?}");
        ensure!(span.attribute("server.address") == server, "{span:#?}");
        ensure!(span.attribute("router.epoch") == "1", "{span:#?}");
        let lag = span.attribute("router.lag_ms").parse::<u64>();
        ensure!(lag.is_ok() == of_replica, "{span:#?}");
        let refused = span.name() == "INSERT counters";
        ensure!(span.has_failed() == refused, "{span:#?}");
        let number = if refused { "1062" } else { "" };
        ensure!(span.attribute("error.type") == number, "{span:#?}");
    }
    Ok(())
}

fn traces(store: &TraceStore) -> Traces {
    let service = Service {
        name: "web",
        instance: "web-1",
        version: "0",
    };
    let config = TracesConfig {
        enabled: true,
        endpoint: store.endpoint(),
        queue_spans_max: 100,
        batch_spans_max: 100,
        delay_ms: 20,
        timeout_ms: 2000,
        retry_ms: 50,
        flush_ms: 0,
    };
    Traces::new(service, &config)
}

async fn statements(session: &Router) -> Result<()> {
    get(session, 0).await?;
    let mut transaction = session.begin().await?;
    sqlx::query("UPDATE counters SET n = n + 1 WHERE id = 0")
        .execute(&mut transaction)
        .await?;
    same(&read(&mut transaction).await?, &1)?;
    let twice = sqlx::query("INSERT INTO counters VALUES (0, 0)")
        .execute(&mut transaction)
        .await
        .err();
    let twice = twice.context("the same key twice")?;
    same(&replication::errors::number(&twice), &Some(1062))?;
    transaction.rollback().await?;
    let mut reading = session.begin_read_only().await?;
    same(&read(&mut reading).await?, &0)?;
    Ok(reading.commit().await?)
}

async fn read(transaction: &mut Transaction) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT n FROM counters WHERE id = 0")
        .fetch_one(transaction)
        .await
}
