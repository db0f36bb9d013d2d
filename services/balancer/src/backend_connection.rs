//! One connection to a backend: a request is written, an answer is read, as strictly as a client's request was.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;

use crate::body::{Body, Content};
use crate::clock::{Alarm, Moment};
use crate::http1::{Answering, Limits, Refusal, ResponseHead};
use crate::retry::Sent;
use crate::stream::Stream;

/// How long the end of TCP may take after that of TLS.
const END: Duration = Duration::from_millis(200);

/// A connection that can take one request at a time.
#[derive(Debug)]
pub struct BackendConnection {
    /// The bytes.
    pub stream: Stream,
    /// What was read and not understood yet.
    pub buffer: RefCell<BytesMut>,
    /// For reads.
    pub reading: Alarm,
    /// For writes.
    pub writing: Alarm,
    /// Whose it is, by the number that no other has.
    pub backend: u64,
    /// Where it leads to.
    pub address: SocketAddr,
    /// Which identity it was made with.
    pub generation: u64,
    /// Since when it is in the pool.
    pub idle_since: Cell<Moment>,
    /// What had been written before this request.
    before: Cell<u64>,
    has_answered: Cell<bool>,
}

/// Why an answer could not be read, or a request not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The backend has closed, in order or not, in the middle of something.
    Closed,
    /// It sent or took nothing for too long.
    Late,
    /// It was found dead by a check while its answer was awaited.
    Dead,
    /// What it sent is not HTTP.
    Malformed(Refusal),
}

impl BackendConnection {
    /// A connection that nothing was sent on yet.
    pub fn new(
        stream: Stream,
        backend: u64,
        address: SocketAddr,
        generation: u64,
        (reading, writing): (Alarm, Alarm),
    ) -> BackendConnection {
        BackendConnection {
            stream,
            buffer: RefCell::default(),
            reading,
            writing,
            backend,
            address,
            generation,
            idle_since: Cell::new(0),
            before: Cell::new(0),
            has_answered: Cell::new(false),
        }
    }

    /// A request begins here.
    pub fn begin(&self) {
        self.before.set(self.stream.written());
        self.has_answered.set(false);
    }

    /// Writes a part of the request.
    ///
    /// # Errors
    /// When the backend takes nothing any more, or not within `limit`.
    pub async fn write(&self, bytes: &[u8], limit: Duration) -> Result<(), Broken> {
        match self
            .writing
            .within(limit, self.stream.write_all(bytes))
            .await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Closed),
            Err(_) => Err(Broken::Late),
        }
    }

    /// Reads more; false at the end of the connection.
    async fn read(&self) -> Result<bool, Broken> {
        match self.stream.read(&self.buffer).await {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.has_answered.set(true);
                Ok(true)
            }
            // Not the end in order: TLS was not closed.
            Err(_) => Err(Broken::Closed),
        }
    }

    /// The next head, in the room of one that is done with. No deadline: that depends on how far the request has come.
    ///
    /// # Errors
    /// As [`Broken`].
    pub async fn head(
        &self,
        answering: Answering,
        limits: &Limits,
        mut room: Option<ResponseHead>,
    ) -> Result<ResponseHead, Broken> {
        loop {
            if let Some(head) = self.head_at_hand(answering, limits, &mut room)? {
                return Ok(head);
            }
            if !self.read().await? {
                return Err(Broken::Closed);
            }
        }
    }

    fn head_at_hand(
        &self,
        answering: Answering,
        limits: &Limits,
        room: &mut Option<ResponseHead>,
    ) -> Result<Option<ResponseHead>, Broken> {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return Ok(None);
        }
        ResponseHead::parse(&mut buffer, limits, answering, room.take()).map_err(Broken::Malformed)
    }

    /// The next piece of the content, if it was read already.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn content_at_hand(
        &self,
        body: &mut Body,
        limits: &Limits,
    ) -> Result<Option<Content>, Broken> {
        body.next(&mut self.buffer.borrow_mut(), limits)
            .map_err(Broken::Malformed)
    }

    /// Reads more of the content; what ends with the connection may end now.
    ///
    /// # Errors
    /// As [`Broken`]; `Late` after `limit` without a byte.
    pub async fn more(&self, body: &Body, limit: Duration) -> Result<More, Broken> {
        match self.reading.within(limit, self.read()).await {
            Ok(Ok(true)) => Ok(More::Bytes),
            Ok(Ok(false)) if body.ends_with_connection() => Ok(More::End),
            Ok(Ok(false)) => Err(Broken::Closed),
            Ok(Err(broken)) => Err(broken),
            Err(_) => Err(Broken::Late),
        }
    }

    /// How far the request has come, now that the connection is broken. Where the backend has closed before a byte of the request had
    /// reached it, it has certainly not acted on it: an idle connection that it gave up while our request was on its way.
    pub async fn sent(&self, broken: Broken) -> Sent {
        let before = self.before.get();
        if self.stream.written() == before {
            return Sent::Nothing;
        }
        if broken != Broken::Closed || self.has_answered.get() {
            return Sent::Perhaps;
        }
        // TLS says goodbye before TCP does; only the end of TCP tells what had arrived.
        let _ = self.reading.within(END, self.stream.end()).await;
        match self.stream.closed_unheard(before) {
            true => Sent::Nothing,
            false => Sent::Perhaps,
        }
    }

    /// Whether it is open, silent, and nothing is left over.
    pub fn is_idle(&self) -> bool {
        self.buffer.borrow().is_empty() && self.stream.is_idle()
    }
}

/// What a read of content has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// More bytes.
    Bytes,
    /// The connection's end, which is the content's.
    End,
}
