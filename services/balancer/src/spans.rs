//! The spans of one request: one of kind SERVER for what the client asked, one of kind CLIENT for each attempt on a backend.
//!
//! The context that a backend is told is that of its attempt, so that the backend's span hangs below the attempt that reached it. For a
//! trace that is not recorded nothing is kept and nothing is allocated. Names and attributes are those of OpenTelemetry's semantic
//! conventions for HTTP; what begins with `balancer.` is ours. There is no query in them: it may hold what should not be in a trace.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use telemetry::trace_context::{SpanId, TraceContext};
use telemetry::traces::{KeyValue, Span, SpanKind, Traces};

use crate::backend::Backend;
use crate::http1::Method;
use crate::termination::Termination;

/// What is known so far.
#[derive(Debug, Default)]
pub struct Spans {
    /// The caller's span.
    caller: Option<SpanId>,
    is_recorded: bool,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    context: TraceContext,
    backend: Arc<Backend>,
    began: Instant,
    ended: Option<Instant>,
    connect: Option<Duration>,
    was_reused: bool,
    first_byte: Option<Duration>,
    status: Option<u16>,
    fault: Option<Termination>,
}

/// The request, at its end.
#[derive(Debug)]
pub struct Whole<'a> {
    /// Our span.
    pub trace: TraceContext,
    /// The number that the client was told.
    pub request_id: &'a str,
    /// When its head was there.
    pub began: Instant,
    /// The method; none if the head could not be read.
    pub method: Option<Method>,
    /// The path.
    pub path: &'a str,
    /// What it was for: `Host`, or `:authority`.
    pub authority: &'a str,
    /// Who asks.
    pub client: IpAddr,
    /// The client's version of HTTP: `1.0`, `1.1` or `2`.
    pub version: &'static str,
    /// The status that was sent, if any.
    pub status: Option<u16>,
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Body bytes from the client.
    pub received_bytes: u64,
    /// Body bytes to the client.
    pub sent_bytes: u64,
    /// How it ended.
    pub end: Termination,
}

impl Spans {
    /// Of a request with this context of ours, which continues the caller's.
    pub fn new(trace: &TraceContext, caller: Option<&TraceContext>, traces: &Traces) -> Spans {
        Spans {
            caller: caller.map(|caller| caller.span_id),
            is_recorded: trace.sampled && traces.is_enabled(),
            attempts: Vec::new(),
        }
    }

    /// Whether anything will be told of it.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// A backend was chosen.
    pub fn attempt(&mut self, trace: &TraceContext, backend: &Arc<Backend>) {
        if self.is_recorded {
            self.attempts.push(Attempt {
                context: trace.child(),
                backend: Arc::clone(backend),
                began: Instant::now(),
                ended: None,
                connect: None,
                was_reused: false,
                first_byte: None,
                status: None,
                fault: None,
            });
        }
    }

    /// There is a connection to it.
    pub fn connected(&mut self, was_reused: bool) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.was_reused = was_reused;
            attempt.connect = Some(attempt.began.elapsed());
        }
    }

    /// What the backend is told: the attempt is its parent. Where nothing is recorded, the request itself.
    pub fn parent(&self, trace: &TraceContext) -> TraceContext {
        self.attempts
            .last()
            .map_or(*trace, |attempt| attempt.context)
    }

    /// The backend has answered.
    pub fn answered(&mut self, status: u16) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.first_byte.get_or_insert(attempt.began.elapsed());
            attempt.status = Some(status);
        }
    }

    /// The attempt has failed.
    pub fn failed(&mut self, fault: Termination) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended = Some(Instant::now());
            attempt.fault = Some(fault);
        }
    }

    /// The request has ended: its spans are handed in.
    pub fn send(&mut self, traces: &Traces, whole: &Whole<'_>) {
        if !self.is_recorded {
            return;
        }
        let (now, today) = (Instant::now(), SystemTime::now());
        let when = |at: Instant| today - now.saturating_duration_since(at);
        for (count, attempt) in self.attempts.drain(..).enumerate() {
            let attempt = Attempt {
                fault: attempt
                    .fault
                    .or((whole.end != Termination::Completed).then_some(whole.end)),
                ..attempt
            };
            traces.send(Span {
                context: attempt.context,
                parent: Some(whole.trace.span_id),
                parent_is_remote: false,
                kind: SpanKind::Client,
                name: name(whole.method).into(),
                start: when(attempt.began),
                end: when(attempt.ended.unwrap_or(now)),
                // To a client every status that is none of success is an error.
                failed: attempt.fault.is_some()
                    || attempt.status.is_none_or(|status| status >= 400),
                attributes: attributes_of_attempt(&attempt, count, whole),
            });
        }
        // To a server only its own faults are; a client that left is none.
        let failed = match whole.status {
            Some(status) => status >= 500,
            None => whole.end != Termination::ClientAbort,
        };
        traces.send(Span {
            context: whole.trace,
            parent: self.caller,
            parent_is_remote: true,
            kind: SpanKind::Server,
            name: name(whole.method).into(),
            start: when(whole.began),
            end: today,
            failed,
            attributes: attributes_of_request(whole),
        });
    }
}

/// A method that everybody knows; a client can write any, and names are to be few.
fn name(method: Option<Method>) -> &'static str {
    match method {
        Some(Method::Get) => "GET",
        Some(Method::Head) => "HEAD",
        Some(Method::Post) => "POST",
        Some(Method::Put) => "PUT",
        Some(Method::Patch) => "PATCH",
        Some(Method::Delete) => "DELETE",
        Some(Method::Options) => "OPTIONS",
        Some(Method::Connect) => "CONNECT",
        Some(Method::Trace) => "TRACE",
        Some(Method::Other) | None => "HTTP",
    }
}

fn method(method: Option<Method>) -> KeyValue {
    let known = match name(method) {
        "HTTP" => "_OTHER",
        known => known,
    };
    KeyValue::new("http.request.method", known)
}

fn status(status: Option<u16>) -> Option<KeyValue> {
    status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)))
}

/// Why it failed: our word for it, else the status.
fn error(fault: Option<Termination>, status: Option<u16>, from: u16) -> Option<KeyValue> {
    let word = match fault {
        Some(fault) => fault.as_str().to_owned(),
        None => status.filter(|status| *status >= from)?.to_string(),
    };
    Some(KeyValue::new("error.type", word))
}

fn attributes_of_request(whole: &Whole<'_>) -> Vec<KeyValue> {
    let (host, port) = match whole.authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(443)),
        _ => (whole.authority, 443_u16),
    };
    let mut attributes = vec![
        method(whole.method),
        KeyValue::new("url.scheme", "https"),
        KeyValue::new("url.path", whole.path.to_owned()),
        KeyValue::new("server.address", host.to_owned()),
        KeyValue::new("server.port", i64::from(port)),
        KeyValue::new("client.address", whole.client.to_string()),
        KeyValue::new("network.protocol.version", whole.version),
        KeyValue::new("http.request.body.size", integer(whole.received_bytes)),
        KeyValue::new("http.response.body.size", integer(whole.sent_bytes)),
        KeyValue::new("balancer.request_id", whole.request_id.to_owned()),
        KeyValue::new("balancer.termination", whole.end.as_str()),
    ];
    attributes.extend(status(whole.status));
    let fault = (whole.end != Termination::Completed).then_some(whole.end);
    attributes.extend(error(fault, whole.status, 500));
    let first_byte = whole.first_byte.map(milliseconds);
    attributes.extend(first_byte.map(|ms| KeyValue::new("balancer.first_byte_ms", ms)));
    attributes
}

fn attributes_of_attempt(attempt: &Attempt, count: usize, whole: &Whole<'_>) -> Vec<KeyValue> {
    let backend = &attempt.backend;
    let url = format!(
        "https://{}:{}{}",
        backend.name(),
        backend.member().port,
        whole.path
    );
    let mut attributes = vec![
        method(whole.method),
        KeyValue::new("url.full", url),
        KeyValue::new("server.address", backend.name().to_owned()),
        KeyValue::new("server.port", i64::from(backend.member().port)),
        KeyValue::new("network.protocol.version", "1.1"),
        KeyValue::new("balancer.connection_reused", attempt.was_reused),
    ];
    if let Some(address) = backend.address() {
        attributes.push(KeyValue::new(
            "network.peer.address",
            address.ip().to_string(),
        ));
    }
    if count > 0 {
        attributes.push(KeyValue::new(
            "http.request.resend_count",
            integer(count as u64),
        ));
    }
    attributes.extend(status(attempt.status));
    attributes.extend(error(attempt.fault, attempt.status, 400));
    let times = [
        ("balancer.connect_ms", attempt.connect),
        ("balancer.first_byte_ms", attempt.first_byte),
    ];
    attributes.extend(
        times
            .into_iter()
            .filter_map(|(key, took)| Some(KeyValue::new(key, milliseconds(took?)))),
    );
    attributes
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(authority: &str) -> Whole<'_> {
        Whole {
            trace: TraceContext::new(true),
            request_id: "1",
            began: Instant::now(),
            method: Some(Method::Get),
            path: "/a",
            authority,
            client: IpAddr::from([127, 0, 0, 1]),
            version: "2",
            status: Some(200),
            first_byte: None,
            received_bytes: 0,
            sent_bytes: 0,
            end: Termination::Completed,
        }
    }

    fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
        let found = attributes.iter().find(|a| a.key.as_str() == key);
        found.map(|attribute| attribute.value.to_string())
    }

    #[test]
    fn a_trace_that_is_not_recorded_keeps_nothing() {
        let trace = TraceContext::new(true);
        let mut spans = Spans::new(&trace, None, &Traces::none());
        let backend = Arc::new(Backend::alone("web-1"));
        spans.attempt(&trace, &backend);
        assert_eq!(spans.attempts.capacity(), 0);
        assert_eq!(spans.parent(&trace), trace);
    }

    #[test]
    fn a_server_is_named_by_what_the_client_asked_for() {
        for (authority, host, port) in [
            ("localhost:8443", "localhost", "8443"),
            ("localhost", "localhost", "443"),
            ("[::1]:8443", "[::1]", "8443"),
            ("[::1]", "[::1]", "443"),
        ] {
            let attributes = attributes_of_request(&whole(authority));
            assert_eq!(value(&attributes, "server.address").unwrap(), host);
            assert_eq!(value(&attributes, "server.port").unwrap(), port);
        }
    }

    #[test]
    fn an_error_is_called_by_our_word_or_by_its_status() {
        let word =
            |fault, status, from| error(fault, status, from).map(|error| error.value.to_string());
        let reset = Some(Termination::BackendReset);
        assert_eq!(word(reset, None, 400).unwrap(), "backend_reset");
        assert_eq!(word(None, Some(404), 400).unwrap(), "404");
        assert_eq!(word(None, Some(404), 500), None);
        assert_eq!(word(None, Some(503), 500).unwrap(), "503");
    }
}
