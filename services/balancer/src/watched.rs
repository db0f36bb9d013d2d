//! The bytes of an HTTP/2 client on their way to `h2`, counted frame by frame against a budget, and timed where a frame is not whole; and
//! those of `h2` on their way to the client, gathered.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::clock::{Clock, Moment};
use crate::config::Request;
use crate::frame_budget::{Flood, FrameBudget, Limits};
use crate::socket::Socket;
use crate::stream::GATHER_BYTES;
use crate::worker::Worker;

/// What is known of a connection by looking at its bytes, and who is at work on it.
#[derive(Debug)]
pub struct Watch {
    clock: Rc<Clock>,
    budget: RefCell<FrameBudget>,
    flood: Cell<Option<Flood>>,
    is_told: Cell<bool>,
    /// When what has begun and is not whole must be, if anything is.
    whole_by: Cell<Option<Moment>>,
    header_ms: u64,
    body_idle_ms: u64,
    streams: Cell<usize>,
    idle_since: Cell<Moment>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Of a connection that has just begun.
    pub fn new(clock: &Rc<Clock>, config: &Request) -> Rc<Watch> {
        Rc::new(Watch {
            header_ms: config.header_timeout_ms,
            body_idle_ms: config.body_idle_timeout_ms,
            clock: Rc::clone(clock),
            budget: RefCell::new(FrameBudget::new(Limits::default())),
            flood: Cell::new(None),
            is_told: Cell::new(false),
            whole_by: Cell::new(None),
            streams: Cell::new(0),
            idle_since: Cell::new(clock.now()),
            waker: RefCell::new(None),
        })
    }

    /// The flood that the client has sent, if it has.
    pub fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// When a frame, or a block of header fields, that has begun must be whole.
    pub fn whole_by(&self) -> Option<Moment> {
        self.whole_by.get()
    }

    /// Since when no request is at work; nothing if one is.
    pub fn idle_since(&self) -> Option<Moment> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// Content has been sent: the client may answer with updates of its windows.
    pub fn sent(&self, bytes: usize) {
        // A client may update the stream's window and the connection's, however small the frames are that it gets.
        let frames = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        self.budget
            .borrow_mut()
            .earn_window_updates(frames.saturating_mul(2).saturating_add(2));
    }

    /// Counts a request until what is returned is dropped.
    pub fn stream(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream {
            watch: Rc::clone(self),
            ended_well: Cell::new(false),
        }
    }

    /// Who is to be woken when the last request has ended.
    pub fn wake(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn saw(&self, bytes: &[u8]) {
        let mut budget = self.budget.borrow_mut();
        if let Err(flood) = budget.advance(bytes, self.clock.now()) {
            self.flood.set(Some(flood));
        }
        let now = self.clock.now();
        self.whole_by.set(match budget.is_inside() {
            true if budget.is_inside_data() => Some(now + self.body_idle_ms),
            // In all, however it trickles in.
            true => self.whole_by.get().or(Some(now + self.header_ms)),
            false => None,
        });
    }
}

/// A request that is at work.
#[derive(Debug)]
pub struct Stream {
    watch: Rc<Watch>,
    ended_well: Cell<bool>,
}

impl Stream {
    /// So much content was sent.
    pub fn sent(&self, bytes: usize) {
        self.watch.sent(bytes);
    }

    /// Its answer was delivered.
    pub fn ended_well(&self) {
        self.ended_well.set(true);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let watch = &self.watch;
        if self.ended_well.get() {
            watch.budget.borrow_mut().earn_resets(1);
        }
        watch.streams.set(watch.streams.get() - 1);
        if watch.streams.get() == 0 {
            watch.idle_since.set(watch.clock.now());
            if let Some(waker) = watch.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// What an HTTP/2 connection has written and the kernel has not: `h2` writes each frame by itself, and what several requests have to say
/// at the same time goes out together, once whoever drives the connection has heard them all.
#[derive(Debug)]
pub struct Wire {
    worker: Rc<Worker>,
    io: TlsStream<Socket>,
    out: Vec<u8>,
    /// How much of it TLS has taken.
    taken: usize,
}

impl Wire {
    /// Of a connection on which nothing was written yet.
    pub fn new(worker: &Rc<Worker>, io: TlsStream<Socket>) -> Rc<RefCell<Wire>> {
        Rc::new(RefCell::new(Wire {
            worker: Rc::clone(worker),
            io,
            out: Vec::new(),
            taken: 0,
        }))
    }

    /// Hands all of it to the kernel.
    ///
    /// # Errors
    /// What the kernel or TLS says.
    pub fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.out.len() {
            let rest = &self.out[self.taken..];
            match ready!(Pin::new(&mut self.io).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.taken += taken,
            }
        }
        if !self.out.is_empty() {
            self.worker.buffer_back(std::mem::take(&mut self.out));
            self.taken = 0;
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Makes room for more; there is none while the client does not take what is here.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() - self.taken >= GATHER_BYTES {
            ready!(self.poll_out(context))?;
        }
        if self.out.capacity() == 0 {
            self.out = self.worker.buffer();
        }
        Poll::Ready(Ok(()))
    }
}

/// A connection whose reads are watched, and whose writes are gathered.
#[derive(Debug)]
pub struct Watched {
    wire: Rc<RefCell<Wire>>,
    watch: Rc<Watch>,
}

impl Watched {
    /// Lets `watch` see what comes on `wire`.
    pub fn new(wire: &Rc<RefCell<Wire>>, watch: &Rc<Watch>) -> Watched {
        Watched {
            wire: Rc::clone(wire),
            watch: Rc::clone(watch),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.flood.get().is_some() {
            // Nothing more is read. Whoever asks is to look what has happened, once.
            if !self.watch.is_told.replace(true) {
                context.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.wire.borrow_mut().io).poll_read(context, buffer))?;
        self.watch.saw(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.borrow_mut();
        ready!(wire.poll_room(context))?;
        wire.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.borrow_mut();
        ready!(wire.poll_room(context))?;
        let before = wire.out.len();
        for part in parts {
            wire.out.extend_from_slice(part);
        }
        Poll::Ready(Ok(wire.out.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way: see [`Wire::poll_out`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire.borrow_mut();
        ready!(wire.poll_out(context))?;
        Pin::new(&mut wire.io).poll_shutdown(context)
    }
}
