//! What the stack tells about itself: one trace from the edge to the statement, every metric that the documentation names, and that nothing
//! is lost while nobody listens (invariant 11). Where Jaeger's image cannot be had, its stand-in answers the same questions.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::{Span, compose::Stack};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::{
    edge::header,
    ledger::client::{Owner, key},
};

/// Spans are sent twice a second, and Prometheus asks every five.
const SOON: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

const CALLER: &str = "b7ad6b7169203331";

/// A trace that nobody else uses.
fn fresh_trace() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// The spans of a trace, once there are as many of each of these names as it is named.
async fn spans(stack: &Stack, trace: &str, names: &[&str]) -> Result<Vec<Span>> {
    let end = Instant::now() + SOON;
    loop {
        let found = look(stack, trace).await.unwrap_or_default();
        let are_there = |name: &&str| {
            let wanted = names.iter().filter(|other| *other == name).count();
            found.iter().filter(|span| span.name() == *name).count() >= wanted
        };
        if names.iter().all(are_there) {
            return Ok(found);
        }
        again(end, &format!("looking for {names:?} in {found:#?}")).await?;
    }
}

/// Before the next look: fails with `what` when it is too late for one.
async fn again(end: Instant, what: &str) -> Result<()> {
    ensure!(Instant::now() < end, "not within {SOON:?}: {what}");
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

async fn look(stack: &Stack, trace: &str) -> Result<Vec<Span>> {
    let url = stack.jaeger_url(&format!("/api/v3/traces/{trace}"));
    let answer: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
    Ok(Span::all(&answer))
}

fn only<'a>(spans: &'a [Span], what: &str, wanted: impl Fn(&Span) -> bool) -> Result<&'a Span> {
    let found: Vec<_> = spans.iter().filter(|span| wanted(span)).collect();
    ensure!(found.len() == 1, "{what}: {found:#?} of {spans:#?}");
    Ok(found[0])
}

/// The kind of service that a span is of, and the span's own kind.
fn is(span: &Span, service: &str, kind: u8) -> bool {
    span.service == service && span.is(kind)
}

/// Whom a request crosses, as far as they write lines of it.
const WITH_LINES: [&str; 4] = ["balancer-1", "balancer-2", "web-1", "web-2"];

/// How often a call is made until nothing disturbs it.
const TRIES: usize = 5;

/// A call that met nothing that failed: its trace, its answer, and its spans. What fails on its way, an attempt that is made again or a statement,
/// has a span too, which is right, but not what is looked for.
async fn undisturbed(
    stack: &Stack,
    owner: &Owner,
    call: impl Fn() -> RequestBuilder,
    names: &[&str],
) -> Result<(String, Response, Vec<Span>)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let trace = fresh_trace();
        let caller = format!("00-{trace}-{CALLER}-01");
        let answer = owner.send(call().header("traceparent", caller)).await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE && tries < TRIES {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        ensure!(answer.status().is_success(), "{answer:?}");
        let found = spans(stack, &trace, names).await?;
        if tries == TRIES || !found.iter().any(Span::has_failed) {
            return Ok((trace, answer, found));
        }
    }
}

pub(crate) async fn one_request_is_one_trace_from_the_edge_to_the_statements(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Traced").await?;
    let statements = [
        "START TRANSACTION",
        "INSERT idempotency_keys",
        "INSERT accounts",
        "INSERT entries",
        "COMMIT",
    ];
    let http = stack.client()?;
    let write = || {
        let call = http.post(stack.url("/api/accounts"));
        let call = call.header("idempotency-key", key());
        call.json(&json!({ "name": "Traced", "opening_cents": 100 }))
    };
    let names = [&statements[..], &["POST", "POST", "POST /api/accounts"]].concat();
    let (trace, answer, spans_of_write) = undisturbed(stack, &owner, write, &names).await?;
    ensure!(answer.status() == StatusCode::CREATED, "{answer:?}");
    let told = header(&answer, "traceresponse");
    let served_by = header(&answer, "x-served-by");
    let edge = only(&spans_of_write, "the edge", |span| {
        is(span, "balancer", Span::SERVER)
    })?;
    let attempt = only(&spans_of_write, "the attempt", |span| {
        is(span, "balancer", Span::CLIENT)
    })?;
    let web = only(&spans_of_write, "the web server", |span| {
        is(span, "web", Span::SERVER)
    })?;
    ensure!(edge.parent() == CALLER, "{edge:?}");
    ensure!(told == format!("00-{trace}-{}-01", edge.id()), "{told}");
    ensure!(edge.instance.starts_with("balancer-"), "{edge:?}");
    ensure!(attempt.parent() == edge.id());
    ensure!(
        attempt.attribute("server.address") == served_by,
        "{attempt:?}"
    );
    ensure!(web.parent() == attempt.id(), "{web:?}");
    ensure!(web.instance == served_by, "{web:?} is not {served_by}");
    ensure!(web.attribute("http.route") == "/api/accounts", "{web:?}");
    ensure!(
        web.attribute("http.response.status_code") == "201",
        "{web:?}"
    );
    for name in statements {
        let statement = only(&spans_of_write, name, |span| span.name() == name)?;
        ensure!(is(statement, "web", Span::CLIENT), "{statement:?}");
        ensure!(statement.parent() == web.id(), "{statement:?}");
        ensure!(statement.attribute("db.system.name") == "mysql");
        ensure!(
            statement.attribute("router.target") == "primary"
                && statement.attribute("router.reason") == "transaction",
            "{statement:?}"
        );
    }
    let commit = only(&spans_of_write, "COMMIT", |span| span.name() == "COMMIT")?;
    let primary = commit.attribute("server.address");
    ensure!(primary.starts_with("mysql-"), "{commit:?}");
    ensure!(commit.attribute("router.epoch").parse::<u64>()? > 0);

    // A read: whoever had it, the span says the same as the answer's x-db.
    let read = || http.get(stack.url("/api/accounts"));
    let names = ["SELECT accounts", "GET /api/accounts", "GET", "GET"];
    let (trace, answer, spans_of_read) = undisturbed(stack, &owner, read, &names).await?;
    let x_db = header(&answer, "x-db");
    let read = only(&spans_of_read, "the read", |span| {
        span.name() == "SELECT accounts"
    })?;
    let said = format!(
        "{};reason={}",
        read.attribute("router.target"),
        read.attribute("router.reason")
    );
    ensure!(x_db == said, "{x_db} is not {said}");

    // Everybody's lines of it are found by its id, as soon as the engine has written them down.
    let asked = [&["logs", "--json"][..], &WITH_LINES].concat();
    let end = Instant::now() + SOON;
    loop {
        let logs = stack.stack(&asked)?;
        let lines = logs.lines().filter(|line| line.contains(&trace));
        let services: BTreeSet<String> = lines
            .filter_map(|line| serde_json::from_str::<Value>(line.get(line.find('{')?..)?).ok())
            .filter_map(|line| Some(line["service"].as_str()?.to_owned()))
            .collect();
        if services == ["balancer", "web"].map(str::to_owned).into() {
            break;
        }
        again(end, &format!("lines of {trace} come from {services:?}")).await?;
    }
    let page = reqwest::get(stack.jaeger_url(&format!("/trace/{trace}"))).await?;
    ensure!(page.status() == StatusCode::OK, "{page:?}");
    Ok(())
}

pub(crate) async fn checks_of_health_make_no_spans(stack: &Stack) -> Result<()> {
    let trace = fresh_trace();
    let call = stack.client()?.get(stack.url("/healthz"));
    let call = call.header("traceparent", format!("00-{trace}-{CALLER}-01"));
    call.send().await?.error_for_status()?;
    let found = spans(stack, &trace, &["GET"]).await?;
    ensure!(
        found.iter().all(|span| span.service == "balancer"),
        "{found:#?}"
    );
    Ok(())
}

/// One question to Prometheus.
async fn asked(stack: &Stack, query: &str) -> Result<Vec<Value>> {
    let asked: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let url = stack.prometheus_url(&format!("/api/v1/query?query={asked}"));
    let answer: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
    let result = answer["data"]["result"].as_array().cloned();
    result.with_context(|| format!("{query}: {answer}"))
}

/// The targets that Prometheus asks, as `job/instance`, and those of them that answer.
async fn targets(stack: &Stack) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut all, mut up) = (BTreeSet::new(), BTreeSet::new());
    for sample in asked(stack, "up").await? {
        let label = |name: &str| {
            sample["metric"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let target = format!("{}/{}", label("job"), label("instance"));
        if sample["value"][1] == "1" {
            up.insert(target.clone());
        }
        all.insert(target);
    }
    Ok((all, up))
}

/// Whom Prometheus asks: job and instance.
const TARGETS: [&str; 12] = [
    "arbiter/arbiter",
    "balancer/balancer-1",
    "balancer/balancer-2",
    "firewall/fw-arbiter",
    "firewall/fw-edge",
    "firewall/fw-mysql-1",
    "firewall/fw-mysql-2",
    "firewall/fw-telemetry",
    "firewall/fw-web-1",
    "firewall/fw-web-2",
    "web/web-1",
    "web/web-2",
];

/// All targets, once every one of ours is up and no other is down. A Prometheus that has just started takes its jobs up one by one.
async fn every_target_is_up(stack: &Stack) -> Result<BTreeSet<String>> {
    let end = Instant::now() + SOON;
    loop {
        let now = targets(stack).await;
        match now {
            Ok((all, up)) if all == up && TARGETS.iter().all(|target| up.contains(*target)) => {
                return Ok(all);
            }
            now => again(end, &format!("{now:?}")).await?,
        }
    }
}

pub(crate) async fn prometheus_is_answered_by_every_service_and_every_firewall(
    stack: &Stack,
) -> Result<()> {
    let all = every_target_is_up(stack).await?;
    ensure!(all == TARGETS.map(str::to_owned).into(), "{all:?}");
    Ok(())
}

/// The names in the tables of docs/metrics.md.
fn documented() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(harness::compose::root().join("docs/metrics.md"))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let mut names = BTreeSet::new();
    for name in cells.flat_map(|cell| cell.split('`').step_by(2)) {
        let name = name.trim();
        if let Some(rest) = name.strip_prefix("PREFIX_") {
            let services = ["arbiter", "balancer", "firewall", "web"];
            names.extend(services.map(|service| format!("{service}_{rest}")));
        } else if !name.is_empty() && name != "," {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

pub(crate) async fn every_metric_is_documented_and_every_documented_one_is_there(
    stack: &Stack,
) -> Result<()> {
    let documented = documented()?;
    ensure!(documented.len() > 60, "only {documented:?}");
    let end = Instant::now() + SOON;
    loop {
        let there = of_prometheus(stack).await.unwrap_or_default();
        if there == documented {
            return Ok(());
        }
        let missing: Vec<_> = documented.difference(&there).collect();
        let unsaid: Vec<_> = there.difference(&documented).collect();
        let what =
            format!("documented and not there: {missing:?}; there and not documented: {unsaid:?}");
        again(end, &what).await?;
    }
}

/// The names of our metrics that Prometheus has; a histogram is one.
async fn of_prometheus(stack: &Stack) -> Result<BTreeSet<String>> {
    let url = stack.prometheus_url("/api/v1/label/__name__/values");
    let answer: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
    let names = answer["data"].as_array().context("no names")?;
    let ours = names.iter().filter_map(Value::as_str).filter(|name| {
        let prefixes = ["arbiter_", "balancer_", "firewall_", "router_", "web_"];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    });
    let whole = |name: &str| {
        let parts = ["_seconds_bucket", "_seconds_count", "_seconds_sum"];
        let part = parts.iter().find_map(|part| name.strip_suffix(part));
        part.map_or_else(|| name.to_owned(), |rest| format!("{rest}_seconds"))
    };
    Ok(ours.map(whole).collect())
}

pub(crate) async fn prometheus_took_its_rules_and_nothing_critical_fires(
    stack: &Stack,
) -> Result<()> {
    // While the stack comes up something may.
    let end = Instant::now() + SOON;
    while let Err(error) = rules_are_well(stack).await {
        again(end, &format!("{error:#}")).await?;
    }
    Ok(())
}

async fn rules_are_well(stack: &Stack) -> Result<()> {
    let url = stack.prometheus_url("/api/v1/rules");
    let answer: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
    let groups = answer["data"]["groups"].as_array().context("no groups")?;
    let rules: Vec<_> = groups
        .iter()
        .filter_map(|group| group["rules"].as_array())
        .flatten()
        .collect();
    ensure!(rules.len() > 8, "{rules:?}");
    for rule in rules {
        ensure!(rule["health"] != "err", "{rule}");
        let critical = rule["labels"]["severity"] == "critical";
        ensure!(!(critical && rule["state"] == "firing"), "{rule}");
    }
    Ok(())
}

/// A write and a read of it, as a client makes them.
async fn works(stack: &Stack, owner: &Owner) -> Result<()> {
    let id = owner.open_account("While nobody listens", 10).await?;
    let answer = owner.get(&format!("/api/accounts/{id}")).await?;
    ensure!(answer.status() == StatusCode::OK, "{answer:?}");
    for path in ["/", "/status", "/healthz", "/readyz"] {
        let answer = stack.client()?.get(stack.url(path)).send().await?;
        ensure!(answer.status() == StatusCode::OK, "{path}: {answer:?}");
    }
    Ok(())
}

pub(crate) async fn without_jaeger_and_prometheus_every_answer_is_the_same(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Unwatched").await?;
    works(stack, &owner).await?;
    let accounts_before = accounts(&owner).await?;
    for service in ["jaeger", "prometheus"] {
        stack.kill(service)?;
    }
    let trace = fresh_trace();
    let asked = ten_rounds(stack, &owner, &trace).await;
    for service in ["jaeger", "prometheus"] {
        stack.start(service)?;
    }
    asked?;
    let now = accounts(&owner).await?;
    ensure!(now == accounts_before + 10, "{now} accounts");
    // What waited meanwhile is sent, and both are there again.
    spans(
        stack,
        &trace,
        &["GET", "GET /api/accounts", "SELECT accounts"],
    )
    .await?;
    every_target_is_up(stack).await?;
    let end = Instant::now() + SOON;
    loop {
        let health = stack.health()?;
        let good = |(_, health): &(String, String)| health.is_empty() || health == "healthy";
        if health.iter().all(good) {
            return Ok(());
        }
        again(end, &format!("{health:?}")).await?;
    }
}

async fn ten_rounds(stack: &Stack, owner: &Owner, trace: &str) -> Result<()> {
    let call = stack.client()?.get(stack.url("/api/accounts"));
    let call = call.header("traceparent", format!("00-{trace}-{CALLER}-01"));
    owner.send(call).await?.error_for_status()?;
    let begun = Instant::now();
    for _ in 0..10 {
        works(stack, owner).await?;
    }
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(30), "ten rounds took {took:?}");
    Ok(())
}

async fn accounts(owner: &Owner) -> Result<usize> {
    let list: Value = owner.get("/api/accounts?limit=100").await?.json().await?;
    let items = list["items"].as_array().context("no items")?;
    Ok(items.len())
}
