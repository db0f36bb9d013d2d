//! Where a message ends (RFC 9112, 6), told from its framing fields in the one way in which every reader must understand them.

use super::class;
use super::connection::members;
use super::fields::Fields;
use super::known::Known;
use super::refusal::Refusal;

/// How a message's content is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no content, and no field says how much.
    #[default]
    None,
    /// So many bytes, as `Content-Length` says; perhaps none.
    Length(u64),
    /// Chunks, and perhaps trailers.
    Chunked,
    /// Until the connection is closed. Responses only.
    UntilClose,
}

impl Framing {
    /// Whether there may be any byte of content.
    pub fn has_content(self) -> bool {
        !matches!(self, Framing::None | Framing::Length(0))
    }
}

/// The framing fields that were seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) length: Option<u64>,
    pub(crate) coding: Coding,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coding {
    #[default]
    None,
    Chunked,
    /// Anything else than one field that is exactly `chunked`. What is wrong is found out when all fields are read.
    Odd,
}

impl Seen {
    /// Adds a `Content-Length`.
    pub(crate) fn add_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        match self.length.replace(length(value)?) {
            None => Ok(()),
            Some(_) => Err(Refusal::LengthRepeated),
        }
    }

    /// Adds a `Transfer-Encoding`.
    pub(crate) fn add_coding(&mut self, value: &[u8]) {
        self.coding = match self.coding {
            Coding::None if value.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
            _ => Coding::Odd,
        };
    }

    /// What both say together; `fields` are those of the message, in `bytes`.
    #[inline]
    pub(crate) fn framing(
        self,
        version_minor: u8,
        fields: &Fields,
        bytes: &[u8],
    ) -> Result<Framing, Refusal> {
        match (self.coding, self.length) {
            (Coding::None, None) => Ok(Framing::None),
            (Coding::None, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(Refusal::LengthAndCoding),
            (_, None) if version_minor == 0 => Err(Refusal::CodingInHttp10),
            (Coding::Chunked, None) => Ok(Framing::Chunked),
            (Coding::Odd, None) => Err(odd(fields, bytes)),
        }
    }
}

/// Digits, and nothing else.
pub(crate) fn length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(match value.contains(&b',') {
            true => Refusal::LengthList,
            false => Refusal::LengthNotDigits,
        });
    }
    value
        .iter()
        .try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .ok_or(Refusal::LengthTooLarge)
}

/// What is wrong with the codings. RFC 9112, 6.3: 400 if the last one is not `chunked`; 6.1: 501 for one that is not understood.
#[cold]
fn odd(fields: &Fields, bytes: &[u8]) -> Refusal {
    let codings = || {
        fields
            .values(Known::TransferEncoding, bytes)
            .flat_map(members)
    };
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let is_malformed = |coding: &[u8]| {
        let name = coding
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let name = class::trim(name);
        !class::is_token(name) || is_chunked(name) && !is_chunked(coding)
    };
    if codings().next().is_none()
        || codings().any(is_malformed)
        || codings().filter(|coding| is_chunked(coding)).count() > 1
    {
        return Refusal::CodingMalformed;
    }
    match codings().last() {
        // Only `chunked`, and yet not one field with one member: an empty member was beside it.
        Some(last) if is_chunked(last) && codings().count() == 1 => Refusal::CodingMalformed,
        Some(last) if is_chunked(last) => Refusal::CodingUnknown,
        _ => Refusal::CodingNotChunked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_that_fit() {
        assert_eq!(Ok(0), length(b"0"));
        assert_eq!(Ok(7), length(b"0007"));
        assert_eq!(Ok(u64::MAX), length(b"18446744073709551615"));
        assert_eq!(
            Err(Refusal::LengthTooLarge),
            length(b"18446744073709551616")
        );
        for value in ["", "+1", "-1", "1 2", "0x1", "1e3", "1.0", "\u{661}"] {
            assert_eq!(
                Err(Refusal::LengthNotDigits),
                length(value.as_bytes()),
                "{value}"
            );
        }
        assert_eq!(Err(Refusal::LengthList), length(b"1, 1"));
    }

    #[test]
    fn content_is_what_may_have_a_byte() {
        assert!(!Framing::None.has_content() && !Framing::Length(0).has_content());
        assert!(Framing::Length(1).has_content() && Framing::Chunked.has_content());
        assert!(Framing::UntilClose.has_content());
    }
}
