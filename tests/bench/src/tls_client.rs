//! A client of our own, for what h2load does not do: it resumes sessions, and keeps connections open that do nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The longest that a request may take, connecting included.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Speaks HTTP/1.1 in TLS to localhost.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The head, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field, trimmed and in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }
}

impl TlsClient {
    /// Trusts this authority alone. With `resume`, tickets are kept and used.
    pub(crate) fn new(authority: &Path, resume: bool) -> Result<TlsClient> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority)? {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = if resume {
            Resumption::in_memory_sessions(64)
        } else {
            Resumption::disabled()
        };
        Ok(TlsClient {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// A connection on which one request has been answered.
    pub(crate) async fn get(
        &self,
        from: Ipv4Addr,
        port: u16,
        path: &str,
    ) -> Result<(TlsStream<TcpStream>, Answer)> {
        let whole = async {
            let mut stream = self.connect(from, port).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let answer = read(&mut stream).await?;
            Ok((stream, answer))
        };
        timeout(ANSWERED_WITHIN, whole)
            .await
            .with_context(|| format!("no answer within {ANSWERED_WITHIN:?}"))?
    }

    /// A connection from this address, after its handshake.
    pub(crate) async fn connect(&self, from: Ipv4Addr, port: u16) -> Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        if from != Ipv4Addr::LOCALHOST {
            socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        }
        let stream = socket
            .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .await
            .context("connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let connecting = self.connector.connect(name, stream);
        connecting.await.context("TLS handshake")
    }
}

/// Whether a session was resumed.
pub(crate) fn was_resumed(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

async fn read(stream: &mut TlsStream<TcpStream>) -> Result<Answer> {
    let mut bytes = Vec::new();
    let head = loop {
        let read = stream.read_buf(&mut bytes).await?;
        ensure!(read > 0, "the connection was closed before an answer");
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let body = bytes.split_off(head);
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let mut answer = Answer { head, body };
    ensure!(
        answer.head.starts_with("http/1.1 200"),
        "answered {:?}",
        answer.head.lines().next().unwrap_or_default()
    );
    let length: usize = answer
        .field("content-length")
        .context("an answer without content-length")?
        .parse()?;
    while answer.body.len() < length {
        let read = stream.read_buf(&mut answer.body).await?;
        ensure!(read > 0, "the connection was closed within an answer");
    }
    Ok(answer)
}
