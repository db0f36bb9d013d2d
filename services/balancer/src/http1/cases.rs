//! One case for each rule, in one table for each kind of message: what is sent, and the rule that it breaks, if it breaks one.
//!
//! `¶` stands for CR LF. The rule's section is [`Refusal::section`]. Every case is given to the codec whole, byte by byte, and cut at
//! every place, and to the reference reader.

use std::collections::HashSet;

use bytes::BytesMut;

use super::agreement::{Outcome, check_requests, check_responses, requests, responses};
use super::*;

pub(super) type Case = (Option<Refusal>, &'static str);

const fn taken(message: &'static str) -> Case {
    (None, message)
}

const fn refused(refusal: Refusal, message: &'static str) -> Case {
    (Some(refusal), message)
}

/// Requests; the limits are [`limits`].
const REQUESTS: &[Case] = &[
    // Plain ones.
    taken("GET / HTTP/1.1¶Host: a¶¶"),
    taken("¶GET / HTTP/1.1¶Host: a¶¶"),
    taken("GET / HTTP/1.0¶Host: a¶¶"),
    taken("get / HTTP/1.1¶host:a¶¶"),
    taken("!#$%&'*+-.^_`|~09 / HTTP/1.1¶HOST: \t a \t ¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶Empty:¶Blank: ¶Latin: \u{e4}¶Tab: a\tb¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶¶GET /b HTTP/1.1¶Host: b¶¶"),
    taken("GET /x HTTP/1.1¶Host: a¶a: 1¶a: 2¶a: 3¶a: 4¶a: 5¶a: 6¶a: 7¶¶"),
    // RFC 9112, 2.2: lines.
    refused(Refusal::LeadingBlankLines, "¶¶GET / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::LeadingBlankLines, "¶\nGET / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::BareLf, "\nGET / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::BareLf, "GET / HTTP/1.1\nHost: a¶¶"),
    refused(Refusal::BareLf, "GET / HTTP/1.1¶Host: a\n¶"),
    refused(Refusal::BareLf, "GET / HTTP/1.1¶Host: a\n\n"),
    refused(Refusal::BareLf, "GET / HTTP/1.1¶Host: a¶\n"),
    refused(Refusal::BareLf, "GET / HTTP/1.1¶Host: a¶a: b\nc: d¶¶"),
    refused(Refusal::BareCr, "GET / HTTP/1.1\rHost: a¶¶"),
    refused(Refusal::BareCr, "GET / HTTP/1.1¶Host: a\rb: c¶¶"),
    refused(Refusal::BareCr, "GET / HTTP/1.1\r¶Host: a¶¶"),
    refused(Refusal::BareCr, "GET / HTTP/1.1¶Host: a¶b:\r c¶¶"),
    refused(Refusal::BareCr, "GET / HTTP/1.1¶Host: a¶b\r: c¶¶"),
    refused(Refusal::BareCr, "GET / HTTP/1.1¶Host: a¶\r¶¶"),
    refused(Refusal::ControlByte, "GET / HTTP/1.1¶Host: a¶b: \0¶¶"),
    refused(Refusal::ControlByte, "GET / HTTP/1.1¶Host: a¶b: c\u{b}d¶¶"),
    refused(Refusal::ControlByte, "GET / HTTP/1.1¶Host: a¶b: \u{7f}¶¶"),
    refused(Refusal::ControlByte, "GET / HTTP/1.1¶Host: a¶b\0: c¶¶"),
    refused(Refusal::ControlByte, "GET /\0 HTTP/1.1¶Host: a¶¶"),
    // RFC 6585, 5, and RFC 9112, 3: size.
    refused(
        Refusal::TooManyFields,
        "GET / HTTP/1.1¶Host: a¶a: 1¶a: 2¶a: 3¶a: 4¶a: 5¶a: 6¶a: 7¶a: 8¶¶",
    ),
    refused(
        Refusal::HeadTooLarge,
        "GET / HTTP/1.1¶Host: a¶a: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789¶¶",
    ),
    refused(
        Refusal::TargetTooLong,
        "GET /01234567890123456789012345678901 HTTP/1.1¶Host: a¶¶",
    ),
    refused(
        Refusal::TargetTooLong,
        "GET /01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    ),
    taken("GET /0123456789012345678901234567890 HTTP/1.1¶Host: a¶¶"),
    // RFC 9112, 3: the line.
    refused(Refusal::RequestLine, "GET  / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET /  HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET / HTTP/1.1 ¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET /a b HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET /\tHTTP/1.1¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET /¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET¶¶"),
    refused(Refusal::RequestLine, "GET / http/1.1¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET / HTTP/1.1x¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET / HTTP/11¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET / HTTP/1.¶Host: a¶¶"),
    refused(Refusal::RequestLine, "GET / ¶Host: a¶¶"),
    refused(Refusal::MethodNotToken, " GET / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::MethodNotToken, "GET\t/ HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::MethodNotToken, "G(T / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::MethodNotToken, "G\u{e4}T / HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::Preface, "PRI * HTTP/2.0¶¶SM¶¶"),
    refused(Refusal::Version, "GET / HTTP/2.0¶Host: a¶¶"),
    refused(Refusal::Version, "GET / HTTP/1.2¶Host: a¶¶"),
    refused(Refusal::Version, "GET / HTTP/0.9¶Host: a¶¶"),
    // RFC 3986: bytes of the target.
    taken("GET /a%2f//;:@!$&'()*+,-._~?e?/=%a4 HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /a#b HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /a?b#c HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /a\\b HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /a|b HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /?a[b]=c HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /{a} HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /\"<>^` HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET /\u{e4} HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetEscape, "GET /% HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetEscape, "GET /%2 HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetEscape, "GET /%2?a HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetEscape, "GET /?%zz HTTP/1.1¶Host: a¶¶"),
    // RFC 9112, 3.2: forms.
    taken("OPTIONS * HTTP/1.1¶Host: a¶¶"),
    taken("OPTIONS http://a HTTP/1.1¶Host: a¶¶"),
    taken("OPTIONS http://a?b HTTP/1.1¶Host: a¶¶"),
    taken("GET http://a HTTP/1.1¶Host: a¶¶"),
    taken("GET http://a?b HTTP/1.1¶Host: a¶¶"),
    taken("GET HTTPS://A:1/b?c HTTP/1.1¶Host: a:1¶¶"),
    taken("GET http://a/b HTTP/1.0¶¶"),
    taken("CONNECT a:443 HTTP/1.1¶Host: a:443¶¶"),
    taken("CONNECT [::1]:443 HTTP/1.1¶Host: [::1]:443¶¶"),
    refused(Refusal::TargetForm, "GET * HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "OPTIONS ** HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "GET a HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "GET ?a HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "GET a:443 HTTP/1.1¶Host: a:443¶¶"),
    refused(Refusal::TargetForm, "GET http:/a HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "GET ://a/ HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "CONNECT a HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetForm, "CONNECT a: HTTP/1.1¶Host: a:¶¶"),
    refused(Refusal::HostInvalid, "CONNECT /a HTTP/1.1¶Host: a¶¶"),
    refused(
        Refusal::HostInvalid,
        "CONNECT http://a:1 HTTP/1.1¶Host: a:1¶¶",
    ),
    refused(Refusal::Scheme, "GET ftp://a/ HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::Scheme, "GET httpx://a/ HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::HostInvalid, "GET http:///b HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::TargetByte, "GET http://a#b HTTP/1.1¶Host: a¶¶"),
    // RFC 9112, 5: field lines.
    refused(Refusal::ObsFold, "GET / HTTP/1.1¶Host: a¶b: c¶ d¶¶"),
    refused(Refusal::ObsFold, "GET / HTTP/1.1¶Host: a¶b: c¶\td: e¶¶"),
    refused(Refusal::ObsFold, "GET / HTTP/1.1¶ Host: a¶¶"),
    refused(Refusal::ObsFold, "GET / HTTP/1.1¶Host: a¶ ¶¶"),
    refused(Refusal::SpaceBeforeColon, "GET / HTTP/1.1¶Host : a¶¶"),
    refused(
        Refusal::SpaceBeforeColon,
        "GET / HTTP/1.1¶Host: a¶Transfer-Encoding\t: chunked¶¶",
    ),
    refused(Refusal::EmptyName, "GET / HTTP/1.1¶Host: a¶: b¶¶"),
    refused(Refusal::NoColon, "GET / HTTP/1.1¶Host: a¶b¶¶"),
    refused(Refusal::FieldName, "GET / HTTP/1.1¶Host: a¶b c: d¶¶"),
    refused(Refusal::FieldName, "GET / HTTP/1.1¶Host: a¶b(: d¶¶"),
    refused(Refusal::FieldName, "GET / HTTP/1.1¶Host: a¶b\u{e4}: d¶¶"),
    // RFC 9110, 7.6.1 and 7.8: Connection and Upgrade.
    taken("GET / HTTP/1.1¶Host: a¶Connection: close, ,keep-alive¶¶"),
    taken("GET / HTTP/1.0¶Host: a¶Connection: keep-alive¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶Connection: x-own, host, cookie¶X-Own: 1¶Cookie: b¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: websocket¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶Upgrade: websocket¶¶"),
    taken("GET / HTTP/1.0¶Host: a¶Connection: Upgrade¶Upgrade: websocket¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: a¶Upgrade: b¶¶"),
    taken("GET / HTTP/1.1¶Host: a¶Connection: Upgrade¶Upgrade: a b¶¶"),
    refused(
        Refusal::ConnectionOption,
        "GET / HTTP/1.1¶Host: a¶Connection: clo se¶¶",
    ),
    refused(
        Refusal::ConnectionOption,
        "GET / HTTP/1.1¶Host: a¶Connection: \"close\"¶¶",
    ),
    // RFC 9110, 10.1.1: Expect.
    taken("POST / HTTP/1.1¶Host: a¶Expect: 100-Continue¶Content-Length: 1¶¶b"),
    taken("GET / HTTP/1.1¶Host: a¶Expect: 100-continue¶¶"),
    taken("POST / HTTP/1.0¶Host: a¶Expect: 100-continue¶Content-Length: 1¶¶b"),
    refused(
        Refusal::Expectation,
        "GET / HTTP/1.1¶Host: a¶Expect: 200-ok¶¶",
    ),
    refused(Refusal::Expectation, "GET / HTTP/1.1¶Host: a¶Expect:¶¶"),
    refused(
        Refusal::Expectation,
        "GET / HTTP/1.1¶Host: a¶Expect: 100-continue, b¶¶",
    ),
    // RFC 9112, 3.2: Host.
    taken("GET / HTTP/1.1¶Host: a.b:65535¶¶"),
    taken("GET / HTTP/1.1¶Host: [2001:db8::7]:1¶¶"),
    taken("GET / HTTP/1.1¶Host: a:¶¶"),
    refused(Refusal::HostMissing, "GET / HTTP/1.1¶¶"),
    refused(Refusal::HostMissing, "GET / HTTP/1.0¶¶"),
    refused(Refusal::HostMissing, "GET http://a/ HTTP/1.1¶¶"),
    refused(Refusal::HostMissing, "OPTIONS * HTTP/1.1¶¶"),
    refused(Refusal::HostRepeated, "GET / HTTP/1.1¶Host: a¶Host: b¶¶"),
    refused(Refusal::HostRepeated, "GET / HTTP/1.1¶Host: a¶hOST: a¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host:¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a, b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a/b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a?b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a#b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a\\b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: http://a¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a:b¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a:65536¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a:-1¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a]¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: [a]¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: [::1¶¶"),
    refused(Refusal::HostInvalid, "GET / HTTP/1.1¶Host: a\u{e4}¶¶"),
    refused(Refusal::Userinfo, "GET / HTTP/1.1¶Host: me@a¶¶"),
    refused(Refusal::Userinfo, "GET http://me:pw@a/ HTTP/1.1¶Host: a¶¶"),
    refused(Refusal::HostDiffers, "GET http://a/ HTTP/1.1¶Host: b¶¶"),
    refused(Refusal::HostDiffers, "GET http://a/ HTTP/1.1¶Host: a:80¶¶"),
    refused(Refusal::HostDiffers, "CONNECT a:1 HTTP/1.1¶Host: a¶¶"),
    // RFC 9112, 6: framing.
    taken("POST / HTTP/1.1¶Host: a¶Content-Length: 003¶¶abc"),
    taken("GET / HTTP/1.1¶Host: a¶Content-Length: 1¶¶a"),
    taken("POST / HTTP/1.1¶Host: a¶Transfer-Encoding: Chunked¶¶1¶a¶0¶¶GET / HTTP/1.1¶Host: a¶¶"),
    refused(
        Refusal::LengthRepeated,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 1¶Content-Length: 1¶¶a",
    ),
    refused(
        Refusal::LengthRepeated,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 1¶content-length: 2¶¶a",
    ),
    refused(
        Refusal::LengthList,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 1, 1¶¶a",
    ),
    refused(
        Refusal::LengthList,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 1,¶¶a",
    ),
    refused(
        Refusal::LengthNotDigits,
        "POST / HTTP/1.1¶Host: a¶Content-Length: +1¶¶a",
    ),
    refused(
        Refusal::LengthNotDigits,
        "POST / HTTP/1.1¶Host: a¶Content-Length: -1¶¶a",
    ),
    refused(
        Refusal::LengthNotDigits,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 1 1¶¶a",
    ),
    refused(
        Refusal::LengthNotDigits,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 0x1¶¶a",
    ),
    refused(
        Refusal::LengthNotDigits,
        "POST / HTTP/1.1¶Host: a¶Content-Length:¶¶",
    ),
    refused(
        Refusal::LengthTooLarge,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 18446744073709551616¶¶",
    ),
    refused(
        Refusal::LengthAndCoding,
        "POST / HTTP/1.1¶Host: a¶Content-Length: 3¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::LengthAndCoding,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶Content-Length: 3¶¶",
    ),
    refused(
        Refusal::LengthAndCoding,
        "POST / HTTP/1.0¶Host: a¶Transfer-Encoding: b¶Content-Length: 3¶¶",
    ),
    refused(
        Refusal::CodingInHttp10,
        "POST / HTTP/1.0¶Host: a¶Transfer-Encoding: chunked¶¶0¶¶",
    ),
    refused(
        Refusal::CodingNotChunked,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: identity¶¶",
    ),
    refused(
        Refusal::CodingNotChunked,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: gzip¶¶",
    ),
    refused(
        Refusal::CodingNotChunked,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked, gzip¶¶",
    ),
    refused(
        Refusal::CodingNotChunked,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: xchunked¶¶",
    ),
    refused(
        Refusal::CodingUnknown,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: gzip, chunked¶¶",
    ),
    refused(
        Refusal::CodingUnknown,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: gzip;a=b¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::CodingMalformed,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked, chunked¶¶",
    ),
    refused(
        Refusal::CodingMalformed,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::CodingMalformed,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding:¶¶",
    ),
    refused(
        Refusal::CodingMalformed,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: \"chunked\"¶¶",
    ),
    refused(
        Refusal::CodingMalformed,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked;a=b¶¶",
    ),
    refused(
        Refusal::CodingMalformed,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked,¶¶",
    ),
    refused(
        Refusal::ControlByte,
        "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: \u{b}chunked¶¶",
    ),
    refused(
        Refusal::TraceWithContent,
        "TRACE / HTTP/1.1¶Host: a¶Content-Length: 1¶¶a",
    ),
    refused(
        Refusal::TraceWithContent,
        "TRACE / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶",
    ),
    taken("TRACE / HTTP/1.1¶Host: a¶Content-Length: 0¶¶"),
];

/// Chunked content, after the head of a request.
pub(super) const CHUNKS: &[Case] = &[
    taken("0¶¶"),
    taken("3¶abc¶0a¶0123456789¶000¶¶"),
    taken("3;a;b=c;d=\"e\\\"f\"¶abc¶0;x¶¶"),
    taken("3 ; a = b¶abc¶0¶¶"),
    taken("1¶a¶0¶X-Sum: 1¶Etag: \"b\" ¶¶"),
    refused(Refusal::ChunkSize, "¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, ";a¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, "0x3¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, " 3¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, "+3¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, "-3¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, "3,3¶abc¶0¶¶"),
    refused(Refusal::ChunkSize, "3\r¶abc¶0¶¶"),
    refused(Refusal::ChunkSizeTooLarge, "00000000000000003¶abc¶0¶¶"),
    refused(Refusal::ChunkSizeTooLarge, "10000000000000000¶abc¶0¶¶"),
    refused(Refusal::ChunkExtension, "3 ¶abc¶0¶¶"),
    refused(Refusal::ChunkExtension, "3;¶abc¶0¶¶"),
    refused(Refusal::ChunkExtension, "3;a=¶abc¶0¶¶"),
    refused(Refusal::ChunkExtension, "3;a=\"b¶abc¶0¶¶"),
    refused(Refusal::ChunkExtension, "3;a\rb¶abc¶0¶¶"),
    refused(Refusal::ChunkExtension, "3;a\0¶abc¶0¶¶"),
    refused(
        Refusal::ChunkLineTooLong,
        "3;a=0123456789012345678901234567¶abc¶0¶¶",
    ),
    refused(Refusal::BareLf, "3\nabc¶0¶¶"),
    refused(Refusal::BareLf, "3;a\nabc¶0¶¶"),
    refused(Refusal::ChunkEnd, "3¶abc\n0¶¶"),
    refused(Refusal::ChunkEnd, "3¶abcd¶0¶¶"),
    refused(Refusal::ChunkEnd, "3¶abc\r0¶¶"),
    refused(Refusal::ChunkEnd, "3¶abc0¶¶"),
    refused(Refusal::BareLf, "0¶\n"),
    refused(Refusal::BareLf, "0¶a: b\n¶"),
    refused(Refusal::NoColon, "0¶a¶¶"),
    refused(Refusal::ObsFold, "0¶a: b¶ c¶¶"),
    refused(Refusal::SpaceBeforeColon, "0¶a : b¶¶"),
    refused(Refusal::BareCr, "0¶a: b\rc¶¶"),
    refused(
        Refusal::TrailersTooLarge,
        "0¶a: 0123456789012345678901234567890123456789¶¶",
    ),
    refused(Refusal::TooManyFields, "0¶a:¶a:¶a:¶a:¶a:¶a:¶a:¶a:¶a:¶¶"),
    refused(Refusal::TrailerForbidden, "0¶Content-Length: 1¶¶"),
    refused(Refusal::TrailerForbidden, "0¶transfer-encoding: chunked¶¶"),
    refused(Refusal::TrailerForbidden, "0¶Host: a¶¶"),
    refused(Refusal::TrailerForbidden, "0¶a: b¶X-Forwarded-For: c¶¶"),
    refused(Refusal::TrailerForbidden, "0¶Content-Encoding: gzip¶¶"),
];

/// Responses to a GET.
const RESPONSES: &[Case] = &[
    taken("HTTP/1.1 200 OK¶Content-Length: 1¶¶a"),
    taken("HTTP/1.1 200 ¶Content-Length: 0¶¶"),
    taken("HTTP/1.1 200 S\u{e4}\t mtlich ¶Content-Length: 0¶¶"),
    taken("HTTP/1.0 200 OK¶Connection: keep-alive¶Content-Length: 1¶¶a"),
    taken("HTTP/1.1 200 OK¶¶until the end"),
    taken("HTTP/1.1 200 OK¶Transfer-Encoding: chunked¶¶1¶a¶0¶a: b¶¶"),
    taken(
        "HTTP/1.1 100 Continue¶¶HTTP/1.1 204 No Content¶¶HTTP/1.1 304 Not Modified¶Content-Length: 7¶¶",
    ),
    taken("HTTP/1.1 101 Switching Protocols¶Connection: upgrade¶Upgrade: websocket¶¶"),
    taken("HTTP/1.1 200 OK¶Host: a¶Host: b¶Content-Length: 0¶¶"),
    refused(Refusal::StatusLine, "HTTP/1.1 200¶¶"),
    refused(Refusal::StatusLine, "HTTP/1.1 20 OK¶¶"),
    refused(Refusal::StatusLine, "HTTP/1.1 2000 OK¶¶"),
    refused(Refusal::StatusLine, "HTTP/1.1  200 OK¶¶"),
    refused(Refusal::StatusLine, "HTTP/2.0 200 OK¶¶"),
    refused(Refusal::StatusLine, "¶HTTP/1.1 200 OK¶¶"),
    // Whether the rest has come and is too large makes no difference.
    refused(
        Refusal::StatusLine,
        "¶HTTP/1.1 200 OK¶a: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789¶¶",
    ),
    refused(Refusal::StatusLine, "ICY 200 OK¶¶"),
    refused(Refusal::StatusLine, " HTTP/1.1 200 OK¶¶"),
    refused(Refusal::StatusLine, "HTTP/1.1 2x0 OK¶¶"),
    refused(Refusal::StatusCode, "HTTP/1.1 099 Low¶¶"),
    refused(Refusal::StatusCode, "HTTP/1.1 600 High¶¶"),
    refused(Refusal::StatusCode, "HTTP/1.1 000 Low¶¶"),
    refused(Refusal::ControlByte, "HTTP/1.1 200 O\0K¶¶"),
    refused(Refusal::BareLf, "HTTP/1.1 200 OK\nContent-Length: 1¶¶a"),
    refused(Refusal::BareLf, "HTTP/1.1 200\n¶"),
    refused(Refusal::BareCr, "HTTP/1.1 200 O\rK¶¶"),
    refused(Refusal::ObsFold, "HTTP/1.1 200 OK¶a: b¶ c¶¶"),
    refused(
        Refusal::SpaceBeforeColon,
        "HTTP/1.1 200 OK¶Content-Length : 1¶¶a",
    ),
    refused(
        Refusal::LengthRepeated,
        "HTTP/1.1 200 OK¶Content-Length: 1¶Content-Length: 1¶¶a",
    ),
    refused(
        Refusal::LengthList,
        "HTTP/1.1 200 OK¶Content-Length: 1,1¶¶a",
    ),
    refused(
        Refusal::LengthNotDigits,
        "HTTP/1.1 200 OK¶Content-Length: +1¶¶a",
    ),
    refused(
        Refusal::LengthAndCoding,
        "HTTP/1.1 200 OK¶Content-Length: 1¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::LengthAndCoding,
        "HTTP/1.1 304 OK¶Content-Length: 1¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::CodingNotChunked,
        "HTTP/1.1 200 OK¶Transfer-Encoding: gzip¶¶",
    ),
    refused(
        Refusal::CodingUnknown,
        "HTTP/1.1 200 OK¶Transfer-Encoding: gzip, chunked¶¶",
    ),
    refused(
        Refusal::CodingInHttp10,
        "HTTP/1.0 200 OK¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::ContentForbidden,
        "HTTP/1.1 204 No Content¶Content-Length: 0¶¶",
    ),
    refused(
        Refusal::ContentForbidden,
        "HTTP/1.1 204 No Content¶Transfer-Encoding: chunked¶¶",
    ),
    refused(
        Refusal::ContentForbidden,
        "HTTP/1.1 100 Continue¶Content-Length: 0¶¶",
    ),
];

/// Requests by HTTP/2: pseudo-fields, `¶` and the others; a last line of its own says that the stream goes on.
pub(super) const STREAMS: &[Case] = &[
    taken("GET https a /¶accept: */*"),
    taken("GET http a /?b¶host: A"),
    taken("GET https - /¶host: a"),
    taken("OPTIONS https a *"),
    taken("CONNECT - a:443 -"),
    taken("POST https a /¶content-length: 1¶..."),
    taken("POST https a /¶content-length: 0"),
    taken("GET https a /¶te: trailers"),
    taken("GET https a /¶cookie: a¶b: c¶cookie: d¶cookie: "),
    refused(
        Refusal::Http2ConnectionField,
        "GET https a /¶connection: close",
    ),
    refused(Refusal::Http2ConnectionField, "GET https a /¶keep-alive: 1"),
    refused(
        Refusal::Http2ConnectionField,
        "GET https a /¶proxy-connection: 1",
    ),
    refused(
        Refusal::Http2ConnectionField,
        "GET https a /¶transfer-encoding: chunked¶...",
    ),
    refused(
        Refusal::Http2ConnectionField,
        "GET https a /¶upgrade: websocket",
    ),
    refused(Refusal::Http2Te, "GET https a /¶te: gzip"),
    refused(Refusal::Http2Blank, "GET https a /¶b:  c"),
    refused(Refusal::Http2Blank, "GET https a /¶b: c\t"),
    refused(Refusal::ControlByte, "GET https a /¶b: c\nd: e"),
    refused(Refusal::ControlByte, "GET https a /¶b: c\0"),
    refused(Refusal::FieldName, "GET https a /¶Big: c"),
    refused(Refusal::FieldName, "GET https a /¶b c: d"),
    refused(Refusal::FieldName, "GET https a /¶:path: d"),
    refused(Refusal::Http2Path, "GET https a -"),
    refused(Refusal::TargetForm, "GET https a *"),
    refused(Refusal::TargetForm, "GET https a b"),
    refused(Refusal::TargetForm, "GET https a http://a/"),
    refused(Refusal::TargetForm, "CONNECT https a:1 /"),
    refused(Refusal::TargetForm, "CONNECT - a -"),
    refused(Refusal::TargetByte, "GET https a /a|b"),
    refused(Refusal::TargetByte, "GET https a /a\r\nb"),
    refused(Refusal::Scheme, "GET - a /"),
    refused(Refusal::Scheme, "GET ftp a /"),
    refused(Refusal::HostMissing, "GET https - /"),
    refused(Refusal::HostRepeated, "GET https - /¶host: a¶host: a"),
    refused(Refusal::HostDiffers, "GET https a /¶host: b"),
    refused(Refusal::HostInvalid, "GET https a:b /"),
    refused(Refusal::Userinfo, "GET https me@a /"),
    refused(Refusal::MethodNotToken, "G(T https a /"),
    refused(
        Refusal::LengthRepeated,
        "POST https a /¶content-length: 1¶content-length: 1¶...",
    ),
    refused(
        Refusal::LengthNotDigits,
        "POST https a /¶content-length: +1¶...",
    ),
    refused(Refusal::Http2Length, "POST https a /¶content-length: 1"),
    refused(Refusal::TraceWithContent, "TRACE https a /¶..."),
    refused(Refusal::Expectation, "GET https a /¶expect: b"),
    refused(
        Refusal::TooManyFields,
        "GET https a /¶a: 1¶a: 2¶a: 3¶a: 4¶a: 5¶a: 6¶a: 7¶a: 8¶a: 9",
    ),
    refused(
        Refusal::HeadTooLarge,
        "GET https a /¶a: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
    ),
    refused(
        Refusal::TargetTooLong,
        "GET https a /01234567890123456789012345678901",
    ),
];

/// Small, so that the cases can be.
pub(super) fn limits() -> Limits {
    Limits {
        head_bytes_max: 120,
        fields_max: 8,
        target_bytes_max: 32,
        trailer_bytes_max: 40,
        chunk_line_bytes_max: 32,
    }
}

/// The head before the chunks.
const CHUNKED: &str = "POST / HTTP/1.1¶Host: a¶Transfer-Encoding: chunked¶¶";

pub(super) fn bytes(case: &str) -> Vec<u8> {
    case.replace('¶', "\r\n").into_bytes()
}

/// The bytes of every case of a request, for whoever would damage them.
pub(super) fn requests_sent() -> Vec<Vec<u8>> {
    let chunked = CHUNKS.iter().map(|(_, case)| [CHUNKED, case].concat());
    let plain = REQUESTS.iter().map(|(_, case)| (*case).to_owned());
    plain.chain(chunked).map(|case| bytes(&case)).collect()
}

/// Those of a response.
pub(super) fn responses_sent() -> Vec<Vec<u8>> {
    RESPONSES.iter().map(|(_, case)| bytes(case)).collect()
}

/// All ways to cut `len` bytes that are tried: not at all, everywhere, and once at each place.
fn cuts(len: usize) -> impl Iterator<Item = Vec<usize>> {
    let once = (1..len).map(|at| vec![at, usize::MAX]);
    [vec![], vec![1]].into_iter().chain(once)
}

fn assert_outcome(expected: Option<Refusal>, outcome: Outcome, case: &str) {
    assert_eq!(expected, outcome.refusal, "{case}");
    assert!(expected.is_some() || outcome.is_whole, "not whole: {case}");
}

#[test]
fn every_request_is_taken_or_refused_by_its_rule_however_it_is_cut() {
    let chunked = |(refusal, case): &Case| (*refusal, [CHUNKED, case].concat());
    let plain = |(refusal, case): &Case| (*refusal, (*case).to_owned());
    let cases = REQUESTS.iter().map(plain).chain(CHUNKS.iter().map(chunked));
    for (expected, case) in cases {
        let sent = bytes(&case);
        for cuts in cuts(sent.len()) {
            check_requests(&sent, &cuts, &limits());
        }
        assert_outcome(expected, requests(&sent, &limits()), &case);
    }
}

#[test]
fn every_response_is_taken_or_refused_by_its_rule_however_it_is_cut() {
    for (expected, case) in RESPONSES {
        let sent = bytes(case);
        for cuts in cuts(sent.len()) {
            for answering in [Answering::Other, Answering::Head, Answering::Connect] {
                check_responses(&sent, &cuts, &limits(), answering);
            }
        }
        assert_outcome(
            *expected,
            responses(&sent, &limits(), Answering::Other),
            case,
        );
    }
}

#[test]
fn every_stream_is_taken_or_refused_by_its_rule() {
    for (expected, case) in STREAMS {
        let head = stream(case);
        assert_eq!(*expected, head.as_ref().err().copied(), "{case}");
        if let Ok(head) = head {
            assert_is_http1(&head, case);
        }
    }
}

/// What is sent on of a stream must be read as the same request again.
fn assert_is_http1(head: &RequestHead, case: &str) {
    let mut sent_on = Vec::new();
    write_request_head(head, Connection::Keep, |_| false, &mut sent_on);
    end_head(&mut sent_on);
    let mut buffer = BytesMut::from(&sent_on[..]);
    let again = RequestHead::parse(&mut buffer, &limits(), None)
        .unwrap()
        .unwrap();
    assert_eq!(head.method_str(), again.method_str(), "{case}");
    assert_eq!(head.target(), again.target(), "{case}");
    assert_eq!(head.path(), again.path(), "{case}");
    assert_eq!(head.authority(), again.authority(), "{case}");
    assert_eq!(head.framing(), again.framing(), "{case}");
    assert!(buffer.is_empty(), "{case}");
}

fn stream(case: &str) -> Result<RequestHead, Refusal> {
    let mut lines: Vec<&str> = case.split('¶').collect();
    let end_of_stream = lines.pop_if(|line| *line == "...").is_none();
    let [method, scheme, authority, path] = lines[0].split(' ').collect::<Vec<_>>()[..] else {
        panic!("four words: {case}");
    };
    let fields = lines[1..].iter().map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.as_bytes(), value.as_bytes())
    });
    let parts = Parts {
        method: method.as_bytes(),
        scheme: given(scheme),
        authority: given(authority),
        path: given(path).unwrap_or_default(),
        end_of_stream,
    };
    RequestHead::from_parts(parts, fields, &limits(), None)
}

#[test]
fn every_rule_has_a_case() {
    // Whose case is too large for a table: `many_small_chunks_with_long_lines_are_refused`.
    let elsewhere = [Refusal::ChunkOverhead];
    let tables = [REQUESTS, CHUNKS, RESPONSES, STREAMS].concat();
    let covered: HashSet<Refusal> = tables
        .iter()
        .filter_map(|(refusal, _)| *refusal)
        .chain(elsewhere)
        .collect();
    for refusal in Refusal::ALL {
        assert!(covered.contains(refusal), "{refusal:?}");
    }
}

/// `-` stands for what is not there.
fn given(word: &str) -> Option<&[u8]> {
    (word != "-").then_some(word.as_bytes())
}
