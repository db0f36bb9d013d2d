//! Finds the blank line that ends a head or a trailer section, and judges nothing but line ends, number and size.
//!
//! A message is parsed only when this line is there. So what is said of it does not depend on how its bytes arrived; and a head
//! that trickles in byte by byte costs a look for line ends at each byte, bounded by the limits, and is parsed once.

use memchr::memchr;

use super::limits::Limits;
use super::refusal::Refusal;

/// What is too large, if something is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Section {
    /// A head: its first line is not a field.
    Head,
    /// A trailer section.
    Trailers,
}

/// How many bytes the section has, its blank line included; `None` if more are needed. Refuses a bare LF, too many fields, and
/// more bytes than are taken, whichever comes first.
pub(crate) fn end(
    bytes: &[u8],
    section: Section,
    limits: &Limits,
) -> Result<Option<usize>, Refusal> {
    let (bytes_max, lines_max) = match section {
        Section::Head => (limits.head_bytes_max, limits.fields() + 1),
        Section::Trailers => (limits.trailer_bytes_max, limits.fields()),
    };
    let within = &bytes[..bytes.len().min(bytes_max)];
    let (mut at, mut lines) = (0, 0);
    while let Some(len) = memchr(b'\n', &within[at..]) {
        let Some((b'\r', line)) = within[at..at + len].split_last() else {
            return Err(Refusal::BareLf);
        };
        at += len + 1;
        if line.is_empty() {
            return Ok(Some(at));
        }
        lines += 1;
        if lines > lines_max {
            return Err(Refusal::TooManyFields);
        }
    }
    if bytes.len() <= bytes_max {
        return Ok(None);
    }
    Err(match section {
        Section::Head if lines == 0 => Refusal::TargetTooLong,
        Section::Head => Refusal::HeadTooLarge,
        Section::Trailers => Refusal::TrailersTooLarge,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        end(bytes, Section::Head, limits)
    }

    #[test]
    fn the_first_blank_line_is_the_end() {
        let limits = Limits::default();
        assert_eq!(Ok(Some(9)), head(b"a\r\nb:\r\n\r\nc\r\n\r\n", &limits));
        assert_eq!(Ok(Some(2)), end(b"\r\nrest", Section::Trailers, &limits));
        for part in ["", "a", "a\r", "a\r\n", "a\r\nb:\r\n\r"] {
            assert_eq!(Ok(None), head(part.as_bytes(), &limits), "{part:?}");
        }
    }

    #[test]
    fn what_is_exactly_as_large_as_allowed_is_taken() {
        let limits = |bytes, fields| Limits {
            head_bytes_max: bytes,
            fields_max: fields,
            ..Limits::default()
        };
        assert_eq!(Ok(Some(9)), head(b"a\r\nb:\r\n\r\n", &limits(9, 1)));
        assert_eq!(
            Err(Refusal::HeadTooLarge),
            head(b"a\r\nb:\r\n\r\n", &limits(8, 1))
        );
        assert_eq!(
            Err(Refusal::TargetTooLong),
            head(b"a\r\nb:\r\n\r\n", &limits(2, 1))
        );
        assert_eq!(
            Err(Refusal::TooManyFields),
            head(b"a\r\nb:\r\n\r\n", &limits(9, 0))
        );
    }

    #[test]
    fn a_line_that_ends_in_lf_alone_is_refused_at_once() {
        for head_bytes in ["\n", "a\n", "a\r\n\n", "a\r\nb\n"] {
            assert_eq!(
                Err(Refusal::BareLf),
                head(head_bytes.as_bytes(), &Limits::default())
            );
        }
    }
}
