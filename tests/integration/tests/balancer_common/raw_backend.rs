//! A backend whose every byte is scripted.
//!
//! It answers readiness checks by itself. Of any other request it reads the head alone; what becomes of the rest of it, of the answer and
//! of the connection is the script's affair.

use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use harness::{server_config, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::SOON;

/// What the kernel holds of a connection in each direction, about.
const ROOM_BYTES: u32 = 262_144;

/// What goes on after a script has done its part: the next request on the connection, or nothing more.
pub(crate) type Next = Option<Conversation>;
type Script = Arc<dyn Fn(Conversation) -> Scripted + Send + Sync>;
type Scripted = Pin<Box<dyn Future<Output = Result<Next>> + Send>>;

/// A request as its bytes have come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
    /// Up to the blank line, that included.
    pub(crate) head: Vec<u8>,
    /// What the script has read of the content, as it came: chunks are not taken apart.
    pub(crate) body: Vec<u8>,
}

impl Heard {
    /// The head, byte by byte a character.
    pub(crate) fn text(&self) -> String {
        self.head.iter().map(|byte| char::from(*byte)).collect()
    }

    /// The first line.
    pub(crate) fn line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// A field's value; all of them, joined by a bar, if there are several.
    pub(crate) fn header(&self, name: &str) -> String {
        let text = self.text();
        let values = text.split("\r\n").skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        values.collect::<Vec<_>>().join(" | ")
    }
}

/// One backend. Everything stops, open connections included, when it is dropped.
pub(crate) struct RawBackend {
    name: String,
    port: u16,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    script: Script,
    /// Connections are taken, and nothing is ever said on them.
    is_mute: AtomicBool,
    muted: AtomicUsize,
    muted_closed: AtomicUsize,
    connections: AtomicUsize,
    closed: AtomicUsize,
    heard: Mutex<Vec<Heard>>,
}

impl RawBackend {
    pub(crate) fn start<S, F>(name: &str, identity: &Path, port: u16, script: S) -> Result<Self>
    where
        S: Fn(Conversation) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Next>> + Send + 'static,
    {
        let tls = server_config(identity, &[b"http/1.1"])?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // So that what one side does not read is soon noticed by the other.
        socket.set_send_buffer_size(ROOM_BYTES)?;
        socket.set_recv_buffer_size(ROOM_BYTES)?;
        socket.bind(([127, 0, 0, 1], port).into())?;
        let listener = socket.listen(1024)?;
        let state = Arc::new(State {
            script: Arc::new(move |conversation| Box::pin(script(conversation))),
            is_mute: AtomicBool::new(false),
            muted: AtomicUsize::new(0),
            muted_closed: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            heard: Mutex::default(),
        });
        Ok(RawBackend {
            name: name.to_owned(),
            port,
            serving: tokio::spawn(accept(listener, acceptor, Arc::clone(&state))),
            state,
        })
    }

    /// As a configuration has it.
    pub(crate) fn place(&self) -> (&str, u16) {
        (&self.name, self.port)
    }

    /// From now on connections are taken, and there is no handshake on them.
    pub(crate) fn set_mute(&self, is_mute: bool) {
        self.state.is_mute.store(is_mute, Ordering::SeqCst);
    }

    /// Connections that were met by silence.
    pub(crate) fn muted(&self) -> usize {
        self.state.muted.load(Ordering::SeqCst)
    }

    /// Those of them that the other side has closed.
    pub(crate) fn muted_closed(&self) -> usize {
        self.state.muted_closed.load(Ordering::SeqCst)
    }

    /// Connections on which at least one request has come.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections of which a script has seen that the other side has closed them.
    pub(crate) fn closed(&self) -> usize {
        self.state.closed.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait_for_closed(&self, count: usize) -> Result<()> {
        wait_until("the backend's connections are closed", SOON, async || {
            self.closed() >= count
        })
        .await
    }

    /// The requests so far, checks left out.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.state
            .heard
            .lock()
            .expect("no test panics with it")
            .clone()
    }

    pub(crate) async fn wait_for_heard(&self, count: usize) -> Result<()> {
        wait_until("requests reach the backend", SOON, async || {
            self.heard().len() >= count
        })
        .await
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    // Dropped with this task: its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    match state.is_mute.load(Ordering::SeqCst) {
                        true => mute(stream, &state).await,
                        // A connection that breaks is what many of these tests are about.
                        false => { let _ = serve(stream, acceptor, state).await; }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn mute(mut stream: TcpStream, state: &State) {
    state.muted.fetch_add(1, Ordering::SeqCst);
    let mut ignored = [0; 4096];
    while let Ok(1..) = stream.read(&mut ignored).await {}
    state.muted_closed.fetch_add(1, Ordering::SeqCst);
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let mut conversation = Conversation {
        stream,
        buffer: BytesMut::new(),
        connection: None,
        index: 0,
        heard: Heard::default(),
        state: Arc::clone(&state),
    };
    while conversation.next_head().await? {
        if conversation.heard.line().starts_with("GET /readyz ") {
            let ready = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready";
            conversation.write(ready).await?;
            continue;
        }
        match (state.script)(conversation).await? {
            Some(goes_on) => conversation = goes_on,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// A connection, of which the head of a request was read.
pub(crate) struct Conversation {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    connection: Option<usize>,
    index: usize,
    heard: Heard,
    state: Arc<State>,
}

impl Conversation {
    /// The request, and what was read of its content.
    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// The target of the request.
    pub(crate) fn path(&self) -> String {
        let line = self.heard.line();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        Ok(self.stream.flush().await?)
    }

    /// A small answer, whole.
    pub(crate) async fn answer(&mut self, body: &str) -> Result<()> {
        let length = body.len();
        self.write(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// So many bytes at a time, with a pause after each.
    pub(crate) async fn trickle(&mut self, bytes: &[u8], at: usize, pause: Duration) -> Result<()> {
        for part in bytes.chunks(at) {
            self.write(part).await?;
            sleep(pause).await;
        }
        Ok(())
    }

    /// What comes next of the content; empty at the end of the connection.
    pub(crate) async fn read(&mut self) -> Result<Vec<u8>> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(Vec::new());
        }
        let there = self.buffer.split().to_vec();
        self.keep(&there);
        Ok(there)
    }

    /// Exactly so many bytes of the content.
    pub(crate) async fn read_exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            ensure!(self.fill().await?, "closed in the middle of the content");
        }
        let there = self.buffer.split_to(length).to_vec();
        self.keep(&there);
        Ok(there)
    }

    /// Up to and with these bytes.
    pub(crate) async fn read_until(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|part| part == end) {
                return self.read_exactly(at + end.len()).await;
            }
            ensure!(self.fill().await?, "closed in the middle of the content");
        }
    }

    /// All of the content, chunks taken apart, trailers left out.
    pub(crate) async fn read_body(&mut self) -> Result<Vec<u8>> {
        if self.heard.header("transfer-encoding") != "chunked" {
            let length = self.heard.header("content-length");
            return self.read_exactly(length.parse().unwrap_or(0)).await;
        }
        let mut body = Vec::new();
        loop {
            let line = self.read_until(b"\r\n").await?;
            let digits = std::str::from_utf8(&line)?.trim_end();
            let length = usize::from_str_radix(digits, 16).with_context(|| digits.to_owned())?;
            if length == 0 {
                while self.read_until(b"\r\n").await? != b"\r\n" {}
                return Ok(body);
            }
            body.extend(self.read_exactly(length).await?);
            ensure!(self.read_exactly(2).await? == b"\r\n", "a chunk's end");
        }
    }

    /// Waits until something more comes, which is kept; false if that is the end.
    pub(crate) async fn has_more(&mut self) -> bool {
        !self.buffer.is_empty() || matches!(self.fill().await, Ok(true))
    }

    /// Whether the kernel has something that was not read yet.
    pub(crate) fn is_something_in_the_kernel(&self) -> Result<bool> {
        let tcp = self.stream.get_ref().0.as_fd().try_clone_to_owned()?;
        match std::net::TcpStream::from(tcp).peek(&mut [0]) {
            Ok(there) => Ok(there > 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads until the other side has closed, in order or not, which is counted.
    pub(crate) async fn hold(mut self) -> Result<Next> {
        while let Ok(true) = self.fill().await {
            self.buffer.clear();
        }
        self.state.closed.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }

    /// Reads all there is of what was sent, and then says nothing, until the test is over.
    pub(crate) async fn ignore_the_end(mut self) -> Result<Next> {
        while let Ok(true) = self.fill().await {
            self.buffer.clear();
        }
        std::future::pending().await
    }

    /// Breaks off with a reset.
    pub(crate) fn reset(self) -> Result<Next> {
        self.stream.get_ref().0.set_zero_linger()?;
        Ok(None)
    }

    /// Closes in order, TLS included.
    pub(crate) async fn close(mut self) -> Result<Next> {
        self.half_close().await?;
        Ok(None)
    }

    /// Closes TCP in order, and TLS not at all.
    pub(crate) fn close_without_tls(self) -> Result<Next> {
        Ok(None)
    }

    /// Closes our half, TLS included.
    pub(crate) async fn half_close(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }

    /// The connection, for the next request.
    pub(crate) fn go_on(self) -> Result<Next> {
        Ok(Some(self))
    }

    fn keep(&mut self, bytes: &[u8]) {
        // Of what is large, the beginning will do.
        let room = (1_usize << 20).saturating_sub(self.heard.body.len());
        let bytes = &bytes[..bytes.len().min(room)];
        self.heard.body.extend_from_slice(bytes);
        let mut all = self.state.heard.lock().expect("no test panics with it");
        if let Some(heard) = all.get_mut(self.index) {
            heard.body.extend_from_slice(bytes);
        }
    }

    async fn fill(&mut self) -> Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// Reads the next head; false if the connection ends before it begins.
    async fn next_head(&mut self) -> Result<bool> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await? {
                match self.buffer.is_empty() {
                    true => return Ok(false),
                    false => bail!("closed in the middle of a head"),
                }
            }
        };
        self.heard = Heard {
            connection: 0,
            head: self.buffer.split_to(end).to_vec(),
            body: Vec::new(),
        };
        if self.heard.line().starts_with("GET /readyz ") {
            return Ok(true);
        }
        let made = || self.state.connections.fetch_add(1, Ordering::SeqCst);
        self.heard.connection = *self.connection.get_or_insert_with(made);
        let mut all = self.state.heard.lock().expect("no test panics with it");
        self.index = all.len();
        all.push(self.heard.clone());
        Ok(true)
    }
}
