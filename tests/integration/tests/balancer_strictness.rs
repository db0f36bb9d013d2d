//! What two readers could understand in two ways passes in neither direction, and what is merely odd passes as it is.
//!
//! In the tables `¶` stands for CR LF, and any other character for one byte.

mod balancer_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use balancer_common::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, fields, frame, get, headers,
};
use balancer_common::{Balancer, Conversation, RawBackend, SOON, Taken, World};
use tokio::time::sleep;

/// Behind everything that is refused: an innocent request that must not be taken for one.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1¶Host: localhost¶¶";

fn bytes(case: &str) -> Vec<u8> {
    case.replace('¶', "\r\n").chars().map(|c| c as u8).collect()
}

/// A backend that counts the requests that it has got whole.
fn recording(world: &World) -> Result<(RawBackend, Arc<AtomicUsize>)> {
    let whole = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&whole);
    let backend = world.raw_backend("web-1", move |mut on: Conversation| {
        let counted = Arc::clone(&counted);
        async move {
            on.read_body().await?;
            counted.fetch_add(1, Ordering::SeqCst);
            let path = on.path();
            on.answer(&path).await?;
            on.go_on()
        }
    })?;
    Ok((backend, whole))
}

/// The rule, as the balancer names it; the section; the head; the status.
type Case = (&'static str, &'static str, &'static str, u16);

#[rustfmt::skip] // a case is a line
const HEADS: &[Case] = &[
    ("LeadingBlankLines", "RFC 9112 2.2", "¶¶GET / HTTP/1.1¶Host: localhost¶¶", 400),
    ("BareLf", "RFC 9112 2.2", "GET / HTTP/1.1\nHost: localhost¶¶", 400),
    ("BareLf", "RFC 9112 2.2", "GET / HTTP/1.1¶Host: localhost\n\n", 400),
    ("BareLf", "RFC 9112 2.2", "GET / HTTP/1.1¶Host: localhost¶\n", 400),
    ("BareLf", "RFC 9112 2.2", "GET / HTTP/1.1¶Host: localhost¶a: b\nc: d¶¶", 400),
    ("BareLf", "RFC 9112 2.2", "\nGET / HTTP/1.1¶Host: localhost¶¶", 400),
    ("BareCr", "RFC 9112 2.2", "GET / HTTP/1.1\rHost: localhost¶¶", 400),
    ("BareCr", "RFC 9112 2.2", "GET / HTTP/1.1¶Host: localhost\rContent-Length: 50¶¶", 400),
    ("BareCr", "RFC 9112 2.2", "GET / HTTP/1.1¶Host: localhost¶\r¶¶", 400),
    ("ControlByte", "RFC 9110 5.5", "GET / HTTP/1.1¶Host: localhost¶a: b\0¶¶", 400),
    ("ControlByte", "RFC 9110 5.5", "GET / HTTP/1.1¶Host: localhost¶a: b\u{b}c¶¶", 400),
    ("ControlByte", "RFC 9110 5.5", "GET / HTTP/1.1¶Host: localhost¶a: \u{7f}¶¶", 400),
    ("ControlByte", "RFC 9110 5.5", "GET /\0 HTTP/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET  / HTTP/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET /  HTTP/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET / HTTP/1.1 ¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET /a b HTTP/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET /\tHTTP/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET /¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET / http/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET / HTTP/11¶Host: localhost¶¶", 400),
    ("MethodNotToken", "RFC 9112 3.1", "G(T / HTTP/1.1¶Host: localhost¶¶", 400),
    ("MethodNotToken", "RFC 9112 3.1", " GET / HTTP/1.1¶Host: localhost¶¶", 400),
    ("Preface", "RFC 9113 3.4", "PRI * HTTP/2.0¶¶SM¶¶", 400),
    ("Version", "RFC 9110 15.6.6", "GET / HTTP/2.0¶Host: localhost¶¶", 505),
    ("Version", "RFC 9110 15.6.6", "GET / HTTP/1.2¶Host: localhost¶¶", 505),
    ("Version", "RFC 9110 15.6.6", "GET / HTTP/0.9¶Host: localhost¶¶", 505),
    ("TargetByte", "RFC 3986 3.3", "GET /a#b HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetByte", "RFC 3986 3.3", "GET /a\\b HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetByte", "RFC 3986 3.3", "GET /?a=\"b\" HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetByte", "RFC 3986 3.3", "GET /\u{c3}\u{a4} HTTP/1.1¶Host: localhost¶¶", 400),
    ("RequestLine", "RFC 9112 3", "GET /\u{e4} HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetEscape", "RFC 3986 2.1", "GET /%2 HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetEscape", "RFC 3986 2.1", "GET /%zz HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetForm", "RFC 9112 3.2", "GET * HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetForm", "RFC 9112 3.2", "GET a HTTP/1.1¶Host: localhost¶¶", 400),
    ("TargetForm", "RFC 9112 3.2", "GET localhost:443 HTTP/1.1¶Host: localhost:443¶¶", 400),
    ("TargetForm", "RFC 9112 3.2", "CONNECT localhost HTTP/1.1¶Host: localhost¶¶", 400),
    ("Scheme", "RFC 9110 4.2", "GET ftp://localhost/ HTTP/1.1¶Host: localhost¶¶", 400),
    ("ObsFold", "RFC 9112 5.2", "GET / HTTP/1.1¶Host: localhost¶a: b¶ c¶¶", 400),
    ("ObsFold", "RFC 9112 5.2", "GET / HTTP/1.1¶ Host: localhost¶¶", 400),
    ("SpaceBeforeColon", "RFC 9112 5.1", "GET / HTTP/1.1¶Host : localhost¶¶", 400),
    ("SpaceBeforeColon", "RFC 9112 5.1", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding\t: chunked¶¶0¶¶", 400),
    ("EmptyName", "RFC 9112 5", "GET / HTTP/1.1¶Host: localhost¶: b¶¶", 400),
    ("NoColon", "RFC 9112 5", "GET / HTTP/1.1¶Host: localhost¶b¶¶", 400),
    ("FieldName", "RFC 9110 5.1", "GET / HTTP/1.1¶Host: localhost¶b c: d¶¶", 400),
    ("FieldName", "RFC 9110 5.1", "GET / HTTP/1.1¶Host: localhost¶b\u{e4}: d¶¶", 400),
    ("ConnectionOption", "RFC 9110 7.6.1", "GET / HTTP/1.1¶Host: localhost¶Connection: clo se¶¶", 400),
    ("Expectation", "RFC 9110 10.1.1", "GET / HTTP/1.1¶Host: localhost¶Expect: 200-ok¶¶", 417),
    ("HostMissing", "RFC 9112 3.2", "GET / HTTP/1.1¶¶", 400),
    ("HostMissing", "RFC 9112 3.2", "GET / HTTP/1.0¶¶", 400),
    ("HostMissing", "RFC 9112 3.2", "GET https://localhost/ HTTP/1.1¶¶", 400),
    ("HostRepeated", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost¶hOST: localhost¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host:¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: local host¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost, localhost¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost/a¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost?a¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost#a¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: local\\host¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: https://localhost¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost:a¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost:65536¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: [::1¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost]¶¶", 400),
    ("HostInvalid", "RFC 9112 3.2", "GET / HTTP/1.1¶Host: localhost\u{e4}¶¶", 400),
    ("Userinfo", "RFC 9110 4.2.4", "GET / HTTP/1.1¶Host: me@localhost¶¶", 400),
    ("Userinfo", "RFC 9110 4.2.4", "GET https://me:pw@localhost/ HTTP/1.1¶Host: localhost¶¶", 400),
    ("HostDiffers", "RFC 9112 3.2.2", "GET https://localhost/ HTTP/1.1¶Host: other¶¶", 400),
    ("LengthRepeated", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 1¶Content-Length: 1¶¶a", 400),
    ("LengthRepeated", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 1¶Content-Length: 50¶¶a", 400),
    ("LengthList", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 1, 1¶¶a", 400),
    ("LengthNotDigits", "RFC 9110 8.6", "POST / HTTP/1.1¶Host: localhost¶Content-Length: +1¶¶a", 400),
    ("LengthNotDigits", "RFC 9110 8.6", "POST / HTTP/1.1¶Host: localhost¶Content-Length: -1¶¶a", 400),
    ("LengthNotDigits", "RFC 9110 8.6", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 0x1¶¶a", 400),
    ("LengthNotDigits", "RFC 9110 8.6", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 1 1¶¶a", 400),
    ("LengthNotDigits", "RFC 9110 8.6", "POST / HTTP/1.1¶Host: localhost¶Content-Length:¶¶", 400),
    ("LengthTooLarge", "RFC 9110 8.6", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 18446744073709551616¶¶", 413),
    ("LengthAndCoding", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Content-Length: 5¶Transfer-Encoding: chunked¶¶0¶¶", 400),
    ("LengthAndCoding", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶Content-Length: 0¶¶0¶¶", 400),
    ("CodingInHttp10", "RFC 9112 6.1", "POST / HTTP/1.0¶Host: localhost¶Transfer-Encoding: chunked¶¶0¶¶", 400),
    ("CodingNotChunked", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: identity¶¶", 400),
    ("CodingNotChunked", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked, gzip¶¶0¶¶", 400),
    ("CodingNotChunked", "RFC 9112 6.3", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: xchunked¶¶0¶¶", 400),
    ("CodingUnknown", "RFC 9112 6.1", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: gzip, chunked¶¶0¶¶", 501),
    ("CodingMalformed", "RFC 9112 7", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked, chunked¶¶0¶¶", 400),
    ("CodingMalformed", "RFC 9112 7", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶0¶¶", 400),
    ("CodingMalformed", "RFC 9112 7", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding:¶¶0¶¶", 400),
    ("ControlByte", "RFC 9110 5.5", "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: \u{b}chunked¶¶0¶¶", 400),
    ("TraceWithContent", "RFC 9110 9.3.8", "TRACE / HTTP/1.1¶Host: localhost¶Content-Length: 1¶¶a", 400),
];

/// Content after a head that is as it must be. The backend may have heard that, but never a whole request.
#[rustfmt::skip] // a case is a line
const CHUNKS: &[Case] = &[
    ("ChunkSize", "RFC 9112 7.1", "¶abc¶0¶¶", 400),
    ("ChunkSize", "RFC 9112 7.1", ";a¶abc¶0¶¶", 400),
    ("ChunkSize", "RFC 9112 7.1", "0x3¶abc¶0¶¶", 400),
    ("ChunkSize", "RFC 9112 7.1", " 3¶abc¶0¶¶", 400),
    ("ChunkSize", "RFC 9112 7.1", "-3¶abc¶0¶¶", 400),
    ("ChunkSizeTooLarge", "RFC 9112 7.1", "10000000000000003¶abc¶0¶¶", 400),
    ("ChunkSizeTooLarge", "RFC 9112 7.1", "00000000000000003¶abc¶0¶¶", 400),
    ("ChunkExtension", "RFC 9112 7.1.1", "3 ¶abc¶0¶¶", 400),
    ("ChunkExtension", "RFC 9112 7.1.1", "3;¶abc¶0¶¶", 400),
    ("ChunkExtension", "RFC 9112 7.1.1", "3;a=\"b¶abc¶0¶¶", 400),
    ("ChunkExtension", "RFC 9112 7.1.1", "3;a\0¶abc¶0¶¶", 400),
    ("BareLf", "RFC 9112 2.2", "3\nabc¶0¶¶", 400),
    ("BareLf", "RFC 9112 2.2", "3;a\nabc¶0¶¶", 400),
    ("ChunkEnd", "RFC 9112 7.1", "3¶abc\n0¶¶", 400),
    ("ChunkEnd", "RFC 9112 7.1", "3¶abcd¶0¶¶", 400),
    ("ChunkEnd", "RFC 9112 7.1", "3¶abc0¶¶", 400),
    ("BareLf", "RFC 9112 2.2", "0¶\n", 400),
    ("BareLf", "RFC 9112 2.2", "0¶a: b\n¶", 400),
    ("NoColon", "RFC 9112 5", "0¶a¶¶", 400),
    ("ObsFold", "RFC 9112 5.2", "0¶a: b¶ c¶¶", 400),
    ("SpaceBeforeColon", "RFC 9112 5.1", "0¶a : b¶¶", 400),
    ("BareCr", "RFC 9112 2.2", "0¶a: b\rc¶¶", 400),
    ("TrailerForbidden", "RFC 9110 6.5.1", "0¶Content-Length: 1¶¶", 400),
    ("TrailerForbidden", "RFC 9110 6.5.1", "0¶Transfer-Encoding: chunked¶¶", 400),
    ("TrailerForbidden", "RFC 9110 6.5.1", "0¶Host: localhost¶¶", 400),
    ("TrailerForbidden", "RFC 9110 6.5.1", "0¶X-Forwarded-For: 192.0.2.1¶¶", 400),
    ("TrailerForbidden", "RFC 9110 6.5.1", "0¶Authorization: x¶¶", 400),
];

const CHUNKED: &str = "POST /chunks HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶";

/// Sends a message with a request behind it; the answer must be one, of this status and for this reason, and the last.
async fn refused(balancer: &Balancer, (rule, section, _, status): Case, sent: &[u8]) -> Result<()> {
    let metric = format!("balancer_refusals_total{{rule=\"{rule}\"}}");
    let before = balancer.metric(&metric).await?;
    let all = [sent, &bytes(SMUGGLED)].concat();
    let answer = balancer.answers_to(&all).await?;
    let begin = format!("HTTP/1.1 {status} ");
    ensure!(answer.starts_with(&begin), "{answer}");
    ensure!(
        answer.matches("x-request-id: ").count() == 1,
        "more than one answer: {answer}"
    );
    for part in [
        "\r\nconnection: close\r\n",
        "application/problem+json",
        "x-request-id: ",
        section,
    ] {
        ensure!(answer.contains(part), "no {part:?} in {answer}");
    }
    let after = balancer.metric(&metric).await?;
    ensure!(
        after == before + 1,
        "{metric} went from {before} to {after}"
    );
    // Byte by byte it is the same.
    let mut wire = balancer.wire().await?;
    for byte in &all {
        if wire.write([*byte]).await.is_err() {
            break;
        }
    }
    let answer = wire.rest(SOON).await?;
    ensure!(
        answer.starts_with(&begin) && answer.matches("x-request-id: ").count() == 1,
        "byte by byte: {answer}"
    );
    Ok(())
}

/// Tries every one, and tells of all that failed.
struct Failures(Vec<String>);

impl Failures {
    fn note(&mut self, case: &str, result: Result<()>) {
        if let Err(error) = result {
            self.0.push(format!("{case:?}: {error:#}"));
        }
    }

    fn none(self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => bail!("{} cases:\n{}", self.0.len(), self.0.join("\n")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_a_rule_is_refused_and_nothing_behind_it_is_read() -> Result<()> {
    let world = World::new()?;
    let (one, _) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut failures = Failures(Vec::new());
    for case in HEADS {
        failures.note(case.2, refused(&balancer, *case, &bytes(case.2)).await);
    }
    let many = "a: b¶".repeat(100);
    let long = "x".repeat(33_000);
    let path = "x".repeat(8_192);
    for (rule, status, head) in [
        (
            "TooManyFields",
            431,
            format!("GET / HTTP/1.1¶Host: localhost¶{many}¶"),
        ),
        (
            "HeadTooLarge",
            431,
            format!("GET / HTTP/1.1¶Host: localhost¶a: {long}¶¶"),
        ),
        (
            "TargetTooLong",
            414,
            format!("GET /{path} HTTP/1.1¶Host: localhost¶¶"),
        ),
    ] {
        let case = (rule, "RFC ", "", status);
        failures.note(rule, refused(&balancer, case, &bytes(&head)).await);
    }
    failures.none()?;
    ensure!(one.heard().is_empty(), "{:?}", one.heard());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_breaks_a_rule_is_refused_and_never_whole() -> Result<()> {
    let world = World::new()?;
    let (one, whole) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut failures = Failures(Vec::new());
    for case in CHUNKS {
        let sent = bytes(&[CHUNKED, case.2].concat());
        failures.note(case.2, refused(&balancer, *case, &sent).await);
    }
    let extension = "x".repeat(1_100);
    let trailers = format!("a: {}¶", "x".repeat(1_000)).repeat(9);
    let overhead = format!("1;{}¶x¶", "y".repeat(1_000)).repeat(2_000);
    for (rule, status, content) in [
        ("ChunkLineTooLong", 400, format!("3;{extension}¶abc¶0¶¶")),
        ("TrailersTooLarge", 431, format!("0¶{trailers}¶")),
        ("ChunkOverhead", 400, format!("{overhead}0¶¶")),
    ] {
        let sent = bytes(&[CHUNKED, &content].concat());
        let all = [&sent[..], &bytes(SMUGGLED)].concat();
        let result = balancer.answers_to(&all).await.and_then(|answer| {
            ensure!(
                answer.starts_with(&format!("HTTP/1.1 {status} "))
                    && answer.matches("x-request-id: ").count() == 1,
                "{answer}"
            );
            Ok(())
        });
        failures.note(rule, result);
    }
    ensure!(whole.load(Ordering::SeqCst) == 0, "{:?}", one.heard());
    for heard in one.heard() {
        ensure!(heard.line() == "POST /chunks HTTP/1.1", "{heard:?}");
    }
    balancer.wait_for_in_flight(&[0]).await?;
    failures.none()
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_ends_too_early_is_never_whole() -> Result<()> {
    let world = World::new()?;
    let (one, whole) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for request in [
        "POST / HTTP/1.1¶Host: localhost¶Content-Length: 10¶¶abc",
        "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶5¶abc",
        "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶3¶abc¶",
        "POST / HTTP/1.1¶Host: localhost¶Transfer-Encoding: chunked¶¶3¶abc¶0¶a: b¶",
    ] {
        let heard = one.heard().len();
        let mut wire = balancer.wire().await?;
        wire.write(bytes(request)).await?;
        one.wait_for_heard(heard + 1).await?;
        wire.half_close().await?;
        let answer = wire.rest(SOON).await?;
        ensure!(answer.is_empty(), "{request}: {answer}");
        let line = balancer
            .logged(|line| line["termination"] == "client_abort")
            .await?;
        ensure!(line["status"].is_null(), "{line}");
    }
    balancer.wait_for_in_flight(&[0]).await?;
    ensure!(whole.load(Ordering::SeqCst) == 0, "{:?}", one.heard());
    Ok(())
}

/// The name; the pseudo-fields and fields.
type Stream = (&'static str, &'static [(&'static str, &'static str)]);

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "localhost");
const PATH: (&str, &str) = (":path", "/");

#[rustfmt::skip] // a case is a line
const STREAMS: &[Stream] = &[
    // RFC 9113, 8.2.1: names and values.
    ("a name in upper case", &[METHOD, SCHEME, AUTHORITY, PATH, ("Big", "a")]),
    ("a blank in a name", &[METHOD, SCHEME, AUTHORITY, PATH, ("a b", "c")]),
    ("a colon in a name", &[METHOD, SCHEME, AUTHORITY, PATH, ("a:b", "c")]),
    ("no name", &[METHOD, SCHEME, AUTHORITY, PATH, ("", "c")]),
    ("a byte that is not ASCII in a name", &[METHOD, SCHEME, AUTHORITY, PATH, ("a\u{e4}", "c")]),
    ("CR LF in a name", &[METHOD, SCHEME, AUTHORITY, PATH, ("a: b\r\nc", "d")]),
    ("a leading blank", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", " b")]),
    ("a trailing blank", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", "b ")]),
    ("a leading tab", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", "\tb")]),
    ("a trailing tab", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", "b\t")]),
    ("LF in a value", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", "b\nc: d")]),
    ("CR LF in a value", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", "b\r\nc: d")]),
    ("NUL in a value", &[METHOD, SCHEME, AUTHORITY, PATH, ("a", "b\0")]),
    // RFC 9113, 8.2.2: fields of connections.
    ("connection", &[METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")]),
    ("keep-alive", &[METHOD, SCHEME, AUTHORITY, PATH, ("keep-alive", "timeout=1")]),
    ("proxy-connection", &[METHOD, SCHEME, AUTHORITY, PATH, ("proxy-connection", "close")]),
    ("transfer-encoding", &[METHOD, SCHEME, AUTHORITY, PATH, ("transfer-encoding", "chunked")]),
    ("upgrade", &[METHOD, SCHEME, AUTHORITY, PATH, ("upgrade", "websocket")]),
    ("te", &[METHOD, SCHEME, AUTHORITY, PATH, ("te", "gzip")]),
    ("te with more than trailers", &[METHOD, SCHEME, AUTHORITY, PATH, ("te", "trailers, gzip")]),
    // RFC 9113, 8.3: pseudo-fields.
    ("no :method", &[SCHEME, AUTHORITY, PATH]),
    ("no :scheme", &[METHOD, AUTHORITY, PATH]),
    ("no :path", &[METHOD, SCHEME, AUTHORITY]),
    ("nothing at all", &[]),
    (":method twice", &[METHOD, METHOD, SCHEME, AUTHORITY, PATH]),
    (":scheme twice", &[METHOD, SCHEME, SCHEME, AUTHORITY, PATH]),
    (":authority twice", &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH]),
    (":path twice", &[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/b")]),
    (":path after a field", &[METHOD, SCHEME, AUTHORITY, ("a", "b"), PATH]),
    (":authority after a field", &[METHOD, SCHEME, PATH, ("a", "b"), AUTHORITY]),
    ("an unknown one", &[METHOD, SCHEME, AUTHORITY, PATH, (":own", "b")]),
    ("one of answers", &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]),
    (":protocol, which was not offered", &[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, PATH]),
    // RFC 9113, 8.3.1: what is in them.
    ("an empty :method", &[(":method", ""), SCHEME, AUTHORITY, PATH]),
    ("a :method that is no token", &[(":method", "GET /a HTTP/1.1\r\nb: c"), SCHEME, AUTHORITY, PATH]),
    ("a blank in :method", &[(":method", "GET /"), SCHEME, AUTHORITY, PATH]),
    ("an empty :scheme", &[METHOD, (":scheme", ""), AUTHORITY, PATH]),
    ("a foreign :scheme", &[METHOD, (":scheme", "ftp"), AUTHORITY, PATH]),
    ("an empty :path", &[METHOD, SCHEME, AUTHORITY, (":path", "")]),
    ("a :path without a slash", &[METHOD, SCHEME, AUTHORITY, (":path", "a")]),
    ("a whole URI in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "https://localhost/")]),
    ("* for GET", &[METHOD, SCHEME, AUTHORITY, (":path", "*")]),
    ("a query without a path", &[METHOD, SCHEME, AUTHORITY, (":path", "?a")]),
    ("a blank in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/a b")]),
    ("another line in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/ HTTP/1.1\r\na: b")]),
    ("a backslash in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/a\\b")]),
    ("a byte that is not ASCII in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/\u{e4}")]),
    ("a broken escape in :path", &[METHOD, SCHEME, AUTHORITY, (":path", "/%2")]),
    ("neither :authority nor host", &[METHOD, SCHEME, PATH]),
    ("an empty :authority", &[METHOD, SCHEME, (":authority", ""), PATH]),
    ("an empty host", &[METHOD, SCHEME, PATH, ("host", "")]),
    ("host twice", &[METHOD, SCHEME, PATH, ("host", "localhost"), ("host", "localhost")]),
    (":authority against host", &[METHOD, SCHEME, AUTHORITY, PATH, ("host", "other")]),
    ("a name before :authority", &[METHOD, SCHEME, (":authority", "me@localhost"), PATH]),
    ("a port that is none", &[METHOD, SCHEME, (":authority", "localhost:a"), PATH]),
    ("a path in :authority", &[METHOD, SCHEME, (":authority", "localhost/a"), PATH]),
    ("a blank in :authority", &[METHOD, SCHEME, (":authority", "local host"), PATH]),
    ("CONNECT with a path", &[(":method", "CONNECT"), AUTHORITY, PATH]),
    // RFC 9110, 8.6, and RFC 9113, 8.1.1: how much.
    ("content-length and no content", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "1")]),
    ("content-length twice", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "0"), ("content-length", "0")]),
    ("a list as content-length", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "0, 0")]),
    ("content-length with a sign", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "+0")]),
    ("content-length below nothing", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "-1")]),
    ("content-length that is no number", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "zero")]),
    ("an empty content-length", &[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "")]),
];

/// Whether a stream was refused, and whether the connection has survived.
fn is_refusal(taken: Taken) -> Result<bool> {
    match taken {
        Taken::Answered(400) | Taken::Reset(PROTOCOL_ERROR) => Ok(true),
        Taken::Closed(Some(PROTOCOL_ERROR)) => Ok(false),
        taken => bail!("{taken:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_a_rule_is_refused_and_its_connection_goes_on() -> Result<()> {
    let world = World::new()?;
    let (one, _) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut failures = Failures(Vec::new());
    for (name, list) in STREAMS {
        let result = async {
            let mut frames = balancer.frames().await?;
            frames.write(headers(1, END_STREAM, list)).await?;
            if is_refusal(frames.taken(1).await?)? {
                ensure!(frames.is_alive(1).await?, "the connection is closed");
            }
            Ok(())
        };
        failures.note(name, result.await);
    }
    failures.none()?;
    ensure!(one.heard().is_empty(), "{:?}", one.heard());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_content_breaks_a_rule_is_never_whole() -> Result<()> {
    let world = World::new()?;
    let (one, whole) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let post: &[_] = &[
        (":method", "POST"),
        SCHEME,
        AUTHORITY,
        (":path", "/content"),
    ];
    let length = |length| [post, &[("content-length", length)]].concat();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let trailers = |list: &[(&str, &str)]| {
        let begin = [headers(1, 0, post), frame(DATA, 0, 1, "abc")].concat();
        [begin, headers(1, END_STREAM, list)].concat()
    };
    let cases = [
        (
            "more than content-length",
            [
                headers(1, 0, &length("3")),
                frame(DATA, END_STREAM, 1, format!("abc{smuggled}")),
            ]
            .concat(),
        ),
        (
            "more than content-length, in two frames",
            [
                headers(1, 0, &length("3")),
                frame(DATA, 0, 1, "abc"),
                frame(DATA, END_STREAM, 1, smuggled),
            ]
            .concat(),
        ),
        (
            "more than a content-length of nothing",
            [
                headers(1, 0, &length("0")),
                frame(DATA, END_STREAM, 1, smuggled),
            ]
            .concat(),
        ),
        (
            "less than content-length",
            [
                headers(1, 0, &length("10")),
                frame(DATA, END_STREAM, 1, "abc"),
            ]
            .concat(),
        ),
        (
            "less than content-length, ended by trailers",
            [
                headers(1, 0, &length("10")),
                frame(DATA, 0, 1, "abc"),
                headers(1, END_STREAM, &[("a", "b")]),
            ]
            .concat(),
        ),
        (
            "nothing of content-length, ended by trailers",
            [
                headers(1, 0, &length("10")),
                headers(1, END_STREAM, &[("a", "b")]),
            ]
            .concat(),
        ),
        (
            "a name in upper case in trailers",
            trailers(&[("Big", "a")]),
        ),
        ("a blank in trailers", trailers(&[("a", " b")])),
        ("another line in trailers", trailers(&[("a", "b\r\nc: d")])),
        (
            "content-length in trailers",
            trailers(&[("content-length", "3")]),
        ),
        (
            "transfer-encoding in trailers",
            trailers(&[("transfer-encoding", "chunked")]),
        ),
        ("host in trailers", trailers(&[("host", "localhost")])),
        (
            "authorization in trailers",
            trailers(&[("authorization", "x")]),
        ),
        (
            "x-forwarded-for in trailers",
            trailers(&[("x-forwarded-for", "192.0.2.1")]),
        ),
        (
            "trailers that do not end the stream",
            [
                headers(1, 0, post),
                frame(DATA, 0, 1, "abc"),
                headers(1, 0, &[("a", "b")]),
            ]
            .concat(),
        ),
        (
            "TRACE with content",
            [
                headers(1, 0, &[(":method", "TRACE"), SCHEME, AUTHORITY, PATH]),
                frame(DATA, END_STREAM, 1, "abc"),
            ]
            .concat(),
        ),
    ];
    let mut failures = Failures(Vec::new());
    for (name, sent) in cases {
        let result = async {
            let mut frames = balancer.frames().await?;
            frames.write(&sent).await?;
            if is_refusal(frames.taken(1).await?)? {
                ensure!(frames.is_alive(1).await?, "the connection is closed");
            }
            Ok(())
        };
        failures.note(name, result.await);
    }
    balancer.wait_for_in_flight(&[0]).await?;
    // The connections to the backend on which something was begun are over: what comes now comes on others.
    let mut wire = balancer.wire().await?;
    wire.write(bytes("GET /innocent HTTP/1.1¶Host: localhost¶¶"))
        .await?;
    let answer = wire.answer().await?;
    ensure!(answer.text() == "/innocent", "{answer:?}");
    for heard in one.heard() {
        let line = heard.line();
        ensure!(
            line == "POST /content HTTP/1.1" || line == "GET /innocent HTTP/1.1",
            "{heard:?}"
        );
    }
    let whole = whole.load(Ordering::SeqCst);
    failures.none()?;
    ensure!(whole == 1, "{whole} requests were whole: {:?}", one.heard());
    Ok(())
}

/// These break rules (RFC 9113, 8.1 and 8.3.1), and `h2` takes the offence out before anybody else sees it: what reaches the backend is
/// harmless.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_frames_layer_takes_out_reaches_nobody() -> Result<()> {
    let world = World::new()?;
    let (one, _) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let post = [(":method", "POST"), SCHEME, AUTHORITY, (":path", "/a")];
    let begun = [headers(1, 0, &post), frame(DATA, 0, 1, "abc")].concat();
    for sent in [
        headers(
            1,
            END_STREAM,
            &[(":method", "POST"), SCHEME, AUTHORITY, (":path", "/a#b")],
        ),
        [&begun[..], &headers(1, END_STREAM, &[(":path", "/b")])].concat(),
        [
            begun,
            headers(1, END_STREAM, &[METHOD, SCHEME, AUTHORITY, PATH]),
        ]
        .concat(),
    ] {
        let mut frames = balancer.frames().await?;
        frames.write(sent).await?;
        ensure!(frames.taken(1).await? == Taken::Answered(200));
        let heard = one.heard().pop().context("nothing heard")?;
        ensure!(heard.line() == "POST /a HTTP/1.1", "{heard:?}");
        ensure!(
            [&b""[..], b"3\r\nabc\r\n0\r\n\r\n"].contains(&&heard.body[..]),
            "{heard:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_a_rule_end_the_connection() -> Result<()> {
    let world = World::new()?;
    let (one, _) = recording(&world)?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let head = fields(&[METHOD, SCHEME, AUTHORITY, PATH]);
    let mut failures = Failures(Vec::new());
    for (name, sent) in [
        ("DATA on no stream", frame(DATA, END_STREAM, 0, "abc")),
        ("DATA on an idle stream", frame(DATA, END_STREAM, 1, "abc")),
        (
            "HEADERS on no stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &head),
        ),
        (
            "HEADERS on a server's stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &head),
        ),
        (
            "another frame inside of a block",
            [
                frame(HEADERS, END_STREAM, 1, &head[..10]),
                frame(DATA, 0, 1, "abc"),
            ]
            .concat(),
        ),
        (
            "another stream's CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, &head[..10]),
                frame(0x9, END_HEADERS, 3, &head[10..]),
            ]
            .concat(),
        ),
        (
            "a CONTINUATION of nothing",
            frame(0x9, END_HEADERS, 1, &head),
        ),
        (
            "a block that is not HPACK",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 20]),
        ),
        (
            "an index that is not there",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xfe]),
        ),
        ("more padding than frame", frame(DATA, 0x8, 1, [9, 0])),
        (
            "PUSH_PROMISE",
            frame(0x5, END_HEADERS, 1, [&[0, 0, 0, 2][..], &head].concat()),
        ),
        (
            "a frame that is too large",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, vec![0; 20_000]),
        ),
        ("SETTINGS with half of one", frame(0x4, 0, 0, [0, 1, 0])),
        (
            "a window that is too large",
            frame(0x8, 0, 0, 0x7fff_ffff_u32.to_be_bytes()),
        ),
    ] {
        let result = async {
            let mut frames = balancer.frames().await?;
            // Its end may come before all is written.
            let _ = frames
                .write([&sent[..], &get(5, "/smuggled")].concat())
                .await;
            match frames.closed().await? {
                Some(0) | None => bail!("closed without an error"),
                Some(_) => Ok(()),
            }
        };
        failures.note(name, result.await);
    }
    let smuggled = one.heard();
    ensure!(smuggled.is_empty(), "{smuggled:?}");
    failures.none()
}

/// The rule, and what a backend answers a GET.
#[rustfmt::skip] // a case is a line
const ANSWERS: &[(&str, &str)] = &[
    ("StatusLine", "HTTP/1.1 200¶Content-Length: 2¶¶no"),
    ("StatusLine", "HTTP/1.1 20 OK¶Content-Length: 2¶¶no"),
    ("StatusLine", "HTTP/1.1 2000 OK¶Content-Length: 2¶¶no"),
    ("StatusLine", "HTTP/1.1  200 OK¶Content-Length: 2¶¶no"),
    ("StatusLine", "HTTP/2.0 200 OK¶Content-Length: 2¶¶no"),
    ("StatusLine", "¶HTTP/1.1 200 OK¶Content-Length: 2¶¶no"),
    ("StatusLine", "ICY 200 OK¶Content-Length: 2¶¶no"),
    ("StatusLine", "<html>no HTTP at all</html>¶¶"),
    ("StatusCode", "HTTP/1.1 099 Low¶Content-Length: 2¶¶no"),
    ("StatusCode", "HTTP/1.1 600 High¶Content-Length: 2¶¶no"),
    ("StatusCode", "HTTP/1.1 101 Switching Protocols¶Connection: upgrade¶Upgrade: websocket¶¶"),
    ("ControlByte", "HTTP/1.1 200 O\0K¶Content-Length: 2¶¶no"),
    ("ControlByte", "HTTP/1.1 200 OK¶a: \0¶Content-Length: 2¶¶no"),
    ("BareLf", "HTTP/1.1 200 OK\nContent-Length: 2¶¶no"),
    ("BareLf", "HTTP/1.1 200 OK¶Content-Length: 2\n\nno"),
    ("BareCr", "HTTP/1.1 200 O\rK¶Content-Length: 2¶¶no"),
    ("BareCr", "HTTP/1.1 200 OK¶a: b\rc: d¶Content-Length: 2¶¶no"),
    ("ObsFold", "HTTP/1.1 200 OK¶a: b¶ c¶Content-Length: 2¶¶no"),
    ("SpaceBeforeColon", "HTTP/1.1 200 OK¶Content-Length : 2¶¶no"),
    ("EmptyName", "HTTP/1.1 200 OK¶: a¶Content-Length: 2¶¶no"),
    ("NoColon", "HTTP/1.1 200 OK¶a¶Content-Length: 2¶¶no"),
    ("FieldName", "HTTP/1.1 200 OK¶a b: c¶Content-Length: 2¶¶no"),
    ("ConnectionOption", "HTTP/1.1 200 OK¶Connection: clo se¶Content-Length: 2¶¶no"),
    ("LengthRepeated", "HTTP/1.1 200 OK¶Content-Length: 2¶Content-Length: 2¶¶no"),
    ("LengthList", "HTTP/1.1 200 OK¶Content-Length: 2, 2¶¶no"),
    ("LengthNotDigits", "HTTP/1.1 200 OK¶Content-Length: +2¶¶no"),
    ("LengthTooLarge", "HTTP/1.1 200 OK¶Content-Length: 18446744073709551616¶¶no"),
    ("LengthAndCoding", "HTTP/1.1 200 OK¶Content-Length: 2¶Transfer-Encoding: chunked¶¶0¶¶"),
    ("CodingNotChunked", "HTTP/1.1 200 OK¶Transfer-Encoding: gzip¶¶no"),
    ("CodingUnknown", "HTTP/1.1 200 OK¶Transfer-Encoding: gzip, chunked¶¶0¶¶"),
    ("CodingMalformed", "HTTP/1.1 200 OK¶Transfer-Encoding: chunked, chunked¶¶0¶¶"),
    ("CodingInHttp10", "HTTP/1.0 200 OK¶Transfer-Encoding: chunked¶¶0¶¶"),
    ("ContentForbidden", "HTTP/1.1 204 No Content¶Content-Length: 0¶¶"),
    ("ContentForbidden", "HTTP/1.1 204 No Content¶Transfer-Encoding: chunked¶¶0¶¶"),
    ("ContentForbidden", "HTTP/1.1 103 Early Hints¶Content-Length: 0¶¶HTTP/1.1 204 No Content¶¶"),
];

/// Content of answers: what was passed on of them cannot be taken back.
#[rustfmt::skip] // a case is a line
const ANSWERED_CHUNKS: &[(&str, &str)] = &[
    ("ChunkSize", "x¶abc¶0¶¶"),
    ("ChunkSize", "¶0¶¶"),
    ("ChunkSizeTooLarge", "10000000000000003¶abc¶0¶¶"),
    ("ChunkExtension", "3;¶abc¶0¶¶"),
    ("BareLf", "3\nabc¶0¶¶"),
    ("ChunkEnd", "3¶abcd¶0¶¶"),
    ("NoColon", "3¶abc¶0¶a¶¶"),
    ("TrailerForbidden", "3¶abc¶0¶Content-Length: 3¶¶"),
    ("TrailerForbidden", "3¶abc¶0¶Set-Cookie: a¶¶"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_a_rule_is_a_bad_gateway_and_spoils_nothing() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let path = on.path();
        match path
            .strip_prefix("/bad/")
            .and_then(|index| index.parse::<usize>().ok())
        {
            Some(index) => on.write(bytes(ANSWERS[index].1)).await?,
            None => on.answer(&path).await?,
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    let mut failures = Failures(Vec::new());
    for (index, (rule, answer)) in ANSWERS.iter().enumerate() {
        let result = async {
            let metric = format!("balancer_refusals_total{{rule=\"{rule}\"}}");
            let before = balancer.metric(&metric).await?;
            // Without a method or a key that allows another try.
            let request = format!("POST /bad/{index} HTTP/1.1¶Host: localhost¶Content-Length: 0¶¶");
            wire.write(bytes(&request)).await?;
            let bad = wire.answer().await?;
            ensure!(
                bad.status == 502 && bad.text().contains("/problems/bad-gateway"),
                "{bad:?}"
            );
            let path = format!("/bad/{index}");
            let line = balancer
                .logged(|line| line["path"] == path.as_str())
                .await?;
            ensure!(
                line["termination"] == "bad_answer"
                    && line["refusal"] == *rule
                    && line["tries"] == 1,
                "{line}"
            );
            let after = balancer.metric(&metric).await?;
            ensure!(
                after == before + 1,
                "{metric} went from {before} to {after}"
            );
            for count in 0..2 {
                let request = format!("GET /good/{index}/{count} HTTP/1.1¶Host: localhost¶¶");
                wire.write(bytes(&request)).await?;
                let good = wire.answer().await?;
                ensure!(good.text() == format!("/good/{index}/{count}"), "{good:?}");
            }
            Ok(())
        };
        let result = result.await;
        if result.is_err() {
            wire = balancer.wire().await?;
        }
        failures.note(answer, result);
    }
    failures.none()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_much_is_a_bad_gateway() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        match &*on.path() {
            "/large" => {
                let value = "x".repeat(33_000);
                on.write(format!("HTTP/1.1 200 OK\r\na: {value}\r\n\r\n"))
                    .await?;
            }
            "/many" => {
                let fields = "a: b\r\n".repeat(101);
                on.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await?;
            }
            "/endless" => loop {
                on.write("HTTP/1.1 103 Early Hints\r\n\r\n").await?;
            },
            _ => {
                on.write("HTTP/1.1 200 OK\r\na: ").await?;
                loop {
                    on.write([b'x'; 10_000]).await?;
                }
            }
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    for (path, rule) in [
        ("/large", "HeadTooLarge"),
        ("/many", "TooManyFields"),
        ("/endless", "StatusCode"),
        ("/endless-head", "HeadTooLarge"),
    ] {
        let mut wire = balancer.wire().await?;
        wire.write(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        ))
        .await?;
        let mut answer = wire.answer().await?;
        while answer.status == 103 {
            answer = wire.answer().await?;
        }
        ensure!(answer.status == 502, "{answer:?}");
        let line = balancer.logged(|line| line["path"] == path).await?;
        ensure!(
            line["termination"] == "bad_answer" && line["refusal"] == rule,
            "{line}"
        );
    }
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exactly_as_large_as_it_may_be_passes_and_a_byte_more_does_not() -> Result<()> {
    let world = World::new()?;
    let (one, whole) = recording(&world)?;
    let keys =
        "[request]\nbody_bytes_max = 50000\nheader_bytes_max = 4096\ntarget_bytes_max = 100\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    for (more, body_status, head_status, target_status) in [(0, 200, 200, 200), (1, 413, 431, 414)]
    {
        let body = vec![b'x'; 50_000 + more];
        let length = body.len();
        let head = "POST / HTTP/1.1\r\nhost: localhost\r\n";
        let chunk = format!("{length:x}\r\n");
        for request in [
            [
                format!("{head}content-length: {length}\r\n\r\n").as_bytes(),
                &body,
            ]
            .concat(),
            [
                format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes(),
                chunk.as_bytes(),
                &body,
                b"\r\n0\r\n\r\n",
            ]
            .concat(),
        ] {
            let mut wire = balancer.wire().await?;
            wire.write(request).await?;
            let answer = wire.answer().await?;
            ensure!(answer.status == body_status, "{answer:?}");
        }
        let post = [(":method", "POST"), SCHEME, AUTHORITY, PATH];
        let length = length.to_string();
        let with_length = [&post[..], &[("content-length", &*length)]].concat();
        for list in [&post[..], &with_length] {
            let mut frames = balancer.frames().await?;
            let mut sent = headers(1, 0, list);
            for (index, part) in body.chunks(16_384).enumerate() {
                let flags = if index == 3 { END_STREAM } else { 0 };
                sent.extend(frame(DATA, flags, 1, part));
            }
            frames.write(sent).await?;
            let taken = frames.taken(1).await?;
            ensure!(taken == Taken::Answered(body_status), "{taken:?}");
        }
        let line = "GET / HTTP/1.1\r\nhost: localhost\r\na: \r\n\r\n";
        let value = "x".repeat(4096 - line.len() + more);
        let target = format!("/{}", "x".repeat(99 + more));
        for (request, status) in [
            (line.replace("a: ", &format!("a: {value}")), head_status),
            (line.replacen('/', &target, 1), target_status),
        ] {
            let mut wire = balancer.wire().await?;
            wire.write(request).await?;
            let answer = wire.answer().await?;
            ensure!(answer.status == status, "{answer:?}");
        }
        let mut frames = balancer.frames().await?;
        let list = [METHOD, SCHEME, AUTHORITY, (":path", &*target)];
        frames.write(headers(1, END_STREAM, &list)).await?;
        let taken = frames.taken(1).await?;
        ensure!(taken == Taken::Answered(target_status), "{taken:?}");
    }
    ensure!(whole.load(Ordering::SeqCst) == 7);
    balancer.wait_for_in_flight(&[0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_an_answer_that_breaks_a_rule_is_cut_off_visibly() -> Result<()> {
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let path = on.path();
        let mut parts = path.split('/').skip(1);
        match (
            parts.next(),
            parts.next().and_then(|index| index.parse::<usize>().ok()),
        ) {
            (Some("late"), Some(index)) => {
                on.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                    .await?;
                sleep(Duration::from_millis(20)).await;
                on.write(bytes(ANSWERED_CHUNKS[index].1)).await?;
            }
            (Some("once"), Some(index)) => {
                let head = bytes("HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶");
                on.write([&head[..], &bytes(ANSWERED_CHUNKS[index].1)].concat())
                    .await?;
            }
            _ => on.answer(&path).await?,
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut failures = Failures(Vec::new());
    for (index, (rule, content)) in ANSWERED_CHUNKS.iter().enumerate() {
        for when in ["late", "once"] {
            let path = format!("/{when}/{index}");
            let result = async {
                let mut wire = balancer.wire().await?;
                wire.write(format!(
                    "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
                ))
                .await?;
                let cut = wire.rest(SOON).await?;
                ensure!(
                    !cut.ends_with("0\r\n\r\n")
                        && (when == "once" || cut.ends_with("5\r\nfirst\r\n")),
                    "it looks whole: {cut}"
                );
                let line = balancer
                    .logged(|line| line["path"] == path.as_str())
                    .await?;
                ensure!(
                    line["termination"] == "bad_answer" && line["refusal"] == *rule,
                    "{line}"
                );
                let mut frames = balancer.frames().await?;
                let post = [(":method", "POST"), SCHEME, AUTHORITY, (":path", &path)];
                frames.write(headers(1, END_STREAM, &post)).await?;
                let end = loop {
                    let frame = frames.next().await?.context("the connection has ended")?;
                    if frame.stream == 1 && frame.kind == 0x3 {
                        break frame;
                    }
                    ensure!(
                        frame.stream != 1 || frame.flags & END_STREAM == 0 || frame.kind > 1,
                        "it looks whole: {frame:?}"
                    );
                };
                ensure!(end.code() == 0x2, "{end:?}");
                let mut wire = balancer.wire().await?;
                wire.write("GET /good HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    .await?;
                ensure!(wire.answer().await?.text() == "/good");
                Ok(())
            };
            failures.note(&format!("{when} {content}"), result.await);
        }
    }
    failures.none()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_an_answer_are_nobodys_answer() -> Result<()> {
    const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let world = World::new()?;
    let one = world.raw_backend("web-1", |mut on: Conversation| async {
        let path = on.path();
        match &*path {
            "/at-once" => {
                let both = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{POISON}");
                on.write(both).await?;
            }
            "/apart" => {
                on.answer("ok").await?;
                on.write(POISON).await?;
            }
            "/later" => {
                on.answer("ok").await?;
                sleep(Duration::from_millis(10)).await;
                on.write(POISON).await?;
            }
            "/longer" => {
                on.write(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{POISON}"))
                    .await?;
            }
            "/head" => on.answer(POISON).await?,
            "/204" => {
                on.write(format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}"))
                    .await?;
            }
            "/304" => {
                let length = POISON.len();
                on.write(format!(
                    "HTTP/1.1 304 Not Modified\r\ncontent-length: {length}\r\n\r\n{POISON}"
                ))
                .await?;
            }
            "/chunks" => {
                on.write(format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}"
                ))
                .await?;
            }
            "/interim" => {
                on.write(format!("HTTP/1.1 100 Continue\r\n\r\n{POISON}"))
                    .await?;
                on.answer("poison").await?;
            }
            _ => on.answer(&path).await?,
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    for round in 0..5 {
        for path in [
            "/at-once", "/apart", "/later", "/longer", "/head", "/204", "/304", "/chunks",
            "/interim",
        ] {
            let method = if path == "/head" { "HEAD" } else { "GET" };
            wire.write(format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"
            ))
            .await?;
            let mut answer = wire.answer_to(method).await?;
            if path == "/interim" {
                ensure!(answer.status == 100, "{answer:?}");
                answer = wire.answer().await?;
                ensure!(
                    answer.text() == "poison",
                    "the final answer is the first: {answer:?}"
                );
            } else {
                ensure!(
                    answer.status < 400 && answer.text() != "poison",
                    "{path}: {answer:?}"
                );
            }
            // What was sent behind it has come by now.
            sleep(Duration::from_millis(30)).await;
            for count in 0..2 {
                let next = format!("/next{path}/{round}/{count}");
                wire.write(format!("GET {next} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
                    .await?;
                let answer = wire.answer().await?;
                ensure!(answer.text() == next, "after {path}: {answer:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_and_valid_passes_as_it_is() -> Result<()> {
    let world = World::new()?;
    let odd = "HTTP/1.1 299 Tr\u{e8}s\t bien ¶X-Latin: caf\u{e9} \u{ff}¶x-Empty:¶X-Tab: a\tb¶X-ORDER: 1¶x-order: 2¶Set-Cookie: a=1¶\
               Set-Cookie: b=2¶X-Order: 3¶X-Blanks:  \t c  d \t¶Content-Length: 0¶¶";
    let one = world.raw_backend("web-1", move |mut on: Conversation| async move {
        on.read_body().await?;
        match &*on.path() {
            "/odd" => on.write(bytes(odd)).await?,
            _ => on.answer("ok").await?,
        }
        on.go_on()
    })?;
    let balancer = world.balancer_before(&[&one], "").await?;
    let mut wire = balancer.wire().await?;
    // Requests: what the backend must hear of each, its lines in this order.
    let many: String = (0..98)
        .map(|index| format!("X-{index}: {index}¶"))
        .collect();
    for (request, line, heard) in [
        (
            "GET /a%2f//;:@!$&'()*+,-._~?e?/=%a4 HTTP/1.1¶HOST: \t localhost \t ¶¶".to_owned(),
            "GET /a%2f//;:@!$&'()*+,-._~?e?/=%a4 HTTP/1.1",
            "host: localhost¶".to_owned(),
        ),
        (
            "¶get / HTTP/1.1¶X-Latin: caf\u{e9} \u{ff}¶x-Empty:¶X-Blank: \t ¶host:LocalHost¶X-ORDER: 1¶x-order:2¶X-Order: \t3 4\t5 ¶¶".to_owned(),
            "get / HTTP/1.1",
            "X-Latin: caf\u{e9} \u{ff}¶x-Empty: ¶X-Blank: ¶X-ORDER: 1¶x-order: 2¶X-Order: 3 4\t5¶".to_owned(),
        ),
        (
            "!#$%&'*+-.^_`|~09 / HTTP/1.1¶Host: localhost:1¶!#$%&'*+-.^_`|~09: {}()[]<>@,;:\\\"/?=¶¶".to_owned(),
            "!#$%&'*+-.^_`|~09 / HTTP/1.1",
            "!#$%&'*+-.^_`|~09: {}()[]<>@,;:\\\"/?=¶".to_owned(),
        ),
        (
            format!("GET /many HTTP/1.1¶Host: localhost¶{many}¶"),
            "GET /many HTTP/1.1",
            many.clone(),
        ),
        (
            "GET HTTPS://LocalHost?b=c HTTP/1.1¶Host: localhost¶¶".to_owned(),
            "GET /?b=c HTTP/1.1",
            String::new(),
        ),
        (
            "OPTIONS * HTTP/1.1¶Host: localhost¶¶".to_owned(),
            "OPTIONS * HTTP/1.1",
            String::new(),
        ),
        (
            "OPTIONS https://localhost HTTP/1.1¶Host: localhost¶¶".to_owned(),
            "OPTIONS * HTTP/1.1",
            String::new(),
        ),
        (
            "POST /len HTTP/1.1¶Host: localhost¶Content-Length: 0003¶¶abc".to_owned(),
            "POST /len HTTP/1.1",
            "content-length: 3¶".to_owned(),
        ),
        (
            "GET /with HTTP/1.1¶Host: localhost¶Content-Length: 3¶¶abc".to_owned(),
            "GET /with HTTP/1.1",
            "content-length: 3¶".to_owned(),
        ),
        (
            "DELETE /chunks HTTP/1.1¶Host: localhost¶Transfer-Encoding: Chunked¶¶0a ; a = \"b\\\"¶c\" ; d¶0123456789¶000¶X-Own: \t1 ¶¶"
                .replace("\\\"¶c", "\\\"c"),
            "DELETE /chunks HTTP/1.1",
            "transfer-encoding: chunked¶".to_owned(),
        ),
        (
            "GET /list HTTP/1.1¶Host: localhost¶Connection: , x-own ,,keep-alive¶X-Own: 1¶X-Kept: 1¶¶".to_owned(),
            "GET /list HTTP/1.1",
            "X-Kept: 1¶".to_owned(),
        ),
    ] {
        wire.write(bytes(&request)).await?;
        let answer = wire.answer().await?;
        ensure!(answer.status == 200 && answer.text() == "ok", "{request}: {answer:?}");
        let got = one.heard().pop().context("nothing heard")?;
        ensure!(got.line() == line, "{request}: {}", got.line());
        let got = got.text();
        let heard = heard.replace('¶', "\r\n");
        ensure!(got.contains(&heard), "{request}: {heard:?} is not in {got:?}");
        ensure!(!got.contains("X-Own: 1\r\n"), "{got}");
        ensure!(got.matches("\r\nhost: ").count() == 1, "{got}");
    }
    // The same by HTTP/2, as far as it can be.
    let mut frames = balancer.frames().await?;
    let list = [
        (":path", "/two?"),
        (":method", "get"),
        AUTHORITY,
        SCHEME,
        ("x-latin", "caf\u{e9} \u{ff}"),
        ("x-empty", ""),
        ("te", "trailers"),
        ("x-order", "1"),
        ("x-order", "2"),
        ("host", "LOCALHOST"),
    ];
    frames.write(headers(1, END_STREAM, &list)).await?;
    ensure!(frames.taken(1).await? == Taken::Answered(200));
    let got = one.heard().pop().context("nothing heard")?.text();
    ensure!(
        got.starts_with("get /two? HTTP/1.1\r\nhost: localhost\r\n")
            && got
                .contains("x-latin: caf\u{e9} \u{ff}\r\nx-empty: \r\nx-order: 1\r\nx-order: 2\r\n"),
        "{got}"
    );
    let mut frames = balancer.frames().await?;
    let list = [(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")];
    frames.write(headers(1, END_STREAM, &list)).await?;
    ensure!(frames.taken(1).await? == Taken::Answered(200));
    let got = one.heard().pop().context("nothing heard")?;
    ensure!(got.line() == "OPTIONS * HTTP/1.1", "{got:?}");

    // Answers.
    wire.write("GET /odd HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let answer = wire.answer().await?;
    let expected = "HTTP/1.1 299 Tr\u{e8}s\t bien \r\nX-Latin: caf\u{e9} \u{ff}\r\nx-Empty: \r\nX-Tab: a\tb\r\nX-ORDER: 1\r\nx-order: 2\r\n\
                    Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Order: 3\r\nX-Blanks: c  d\r\n";
    ensure!(answer.head.starts_with(expected), "{}", answer.head);
    let two = balancer.two(65_535).await?;
    let request = balancer.request("GET", "/odd").body(())?;
    let (answer, _) = two.ready().await?.send_request(request, true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 299, "{answer:?}");
    let values = |name: &str| {
        let values = answer.headers().get_all(name).iter();
        values.map(|value| value.as_bytes()).collect::<Vec<_>>()
    };
    ensure!(values("x-order") == [b"1", b"2", b"3"], "{answer:?}");
    ensure!(values("set-cookie") == [b"a=1", b"b=2"], "{answer:?}");
    ensure!(values("x-latin") == [b"caf\xe9 \xff"], "{answer:?}");
    ensure!(values("x-empty") == [b""], "{answer:?}");
    Ok(())
}
