//! The way in: a listener, mutual TLS, HTTP/1.1 and HTTP/2, each with its bounds.
//!
//! Only a certificate of a role that the matrix admits (`balancer`) gets past the handshake. A stop is graceful: nothing new is accepted, idle connections are
//! closed, what is under way is answered.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use chassis::{
    identity::{Clients, Identity},
    matrix::matrix,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::Connections,
    metrics::{HANDSHAKE_FAILURES, Metrics},
};

/// In order of preference.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The queue of connections that wait to be accepted; the kernel's own limit applies below it.
const BACKLOG: u32 = 1024;

/// How long to wait when a connection cannot be accepted, for lack of descriptors most likely: it passes, and a busy loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What TLS is made of; replaced when the certificate is.
#[derive(Debug)]
pub struct Tls(Mutex<Arc<ServerConfig>>);

impl Tls {
    /// TLS with this certificate.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        Self(Mutex::new(config(identity)))
    }

    /// From the next handshake on, another certificate.
    pub fn replace(&self, identity: &Identity) {
        *self.0.lock().expect("nothing panics with it") = config(identity);
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.lock().expect("nothing panics with it")))
    }
}

fn config(identity: &Identity) -> Arc<ServerConfig> {
    let callers = matrix().callers("web", "https");
    identity.server_config(Clients::Roles(&callers), ALPN)
}

/// Listens.
///
/// # Errors
/// What the system says, when the address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves requests over the connections that a listener accepts.
#[derive(Debug)]
pub struct Server {
    app: Router,
    tls: Arc<Tls>,
    limits: Connections,
    metrics: Metrics,
    room: Arc<Semaphore>,
    open: GracefulShutdown,
}

impl Server {
    /// A server for these routes.
    #[must_use]
    pub fn new(app: Router, tls: Arc<Tls>, limits: &Connections, metrics: &Metrics) -> Self {
        Self {
            app,
            tls,
            limits: limits.clone(),
            metrics: metrics.clone(),
            room: Arc::new(Semaphore::new(limits.max)),
            open: GracefulShutdown::new(),
        }
    }

    /// Accepts until it is dropped.
    pub async fn accept(&self, listener: &TcpListener) {
        loop {
            let room = self.room().await;
            match listener.accept().await {
                Ok((stream, peer)) => self.serve(stream, peer, room),
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until there may be one more connection.
    async fn room(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            return permit;
        }
        self.metrics.connections_full.inc();
        tracing::warn!(
            max = self.limits.max,
            "connections.max is reached; further connections wait"
        );
        Arc::clone(&self.room)
            .acquire_owned()
            .await
            .expect("it is never closed")
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, room: OwnedSemaphorePermit) {
        let acceptor = self.tls.acceptor();
        let (metrics, limits) = (self.metrics.clone(), self.limits.clone());
        let app = TowerToHyperService::new(self.app.clone());
        let watcher = self.open.watcher();
        tokio::spawn(async move {
            let _room = room;
            let _counted = Open::new(&metrics);
            let Some(stream) = handshake(&acceptor, stream, peer, &limits, &metrics).await else {
                return;
            };
            let http = http(&limits);
            let connection = http.serve_connection(TokioIo::new(stream), app);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%peer, %error, "a connection ended early");
            }
        });
    }

    /// Tells every connection to end after what it has under way, and waits until all have.
    pub async fn finish(self) {
        self.open.shutdown().await;
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    limits: &Connections,
    metrics: &Metrics,
) -> Option<TlsStream<TcpStream>> {
    let [refused, late] = HANDSHAKE_FAILURES;
    // Answers are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let limit = Duration::from_millis(limits.handshake_timeout_ms);
    let failure = match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            refused
        }
        Err(_) => {
            tracing::debug!(%peer, ?limit, "a TLS handshake took too long");
            late
        }
    };
    metrics
        .handshake_failures
        .with_label_values(&[failure])
        .inc();
    None
}

/// HTTP with its bounds. A connection that is idle, or whose head does not come to its end, is closed.
fn http(limits: &Connections) -> auto::Builder<TokioExecutor> {
    let idle = Duration::from_millis(limits.idle_timeout_ms);
    let header_bytes = limits.header_bytes_max;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(usize::try_from(header_bytes).expect("32 bits are an address"));
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(idle)
        .keep_alive_timeout(idle)
        .max_header_list_size(header_bytes)
        .max_concurrent_streams(limits.http2_streams_max);
    http
}

/// Counts a connection for as long as it is open.
struct Open(prometheus::IntGauge);

impl Open {
    fn new(metrics: &Metrics) -> Self {
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
