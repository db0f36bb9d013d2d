//! One message by OTLP over HTTP, in TLS with both sides authenticated: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.
//!
//! A connection is kept while it is young, so that messages that follow each other closely share one, and a new certificate is used soon.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The signal's path (OTLP specification).
const PATH: &str = "/v1/traces";

/// How long a connection is used again.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// The longest answer that is read: it says at most how many spans were refused.
const ANSWER_BYTES: usize = 64 * 1024;

/// Where spans go: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Reads `https://HOST:PORT`.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (host, port) = url
            .strip_prefix("https://")?
            .trim_end_matches('/')
            .rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0)?;
        ServerName::try_from(host.to_owned()).ok()?;
        Some(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It may be taken later.
    #[error("{0}")]
    Later(String),
    /// It never will be.
    #[error("{0}")]
    Never(String),
}

fn later(error: impl std::fmt::Display) -> SendError {
    SendError::Later(error.to_string())
}

/// Sends messages, one after the other.
pub(super) struct Client<T> {
    target: Target,
    tls: T,
    open: Option<(SendRequest<Full<Bytes>>, Instant)>,
}

impl<T: Fn() -> Arc<ClientConfig>> Client<T> {
    pub(super) fn new(target: Target, tls: T) -> Self {
        Self {
            target,
            tls,
            open: None,
        }
    }

    /// Sends one message and waits for the answer.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), SendError> {
        if let Some((mut open, since)) = self.open.take()
            && since.elapsed() < CONNECTION_LIFE
            && open.ready().await.is_ok()
        {
            match self.exchange(&mut open, message.clone()).await {
                Ok(answer) => {
                    self.open = Some((open, since));
                    return answer;
                }
                // It was closed while nobody looked; a new one shows whether anybody is there. Taking a span twice does no harm.
                Err(error) => tracing::debug!(%error, "a connection for spans had been closed"),
            }
        }
        let mut open = self.connect().await.map_err(later)?;
        let answer = self.exchange(&mut open, message).await.map_err(later)?;
        self.open = Some((open, Instant::now()));
        answer
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let Target { host, port } = &self.target;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from((self.tls)())
            .connect(name, stream)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for spans ended");
            }
        });
        Ok(sender)
    }

    /// The outer error is the connection's, the inner one the answer's.
    async fn exchange(
        &self,
        open: &mut SendRequest<Full<Bytes>>,
        message: Bytes,
    ) -> Result<Result<(), SendError>, hyper::Error> {
        let Target { host, port } = &self.target;
        let request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(message))
            .expect("a configured host is a valid header");
        let response = open.send_request(request).await?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await;
        Ok(judge(status))
    }
}

/// What may be sent again is in the OTLP specification: 429 and the three that a gateway gives.
fn judge(status: StatusCode) -> Result<(), SendError> {
    let said = format!("it answered {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        429 | 502 | 503 | 504 => Err(SendError::Later(said)),
        _ => Err(SendError::Never(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let jaeger = Target {
            host: "jaeger".to_owned(),
            port: 4318,
        };
        assert_eq!(Target::parse("https://jaeger:4318"), Some(jaeger.clone()));
        assert_eq!(Target::parse("https://jaeger:4318/"), Some(jaeger));
        assert_eq!(Target::parse("https://[::1]:4318").unwrap().host, "::1");
        for bad in [
            "",
            "jaeger:4318",
            "http://jaeger:4318",
            "https://jaeger",
            "https://jaeger:0",
            "https://jaeger:4318/v1/traces",
            "https://ja eger:4318",
        ] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_what_may_pass_is_sent_again() {
        let again = |status| matches!(judge(status), Err(SendError::Later(_)));
        assert!(judge(StatusCode::OK).is_ok());
        assert!(again(StatusCode::SERVICE_UNAVAILABLE) && again(StatusCode::TOO_MANY_REQUESTS));
        for status in [
            StatusCode::BAD_REQUEST,
            StatusCode::NOT_FOUND,
            StatusCode::INTERNAL_SERVER_ERROR,
        ] {
            assert!(
                matches!(judge(status), Err(SendError::Never(_))),
                "{status}"
            );
        }
    }
}
