//! The fields that every answer of the edge carries.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::backend::Backend;
use crate::edge::Edge;
use crate::http1::write_field;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const X_SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// What the edge says about one request, in the answer's head. All of it is ASCII.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The request's number.
    pub request_id: &'a [u8],
    /// Our span in the request's trace.
    pub traceresponse: &'a [u8],
    /// The backend that has answered, if one has, and if clients may know.
    pub served_by: Option<&'a Backend>,
}

impl Stamp<'_> {
    /// Writes the fields for HTTP/1.1.
    pub fn write(&self, edge: &Edge, out: &mut Vec<u8>) {
        write_field(b"x-request-id", self.request_id, out);
        write_field(b"traceresponse", self.traceresponse, out);
        write_field(b"strict-transport-security", edge.hsts().as_bytes(), out);
        if let Some(backend) = self.served_by {
            write_field(b"x-served-by", backend.name().as_bytes(), out);
        }
    }

    /// Puts the fields into those of HTTP/2.
    pub fn put(&self, edge: &Edge, fields: &mut HeaderMap) {
        fields.insert(X_REQUEST_ID, once(self.request_id));
        fields.insert(TRACERESPONSE, once(self.traceresponse));
        let hsts = edge.hsts().clone();
        fields.insert(http::header::STRICT_TRANSPORT_SECURITY, hsts);
        if let Some(backend) = self.served_by {
            fields.insert(X_SERVED_BY, backend.header_value().clone());
        }
    }
}

/// A value that never comes again: in HPACK's table it would only be in the way of those that do (RFC 7541, 7.1.3).
fn once(value: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(value).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
