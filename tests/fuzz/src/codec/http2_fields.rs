//! What a stream of HTTP/2 says, made into HTTP/1.1. In frames a name or a value can hold any byte: nothing that passes may end a line,
//! a head or a message where it is written as text.
//!
//! An input's first byte says what is there, and the others are parts with `\x1e` between them: method, scheme, authority, path, and then
//! fields, each a name, `\x1f` and a value. Neither byte may pass, and both are refused like any other control byte.

use super::reference::{self, Field, Request, Verdict};
use super::{cases, heads, no_limits};
use crate::http1::{
    Connection, Framing, Limits, Parts, Refusal, RequestHead, Trailers, end_head,
    write_end_of_chunks, write_request_head,
};

/// Bits of the first byte.
pub(super) const SMALL_LIMITS: u8 = 1;
pub(super) const END_OF_STREAM: u8 = 2;
pub(super) const HAS_SCHEME: u8 = 4;
pub(super) const HAS_AUTHORITY: u8 = 8;

/// What passes is what the rules allow, and is one request with the same fields to the reference reader; trailers likewise.
///
/// # Panics
///
/// If this does not hold.
pub fn check(data: &[u8]) {
    let Some((choice, sent)) = data.split_first() else {
        return;
    };
    let has = |bit| choice & bit != 0;
    let mut words = sent.split(|byte| *byte == 0x1e);
    let mut word = || words.next().unwrap_or_default();
    let parts = Parts {
        method: word(),
        scheme: Some(word()).filter(|_| has(HAS_SCHEME)),
        authority: Some(word()).filter(|_| has(HAS_AUTHORITY)),
        path: word(),
        end_of_stream: has(END_OF_STREAM),
    };
    let fields: Vec<(&[u8], &[u8])> = words
        .map(|field| match field.iter().position(|byte| *byte == 0x1f) {
            Some(at) => (&field[..at], &field[at + 1..]),
            None => (field, &b""[..]),
        })
        .collect();
    let limits = match has(SMALL_LIMITS) {
        true => cases::limits(),
        false => Limits::default(),
    };
    check_head(parts, &fields, &limits);
    check_trailers(&fields, &limits);
}

fn check_head(parts: Parts<'_>, fields: &[(&[u8], &[u8])], limits: &Limits) {
    let expected = allowed(&parts, fields);
    let head = match RequestHead::from_parts(parts, fields.iter().copied(), limits, None) {
        Ok(head) => head,
        Err(Refusal::TooManyFields | Refusal::HeadTooLarge | Refusal::TargetTooLong) => return,
        Err(refusal) => {
            assert_eq!(None, expected, "what is allowed is refused: {refusal:?}");
            return;
        }
    };
    let expected = expected.unwrap_or_else(|| panic!("it is not allowed: {head:?}"));
    let has = Request {
        method: head.method_str().to_owned(),
        target: String::from_utf8_lossy(head.target()).into_owned(),
        path: head.path().to_owned(),
        authority: head.authority().to_owned(),
        version_minor: head.version_minor(),
        framing: head.framing(),
        keep_alive: head.keep_alive(),
        expects_continue: head.expects_continue(),
        upgrade: head.upgrade().map(str::to_owned),
        fields: expected.fields.clone(),
    };
    assert_eq!(expected, has, "the readers disagree");
    heads::check_words(&head);
    let own = head.fields();
    let own: Vec<Field> = own.map(|(_, n, v)| (n.to_vec(), v.to_vec())).collect();
    let one_cookie = with_one_cookie(fields);
    assert_eq!(one_cookie, cookie_last(&own), "fields are lost");

    for connection in [Connection::Keep, Connection::Close, Connection::Upgrade] {
        let mut out = Vec::new();
        write_request_head(&head, connection, |_| false, &mut out);
        end_head(&mut out);
        let again = heads::whole(reference::request(&out, &no_limits()), &out);
        let mut passed = vec![(b"host".to_vec(), expected.authority.clone().into_bytes())];
        passed.extend(one_cookie.iter().filter(|(name, _)| goes_on(name)).cloned());
        if connection == Connection::Close {
            passed.push((b"connection".to_vec(), b"close".to_vec()));
        }
        passed.extend(framing_field(expected.framing));
        assert_eq!(cookie_last(&passed), cookie_last(&again.fields));
        let but_for_fields = Request {
            keep_alive: connection != Connection::Close,
            fields: again.fields.clone(),
            ..expected.clone()
        };
        assert_eq!(but_for_fields, again, "what is sent on is another request");
    }
}

fn check_trailers(fields: &[(&[u8], &[u8])], limits: &Limits) {
    let mut text = b"0\r\n".to_vec();
    for (name, value) in fields {
        text.extend_from_slice(&[*name, b": ", *value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    let given: Vec<Field> = fields
        .iter()
        .map(|(n, v)| (n.to_vec(), v.to_vec()))
        .collect();
    let as_text = reference::chunks(&text, &no_limits()).1;
    let is_allowed = fields.iter().all(|(name, value)| is_allowed(name, value))
        && as_text == Verdict::Taken(given.clone(), text.len());
    let trailers = match Trailers::from_fields(fields.iter().copied(), limits) {
        Ok(trailers) => trailers,
        Err(Refusal::TooManyFields | Refusal::HeadTooLarge | Refusal::TrailersTooLarge) => return,
        Err(refusal) => {
            assert!(!is_allowed, "what is allowed is refused: {refusal:?}");
            return;
        }
    };
    assert!(is_allowed, "it is not allowed: {trailers:?}");
    assert_eq!(fields.is_empty(), trailers.is_none());
    let mut out = Vec::new();
    write_end_of_chunks(trailers.as_ref(), &mut out);
    assert_eq!(
        (Vec::new(), Verdict::Taken(given, out.len())),
        reference::chunks(&out, &no_limits())
    );
}

/// What the rules of RFC 9113 and 9112 make of a stream, by writing it out and giving it to the reference reader.
fn allowed(parts: &Parts<'_>, fields: &[(&[u8], &[u8])]) -> Option<Request> {
    if !fields.iter().all(|(name, value)| is_allowed(name, value)) {
        return None;
    }
    let one_cookie = with_one_cookie(fields);
    let values = |name| reference::values(&one_cookie, name);
    // 8.3.1: one authority, by whichever name.
    let hosts = values("host");
    let authority = match (parts.authority, &hosts[..]) {
        (Some(authority), []) => authority,
        (Some(authority), [host]) if authority.eq_ignore_ascii_case(host) => authority,
        (None, [host]) => host,
        _ => return None,
    };
    // 8.3.1 and 8.5: scheme and path, or neither.
    let target = if parts.method == b"CONNECT" {
        let is_form = parts.scheme.is_none() && parts.path.is_empty();
        parts.authority.filter(|_| is_form)?
    } else {
        let scheme = parts.scheme?.to_ascii_lowercase();
        let is_form =
            parts.path.starts_with(b"/") || parts.method == b"OPTIONS" && parts.path == b"*";
        (is_form && [&b"http"[..], b"https"].contains(&&scheme[..])).then_some(parts.path)?
    };
    let mut text = [parts.method, b" ", target, b" HTTP/1.1\r\n"].concat();
    text.extend_from_slice(&[b"host: ", authority, b"\r\n"].concat());
    for (name, value) in one_cookie.iter().filter(|(name, _)| name != b"host") {
        text.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
    }
    if values("content-length").is_empty() && !parts.end_of_stream {
        text.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let Verdict::Taken(request, used) = reference::request(&text, &no_limits()) else {
        return None;
    };
    // Nothing of it may have been taken for a line's end.
    let is_same = used == text.len()
        && request.method.as_bytes() == parts.method
        && request.target.as_bytes() == target
        && request.authority.as_bytes() == authority;
    // 8.1.1: no content is not some.
    let is_empty = !parts.end_of_stream || matches!(request.framing, Framing::None | EMPTY);
    (is_same && is_empty).then_some(request)
}

const EMPTY: Framing = Framing::Length(0);

/// 8.2.1 and 8.2.2.
fn is_allowed(name: &[u8], value: &[u8]) -> bool {
    let is_name_byte = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
    let is_value_byte = |byte: &u8| *byte == b'\t' || *byte > 0x1f && *byte != 0x7f;
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_of_connection = [
        "connection",
        "proxy-connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
    ];
    !name.is_empty()
        && name.iter().all(is_name_byte)
        && value.iter().all(is_value_byte)
        && !is_blank(value.first())
        && !is_blank(value.last())
        && !is_of_connection.iter().any(|own| own.as_bytes() == name)
        && (name != b"te" || value.eq_ignore_ascii_case(b"trailers"))
}

/// The fields with all cookies in one (8.2.3), which is the last field. Empty ones add nothing.
fn with_one_cookie(fields: &[(&[u8], &[u8])]) -> Vec<Field> {
    let is_cookie = |(name, _): &&(&[u8], &[u8])| *name == b"cookie";
    let cookies: Vec<&[u8]> = fields
        .iter()
        .filter(is_cookie)
        .map(|(_, value)| *value)
        .collect();
    let others = fields.iter().filter(|field| !is_cookie(field));
    let mut one: Vec<Field> = others.map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
    if !cookies.is_empty() {
        let said: Vec<&[u8]> = cookies.into_iter().filter(|c| !c.is_empty()).collect();
        one.push((b"cookie".to_vec(), said.join(&b"; "[..])));
    }
    one
}

/// With every cookie behind the others.
fn cookie_last(fields: &[Field]) -> Vec<Field> {
    let (cookies, mut fields): (Vec<Field>, Vec<Field>) = fields
        .iter()
        .cloned()
        .partition(|(name, _)| name == b"cookie");
    fields.extend(cookies);
    fields
}

/// Neither of this hop nor written anew.
fn goes_on(name: &[u8]) -> bool {
    ![&b"host"[..], b"te", b"http2-settings", b"content-length"].contains(&name)
}

fn framing_field(framing: Framing) -> Option<Field> {
    match framing {
        Framing::None | Framing::UntilClose => None,
        Framing::Chunked => Some((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
        Framing::Length(length) => {
            Some((b"content-length".to_vec(), length.to_string().into_bytes()))
        }
    }
}
