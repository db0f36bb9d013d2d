//! What the ledger answers through the whole stack. The interface in full is tested in ring 2; here is what needs all of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::compose::Stack;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::{Owner, key, told};
use crate::edge::header;

pub(crate) async fn an_owner_opens_accounts_and_transfers_between_them(
    stack: &Stack,
) -> Result<()> {
    let ada = Owner::new(stack, "Ada").await?;
    let grace = Owner::new(stack, "Grace").await?;
    let from = ada.open_account("Current", 10_000).await?;
    let to = grace.open_account("Savings", 0).await?;
    let answer = ada.transfer(&from, &to, 2_500, &key()).await?;
    ensure!(
        answer.status() == StatusCode::CREATED,
        "{}",
        told(answer).await
    );
    let location = header(&answer, "location").to_owned();
    ensure!(
        location.starts_with("/api/transfers/"),
        "location {location:?}"
    );
    ensure!(ada.balance(&from).await? == 7_500);
    ensure!(ada.get(&location).await?.status() == StatusCode::OK);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    // Another session sees it within max_lag.
    while grace.balance(&to).await? != 2_500 {
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the other side never saw the transfer"
        );
    }
    ensure!(
        grace.get(&format!("/api/accounts/{from}")).await?.status() == StatusCode::NOT_FOUND,
        "another owner's account is shown"
    );
    Ok(())
}

pub(crate) async fn a_write_on_one_web_server_is_read_at_once_on_the_other(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 1_000_000).await?;
    let to = owner.open_account("Savings", 0).await?;
    let mut crossed = 0;
    // At least so many, and more where one of them gets little for a moment.
    for n in 1..=600 {
        let answer = owner.transfer(&from, &to, 1, &key()).await?;
        ensure!(
            answer.status() == StatusCode::CREATED,
            "{}",
            told(answer).await
        );
        let wrote = header(&answer, "x-served-by").to_owned();
        let answer = owner.get(&format!("/api/accounts/{to}")).await?;
        let read = header(&answer, "x-served-by").to_owned();
        let account: Value = answer.json().await?;
        ensure!(
            account["balance_cents"] == n,
            "written on {wrote}, read on {read}: {account}, not {n}"
        );
        crossed += usize::from(wrote != read);
        if n >= 60 && crossed >= 10 {
            break;
        }
    }
    ensure!(
        crossed >= 10,
        "only {crossed} of 600 reads were on the other web server"
    );
    Ok(())
}

pub(crate) async fn reads_come_from_the_replica_and_writes_go_to_the_primary(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let answer = owner
        .post(
            "/api/accounts",
            &key(),
            &json!({ "name": "Current", "opening_cents": 1 }),
        )
        .await?;
    let databases = header(&answer, "x-db");
    ensure!(
        databases.contains("primary;reason="),
        "a write's x-db: {databases:?}"
    );
    ensure!(
        !databases.contains("replica"),
        "a write's x-db: {databases:?}"
    );
    owner.forget_writes();
    // A replica whose disk is busy with another test's doings may be further behind than allowed, for a moment.
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let mut from_replica = 0;
        for _ in 0..20 {
            let answer = owner.get("/api/accounts").await?;
            ensure!(answer.status() == StatusCode::OK, "{}", told(answer).await);
            let database = header(&answer, "x-db");
            from_replica += usize::from(database.starts_with("replica;reason=fresh"));
        }
        if from_replica >= 15 {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "only {from_replica} of 20 reads came from the replica"
        );
    }
}

pub(crate) async fn the_same_key_answers_the_same_and_moves_money_once(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 100).await?;
    let to = owner.open_account("Savings", 0).await?;
    let key = key();
    let first = owner.transfer(&from, &to, 40, &key).await?;
    let second = owner.transfer(&from, &to, 40, &key).await?;
    ensure!(first.status() == StatusCode::CREATED && second.status() == StatusCode::CREATED);
    ensure!(header(&first, "idempotency-replayed").is_empty());
    ensure!(
        header(&second, "idempotency-replayed") == "true",
        "{second:?}"
    );
    let (first, second): (Value, Value) = (first.json().await?, second.json().await?);
    ensure!(first == second, "{first} is not {second}");
    ensure!(owner.balance(&from).await? == 60);
    ensure!(owner.transfers(&from).await? == 1);
    Ok(())
}

pub(crate) async fn bad_input_is_refused_with_a_problem_that_names_the_field(
    stack: &Stack,
) -> Result<()> {
    let owner = Owner::new(stack, "Ada").await?;
    let from = owner.open_account("Current", 100).await?;
    let to = owner.open_account("Savings", 0).await?;
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (body, status, pointer) in [
        (
            json!({ "from": from, "to": to, "amount_cents": -1 }),
            422,
            Some("/amount_cents"),
        ),
        (
            json!({ "from": from, "to": to, "amount_cents": 1.5 }),
            422,
            Some("/amount_cents"),
        ),
        (
            json!({ "from": from, "to": to, "amount_cents": 1, "also": 1 }),
            422,
            Some("/also"),
        ),
        (
            json!({ "from": from, "to": nobody, "amount_cents": 1 }),
            422,
            Some("/to"),
        ),
        (
            json!({ "from": from, "to": to }),
            422,
            Some("/amount_cents"),
        ),
        (
            json!({ "from": from, "to": to, "amount_cents": 101 }),
            409,
            None,
        ),
        (json!([1, 2]), 422, None),
    ] {
        let answer = owner.post("/api/transfers", &key(), &body).await?;
        ensure!(answer.status() == status, "{body}: {}", told(answer).await);
        ensure!(
            header(&answer, "content-type") == "application/problem+json",
            "{body}: {answer:?}"
        );
        let problem: Value = answer.json().await?;
        ensure!(
            problem["status"] == status && problem["trace_id"].is_string(),
            "{body}: {problem}"
        );
        if let Some(pointer) = pointer {
            let errors = problem["errors"].as_array().context("errors")?;
            ensure!(
                errors.iter().any(|e| e["pointer"] == pointer),
                "{body}: {problem}"
            );
        }
    }
    ensure!(owner.balance(&from).await? == 100, "something was written");

    let stranger = stack
        .client()?
        .get(stack.url("/api/accounts"))
        .bearer_auth("v4.local.forged")
        .send()
        .await?;
    ensure!(
        stranger.status() == StatusCode::UNAUTHORIZED,
        "{stranger:?}"
    );
    ensure!(
        header(&stranger, "www-authenticate").starts_with("Bearer"),
        "{stranger:?}"
    );
    Ok(())
}
