//! Which bytes may stand where: one table, a bit for each class of the RFCs' grammars.

/// `tchar` (RFC 9110, 5.6.2): methods, field names, options.
pub(crate) const TOKEN: u8 = 1;
/// What a path and a query are made of, `%XX` and `?` aside: `pchar` and `/` (RFC 3986, 3.3 and 3.4).
pub(crate) const TARGET: u8 = 2;
/// What a registered name is made of, `%XX` aside: `unreserved` and `sub-delims` (RFC 3986, 3.2.2).
pub(crate) const HOST: u8 = 4;
/// What a field value and a reason phrase are made of (RFC 9110, 5.5).
pub(crate) const VALUE: u8 = 8;
/// `qdtext` (RFC 9110, 5.6.4).
pub(crate) const QUOTED: u8 = 16;
/// `HEXDIG`, in both cases.
pub(crate) const HEX: u8 = 32;

static CLASSES: [u8; 256] = classes();

/// Whether `byte` is of `class`.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Whether every byte is of `class`; true of nothing at all.
#[inline]
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| is(*byte, class))
}

/// A token: at least one `tchar`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Whether two hex digits come first, as they must after a `%`.
#[inline]
pub(crate) fn is_escape(after_percent: &[u8]) -> bool {
    matches!(after_percent, [high, low, ..] if is(*high, HEX) && is(*low, HEX))
}

/// Without blanks and tabs at either end (`OWS`).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = class(at as u8);
        at += 1;
    }
    table
}

const fn class(byte: u8) -> u8 {
    let mut class = 0;
    let alphanumeric = byte.is_ascii_alphanumeric();
    let unreserved = alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let sub_delims = matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    );
    if alphanumeric
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
    {
        class |= TOKEN;
    }
    if unreserved || sub_delims {
        class |= HOST;
    }
    if unreserved || sub_delims || matches!(byte, b':' | b'@' | b'/') {
        class |= TARGET;
    }
    if matches!(byte, b'\t' | b' '..=b'~' | 0x80..) {
        class |= VALUE;
        if !matches!(byte, b'"' | b'\\') {
            class |= QUOTED;
        }
    }
    if byte.is_ascii_hexdigit() {
        class |= HEX;
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_grammars() {
        let of = |class| (0..=255).filter(|byte| is(*byte, class)).count();
        assert_eq!(77, of(TOKEN)); // 62 and 15
        assert_eq!(77, of(HOST)); // 66 and 11
        assert_eq!(80, of(TARGET));
        assert_eq!(1 + 95 + 128, of(VALUE));
        assert_eq!(1 + 95 + 128 - 2, of(QUOTED));
        assert_eq!(22, of(HEX));
    }

    #[test]
    fn blanks_are_trimmed_at_both_ends_only() {
        assert_eq!(b"a \t b", trim(b" \ta \t b\t "));
        assert_eq!(b"", trim(b" \t "));
    }
}
