//! One request, from its head to its end: everything that is counted, logged and traced of it.
//!
//! It is counted from when this is made and told of when this is dropped, so a request that ends in an error, an abort or a panic has its
//! line in the log, its metrics and its spans like any other.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry::trace_context::TraceContext;

use crate::access_log::Line;
use crate::backend::Backend;
use crate::clients::RetryAfter;
use crate::edge::request_id;
use crate::fault::Fault;
use crate::http1::{Known, Refusal, RequestHead};
use crate::peer::Peer;
use crate::spans::{Spans, Whole};
use crate::stamp::Stamp;
use crate::termination::Termination;
use crate::traffic::Counted;
use crate::worker::Worker;

/// A version of HTTP, as a client speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// A request.
#[derive(Debug)]
pub struct Record {
    worker: Rc<Worker>,
    /// Its head; none if it could not be read.
    pub head: Option<RequestHead>,
    client: IpAddr,
    /// Whether its client may send it now.
    pub admitted: Result<(), RetryAfter>,
    protocol: Protocol,
    began: Instant,
    request_id: [u8; 36],
    /// Our span.
    pub trace: TraceContext,
    /// Whether the caller has sent a trace.
    pub is_continued: bool,
    traceresponse: [u8; 55],
    spans: RefCell<Spans>,
    tried: RefCell<Vec<Arc<Backend>>>,
    tries: Cell<usize>,
    chosen_at: Cell<Instant>,
    connect: Cell<Option<Duration>>,
    first_byte: Cell<Option<Duration>>,
    queued: Cell<Option<Duration>>,
    status: Cell<Option<u16>>,
    /// Whether the last backend that was tried has.
    is_answered_by_backend: Cell<bool>,
    /// Body bytes from the client.
    pub received_bytes: Cell<u64>,
    /// Body bytes to the client.
    pub sent_bytes: Cell<u64>,
    end: Cell<Termination>,
    refusal: Cell<Option<&'static str>>,
    is_told: Cell<bool>,
    _counted: Counted,
}

impl Record {
    /// A request that begins now, on a connection of this peer.
    pub fn new(
        worker: &Rc<Worker>,
        peer: &Peer,
        protocol: Protocol,
        head: Option<RequestHead>,
    ) -> Record {
        let edge = &worker.edge;
        let began = Instant::now();
        let client = head
            .as_ref()
            .map_or(peer.address, |head| edge.trust.client(peer.address, head));
        let limited = match client == peer.address {
            true => peer.limited.clone(),
            false => edge.clients.client(client, began),
        };
        let admitted = limited.map_or(Ok(()), |client| client.admit(began));
        let caller = head
            .as_ref()
            .and_then(|head| head.get(Known::Traceparent))
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(TraceContext::parse);
        let trace = edge.trace(caller.as_ref());
        edge.retries.earn();
        Record {
            request_id: request_id(worker.wall(began)),
            spans: RefCell::new(Spans::new(&trace, caller.as_ref(), &edge.traces)),
            traceresponse: trace.to_bytes(),
            is_continued: caller.is_some(),
            trace,
            worker: Rc::clone(worker),
            head,
            client,
            admitted,
            protocol,
            began,
            queued: Cell::new(None),
            tried: RefCell::default(),
            tries: Cell::new(0),
            chosen_at: Cell::new(began),
            connect: Cell::new(None),
            first_byte: Cell::new(None),
            status: Cell::new(None),
            is_answered_by_backend: Cell::new(false),
            received_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            // Whatever drops a request before it has ended is the end of its connection.
            end: Cell::new(Termination::ClientAbort),
            refusal: Cell::new(None),
            is_told: Cell::new(false),
            _counted: edge.traffic.request(),
        }
    }

    /// Who asks.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The request's number; ASCII.
    pub fn request_id_bytes(&self) -> &[u8] {
        &self.request_id
    }

    /// The request's number.
    pub fn request_id(&self) -> &str {
        std::str::from_utf8(&self.request_id).unwrap_or_default()
    }

    /// What the answer carries; `by` is the backend that has answered.
    pub fn stamp<'a>(&'a self, by: Option<&'a Backend>) -> Stamp<'a> {
        let edge = &self.worker.edge.config.edge;
        Stamp {
            request_id: &self.request_id,
            traceresponse: &self.traceresponse,
            served_by: by.filter(|_| edge.expose_topology),
        }
    }

    /// The backends that were tried, and failed for other reasons than their connection's age.
    pub fn tried(&self) -> std::cell::Ref<'_, Vec<Arc<Backend>>> {
        self.tried.borrow()
    }

    /// How many tries there were.
    pub fn tries(&self) -> usize {
        self.tries.get()
    }

    /// A backend was chosen.
    pub fn chosen(&self, backend: &Arc<Backend>) {
        if self.tries.replace(self.tries.get() + 1) > 0 {
            self.chosen_at.set(Instant::now());
        }
        self.connect.set(None);
        self.tried.borrow_mut().push(Arc::clone(backend));
        self.spans.borrow_mut().attempt(&self.trace, backend);
    }

    /// The last choice met a connection that was stale: it does not count.
    pub fn unchosen(&self) {
        self.tries.set(self.tries.get().saturating_sub(1));
        self.tried.borrow_mut().pop();
    }

    /// There is a connection.
    pub fn connected(&self, was_reused: bool) {
        if !was_reused {
            self.connect.set(Some(self.chosen_at.get().elapsed()));
        }
        self.spans.borrow_mut().connected(was_reused);
    }

    /// What the backend is told of the trace.
    pub fn parent(&self) -> TraceContext {
        self.spans.borrow().parent(&self.trace)
    }

    /// It has waited so long for a backend.
    pub fn queued(&self, waited: Duration) {
        let before = self.queued.get().unwrap_or_default();
        self.queued.set(Some(before + waited));
        self.chosen_at.set(Instant::now());
    }

    /// The try on this backend has failed.
    pub fn failed(&self, backend: &Arc<Backend>, fault: Fault) {
        // An answer of 5xx was counted with its head.
        if self.status.get().is_none_or(|status| status < 500) {
            self.worker.erred(backend, self.chosen_at.get().elapsed());
        }
        self.refusal.set(fault.refusal);
        self.spans.borrow_mut().failed(fault.end);
    }

    /// A backend has answered, and this goes to the client.
    pub fn answered(&self, backend: &Arc<Backend>, status: u16) {
        let now = Instant::now();
        self.first_byte.set(Some(now - self.began));
        self.is_answered_by_backend.set(true);
        let took = now - self.chosen_at.get();
        if status >= 500 {
            self.worker.erred(backend, took);
        } else {
            backend.outcomes().good();
            backend.answered_after(took);
        }
        self.status.set(Some(status));
        self.spans.borrow_mut().answered(status);
    }

    /// The edge answers by itself.
    pub fn answers(&self, status: u16) {
        self.status.set(Some(status));
    }

    /// Whether the client was sent a part of an answer that is not interim.
    pub fn is_answered(&self) -> bool {
        self.status.get().is_some()
    }

    /// How it ends, for all that is known now.
    pub fn ends(&self, end: Termination) {
        self.end.set(end);
    }

    /// The message breaks this rule.
    pub fn refused(&self, refusal: Refusal) {
        self.worker.edge.metrics.refused(refusal);
        self.refusal.set(Some(refusal.name()));
    }

    /// The end; what is left is the head, for its room.
    pub fn finish(mut self) -> Option<RequestHead> {
        self.tell();
        self.head.take()
    }

    fn tell(&self) {
        if self.is_told.replace(true) {
            return;
        }
        let edge = &self.worker.edge;
        let ended = Instant::now();
        let duration = ended - self.began;
        let end = match std::thread::panicking() {
            true => Termination::Internal,
            false => self.end.get(),
        };
        let status = self.status.get();
        let tried = self.tried.borrow();
        let by = tried.last().filter(|_| self.is_answered_by_backend.get());
        let by = by.map(|backend| &backend.metrics);
        edge.metrics.request_ended(by, status, end, duration);
        self.worker.log.write(&Line {
            at: self.worker.wall(ended),
            trace_id: self.trace.trace_id,
            request_id: &self.request_id,
            client: self.client,
            protocol: match self.protocol {
                Protocol::Http10 => "HTTP/1.0",
                Protocol::Http11 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2",
            },
            method: self.head.as_ref().map(RequestHead::method_bytes),
            path: self.head.as_ref().map(RequestHead::path_bytes),
            status,
            backend: tried.last().map(|backend| backend.name()),
            tries: self.tries.get(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            queued: self.queued.get(),
            connect: self.connect.get(),
            first_byte: self.first_byte.get(),
            duration,
            termination: end,
            refusal: self.refusal.get(),
        });
        if !self.spans.borrow().is_recorded() {
            return;
        }
        let whole = Whole {
            trace: self.trace,
            request_id: self.request_id(),
            began: self.began,
            method: self.head.as_ref().map(RequestHead::method),
            path: self
                .head
                .as_ref()
                .map(RequestHead::path)
                .unwrap_or_default(),
            authority: self
                .head
                .as_ref()
                .map(RequestHead::authority)
                .unwrap_or_default(),
            client: self.client,
            version: match self.protocol {
                Protocol::Http10 => "1.0",
                Protocol::Http11 => "1.1",
                Protocol::Http2 => "2",
            },
            status,
            first_byte: self.first_byte.get(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            end,
        };
        self.spans.borrow_mut().send(&edge.traces, &whole);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.tell();
    }
}
