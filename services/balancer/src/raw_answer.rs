//! The answers of the plain port, whole. Each is the last on its connection. `strict-transport-security` has no meaning in plain text
//! (RFC 6797, 7.2).

use std::time::SystemTime;

use telemetry::trace_context::TraceContext;

use crate::edge;
use crate::problem::Problem;

/// A problem document as a whole HTTP/1.1 answer.
pub fn problem(problem: Problem) -> String {
    let trace = TraceContext::new(false);
    let body = problem.document(&trace.trace_id, None);
    let status = problem.status();
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-request-id: {}\r\ntraceresponse: {}\r\nconnection: close\r\n\r\n{body}",
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
         x-request-id: {}\r\ntraceresponse: {}\r\nconnection: close\r\n\r\n",
        request_id(),
        unrecorded(traceparent).to_traceresponse(),
    )
}

fn request_id() -> String {
    String::from_utf8_lossy(&edge::request_id(SystemTime::now())).into_owned()
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
