//! W3C Trace Context, level 2: <https://www.w3.org/TR/trace-context-2/>.
//!
//! A service continues the caller's trace or begins one, makes a span id of its own, passes that on in `traceparent`, and tells the
//! caller in `traceresponse`.

use std::fmt;

/// A trace's id: 16 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span's id: 8 bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// The id that has these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// In lower-case hexadecimal, as everybody writes it.
    #[must_use]
    pub fn to_hex(self) -> [u8; 32] {
        let mut text = [0; 32];
        put_hex(&self.0, &mut text);
        text
    }

    /// Drawn at random; the chance of all zeroes is no chance, and met all the same.
    #[must_use]
    pub fn random() -> Self {
        loop {
            let bytes: [u8; 16] = rand::random();
            if bytes != [0; 16] {
                return Self(bytes);
            }
        }
    }
}

impl SpanId {
    /// The id that has these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// Drawn at random.
    #[must_use]
    pub fn random() -> Self {
        loop {
            let bytes: [u8; 8] = rand::random();
            if bytes != [0; 8] {
                return Self(bytes);
            }
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which trace a request belongs to, which span is at work on it, and whether the trace is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The same through all services.
    pub trace_id: TraceId,
    /// The span that this context stands in.
    pub span_id: SpanId,
    /// Whether the caller records; respected, not believed to be true of anybody else.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace, with its first span.
    #[must_use]
    pub fn new(sampled: bool) -> Self {
        Self {
            trace_id: TraceId::random(),
            span_id: SpanId::random(),
            sampled,
        }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: SpanId::random(),
            ..*self
        }
    }

    /// Reads a `traceparent`. A version above 00 is read as 00, whatever follows its flags; version `ff`, upper case and all-zero ids are
    /// invalid, and an invalid one is as good as none.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let [version] = lower_hex(&bytes[..2])?;
        let trace_id: [u8; 16] = lower_hex(&bytes[3..35])?;
        let span_id: [u8; 8] = lower_hex(&bytes[36..52])?;
        let [flags] = lower_hex(&bytes[53..55])?;
        let rest_fits = match version {
            0x00 => bytes.len() == 55,
            0xff => false,
            _ => bytes.len() == 55 || bytes[55] == b'-',
        };
        let valid = rest_fits && trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self {
            trace_id: TraceId(trace_id),
            span_id: SpanId(span_id),
            sampled: flags & 1 == 1,
        })
    }

    /// The `traceparent` that tells the next service.
    #[must_use]
    pub fn to_traceparent(&self) -> String {
        String::from_utf8_lossy(&self.to_bytes()).into_owned()
    }

    /// The same, without an allocation; ASCII.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&self.trace_id.0, &mut text[3..35]);
        put_hex(&self.span_id.0, &mut text[36..52]);
        put_hex(&[u8::from(self.sampled)], &mut text[53..]);
        text
    }

    /// The `traceresponse` that tells the caller; the same form.
    #[must_use]
    pub fn to_traceresponse(&self) -> String {
        self.to_traceparent()
    }
}

/// Writes bytes in lower-case hexadecimal, two digits each.
fn put_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Exactly `N` bytes written in lower-case hexadecimal.
fn lower_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_and_written_back_the_same() {
        let context = TraceContext::parse(PARENT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_traceparent(), PARENT);
        let child = context.child();
        assert_eq!(child.trace_id, context.trace_id);
        assert_ne!(child.span_id, context.span_id);
    }

    #[test]
    fn a_later_version_is_read_as_the_first_and_an_impossible_one_is_not_read() {
        let later = PARENT.replacen("00", "cc", 1);
        assert_eq!(TraceContext::parse(&later), TraceContext::parse(PARENT));
        let longer = format!("{later}-what-the-future-brings");
        assert_eq!(TraceContext::parse(&longer), TraceContext::parse(PARENT));
        for bad in [
            String::new(),
            PARENT.replacen("00", "ff", 1),
            PARENT.to_uppercase(),
            format!("{PARENT}-more"),
            format!("{later}.more"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace('-', "_"),
            format!(" {PARENT}"),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(text in "\\PC{0,80}") {
            let _ = TraceContext::parse(&text);
        }

        #[test]
        fn what_is_written_can_be_read(sampled: bool) {
            let context = TraceContext::new(sampled);
            prop_assert_eq!(TraceContext::parse(&context.to_traceparent()), Some(context));
        }
    }
}
