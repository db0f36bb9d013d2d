//! HTTP/1.1 on the wire: bytes in, decisions out.
//!
//! Strict by design. A message that two readers could understand in two ways is refused, never repaired: where a proxy repairs, the
//! client and the backend can be made to disagree about where a message ends, and one client's request is answered to another. So
//! everything here is either taken exactly as it was sent, or refused with the rule that it breaks ([`Refusal`]).
//!
//! It knows no sockets, no time, no TLS and no backends. Whoever reads a socket puts bytes into a buffer and asks:
//!
//! ```
//! # use balancer::http1::{Framing, Known, Limits, RequestHead};
//! let mut buffer = bytes::BytesMut::from("POST /a?b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc");
//! let head = RequestHead::parse(&mut buffer, &Limits::default(), None)?.expect("it is whole");
//! assert_eq!("/a", head.path());
//! assert_eq!(Framing::Length(3), head.framing());
//! assert_eq!(Some(b"localhost".as_slice()), head.get(Known::Host));
//! assert_eq!(b"abc", &buffer[..]);
//! # Ok::<(), balancer::http1::Refusal>(())
//! ```

mod authority;
mod chunk_line;
mod chunked;
mod class;
mod connection;
mod diagnosis;
mod fields;
mod framing;
mod from_parts;
mod known;
mod limits;
mod method;
mod refusal;
mod request;
mod response;
mod scan;
mod section;
mod span;
mod target;
mod trailers;
mod write;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod reference;

pub use chunked::{Chunked, Piece};
pub use framing::Framing;
pub use from_parts::Parts;
pub use known::Known;
pub use limits::{FIELDS_CAP, Limits};
pub use method::Method;
pub use refusal::Refusal;
pub use request::RequestHead;
pub use response::{Answering, ResponseHead};
pub use trailers::Trailers;
pub use write::{
    Connection, end_head, fields_to_pass, write_chunk, write_chunk_line, write_connection,
    write_end_of_chunks, write_field, write_framing, write_request_head, write_response_head,
};
