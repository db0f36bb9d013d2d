//! `uri-host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2): what `Host`, an absolute target and `:authority` may say.
//!
//! An empty port is valid by the grammar and taken; an empty host is not, for `http` and `https` have none (RFC 9110, 4.2).

use std::net::Ipv6Addr;

use super::class::{self, HOST};
use super::refusal::Refusal;

/// Whether `authority` is one, with no user information before it.
pub(crate) fn check(authority: &[u8]) -> Result<(), Refusal> {
    let port = match authority.first() {
        Some(b'[') => literal(authority),
        _ => name(authority),
    };
    match port {
        Some(port) if is_port(port) => Ok(()),
        _ if authority.contains(&b'@') => Err(Refusal::Userinfo),
        _ => Err(Refusal::HostInvalid),
    }
}

/// Checks a registered name or an IPv4 address, and gives what comes after it.
#[inline]
fn name(authority: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    while let Some(byte) = authority.get(at) {
        if class::is(*byte, HOST) {
            at += 1;
        } else if *byte == b'%' && class::is_escape(&authority[at + 1..]) {
            at += 3;
        } else {
            break;
        }
    }
    (at > 0).then(|| &authority[at..])
}

/// Checks an address in brackets, and gives what comes after them.
fn literal(authority: &[u8]) -> Option<&[u8]> {
    let end = authority.iter().position(|byte| *byte == b']')?;
    let address = std::str::from_utf8(&authority[1..end]).ok()?;
    let is_address = match address.strip_prefix(['v', 'V']) {
        Some(future) => is_future(future),
        None => address.parse::<Ipv6Addr>().is_ok(),
    };
    is_address.then(|| &authority[end + 1..])
}

/// `IPvFuture`, after its `v`.
fn is_future(address: &str) -> bool {
    address.split_once('.').is_some_and(|(version, rest)| {
        let is_part = |byte: u8| class::is(byte, HOST) || byte == b':';
        !version.is_empty()
            && class::all(version.as_bytes(), class::HEX)
            && !rest.is_empty()
            && rest.bytes().all(is_part)
    })
}

/// Nothing, or a colon and a number that a port can have.
#[inline]
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => number(digits).is_some(),
        _ => false,
    }
}

/// The port's number, 0 for none.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some(number * 10 + value).filter(|number| *number <= 65_535)
    })
}

/// Whether a port is there, as CONNECT needs one (RFC 9110, 9.3.6). `authority` was checked before.
pub(crate) fn has_port(authority: &[u8]) -> bool {
    let mut after_host = authority.rsplitn(2, |byte| *byte == b':');
    let port = after_host.next().unwrap_or_default();
    after_host.next().is_some() && !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports_are_taken() {
        for authority in [
            "a",
            "localhost:8443",
            "a.example:",
            "a:0",
            "a:65535",
            "a:000080",
            "192.0.2.7:80",
            "a_b~!$&'()*+,;=-.",
            "%41%7a",
            "[::1]",
            "[2001:db8::7]:443",
            "[::ffff:192.0.2.7]",
            "[v1.a:b]",
        ] {
            assert_eq!(Ok(()), check(authority.as_bytes()), "{authority}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for authority in [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:-1",
            "a:+1",
            "a: 1",
            "a:1:2",
            "a b",
            "a,b ",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a|b",
            "\"a\"",
            "%4",
            "%4g",
            "[",
            "]",
            "[]",
            "[::1",
            "::1",
            "a]",
            "[a]",
            "[::1]a",
            "[::1]80",
            "[::1%25eth0]",
            "[v.a]",
            "[vg.a]",
            "[v1.]",
            "[1.2.3.4]",
            "h\u{e4}",
            "a:99999999999999999999",
            "http://a",
        ] {
            assert_eq!(
                Err(Refusal::HostInvalid),
                check(authority.as_bytes()),
                "{authority}"
            );
        }
        for authority in ["me@a", "me:pw@a", "@a"] {
            assert_eq!(
                Err(Refusal::Userinfo),
                check(authority.as_bytes()),
                "{authority}"
            );
        }
    }

    #[test]
    fn a_port_is_what_comes_after_the_last_colon_outside_brackets() {
        assert!(has_port(b"a:1") && has_port(b"[::1]:1"));
        assert!(!has_port(b"a") && !has_port(b"a:") && !has_port(b"[::1]"));
    }
}
