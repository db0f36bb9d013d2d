//! The port that Prometheus reads: mutual TLS, the role `prometheus` alone, and bounds that requests do not feel.

mod balancer_common;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, SOON, World};
use harness::{free_port, wait_until};
use reqwest::{Client, StatusCode};
use tokio::net::TcpStream;

/// A client that presents this identity, and trusts its authority.
fn client(identity: &Path) -> Result<Client> {
    let pem = [
        std::fs::read(identity.join("tls.crt"))?,
        std::fs::read(identity.join("tls.key"))?,
    ]
    .concat();
    let authority = std::fs::read(identity.join("ca.crt"))?;
    Ok(Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority)?])
        .identity(reqwest::Identity::from_pem(&pem)?)
        .no_proxy()
        .timeout(SOON)
        .pool_max_idle_per_host(0)
        .tls_info(true)
        .build()?)
}

async fn started(world: &World, keys: &str) -> Result<(Balancer, u16)> {
    let port = free_port()?;
    let keys = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n{keys}");
    let balancer = world
        .balancer_on(
            free_port()?,
            free_port()?,
            "balancer-1",
            &[("web-1", free_port()?)],
            &keys,
        )
        .await?;
    Ok((balancer, port))
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_metrics_and_no_other_role_does() -> Result<()> {
    let world = World::new()?;
    let (balancer, port) = started(&world, "").await?;
    let url = format!("https://localhost:{port}/metrics");
    let prometheus = client(&world.identity("prometheus", "prometheus")?)?;
    let response = prometheus.get(&url).send().await?;
    ensure!(response.status() == StatusCode::OK, "{response:?}");
    let kind = response.headers()["content-type"].to_str()?.to_owned();
    ensure!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = response.text().await?;
    for line in [
        concat!(
            "balancer_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
        "balancer_in_flight{backend=\"web-1\"} 0",
        "balancer_metrics_handshakes_failed_total 0",
    ] {
        ensure!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }

    for role in ["web", "balancer", "mysql", "telemetry", "arbiter"] {
        let stranger = client(&world.identity(role, role)?)?;
        let refused = stranger.get(&url).send().await;
        ensure!(refused.is_err(), "{role} was answered: {refused:?}");
    }
    let nobody = balancer.client()?.get(&url).send().await;
    ensure!(nobody.is_err(), "without a certificate: {nobody:?}");
    let failed = balancer
        .metric("balancer_metrics_handshakes_failed_total")
        .await?;
    ensure!(failed == 6, "{failed} handshakes were counted");

    let elsewhere = prometheus
        .get(format!("https://localhost:{port}/"))
        .send()
        .await?;
    ensure!(elsewhere.status() == StatusCode::NOT_FOUND, "{elsewhere:?}");
    let post = prometheus.post(&url).send().await?;
    ensure!(post.status() == StatusCode::METHOD_NOT_ALLOWED, "{post:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_at_the_metrics_waits_for_a_place_and_loses_it() -> Result<()> {
    let world = World::new()?;
    let (balancer, port) = started(&world, "connections_max = 2\ntimeout_ms = 1000\n").await?;
    let mut hanging = Vec::new();
    for _ in 0..2 {
        hanging.push(TcpStream::connect(("127.0.0.1", port)).await?);
    }
    wait_until("the limit is counted", SOON, async || {
        balancer
            .metric("balancer_metrics_connections_full_total")
            .await
            .is_ok_and(|full| full > 0)
    })
    .await?;
    let prometheus = client(&world.identity("prometheus", "prometheus")?)?;
    let began = tokio::time::Instant::now();
    let text = prometheus
        .get(format!("https://localhost:{port}/metrics"))
        .send()
        .await?
        .text()
        .await?;
    ensure!(
        began.elapsed() > Duration::from_millis(200),
        "there was a place for a third"
    );
    ensure!(text.contains("balancer_metrics_connections_full_total"));
    drop(hanging);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_to_prometheus_without_a_restart() -> Result<()> {
    let world = World::new()?;
    let (_balancer, port) = started(&world, "").await?;
    let prometheus = client(&world.identity("prometheus", "prometheus")?)?;
    let url = format!("https://localhost:{port}/metrics");
    let shown = async || -> Result<Vec<u8>> {
        let response = prometheus.get(&url).send().await?;
        let info = response.extensions().get::<reqwest::tls::TlsInfo>();
        let info = info.context("no TLS")?;
        Ok(info.peer_certificate().context("no certificate")?.to_vec())
    };
    let before = shown().await?;
    world.identity("balancer-1", "balancer")?;
    wait_until("another certificate", SOON, async || {
        shown().await.is_ok_and(|now| now != before)
    })
    .await
}
