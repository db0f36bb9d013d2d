//! What is sent on: the same message, less what ends at this hop.
//!
//! Framing and `Connection` are written anew, from what was understood and not from what was read. Everything else goes as it came.
//! The blank line is not written, so that the caller can add fields of its own: [`write_field`], then [`end_head`].

use super::connection;
use super::fields::{Field, Fields};
use super::framing::Framing;
use super::known::Known;
use super::request::RequestHead;
use super::response::ResponseHead;
use super::trailers::Trailers;

/// What is to become of the connection after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It stays, as it does in HTTP/1.1 unless something is said.
    Keep,
    /// It stays, and that must be said: to a client of HTTP/1.0.
    SayKeep,
    /// It is closed.
    Close,
    /// It changes to what the message's `Upgrade` says. Where [`RequestHead::upgrade`] has none, the connection stays.
    Upgrade,
}

/// Writes a request's line, Host, fields and framing, in HTTP/1.1. Fields that are known and `drop`ped are left out, as are those
/// of this hop. `Expect` goes on unless it is dropped.
pub fn write_request_head(
    head: &RequestHead,
    connection: Connection,
    drop: impl Fn(Known) -> bool,
    out: &mut Vec<u8>,
) {
    let bytes = &head.fields.bytes[..];
    // Once: the head itself, the longest fields that are written anew, and some for what the caller adds.
    out.reserve(bytes.len() + ROOM_BYTES);
    put(
        out,
        &[
            head.token.of(bytes),
            b" ",
            head.target.of(bytes),
            b" HTTP/1.1\r\nhost: ",
            head.authority.of(bytes),
            b"\r\n",
        ],
    );
    let is_ours = |known| known == Known::Host || drop(known);
    write_fields(&head.fields, head.options.others, is_ours, out);
    write_connection(connection, head.upgrade.map(|span| span.of(bytes)), out);
    write_framing(head.framing, out);
}

/// Writes a response's status line, fields and framing, in HTTP/1.1. `framing` is how the content is sent on:
/// [`ResponseHead::framing_to`]. Where none follows, a length that the backend has named goes on.
pub fn write_response_head(
    head: &ResponseHead,
    framing: Framing,
    connection: Connection,
    drop: impl Fn(Known) -> bool,
    out: &mut Vec<u8>,
) {
    let bytes = &head.fields.bytes[..];
    out.reserve(bytes.len() + ROOM_BYTES);
    // The code stands between two blanks right before the reason.
    let code_and_reason = &bytes[head.reason.start() - 4..head.reason.end()];
    put(out, &[b"HTTP/1.1 ", code_and_reason, b"\r\n"]);
    write_fields(&head.fields, head.options.others, drop, out);
    write_connection(connection, head.upgrade.map(|span| span.of(bytes)), out);
    write_framing(
        match (framing, head.length) {
            (Framing::None, Some(length)) => Framing::Length(length),
            _ => framing,
        },
        out,
    );
}

/// More than the fields that are written anew need, without counting them.
const ROOM_BYTES: usize = 512;

/// Adds one field. Neither part is checked: they are the edge's own.
pub fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    put(out, &[name, b": ", value, b"\r\n"]);
}

/// Ends a head.
pub fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes a chunk of `data`. Nothing is written for no data: an empty chunk is the end.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        write_chunk_line(data.len(), out);
        put(out, &[data, b"\r\n"]);
    }
}

/// Writes only the first line of a chunk with `len` bytes, for data that is sent from where it is. After the data comes CR LF.
pub fn write_chunk_line(len: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = len;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    put(out, &[&digits[at..], b"\r\n"]);
}

/// Writes the last chunk and the trailers.
pub fn write_end_of_chunks(trailers: Option<&Trailers>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        write_fields(&trailers.fields, false, |_| false, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields that go on. Lines that stand together and are as we would write them are copied together.
#[inline]
fn write_fields(
    fields: &Fields,
    others_named: bool,
    drop: impl Fn(Known) -> bool,
    out: &mut Vec<u8>,
) {
    let bytes = &fields.bytes[..];
    let is_framing = |known| matches!(known, Known::ContentLength | Known::TransferEncoding);
    let mut run = 0..0;
    for field in fields.list() {
        let known = field.known;
        if known != Known::Other && (known.is_hop_by_hop() || is_framing(known) || drop(known))
            || others_named && is_named(fields, field)
        {
            continue;
        }
        let (start, end) = (field.name.start(), field.value.end() + 2);
        if field.name.end() + 2 != field.value.start()
            || bytes[field.name.end() + 1] != b' '
            || bytes[field.value.end()] != b'\r'
        {
            out.extend_from_slice(&bytes[run]);
            run = 0..0;
            write_field(field.name.of(bytes), field.value.of(bytes), out);
        } else if run.end == start {
            run.end = end;
        } else {
            out.extend_from_slice(&bytes[run]);
            run = start..end;
        }
    }
    out.extend_from_slice(&bytes[run]);
}

/// The fields of a response that go on, for who writes them in another way. Those of framing are left out: how much content there is
/// says [`ResponseHead::content_length`].
pub fn fields_to_pass<'a>(
    head: &'a ResponseHead,
    drop: impl Fn(Known) -> bool + 'a,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let fields = &head.fields;
    let others_named = head.options.others;
    let is_framing = |known| matches!(known, Known::ContentLength | Known::TransferEncoding);
    let stays = move |field: &&Field| {
        !(field.known.is_hop_by_hop()
            || is_framing(field.known)
            || drop(field.known)
            || others_named && is_named(fields, field))
    };
    fields
        .list()
        .iter()
        .filter(stays)
        .map(|field| (field.name.of(&fields.bytes), field.value.of(&fields.bytes)))
}

#[cold]
fn is_named(fields: &Fields, field: &Field) -> bool {
    let named = fields.values(Known::Connection, &fields.bytes);
    connection::names(named, field.known, field.name.of(&fields.bytes))
}

/// Writes what is to become of the connection; `upgrade` is what it changes to, if it does.
pub fn write_connection(connection: Connection, upgrade: Option<&[u8]>, out: &mut Vec<u8>) {
    match (connection, upgrade) {
        (Connection::Keep, _) | (Connection::Upgrade, None) => {}
        (Connection::SayKeep, _) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (Connection::Close, _) => out.extend_from_slice(b"connection: close\r\n"),
        (Connection::Upgrade, Some(protocols)) => {
            put(
                out,
                &[b"connection: upgrade\r\nupgrade: ", protocols, b"\r\n"],
            );
        }
    }
}

/// Writes the field that tells where the content ends, if one does.
pub fn write_framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number(length, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[inline]
fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
