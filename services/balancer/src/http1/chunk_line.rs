//! The first line of a chunk (RFC 9112, 7.1): its size, and extensions that are checked and then forgotten.
//!
//! The grammar has blanks around `;` and `=` that a recipient must pass over (`BWS`), and none anywhere else.

use super::class::{self, HEX, QUOTED, TOKEN, VALUE};
use super::refusal::Refusal;

/// The most digits a size has: what 64 bits hold.
const DIGITS_MAX: usize = 16;

/// The size that `line` names. `line` is without its CR LF.
pub(crate) fn size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line
        .iter()
        .take_while(|byte| class::is(**byte, HEX))
        .count();
    let (digits, extensions) = line.split_at(digits);
    if digits.is_empty() {
        return Err(Refusal::ChunkSize);
    }
    if digits.len() > DIGITS_MAX {
        return Err(Refusal::ChunkSizeTooLarge);
    }
    match extensions {
        [] => {}
        [b';' | b' ' | b'\t', ..] if are_extensions(extensions) => {}
        [b';' | b' ' | b'\t', ..] => return Err(Refusal::ChunkExtension),
        _ => return Err(Refusal::ChunkSize),
    }
    let value = |digit: u8| u64::from((digit as char).to_digit(16).unwrap_or_default());
    Ok(digits
        .iter()
        .fold(0, |size, digit| size << 4 | value(*digit)))
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(named) = after_blanks(rest).strip_prefix(b";").map(after_blanks) else {
            return false;
        };
        let Some(named) = after_token(named) else {
            return false;
        };
        rest = match after_blanks(named).strip_prefix(b"=").map(after_blanks) {
            None => named,
            Some(value) => match after_token(value).or_else(|| after_quoted(value)) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
    true
}

fn after_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    &bytes[blanks.count()..]
}

fn after_token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes
        .iter()
        .take_while(|byte| class::is(**byte, TOKEN))
        .count();
    (len > 0).then(|| &bytes[len..])
}

fn after_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if class::is(*escaped, VALUE) => rest,
            [byte, rest @ ..] if class::is(*byte, QUOTED) => rest,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_one_to_sixteen_hex_digits() {
        assert_eq!(Ok(0), size(b"0"));
        assert_eq!(Ok(0xab), size(b"00aB"));
        assert_eq!(Ok(u64::MAX), size(b"ffffffffffffffff"));
        assert_eq!(Err(Refusal::ChunkSizeTooLarge), size(b"00000000000000001"));
        for line in [
            "", ";a", " 5", "+5", "-5", "0x5", "5g", "5,5", "g", "5\r", "\"5\"",
        ] {
            assert_eq!(Err(Refusal::ChunkSize), size(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn extensions_are_checked_and_forgotten() {
        for line in [
            "5;a",
            "5;a=b",
            "5;a;b=c;d=\"e;\\\"f\"",
            "5 ;\ta = b\t;c",
            "5;a=\"\"",
            "5;a=\"\u{e4}\\\u{e4}\"",
        ] {
            assert_eq!(Ok(5), size(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn extensions_that_the_grammar_has_not_are_refused() {
        for line in [
            "5;",
            "5 ",
            "5;a ",
            "5;=b",
            "5;a=",
            "5;a=b c",
            "5;a=\"b",
            "5;a=\"b\\",
            "5;a=\"b\"c",
            "5;a b",
            "5 a",
            "5;a=;b",
            "5;a;;b",
            "5;a\rb",
            "5;a=\"\r\"",
            "5;a=\"\u{1}\"",
            "5;a=\"\\\u{7f}\"",
            "5;a\0",
        ] {
            assert_eq!(
                Err(Refusal::ChunkExtension),
                size(line.as_bytes()),
                "{line:?}"
            );
        }
    }
}
