//! Whole connections: heads with their content, read by both readers, and what is sent on of them.

use bytes::BytesMut;

use super::agreement::{check_requests, check_responses};
use super::no_limits;
use super::reference::{self, Field, Verdict};
use crate::http1::{
    Answering, Connection, Known, RequestHead, ResponseHead, end_head, fields_to_pass,
    write_request_head, write_response_head,
};
use crate::shape::Shape;

const CONNECTIONS: [Connection; 4] = [
    Connection::Keep,
    Connection::SayKeep,
    Connection::Close,
    Connection::Upgrade,
];

/// Requests of one connection: both readers see the same ones, however they are cut, and so does the next reader.
///
/// # Panics
///
/// If this does not hold.
pub fn check_request_heads(data: &[u8]) {
    let Some((shape, sent)) = Shape::of(data) else {
        return;
    };
    let limits = shape.limits();
    check_requests(sent, &shape.cuts(), &limits);

    let mut buffer = BytesMut::from(sent);
    let read = RequestHead::parse(&mut buffer, &limits, None);
    let Some(head) = taken(read, sent, &buffer, limits.head_bytes_max + 2) else {
        return;
    };
    check_names(head.fields(), |known| head.get(known));
    check_words(&head);
    let whole = written_request(&head, Connection::Keep, |_| false);
    let drop = drops(shape.choice);
    for connection in CONNECTIONS {
        let part = written_request(&head, connection, &drop);
        assert_eq!(connection != Connection::Close, part.keep_alive);
        assert_eq!(whole.method, part.method);
        assert_eq!(whole.target, part.target);
        assert_eq!(whole.authority, part.authority);
        assert_eq!(whole.framing, part.framing);
        assert_eq!(
            end_to_end(&whole.fields, |known| known != Known::Host && drop(known)),
            end_to_end(&part.fields, |_| false)
        );
    }
}

/// The head that was read, if one was; `buffer` is what the reader has left of what was `sent`, and `room` the longest that it may wait
/// for more with.
fn taken<Head, Refusal>(
    read: Result<Option<Head>, Refusal>,
    sent: &[u8],
    buffer: &[u8],
    room: usize,
) -> Option<Head> {
    match read {
        Ok(Some(head)) => {
            assert!(sent.ends_with(buffer), "what comes after the head is lost");
            Some(head)
        }
        Ok(None) => {
            assert!(buffer.len() <= room, "more than a head is asked for");
            None
        }
        Err(_) => {
            assert_eq!(sent, buffer, "what is refused is taken");
            None
        }
    }
}

/// Responses of one connection, as [`check_request_heads`].
///
/// # Panics
///
/// If this does not hold.
pub fn check_response_heads(data: &[u8]) {
    let Some((shape, sent)) = Shape::of(data) else {
        return;
    };
    let limits = shape.limits();
    let answering = match shape.choice >> 1 & 3 {
        0 | 1 => Answering::Other,
        2 => Answering::Head,
        _ => Answering::Connect,
    };
    check_responses(sent, &shape.cuts(), &limits, answering);

    let mut buffer = BytesMut::from(sent);
    let read = ResponseHead::parse(&mut buffer, &limits, answering, None);
    let Some(head) = taken(read, sent, &buffer, limits.head_bytes_max) else {
        return;
    };
    check_names(head.fields(), |known| head.get(known));
    let whole = written_response(&head, 1, answering, Connection::Keep, |_| false);
    let drop = drops(shape.choice);
    for (connection, minor) in CONNECTIONS
        .into_iter()
        .flat_map(|connection| [(connection, 0), (connection, 1)])
    {
        let part = written_response(&head, minor, answering, connection, &drop);
        assert_eq!(head.framing_to(minor), part.framing);
        assert_eq!((whole.status, &whole.reason), (part.status, &part.reason));
        assert_eq!(
            end_to_end(&whole.fields, &drop),
            end_to_end(&part.fields, |_| false)
        );
        // By HTTP/2 the same fields go on.
        let passed: Vec<Field> = fields_to_pass(&head, &drop)
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        assert_eq!(passed, end_to_end(&part.fields, |_| false));
        for (name, value) in passed {
            assert!(http::HeaderName::from_bytes(&name).is_ok());
            assert!(http::HeaderValue::from_bytes(&value).is_ok());
        }
    }
}

/// A name is known in any case, and by it the first value is found.
fn check_names<'a>(
    fields: impl Iterator<Item = (Known, &'a [u8], &'a [u8])>,
    get: impl Fn(Known) -> Option<&'a [u8]>,
) {
    let mut seen = Vec::new();
    for (known, name, value) in fields {
        let is_same = |known: &&Known| name.eq_ignore_ascii_case(known.name().as_bytes());
        let expected = Known::ALL.iter().find(is_same).unwrap_or(&Known::Other);
        assert_eq!(*expected, known);
        if known != Known::Other && !seen.contains(&known) {
            seen.push(known);
            assert_eq!(Some(value), get(known));
        }
    }
    for known in Known::ALL.iter().filter(|known| !seen.contains(known)) {
        assert_eq!(None, get(*known));
    }
}

/// The access log writes these as they are, between quotation marks.
pub(super) fn check_words(head: &RequestHead) {
    let words = [
        head.method_bytes(),
        head.path_bytes(),
        head.authority_bytes(),
    ];
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    assert!(words.concat().iter().all(is_plain), "{words:?}");
    let (method, path, authority) = (head.method_str(), head.path(), head.authority());
    assert_eq!([method, path, authority].map(str::as_bytes), words);
}

/// Some of the fields that are known by name, never the same ones.
fn drops(choice: u8) -> impl Fn(Known) -> bool {
    let nth = choice >> 3;
    move |known| known != Known::Other && nth > 0 && (known as u8) % 31 == nth - 1
}

/// Without what is written anew for each connection.
fn end_to_end(fields: &[Field], is_dropped: impl Fn(Known) -> bool) -> Vec<Field> {
    let is_written_anew = |known| {
        matches!(
            known,
            Known::Connection | Known::Upgrade | Known::ContentLength | Known::TransferEncoding
        )
    };
    let stays = |(name, _): &&Field| {
        let known = Known::of(name);
        !is_written_anew(known) && !is_dropped(known)
    };
    fields.iter().filter(stays).cloned().collect()
}

fn written_request(
    head: &RequestHead,
    connection: Connection,
    drop: impl Fn(Known) -> bool,
) -> reference::Request {
    let mut out = Vec::new();
    write_request_head(head, connection, drop, &mut out);
    end_head(&mut out);
    whole(reference::request(&out, &no_limits()), &out)
}

fn written_response(
    head: &ResponseHead,
    version_minor: u8,
    answering: Answering,
    connection: Connection,
    drop: impl Fn(Known) -> bool,
) -> reference::Response {
    let mut out = Vec::new();
    let framing = head.framing_to(version_minor);
    write_response_head(head, framing, connection, drop, &mut out);
    end_head(&mut out);
    whole(reference::response(&out, &no_limits(), answering), &out)
}

/// What all of `out` means.
pub(super) fn whole<T: std::fmt::Debug>(verdict: Verdict<T>, out: &[u8]) -> T {
    match verdict {
        Verdict::Taken(meaning, used) if used == out.len() => meaning,
        verdict => panic!("{verdict:?}: {:?}", String::from_utf8_lossy(out)),
    }
}
