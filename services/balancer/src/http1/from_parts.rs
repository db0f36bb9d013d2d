//! The head of a request that came by HTTP/2, as if it had come by HTTP/1.1.
//!
//! The rules here are those of RFC 9113 (8.2, 8.3) that its framing layer leaves to whoever makes HTTP/1.1 of a request: what is
//! harmless in binary frames ends a line in text.

use bytes::BytesMut;

use super::authority;
use super::class::{self, VALUE};
use super::connection::Options;
use super::fields::{Field, Fields};
use super::framing::Framing;
use super::known::Known;
use super::limits::Limits;
use super::method::Method;
use super::refusal::Refusal;
use super::request::{Facts, RequestHead};
use super::span::Span;
use super::target::{self, Form};

/// A request's pseudo-fields, and whether anything follows its fields.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `:method`
    pub method: &'a [u8],
    /// `:scheme`; CONNECT has none.
    pub scheme: Option<&'a [u8]>,
    /// `:authority`; without one, there must be a Host.
    pub authority: Option<&'a [u8]>,
    /// `:path`; CONNECT has none.
    pub path: &'a [u8],
    /// Whether the stream ended with the fields.
    pub end_of_stream: bool,
}

/// What is asked of the allocator for a head before its size is known.
const ROOM_BYTES: usize = 1_024;

impl RequestHead {
    /// A head of an HTTP/2 request. `fields` are the others, as name and value, in lower case as they must be.
    pub fn from_parts<'a>(
        parts: Parts<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        limits: &Limits,
        reuse: Option<RequestHead>,
    ) -> Result<RequestHead, Refusal> {
        if !class::is_token(parts.method) {
            return Err(Refusal::MethodNotToken);
        }
        if parts.path.len() > limits.target_bytes_max {
            return Err(Refusal::TargetTooLong);
        }
        let method = Method::of(parts.method);
        let mut writer = Writer {
            bytes: BytesMut::with_capacity(ROOM_BYTES),
            fields: Fields::reusing(reuse.map_or_else(Vec::new, |head| head.fields.into_list())),
            limits,
        };
        let token = writer.put(parts.method)?;
        let target = writer.put(match method {
            Method::Connect => parts.authority.unwrap_or_default(),
            _ => parts.path,
        })?;
        let pseudo = match parts.authority {
            Some(authority) => Some(writer.put(authority)?),
            None => None,
        };
        let mut facts = Facts::default();
        for (name, value) in fields {
            let known = check(name, value)?;
            if !matches!(known, Known::Connection | Known::Upgrade) {
                facts.add(known, value)?;
            }
            writer.field(known, name, value)?;
        }
        let path_len = path_len(&parts, method)?;
        let authority = match (parts.authority, facts.host) {
            (None, None) => return Err(Refusal::HostMissing),
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Refusal::HostDiffers);
            }
            (Some(authority), _) | (None, Some(authority)) => authority,
        };
        authority::check(authority)?;
        let framing = match (parts.end_of_stream, facts.seen.length) {
            (true, Some(length)) if length > 0 => return Err(Refusal::Http2Length),
            (_, Some(length)) => Framing::Length(length),
            (true, None) => Framing::None,
            (false, None) => Framing::Chunked,
        };
        if method == Method::Trace && framing.has_content() {
            return Err(Refusal::TraceWithContent);
        }
        let host = || writer.fields.first(Known::Host).map(|field| field.value);
        let authority = pseudo.or_else(host).unwrap_or_default();
        let Writer { bytes, fields, .. } = writer;
        let mut head = RequestHead {
            fields,
            method,
            token,
            target,
            path: Span::new(target.start(), path_len),
            authority,
            upgrade: None,
            framing,
            options: Options::default(),
            version_minor: 1,
            expects_continue: facts.expects_continue(1, framing),
        };
        head.fields.bytes = bytes.freeze();
        Ok(head)
    }
}

/// The path's length, when scheme and path are what the method takes.
fn path_len(parts: &Parts<'_>, method: Method) -> Result<usize, Refusal> {
    if method == Method::Connect {
        let has_target = parts.authority.is_some_and(authority::has_port);
        return match parts.scheme.is_none() && parts.path.is_empty() && has_target {
            true => Ok(0),
            false => Err(Refusal::TargetForm),
        };
    }
    target::check_scheme(parts.scheme.unwrap_or_default()).map_err(|_| Refusal::Scheme)?;
    if parts.path.is_empty() {
        return Err(Refusal::Http2Path);
    }
    match target::check(method, parts.path)? {
        Form::Origin { path_len } => Ok(path_len),
        Form::Asterisk => Ok(1),
        Form::Absolute { .. } | Form::Authority => Err(Refusal::TargetForm),
    }
}

/// Checks one field of HTTP/2, and tells which one it is.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<Known, Refusal> {
    if !class::is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err(Refusal::FieldName);
    }
    if !class::all(value, VALUE) {
        return Err(Refusal::ControlByte);
    }
    if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
        return Err(Refusal::Http2Blank);
    }
    match Known::of(name) {
        Known::Connection
        | Known::ProxyConnection
        | Known::KeepAlive
        | Known::TransferEncoding
        | Known::Upgrade => Err(Refusal::Http2ConnectionField),
        Known::Te if !value.eq_ignore_ascii_case(b"trailers") => Err(Refusal::Http2Te),
        known => Ok(known),
    }
}

/// Writes a section in the one form in which lines are sent on.
pub(crate) struct Writer<'a> {
    pub(crate) bytes: BytesMut,
    pub(crate) fields: Fields,
    pub(crate) limits: &'a Limits,
}

impl Writer<'_> {
    fn put(&mut self, part: &[u8]) -> Result<Span, Refusal> {
        if self.bytes.len() + part.len() > self.limits.head_bytes_max {
            return Err(Refusal::HeadTooLarge);
        }
        let span = Span::new(self.bytes.len(), part.len());
        self.bytes.extend_from_slice(part);
        Ok(span)
    }

    /// Adds a field; a `Cookie` to the one before it (RFC 9113, 8.2.3).
    pub(crate) fn field(&mut self, known: Known, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if known == Known::Cookie && self.fields.has(known) {
            return self.cookie(value);
        }
        if self.fields.list().len() == self.limits.fields() {
            return Err(Refusal::TooManyFields);
        }
        let name = self.put(name)?;
        self.put(b": ")?;
        let value = self.put(value)?;
        self.put(b"\r\n")?;
        self.fields.push(Field { name, value, known });
        Ok(())
    }

    /// Makes one field of the cookies so far and `value`. An empty one adds nothing: a line that ends in `; ` is read without its
    /// blank.
    fn cookie(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if value.is_empty() {
            return Ok(());
        }
        let list = self.fields.list();
        let is_cookie = |field: &Field| field.known == Known::Cookie;
        let index = list.iter().position(is_cookie).expect("the caller saw one");
        let before = self.fields.remove(index);
        let (name, mut start) = (before.name, before.value.start());
        if before.value.end() + 2 == self.bytes.len() {
            self.bytes.truncate(before.value.end());
        } else {
            // Another field came between: the cookies so far are written again, and their old place is nobody's.
            let so_far = before.value.of(&self.bytes).to_vec();
            start = self.put(&so_far)?.start();
        }
        if self.bytes.len() > start {
            self.put(b"; ")?;
        }
        self.put(value)?;
        let value = Span::new(start, self.bytes.len() - start);
        self.put(b"\r\n")?;
        self.fields.push(Field {
            name,
            value,
            known: Known::Cookie,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_become_one_field_where_the_last_one_was_and_empty_ones_add_nothing() {
        let cookies = |values: &[&[u8]]| {
            let parts = Parts {
                method: b"GET",
                scheme: Some(b"https"),
                authority: Some(b"a"),
                path: b"/",
                end_of_stream: true,
            };
            let between = [(&b"a"[..], &b"b"[..])];
            let fields = values.iter().flat_map(|value| {
                let cookie = (&b"cookie"[..], *value);
                between.into_iter().chain([cookie])
            });
            let head = RequestHead::from_parts(parts, fields, &Limits::default(), None).unwrap();
            assert_eq!(values.len() + 1, head.fields().count());
            String::from_utf8_lossy(head.get(Known::Cookie).unwrap()).into_owned()
        };
        assert_eq!("a=1; b=2; c=3", cookies(&[b"a=1", b"b=2", b"c=3"]));
        assert_eq!("a=1", cookies(&[b"a=1", b""]));
        assert_eq!("a=1; b=2", cookies(&[b"", b"a=1", b"", b"b=2", b""]));
        assert_eq!("", cookies(&[b"", b""]));
    }
}
