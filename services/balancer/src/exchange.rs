//! One exchange between a client and a backend: the only place where pingora's hooks meet what the balancer decides.
//!
//! Each hook is short: it asks the modules that choose, verify, rewrite and judge, which know nothing of pingora, and does what they
//! say. The request's state is in [`Exchange`]; pingora owns it for as long as the request lives, so dropping it, on whatever way out,
//! gives the lease back.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY,
};
use http::{HeaderMap, Method, Version};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use telemetry::trace_context::TraceContext;

use crate::access_log::Line;
use crate::backend::Backend;
use crate::client_stream::Connection;
use crate::edge::{Edge, ms, request_id};
use crate::fault::{WRONG_ROLE, fault_of_backend, fault_of_client};
use crate::headers::{
    Arrival, IDEMPOTENCY_KEY, NOT_FROM_BACKENDS, NOT_FROM_CLIENTS, TRACEPARENT, TRACERESPONSE,
    X_REQUEST_ID, X_SERVED_BY,
};
use crate::health_check;
use crate::lease::Lease;
use crate::names::host_of;
use crate::peer::Peers;
use crate::problem::Problem;
use crate::retry::{self, Sent};
use crate::spans::{Spans, Whole};
use crate::termination::Termination;
use crate::traffic::Counted;

/// How long the rest of a body that nobody wants may take, if the connection is to be kept.
const DRAIN_MS: u64 = 1000;
/// pingora's own bound on tries; ours is `backend.tries_max` and lower.
pub(crate) const TRIES_MAX: usize = 32;

tokio::task_local! {
    /// The connection that the running request came on.
    pub(crate) static CONNECTION: Arc<Connection>;
}

/// The hooks.
pub struct Proxy {
    edge: Arc<Edge>,
    peers: Arc<Peers>,
}

/// The state of one request.
pub struct Exchange {
    connection: Arc<Connection>,
    began: Instant,
    request_id: String,
    trace: TraceContext,
    spans: Spans,
    lease: Option<Lease>,
    /// The backends that were chosen, the current one last.
    tried: Vec<Arc<Backend>>,
    tries: usize,
    chosen_at: Instant,
    sent: Sent,
    /// Whether the last failure may be due to an old connection rather than to the backend.
    was_reused: bool,
    connect_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    received_bytes: u64,
    /// Why the request cannot be answered as asked, as far as is known.
    fault: Option<(Problem, Termination)>,
    _counted: Counted,
}

impl Proxy {
    /// For this balancer.
    pub fn new(edge: Arc<Edge>, peers: Arc<Peers>) -> Proxy {
        Proxy { edge, peers }
    }

    /// Why a request is not passed on at all.
    fn refusal(&self, session: &Session) -> Option<(Problem, Termination)> {
        let request = session.req_header();
        let limits = &self.edge.config.request;
        if matches!(request.method, Method::CONNECT | Method::TRACE) {
            return Some((Problem::MethodNotAllowed, Termination::Refused));
        }
        if bytes_of(&request.headers) > limits.header_bytes_max as usize {
            return Some((Problem::HeaderTooLarge, Termination::TooLarge));
        }
        let Some(host) = authority(request).and_then(host_of) else {
            return Some((Problem::BadRequest, Termination::ParseError));
        };
        if self.edge.config.edge.refuse_unknown_hosts && !self.edge.names.load().contains(host) {
            return Some((Problem::MisdirectedRequest, Termination::Refused));
        }
        if request.uri.path() == "/metrics" {
            return Some((Problem::NotFound, Termination::Refused));
        }
        let declared: Option<u64> =
            text(&request.headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if declared.is_some_and(|length| length > limits.body_bytes_max) {
            return Some((Problem::ContentTooLarge, Termination::TooLarge));
        }
        None
    }

    /// Answers with a problem document.
    async fn answer(
        &self,
        session: &mut Session,
        exchange: &Exchange,
        problem: Problem,
    ) -> Result<()> {
        let document = Bytes::from(problem.document(&exchange.trace.trace_id));
        let mut answer = ResponseHeader::build(problem.status(), Some(10))?;
        answer.insert_header(CONTENT_TYPE, "application/problem+json")?;
        answer.insert_header(CONTENT_LENGTH, document.len())?;
        answer.insert_header(CACHE_CONTROL, "no-store")?;
        if let Some(seconds) = problem.retry_after() {
            answer.insert_header(RETRY_AFTER, seconds)?;
        }
        if problem == Problem::MethodNotAllowed {
            answer.insert_header(ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")?;
        }
        self.sign(&mut answer, exchange, None)?;
        let is_head = session.req_header().method == Method::HEAD;
        session
            .write_response_header(Box::new(answer), is_head)
            .await?;
        if !is_head {
            session.write_response_body(Some(document), true).await?;
        }
        Ok(())
    }

    /// The fields that every answer of the edge has.
    fn sign(
        &self,
        answer: &mut ResponseHeader,
        exchange: &Exchange,
        served_by: Option<&Backend>,
    ) -> Result<()> {
        for name in NOT_FROM_BACKENDS {
            answer.remove_header(name);
        }
        answer.insert_header(X_REQUEST_ID, exchange.request_id.as_str())?;
        answer.insert_header(TRACERESPONSE, exchange.trace.to_traceresponse())?;
        answer.insert_header(STRICT_TRANSPORT_SECURITY, self.edge.hsts().clone())?;
        if let Some(backend) = served_by
            && self.edge.config.edge.expose_topology
        {
            answer.insert_header(X_SERVED_BY, backend.name())?;
        }
        Ok(())
    }

    /// Notes what went wrong on a backend, and marks the error as one after which to try again, or not.
    fn judge(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if *error.esource() != ErrorSource::Upstream {
            error.set_retry(false);
            return error;
        }
        let (problem, end) = fault_of_backend(&error, exchange.sent);
        exchange.fault = Some((problem, end));
        exchange.spans.failed(end);
        let request = session.req_header();
        let answer_begun = session
            .response_written()
            .is_some_and(|answer| !answer.status.is_informational() || answer.status == 101);
        let again = retry::again(
            retry::Failed {
                sent: exchange.sent,
                method: &request.method,
                has_key: request.headers.contains_key(&IDEMPOTENCY_KEY),
                body_kept: !session.as_ref().retry_buffer_truncated(),
                answer_begun,
                tries: exchange.tries,
            },
            self.edge.config.backend.tries_max,
        );
        if let Some(lease) = &exchange.lease {
            lease.backend().look_again();
            if again {
                self.edge
                    .metrics
                    .retried(lease.backend().name(), exchange.sent);
            }
        }
        error.set_retry(again);
        error
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        let connection = CONNECTION.with(Arc::clone);
        connection.request_began();
        let now = Instant::now();
        Exchange {
            _counted: self.edge.traffic.request(),
            connection,
            began: now,
            request_id: request_id(),
            trace: TraceContext::new(false),
            spans: Spans::default(),
            lease: None,
            tried: Vec::new(),
            tries: 0,
            chosen_at: now,
            sent: Sent::Nothing,
            was_reused: false,
            connect_ms: None,
            first_byte_ms: None,
            received_bytes: 0,
            fault: None,
        }
    }

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let limits = &self.edge.config.request;
        // pingora makes the time between requests unlimited with every head that it reads.
        let keep_alive = session.get_keepalive().map(|_| limits.keep_alive_s);
        session.set_keepalive(keep_alive.filter(|_| !self.edge.traffic.is_stopping()));
        session.set_read_timeout(Some(ms(limits.body_idle_timeout_ms)));
        session.set_write_timeout(Some(ms(limits.write_timeout_ms)));
        session.set_total_drain_timeout(Some(ms(DRAIN_MS)));
        let caller =
            text(&session.req_header().headers, &TRACEPARENT).and_then(TraceContext::parse);
        exchange.trace = self.edge.trace(caller.as_ref());
        exchange.spans = Spans::new(&exchange.trace, caller.as_ref(), &self.edge.traces);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let Some((problem, end)) = self.refusal(session) else {
            return Ok(false);
        };
        exchange.fault = Some((problem, end));
        if matches!(end, Termination::ParseError | Termination::TooLarge) {
            session.set_keepalive(None);
        }
        self.answer(session, exchange, problem).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        exchange: &mut Exchange,
    ) -> Result<Box<HttpPeer>> {
        // A retry gives its lease back first: the backend that failed is not at work on this request any more.
        exchange.lease = None;
        exchange.sent = Sent::Nothing;
        exchange.connect_ms = None;
        let chooser = &self.edge.chooser;
        let lease = match chooser.choose(&exchange.tried) {
            Some(lease) => lease,
            // There is no other, but a new connection may do what an old one did not.
            None if exchange.was_reused => chooser.choose(&[]).ok_or_else(no_backend)?,
            None => {
                exchange
                    .fault
                    .get_or_insert((Problem::NoBackend, Termination::NoBackend));
                return Err(no_backend());
            }
        };
        exchange.was_reused = false;
        exchange.tries += 1;
        exchange.chosen_at = Instant::now();
        exchange.tried.push(Arc::clone(lease.backend()));
        exchange.spans.attempt(&exchange.trace, lease.backend());
        let peer = self.peers.peer(lease.backend());
        exchange.lease = Some(lease);
        if peer.is_some() {
            exchange.fault = None; // of the try before
        }
        peer.ok_or_else(no_backend)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        error: Box<Error>,
    ) -> Box<Error> {
        self.judge(session, exchange, error)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        digest: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.was_reused = reused;
        exchange.spans.connected(reused);
        if !reused {
            exchange.connect_ms = Some(milliseconds(exchange.chosen_at));
        }
        let certificate = digest.and_then(|digest| digest.ssl_digest.as_deref());
        let backend = exchange.lease.as_ref().map(Lease::backend);
        let verified = match (backend, certificate) {
            (Some(backend), Some(certificate)) => {
                health_check::is_verified(&self.edge, backend, &certificate.cert_digest).await
            }
            _ => false,
        };
        if verified {
            Ok(())
        } else {
            Error::err_up(WRONG_ROLE)
        }
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let continued = text(&request.headers, &TRACEPARENT)
            .and_then(TraceContext::parse)
            .is_some();
        for name in NOT_FROM_CLIENTS {
            request.remove_header(name);
        }
        if !continued {
            request.remove_header("tracestate");
        }
        let arrival = Arrival {
            client: exchange.connection.client,
            authority: authority(session.req_header()).unwrap_or_default(),
        };
        for (name, value) in arrival.fields() {
            request.insert_header(name, value)?;
        }
        request.insert_header(X_REQUEST_ID, exchange.request_id.as_str())?;
        let parent = exchange.spans.parent(&exchange.trace);
        request.insert_header(TRACEPARENT, parent.to_traceparent())?;
        join_cookies(request)?;
        exchange.sent = Sent::Perhaps;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.received_bytes += body.as_ref().map_or(0, |body| body.len() as u64);
        if exchange.received_bytes > self.edge.config.request.body_bytes_max {
            exchange.fault = Some((Problem::ContentTooLarge, Termination::TooLarge));
            return Error::err_down(ErrorType::HTTPStatus(413));
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        exchange.was_reused = reused;
        self.judge(session, exchange, error)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if answer.status.is_informational() && answer.status != 101 {
            return Ok(());
        }
        exchange.spans.answered(answer.status.as_u16());
        exchange
            .first_byte_ms
            .get_or_insert(milliseconds(exchange.began));
        if self.edge.traffic.is_stopping() {
            session.set_keepalive(None);
        }
        let backend = exchange.lease.as_ref().map(Lease::backend);
        self.sign(answer, exchange, backend.map(Arc::as_ref))
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let (problem, _) = *exchange.fault.get_or_insert_with(|| fault_of_client(error));
        let gone = matches!(exchange.fault, Some((_, Termination::ClientAbort)));
        let begun = session
            .response_written()
            .is_some_and(|answer| !answer.status.is_informational());
        let mut status = 0;
        if !gone && !begun {
            session.set_keepalive(None);
            status = problem.status().as_u16();
            // If the client is gone by now, nobody misses the answer.
            let _ = self.answer(session, exchange, problem).await;
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        let lease = exchange.lease.take();
        let end = match (exchange.fault, error) {
            (Some((_, end)), Some(_))
            | (
                Some((
                    _,
                    end @ (Termination::Refused | Termination::TooLarge | Termination::ParseError),
                )),
                None,
            ) => end,
            (None, Some(error)) => fault_of_client(error).1,
            (_, None) => Termination::Completed,
        };
        let status = session
            .response_written()
            .map(|answer| answer.status.as_u16());
        let answered = lease.as_ref().filter(|_| exchange.first_byte_ms.is_some());
        let backend = answered.map(|lease| lease.backend().name());
        self.edge
            .metrics
            .request_ended(backend, status, end, exchange.began.elapsed());
        let request = session.req_header();
        self.edge.access_log.write(&Line {
            trace_id: exchange.trace.trace_id.to_string(),
            request_id: &exchange.request_id,
            client: exchange.connection.client.ip().to_string(),
            protocol: if request.version == Version::HTTP_2 {
                "HTTP/2"
            } else {
                "HTTP/1.1"
            },
            method: request.method.as_str(),
            path: request.uri.path(),
            status,
            backend: exchange.tried.last().map(|backend| backend.name()),
            tries: exchange.tries,
            received_bytes: exchange.received_bytes,
            sent_bytes: session.body_bytes_sent(),
            connect_ms: exchange.connect_ms,
            first_byte_ms: exchange.first_byte_ms,
            duration_ms: milliseconds(exchange.began),
            termination: end,
        });
        let whole = Whole {
            trace: exchange.trace,
            request_id: &exchange.request_id,
            began: exchange.began,
            method: &request.method,
            path: request.uri.path(),
            authority: authority(request).unwrap_or_default(),
            client: exchange.connection.client,
            version: request.version,
            status,
            first_byte_ms: exchange.first_byte_ms,
            received_bytes: exchange.received_bytes,
            sent_bytes: session.body_bytes_sent(),
            end,
        };
        exchange.spans.send(&self.edge.traces, &whole);
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true // the access log has it
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true // the metrics count it
    }
}

fn no_backend() -> Box<Error> {
    Error::new_in(ErrorType::HTTPStatus(503))
}

/// What a request is for: `:authority`, or `Host`.
fn authority(request: &RequestHeader) -> Option<&str> {
    let of_target = request.uri.authority().map(http::uri::Authority::as_str);
    of_target.or_else(|| text(&request.headers, &HOST))
}

fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn bytes_of(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}

/// HTTP/2 may spread cookies over several fields; HTTP/1.1 wants one (RFC 9113, 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let mut cookies = request.headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (cookies.next(), cookies.next()) else {
        return Ok(());
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in request.headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    request.insert_header(COOKIE, joined)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_that_came_apart_are_joined() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for cookie in ["a=1", "b=2", "c=3"] {
            request.append_header(COOKIE, cookie).unwrap();
        }
        join_cookies(&mut request).unwrap();
        assert_eq!(1, request.headers.get_all(COOKIE).iter().count());
        assert_eq!("a=1; b=2; c=3", request.headers[COOKIE]);
    }
}
