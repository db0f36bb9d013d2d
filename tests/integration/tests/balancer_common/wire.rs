//! A client's TLS connection with a buffer: whole answers of HTTP/1.1 are read off it, frames of HTTP/2 by `frames.rs`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Balancer, SOON};

/// The connection.
pub(crate) struct Wire {
    stream: TlsStream<TcpStream>,
    pub(crate) buffer: BytesMut,
}

/// A whole answer of HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Up to the blank line, that included; byte by byte a character.
    pub(crate) head: String,
    /// Chunks are taken apart.
    pub(crate) body: Vec<u8>,
    /// The lines of the trailers.
    pub(crate) trailers: Vec<String>,
}

impl Answer {
    /// A field's value; all of them, joined by a bar, if there are several.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.head.split("\r\n").skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        values.collect::<Vec<_>>().join(" | ")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Balancer {
    /// A connection for HTTP/1.1.
    pub(crate) async fn wire(&self) -> Result<Wire> {
        self.wire_with(b"http/1.1", None).await
    }

    /// A connection for this protocol, with so little room in the kernel for what nobody has read yet.
    pub(crate) async fn wire_with(&self, alpn: &[u8], room: Option<u32>) -> Result<Wire> {
        let stream = self.tls_with(alpn, room).await?;
        Ok(Wire {
            stream,
            buffer: BytesMut::new(),
        })
    }

    /// A connection for HTTP/1.1 from this address of ours.
    pub(crate) async fn wire_from(&self, source: [u8; 4]) -> Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let stream = self.tls_over(socket, b"http/1.1").await?;
        Ok(Wire {
            stream,
            buffer: BytesMut::new(),
        })
    }

    /// The same, for who reads it in another way.
    pub(crate) async fn tls_with(
        &self,
        alpn: &[u8],
        room: Option<u32>,
    ) -> Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        if let Some(room) = room {
            socket.set_recv_buffer_size(room)?;
            socket.set_send_buffer_size(room)?;
        }
        self.tls_over(socket, alpn).await
    }

    async fn tls_over(&self, socket: TcpSocket, alpn: &[u8]) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes())?)?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = socket.connect(([127, 0, 0, 1], self.https).into()).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(alpn));
        Ok(stream)
    }

    /// Everything that one connection is answered to these bytes.
    pub(crate) async fn answers_to(&self, bytes: &[u8]) -> Result<String> {
        let mut wire = self.wire().await?;
        // It may be closed before all is written.
        let _ = wire.write(bytes).await;
        wire.rest(SOON).await
    }
}

impl Wire {
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads more; false at the end of the connection, whether in order or not.
    pub(crate) async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..))
    }

    /// Up to and with these bytes.
    pub(crate) async fn until(&mut self, end: &str) -> Result<String> {
        let read = async {
            loop {
                let found = self.buffer.windows(end.len());
                if let Some(at) = found.into_iter().position(|part| part == end.as_bytes()) {
                    return Ok(latin(&self.buffer.split_to(at + end.len())));
                }
                if !self.fill().await {
                    bail!("closed; so far: {}", self.buffer.escape_ascii());
                }
            }
        };
        timeout(SOON, read)
            .await
            .with_context(|| format!("no {end:?}"))?
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let read = async {
            while self.buffer.len() < length {
                if !self.fill().await {
                    bail!(
                        "closed after {} of {length} bytes: {}",
                        self.buffer.len(),
                        self.buffer[..self.buffer.len().min(500)].escape_ascii()
                    );
                }
            }
            Ok(self.buffer.split_to(length).to_vec())
        };
        timeout(SOON, read).await.context("too few bytes")?
    }

    /// Everything until the end of the connection.
    pub(crate) async fn rest(&mut self, within: Duration) -> Result<String> {
        let read = async { while self.fill().await {} };
        let ended = timeout(within, read).await;
        ended.with_context(|| format!("still open; so far: {}", self.buffer.escape_ascii()))?;
        Ok(latin(&self.buffer.split()))
    }

    /// The next answer, to a request that is not HEAD. Interim ones are answers of their own.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        self.answer_to("GET").await
    }

    /// The next answer, to a request of this method.
    pub(crate) async fn answer_to(&mut self, method: &str) -> Result<Answer> {
        let head = self.until("\r\n\r\n").await?;
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("no answer: {head}"))?;
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
            trailers: Vec::new(),
        };
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Ok(answer);
        }
        let length = answer.header("content-length");
        match (&*answer.header("transfer-encoding"), &*length) {
            ("chunked", "") => loop {
                let line = self.until("\r\n").await?;
                let length = usize::from_str_radix(line.trim_end(), 16).context(line)?;
                if length == 0 {
                    loop {
                        let line = self.until("\r\n").await?;
                        match line.trim_end() {
                            "" => return Ok(answer),
                            line => answer.trailers.push(line.to_owned()),
                        }
                    }
                }
                let data = self.exactly(length).await?;
                answer.body.extend(data);
                self.until("\r\n").await?;
            },
            ("", "") => {
                answer.body = self.rest(SOON).await?.chars().map(|c| c as u8).collect();
            }
            ("", length) => answer.body = self.exactly(length.parse()?).await?,
            odd => bail!("framed in two ways: {odd:?}"),
        }
        Ok(answer)
    }

    /// Whether nothing comes and nothing ends for a while.
    pub(crate) async fn is_silent_for(&mut self, a_while: Duration) -> bool {
        self.buffer.is_empty() && timeout(a_while, self.fill()).await.is_err()
    }

    /// Closes TCP with a reset.
    pub(crate) fn reset(self) -> Result<()> {
        Ok(self.stream.get_ref().0.set_zero_linger()?)
    }

    /// Closes our half in order.
    pub(crate) async fn half_close(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
