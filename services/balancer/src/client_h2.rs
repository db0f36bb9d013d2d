//! A client that speaks HTTP/2: `h2` does the frames, what it leaves to others is done here.
//!
//! The rules for a request's fields are those of `http1` (it is passed on in HTTP/1.1), floods are found by [`Watch`], and a connection
//! that is silent, or stuck in the middle of a frame, is ended.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use pingora_core::protocols::http::v2::server::default_h2_options;
use tokio_rustls::TlsStream;

use crate::body::Content;
use crate::client::{Client, ClientFault, Fate, OwnAnswer, has_body};
use crate::clock::{Alarm, Moment, NEVER};
use crate::edge::ms;
use crate::exchange::{answer, exchange};
use crate::headers::is_not_from_backends;
use crate::http1::{Framing, Parts, Refusal, RequestHead, ResponseHead, Trailers, fields_to_pass};
use crate::pace::Pace;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::record::{Protocol, Record};
use crate::socket::Socket;
use crate::stamp::Stamp;
use crate::termination::Termination;
use crate::tunnel::End;
use crate::watched::{self, Watch, Watched, Wire};
use crate::worker::{Phase, Worker};

/// How much of a request's content may be on its way to us, and of all of a connection's together.
const STREAM_WINDOW_BYTES: u32 = 131_072;
const CONNECTION_WINDOW_BYTES: u32 = 262_144;
/// How much of an answer may wait here for the client to take it.
const SEND_BUFFER_BYTES: usize = 131_072;
/// How long the last frames may take.
const GOODBYE: Duration = Duration::from_millis(500);

type Accepted = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;

/// Wakes a connection's task for what `h2` has to do, but not while that is looked after anyway: a request that is served within the
/// task would wake it for each frame that it sends.
#[derive(Debug, Default)]
struct Relay {
    task: AtomicWaker,
    is_polling: AtomicBool,
    is_woken: AtomicBool,
}

impl Relay {
    /// Whether there was a call since the last time that this was asked.
    fn was_woken(&self) -> bool {
        self.is_woken.swap(false, Ordering::AcqRel)
    }

    fn set_polling(&self, is: bool) {
        self.is_polling.store(is, Ordering::Release);
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        if !self.is_polling.load(Ordering::Acquire) {
            self.task.wake();
        }
    }
}

/// What has happened on a connection.
enum Event {
    Request(Box<Request<RecvStream>>, SendResponse<Bytes>),
    /// The balancer is about to stop.
    Announced,
    Flood,
    /// It is silent, or stuck.
    Late,
    Over,
}

/// Serves a connection until it ends.
pub async fn serve(worker: &Rc<Worker>, stream: TlsStream<Socket>, peer: &Peer) {
    let config = &worker.edge.config.request;
    let watch = Watch::new(&worker.clock, config);
    let alarm = worker.clock.alarm();
    let wire = Wire::new(worker, stream);
    let handshake = options(worker).handshake(Watched::new(&wire, &watch));
    let limit = ms(config.header_timeout_ms);
    let Ok(Ok(mut connection)) = alarm.within(limit, handshake).await else {
        return;
    };
    let asked = Cell::new(false);
    let mut announced = pin!(announced(worker, &asked));
    let relay = Arc::new(Relay::default());
    let waker = Waker::from(Arc::clone(&relay));
    // Requests are served within the connection's task: a task for each would cost more than serving it.
    let mut requests = FuturesUnordered::new();
    let mut is_going = false;
    let mut not_before = 0;
    loop {
        let announced = match is_going {
            true => None,
            false => Some(announced.as_mut()),
        };
        let drive = |context: &mut Context<'_>| {
            relay.task.register(context.waker());
            relay.set_polling(true);
            let mut inner = Context::from_waker(&waker);
            let (mut accepted, mut is_woken) = (Poll::Pending, false);
            // Once more for what comes in between, but not again and again: whoever has had enough for now, as the run-time has it, wakes
            // itself, and others must get their turn.
            for _ in 0..2 {
                while let Poll::Ready(Some(())) = requests.poll_next_unpin(context) {}
                // What they have asked for is done now.
                relay.was_woken();
                accepted = connection.poll_accept(&mut inner);
                is_woken = relay.was_woken();
                if accepted.is_ready() || !is_woken {
                    break;
                }
            }
            if is_woken {
                context.waker().wake_by_ref();
            }
            relay.set_polling(false);
            if accepted.is_ready() {
                return accepted;
            }
            match wire.borrow_mut().poll_out(context) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        };
        let event = next(worker, drive, &watch, (&alarm, not_before), announced).await;
        match event {
            Event::Request(request, respond) => {
                asked.set(true);
                let (worker, stream) = (Rc::clone(worker), watch.stream());
                let serve = serve_request(worker, request, respond, peer, stream);
                requests.push(Box::pin(serve));
            }
            Event::Announced | Event::Late if !is_going => {
                is_going = true;
                connection.graceful_shutdown();
                // What crosses our goodbye is answered yet.
                not_before = worker.clock.after(GOODBYE);
            }
            Event::Announced => {}
            Event::Late => return,
            Event::Flood => {
                worker.edge.metrics.floods.inc();
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let closed = poll_fn(|context| connection.poll_closed(context));
                let _ = alarm.within(GOODBYE, closed).await;
                return;
            }
            Event::Over => return,
        }
    }
}

fn options(worker: &Worker) -> Builder {
    let config = &worker.edge.config.request;
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(config.http2_streams_max)
        // What is larger than we take is answered by us, as long as it is not much larger.
        .max_header_list_size(config.header_bytes_max.saturating_mul(2))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    options
}

/// Waits for the balancer's stop; on a connection that is new, also for its first request: a client that has just connected would be told
/// to go before it could ask, and not every client comes again by itself.
async fn announced(worker: &Worker, asked: &Cell<bool>) {
    let mut phase = worker.phase.clone();
    let _ = phase.wait_for(|phase| *phase >= Phase::Stopping).await;
    let mut left = worker.edge.config.stop.quiet_ms;
    while !asked.get() && left > 0 {
        let step = left.min(10);
        tokio::time::sleep(ms(step)).await;
        left -= step;
    }
}

async fn next(
    worker: &Worker,
    mut drive: impl FnMut(&mut Context<'_>) -> Poll<Option<Accepted>>,
    watch: &Watch,
    (alarm, not_before): (&Alarm, Moment),
    mut announced: Option<std::pin::Pin<&mut impl Future<Output = ()>>>,
) -> Event {
    let config = &worker.edge.config.request;
    let idle_ms = config.keep_alive_s.saturating_mul(1000);
    poll_fn(|context| {
        match drive(context) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                return Poll::Ready(Event::Request(Box::new(request), respond));
            }
            Poll::Ready(Some(Err(error))) => {
                // What `h2` itself takes for a flood: resets, empty frames, header blocks without end.
                if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                    worker.edge.metrics.floods.inc();
                }
                return Poll::Ready(Event::Over);
            }
            Poll::Ready(None) => return Poll::Ready(Event::Over),
            Poll::Pending => {}
        }
        if watch.flood().is_some() {
            return Poll::Ready(Event::Flood);
        }
        if let Some(announced) = &mut announced
            && announced.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Event::Announced);
        }
        watch.wake(context.waker());
        let silent = watch.idle_since().map(|since| since + idle_ms);
        let due = watch
            .whole_by()
            .unwrap_or(NEVER)
            .min(silent.unwrap_or(NEVER));
        let due = due.max(not_before);
        alarm.poll_due(due, context).map(|_| Event::Late)
    })
    .await
}

async fn serve_request(
    worker: Rc<Worker>,
    request: Box<Request<RecvStream>>,
    respond: SendResponse<Bytes>,
    peer: &Peer,
    stream: watched::Stream,
) {
    let (parts, receiving) = request.into_parts();
    let head = head_of(&parts, receiving.is_end_stream(), &worker);
    drop(parts);
    let worker = &worker;
    let h2 = H2 {
        worker,
        respond: RefCell::new(respond),
        sending: RefCell::new(None),
        receiving: RefCell::new(receiving),
        held: Cell::new(0),
        head: RefCell::new(None),
        data: RefCell::default(),
        is_ending: Cell::new(false),
        reading: worker.clock.alarm(),
        writing: worker.clock.alarm(),
        total: worker.clock.alarm(),
        pace_in: Pace::default(),
        pace_out: Pace::default(),
        stream: &stream,
    };
    match head {
        Ok(head) => {
            let record = Record::new(worker, peer, Protocol::Http2, Some(head));
            exchange(worker, &h2, &record).await;
        }
        Err(refusal) => {
            let record = Record::new(worker, peer, Protocol::Http2, None);
            record.ends(Termination::of(refusal));
            record.refused(refusal);
            let problem = Problem::of(refusal);
            answer(worker, &h2, &record, problem, Some(refusal), false).await;
        }
    }
}

fn head_of(
    parts: &http::request::Parts,
    end_of_stream: bool,
    worker: &Worker,
) -> Result<RequestHead, Refusal> {
    let uri = &parts.uri;
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let parts_of = Parts {
        method: parts.method.as_str().as_bytes(),
        scheme: uri.scheme_str().map(str::as_bytes),
        authority: uri
            .authority()
            .map(|authority| authority.as_str().as_bytes()),
        path: path.as_bytes(),
        end_of_stream,
    };
    let fields = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    RequestHead::from_parts(parts_of, fields, &worker.edge.limits, None)
}

/// One request's client.
struct H2<'a> {
    worker: &'a Rc<Worker>,
    respond: RefCell<SendResponse<Bytes>>,
    /// Once the head was sent.
    sending: RefCell<Option<SendStream<Bytes>>>,
    receiving: RefCell<RecvStream>,
    /// Content that was given out, and whose room in the window was not given back yet.
    held: Cell<usize>,
    /// A head that was put and not sent.
    head: RefCell<Option<Response<()>>>,
    /// Content that was put and not sent: the end goes with the last of it.
    data: RefCell<Bytes>,
    is_ending: Cell<bool>,
    reading: Alarm,
    writing: Alarm,
    total: Alarm,
    pace_in: Pace,
    pace_out: Pace,
    stream: &'a watched::Stream,
}

impl H2<'_> {
    /// Sends the head that was put, if one was; tells whether the stream has ended with it.
    fn send_head(&self, is_all: bool) -> Result<bool, ClientFault> {
        let Some(head) = self.head.borrow_mut().take() else {
            return Ok(false);
        };
        let sending = self
            .respond
            .borrow_mut()
            .send_response(head, is_all)
            .map_err(|_| ClientFault::Gone)?;
        *self.sending.borrow_mut() = Some(sending);
        Ok(is_all)
    }

    /// Sends content, as fast as the client's windows allow.
    async fn send(&self, mut data: Bytes, is_all: bool) -> Result<(), ClientFault> {
        if self.send_head(is_all && data.is_empty())? {
            return Ok(());
        }
        if data.is_empty() {
            return match is_all {
                true => self.with_sending(|sending| sending.send_data(data, true)),
                false => Ok(()),
            };
        }
        while !data.is_empty() {
            let room = self.room(data.len()).await?;
            let part = data.split_to(room.min(data.len()));
            self.stream.sent(part.len());
            let is_last = is_all && data.is_empty();
            self.with_sending(|sending| sending.send_data(part, is_last))?;
        }
        Ok(())
    }

    fn with_sending(
        &self,
        act: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>,
    ) -> Result<(), ClientFault> {
        match &mut *self.sending.borrow_mut() {
            Some(sending) => act(sending).map_err(|_| ClientFault::Gone),
            None => Err(ClientFault::Gone),
        }
    }

    /// Waits until the client takes at least a byte of `wanted`; how many.
    async fn room(&self, wanted: usize) -> Result<usize, ClientFault> {
        let room = |sending: &mut Option<SendStream<Bytes>>| {
            sending.as_mut().map_or(0, |sending| {
                sending.reserve_capacity(wanted);
                sending.capacity()
            })
        };
        match room(&mut self.sending.borrow_mut()) {
            0 => {}
            room => return Ok(room),
        }
        let clock = &self.worker.clock;
        let config = &self.worker.edge.config.request;
        let began = clock.now();
        let due = clock
            .after(ms(config.write_timeout_ms))
            .min(self.pace_out.due(began, config.rate()));
        let grown = poll_fn(|context| {
            let mut sending = self.sending.borrow_mut();
            let Some(sending) = &mut *sending else {
                return Poll::Ready(Err(ClientFault::Gone));
            };
            loop {
                match sending.poll_capacity(context) {
                    Poll::Ready(Some(Ok(0))) => {}
                    Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                    Poll::Ready(Some(Err(_)) | None) => {
                        return Poll::Ready(Err(ClientFault::Gone));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        match self.writing.until(due, grown).await {
            Ok(room) => {
                let room = room?;
                self.pace_out.moved(clock.now() - began, room.min(wanted));
                Ok(room)
            }
            Err(_) => Err(ClientFault::SlowReader),
        }
    }

    /// Gives the room of what was taken back to the client.
    fn release(&self) {
        let held = self.held.take();
        if held > 0 {
            let mut receiving = self.receiving.borrow_mut();
            // Fails only for a stream that is over.
            let _ = receiving.flow_control().release_capacity(held);
        }
    }

    async fn trailers(&self) -> Result<Option<Trailers>, ClientFault> {
        let trailers = poll_fn(|context| self.receiving.borrow_mut().poll_trailers(context)).await;
        match trailers {
            Ok(Some(fields)) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
                Trailers::from_fields(fields, &self.worker.edge.limits)
                    .map_err(ClientFault::Refused)
            }
            Ok(None) => Ok(None),
            Err(_) => Err(ClientFault::Gone),
        }
    }
}

impl Client for H2<'_> {
    fn total(&self) -> &Alarm {
        &self.total
    }

    async fn content(&self) -> Result<Content, ClientFault> {
        self.release();
        let clock = &self.worker.clock;
        let config = &self.worker.edge.config.request;
        let limit = ms(config.body_idle_timeout_ms);
        loop {
            let began = clock.now();
            let due = clock
                .after(limit)
                .min(self.pace_in.due(began, config.rate()));
            let data = poll_fn(|context| self.receiving.borrow_mut().poll_data(context));
            match self.reading.until(due, data).await {
                Ok(Some(Ok(data))) if data.is_empty() => {}
                Ok(Some(Ok(data))) => {
                    self.pace_in.moved(clock.now() - began, data.len());
                    self.held.set(data.len());
                    return Ok(Content::Data(data));
                }
                Ok(Some(Err(_))) => return Err(ClientFault::Gone),
                Ok(None) => {
                    let trailers = self.trailers().await?;
                    return Ok(Content::End(trailers));
                }
                Err(_) => return Err(ClientFault::SlowSender),
            }
        }
    }

    async fn gone(&self) -> ClientFault {
        let reset = poll_fn(|context| match &mut *self.sending.borrow_mut() {
            Some(sending) => sending.poll_reset(context),
            None => self.respond.borrow_mut().poll_reset(context),
        });
        let _ = reset.await;
        ClientFault::Gone
    }

    fn put_interim(&self, head: &ResponseHead) {
        let mut interim = Response::new(());
        *interim.status_mut() = head.status();
        put_fields(head, interim.headers_mut());
        // A client that is gone is noticed soon enough.
        let _ = self.respond.borrow_mut().send_informational(interim);
    }

    fn put_head(&self, head: &ResponseHead, stamp: &Stamp<'_>, _: bool) {
        let mut response = Response::new(());
        *response.status_mut() = head.status();
        let fields = response.headers_mut();
        fields.reserve(16);
        put_fields(head, fields);
        if let (Framing::Length(_) | Framing::None, Some(length)) =
            (head.framing(), head.content_length())
        {
            fields.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        stamp.put(&self.worker.edge, fields);
        *self.head.borrow_mut() = Some(response);
    }

    async fn put_data(&self, data: Bytes) -> Result<(), ClientFault> {
        let before = self.data.replace(data);
        match before.is_empty() {
            true => Ok(()),
            false => self.send(before, false).await,
        }
    }

    async fn flush(&self) -> Result<(), ClientFault> {
        let data = self.data.take();
        self.send(data, self.is_ending.get()).await
    }

    async fn end(&self, trailers: Option<&Trailers>) -> Result<(), ClientFault> {
        let data = self.data.take();
        match trailers {
            None => self.send(data, true).await?,
            Some(trailers) => {
                self.send(data, false).await?;
                let mut fields = HeaderMap::new();
                for (name, value) in trailers.fields() {
                    put_field(name, value, &mut fields);
                }
                self.with_sending(|sending| sending.send_trailers(fields))?;
            }
        }
        self.stream.ended_well();
        Ok(())
    }

    fn put_own(&self, record: &Record, own: OwnAnswer, stamp: &Stamp<'_>, _: bool) {
        let mut response = Response::new(());
        *response.status_mut() = own.status;
        let fields = response.headers_mut();
        let length = HeaderValue::from(own.body.len());
        fields.insert(http::header::CONTENT_LENGTH, length);
        for (name, value) in &own.fields {
            put_field(name.as_bytes(), value.as_bytes(), fields);
        }
        stamp.put(&self.worker.edge, fields);
        *self.head.borrow_mut() = Some(response);
        if has_body(record.head.as_ref()) {
            record.sent_bytes.set(own.body.len() as u64);
            *self.data.borrow_mut() = own.body.into();
        }
        self.is_ending.set(true);
        if own.status != StatusCode::BAD_REQUEST {
            self.stream.ended_well();
        }
    }

    fn fate(&self) -> Fate {
        Fate::Keep
    }

    fn tunnel(&self) -> Option<End<'_>> {
        None
    }

    fn abort(&self) {
        match &mut *self.sending.borrow_mut() {
            Some(sending) => sending.send_reset(Reason::INTERNAL_ERROR),
            None => self.respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

fn put_fields(head: &ResponseHead, fields: &mut HeaderMap) {
    for (name, value) in fields_to_pass(head, is_not_from_backends) {
        put_field(name, value, fields);
    }
}

/// What the codec has let pass is a name and a value for everybody.
fn put_field(name: &[u8], value: &[u8], fields: &mut HeaderMap) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        fields.append(name, value);
    }
}
