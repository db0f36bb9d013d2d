//! A client's connection, watched while a head is on its way.
//!
//! pingora reads the head of an HTTP/1.1 request before any hook runs: with a time limit for each read but none for all of them, and
//! it answers a bad one by itself, with a bare 400. So the stream that it is given does here what must be done before the first hook:
//! it limits time and size of a head, and puts a problem document with the edge's fields in place of that 400.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{ALPN, SslDigest, TlsRef, TlsStream};
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::edge::{Edge, ms};
use crate::problem::Problem;
use crate::raw_answer::{self, Transport};
use crate::termination::Termination;
use crate::traffic::Counted;

/// How long and how much is read after the last answer.
const DRAIN_MS: u64 = 500;
const DRAIN_BYTES_MAX: u64 = 4 << 20;

/// A client's connection, as the hooks and the stream see it.
pub struct Connection {
    /// The balancer.
    pub edge: Arc<Edge>,
    /// The client's end.
    pub client: SocketAddr,
    phase: AtomicU8,
    asked: Notify,
    _counted: Counted,
}

/// Where an HTTP/1.1 connection stands. One of HTTP/2 is in `EXCHANGE` from the beginning: its heads are h2's business.
const BETWEEN_REQUESTS: u8 = 0;
const IN_HEAD: u8 = 1;
const EXCHANGE: u8 = 2;

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(edge: Arc<Edge>, client: SocketAddr, counted: Counted) -> Arc<Connection> {
        Arc::new(Connection {
            edge,
            client,
            phase: AtomicU8::new(BETWEEN_REQUESTS),
            asked: Notify::new(),
            _counted: counted,
        })
    }

    /// A head has been read and was found good; what follows is up to the hooks.
    pub fn head_read(&self) {
        self.phase.store(EXCHANGE, Ordering::Release);
    }

    /// A request has come.
    pub fn request_began(&self) {
        self.head_read();
        self.asked.notify_one();
    }

    /// Waits until a request has come, or knows that one has.
    pub async fn was_asked(&self) {
        self.asked.notified().await;
    }

    /// The exchange is over; the next byte is of the next head.
    pub fn exchange_ended(&self) {
        self.phase.store(BETWEEN_REQUESTS, Ordering::Release);
    }
}

type Tls = TlsStream<TcpStream>;

/// The stream that pingora is given.
pub struct ClientStream {
    /// There until this is dropped.
    inner: Option<Tls>,
    /// Whether the client has closed its half.
    ended: bool,
    connection: Arc<Connection>,
    /// From the first byte of a head.
    head_deadline: Option<Pin<Box<Sleep>>>,
    head_bytes: usize,
    refusal: Option<Refusal>,
}

/// An answer of ours that is being written, after which there is nothing more.
struct Refusal {
    bytes: Vec<u8>,
    written: usize,
}

impl ClientStream {
    /// Watches `inner`, if it is not HTTP/2.
    pub fn new(inner: Tls, connection: Arc<Connection>) -> ClientStream {
        if matches!(inner.selected_alpn_proto(), Some(ALPN::H2)) {
            connection.head_read();
        }
        ClientStream {
            inner: Some(inner),
            ended: false,
            connection,
            head_deadline: None,
            head_bytes: 0,
            refusal: None,
        }
    }

    fn inner(&mut self) -> Pin<&mut Tls> {
        Pin::new(self.inner.as_mut().expect("taken by drop alone"))
    }

    fn tls(&self) -> &Tls {
        self.inner.as_ref().expect("taken by drop alone")
    }

    fn phase(&self) -> u8 {
        self.connection.phase.load(Ordering::Acquire)
    }

    /// Bytes of a head have come.
    fn head_grew(&mut self, bytes: usize) {
        if self.phase() == BETWEEN_REQUESTS {
            let limit: Duration = ms(self.connection.edge.config.request.header_timeout_ms);
            self.head_deadline = Some(Box::pin(sleep_until(Instant::now() + limit)));
            self.head_bytes = 0;
            self.connection.phase.store(IN_HEAD, Ordering::Release);
        }
        self.head_bytes += bytes;
    }

    /// What is wrong with a head that is not complete yet.
    fn fault_of_head(&mut self, context: &mut Context<'_>) -> Option<(Problem, Termination)> {
        let bytes_max = self.connection.edge.config.request.header_bytes_max as usize;
        if self.head_bytes > bytes_max {
            return Some((Problem::HeaderTooLarge, Termination::TooLarge));
        }
        let late = self
            .head_deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
        late.then_some((Problem::RequestTimeout, Termination::ClientTimeout))
    }

    fn refuse(&mut self, problem: Problem, end: Termination) {
        let edge = &self.connection.edge;
        edge.metrics.head_refused(end);
        self.refusal = Some(Refusal {
            bytes: raw_answer::problem(edge, problem, Transport::Secure).into_bytes(),
            written: 0,
        });
    }

    /// Writes what is left of a refusal.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ClientStream {
            inner: Some(inner),
            refusal: Some(refusal),
            ..
        } = self
        else {
            return Poll::Ready(Ok(()));
        };
        let mut inner = Pin::new(inner);
        while refusal.written < refusal.bytes.len() {
            let rest = &refusal.bytes[refusal.written..];
            let written = ready!(inner.as_mut().poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            refusal.written += written;
        }
        inner.poll_flush(context)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.phase() == EXCHANGE {
            this.head_deadline = None;
            let before = buffer.filled().len();
            let read = ready!(this.inner().poll_read(context, buffer));
            this.ended |= read.is_err() || buffer.filled().len() == before;
            return Poll::Ready(read);
        }
        if this.refusal.is_none()
            && this.phase() == IN_HEAD
            && let Some((problem, end)) = this.fault_of_head(context)
        {
            this.refuse(problem, end);
        }
        if this.refusal.is_some() {
            // Once it is written, the end of the stream: pingora gives the connection up.
            return this.poll_refusal(context);
        }
        let before = buffer.filled().len();
        ready!(this.inner().poll_read(context, buffer))?;
        let grown = buffer.filled().len() - before;
        if grown > 0 {
            this.head_grew(grown);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.phase() == EXCHANGE {
            return this.inner().poll_write(context, bytes);
        }
        // No hook has seen this head, so what pingora writes is its own bare 400: ours goes out in its place.
        if this.refusal.is_none() {
            this.refuse(Problem::BadRequest, Termination::ParseError);
        }
        ready!(this.poll_refusal(context))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientStream({})", self.connection.client)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // Done when this is dropped, which is also what happens where pingora does not ask for it.
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let answered = self.refusal.is_some() || self.phase() == EXCHANGE;
        if answered
            && !self.ended
            && let Some(inner) = self.inner.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(inner, Arc::clone(&self.connection)));
        }
    }
}

/// Closes our half, then reads on for a while: what the client is still sending would be answered by a reset otherwise, which can
/// overtake our answer.
async fn linger(mut inner: Tls, _counted: Arc<Connection>) {
    inner.shutdown().await;
    let mut nowhere = tokio::io::sink();
    let mut rest = inner.take(DRAIN_BYTES_MAX);
    let _ = timeout(ms(DRAIN_MS), tokio::io::copy(&mut rest, &mut nowhere)).await;
}

impl UniqueID for ClientStream {
    fn id(&self) -> i32 {
        self.tls().id()
    }
}

impl Ssl for ClientStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.tls().get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls().get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.tls().selected_alpn_proto()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.tls().get_timing_digest()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.tls().get_proxy_digest()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.tls().get_socket_digest()
    }
}

impl Peek for ClientStream {}
