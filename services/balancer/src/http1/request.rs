//! The head of a request, read by the rules or not at all.
//!
//! What is taken is kept as it was sent: ranges into the bytes, and what they mean, told once. What is refused stays in the buffer.

use bytes::{Bytes, BytesMut};
use httparse::{ParserConfig, Status};

use super::authority;
use super::connection::{Options, is_protocols};
use super::diagnosis;
use super::fields::Fields;
use super::framing::{Framing, Seen};
use super::known::Known;
use super::limits::Limits;
use super::method::Method;
use super::refusal::Refusal;
use super::scan::{self, Section};
use super::section::{collect, slots};
use super::span::Span;
use super::target::{self, Form};

/// A request's head.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub(crate) fields: Fields,
    pub(crate) method: Method,
    pub(crate) token: Span,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) authority: Span,
    pub(crate) upgrade: Option<Span>,
    pub(crate) framing: Framing,
    pub(crate) options: Options,
    pub(crate) version_minor: u8,
    pub(crate) expects_continue: bool,
}

impl RequestHead {
    /// Takes a head off the buffer's front; `None` if more bytes are needed. `reuse` is a head that is done with, for its room.
    ///
    /// One blank line before the head is passed over (RFC 9112, 2.2), and taken off with it.
    pub fn parse(
        buffer: &mut BytesMut,
        limits: &Limits,
        reuse: Option<RequestHead>,
    ) -> Result<Option<RequestHead>, Refusal> {
        let blank = match &buffer[..] {
            [b'\r', b'\n', b'\r' | b'\n', ..] => return Err(Refusal::LeadingBlankLines),
            [b'\r', b'\n', ..] => 2,
            _ => 0,
        };
        let bytes = &buffer[blank..];
        // A request without content is mostly all that has come, and its end is at the end.
        if !bytes.ends_with(b"\r\n\r\n") && scan::end(bytes, Section::Head, limits)?.is_none() {
            return Ok(None);
        }
        let fields = Fields::reusing(reuse.map_or_else(Vec::new, |head| head.fields.into_list()));
        match read(bytes, limits, fields) {
            Ok((mut head, len, rewritten)) => {
                let _ = buffer.split_to(blank);
                let bytes = buffer.split_to(len).freeze();
                head.fields.bytes = match rewritten {
                    None => bytes,
                    Some(target) => head.rewrite(&bytes, &target),
                };
                Ok(Some(head))
            }
            // What the lines are like comes first, so that the reason does not depend on how the bytes arrived.
            Err(refusal) => Err(scan::end(bytes, Section::Head, limits)
                .err()
                .unwrap_or(refusal)),
        }
    }

    /// The head's bytes, followed by a target that stands nowhere in them.
    #[cold]
    fn rewrite(&mut self, bytes: &[u8], target: &Target) -> Bytes {
        self.target = Span::new(bytes.len(), target.bytes.len());
        self.path = Span::new(bytes.len(), target.path_len);
        [bytes, &target.bytes].concat().into()
    }

    /// The method, if its meaning is known.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method as it was written.
    pub fn method_str(&self) -> &str {
        self.token.text(&self.fields.bytes)
    }

    /// Whether the method asks for no change.
    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// Whether the method may be done twice. An idempotency key is another matter: `get(Known::IdempotencyKey)`.
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// What is sent on: path and query, `*`, or, for CONNECT alone, the authority. A whole URI was made into path and query.
    pub fn target(&self) -> &[u8] {
        self.target.of(&self.fields.bytes)
    }

    /// The target up to its query; empty for CONNECT.
    pub fn path(&self) -> &str {
        self.path.text(&self.fields.bytes)
    }

    /// The method as it was written: a token (RFC 9110, 5.6.2).
    pub fn method_bytes(&self) -> &[u8] {
        self.token.of(&self.fields.bytes)
    }

    /// As [`path`](Self::path); ASCII that is printed, without quotation marks and backslashes.
    pub fn path_bytes(&self) -> &[u8] {
        self.path.of(&self.fields.bytes)
    }

    /// As [`authority`](Self::authority); ASCII.
    pub fn authority_bytes(&self) -> &[u8] {
        self.authority.of(&self.fields.bytes)
    }

    /// Whom the request is for, with the port if one was given. Never empty.
    pub fn authority(&self) -> &str {
        self.authority.text(&self.fields.bytes)
    }

    /// 0 or 1; 1 for what came by HTTP/2.
    pub fn version_minor(&self) -> u8 {
        self.version_minor
    }

    /// Where the content ends.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether another request may follow on the connection.
    pub fn keep_alive(&self) -> bool {
        self.options.keeps(self.version_minor)
    }

    /// Whether the client waits for `100 Continue` before it sends content. Never in HTTP/1.0 (RFC 9110, 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// What the client would change to, if `Connection` names it and it is one field that is a list of protocols.
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
}

/// Path and query of a whole URI that has no path.
struct Target {
    bytes: Vec<u8>,
    path_len: usize,
}

/// What the fields of a request say, as far as a head needs it.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    pub(crate) options: Options,
    pub(crate) seen: Seen,
    pub(crate) host: Option<&'a [u8]>,
    expects: bool,
    upgrade: Option<&'a [u8]>,
    upgrades: usize,
}

impl<'a> Facts<'a> {
    /// Adds one field.
    #[inline]
    pub(crate) fn add(&mut self, known: Known, value: &'a [u8]) -> Result<(), Refusal> {
        match known {
            Known::Host if self.host.replace(value).is_some() => Err(Refusal::HostRepeated),
            Known::ContentLength => self.seen.add_length(value),
            Known::TransferEncoding => {
                self.seen.add_coding(value);
                Ok(())
            }
            Known::Connection => self.options.add(value),
            Known::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(Refusal::Expectation)
            }
            Known::Expect => {
                self.expects = true;
                Ok(())
            }
            Known::Upgrade => {
                self.upgrade = Some(value);
                self.upgrades += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the client waits before it sends content.
    pub(crate) fn expects_continue(&self, version_minor: u8, framing: Framing) -> bool {
        self.expects && version_minor > 0 && framing.has_content()
    }

    fn upgrade(&self, version_minor: u8) -> Option<&'a [u8]> {
        let upgrade = self.upgrade.filter(|_| self.upgrades == 1)?;
        (self.options.upgrade && version_minor > 0 && is_protocols(upgrade)).then_some(upgrade)
    }
}

fn read(
    bytes: &[u8],
    limits: &Limits,
    mut fields: Fields,
) -> Result<(RequestHead, usize, Option<Target>), Refusal> {
    let mut slots = slots();
    let mut request = httparse::Request::new(&mut []);
    let parsed = ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        bytes,
        &mut slots[..limits.fields()],
    );
    let (Ok(Status::Complete(len)), Some(token), Some(target), Some(version_minor)) =
        (parsed, request.method, request.path, request.version)
    else {
        return Err(diagnosis::of_request(bytes));
    };
    if len > limits.head_bytes_max {
        return Err(Refusal::HeadTooLarge);
    }
    let head = &bytes[..len];
    let token = Span::within(head, token.as_bytes());
    // httparse takes blank lines before the head, whatever they end in.
    if token.start() != 0 {
        return Err(Refusal::RequestLine);
    }
    let mut facts = Facts::default();
    collect(head, request.headers, &mut fields, |known, value| {
        facts.add(known, value)
    })?;
    if target.len() > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    let method = Method::of(token.of(head));
    let place = place(method, target.as_bytes(), &facts, version_minor)?;
    let framing = facts.seen.framing(version_minor, &fields, head)?;
    if method == Method::Trace && framing.has_content() {
        return Err(Refusal::TraceWithContent);
    }
    let head = RequestHead {
        fields,
        method,
        token,
        target: Span::within(head, place.target),
        path: Span::within(head, &place.target[..place.path_len]),
        authority: Span::within(head, place.authority),
        upgrade: facts
            .upgrade(version_minor)
            .map(|value| Span::within(head, value)),
        framing,
        options: facts.options,
        version_minor,
        expects_continue: facts.expects_continue(version_minor, framing),
    };
    Ok((head, len, place.rewritten))
}

/// Where a request goes.
struct Place<'a> {
    target: &'a [u8],
    path_len: usize,
    authority: &'a [u8],
    rewritten: Option<Target>,
}

fn place<'a>(
    method: Method,
    target: &'a [u8],
    facts: &Facts<'a>,
    version_minor: u8,
) -> Result<Place<'a>, Refusal> {
    let form = target::check(method, target)?;
    if let Some(host) = facts.host {
        authority::check(host)?;
    }
    let place = |target, path_len, authority| Place {
        target,
        path_len,
        authority,
        rewritten: None,
    };
    match (form, facts.host) {
        (Form::Origin { path_len }, Some(host)) => Ok(place(target, path_len, host)),
        (Form::Asterisk, Some(host)) => Ok(place(target, 1, host)),
        (Form::Authority, Some(host)) if host.eq_ignore_ascii_case(target) => {
            Ok(place(target, 0, target))
        }
        (
            Form::Absolute {
                authority,
                rest,
                path_len,
            },
            host,
        ) => {
            match host {
                Some(host) if host.eq_ignore_ascii_case(authority) => {}
                Some(_) => return Err(Refusal::HostDiffers),
                // In HTTP/1.0 the target says it all.
                None if version_minor == 0 => {}
                None => return Err(Refusal::HostMissing),
            }
            Ok(Place {
                rewritten: without_path(method, rest),
                ..place(rest, path_len, authority)
            })
        }
        (Form::Authority, Some(_)) => Err(Refusal::HostDiffers),
        (_, None) => Err(Refusal::HostMissing),
    }
}

/// What a URI without a path stands for: `/`, and for OPTIONS without a query `*` (RFC 9112, 3.2.1 and 3.2.4).
fn without_path(method: Method, rest: &[u8]) -> Option<Target> {
    match rest {
        [b'/', ..] => None,
        [] if method == Method::Options => Some(Target {
            bytes: b"*".to_vec(),
            path_len: 1,
        }),
        query => Some(Target {
            bytes: [b"/", query].concat(),
            path_len: 1,
        }),
    }
}
