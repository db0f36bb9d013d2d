//! A backend: a small server of HTTP/1.1 in plain text, whose condition is changed while it runs, and which dies and comes back.

use std::convert::Infallible;
use std::future::pending;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::condition::{CONNECT_DELAY, Condition, work};
use super::plan::NUMBER;
use super::tally::Tally;

/// Where proxies ask whether it is ready.
pub(super) const READY: &str = "/readyz";

/// What an answer holds.
const BODY: &[u8] = &[b'x'; 1024];

/// One of the two.
#[derive(Debug)]
pub(super) struct Backend {
    port: u16,
    shared: Arc<Shared>,
    listening: Option<Listening>,
}

/// What its connections share.
#[derive(Debug)]
struct Shared {
    index: usize,
    condition: Mutex<Condition>,
    in_flight: AtomicU32,
    /// Since it came up.
    answered: AtomicU32,
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct Listening {
    leave: watch::Sender<bool>,
    /// It owns the listener and all connections.
    task: JoinHandle<()>,
}

impl Backend {
    /// One that is well, at this port. It counts as `index` in the tally.
    pub(super) async fn start(index: usize, port: u16, tally: Arc<Tally>) -> Result<Backend> {
        let shared = Shared {
            index,
            condition: Mutex::new(Condition::Well),
            in_flight: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            tally,
        };
        let mut backend = Backend {
            port,
            shared: Arc::new(shared),
            listening: None,
        };
        backend.come_up().await?;
        Ok(backend)
    }

    /// From now on it is so.
    pub(super) fn becomes(&self, condition: Condition) {
        let mut current = self.shared.condition.lock();
        **current.as_mut().unwrap_or_else(|error| error.get_mut()) = condition;
    }

    /// It dies, as a process does that is killed: the port and all connections are closed in whatever they do.
    pub(super) async fn die(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.task.abort();
            let _ = listening.task.await;
        }
    }

    /// It ends in the ordinary way: takes no more connections, closes idle ones, finishes what it has.
    pub(super) async fn end(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.leave.send_replace(true);
            let _ = listening.task.await;
        }
    }

    /// It listens, after it has died or ended.
    pub(super) async fn come_up(&mut self) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))
            .await
            .with_context(|| format!("a backend listens on port {}", self.port))?;
        self.shared.answered.store(0, Ordering::Relaxed);
        let (leave, leaving) = watch::channel(false);
        let task = tokio::spawn(listen(listener, Arc::clone(&self.shared), leaving));
        self.listening = Some(Listening { leave, task });
        Ok(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.task.abort();
        }
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, mut leaving: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(serve(stream, Arc::clone(&shared), leaving.clone()));
            }
            // Those that have ended are let go of.
            Some(_) = connections.join_next() => {}
            _ = leaving.changed() => break,
        }
    }
    drop(listener);
    connections.join_all().await;
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, mut leaving: watch::Receiver<bool>) {
    if shared.condition() == Condition::SlowToConnect {
        sleep(CONNECT_DELAY).await;
    }
    // If the connection is gone already, that shows soon enough.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // What a proxy does to a connection is its own business.
        _ = connection.as_mut() => return,
        _ = leaving.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Shared {
    fn condition(&self) -> Condition {
        *self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let condition = self.condition();
        let is_check = request.uri().path() == READY;
        let status = if is_check {
            match condition {
                Condition::Leaving => StatusCode::SERVICE_UNAVAILABLE,
                Condition::Frozen => pending().await,
                _ => StatusCode::OK,
            }
        } else {
            self.work(condition, request).await
        };
        let body = if is_check { &[][..] } else { BODY };
        let mut response = Response::new(Full::new(Bytes::from_static(body)));
        *response.status_mut() = status;
        if self.condition() == Condition::SlowToConnect {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn work(&self, condition: Condition, request: Request<Incoming>) -> StatusCode {
        let number = request.headers().get(NUMBER);
        let number = number.and_then(|number| number.to_str().ok()?.parse().ok());
        if request.into_body().collect().await.is_err() {
            return StatusCode::BAD_REQUEST;
        }
        // What has no number is a look at whether the proxy is ready.
        if let Some(number) = number {
            self.tally.note(self.index, number);
        }
        let number = number.unwrap_or_default();
        match condition {
            Condition::FailingFast => StatusCode::INTERNAL_SERVER_ERROR,
            Condition::Frozen => pending().await,
            Condition::Well | Condition::Leaving | Condition::SlowToConnect | Condition::Cold => {
                let in_flight = InFlight::enter(&self.in_flight);
                let answered = self.answered.load(Ordering::Relaxed);
                sleep(work(condition, number, in_flight.now, answered)).await;
                if self.condition() == Condition::Frozen {
                    return pending().await;
                }
                self.answered.fetch_add(1, Ordering::Relaxed);
                StatusCode::OK
            }
        }
    }
}

/// A request that is being worked on; it is counted until this is dropped, for a connection may end at any time.
struct InFlight<'a> {
    count: &'a AtomicU32,
    /// How many there were with it.
    now: u32,
}

impl InFlight<'_> {
    fn enter(count: &AtomicU32) -> InFlight<'_> {
        let now = count.fetch_add(1, Ordering::Relaxed) + 1;
        InFlight { count, now }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
