//! Finds out which rule a head breaks that httparse has refused: httparse says little, and a client deserves the rule.
//!
//! Slow and only for what is refused anyway. It is given whole sections, whose lines all end in CR LF.

use super::class::{self, TOKEN, VALUE};
use super::refusal::Refusal;

/// Of a request's head.
#[cold]
pub(crate) fn of_request(head: &[u8]) -> Refusal {
    let (line, fields) = first_line(head);
    of_request_line(line)
        .or_else(|| of_fields(fields))
        .unwrap_or(Refusal::RequestLine)
}

/// Of a response's head.
#[cold]
pub(crate) fn of_response(head: &[u8]) -> Refusal {
    let (line, fields) = first_line(head);
    of_status_line(line)
        .or_else(|| of_fields(fields))
        .unwrap_or(Refusal::StatusLine)
}

/// Of a trailer section.
#[cold]
pub(crate) fn of_trailers(section: &[u8]) -> Refusal {
    of_fields(section).unwrap_or(Refusal::NoColon)
}

fn first_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end = head.windows(2).position(|window| window == b"\r\n");
    match end {
        Some(end) => (&head[..end], &head[end + 2..]),
        None => (head, &[]),
    }
}

fn of_request_line(line: &[u8]) -> Option<Refusal> {
    if let Some(refusal) = of_bytes(line) {
        return Some(refusal);
    }
    if line == b"PRI * HTTP/2.0" {
        return Some(Refusal::Preface);
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    if !method.is_some_and(class::is_token) {
        return Some(Refusal::MethodNotToken);
    }
    match (target, version, parts.next()) {
        (Some([_, ..]), Some(b"HTTP/1.0" | b"HTTP/1.1"), None) => None,
        (Some([_, ..]), Some(version), None) if is_version(version) => Some(Refusal::Version),
        _ => Some(Refusal::RequestLine),
    }
}

fn of_status_line(line: &[u8]) -> Option<Refusal> {
    if let Some(refusal) = of_bytes(line) {
        return Some(refusal);
    }
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(b"HTTP/1.0" | b"HTTP/1.1"), Some([_, _, _]), Some(_)) => None,
        _ => Some(Refusal::StatusLine),
    }
}

/// `HTTP/` and two digits with a dot between them.
fn is_version(version: &[u8]) -> bool {
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn of_fields(section: &[u8]) -> Option<Refusal> {
    let mut rest = section;
    while !rest.is_empty() {
        let (line, after) = first_line(rest);
        if line.is_empty() {
            return None;
        }
        if let Some(refusal) = of_field(line) {
            return Some(refusal);
        }
        rest = after;
    }
    None
}

fn of_field(line: &[u8]) -> Option<Refusal> {
    if let Some(refusal) = of_bytes(line) {
        return Some(refusal);
    }
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some(Refusal::ObsFold);
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some(Refusal::NoColon);
    };
    match &line[..colon] {
        [] => Some(Refusal::EmptyName),
        [.., b' ' | b'\t'] => Some(Refusal::SpaceBeforeColon),
        name if !class::all(name, TOKEN) => Some(Refusal::FieldName),
        _ => None,
    }
}

fn of_bytes(line: &[u8]) -> Option<Refusal> {
    if line.contains(&b'\r') {
        return Some(Refusal::BareCr);
    }
    (!class::all(line, VALUE)).then_some(Refusal::ControlByte)
}
