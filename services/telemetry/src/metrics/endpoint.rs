//! `GET /metrics` over mutual TLS: for Prometheus alone, on a port of its own, so that no public path leads to it.
//!
//! It has bounds of its own and shares none with requests: whoever hangs here slows nobody there.

use std::{
    convert::Infallible, io, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{IntCounter, IntGauge, Opts, Registry};
use rustls::ServerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::CONTENT_TYPE;

/// How long to wait when a connection cannot be accepted, for lack of descriptors most likely: it passes, and a busy loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// `[metrics]` of a service's configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Connections at one time; further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a handshake, a head, an answer may take, and how long a connection may be idle.
    pub timeout_ms: u64,
}

impl EndpointConfig {
    /// The whole numbers: the key, what is there, what is taken.
    #[must_use]
    pub fn ranges(&self) -> [(&'static str, u64, RangeInclusive<u64>); 2] {
        let connections = u64::try_from(self.connections_max).unwrap_or(u64::MAX);
        [
            ("metrics.connections_max", connections, 1..=1024),
            ("metrics.timeout_ms", self.timeout_ms, 1..=600_000),
        ]
    }
}

/// A listener that answers with a service's metrics.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    room: Arc<Semaphore>,
    limit: Duration,
    counts: Counts,
}

#[derive(Clone, Debug)]
struct Counts {
    full: IntCounter,
    handshakes_failed: IntCounter,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be had.
    #[error(
        "cannot listen at {address} for metrics: {source}; does another service of this pod have the port? `metrics.listen` moves it"
    )]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The registry has one of our names already.
    #[error("metrics of the endpoint: {0}")]
    Registry(#[from] prometheus::Error),
}

impl Endpoint {
    /// Listens, and registers `PREFIX_build_info` and the endpoint's own counters.
    ///
    /// # Errors
    /// When the address is taken, or a metric of that name is there already.
    pub async fn bind(
        config: &EndpointConfig,
        prefix: &str,
        version: &str,
        registry: &Registry,
    ) -> Result<Self, EndpointError> {
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|source| EndpointError::Listen {
            address: config.listen,
            source,
        })?;
        Ok(Self::over(listener, config, prefix, version, registry)?)
    }

    /// The same over a listener that is there already, wherever it listens.
    ///
    /// # Errors
    /// When a metric of that name is there already.
    pub fn over(
        listener: TcpListener,
        config: &EndpointConfig,
        prefix: &str,
        version: &str,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(format!("{prefix}_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counts = Counts {
            full: counter(
                "metrics_connections_full_total",
                "How often metrics.connections_max was reached, so that whoever asks for metrics had to wait.",
            )?,
            handshakes_failed: counter(
                "metrics_handshakes_failed_total",
                "TLS handshakes for metrics that failed or took too long.",
            )?,
        };
        let build = IntGauge::with_opts(
            Opts::new(
                format!("{prefix}_build_info"),
                "1, with the version that runs as a label.",
            )
            .const_label("version", version),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        Ok(Self {
            listener,
            room: Arc::new(Semaphore::new(config.connections_max)),
            limit: Duration::from_millis(config.timeout_ms),
            counts,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Answers until it is dropped. `tls` is asked for each connection, so that a new certificate is used at once; `text` for each answer.
pub async fn serve(
    endpoint: Endpoint,
    tls: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
    text: impl Fn() -> String + Send + Sync + 'static,
) {
    let Endpoint {
        listener,
        room,
        limit,
        counts,
    } = endpoint;
    let (tls, text) = (Arc::new(tls), Arc::new(text));
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening for Prometheus");
    }
    loop {
        let place = place(&room, &counts).await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, text, counts) = (Arc::clone(&tls), Arc::clone(&text), counts.clone());
        tokio::spawn(async move {
            let _place = place;
            answer(stream, (*tls)(), text, limit, &counts).await;
        });
    }
}

/// Waits until there may be one more connection.
async fn place(room: &Arc<Semaphore>, counts: &Counts) -> OwnedSemaphorePermit {
    if let Ok(place) = Arc::clone(room).try_acquire_owned() {
        return place;
    }
    counts.full.inc();
    Arc::clone(room)
        .acquire_owned()
        .await
        .expect("it is never closed")
}

async fn answer(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    text: Arc<impl Fn() -> String + Send + Sync + 'static>,
    limit: Duration,
    counts: &Counts,
) {
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(limit, TlsAcceptor::from(tls).accept(stream)).await else {
        counts.handshakes_failed.inc();
        return;
    };
    let service = service_fn(|request| {
        let response = respond(&request, &*text);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

fn respond(request: &Request<Incoming>, text: &impl Fn() -> String) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, CONTENT_TYPE, text()),
        (_, "/metrics") => (
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain; charset=utf-8",
            "GET it\n".to_owned(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "there is only /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}
