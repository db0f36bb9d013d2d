//! TLS with clients: sessions that either balancer resumes, the certificate for the name that is asked for, and what is no TLS.

mod balancer_common;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, Raw, SOON, World, tls_of_client};
use harness::{free_port, wait_until};
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that asks for a name, after a request, so that what the server sends after the handshake has come.
async fn used(balancer: &Balancer, name: &str, tls: &Arc<ClientConfig>) -> Result<Raw> {
    let stream = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
    let mut raw = Raw::over(stream, name, Arc::clone(tls)).await?;
    raw.write(format!("HEAD / HTTP/1.1\r\nhost: {name}\r\n\r\n"))
        .await?;
    let head = raw.read_head(SOON).await?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(raw)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_by_either_balancer_and_after_a_restart() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let backends = [("web-1", one.port())];
    let start = async |name: &str| {
        world
            .balancer_on(free_port()?, free_port()?, name, &backends, "")
            .await
    };
    let (mut first, second) = (start("balancer-1").await?, start("balancer-2").await?);
    for version in [&TLS12, &TLS13] {
        let tls = Arc::new(tls_of_client(world.authority.cert_pem(), &[version])?);
        ensure!(!used(&first, "localhost", &tls).await?.is_resumed());
        ensure!(
            used(&second, "localhost", &tls).await?.is_resumed(),
            "{version:?}"
        );
        first.stop(SOON).await?;
        first = start("balancer-1").await?;
        ensure!(
            used(&first, "localhost", &tls).await?.is_resumed(),
            "{version:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_shown_the_certificate_for_the_name_that_it_asks_for() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let further = world.identity("web-2", "balancer")?;
    let keys = format!("[edge]\ncertificates = [{further:?}]\n");
    let balancer = world.balancer_ready(&[&one], &keys).await?;
    let tls = Arc::new(tls_of_client(world.authority.cert_pem(), &[])?);
    let shown = async |name: &str| used(&balancer, name, &tls).await?.peer_certificate();
    let (ours, theirs) = (shown("balancer-1").await?, shown("web-2").await?);
    ensure!(ours != theirs, "one certificate for both names");
    ensure!(
        shown("localhost").await? == ours,
        "the first that is good for it is ours"
    );

    // It is followed like our own.
    world.identity("web-2", "balancer")?;
    wait_until("another certificate", SOON, async || {
        // A session that goes on has the certificate that it began with.
        let tls = tls_of_client(world.authority.cert_pem(), &[]);
        let Ok(tls) = tls.map(Arc::new) else {
            return false;
        };
        let raw = used(&balancer, "web-2", &tls).await;
        raw.and_then(|raw| raw.peer_certificate())
            .is_ok_and(|now| now != theirs)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_closed_and_counted() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    for bytes in [
        "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n",
        "\0\0\0\0\0\0\0\0",
    ] {
        let before = balancer.metric("balancer_handshakes_failed_total").await?;
        let mut stream = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
        stream.write_all(bytes.as_bytes()).await?;
        let mut answer = Vec::new();
        // An alert may come, or a reset; no answer of HTTP does.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer))
            .await
            .context("still open")?;
        ensure!(!answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
        wait_until("it is counted", SOON, async || {
            balancer
                .metric("balancer_handshakes_failed_total")
                .await
                .is_ok_and(|count| count == before + 1)
        })
        .await?;
    }
    ensure!(one.received().is_empty());
    Ok(())
}
