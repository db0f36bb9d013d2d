//! The head of a backend's response, read as strictly as a request's: what a backend gets wrong is not for clients to interpret.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use httparse::{ParserConfig, Status};
use memchr::memchr;

use super::connection::{Options, is_protocols};
use super::diagnosis;
use super::fields::Fields;
use super::framing::{Coding, Framing, Seen};
use super::known::Known;
use super::limits::Limits;
use super::method::Method;
use super::refusal::Refusal;
use super::request::RequestHead;
use super::scan::{self, Section};
use super::section::{collect, slots};
use super::span::Span;

/// What a response answers, as far as its framing depends on it (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// HEAD: no content, whatever the fields say.
    Head,
    /// CONNECT: with 2xx, what follows is a tunnel.
    Connect,
    /// Anything else.
    Other,
}

impl RequestHead {
    /// What a response to this request answers.
    pub fn answering(&self) -> Answering {
        match self.method {
            Method::Head => Answering::Head,
            Method::Connect => Answering::Connect,
            _ => Answering::Other,
        }
    }
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    pub(crate) fields: Fields,
    pub(crate) status: StatusCode,
    pub(crate) reason: Span,
    pub(crate) framing: Framing,
    /// What `Content-Length` says, also where no content follows.
    pub(crate) length: Option<u64>,
    pub(crate) upgrade: Option<Span>,
    pub(crate) options: Options,
    version_minor: u8,
}

impl ResponseHead {
    /// Takes a head off the buffer's front; `None` if more bytes are needed. `reuse` is a head that is done with, for its room.
    ///
    /// Interim responses (1xx) are heads like any other: after one that [`is_interim`](Self::is_interim), the next is read.
    pub fn parse(
        buffer: &mut BytesMut,
        limits: &Limits,
        answering: Answering,
        reuse: Option<ResponseHead>,
    ) -> Result<Option<ResponseHead>, Refusal> {
        if !buffer.ends_with(b"\r\n\r\n") && scan::end(buffer, Section::Head, limits)?.is_none() {
            return Ok(None);
        }
        let fields = Fields::reusing(reuse.map_or_else(Vec::new, |head| head.fields.into_list()));
        match read(buffer, limits, answering, fields) {
            Ok((mut head, len)) => {
                head.fields.bytes = buffer.split_to(len).freeze();
                Ok(Some(head))
            }
            Err(refusal) => Err(scan::end(buffer, Section::Head, limits)
                .err()
                .unwrap_or(refusal)),
        }
    }

    /// Lets go of the bytes, for a head that is kept for its room alone.
    pub fn emptied(mut self) -> ResponseHead {
        self.fields.bytes = Bytes::new();
        self
    }

    /// The status, 100 to 599.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether another response to the same request follows. 101 is the last one: after it, HTTP is over.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// The reason phrase, which may be empty, and may be anything but control bytes.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.fields.bytes)
    }

    /// Where the content ends that follows.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// What `Content-Length` says: of the content, or, in answer to HEAD and with 304, of what a GET would have got.
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// How the same content is delimited to a client of HTTP/1.`version_minor`: HTTP/1.0 knows no chunks, and what a backend ends
    /// by closing is sent on in chunks.
    pub fn framing_to(&self, version_minor: u8) -> Framing {
        match self.framing {
            Framing::Chunked if version_minor == 0 => Framing::UntilClose,
            Framing::UntilClose if version_minor > 0 => Framing::Chunked,
            framing => framing,
        }
    }

    /// Whether the connection may be used again when the content has been read.
    pub fn keep_alive(&self) -> bool {
        self.options.keeps(self.version_minor)
            && self.framing != Framing::UntilClose
            && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// What the backend has changed to, with 101, if `Connection` names it and it is one field that is a list of protocols.
    pub fn upgrade(&self) -> Option<&str> {
        self.upgrade.map(|span| span.text(&self.fields.bytes))
    }

    /// All fields, in their order. Names are in the case in which they were written.
    pub fn fields(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.fields.iter()
    }

    /// The value of the first field of this name. Not for [`Known::Other`].
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        self.fields.get(known)
    }

    /// 0 or 1.
    pub fn version_minor(&self) -> u8 {
        self.version_minor
    }
}

/// `HTTP/1.1 200 `
const BEFORE_REASON: usize = 13;

fn read(
    bytes: &[u8],
    limits: &Limits,
    answering: Answering,
    mut fields: Fields,
) -> Result<(ResponseHead, usize), Refusal> {
    let mut slots = slots();
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut slots[..limits.fields()],
    );
    let (Ok(Status::Complete(len)), Some(code), Some(version_minor)) =
        (parsed, response.code, response.version)
    else {
        return Err(diagnosis::of_response(bytes));
    };
    let head = &bytes[..len];
    // httparse takes blank lines before the head, and a missing blank after the code; neither is in the grammar. This comes before
    // the size: a blank line that comes alone is refused before it is known how long the rest is.
    if head[0] != b'H' || head[BEFORE_REASON - 1] != b' ' {
        return Err(Refusal::StatusLine);
    }
    if len > limits.head_bytes_max {
        return Err(Refusal::HeadTooLarge);
    }
    let reason_len = memchr(b'\r', &head[BEFORE_REASON..]).ok_or(Refusal::BareLf)?;
    let (mut options, mut seen) = (Options::default(), Seen::default());
    let (mut upgrade, mut upgrades) = (None, 0);
    collect(head, response.headers, &mut fields, |known, value| {
        match known {
            Known::ContentLength => seen.add_length(value)?,
            Known::TransferEncoding => seen.add_coding(value),
            Known::Connection => options.add(value)?,
            Known::Upgrade => {
                upgrade = Some(Span::within(head, value)).filter(|_| is_protocols(value));
                upgrades += 1;
            }
            _ => {}
        }
        Ok(())
    })?;
    let status = StatusCode::from_u16(code)
        .ok()
        .filter(|_| code < 600)
        .ok_or(Refusal::StatusCode)?;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let head = ResponseHead {
        framing: framing(seen, status, answering, version_minor, &fields, head)?,
        fields,
        status,
        reason: Span::new(BEFORE_REASON, reason_len),
        length: seen.length,
        upgrade: upgrade.filter(|_| switches && upgrades == 1 && options.upgrade),
        options,
        version_minor,
    };
    Ok((head, len))
}

/// RFC 9112, 6.3.
fn framing(
    seen: Seen,
    status: StatusCode,
    answering: Answering,
    version_minor: u8,
    fields: &Fields,
    bytes: &[u8],
) -> Result<Framing, Refusal> {
    let has_fields = seen.length.is_some() || seen.coding != Coding::None;
    let by_fields = seen.framing(version_minor, fields, bytes)?;
    match status.as_u16() {
        100..=199 | 204 if has_fields => Err(Refusal::ContentForbidden),
        100..=199 | 204 | 304 => Ok(Framing::None),
        200..=299 if answering == Answering::Connect => Ok(Framing::None),
        _ if answering == Answering::Head => Ok(Framing::None),
        _ if by_fields == Framing::None => Ok(Framing::UntilClose),
        _ => Ok(by_fields),
    }
}
