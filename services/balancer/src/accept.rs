//! Listening, accepting, the TLS handshake, and handing connections to the hooks or to the redirect.
//!
//! The accept loop is our own, around pingora's acceptor: it bounds connections before any handshake, takes a new certificate with the
//! next connection, and at a stop announces the end to connections while their requests finish, which pingora's own loop cannot.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use chassis::identity::{Clients, Identity};
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::protocols::l4::stream::Stream as Tcp;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client_stream::{ClientStream, Connection};
use crate::edge::{Edge, ms};
use crate::exchange::{CONNECTION, Proxy};
use crate::plain;
use crate::traffic::Counted;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;

/// A listening socket that other balancers may share: the kernel spreads new connections over all of them.
///
/// # Errors
/// What the kernel says, with the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| io::Error::new(error.kind(), format!("listen on {address}: {error}")))
}

/// What a port does with a connection.
#[derive(Clone)]
pub enum Service {
    /// HTTPS.
    Https(Arc<Https>),
    /// The 308.
    Redirect,
}

/// TLS, then requests.
pub struct Https {
    proxy: Arc<HttpProxy<Proxy>>,
    acceptor: ArcSwap<Acceptor>,
    options: HttpServerOptions,
    streams_max: u32,
    header_bytes_max: u32,
}

impl Https {
    /// Serves requests by `proxy` with the certificate that is current.
    pub fn new(edge: &Edge, proxy: Arc<HttpProxy<Proxy>>) -> Https {
        let limits = &edge.config.request;
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(Duration::from_secs(limits.keep_alive_s));
        Https {
            proxy,
            acceptor: ArcSwap::from_pointee(acceptor(&edge.identity.current())),
            options,
            streams_max: limits.http2_streams_max,
            header_bytes_max: limits.header_bytes_max,
        }
    }

    /// The next connection gets another certificate.
    pub fn identity_changed(&self, identity: &Identity) {
        self.acceptor.store(Arc::new(acceptor(identity)));
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        connection: Arc<Connection>,
        stop: ShutdownWatch,
    ) {
        let edge = Arc::clone(&connection.edge);
        let limit = ms(edge.config.listen.handshake_timeout_ms);
        let acceptor = self.acceptor.load_full();
        let Ok(Ok(stream)) = timeout(limit, acceptor.tls_handshake(Tcp::from(stream))).await else {
            edge.metrics.handshakes_failed.inc();
            return;
        };
        let stream = ClientStream::new(stream, Arc::clone(&connection));
        let (announce, announced) = watch::channel(false);
        let app = Arc::new(App {
            https: self,
            connection: Arc::clone(&connection),
        });
        tokio::select! {
            _ = app.process_new(Box::new(stream), &announced) => {}
            () = announce_end(stop, &connection, &announce) => {}
        }
    }
}

/// Tells a connection of the stop, so that it sends GOAWAY; but one that is new only after its first request: a client that has just
/// connected would be told to go before it could ask, and not every client comes again by itself. Never returns.
async fn announce_end(
    mut stop: ShutdownWatch,
    connection: &Connection,
    announce: &watch::Sender<bool>,
) {
    let _ = stop.wait_for(|stopping| *stopping).await;
    let _ = timeout(
        ms(connection.edge.config.stop.quiet_ms),
        connection.was_asked(),
    )
    .await;
    announce.send_replace(true);
    std::future::pending().await
}

fn acceptor(identity: &Identity) -> Acceptor {
    Acceptor::from_server_config(identity.server_config(Clients::Anybody, &[b"h2", b"http/1.1"]))
}

/// The requests of one connection. pingora asks it for every one of them, so that the hooks can be told which connection it is.
struct App {
    https: Arc<Https>,
    connection: Arc<Connection>,
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        stop: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let serve = self.https.proxy.process_new_http(session, stop);
        let reusable = CONNECTION.scope(Arc::clone(&self.connection), serve).await;
        if reusable.is_some() {
            self.connection.exchange_ended();
        }
        reusable
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options.max_concurrent_streams(self.https.streams_max);
        options.max_header_list_size(self.https.header_bytes_max);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.https.options)
    }
}

/// Accepts until the stop and for `stop.accept_ms` after it, then whatever is still queued, then closes the port.
pub async fn accept(edge: Arc<Edge>, listener: TcpListener, service: Service, stop: ShutdownWatch) {
    let mut announced = stop.clone();
    let end = async {
        let _ = announced.wait_for(|stopping| *stopping).await;
        sleep(ms(edge.config.stop.accept_ms)).await;
    };
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        taken(&edge, accepted, &service, &stop).await;
    }
    // What the kernel has queued for this socket would be reset with it. Asked directly: the run-time knows only of what its last look
    // at the kernel has shown.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            accepted => taken(&edge, accepted.and_then(of_runtime), &service, &stop).await,
        }
    }
}

fn of_runtime(
    (stream, client): (std::net::TcpStream, SocketAddr),
) -> io::Result<(TcpStream, SocketAddr)> {
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, client))
}

async fn taken(
    edge: &Arc<Edge>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    service: &Service,
    stop: &ShutdownWatch,
) {
    let (stream, client) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            // Out of descriptors, most likely: it passes, and a busy loop would not help.
            tracing::warn!(%error, "a connection was not accepted");
            sleep(ms(100)).await;
            return;
        }
    };
    edge.metrics.connections_accepted.inc();
    let Some(counted) = edge.traffic.connection(edge.config.listen.connections_max) else {
        edge.metrics.connections_refused.inc();
        return;
    };
    let _ = stream.set_nodelay(true);
    tokio::spawn(serve(
        Arc::clone(edge),
        stream,
        client,
        counted,
        service.clone(),
        stop.clone(),
    ));
}

async fn serve(
    edge: Arc<Edge>,
    stream: TcpStream,
    client: SocketAddr,
    counted: Counted,
    service: Service,
    stop: ShutdownWatch,
) {
    match service {
        Service::Https(https) => {
            https
                .serve(stream, Connection::new(edge, client, counted), stop)
                .await
        }
        Service::Redirect => {
            let _counted = counted;
            plain::serve(&edge, stream).await;
        }
    }
}
