//! The fields that every answer of the edge carries.

use crate::edge::Edge;

/// What the edge says about one request, in the answer's head.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The request's number.
    pub request_id: &'a str,
    /// Our span in the request's trace.
    pub traceresponse: &'a str,
    /// The backend that has answered, if one has, and if clients may know.
    pub served_by: Option<&'a str>,
}

impl Stamp<'_> {
    /// Shows each field to `put`, as name and value.
    pub fn each(&self, edge: &Edge, mut put: impl FnMut(&'static str, &[u8])) {
        put("x-request-id", self.request_id.as_bytes());
        put("traceresponse", self.traceresponse.as_bytes());
        put("strict-transport-security", edge.hsts().as_bytes());
        if let Some(backend) = self.served_by {
            put("x-served-by", backend.as_bytes());
        }
    }
}
