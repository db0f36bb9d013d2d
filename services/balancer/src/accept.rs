//! Listening, accepting, the TLS handshake, and handing a connection to what speaks its protocol.
//!
//! One loop for each port accepts, bounds how many connections there are before any handshake, and gives each to a worker, where all of
//! its life takes place.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client_h1;
use crate::client_h2;
use crate::clients;
use crate::edge::{Edge, ms};
use crate::headers::unmapped;
use crate::peer::Peer;
use crate::plain;
use crate::proxy_protocol::{self, Header, Step};
use crate::socket::Socket;
use crate::stream::Stream;
use crate::traffic::Counted;
use crate::worker::{Phase, Worker, Workers};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// HTTPS.
    Https,
    /// The 308.
    Redirect,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    stream: std::net::TcpStream,
    client: SocketAddr,
    service: Service,
    counted: Counted,
    /// Its client's count; none where that is not limited, or not known yet.
    of_client: Option<clients::Connection>,
}

/// Accepts until the stop and for `stop.accept_ms` after it, then whatever is still queued, then closes the port.
pub async fn accept(
    edge: Arc<Edge>,
    listener: TcpListener,
    service: Service,
    workers: Arc<Workers>,
    mut phase: watch::Receiver<Phase>,
) {
    let end = async {
        let _ = phase.wait_for(|phase| *phase >= Phase::Stopping).await;
        sleep(ms(edge.config.stop.accept_ms)).await;
    };
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        let accepted = accepted.and_then(|(stream, client)| Ok((stream.into_std()?, client)));
        taken(&edge, accepted, service, &workers).await;
    }
    // What the kernel has queued for this socket would be reset with it. Asked directly: the run-time knows only of what its last look
    // at the kernel has shown.
    let Ok(listener) = listener.into_std() else {
        return;
    };
    loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            accepted => taken(&edge, accepted.and_then(non_blocking), service, &workers).await,
        }
    }
}

fn non_blocking(
    (stream, client): (std::net::TcpStream, SocketAddr),
) -> io::Result<(std::net::TcpStream, SocketAddr)> {
    stream.set_nonblocking(true)?;
    Ok((stream, client))
}

async fn taken(
    edge: &Arc<Edge>,
    accepted: io::Result<(std::net::TcpStream, SocketAddr)>,
    service: Service,
    workers: &Workers,
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
    let peer = unmapped(client.ip());
    let of_client = match service == Service::Https && edge.trust.is_proxy(peer) {
        true => None,
        false => match of_client(edge, peer) {
            Ok(of_client) => of_client,
            Err(TooMany) => return,
        },
    };
    workers.take(Accepted {
        stream,
        client,
        service,
        counted,
        of_client,
    });
}

/// A client has as many connections as it may.
#[derive(Clone, Copy, Debug)]
struct TooMany;

/// Counts a connection of this client.
fn of_client(edge: &Edge, address: IpAddr) -> Result<Option<clients::Connection>, TooMany> {
    let Some(client) = edge.clients.client(address, Instant::now()) else {
        return Ok(None);
    };
    client.connect().map(Some).ok_or_else(|| {
        edge.metrics.client_connections_refused.inc();
        TooMany
    })
}

/// Serves a connection on its worker.
pub async fn serve(worker: &Rc<Worker>, accepted: Accepted) {
    let Accepted {
        stream,
        client,
        service,
        counted,
        of_client,
    } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    let _ = stream.set_nodelay(true);
    match service {
        Service::Https => https(worker, stream, unmapped(client.ip()), of_client).await,
        Service::Redirect => Box::pin(plain::serve(&worker.edge, stream)).await,
    }
    drop(counted);
}

async fn https(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: IpAddr,
    mut counted: Option<clients::Connection>,
) {
    let edge = &worker.edge;
    let limit = ms(edge.config.listen.handshake_timeout_ms);
    let alarm = worker.clock.alarm();
    // Each part of a connection's life has its room, and only as long as it lasts.
    let shake = Box::pin(shake(edge, stream, peer));
    let Ok(Ok((stream, client))) = alarm.within(limit, shake).await else {
        edge.metrics.handshakes_failed.inc();
        return;
    };
    if edge.trust.is_proxy(peer) {
        // Known only now: it was announced.
        counted = match of_client(edge, client) {
            Ok(counted) => counted,
            Err(TooMany) => return,
        };
    }
    let peer = Peer {
        address: client,
        limited: counted.as_ref().map(|one| Arc::clone(one.client())),
    };
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Box::pin(client_h2::serve(worker, stream.into(), &peer)).await,
        _ => Box::pin(client_h1::serve(worker, Stream::tls(stream), &peer)).await,
    }
}

/// The TLS handshake, and before it, from where it is to be expected, the PROXY header.
async fn shake(
    edge: &Edge,
    stream: TcpStream,
    peer: IpAddr,
) -> io::Result<(TlsStream<Socket>, IpAddr)> {
    let (socket, client) = match edge.trust.is_proxy(peer) {
        true => announced(stream, peer).await?,
        false => (Socket::new(stream), peer),
    };
    let acceptor = TlsAcceptor::from(edge.server_tls.load_full());
    Ok((acceptor.accept(socket).await?, client))
}

/// Reads the PROXY header; what comes behind it stays.
async fn announced(mut stream: TcpStream, peer: IpAddr) -> io::Result<(Socket, IpAddr)> {
    let mut read = BytesMut::with_capacity(512);
    loop {
        match proxy_protocol::parse(&read).map_err(io::Error::other)? {
            Step::More => {}
            Step::Done { header, len } => {
                let client = match header {
                    Header::Local => peer,
                    Header::Proxied { source, .. } => unmapped(source.ip()),
                };
                read.advance(len);
                return Ok((Socket::with_read(stream, read), client));
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
