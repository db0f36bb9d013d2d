//! A client that speaks HTTP/1.0 or HTTP/1.1: reads heads and content, writes answers, keeps the connection or ends it.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::body::{Body, Content};
use crate::client::{Client, ClientFault, Fate, OwnAnswer, has_body};
use crate::clock::{Alarm, Moment};
use crate::edge::ms;
use crate::exchange::{answer, exchange};
use crate::headers::is_not_from_backends;
use crate::http1::{
    self, Connection, Framing, Refusal, RequestHead, ResponseHead, Trailers, write_chunk,
    write_end_of_chunks, write_field, write_response_head,
};
use crate::pace::Pace;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::record::{Protocol, Record};
use crate::stamp::Stamp;
use crate::stream::{GATHER_BYTES, Stream};
use crate::termination::Termination;
use crate::tunnel::End;
use crate::worker::Worker;

/// What is not copied for being written together with what comes after it.
const COPY_BYTES_MAX: usize = 8_192;
/// How long and how much is read after the last answer, so that the client reads it instead of a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 << 20;
/// How long our half may take to be closed.
const CLOSE: Duration = Duration::from_millis(500);

/// A client's connection.
#[derive(Debug)]
struct H1<'a> {
    worker: &'a Rc<Worker>,
    stream: Stream,
    peer: &'a Peer,
    buffer: RefCell<BytesMut>,
    out: RefCell<Vec<u8>>,
    reading: Alarm,
    writing: Alarm,
    total: Alarm,
    /// Of the request that is being served.
    body: RefCell<Body>,
    is_body_read: Cell<bool>,
    version_minor: Cell<u8>,
    may_keep: Cell<bool>,
    sending: Pace,
    taking: Pace,
    /// How the content of the answer is delimited.
    framing: Cell<Framing>,
    is_whole: Cell<bool>,
}

/// What has come on the connection.
enum Arrived {
    Request(RequestHead),
    Refused(Refusal),
    /// Not in time.
    Late,
    /// The client has closed, or was silent for too long.
    Nothing,
}

/// Serves a connection until it ends.
pub async fn serve(worker: &Rc<Worker>, stream: Stream, peer: &Peer) {
    let h1 = H1 {
        worker,
        stream,
        peer,
        buffer: RefCell::default(),
        out: RefCell::default(),
        reading: worker.clock.alarm(),
        writing: worker.clock.alarm(),
        total: worker.clock.alarm(),
        body: RefCell::new(Body::new(Framing::None)),
        is_body_read: Cell::new(true),
        version_minor: Cell::new(1),
        may_keep: Cell::new(false),
        sending: Pace::default(),
        taking: Pace::default(),
        framing: Cell::new(Framing::None),
        is_whole: Cell::new(false),
    };
    let mut room = None;
    loop {
        let fate = match h1.arrive(room.take()).await {
            Arrived::Request(head) => {
                let protocol = match head.version_minor() {
                    0 => Protocol::Http10,
                    _ => Protocol::Http11,
                };
                h1.begin(Some(&head));
                let record = Record::new(worker, peer, protocol, Some(head));
                let fate = exchange(worker, &h1, &record).await;
                room = record.finish();
                fate
            }
            Arrived::Refused(refusal) => {
                let end = Termination::of(refusal);
                h1.refuse(Problem::of(refusal), Some(refusal), end).await
            }
            Arrived::Late => {
                h1.refuse(Problem::RequestTimeout, None, Termination::ClientTimeout)
                    .await
            }
            Arrived::Nothing => {
                let _ = h1.writing.within(CLOSE, h1.stream.shutdown()).await;
                return;
            }
        };
        match fate {
            Fate::Keep => {}
            Fate::Close => return h1.linger().await,
            Fate::Abort => return,
        }
    }
}

impl H1<'_> {
    /// The next head. There may be nothing for a while; but once there is a byte, the head has its time, in all.
    async fn arrive(&self, mut room: Option<RequestHead>) -> Arrived {
        let limits = &self.worker.edge.limits;
        let config = &self.worker.edge.config.request;
        if self.buffer.borrow().is_empty() {
            // Idle connections may be many: they hold no room.
            *self.buffer.borrow_mut() = BytesMut::new();
            self.let_go();
            let idle = Duration::from_secs(config.keep_alive_s);
            match self.reading.within(idle, self.stream.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Arrived::Nothing,
            }
        }
        let due = self.worker.clock.after(ms(config.header_timeout_ms));
        loop {
            {
                let mut buffer = self.buffer.borrow_mut();
                if !buffer.is_empty() {
                    match RequestHead::parse(&mut buffer, limits, room.take()) {
                        Ok(Some(head)) => return Arrived::Request(head),
                        Ok(None) => {}
                        Err(refusal) => return Arrived::Refused(refusal),
                    }
                }
            }
            match self
                .reading
                .until(due, self.stream.read_a_little(&self.buffer))
                .await
            {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Arrived::Nothing,
                Err(_) if self.buffer.borrow().is_empty() => return Arrived::Nothing,
                Err(_) => return Arrived::Late,
            }
        }
    }

    /// Frees the room for answers.
    fn let_go(&self) {
        let out = self.out.take();
        if out.capacity() > 0 {
            self.worker.buffer_back(out);
        }
    }

    fn begin(&self, head: Option<&RequestHead>) {
        let framing = head.map_or(Framing::None, RequestHead::framing);
        *self.body.borrow_mut() = Body::new(framing);
        self.is_body_read.set(!framing.has_content());
        self.version_minor
            .set(head.map_or(1, RequestHead::version_minor));
        self.may_keep.set(head.is_some_and(RequestHead::keep_alive));
        self.sending.begin();
        self.taking.begin();
        self.framing.set(Framing::None);
        self.is_whole.set(false);
        *self.out.borrow_mut() = self.worker.buffer();
    }

    /// Answers what is no request.
    async fn refuse(&self, problem: Problem, refusal: Option<Refusal>, end: Termination) -> Fate {
        self.begin(None);
        let record = Record::new(self.worker, self.peer, Protocol::Http11, None);
        record.ends(end);
        if let Some(refusal) = refusal {
            record.refused(refusal);
        }
        answer(self.worker, self, &record, problem, refusal, true).await
    }

    /// Takes what is left of the content and is at hand; tells whether that was all.
    fn skip_content(&self) -> bool {
        let (mut body, mut buffer) = (self.body.borrow_mut(), self.buffer.borrow_mut());
        while !self.is_body_read.get() {
            match body.next(&mut buffer, &self.worker.edge.limits) {
                Ok(Some(Content::Data(_))) => {}
                Ok(Some(Content::End(_))) => self.is_body_read.set(true),
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// What the answer says of the connection.
    fn connection(&self, is_last: bool, framing: Framing) -> Connection {
        let keeps = self.may_keep.get() && !is_last && framing != Framing::UntilClose;
        self.may_keep.set(keeps);
        match (keeps, self.version_minor.get()) {
            (true, 0) => Connection::SayKeep,
            (true, _) => Connection::Keep,
            (false, _) => Connection::Close,
        }
    }

    /// Writes all of it. The client has its time for each step that it takes, and for all of them as the least rate has it.
    async fn write(&self, mut bytes: &[u8]) -> Result<(), ClientFault> {
        while !bytes.is_empty() {
            let write = self.stream.write_some(bytes);
            match self.writing.until(self.step_due(), write).await {
                Ok(Ok(written)) => bytes = &bytes[written..],
                Ok(Err(_)) => return Err(ClientFault::Gone),
                Err(_) => return Err(ClientFault::SlowReader),
            }
        }
        // TLS takes more than the kernel does: it is here that a client is waited for.
        let clock = &self.worker.clock;
        let (mut began, mut due) = (clock.now(), self.step_due());
        let mut seen = self.stream.written();
        poll_fn(|context| match self.stream.poll_flush(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(ClientFault::Gone)),
            Poll::Pending => {
                let written = self.stream.written();
                if written != seen {
                    let moved = usize::try_from(written - seen).unwrap_or(usize::MAX);
                    self.taking.moved(clock.now() - began, moved);
                    (began, due, seen) = (clock.now(), self.step_due(), written);
                }
                let late = self.writing.poll_due(due, context);
                late.map(|_| Err(ClientFault::SlowReader))
            }
        })
        .await
    }

    /// When a client that takes nothing is too slow.
    fn step_due(&self) -> Moment {
        let clock = &self.worker.clock;
        let config = &self.worker.edge.config.request;
        let paced = self.taking.due(clock.now(), config.rate());
        clock.after(ms(config.write_timeout_ms)).min(paced)
    }

    /// Closes our half, then reads on for a while: what the client is still sending would be answered by a reset otherwise, which can
    /// overtake our answer.
    async fn linger(&self) {
        if !matches!(
            self.writing.within(CLOSE, self.stream.shutdown()).await,
            Ok(Ok(()))
        ) {
            return;
        }
        let drain = async {
            let mut left = LINGER_BYTES_MAX;
            while left > 0 {
                self.buffer.borrow_mut().clear();
                match self.stream.read(&self.buffer).await {
                    Ok(read @ 1..) => left = left.saturating_sub(read),
                    Ok(0) | Err(_) => return,
                }
            }
        };
        let _ = self.reading.within(LINGER, drain).await;
    }
}

impl Client for H1<'_> {
    fn total(&self) -> &Alarm {
        &self.total
    }

    async fn content(&self) -> Result<Content, ClientFault> {
        let clock = &self.worker.clock;
        let config = &self.worker.edge.config.request;
        let limit = ms(config.body_idle_timeout_ms);
        loop {
            let next = self
                .body
                .borrow_mut()
                .next(&mut self.buffer.borrow_mut(), &self.worker.edge.limits);
            match next {
                Ok(Some(content)) => {
                    self.is_body_read.set(matches!(content, Content::End(_)));
                    return Ok(content);
                }
                Ok(None) => {}
                Err(refusal) => return Err(ClientFault::Refused(refusal)),
            }
            let began = clock.now();
            let due = clock
                .after(limit)
                .min(self.sending.due(began, config.rate()));
            match self
                .reading
                .until(due, self.stream.read(&self.buffer))
                .await
            {
                Ok(Ok(read @ 1..)) => self.sending.moved(clock.now() - began, read),
                Ok(Ok(0) | Err(_)) => return Err(ClientFault::Gone),
                Err(_) => return Err(ClientFault::SlowSender),
            }
        }
    }

    /// What comes early is kept: the next requests, or content that nobody has asked for yet.
    async fn gone(&self) -> ClientFault {
        loop {
            if self.buffer.borrow().len() >= self.worker.edge.limits.head_bytes_max {
                pending::<()>().await;
            }
            if self.stream.readable().await.is_err() {
                return ClientFault::Gone;
            }
            if !matches!(self.stream.read_a_little(&self.buffer).await, Ok(1..)) {
                return ClientFault::Gone;
            }
        }
    }

    fn put_interim(&self, head: &ResponseHead) {
        // HTTP/1.0 knows none (RFC 9110, 15.2).
        if self.version_minor.get() > 0 {
            let mut out = self.out.borrow_mut();
            write_response_head(
                head,
                Framing::None,
                Connection::Keep,
                is_not_from_backends,
                &mut out,
            );
            http1::end_head(&mut out);
        }
    }

    fn put_head(&self, head: &ResponseHead, stamp: &Stamp<'_>, is_last: bool) {
        let framing = head.framing_to(self.version_minor.get());
        // What is still to come of the content would be read as a request.
        let is_last = is_last || !self.is_body_read.get();
        let connection = match head.upgrade() {
            Some(_) => Connection::Upgrade,
            None => self.connection(is_last, framing),
        };
        self.framing.set(framing);
        let mut out = self.out.borrow_mut();
        write_response_head(head, framing, connection, is_not_from_backends, &mut out);
        stamp.write(&self.worker.edge, &mut out);
        http1::end_head(&mut out);
    }

    async fn put_data(&self, data: Bytes) -> Result<(), ClientFault> {
        if self.framing.get() == Framing::Chunked {
            write_chunk(&data, &mut self.out.borrow_mut());
        } else if self.out.borrow().is_empty() && data.len() > COPY_BYTES_MAX {
            return self.write(&data).await;
        } else {
            // A copy costs less than another look into the kernel.
            self.out.borrow_mut().extend_from_slice(&data);
        }
        // Asked beforehand: a borrow in the condition would last as long as the flush.
        let is_much = self.out.borrow().len() >= GATHER_BYTES;
        match is_much {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&self) -> Result<(), ClientFault> {
        let mut out = self.out.take();
        if out.is_empty() {
            *self.out.borrow_mut() = out;
            return Ok(());
        }
        let written = self.write(&out).await;
        out.clear();
        *self.out.borrow_mut() = out;
        written
    }

    async fn end(&self, trailers: Option<&Trailers>) -> Result<(), ClientFault> {
        if self.framing.get() == Framing::Chunked {
            write_end_of_chunks(trailers, &mut self.out.borrow_mut());
        }
        self.is_whole.set(true);
        self.flush().await
    }

    fn put_own(&self, record: &Record, own: OwnAnswer, stamp: &Stamp<'_>, is_last: bool) {
        let is_last = !self.skip_content() || is_last;
        let connection = self.connection(is_last, Framing::None);
        let mut out = self.out.borrow_mut();
        out.clear();
        let reason = own.status.canonical_reason().unwrap_or_default();
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", own.status.as_u16()).as_bytes());
        http1::write_framing(Framing::Length(own.body.len() as u64), &mut out);
        for (name, value) in &own.fields {
            write_field(name.as_bytes(), value.as_bytes(), &mut out);
        }
        stamp.write(&self.worker.edge, &mut out);
        http1::write_connection(connection, None, &mut out);
        http1::end_head(&mut out);
        if has_body(record.head.as_ref()) {
            record.sent_bytes.set(own.body.len() as u64);
            out.extend_from_slice(&own.body);
        }
        self.is_whole.set(true);
    }

    fn fate(&self) -> Fate {
        match (self.is_whole.get(), self.may_keep.get()) {
            (false, _) => Fate::Abort,
            (true, true) if self.is_body_read.get() => Fate::Keep,
            (true, _) => Fate::Close,
        }
    }

    fn tunnel(&self) -> Option<End<'_>> {
        Some(End {
            stream: &self.stream,
            buffer: &self.buffer,
            reading: &self.reading,
            writing: &self.writing,
        })
    }

    fn abort(&self) {
        // The connection is closed in the middle of the answer, without TLS's goodbye.
        self.is_whole.set(false);
    }
}
