//! Answers that are written as bytes, where there is no request yet that a hook could answer. Each is the last on its connection.

use telemetry::trace_context::TraceContext;

use crate::edge::{Edge, request_id};
use crate::headers::{TRACERESPONSE, X_REQUEST_ID};
use crate::problem::Problem;

/// What the answer travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS.
    Secure,
    /// Plain text, in which `strict-transport-security` has no meaning (RFC 6797, 7.2).
    Plain,
}

/// A problem document as a whole HTTP/1.1 answer.
pub fn problem(edge: &Edge, problem: Problem, transport: Transport) -> String {
    let trace = TraceContext::new(false);
    let body = problem.document(&trace.trace_id);
    let hsts = match transport {
        Transport::Secure => format!(
            "strict-transport-security: {}\r\n",
            edge.hsts().to_str().unwrap_or_default()
        ),
        Transport::Plain => String::new(),
    };
    let status = problem.status();
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         {X_REQUEST_ID}: {}\r\n{TRACERESPONSE}: {}\r\n{hsts}connection: close\r\n\r\n{body}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
        request_id(),
        trace.to_traceresponse(),
    )
}

/// The 308 to `location`.
pub fn redirect(location: &str, traceparent: Option<&str>) -> String {
    format!(
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\
         {X_REQUEST_ID}: {}\r\n{TRACERESPONSE}: {}\r\nconnection: close\r\n\r\n",
        request_id(),
        unrecorded(traceparent).to_traceresponse(),
    )
}

/// No span is made here, so none is promised.
fn unrecorded(traceparent: Option<&str>) -> TraceContext {
    let caller = traceparent.and_then(TraceContext::parse);
    let trace = caller.map_or_else(|| TraceContext::new(false), |caller| caller.child());
    TraceContext {
        sampled: false,
        ..trace
    }
}
