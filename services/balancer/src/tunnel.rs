//! A connection after it has changed its protocol: bytes pass in both directions until one side ends.
//!
//! For a WebSocket the frames' boundaries are followed, though nothing of them is read, so that at the end of the balancer, or of a backend
//! that is drained, both sides are told in a frame of its own: 1001, going away (RFC 6455, 7.4.1).

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;

use crate::clock::{Alarm, Moment};
use crate::edge::ms;
use crate::stream::Stream;
use crate::websocket::{Boundary, close_frame};
use crate::worker::{Phase, Worker};

/// The status of a WebSocket that is ended because the balancer or the backend goes.
const GOING_AWAY: u16 = 1001;
/// How long one side may go on when the other has ended.
const HALF_OPEN: Duration = Duration::from_secs(2);
/// How long both sides have to answer that they are told to end.
const GOODBYE: Duration = Duration::from_millis(500);

/// One end of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The bytes.
    pub stream: &'a Stream,
    /// What was read from it already.
    pub buffer: &'a RefCell<BytesMut>,
    /// For reads.
    pub reading: &'a Alarm,
    /// For writes.
    pub writing: &'a Alarm,
}

/// How many bytes have passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

/// One direction.
struct Way<'a> {
    worker: &'a Worker,
    from: End<'a>,
    to: End<'a>,
    /// When anything last passed, either way.
    last: &'a Cell<Moment>,
    moved: Cell<u64>,
    boundary: RefCell<Boundary>,
    /// Whether bytes are on their way that the boundary knows of already.
    is_writing: Cell<bool>,
    is_going: &'a Cell<bool>,
}

/// Passes bytes both ways until both sides have ended, or one of them in disorder, or neither has said anything for too long.
pub async fn run(
    worker: &Worker,
    client: End<'_>,
    backend: End<'_>,
    is_websocket: bool,
    mut drained: watch::Receiver<bool>,
) -> Moved {
    let _counted = worker.edge.traffic.tunnel();
    let (last, is_going) = (Cell::new(worker.clock.now()), Cell::new(false));
    let way = |from, to| Way {
        worker,
        from,
        to,
        last: &last,
        moved: Cell::new(0),
        boundary: RefCell::new(Boundary::new()),
        is_writing: Cell::new(false),
        is_going: &is_going,
    };
    let (up, down) = (way(client, backend), way(backend, client));
    let pass = async {
        let (mut up, mut down) = (pin!(up.pass()), pin!(down.pass()));
        let (ended, other) = tokio::select! {
            ended = &mut up => (ended, down.as_mut()),
            ended = &mut down => (ended, up.as_mut()),
        };
        if ended == Ended::InOrder {
            let _ = tokio::time::timeout(HALF_OPEN, other).await;
        }
        if is_going.get() {
            // Its goodbyes are still to be said.
            pending::<()>().await;
        }
    };
    let goodbye = async {
        let mut phase = worker.phase.clone();
        // An error is the end of those who would say so.
        tokio::select! {
            _ = phase.wait_for(|phase| *phase >= Phase::Ending) => {}
            _ = drained.wait_for(|is_drained| *is_drained) => {}
        }
        if is_websocket {
            is_going.set(true);
            tokio::join!(up.say_goodbye(true), down.say_goodbye(false));
            // By a timer of its own: the alarms' times are those of the ways.
            let _ = tokio::time::timeout(GOODBYE, until_closed(client)).await;
        }
    };
    tokio::select! {
        () = pass => {}
        () = goodbye => {}
    }
    Moved {
        up: up.moved.get(),
        down: down.moved.get(),
    }
}

/// How one direction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its sender has said that there is no more.
    InOrder,
    /// One of its ends is broken, or silent for too long.
    Broken,
}

/// Reads what nobody wants any more, until the end.
async fn until_closed(end: End<'_>) {
    while let Ok(1..) = end.stream.read(end.buffer).await {
        end.buffer.borrow_mut().clear();
    }
}

impl Way<'_> {
    async fn pass(&self) -> Ended {
        loop {
            let bytes = match self.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    let _ = self.to.stream.shutdown().await;
                    return Ended::InOrder;
                }
                Err(broken) => return broken,
            };
            let len = self.follow(&bytes);
            self.is_writing.set(true);
            let limit = ms(self.worker.edge.config.request.write_timeout_ms);
            let write = self.to.stream.write_all(&bytes[..len]);
            if !matches!(self.to.writing.within(limit, write).await, Ok(Ok(()))) {
                return Ended::Broken;
            }
            self.is_writing.set(false);
            self.moved.set(self.moved.get() + len as u64);
            self.last.set(self.worker.clock.now());
            if self.is_going.get() && self.boundary.borrow().is_at_boundary() {
                return Ended::InOrder;
            }
        }
    }

    /// How many of these bytes are passed on: all, or, at the end, those of the frame that has begun.
    fn follow(&self, bytes: &[u8]) -> usize {
        let mut boundary = self.boundary.borrow_mut();
        if !self.is_going.get() {
            boundary.advance(bytes);
            return bytes.len();
        }
        match boundary.is_at_boundary() {
            true => 0,
            false => boundary.split_at_boundary(bytes),
        }
    }

    /// What comes next; nothing at an end in order.
    async fn next(&self) -> Result<Option<BytesMut>, Ended> {
        let idle_ms = self.worker.edge.config.request.tunnel_idle_s * 1000;
        loop {
            let there = self.from.buffer.borrow_mut().split();
            if !there.is_empty() {
                return Ok(Some(there));
            }
            let due = self.last.get().saturating_add(idle_ms);
            if self.worker.clock.now() >= due {
                return Err(Ended::Broken);
            }
            let read = self.from.stream.read(self.from.buffer);
            match self.from.reading.until(due, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => return Ok(None),
                Ok(Err(_)) => return Err(Ended::Broken),
                // The other direction may have moved in the meantime.
                Err(_) => {}
            }
        }
    }

    /// Tells this way's receiver that the balancer goes, once the frame that is on its way has ended. What a client would send is masked.
    async fn say_goodbye(&self, is_masked: bool) {
        let due = self.worker.clock.after(GOODBYE);
        let is_between = || !self.is_writing.get() && self.boundary.borrow().is_at_boundary();
        while !is_between() && self.worker.clock.now() < due {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if !is_between() || self.boundary.borrow().is_closing() {
            return;
        }
        let mut frame = Vec::new();
        let mask = is_masked.then(rand::random);
        close_frame(GOING_AWAY, "the server goes", mask, &mut frame);
        let write = self.to.stream.write_all(&frame);
        let _ = self.to.writing.within(GOODBYE, write).await;
    }
}
