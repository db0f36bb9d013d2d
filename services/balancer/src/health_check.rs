//! Looking at a backend as a request would reach it: its address, a connection, mutual TLS with its name and role, its readiness.
//!
//! Every look makes a connection and a full handshake of its own: a certificate that is wrong by now is found out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use chassis::identity::Identity;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::backend::Backend;
use crate::config::BackendTls;
use crate::edge::{Edge, ms};
use crate::health::{Health, Outcome, State};

/// Either kind of connection.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The longest head of an answer that is read: only its first line matters.
const ANSWER_BYTES_MAX: usize = 4096;

/// Watches one backend until it is dropped, and tells the roster; besides, tells whether the first look found it up.
pub async fn watch(
    edge: Arc<Edge>,
    backend: Arc<Backend>,
    mut first_look: Option<mpsc::Sender<bool>>,
) {
    let policy = edge.config.health.policy();
    let mut health = Health::starting();
    loop {
        if edge.roster.is_in_maintenance(&backend) {
            if let Some(first_look) = first_look.take() {
                let _ = first_look.try_send(false);
            }
            // Nobody looks; and after it what was seen before it is worth nothing.
            backend.asked_to_look_again().await;
            health = Health::starting();
            continue;
        }
        let outcome = look(&edge, &backend).await;
        edge.metrics.checked(backend.name(), &outcome);
        health.observe(&policy, &outcome);
        let reason = match outcome {
            Outcome::Ready => "ready".to_owned(),
            Outcome::NotReady(reason) | Outcome::Failed(reason) => reason,
        };
        edge.roster.looked(&backend, health.state(), reason);
        if let Some(first_look) = first_look.take() {
            // There is room for one of each backend; after the start nobody listens.
            let _ = first_look.try_send(health.state() == State::Up);
        }
        let pause = health.next_check(&policy, rand::random());
        tokio::select! {
            () = sleep(pause) => {}
            // Not at once: many requests may ask at the same time, and one look answers all of them.
            () = backend.asked_to_look_again() => sleep(pause.min(ms(20))).await,
        }
    }
}

/// One look, within the configured time.
async fn look(edge: &Edge, backend: &Backend) -> Outcome {
    let limit = ms(edge.config.health.timeout_ms);
    match timeout(limit, ask(edge, backend)).await {
        Ok(Ok(status)) if (200..300).contains(&status) => Outcome::Ready,
        Ok(Ok(status)) => {
            Outcome::NotReady(format!("{} answered {status}", edge.config.health.path))
        }
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed(format!("no answer within {limit:?}")),
    }
}

/// The status of the readiness page.
async fn ask(edge: &Edge, backend: &Backend) -> io::Result<u16> {
    let address = locate(backend).await?;
    let mut stream = connect(edge, backend, address).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: holdfast-balancer\r\nconnection: close\r\n\r\n",
        edge.config.health.path,
        backend.member().tls_name
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(256);
    while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed without an answer",
            ));
        }
    }
    status_of(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// Looks the backend up again. The address in use is kept while it is among those found, and while nobody can be asked: a name
/// server that is away takes no backend out.
async fn locate(backend: &Backend) -> io::Result<SocketAddr> {
    let member = backend.member();
    if let Some(address) = member.address {
        return Ok(SocketAddr::new(address, member.port));
    }
    let found: Vec<SocketAddr> = match (
        lookup_host((member.host.as_str(), member.port)).await,
        backend.address(),
    ) {
        (Ok(found), _) => found.collect(),
        (Err(_), Some(known)) => return Ok(known),
        (Err(error), None) => {
            return Err(io::Error::new(
                error.kind(),
                format!("{} is not found: {error}", member.host),
            ));
        }
    };
    let known = backend.address().filter(|known| found.contains(known));
    let address = known.or_else(|| found.first().copied()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} has no address", member.host),
        )
    })?;
    if backend.moved_to(address) {
        tracing::info!(backend = backend.name(), %address, "backend found");
    }
    Ok(address)
}

/// Connects, and verifies name and role in a full handshake.
async fn connect(edge: &Edge, backend: &Backend, address: SocketAddr) -> io::Result<Box<dyn Io>> {
    if edge.config.backend.tls == BackendTls::Off {
        return Ok(Box::new(TcpStream::connect(address).await?));
    }
    let identity: Arc<Identity> = edge.identity.current();
    let mut config =
        (*identity.client_config(Some(&edge.config.backend.role), &[b"http/1.1"])).clone();
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(backend.member().tls_name.clone()).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    Ok(Box::new(stream))
}

/// The status in `HTTP/1.1 200 OK`.
fn status_of(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let (status, after) = rest.get(1..)?.strip_prefix(b" ")?.split_at_checked(3)?;
    let ends = after.first().is_some_and(|byte| b" \r\n".contains(byte));
    ends.then(|| std::str::from_utf8(status).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_gives_its_status_and_nothing_else_does() {
        let cases: [(&[u8], Option<u16>); 7] = [
            (b"HTTP/1.1 200 OK\r\n", Some(200)),
            (b"HTTP/1.0 503 Service Unavailable\r\n", Some(503)),
            (b"HTTP/1.1 204\r\n", Some(204)),
            (b"HTTP/1.1 2000\r\n", None),
            (b"HTTP/2 200\r\n", None),
            (b"hello\n", None),
            (b"", None),
        ];
        for (answer, status) in cases {
            assert_eq!(status, status_of(answer), "{}", answer.escape_ascii());
        }
    }
}
