//! A web server behind mutual TLS that answers, waits, breaks off or hangs, as the path asks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt, stream};
use harness::server_config;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// A request as it has arrived, its body read.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    /// A field's value; all of them, joined by a bar, if there are several.
    pub(crate) fn header(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(field, _)| field == name);
        values
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>()
            .join(" | ")
    }
}

/// One backend. Everything stops, open connections included, when it is dropped.
pub(crate) struct Backend {
    name: String,
    address: SocketAddr,
    identity: PathBuf,
    state: Arc<State>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    name: String,
    not_ready: AtomicBool,
    /// Of this many readiness checks one is broken off; 0 for none.
    check_broken_every: AtomicU64,
    checks: AtomicU64,
    /// Added to every answer but those of the checks, in milliseconds.
    delay_ms: AtomicU64,
    /// The status of every answer but those of the checks, given at once; 0 for what the path asks.
    status: AtomicU16,
    /// How long a connection may be idle, in milliseconds; 0 for ever.
    idle_ms: AtomicU64,
    connections: AtomicUsize,
    received: Mutex<Vec<Received>>,
}

type Answer = Result<Response<BoxBody<Bytes, std::io::Error>>, std::io::Error>;

impl Backend {
    pub(crate) async fn start(name: &str, identity: &Path, port: u16) -> Result<Backend> {
        Backend::start_at(name, identity, ([127, 0, 0, 1], port).into())
    }

    pub(crate) fn start_at(name: &str, identity: &Path, address: SocketAddr) -> Result<Backend> {
        let mut backend = Backend {
            name: name.to_owned(),
            address,
            identity: identity.to_owned(),
            state: Arc::new(State {
                name: name.to_owned(),
                ..State::default()
            }),
            serving: None,
        };
        backend.revive()?;
        Ok(backend)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Listens (again) on its port, with its identity as it is now.
    pub(crate) fn revive(&mut self) -> Result<()> {
        let tls = server_config(&self.identity, &[b"h2", b"http/1.1"])?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        let listener = socket.listen(1024)?;
        self.serving = Some(tokio::spawn(accept(
            listener,
            acceptor,
            Arc::clone(&self.state),
        )));
        Ok(())
    }

    /// As if its process had been killed: the port is closed, and every connection with it.
    pub(crate) async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    pub(crate) fn set_identity(&mut self, identity: &Path) {
        self.identity = identity.to_owned();
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.state.not_ready.store(!ready, Ordering::SeqCst);
    }

    pub(crate) fn break_every_check(&self, of: u64) {
        self.state.check_broken_every.store(of, Ordering::SeqCst);
    }

    pub(crate) fn checks(&self) -> u64 {
        self.state.checks.load(Ordering::SeqCst)
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.state
            .delay_ms
            .store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// From now on this is answered at once to everything but checks; 0 for what the path asks.
    pub(crate) fn set_status(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn set_idle(&self, idle: Duration) {
        self.state
            .idle_ms
            .store(idle.as_millis() as u64, Ordering::SeqCst);
    }

    /// Connections that were made to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many requests it has received so far, checks left out.
    pub(crate) fn count(&self) -> usize {
        self.state
            .received
            .lock()
            .expect("no test panics with it")
            .len()
    }

    /// What it has received so far, checks left out.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state
            .received
            .lock()
            .expect("no test panics with it")
            .clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    // Dropped with this task: its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    state.connections.fetch_add(1, Ordering::SeqCst);
    let _ = stream.set_nodelay(true);
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(|request| answer(Arc::clone(&state), request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new());
    match state.idle_ms.load(Ordering::SeqCst) {
        0 => builder.header_read_timeout(None),
        idle => builder.header_read_timeout(Duration::from_millis(idle)),
    };
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Answer {
    if request.uri().path() == "/readyz" {
        return readiness(&state);
    }
    if request.uri().path() == "/upgrade" {
        return Ok(upgrade(request));
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if path == "/early" {
        return Ok(text(StatusCode::FORBIDDEN, "no need to read on"));
    }
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let received = Received {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
    };
    state
        .received
        .lock()
        .expect("no test panics with it")
        .push(received);
    if let status @ 1.. = state.status.load(Ordering::SeqCst) {
        return Ok(text(
            StatusCode::from_u16(status).expect("a status"),
            &state.name,
        ));
    }
    sleep(Duration::from_millis(state.delay_ms.load(Ordering::SeqCst))).await;
    match path.split('/').nth(1).unwrap_or_default() {
        // Everything was read and nothing is said.
        "reset" => Err(std::io::ErrorKind::ConnectionReset.into()),
        "hang" => std::future::pending().await,
        "half" => Ok(Response::new(half())),
        "sleep" => {
            let ms = path
                .rsplit('/')
                .next()
                .and_then(|ms| ms.parse().ok())
                .unwrap_or(0);
            sleep(Duration::from_millis(ms)).await;
            Ok(text(StatusCode::OK, &state.name))
        }
        "status" => {
            let status = path
                .rsplit('/')
                .next()
                .and_then(|status| status.parse().ok());
            Ok(text(status.unwrap_or(StatusCode::OK), &state.name))
        }
        "large" => Ok(Response::new(full(vec![b'x'; 4 << 20]))),
        "forged" => {
            let mut answer = text(StatusCode::OK, &state.name);
            for name in [
                "x-request-id",
                "traceresponse",
                "x-served-by",
                "strict-transport-security",
                "keep-alive",
            ] {
                answer
                    .headers_mut()
                    .insert(name, "forged".parse().expect("a value"));
            }
            Ok(answer)
        }
        _ => {
            let what = json!({ "backend": state.name, "method": parts.method.as_str(), "length": body.len() });
            Ok(text(StatusCode::OK, &what.to_string()))
        }
    }
}

/// Switches protocols, and from then on says everything twice.
fn upgrade(request: Request<Incoming>) -> Response<BoxBody<Bytes, std::io::Error>> {
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let mut upgraded = TokioIo::new(upgraded);
        let mut said = [0; 64];
        while let Ok(length @ 1..) = upgraded.read(&mut said).await {
            let twice = said[..length].repeat(2);
            if upgraded.write_all(&twice).await.is_err() || upgraded.flush().await.is_err() {
                return;
            }
        }
    });
    let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
        answer
            .headers_mut()
            .insert(name, value.parse().expect("a value"));
    }
    answer
}

fn readiness(state: &State) -> Answer {
    let check = state.checks.fetch_add(1, Ordering::SeqCst);
    let broken = state.check_broken_every.load(Ordering::SeqCst);
    if broken > 0 && check.is_multiple_of(broken) {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    Ok(if state.not_ready.load(Ordering::SeqCst) {
        text(StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else {
        text(StatusCode::OK, "ready")
    })
}

fn text(status: StatusCode, text: &str) -> Response<BoxBody<Bytes, std::io::Error>> {
    let mut answer = Response::new(full(text.to_owned()));
    *answer.status_mut() = status;
    answer
}

fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Ten bytes, and a moment later, when they have surely been passed on, the connection is broken off.
fn half() -> BoxBody<Bytes, std::io::Error> {
    let frames = stream::iter([false, true]).then(|end| async move {
        if end {
            sleep(Duration::from_millis(100)).await;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Ok(Frame::data(Bytes::from_static(b"ten bytes.")))
    });
    BodyExt::boxed(StreamBody::new(frames))
}
