//! What a client does and sees.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Response;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A response header as text; empty where it is missing.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

/// Reads a problem document of the edge, and checks what all of them have.
pub(crate) async fn problem(response: Response, status: u16) -> Result<Value> {
    ensure!(response.status().as_u16() == status, "{response:?}");
    ensure!(
        header(&response, "content-type") == "application/problem+json",
        "{response:?}"
    );
    for name in ["x-request-id", "traceresponse", "strict-transport-security"] {
        ensure!(!header(&response, name).is_empty(), "{name}: {response:?}");
    }
    ensure!(header(&response, "x-served-by").is_empty(), "{response:?}");
    let trace_id = header(&response, "traceresponse")
        .split('-')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let document: Value = response.json().await?;
    ensure!(
        document["status"] == status && document["trace_id"] == trace_id,
        "{document}"
    );
    for member in ["type", "title", "detail"] {
        ensure!(
            document[member]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{document}"
        );
    }
    Ok(document)
}

/// TLS for HTTP/1.1 that trusts this authority; of these versions, if any are given.
pub(crate) fn tls_of_client(
    ca_pem: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let builder = match versions {
        [] => ClientConfig::builder(),
        versions => ClientConfig::builder_with_protocol_versions(versions),
    };
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A TLS connection whose bytes are written by hand.
pub(crate) struct Raw(TlsStream<TcpStream>);

impl Raw {
    pub(crate) async fn connect(port: u16, ca_pem: &str) -> Result<Raw> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        Raw::over(stream, "localhost", Arc::new(tls_of_client(ca_pem, &[])?)).await
    }

    /// TLS over a connection that may have been used before, asking for this name.
    pub(crate) async fn over(
        stream: TcpStream,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> Result<Raw> {
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Raw(TlsConnector::from(config)
            .connect(name, stream)
            .await?))
    }

    /// Whether the handshake was a whole one, or went on with an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.0.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the balancer has shown.
    pub(crate) fn peer_certificate(&self) -> Result<Vec<u8>> {
        let chain = self.0.get_ref().1.peer_certificates();
        let leaf = chain.and_then(<[_]>::first).context("no certificate")?;
        Ok(leaf.to_vec())
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.0.write_all(bytes.as_ref()).await?;
        Ok(self.0.flush().await?)
    }

    /// Everything until the end of the connection.
    pub(crate) async fn read_to_end(&mut self, within: Duration) -> Result<String> {
        let mut bytes = Vec::new();
        // A connection that ends without close_notify has ended all the same.
        let read = timeout(within, self.0.read_to_end(&mut bytes)).await;
        let ended =
            read.with_context(|| format!("still open; so far: {}", bytes.escape_ascii()))?;
        if let Err(error) = ended {
            ensure!(error.kind() == std::io::ErrorKind::UnexpectedEof, "{error}");
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Exactly so many bytes.
    pub(crate) async fn read_exactly(&mut self, length: usize, within: Duration) -> Result<String> {
        let mut bytes = vec![0; length];
        timeout(within, self.0.read_exact(&mut bytes))
            .await
            .context("too few bytes")??;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Until a head is complete; what follows it may have been read, too.
    pub(crate) async fn read_head(&mut self, within: Duration) -> Result<String> {
        let mut bytes = Vec::new();
        let read = async {
            while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
                ensure!(self.0.read_buf(&mut bytes).await? > 0, "closed");
            }
            Ok(())
        };
        let read: Result<Result<()>, _> = timeout(within, read).await;
        read.context("no head")??;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
