//! The ledger's interface, call by call and rule by rule: the real `web` on a real replicating pair, called over mutual TLS as the
//! balancer would call it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::{Account, Pair, Program, free_port, run, wait_for, wait_until};
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::{
    Body, Client, Method, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde_json::{Value, json};
use sqlx::{MySqlConnection, Row};
use tempfile::TempDir;

/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);

/// The most that an answer may take when a database server is away: the statement's deadline and some room.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// One web server on a pair of database servers.
struct Web {
    pair: Pair,
    client: Client,
    base: String,
    config: PathBuf,
    migrate_config: PathBuf,
    program: Program,
    _directory: TempDir,
}

impl Web {
    async fn start() -> Result<Self> {
        let pair = Pair::replicating().await?;
        let directory = run::directory("web")?;
        let port = free_port()?;
        let config = configure(&pair, directory.path(), "web-1", port)?;
        let migrate_config = configure(&pair, directory.path(), "migrate", port)?;
        migrate(&migrate_config).await?;
        let program = Program::spawn(
            "web",
            ["--config", &config.to_string_lossy()],
            [] as [(&str, &str); 0],
        )?;
        let web = Self {
            client: pair.identities().client("balancer-1")?,
            base: format!("https://localhost:{port}"),
            config,
            migrate_config,
            pair,
            program,
            _directory: directory,
        };
        web.is_ready().await?;
        Ok(web)
    }

    async fn is_ready(&self) -> Result<()> {
        let ready = wait_until("web is ready", SOON, async || {
            let answer = self
                .client
                .get(format!("{}/readyz", self.base))
                .send()
                .await;
            answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
        });
        ready
            .await
            .with_context(|| format!("web wrote:\n{}", self.program.log().join("\n")))?;
        // The router has found the pair once an owner can be made.
        wait_until("a write is answered", SOON, async || {
            let answer = self
                .call(Method::POST, "/api/owners")
                .json(&json!({"name": "first"}));
            answer
                .send()
                .await
                .is_ok_and(|answer| answer.status == StatusCode::CREATED)
        })
        .await
        .with_context(|| format!("web wrote:\n{}", self.program.log().join("\n")))
    }

    fn call(&self, method: Method, path: &str) -> Call {
        Call(self.client.request(method, format!("{}{path}", self.base)))
    }

    async fn owner(&self, name: &str) -> Result<Owner<'_>> {
        let made = self
            .call(Method::POST, "/api/owners")
            .json(&json!({"name": name}))
            .send()
            .await?;
        made.is(StatusCode::CREATED)?;
        let owner = Owner {
            web: self,
            id: text(&made.json["id"]),
            token: text(&made.json["token"]),
            causal: Mutex::default(),
        };
        owner.keep(&made);
        Ok(owner)
    }

    /// How many rows each table of the ledger has on the primary.
    async fn rows(&self) -> Result<Vec<i64>> {
        let mut app = self.pair.mysql_1().connect(Account::App).await?;
        let counts = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM ledger.owners), (SELECT COUNT(*) FROM ledger.accounts), (SELECT COUNT(*) FROM ledger.transfers),
                    (SELECT COUNT(*) FROM ledger.entries), (SELECT COUNT(*) FROM ledger.idempotency_keys)",
        )
        .fetch_one(&mut app)
        .await?;
        (0..5).map(|column| Ok(counts.try_get(column)?)).collect()
    }

    /// Runs `web check-ledger` and gives whether it found the ledger sound, and what it printed.
    async fn check_ledger(&self) -> Result<(bool, String)> {
        let config = self.config.to_string_lossy();
        let mut check = Program::spawn(
            "web",
            ["--config", &config, "check-ledger"],
            [] as [(&str, &str); 0],
        )?;
        let status = check.exited(SOON).await?;
        Ok((status.success(), check.log().join("\n")))
    }

    /// The ledger is as it must be after anything.
    async fn is_sound(&self) -> Result<()> {
        let (sound, report) = self.check_ledger().await?;
        ensure!(sound, "{report}");
        Ok(())
    }
}

/// Writes the configuration of a `web` that calls the pair as `consumer`.
fn configure(pair: &Pair, directory: &Path, consumer: &str, port: u16) -> Result<PathBuf> {
    let file = directory.join(format!("{consumer}.toml"));
    let servers = [pair.mysql_1(), pair.mysql_2()].map(|server| {
        let (name, port) = (server.name(), server.port());
        format!(r#"{{ name = "{name}", host = "127.0.0.1", port = {port} }}"#)
    });
    let text = format!(
        r#"
        listen = "127.0.0.1:{port}"
        identity = "{}"
        [metrics]
        listen = "127.0.0.1:0"
        [traces]
        enabled = false
        [database]
        servers = [{}]
        database = "ledger"
        max_lag_ms = 1000
        statement_timeout_ms = 3000
        acquire_timeout_ms = 1000
        probe_interval_ms = 200
        probe_timeout_ms = 500
        max_connections = 20
        write_reserve = 5
        "#,
        pair.identities().of(consumer).join("current").display(),
        servers.join(", "),
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Runs `web migrate` to its end.
async fn migrate(config: &Path) -> Result<()> {
    let mut migrate = Program::spawn(
        "web",
        ["--config", &config.to_string_lossy(), "migrate"],
        [] as [(&str, &str); 0],
    )?;
    let status = migrate.exited(SOON).await?;
    ensure!(
        status.success(),
        "web migrate: {status}\n{}",
        migrate.log().join("\n")
    );
    Ok(())
}

/// A request that is being put together.
struct Call(reqwest::RequestBuilder);

impl Call {
    fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    fn body(self, body: impl Into<Body>) -> Self {
        Self(self.0.body(body))
    }

    /// Sends it, and looks at what every answer of the API must have.
    async fn send(self) -> Result<Answer> {
        let answer = self.0.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?;
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = Answer {
            status,
            headers,
            json,
        };
        ensure!(
            answer.header("cache-control") == "no-store",
            "{answer:?} may be stored"
        );
        if status.is_client_error() || status.is_server_error() {
            answer
                .is_a_problem()
                .with_context(|| format!("{answer:?}"))?;
        }
        Ok(answer)
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    fn is(&self, status: StatusCode) -> Result<()> {
        ensure!(
            self.status == status,
            "{status} was expected, not {self:#?}"
        );
        Ok(())
    }

    /// The fields at fault.
    fn pointers(&self) -> Vec<&str> {
        let errors = self.json["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .filter_map(|error| error["pointer"].as_str())
            .collect()
    }

    fn is_a_problem(&self) -> Result<()> {
        let problem = &self.json;
        let known: BTreeSet<_> = ["type", "title", "status", "detail", "trace_id", "errors"].into();
        ensure!(self.header("content-type") == "application/problem+json");
        ensure!(problem["status"] == self.status.as_u16());
        ensure!(
            problem["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with('/'))
        );
        ensure!(!text(&problem["title"]).is_empty() && !text(&problem["detail"]).is_empty());
        ensure!(text(&problem["trace_id"]).len() == 32, "a trace id");
        let members = problem.as_object().context("an object")?;
        ensure!(
            members.keys().all(|key| known.contains(key.as_str())),
            "an unknown member"
        );
        if let Some(errors) = members.get("errors") {
            for error in errors.as_array().context("errors is a list")? {
                ensure!(error["pointer"].is_string() && !text(&error["detail"]).is_empty());
            }
        }
        match self.status.as_u16() {
            401 => ensure!(self.header("www-authenticate").starts_with("Bearer")),
            405 => ensure!(!self.header("allow").is_empty()),
            429 | 503 => ensure!(self.header("retry-after").parse::<u32>().is_ok()),
            _ => {}
        }
        Ok(())
    }
}

/// Somebody with a token, who keeps the causal token of the last write as a browser would.
struct Owner<'a> {
    web: &'a Web,
    id: String,
    token: String,
    causal: Mutex<String>,
}

impl Owner<'_> {
    fn call(&self, method: Method, path: &str) -> Call {
        let call = self
            .web
            .call(method, path)
            .header("authorization", &format!("Bearer {}", self.token));
        match self.causal().as_str() {
            "" => call,
            causal => call.header("causal-token", causal),
        }
    }

    /// The causal token that it keeps; empty if there is none.
    fn causal(&self) -> String {
        self.causal.lock().expect("nobody panics with it").clone()
    }

    fn keep(&self, answer: &Answer) {
        if answer.headers.contains_key("causal-token") {
            answer
                .header("causal-token")
                .clone_into(&mut self.causal.lock().expect("nobody panics with it"));
        }
    }

    /// Hears of what the other one has seen.
    fn hears_of(&self, other: &Owner<'_>) {
        *self.causal.lock().expect("nobody panics with it") = other.causal();
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        let answer = self.call(Method::GET, path).send().await?;
        self.keep(&answer);
        Ok(answer)
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Answer> {
        let answer = self
            .call(Method::POST, path)
            .header("idempotency-key", key)
            .json(body)
            .send()
            .await?;
        self.keep(&answer);
        Ok(answer)
    }

    /// Opens an account and gives its id.
    async fn open(&self, name: &str, cents: i64) -> Result<String> {
        let body = json!({"name": name, "opening_cents": cents});
        let opened = self.post("/api/accounts", &new_key(), &body).await?;
        opened.is(StatusCode::CREATED)?;
        Ok(text(&opened.json["id"]))
    }

    async fn send(&self, from: &str, to: &str, cents: i64) -> Result<Answer> {
        let body = json!({"from": from, "to": to, "amount_cents": cents});
        self.post("/api/transfers", &new_key(), &body).await
    }

    async fn balance(&self, account: &str) -> Result<i64> {
        let account = self.get(&format!("/api/accounts/{account}")).await?;
        account.is(StatusCode::OK)?;
        account.json["balance_cents"].as_i64().context("a balance")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn new_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn sorted_keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .map(|o| o.keys().map(String::as_str).collect())
        .unwrap_or_default();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn every_call_answers_as_the_interface_says() -> Result<()> {
    let web = Web::start().await?;
    owners_accounts_and_transfers(&web).await?;
    another_owners_things_are_not_there(&web).await?;
    a_key_is_answered_once_and_again(&web).await?;
    lists_come_in_pages(&web).await?;
    text_is_kept_as_it_came(&web).await?;
    routes_are_decided_before_who_calls(&web).await?;
    web.is_sound().await
}

async fn owners_accounts_and_transfers(web: &Web) -> Result<()> {
    let made = web
        .call(Method::POST, "/api/owners")
        .json(&json!({"name": "Ada"}))
        .send()
        .await?;
    made.is(StatusCode::CREATED)?;
    assert_eq!(
        sorted_keys(&made.json),
        ["expires_at", "id", "name", "token"]
    );
    assert_eq!(made.json["name"], "Ada");
    let again = web
        .call(Method::POST, "/api/owners")
        .json(&json!({"name": "Ada"}))
        .send()
        .await?;
    assert_ne!(
        again.json["id"], made.json["id"],
        "every call makes a new owner"
    );

    let (ada, bob) = (web.owner("Ada").await?, web.owner("Bob").await?);
    let body = json!({"name": "Savings", "opening_cents": 1000});
    let opened = ada.post("/api/accounts", &new_key(), &body).await?;
    opened.is(StatusCode::CREATED)?;
    assert_eq!(
        sorted_keys(&opened.json),
        ["balance_cents", "created_at", "id", "name", "owner_id"]
    );
    assert_eq!(opened.json["owner_id"], ada.id);
    assert_eq!(opened.json["balance_cents"], 1000);
    let savings = text(&opened.json["id"]);
    assert_eq!(
        opened.header("location"),
        format!("/api/accounts/{savings}")
    );
    assert!(opened.headers.get("idempotency-replayed").is_none());
    let created = text(&opened.json["created_at"]);
    assert!(
        created.ends_with('Z') && created.contains('T'),
        "{created} is RFC 3339 in UTC"
    );

    // The token comes as a header and as a cookie that only the browser's own requests carry.
    let token = opened.header("causal-token");
    assert!(token.starts_with("1."), "{opened:#?}");
    let cookie = opened.header("set-cookie");
    assert!(
        cookie.starts_with(&format!("causal-token={token};")),
        "{cookie}"
    );
    for attribute in ["Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(attribute), "{cookie} has {attribute}");
    }
    assert!(
        opened.header("x-db").contains("primary;reason=write"),
        "{opened:#?}"
    );

    let read = ada.get(&format!("/api/accounts/{savings}")).await?;
    read.is(StatusCode::OK)?;
    assert_eq!(read.json, opened.json, "GET answers what the 201 did");
    assert!(read.header("x-db").contains(";reason="), "{read:#?}");

    let purse = bob.open("Purse", 0).await?;
    let body = json!({"from": savings, "to": purse, "amount_cents": 250, "memo": "rent"});
    let made = ada.post("/api/transfers", &new_key(), &body).await?;
    made.is(StatusCode::CREATED)?;
    assert_eq!(
        sorted_keys(&made.json),
        ["amount_cents", "created_at", "from", "id", "memo", "to"]
    );
    let path = format!("/api/transfers/{}", text(&made.json["id"]));
    assert_eq!(made.header("location"), path);
    assert_eq!(made.json["memo"], "rent");
    bob.hears_of(&ada);
    for side in [&ada, &bob] {
        assert_eq!(side.get(&path).await?.json, made.json, "both sides see it");
    }
    assert_eq!(
        (ada.balance(&savings).await?, bob.balance(&purse).await?),
        (750, 250)
    );

    let none = ada.send(&savings, &purse, 1).await?;
    assert_eq!(none.json["memo"], Value::Null, "null where there is none");

    // Nothing was taken by what could not be.
    ada.send(&savings, &purse, 750)
        .await?
        .is(StatusCode::CONFLICT)?;
    assert_eq!(ada.balance(&savings).await?, 749);
    ada.send(&savings, &purse, 749)
        .await?
        .is(StatusCode::CREATED)?;
    assert_eq!(ada.balance(&savings).await?, 0);

    // A client that keeps the cookie alone sees its write as well, and so does one that keeps nothing, soon.
    let cookie = format!("a=b; causal-token={}; c=d", ada.causal());
    let by_cookie = web
        .call(Method::GET, &format!("/api/accounts/{savings}"))
        .header("authorization", &format!("bearer {}", ada.token))
        .header("cookie", &cookie);
    assert_eq!(by_cookie.send().await?.json["balance_cents"], 0);
    Ok(())
}

async fn another_owners_things_are_not_there(web: &Web) -> Result<()> {
    let (ada, bob, eve) = (
        web.owner("Ada").await?,
        web.owner("Bob").await?,
        web.owner("Eve").await?,
    );
    let (a, b, e) = (
        ada.open("a", 100).await?,
        bob.open("b", 100).await?,
        eve.open("e", 100).await?,
    );
    let made = ada.send(&a, &b, 10).await?;
    let absent = uuid::Uuid::now_v7();

    for path in [
        format!("/api/accounts/{a}"),
        format!("/api/accounts/{absent}"),
        format!("/api/accounts/{}", a.to_uppercase()),
        "/api/accounts/1".to_owned(),
        "/api/accounts/00000000-0000-7000-8000-000000000000".to_owned(),
        format!("/api/transfers/{}", text(&made.json["id"])),
        format!("/api/transfers/{absent}"),
        "/api/transfers/x".to_owned(),
        format!("/api/transfers?account={a}"),
        format!("/api/transfers?account={absent}"),
    ] {
        eve.hears_of(&ada);
        let answer = eve.get(&path).await?;
        ensure!(
            answer.status == StatusCode::NOT_FOUND,
            "{path}: {answer:#?}"
        );
    }
    // Whose `from` it is does not show, nor whether it is there, whatever `to` is.
    for (from, to) in [
        (&a, &e),
        (&absent.to_string(), &e),
        (&a, &absent.to_string()),
    ] {
        eve.send(from, to, 1).await?.is(StatusCode::NOT_FOUND)?;
    }
    // Equity is not addressable.
    let equity = "00000000-0000-7000-8000-000000000000";
    eve.send(equity, &e, 1).await?.is(StatusCode::NOT_FOUND)?;
    for unknown in [equity, &absent.to_string()] {
        let answer = eve.send(&e, unknown, 1).await?;
        answer.is(StatusCode::UNPROCESSABLE_ENTITY)?;
        assert_eq!(answer.pointers(), ["/to"]);
    }
    assert_eq!(eve.balance(&e).await?, 100);
    Ok(())
}

async fn a_key_is_answered_once_and_again(web: &Web) -> Result<()> {
    let (ada, bob) = (web.owner("Ada").await?, web.owner("Bob").await?);
    let key = format!("!\"#~-{}", new_key());
    let first = ada
        .post(
            "/api/accounts",
            &key,
            &json!({"name": "é", "opening_cents": 5}),
        )
        .await?;
    first.is(StatusCode::CREATED)?;

    // The same values in other words.
    for body in [
        r#"{"name":"é","opening_cents":5}"#,
        "{ \"opening_cents\" : 5,\n\"name\":\"\\u00e9\" }",
    ] {
        let again = ada
            .call(Method::POST, "/api/accounts")
            .header("idempotency-key", &key);
        let again = again
            .header("content-type", "application/json; charset=utf-8")
            .body(body)
            .send()
            .await?;
        again.is(StatusCode::CREATED)?;
        assert_eq!(again.json, first.json);
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert!(again.header("causal-token").starts_with("1."), "{again:#?}");
    }
    // Still what was said first, after the account has changed.
    let account = text(&first.json["id"]);
    let purse = bob.open("purse", 0).await?;
    ada.send(&account, &purse, 5)
        .await?
        .is(StatusCode::CREATED)?;
    let again = ada
        .post(
            "/api/accounts",
            &key,
            &json!({"name": "é", "opening_cents": 5}),
        )
        .await?;
    assert_eq!(again.json, first.json);

    for other in [
        json!({"name": "é", "opening_cents": 6}),
        json!({"name": "e", "opening_cents": 5}),
    ] {
        ada.post("/api/accounts", &key, &other)
            .await?
            .is(StatusCode::UNPROCESSABLE_ENTITY)?;
    }
    // Another owner's key, another route's, another case's: another key.
    let body = json!({"name": "é", "opening_cents": 5});
    for (owner, key) in [(&bob, key.clone()), (&ada, key.to_uppercase())] {
        let other = owner.post("/api/accounts", &key, &body).await?;
        other.is(StatusCode::CREATED)?;
        assert_ne!(other.json["id"], first.json["id"]);
    }
    let transfer = json!({"from": purse, "to": account, "amount_cents": 1});
    let sent = bob.post("/api/transfers", &key, &transfer).await?;
    sent.is(StatusCode::CREATED)?;
    // `memo: null` is no memo, so this is the same request.
    let transfer = json!({"memo": null, "amount_cents": 1, "to": account, "from": purse});
    let again = bob.post("/api/transfers", &key, &transfer).await?;
    assert_eq!(
        (again.header("idempotency-replayed"), &again.json),
        ("true", &sent.json)
    );

    // A refusal is not remembered.
    let (key, dear) = (
        new_key(),
        json!({"from": purse, "to": account, "amount_cents": 5}),
    );
    bob.post("/api/transfers", &key, &dear)
        .await?
        .is(StatusCode::CONFLICT)?;
    ada.send(&account, &purse, 1)
        .await?
        .is(StatusCode::CREATED)?;
    bob.post("/api/transfers", &key, &dear)
        .await?
        .is(StatusCode::CREATED)?;

    // A day later the key is free.
    let mut app = web.pair.mysql_1().connect(Account::App).await?;
    sqlx::query("UPDATE ledger.idempotency_keys SET created_at = created_at - INTERVAL 86401 SECOND WHERE idempotency_key = ?")
        .bind(key.as_bytes())
        .execute(&mut app)
        .await?;
    ada.send(&account, &purse, 0)
        .await?
        .is(StatusCode::UNPROCESSABLE_ENTITY)?;
    bob.post(
        "/api/transfers",
        &key,
        &json!({"from": purse, "to": account, "amount_cents": 1}),
    )
    .await?
    .is(StatusCode::CONFLICT)?;
    Ok(())
}

async fn lists_come_in_pages(web: &Web) -> Result<()> {
    let (ada, bob) = (web.owner("Ada").await?, web.owner("Bob").await?);
    let empty = ada.get("/api/accounts").await?;
    empty.is(StatusCode::OK)?;
    assert_eq!(empty.json, json!({"items": [], "next_after": null}));

    let mut accounts = Vec::new();
    for n in 0..5 {
        accounts.push(ada.open(&format!("a{n}"), 100).await?);
    }
    let theirs = bob.open("b", 100).await?;
    bob.hears_of(&ada);
    accounts.reverse();
    assert_eq!(
        ids(&ada, "/api/accounts?", 2).await?,
        accounts,
        "newest first, each once"
    );
    assert_eq!(ids(&ada, "/api/accounts?", 5).await?, accounts);
    assert_eq!(ids(&ada, "/api/accounts?", 100).await?, accounts);

    // In both directions, and the opening is not among them.
    let (a, b) = (&accounts[0], &accounts[1]);
    let mut sent = Vec::new();
    for n in 0..23 {
        let (from, to) = if n % 2 == 0 { (a, b) } else { (b, a) };
        sent.push(text(&ada.send(from, to, 1 + n).await?.json["id"]));
    }
    ada.send(&accounts[2], &accounts[3], 1)
        .await?
        .is(StatusCode::CREATED)?;
    sent.reverse();
    let list = format!("/api/transfers?account={a}");
    assert_eq!(ids(&ada, &format!("{list}&"), 7).await?, sent);
    let page = ada.get(&list).await?;
    assert_eq!(
        page.json["items"].as_array().map(Vec::len),
        Some(20),
        "20 if no limit is given"
    );

    // What came after the first page moves nothing.
    let page = ada.get(&format!("{list}&limit=10")).await?;
    let next = text(&page.json["next_after"]);
    ada.send(a, b, 1).await?.is(StatusCode::CREATED)?;
    let page = ada.get(&format!("{list}&limit=100&after={next}")).await?;
    assert_eq!(items(&page), sent[10..]);
    assert_eq!(page.json["next_after"], Value::Null);

    // A cursor is bound to its list.
    for path in [
        format!("/api/accounts?after={next}"),
        format!("/api/transfers?account={b}&after={next}"),
        format!("{list}&after={next}x"),
        format!("{list}&after="),
        format!("{list}&after=x"),
    ] {
        let answer = ada.get(&path).await?;
        answer.is(StatusCode::BAD_REQUEST)?;
        assert_eq!(answer.pointers(), ["/after"], "{path}");
    }
    assert_eq!(ids(&bob, "/api/accounts?", 1).await?, [theirs]);
    Ok(())
}

/// The ids of all pages of a list.
async fn ids(owner: &Owner<'_>, list: &str, limit: usize) -> Result<Vec<String>> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = owner.get(&format!("{list}limit={limit}{after}")).await?;
        page.is(StatusCode::OK)?;
        assert_eq!(sorted_keys(&page.json), ["items", "next_after"]);
        ensure!(items(&page).len() <= limit);
        found.extend(items(&page));
        match &page.json["next_after"] {
            Value::Null => return Ok(found),
            next => after = format!("&after={}", text(next)),
        }
    }
}

fn items(page: &Answer) -> Vec<String> {
    let items = page.json["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    items.iter().map(|item| text(&item["id"])).collect()
}

async fn text_is_kept_as_it_came(web: &Web) -> Result<()> {
    for name in [
        "  two  spaces ",
        "e\u{301}",
        "💶",
        "'; DROP TABLE owners; --",
        "<b>&amp;\\u0041",
        &"💶".repeat(100),
    ] {
        let owner = web.owner(name).await?;
        let account = owner.open(name, 0).await?;
        let read = owner.get(&format!("/api/accounts/{account}")).await?;
        assert_eq!(read.json["name"], name);
        let other = owner.open("other", 0).await?;
        let body = json!({"from": account, "to": other, "amount_cents": 1, "memo": name});
        owner
            .post("/api/transfers", &new_key(), &body)
            .await?
            .is(StatusCode::CONFLICT)?;
    }
    Ok(())
}

async fn routes_are_decided_before_who_calls(web: &Web) -> Result<()> {
    let id = uuid::Uuid::now_v7();
    let calls = [
        ("/api/owners".to_owned(), "POST, OPTIONS"),
        ("/api/accounts".to_owned(), "GET, HEAD, POST, OPTIONS"),
        (format!("/api/accounts/{id}"), "GET, HEAD, OPTIONS"),
        ("/api/transfers".to_owned(), "GET, HEAD, POST, OPTIONS"),
        (format!("/api/transfers/{id}"), "GET, HEAD, OPTIONS"),
    ];
    for (path, allow) in &calls {
        let options = web.call(Method::OPTIONS, path).send().await?;
        options.is(StatusCode::NO_CONTENT)?;
        assert_eq!(options.header("allow"), *allow, "{path}");
        assert!(
            options
                .headers
                .keys()
                .all(|name| !name.as_str().starts_with("access-control"))
        );
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::TRACE,
        ] {
            let answer = web.call(method.clone(), path).send().await?;
            if !allow.contains(method.as_str()) {
                answer.is(StatusCode::METHOD_NOT_ALLOWED)?;
                assert_eq!(answer.header("allow"), *allow, "{method} {path}");
            } else if path != "/api/owners" {
                answer.is(StatusCode::UNAUTHORIZED)?;
            }
        }
    }
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/accounts/",
        "/api/accounts/x/y",
        "/api/owners/1",
        "/API/accounts",
    ] {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let answer = web.call(method.clone(), path).send().await?;
            ensure!(
                answer.status == StatusCode::NOT_FOUND,
                "{method} {path}: {answer:#?}"
            );
        }
    }

    let ada = web.owner("Ada").await?;
    let forged = format!("{}A", &ada.token[..ada.token.len() - 1]);
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        &format!("Basic {}", ada.token),
        &ada.token,
        &format!("Bearer {forged}x"),
    ] {
        let answer = web
            .call(Method::GET, "/api/accounts")
            .header("authorization", header)
            .send()
            .await?;
        ensure!(
            answer.status == StatusCode::UNAUTHORIZED,
            "{header:?}: {answer:#?}"
        );
    }
    // The pages' cookie is not for the API.
    let cookie = format!("__Host-session={}", ada.token);
    let answer = web
        .call(Method::GET, "/api/accounts")
        .header("cookie", &cookie)
        .send()
        .await?;
    answer.is(StatusCode::UNAUTHORIZED)?;
    Ok(())
}

/// One request that must be refused.
struct Bad {
    what: &'static str,
    call: Call,
    status: u16,
    pointers: &'static [&'static str],
}

#[tokio::test]
async fn bad_input_is_refused_with_the_field_at_fault_and_nothing_is_written() -> Result<()> {
    let web = Web::start().await?;
    let ada = web.owner("Ada").await?;
    let (a, b) = (ada.open("a", 1000).await?, ada.open("b", 1000).await?);
    let before = web.rows().await?;

    for bad in [headers(&ada), bodies(&ada, &a, &b), queries(&ada, &a)]
        .into_iter()
        .flatten()
    {
        let answer = bad.call.send().await.with_context(|| bad.what.to_owned())?;
        ensure!(
            answer.status.as_u16() == bad.status,
            "{}: {} was expected, not {answer:#?}",
            bad.what,
            bad.status
        );
        ensure!(
            answer.pointers() == bad.pointers,
            "{}: {:?} was expected, not {answer:#?}",
            bad.what,
            bad.pointers
        );
        ensure!(
            web.rows().await? == before,
            "{} has written something",
            bad.what
        );
    }
    assert_eq!(
        (ada.balance(&a).await?, ada.balance(&b).await?),
        (1000, 1000)
    );
    too_large_bodies(&ada).await?;
    assert_eq!(web.rows().await?, before);
    web.is_sound().await
}

const ACCOUNT: &str = r#"{"name":"n","opening_cents":1}"#;

fn post(owner: &Owner<'_>, path: &str) -> Call {
    owner.call(Method::POST, path)
}

fn keyed(owner: &Owner<'_>, path: &str) -> Call {
    post(owner, path)
        .header("idempotency-key", &new_key())
        .header("content-type", "application/json")
}

fn headers(ada: &Owner<'_>) -> Vec<Bad> {
    let typed = || {
        post(ada, "/api/accounts")
            .header("content-type", "application/json")
            .body(ACCOUNT)
    };
    let of_type = |content_type: &str| {
        let call = post(ada, "/api/accounts")
            .header("idempotency-key", "k")
            .body(ACCOUNT);
        call.header("content-type", content_type)
    };
    let bad = |what, call, status| Bad {
        what,
        call,
        status,
        pointers: &[],
    };
    let long = "k".repeat(256);
    let mut obscure = typed().0.build().expect("it is a request");
    obscure.headers_mut().insert(
        "idempotency-key",
        HeaderValue::from_bytes(b"k\xe9").expect("it is a header"),
    );
    vec![
        bad("no key", typed(), 400),
        bad("an empty key", typed().header("idempotency-key", ""), 400),
        bad(
            "a key of 256",
            typed().header("idempotency-key", &long),
            400,
        ),
        bad(
            "a space in a key",
            typed().header("idempotency-key", "a b"),
            400,
        ),
        bad(
            "a key twice",
            typed()
                .header("idempotency-key", "k")
                .header("idempotency-key", "k"),
            400,
        ),
        bad(
            "two keys",
            typed()
                .header("idempotency-key", "k")
                .header("idempotency-key", "l"),
            400,
        ),
        bad(
            "a key beyond ASCII",
            Call(reqwest::RequestBuilder::from_parts(
                ada.web.client.clone(),
                obscure,
            )),
            400,
        ),
        bad(
            "no type",
            post(ada, "/api/accounts")
                .header("idempotency-key", "k")
                .body(ACCOUNT),
            415,
        ),
        bad("a form", of_type("application/x-www-form-urlencoded"), 415),
        bad("plain text", of_type("text/plain"), 415),
        bad(
            "another charset",
            of_type("application/json; charset=iso-8859-1"),
            415,
        ),
        bad(
            "an encoding",
            of_type("application/json").header("content-encoding", "gzip"),
            415,
        ),
        bad(
            "nothing acceptable",
            of_type("application/json").header("accept", "text/html"),
            406,
        ),
        bad(
            "JSON refused",
            of_type("application/json").header("accept", "application/json;q=0, text/html"),
            406,
        ),
        bad(
            "nothing acceptable of a list",
            ada.call(Method::GET, "/api/accounts")
                .header("accept", "image/png"),
            406,
        ),
        bad(
            "a new owner as a form",
            ada.web
                .call(Method::POST, "/api/owners")
                .header("content-type", "text/plain")
                .body("{}"),
            415,
        ),
        bad(
            "an unknown key of a query",
            keyed(ada, "/api/accounts?x=1").body(ACCOUNT),
            400,
        )
        .at(&["/x"]),
    ]
}

impl Bad {
    fn at(self, pointers: &'static [&'static str]) -> Self {
        Self { pointers, ..self }
    }
}

fn bodies(ada: &Owner<'_>, a: &str, b: &str) -> Vec<Bad> {
    let account = |body: &str| keyed(ada, "/api/accounts").body(body.to_owned());
    let transfer = |body: String| keyed(ada, "/api/transfers").body(body);
    let amount = |amount: &str| {
        transfer(format!(
            r#"{{"from":"{a}","to":"{b}","amount_cents":{amount}}}"#
        ))
    };
    let opening = |cents: &str| account(&format!(r#"{{"name":"n","opening_cents":{cents}}}"#));
    let name = |name: &str| account(&format!(r#"{{"name":{name},"opening_cents":1}}"#));
    let owner = |body: &str| {
        let call = ada
            .web
            .call(Method::POST, "/api/owners")
            .header("content-type", "application/json");
        call.body(body.to_owned())
    };
    let memo = |memo: &str| {
        transfer(format!(
            r#"{{"from":"{a}","to":"{b}","amount_cents":1,"memo":{memo}}}"#
        ))
    };
    let bad = |what, call, status, pointers| Bad {
        what,
        call,
        status,
        pointers,
    };
    let long = format!("\"{}\"", "n".repeat(101));
    let longer = format!("\"{}\"", "n".repeat(201));
    let deep = format!(r#"{{"name":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let (upper, v4) = (a.to_uppercase(), "0b5f8a7e-6d1c-4f2a-9b3e-1c2d3e4f5a6b");
    vec![
        bad("nothing", account(""), 400, &[""]),
        bad("half an object", account(r#"{"name":"n""#), 400, &[""]),
        bad("two objects", account("{} {}"), 400, &[""]),
        bad(
            "a trailing comma",
            account(r#"{"name":"n","opening_cents":1,}"#),
            400,
            &[""],
        ),
        bad(
            "a comment",
            account(r#"{"name":"n","opening_cents":1 /* c */}"#),
            400,
            &[""],
        ),
        bad("a leading zero", opening("01"), 400, &[""]),
        bad("NaN", opening("NaN"), 400, &[""]),
        bad(
            "not UTF-8",
            keyed(ada, "/api/accounts").body(&b"{\"name\":\"\xff\",\"opening_cents\":1}"[..]),
            400,
            &[""],
        ),
        bad(
            "a byte order mark",
            account("\u{feff}{\"name\":\"n\",\"opening_cents\":1}"),
            400,
            &[""],
        ),
        bad(
            "a name twice",
            account(r#"{"name":"n","name":"n","opening_cents":1}"#),
            400,
            &["/name"],
        ),
        bad(
            "a name twice in other words",
            account(r#"{"name":"n","n\u0061me":"m","opening_cents":1}"#),
            400,
            &["/name"],
        ),
        bad(
            "a name twice further in",
            account(r#"{"name":"n","opening_cents":1,"x":{"y/z":1,"y/z":2}}"#),
            400,
            &["/x/y~1z"],
        ),
        bad("too deep", account(&deep), 400, &[""]),
        bad("a list", account("[]"), 422, &[""]),
        bad("null", account("null"), 422, &[""]),
        bad("a string", account("\"x\""), 422, &[""]),
        bad(
            "an empty object",
            account("{}"),
            422,
            &["/name", "/opening_cents"],
        ),
        bad(
            "an unknown field",
            account(r#"{"name":"n","opening_cents":1,"a/b~":1}"#),
            422,
            &["/a~1b~0"],
        ),
        bad(
            "another case",
            account(r#"{"Name":"n","opening_cents":1}"#),
            422,
            &["/name", "/Name"],
        ),
        bad(
            "no name",
            account(r#"{"opening_cents":1}"#),
            422,
            &["/name"],
        ),
        bad("a null name", name("null"), 422, &["/name"]),
        bad("an empty name", name("\"\""), 422, &["/name"]),
        bad("a name of 101", name(&long), 422, &["/name"]),
        bad("a number for a name", name("1"), 422, &["/name"]),
        bad("a tab in a name", name("\"a\\tb\""), 422, &["/name"]),
        bad("a NUL in a name", name("\"a\\u0000b\""), 422, &["/name"]),
        bad(
            "a C1 control in a name",
            name("\"a\\u0085b\""),
            422,
            &["/name"],
        ),
        bad("a lone surrogate", name("\"\\ud800\""), 422, &["/name"]),
        bad(
            "a low surrogate first",
            name("\"\\udc00\\ud800\""),
            422,
            &["/name"],
        ),
        bad("below zero", opening("-1"), 422, &["/opening_cents"]),
        bad(
            "too much",
            opening("1000000000001"),
            422,
            &["/opening_cents"],
        ),
        bad(
            "more than 64 bits",
            opening("99999999999999999999"),
            422,
            &["/opening_cents"],
        ),
        bad(
            "a huge exponent",
            opening("1e999"),
            422,
            &["/opening_cents"],
        ),
        bad("an exponent", opening("1e3"), 422, &["/opening_cents"]),
        bad("a fraction", opening("1.0"), 422, &["/opening_cents"]),
        bad(
            "a string for cents",
            opening("\"1\""),
            422,
            &["/opening_cents"],
        ),
        bad("true for cents", opening("true"), 422, &["/opening_cents"]),
        bad(
            "two faults",
            account(r#"{"name":"","opening_cents":-1}"#),
            422,
            &["/name", "/opening_cents"],
        ),
        bad("an owner without a name", owner("{}"), 422, &["/name"]),
        bad(
            "an owner with an id",
            owner(r#"{"name":"n","id":"1"}"#),
            422,
            &["/id"],
        ),
        bad(
            "an owner's control character",
            owner(r#"{"name":"\u001b"}"#),
            422,
            &["/name"],
        ),
        bad("nothing to send", amount("0"), 422, &["/amount_cents"]),
        bad("less than nothing", amount("-1"), 422, &["/amount_cents"]),
        bad(
            "too much to send",
            amount("1000000000001"),
            422,
            &["/amount_cents"],
        ),
        bad(
            "a fraction of a cent",
            amount("0.5"),
            422,
            &["/amount_cents"],
        ),
        bad(
            "an exponent to send",
            amount("1E2"),
            422,
            &["/amount_cents"],
        ),
        bad(
            "to itself",
            transfer(format!(r#"{{"from":"{a}","to":"{a}","amount_cents":1}}"#)),
            422,
            &["/to"],
        ),
        bad(
            "upper case",
            transfer(format!(
                r#"{{"from":"{upper}","to":"{b}","amount_cents":1}}"#
            )),
            422,
            &["/from"],
        ),
        bad(
            "a UUIDv4",
            transfer(format!(r#"{{"from":"{a}","to":"{v4}","amount_cents":1}}"#)),
            422,
            &["/to"],
        ),
        bad(
            "a number for an id",
            transfer(format!(r#"{{"from":1,"to":"{b}","amount_cents":1}}"#)),
            422,
            &["/from"],
        ),
        bad(
            "nobody",
            transfer(format!(r#"{{"from":"{a}","to":"","amount_cents":1}}"#)),
            422,
            &["/to"],
        ),
        bad(
            "all fields missing",
            transfer("{}".to_owned()),
            422,
            &["/from", "/to", "/amount_cents"],
        ),
        bad("a number for a memo", memo("1"), 422, &["/memo"]),
        bad("a memo of 201", memo(&longer), 422, &["/memo"]),
        bad("a line break in a memo", memo("\"a\\nb\""), 422, &["/memo"]),
        bad(
            "half a character in a memo",
            memo("\"\\udead\""),
            422,
            &["/memo"],
        ),
        bad("more than is there", amount("1001"), 409, &[]),
    ]
}

fn queries(ada: &Owner<'_>, a: &str) -> Vec<Bad> {
    let get = |path: &str| ada.call(Method::GET, path);
    let bad = |what, call, pointers| Bad {
        what,
        call,
        status: 400,
        pointers,
    };
    vec![
        bad("limit 0", get("/api/accounts?limit=0"), &["/limit"]),
        bad("limit 101", get("/api/accounts?limit=101"), &["/limit"]),
        bad("a sign", get("/api/accounts?limit=-1"), &["/limit"]),
        bad("a plus", get("/api/accounts?limit=%2B1"), &["/limit"]),
        bad("a fraction", get("/api/accounts?limit=1.0"), &["/limit"]),
        bad("an empty limit", get("/api/accounts?limit="), &["/limit"]),
        bad(
            "a limit twice",
            get("/api/accounts?limit=1&limit=1"),
            &["/limit"],
        ),
        bad(
            "an unknown parameter",
            get("/api/accounts?limits=1"),
            &["/limits"],
        ),
        bad(
            "a parameter of another list",
            get(&format!("/api/accounts?account={a}")),
            &["/account"],
        ),
        bad(
            "a cursor of nothing",
            get("/api/accounts?after=AAAA"),
            &["/after"],
        ),
        bad(
            "a cursor twice",
            get("/api/accounts?after=AAAA&after=AAAA"),
            &["/after"],
        ),
        bad("no account", get("/api/transfers"), &["/account"]),
        bad(
            "no account but a limit",
            get("/api/transfers?limit=1"),
            &["/account"],
        ),
        bad(
            "an account that is no id",
            get("/api/transfers?account=1"),
            &["/account"],
        ),
        bad(
            "an account in upper case",
            get(&format!("/api/transfers?account={}", a.to_uppercase())),
            &["/account"],
        ),
        bad(
            "an account twice",
            get(&format!("/api/transfers?account={a}&account={a}")),
            &["/account"],
        ),
        bad(
            "two faults",
            get("/api/transfers?limit=x&x=1"),
            &["/account", "/limit", "/x"],
        ),
        bad(
            "a parameter of an account",
            get(&format!("/api/accounts/{a}?x=1")),
            &["/x"],
        ),
    ]
}

async fn too_large_bodies(ada: &Owner<'_>) -> Result<()> {
    let padded = |size: usize| {
        let body = ACCOUNT.replace('{', &format!("{{{}", " ".repeat(size - ACCOUNT.len())));
        assert_eq!(body.len(), size);
        body
    };
    // As large as it may be: another problem altogether.
    let fits = padded(16 * 1024).replace(":1}", ":x}");
    keyed(ada, "/api/accounts")
        .body(fits)
        .send()
        .await?
        .is(StatusCode::BAD_REQUEST)?;
    let declared = keyed(ada, "/api/accounts")
        .body(padded(16 * 1024 + 1))
        .send()
        .await?;
    declared.is(StatusCode::PAYLOAD_TOO_LARGE)?;

    // Without a declared length it is found out at the limit, and the answer is read although more was sent.
    for size in [16 * 1024 + 1, 200 * 1024] {
        let body = undeclared(padded(size).into_bytes());
        let found_out = keyed(ada, "/api/accounts").body(body).send().await?;
        found_out.is(StatusCode::PAYLOAD_TOO_LARGE)?;
    }
    Ok(())
}

/// A body that does not say how long it is.
fn undeclared(bytes: Vec<u8>) -> Body {
    let chunks: Vec<_> = bytes
        .chunks(1000)
        .map(|chunk| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    Body::wrap(StreamBody::new(futures::stream::iter(chunks)))
}

#[tokio::test]
async fn parallel_transfers_never_take_what_is_not_there_and_the_sum_stays_zero() -> Result<()> {
    let web = Web::start().await?;
    let (ada, bob) = (web.owner("Ada").await?, web.owner("Bob").await?);
    let (a, b) = (ada.open("a", 300).await?, bob.open("b", 0).await?);

    // 100 at once where the money is enough for 30; and back and forth between the same two accounts, which must not wait for each other.
    let one_way = futures::future::try_join_all((0..100).map(|_| ada.send(&a, &b, 10))).await?;
    let outcomes = |answers: &[Answer], status| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!(outcomes(&one_way, StatusCode::CREATED), 30);
    assert_eq!(outcomes(&one_way, StatusCode::CONFLICT), 70);
    bob.hears_of(&ada);
    assert_eq!((ada.balance(&a).await?, bob.balance(&b).await?), (0, 300));

    bob.send(&b, &a, 150).await?.is(StatusCode::CREATED)?;
    let (there, back) = futures::future::try_join(
        futures::future::try_join_all((0..15).map(|_| ada.send(&a, &b, 1))),
        futures::future::try_join_all((0..15).map(|_| bob.send(&b, &a, 1))),
    )
    .await?;
    for answer in there.iter().chain(&back) {
        answer.is(StatusCode::CREATED)?;
    }
    let latest = ada.send(&a, &b, 1).await?;
    bob.keep(&latest);
    assert_eq!((ada.balance(&a).await?, bob.balance(&b).await?), (149, 151));

    // The same key at the same time is one transfer, and everybody is told of it.
    let (key, before) = (new_key(), web.rows().await?);
    let body = json!({"from": a, "to": b, "amount_cents": 9});
    let answers =
        futures::future::try_join_all((0..30).map(|_| ada.post("/api/transfers", &key, &body)))
            .await?;
    for answer in &answers {
        answer.is(StatusCode::CREATED)?;
        assert_eq!(answer.json, answers[0].json);
    }
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed") == "true");
    assert_eq!(replayed.count(), 29);
    let after: Vec<i64> = web
        .rows()
        .await?
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(
        after,
        [0, 0, 1, 2, 1],
        "owners, accounts, transfers, entries, keys"
    );
    web.is_sound().await
}

#[tokio::test]
async fn what_is_away_is_said_and_the_same_key_settles_what_became_of_a_write() -> Result<()> {
    let web = Web::start().await?;
    let ada = web.owner("Ada").await?;
    let (a, b) = (ada.open("a", 100).await?, ada.open("b", 0).await?);

    // Without the replica a commit waits for its acknowledgement; reads go on.
    web.pair.mysql_2().freeze().await?;
    let (key, body) = (new_key(), json!({"from": a, "to": b, "amount_cents": 7}));
    let started = Instant::now();
    let unknown = ada.post("/api/transfers", &key, &body).await?;
    unknown.is(StatusCode::SERVICE_UNAVAILABLE)?;
    assert!(started.elapsed() < ANSWER_MAX, "{:?}", started.elapsed());
    assert!(
        text(&unknown.json["detail"]).contains("Idempotency-Key"),
        "{unknown:#?}"
    );
    assert!(unknown.headers.get("causal-token").is_none());
    ada.get("/api/accounts").await?.is(StatusCode::OK)?;

    // It comes back, and the same key tells what became of it: made once, whether then or now.
    web.pair.mysql_2().thaw().await?;
    let settled = wait_for("the same key is answered", SOON, async || {
        let answer = ada.post("/api/transfers", &key, &body).await.ok()?;
        (answer.status == StatusCode::CREATED).then_some(answer)
    });
    let settled = settled.await?;
    let again = ada.post("/api/transfers", &key, &body).await?;
    assert_eq!(again.json, settled.json);
    assert_eq!((ada.balance(&a).await?, ada.balance(&b).await?), (93, 7));
    web.is_sound().await?;

    // Without the primary a write is refused at once, and written nowhere; what it was refused with says so.
    web.pair.mysql_1().kill().await?;
    let refused = wait_for("writes are refused", SOON, async || {
        let started = Instant::now();
        let answer = ada.send(&a, &b, 1).await.ok()?;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some((answer, started.elapsed()))
    });
    let (refused, took) = refused.await?;
    assert!(took < ANSWER_MAX, "{took:?}");
    assert!(
        text(&refused.json["detail"]).contains("primary"),
        "{refused:#?}"
    );
    let read = wait_for("reads go on", SOON, async || {
        let answer = ada.get(&format!("/api/accounts/{a}")).await.ok()?;
        (answer.status == StatusCode::OK).then_some(answer)
    });
    assert_eq!(read.await?.json["balance_cents"], 93);
    Ok(())
}

/// Who holds a lock may be a client that was cut off, which the server needs as long to find out as others wait for the lock.
#[tokio::test]
async fn a_lock_that_does_not_come_is_asked_for_once_more() -> Result<()> {
    let web = Web::start().await?;
    let ada = web.owner("Ada").await?;
    let (a, b) = (ada.open("a", 100).await?, ada.open("b", 0).await?);
    let mut monitor = web.pair.mysql_1().connect(Account::Monitor).await?;
    let mut holder = web.pair.mysql_1().connect(Account::App).await?;
    let lock = "START TRANSACTION; SELECT id FROM ledger.accounts FOR UPDATE";

    sqlx::raw_sql(lock).execute(&mut holder).await?;
    let let_go = async {
        let first = who_waits(&mut monitor, 0).await?;
        who_waits(&mut monitor, first).await?;
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
        anyhow::Ok(())
    };
    let (sent, let_go) = tokio::join!(ada.send(&a, &b, 1), let_go);
    let_go?;
    sent?.is(StatusCode::CREATED)?;

    // Not for ever: who holds it may be at work.
    sqlx::raw_sql(lock).execute(&mut holder).await?;
    let refused = ada.send(&a, &b, 1).await?;
    refused.is(StatusCode::SERVICE_UNAVAILABLE)?;
    assert!(
        text(&refused.json["detail"]).contains("1205"),
        "{refused:#?}"
    );
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
    assert_eq!((ada.balance(&a).await?, ada.balance(&b).await?), (99, 1));
    web.is_sound().await
}

/// The transaction that waits for a lock, other than this one, as soon as there is one.
async fn who_waits(monitor: &mut MySqlConnection, but: u64) -> Result<u64> {
    let waits = "SELECT CAST(MAX(requesting_engine_transaction_id) AS UNSIGNED) FROM performance_schema.data_lock_waits";
    wait_for("somebody waits for a lock", SOON, async || {
        let asked = sqlx::query_scalar(waits).fetch_one(&mut *monitor).await;
        let waits: Option<u64> = asked.ok()?;
        waits.filter(|waits| *waits != but)
    })
    .await
}

#[tokio::test]
async fn migrations_are_applied_once_and_an_unsound_ledger_is_noticed() -> Result<()> {
    let web = Web::start().await?;
    let mut migrator = web.pair.mysql_1().connect(Account::Migrate).await?;

    // Again, twice at once: nothing changes.
    let applied = "SELECT COUNT(*), CAST(SUM(success) AS SIGNED), MIN(execution_time) FROM ledger._sqlx_migrations";
    let (count, succeeded, took): (i64, i64, i64) =
        sqlx::query_as(applied).fetch_one(&mut migrator).await?;
    assert_eq!((count, took >= 0), (succeeded, true));
    tokio::try_join!(migrate(&web.migrate_config), migrate(&web.migrate_config))?;
    let again: (i64, i64, i64) = sqlx::query_as(applied).fetch_one(&mut migrator).await?;
    assert_eq!(again, (count, succeeded, took));

    // From nothing, twice at once: each is applied once. And one that was killed half way through is finished.
    sqlx::raw_sql("DROP DATABASE ledger")
        .execute(&mut migrator)
        .await?;
    tokio::try_join!(migrate(&web.migrate_config), migrate(&web.migrate_config))?;
    sqlx::raw_sql(
        "UPDATE ledger._sqlx_migrations SET success = FALSE ORDER BY version DESC LIMIT 1",
    )
    .execute(&mut migrator)
    .await?;
    migrate(&web.migrate_config).await?;
    let (again, succeeded, _): (i64, i64, i64) =
        sqlx::query_as(applied).fetch_one(&mut migrator).await?;
    assert_eq!((again, succeeded), (count, count));

    let ada = web.owner("Ada").await?;
    let (a, b) = (ada.open("a", 100).await?, ada.open("b", 0).await?);
    ada.send(&a, &b, 10).await?.is(StatusCode::CREATED)?;
    web.is_sound().await?;

    // The database refuses by itself what the code never does.
    let mut app = web.pair.mysql_1().connect(Account::App).await?;
    for (what, statement) in [
        (
            "below zero",
            "UPDATE ledger.accounts SET balance_cents = -1 WHERE owner_id IS NOT NULL",
        ),
        (
            "too large",
            "UPDATE ledger.accounts SET balance_cents = 9007199254740992 WHERE owner_id IS NOT NULL",
        ),
        (
            "no balance",
            "UPDATE ledger.accounts SET balance_cents = NULL WHERE owner_id IS NOT NULL",
        ),
        ("an empty name", "UPDATE ledger.owners SET name = ''"),
        (
            "a control character",
            "UPDATE ledger.accounts SET name = '\\t'",
        ),
        (
            "to itself",
            "UPDATE ledger.transfers SET to_account = from_account",
        ),
        ("nothing", "UPDATE ledger.transfers SET amount_cents = 0"),
        (
            "an entry of nothing",
            "UPDATE ledger.entries SET amount_cents = 0",
        ),
        ("an account that is in use", "DELETE FROM ledger.accounts"),
        (
            "a transfer that has entries",
            "DELETE FROM ledger.transfers",
        ),
    ] {
        let refused = sqlx::raw_sql(statement).execute(&mut app).await;
        ensure!(refused.is_err(), "the database allows {what}");
    }

    // What it cannot refuse, the audit finds.
    for (what, spoil, repair) in [
        (
            "a balance",
            "UPDATE ledger.accounts SET balance_cents = balance_cents + 1 WHERE name = 'a'",
            "UPDATE ledger.accounts SET balance_cents = balance_cents - 1 WHERE name = 'a'",
        ),
        (
            "an entry",
            "UPDATE ledger.entries SET amount_cents = 11 WHERE amount_cents = 10",
            "UPDATE ledger.entries SET amount_cents = 10 WHERE amount_cents = 11",
        ),
        (
            "a transfer",
            "UPDATE ledger.transfers SET amount_cents = 11",
            "UPDATE ledger.transfers SET amount_cents = 10",
        ),
    ] {
        sqlx::raw_sql(spoil).execute(&mut app).await?;
        web.pair
            .caught_up(web.pair.mysql_1(), web.pair.mysql_2())
            .await?;
        let (sound, report) = web.check_ledger().await?;
        ensure!(!sound && report.contains("NOT SOUND"), "{what}: {report}");
        sqlx::raw_sql(repair).execute(&mut app).await?;
        web.pair
            .caught_up(web.pair.mysql_1(), web.pair.mysql_2())
            .await?;
    }
    web.is_sound().await
}
