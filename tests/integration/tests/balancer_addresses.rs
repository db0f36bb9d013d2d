//! Who a client is: its connection's other end, unless a proxy that is trusted says otherwise.

mod balancer_common;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer_common::{Backend, Balancer, Raw, SOON, World, tls_of_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
const VERSION_1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Version 2 of the same, for IPv6.
fn version_2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    for last in [7, 1] {
        header.extend([
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last,
        ]);
    }
    header.extend(4711_u16.to_be_bytes());
    header.extend(443_u16.to_be_bytes());
    header
}

/// Sends a request behind a PROXY header, which comes in pieces of this length.
async fn ask(world: &World, balancer: &Balancer, header: &[u8], piece: usize) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
    stream.set_nodelay(true)?;
    for part in header.chunks(piece) {
        stream.write_all(part).await?;
        if part.len() < header.len() {
            sleep(Duration::from_millis(2)).await;
        }
    }
    let tls = tls_of_client(world.authority.cert_pem(), &[])?;
    let mut raw = Raw::over(stream, "localhost", Arc::new(tls)).await?;
    raw.write("HEAD / HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 203.0.113.9\r\n\r\n")
        .await?;
    raw.read_head(SOON).await
}

fn told(backend: &Backend) -> Result<String> {
    let received = backend.received().pop().context("nothing received")?;
    Ok(received.header("x-forwarded-for"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_says_who_the_client_is_where_it_is_expected() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[listen]\nproxy_protocol_from = [\"127.0.0.0/8\"]\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    for (header, client) in [
        (VERSION_1, "192.0.2.7"),
        (VERSION_1_UNKNOWN, "127.0.0.1"),
        (&version_2(), "2001:db8::7"),
    ] {
        for piece in [header.len(), 5] {
            let head = ask(&world, &balancer, header, piece).await?;
            ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
            ensure!(told(&one)? == client, "{} instead of {client}", told(&one)?);
        }
        balancer.logged(|line| line["client"] == client).await?;
    }
    // From there nobody is taken without one, and none that is malformed.
    let received = one.received().len();
    ensure!(balancer.raw().await.is_err(), "taken without a header");
    for bad in [
        "PROXY TCP4 192.0.2.7 192.0.2.1 04711 443\r\n",
        "PROXY  TCP4",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
        stream.write_all(bad.as_bytes()).await?;
        let mut rest = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut rest)).await;
        let _ = read.with_context(|| format!("{bad:?} is waited for"))?;
        ensure!(rest.is_empty(), "{}", rest.escape_ascii());
    }
    ensure!(one.received().len() == received);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_from_anybody_else_is_no_tls() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[listen]\nproxy_protocol_from = [\"192.0.2.0/24\"]\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    ensure!(ask(&world, &balancer, VERSION_1, 99).await.is_err());
    ensure!(ask(&world, &balancer, &version_2(), 99).await.is_err());
    ensure!(one.received().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn x_forwarded_for_is_believed_from_trusted_hops_alone() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    for (trusted, client) in [("\"127.0.0.0/8\"", "203.0.113.9"), ("", "127.0.0.1")] {
        let keys = format!("[edge]\ntrusted_hops = [{trusted}]\n");
        let balancer = world.balancer_ready(&[&one], &keys).await?;
        for http in [balancer.client()?, balancer.client_1()?] {
            let request = http
                .get(balancer.url("/"))
                .header("x-forwarded-for", "198.51.100.1, 203.0.113.9");
            request.send().await?.error_for_status()?;
            ensure!(told(&one)? == client, "{} instead of {client}", told(&one)?);
        }
        balancer.logged(|line| line["client"] == client).await?;
    }
    Ok(())
}
