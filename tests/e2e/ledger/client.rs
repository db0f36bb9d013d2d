//! An owner of the ledger as a client program would be one: it keeps its token and its causal token.

use std::{sync::Mutex, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::compose::Stack;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::edge::header;

/// For how long a call that only sets the scene is repeated.
const PATIENCE: Duration = Duration::from_secs(30);

/// One owner, with a connection of its own.
pub(crate) struct Owner {
    http: Client,
    base: String,
    token: String,
    causal: Mutex<Option<String>>,
}

impl Owner {
    /// Signs up as a new owner.
    pub(crate) async fn new(stack: &Stack, name: &str) -> Result<Self> {
        Self::by(stack.client()?, stack, name).await
    }

    /// The same, by an HTTP client of the caller's.
    pub(crate) async fn by(http: Client, stack: &Stack, name: &str) -> Result<Self> {
        let base = stack.url("");
        let call = http
            .post(format!("{base}/api/owners"))
            .json(&json!({ "name": name }));
        let answer = patiently(async || {
            let call = call.try_clone().context("a call with a body of bytes")?;
            Ok(call.send().await?)
        });
        let answer = answer.await?;
        ensure!(
            answer.status() == StatusCode::CREATED,
            "sign-up: {}",
            told(answer).await
        );
        let causal = Some(header(&answer, "causal-token").to_owned()).filter(|t| !t.is_empty());
        let owner: Value = answer.json().await?;
        let token = owner["token"]
            .as_str()
            .context("an owner has a token")?
            .to_owned();
        Ok(Self {
            http,
            base,
            token,
            causal: Mutex::new(causal),
        })
    }

    /// The same owner on a connection of its own, with the same causal token.
    pub(crate) fn elsewhere(&self, stack: &Stack) -> Result<Self> {
        Ok(Self {
            http: stack.client()?,
            base: self.base.clone(),
            token: self.token.clone(),
            causal: Mutex::new(self.causal.lock().expect("no test panics with it").clone()),
        })
    }

    /// Forgets what proves this session's writes.
    pub(crate) fn forget_writes(&self) {
        *self.causal.lock().expect("no test panics with it") = None;
    }

    /// Sends a call with the owner's tokens and keeps the causal token of the answer.
    pub(crate) async fn send(&self, call: RequestBuilder) -> Result<Response> {
        let causal = self.causal.lock().expect("no test panics with it").clone();
        let mut call = call.bearer_auth(&self.token);
        if let Some(causal) = causal {
            call = call.header("causal-token", causal);
        }
        let answer = call.send().await?;
        let causal = header(&answer, "causal-token");
        if !causal.is_empty() {
            *self.causal.lock().expect("no test panics with it") = Some(causal.to_owned());
        }
        Ok(answer)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response> {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Response> {
        let call = self.http.post(format!("{}{path}", self.base)).json(body);
        self.send(call.header("idempotency-key", key)).await
    }

    /// Opens an account and returns its id.
    pub(crate) async fn open_account(&self, name: &str, opening_cents: u64) -> Result<String> {
        let body = json!({ "name": name, "opening_cents": opening_cents });
        let key = key();
        let answer = patiently(async || self.post("/api/accounts", &key, &body).await).await?;
        ensure!(
            answer.status() == StatusCode::CREATED,
            "opening: {}",
            told(answer).await
        );
        let account: Value = answer.json().await?;
        Ok(account["id"]
            .as_str()
            .context("an account has an id")?
            .to_owned())
    }

    pub(crate) async fn transfer(
        &self,
        from: &str,
        to: &str,
        amount_cents: u64,
        key: &str,
    ) -> Result<Response> {
        let body = json!({ "from": from, "to": to, "amount_cents": amount_cents });
        self.post("/api/transfers", key, &body).await
    }

    /// The account's balance in cents.
    pub(crate) async fn balance(&self, account: &str) -> Result<i64> {
        let answer = self.get(&format!("/api/accounts/{account}")).await?;
        ensure!(
            answer.status() == StatusCode::OK,
            "reading: {}",
            told(answer).await
        );
        let account: Value = answer.json().await?;
        account["balance_cents"]
            .as_i64()
            .context("an account has a balance")
    }

    /// How many transfers the account has, up to 100.
    pub(crate) async fn transfers(&self, account: &str) -> Result<usize> {
        let answer = self
            .get(&format!("/api/transfers?account={account}&limit=100"))
            .await?;
        ensure!(
            answer.status() == StatusCode::OK,
            "listing: {}",
            told(answer).await
        );
        let list: Value = answer.json().await?;
        Ok(list["items"].as_array().context("a list has items")?.len())
    }
}

/// The answer to a call that only sets the scene: what is refused for a moment is asked for again, with the same key.
async fn patiently(ask: impl AsyncFn() -> Result<Response>) -> Result<Response> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask().await?;
        let passes = answer.status() == StatusCode::SERVICE_UNAVAILABLE
            && !header(&answer, "retry-after").is_empty();
        if !passes || tokio::time::Instant::now() > end {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A new idempotency key.
pub(crate) fn key() -> String {
    Uuid::now_v7().to_string()
}

/// An answer for an error message.
pub(crate) async fn told(answer: Response) -> String {
    let head = format!("{answer:?}");
    format!("{head}\n{}", answer.text().await.unwrap_or_default())
}

/// Waits until the stack is whole: every service healthy, both database servers in sync, and a write is acknowledged.
pub(crate) async fn whole(stack: &Stack) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        let health = stack.health()?;
        let healthy = health.len() >= 16 && health.iter().all(|(_, state)| state == "healthy");
        let arbiter = ["exec", "-T", "arbiter", "/usr/local/bin/arbiter", "status"];
        let pair = stack.compose(&arbiter).unwrap_or_default();
        let in_sync = pair.contains("in sync mysql-1, mysql-2   writes open\n");
        let written = match healthy && in_sync {
            true => match Owner::new(stack, "Probe").await {
                Ok(owner) => owner.open_account("Probe", 1).await.map(drop),
                Err(error) => Err(error),
            },
            false => Err(anyhow::anyhow!(
                "not healthy: {health:?}, or not in sync: {pair}"
            )),
        };
        let Err(error) = written else { return Ok(()) };
        if tokio::time::Instant::now() > deadline {
            return Err(error.context("the stack is not whole again after 90 s"));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
