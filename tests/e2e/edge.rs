//! What the edge promises to every caller, whatever stands behind it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{compose::Stack, wait_until};
use reqwest::{Response, StatusCode, Version};

/// A response header as text; empty where it is missing.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("")
}

pub(crate) async fn the_start_page_answers_over_https(stack: &Stack) -> Result<()> {
    let response = stack.client()?.get(stack.url("/")).send().await?;
    ensure!(response.status() == StatusCode::OK, "{response:?}");
    ensure!(
        header(&response, "content-type").starts_with("text/html"),
        "{response:?}"
    );
    let page = response.text().await?;
    ensure!(
        page.contains("<form"),
        "the start page offers no form:\n{page}"
    );
    Ok(())
}

pub(crate) async fn plain_http_is_sent_to_https_and_gets_nothing_else(stack: &Stack) -> Result<()> {
    let client = stack.client()?;
    for path in ["/", "/api/openapi.json?limit=3", "/no/such/page"] {
        for method in [reqwest::Method::GET, reqwest::Method::POST] {
            let response = client.request(method, stack.plain_url(path)).send().await?;
            ensure!(
                response.status() == StatusCode::PERMANENT_REDIRECT,
                "{response:?}"
            );
            let location = header(&response, "location").to_owned();
            ensure!(
                location.starts_with("https://localhost") && location.ends_with(path),
                "{path} is sent to {location}"
            );
            ensure!(
                header(&response, "strict-transport-security").is_empty(),
                "{response:?}"
            );
            ensure!(
                !header(&response, "x-request-id").is_empty(),
                "{response:?}"
            );
        }
    }
    Ok(())
}

pub(crate) async fn every_answer_carries_the_headers_of_the_edge(stack: &Stack) -> Result<()> {
    let client = stack.client()?;
    let mut ids = BTreeSet::new();
    for path in [
        "/",
        "/healthz",
        "/api/openapi.json",
        "/api/no/such/call",
        "/no/such/page",
        "/metrics",
    ] {
        let response = client
            .get(stack.url(path))
            .header("x-request-id", "mine")
            .header(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
            .send()
            .await?;
        let id = header(&response, "x-request-id").to_owned();
        ensure!(
            !id.is_empty() && id != "mine",
            "{path}: x-request-id {id:?}"
        );
        ensure!(
            ids.insert(id.clone()),
            "{path}: the request id {id} was given twice"
        );
        let trace = header(&response, "traceresponse");
        ensure!(
            trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && trace.len() == 55,
            "{path}: traceresponse {trace:?} does not continue the caller's trace"
        );
        ensure!(
            header(&response, "strict-transport-security").contains("max-age="),
            "{path}: {response:?}"
        );
    }
    Ok(())
}

pub(crate) async fn http_1_and_http_2_are_both_served(stack: &Stack) -> Result<()> {
    let two = stack.client()?.get(stack.url("/healthz")).send().await?;
    ensure!(two.version() == Version::HTTP_2, "{:?}", two.version());
    let one = stack.client_with(reqwest::ClientBuilder::http1_only)?;
    let one = one.get(stack.url("/healthz")).send().await?;
    ensure!(one.version() == Version::HTTP_11, "{:?}", one.version());
    ensure!(one.status() == StatusCode::OK && two.status() == StatusCode::OK);
    Ok(())
}

pub(crate) async fn both_web_servers_are_used(stack: &Stack) -> Result<()> {
    let client = stack.client()?;
    let mut served = BTreeSet::new();
    // One that has just come back gets little at first.
    let both = wait_until("both answer", Duration::from_secs(60), async || {
        if let Ok(response) = client.get(stack.url("/healthz")).send().await {
            served.insert(header(&response, "x-served-by").to_owned());
        }
        served == ["web-1", "web-2"].map(str::to_owned).into()
    });
    both.await.with_context(|| format!("served by {served:?}"))
}

pub(crate) async fn a_client_that_does_not_trust_our_authority_is_not_fooled(
    stack: &Stack,
) -> Result<()> {
    let client = reqwest::Client::builder().tls_certs_only([]).build()?;
    let error = client
        .get(stack.url("/"))
        .send()
        .await
        .err()
        .context("an unknown authority was trusted")?;
    ensure!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    Ok(())
}

pub(crate) async fn metrics_are_not_to_be_had_at_the_edge(stack: &Stack) -> Result<()> {
    let response = stack.client()?.get(stack.url("/metrics")).send().await?;
    ensure!(response.status() == StatusCode::NOT_FOUND, "{response:?}");
    ensure!(
        header(&response, "content-type") == "application/problem+json",
        "{response:?}"
    );
    Ok(())
}
