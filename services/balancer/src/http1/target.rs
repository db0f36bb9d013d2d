//! The target of a request (RFC 9112, 3.2): which of its four forms it has, and the path and query that are sent on.
//!
//! Strict about bytes: what RFC 3986 has in no path and no query is refused, though browsers send some of it (`|`, `[`, `{` in
//! queries). Sent on as it is, two readers may take it for two targets; encoded, it is not what was signed or logged.

use super::authority;
use super::class::{self, TARGET};
use super::method::Method;
use super::refusal::Refusal;

/// A target that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// Path and query; where the query's `?` is, or the end.
    Origin { path_len: usize },
    /// `*`.
    Asterisk,
    /// What CONNECT has.
    Authority,
    /// A whole URI: its authority, then path and query, neither of which needs to be there.
    Absolute {
        authority: &'a [u8],
        rest: &'a [u8],
        path_len: usize,
    },
}

/// Checks `target` for `method`.
pub(crate) fn check(method: Method, target: &[u8]) -> Result<Form<'_>, Refusal> {
    match target {
        _ if method == Method::Connect => {
            authority::check(target)?;
            match authority::has_port(target) {
                true => Ok(Form::Authority),
                false => Err(Refusal::TargetForm),
            }
        }
        [b'/', ..] => path_and_query(target).map(|path_len| Form::Origin { path_len }),
        b"*" if method == Method::Options => Ok(Form::Asterisk),
        _ => absolute(target),
    }
}

/// Checks every byte, and gives the path's length.
#[inline]
pub(crate) fn path_and_query(target: &[u8]) -> Result<usize, Refusal> {
    let mut path_len = None;
    let mut at = 0;
    while let Some(byte) = target.get(at) {
        if class::is(*byte, TARGET) {
            at += 1;
        } else if *byte == b'%' {
            if !class::is_escape(&target[at + 1..]) {
                return Err(Refusal::TargetEscape);
            }
            at += 3;
        } else if *byte == b'?' {
            path_len.get_or_insert(at);
            at += 1;
        } else {
            return Err(Refusal::TargetByte);
        }
    }
    Ok(path_len.unwrap_or(target.len()))
}

fn absolute(target: &[u8]) -> Result<Form<'_>, Refusal> {
    let Some(colon) = target.windows(3).position(|window| window == b"://") else {
        return Err(Refusal::TargetForm);
    };
    let (scheme, rest) = (&target[..colon], &target[colon + 3..]);
    check_scheme(scheme)?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
    authority::check(authority)?;
    Ok(Form::Absolute {
        authority,
        rest,
        path_len: path_and_query(rest)?,
    })
}

/// `http` or `https`, in any case.
pub(crate) fn check_scheme(scheme: &[u8]) -> Result<(), Refusal> {
    match scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https") {
        true => Ok(()),
        // Before it can be a foreign scheme, it must be one at all.
        false if scheme.first().is_some_and(u8::is_ascii_alphabetic) => Err(Refusal::Scheme),
        false => Err(Refusal::TargetForm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_the_query_begins() {
        assert_eq!(
            Ok(Form::Origin { path_len: 2 }),
            check(Method::Get, b"/a?b?/c")
        );
        assert_eq!(
            Ok(Form::Origin { path_len: 8 }),
            check(Method::Get, b"//a/%2f:")
        );
    }

    #[test]
    fn a_whole_uri_is_taken_apart() {
        let absolute = |authority, rest, path_len| Form::Absolute {
            authority,
            rest,
            path_len,
        };
        assert_eq!(
            Ok(absolute(b"a:1", b"/b?c", 2)),
            check(Method::Get, b"HTTP://a:1/b?c")
        );
        assert_eq!(
            Ok(absolute(b"a", b"", 0)),
            check(Method::Options, b"https://a")
        );
        assert_eq!(
            Ok(absolute(b"a", b"?b", 0)),
            check(Method::Get, b"http://a?b")
        );
    }

    #[test]
    fn every_other_byte_is_refused() {
        for byte in (0..=255_u8).filter(|byte| !class::is(*byte, TARGET) && !b"%?".contains(byte)) {
            let target = [b'/', byte];
            assert_eq!(
                Err(Refusal::TargetByte),
                check(Method::Get, &target),
                "{byte:#x}"
            );
        }
    }
}
