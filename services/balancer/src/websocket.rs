//! Where the frames of a WebSocket end (RFC 6455, section 5), in one direction of a connection.
//!
//! It is for a proxy that passes bytes on as they come and must not put a frame of its own into the middle of another's. So it looks
//! at lengths only: nothing is unmasked, no payload is touched or kept, and whether frames make sense (reserved bits, opcodes,
//! fragments, who masks) is for the ends to judge.
//!
//! ```
//! # use balancer::websocket::Boundary;
//! let mut boundary = Boundary::new();
//! boundary.advance(b"\x81\x05hel");
//! assert!(!boundary.is_at_boundary());
//! assert_eq!(Some(2), boundary.missing());
//! assert_eq!(2, boundary.split_at_boundary(b"lo\x81\x01a"));
//! assert!(boundary.is_at_boundary());
//! ```

/// The opcode of Close (section 5.5.1).
const CLOSE: u8 = 0x8;
/// The bit of a header's first byte that says that no more of the message follows (section 5.2).
const FIN: u8 = 0x80;
/// The bit of a header's second byte that says that there is a masking key (section 5.2).
const MASKED: u8 = 0x80;
const MASKING_KEY_BYTES: u64 = 4;
/// The most bytes of a control frame's payload (section 5.5); two of Close's are its code.
const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// A place in one direction of a connection, from the first byte after the handshake on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    place: Place,
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Between frames.
    #[default]
    Between,
    /// Behind a header's first byte.
    Second,
    /// In the extended length, of which so many bytes are missing.
    Length {
        missing: u8,
        value: u64,
        is_masked: bool,
    },
    /// Behind the length, in masking key and payload, of which so many bytes are missing; never none.
    Rest(u64),
    /// Behind a length that cannot be. Nobody knows where that frame ends.
    Malformed,
}

impl Boundary {
    /// At the first byte.
    pub fn new() -> Boundary {
        Boundary::default()
    }

    /// Goes on by all of `bytes`.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.next_boundary(bytes)..];
        }
    }

    /// Goes on to the first boundary that is here or within `bytes`, or by all of them if there is none. Gives how many bytes that
    /// were: 0 at a boundary, where [`advance`](Boundary::advance) leads into the next frame.
    pub fn split_at_boundary(&mut self, bytes: &[u8]) -> usize {
        match self.is_at_boundary() {
            true => 0,
            false => self.next_boundary(bytes),
        }
    }

    /// Whether the last byte ended a frame, or there was none. A frame of one's own may be put here, unless there
    /// [is a Close](Boundary::is_closing): it would come after the last one that its reader looks at (section 5.5.1).
    pub fn is_at_boundary(&self) -> bool {
        self.place == Place::Between
    }

    /// With how many bytes the frame ends; 0 at a boundary. `None` within a header up to its length, and after a malformed one. A
    /// masking key, the last part of a header, counts among what is missing.
    pub fn missing(&self) -> Option<u64> {
        match self.place {
            Place::Between => Some(0),
            Place::Rest(missing) => Some(missing),
            Place::Second | Place::Length { .. } | Place::Malformed => None,
        }
    }

    /// Whether there was a Close frame, or the first byte of one (section 5.5.1).
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Whether there was a length with its top bit set (section 5.2). From there on there is no boundary any more.
    pub fn is_malformed(&self) -> bool {
        self.place == Place::Malformed
    }

    /// Goes on to the first boundary behind here, or by all of `bytes`.
    fn next_boundary(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let mut len = 1;
            self.place = match self.place {
                Place::Between => {
                    self.is_closing |= byte & 0xf == CLOSE;
                    Place::Second
                }
                Place::Second => behind_second(*byte),
                Place::Length {
                    missing,
                    value,
                    is_masked,
                } => behind_length(missing - 1, value << 8 | u64::from(*byte), is_masked),
                Place::Rest(missing) => {
                    let available = bytes.len() - at;
                    // Not more than `missing` where that is less than a slice can hold.
                    len = usize::try_from(missing).map_or(available, |m| m.min(available));
                    rest(missing - len as u64)
                }
                Place::Malformed => return bytes.len(),
            };
            at += len;
            if self.is_at_boundary() {
                break;
            }
        }
        at
    }
}

fn behind_second(byte: u8) -> Place {
    let is_masked = byte & MASKED != 0;
    let missing = match byte & !MASKED {
        126 => 2,
        127 => 8,
        len => return behind_length(0, u64::from(len), is_masked),
    };
    Place::Length {
        missing,
        value: 0,
        is_masked,
    }
}

fn behind_length(missing: u8, value: u64, is_masked: bool) -> Place {
    match (missing, is_masked) {
        // The first of eight bytes.
        (7, _) if value & 0x80 != 0 => Place::Malformed,
        (0, false) => rest(value),
        (0, true) => rest(value + MASKING_KEY_BYTES),
        _ => Place::Length {
            missing,
            value,
            is_masked,
        },
    }
}

fn rest(missing: u64) -> Place {
    match missing {
        0 => Place::Between,
        missing => Place::Rest(missing),
    }
}

/// Writes a Close frame (section 5.5.1). `code` must be one that may be sent (section 7.4: not 1005, 1006, 1015 nor any below 1000;
/// it is not checked). Of `reason` so many whole characters are taken as fit: 123 bytes. A client's frames have a `mask`, which should
/// not be foreseeable (section 5.3); a server's have none.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let code = code.to_be_bytes();
    let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_BYTES_MAX - code.len())];
    let len = (code.len() + reason.len()) as u8;
    let payload = code.iter().chain(reason.as_bytes());
    match mask {
        None => {
            out.extend_from_slice(&[FIN | CLOSE, len]);
            out.extend(payload);
        }
        Some(mask) => {
            out.extend_from_slice(&[FIN | CLOSE, MASKED | len]);
            out.extend_from_slice(&mask);
            out.extend(
                payload
                    .zip(mask.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// A frame with a payload of so many bytes.
    fn frame(first: u8, payload: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        if is_masked {
            frame.extend_from_slice(b"mask");
        }
        frame.resize(frame.len() + payload, 0x88);
        frame
    }

    #[test]
    fn a_boundary_is_where_a_frame_ends_and_nowhere_else() {
        for payload in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for is_masked in [false, true] {
                let frame = frame(0x82, payload, is_masked);
                let mut boundary = Boundary::new();
                assert!(boundary.is_at_boundary());
                for byte in &frame[..frame.len() - 1] {
                    boundary.advance(&[*byte]);
                    assert!(!boundary.is_at_boundary(), "{payload} {is_masked}");
                }
                boundary.advance(&frame[frame.len() - 1..]);
                assert!(boundary.is_at_boundary(), "{payload} {is_masked}");
                assert!(!boundary.is_closing());
            }
        }
    }

    #[test]
    fn what_is_missing_is_known_from_the_length_on() {
        for (bytes, missing) in [
            (&b""[..], Some(0)),
            (b"\x81", None),
            (b"\x81\x03", Some(3)),
            (b"\x81\x83", Some(7)),
            (b"\x81\x83mas", Some(4)),
            (b"\x81\x03ab", Some(1)),
            (b"\x81\x03abc", Some(0)),
            (b"\x81\x7e\x01", None),
            (b"\x81\x7e\x01\x02", Some(0x102)),
            // Longer than need be, which is for the ends to judge.
            (b"\x81\x7e\0\x01", Some(1)),
            (b"\x81\x7f\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff", None),
            (
                b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some((1 << 63) + 3),
            ),
        ] {
            let mut boundary = Boundary::new();
            boundary.advance(bytes);
            assert_eq!(missing, boundary.missing(), "{bytes:?}");
            assert_eq!(missing == Some(0), boundary.is_at_boundary(), "{bytes:?}");
        }
    }

    #[test]
    fn a_split_is_at_the_first_boundary_from_here_on() {
        let mut boundary = Boundary::new();
        let bytes = b"\x01\x02ab\x00\x01c\x80\x00";
        assert_eq!(0, boundary.split_at_boundary(bytes));
        boundary.advance(&bytes[..1]);
        assert_eq!(0, boundary.split_at_boundary(b""));
        assert_eq!(3, boundary.split_at_boundary(&bytes[1..]));
        assert!(boundary.is_at_boundary());
        assert_eq!(0, boundary.split_at_boundary(&bytes[4..]));
        boundary.advance(&bytes[4..5]);
        assert_eq!(1, boundary.split_at_boundary(&bytes[5..6]));
        assert!(!boundary.is_at_boundary());
        assert_eq!(1, boundary.split_at_boundary(&bytes[6..]));
        assert!(boundary.is_at_boundary());
    }

    #[test]
    fn a_length_with_its_top_bit_set_is_malformed_for_good() {
        let mut boundary = Boundary::new();
        boundary.advance(b"\x82\xff");
        assert!(!boundary.is_malformed());
        boundary.advance(b"\x80");
        for _ in 0..100 {
            assert!(boundary.is_malformed());
            assert!(!boundary.is_at_boundary());
            assert_eq!(None, boundary.missing());
            assert_eq!(4, boundary.split_at_boundary(b"\0\0\x81\0"));
            boundary.advance(b"\0\0\x81\0");
        }
    }

    #[test]
    fn a_close_is_seen_at_its_first_byte_and_not_in_a_payload() {
        let mut boundary = Boundary::new();
        boundary.advance(&frame(0x81, 300, true));
        assert!(!boundary.is_closing());
        boundary.advance(b"\x88");
        assert!(boundary.is_closing());
        boundary.advance(b"\x02\x03\xe8\x81\0");
        assert!(boundary.is_closing());
        assert!(boundary.is_at_boundary());
    }

    #[test]
    fn a_close_frame_has_its_code_and_as_much_reason_as_fits() {
        let mut out = b"before".to_vec();
        close_frame(1001, "away", None, &mut out);
        assert_eq!(b"before\x88\x06\x03\xe9away", &out[..]);
        out.clear();
        // The mask of the example in section 5.7.
        close_frame(0x4865, "llo", Some([0x37, 0xfa, 0x21, 0x3d]), &mut out);
        assert_eq!(b"\x88\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", &out[..]);
        out.clear();
        close_frame(1000, &"\u{e4}".repeat(100), None, &mut out);
        // 123 bytes are no whole number of characters of two.
        assert_eq!((2 + 124, 124), (out.len(), out[1]));
        assert_eq!("\u{e4}".repeat(61).as_bytes(), &out[4..]);
        out.clear();
        close_frame(1000, "", None, &mut out);
        assert_eq!(b"\x88\x02\x03\xe8", &out[..]);
    }

    proptest! {
        #[test]
        fn frames_end_at_the_same_places_however_they_are_cut(
            frames in vec((any::<u8>(), prop_oneof![0..200_usize, 65_500..65_600_usize], any::<bool>()), 0..8),
            cuts in vec(any::<Index>(), 0..6),
        ) {
            let frames: Vec<_> = frames.into_iter().map(|(first, len, is_masked)| frame(first, len, is_masked)).collect();
            let bytes = frames.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut ends = vec![0];
            ends.extend(frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }));
            let (mut whole, mut pieces) = (Boundary::new(), Boundary::new());
            whole.advance(&bytes);
            prop_assert!(whole.is_at_boundary());
            for cut in cuts.windows(2) {
                pieces.advance(&bytes[cut[0]..cut[1]]);
                prop_assert_eq!(ends.contains(&cut[1]), pieces.is_at_boundary());
                let mut split = pieces.clone();
                let next = ends.iter().find(|end| **end >= cut[1]).unwrap();
                prop_assert_eq!(next - cut[1], split.split_at_boundary(&bytes[cut[1]..]));
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn a_close_frame_is_one_frame(code: u16, reason: String, mask: Option<[u8; 4]>) {
            let mut out = Vec::new();
            close_frame(code, &reason, mask, &mut out);
            let mut boundary = Boundary::new();
            boundary.advance(&out[..1]);
            prop_assert_eq!(out.len() - 1, boundary.split_at_boundary(&out[1..]));
            prop_assert!(boundary.is_at_boundary() && boundary.is_closing());
            let payload = match mask {
                None => out[2..].to_vec(),
                Some(mask) => out[6..].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect(),
            };
            prop_assert!(payload.len() <= CONTROL_PAYLOAD_BYTES_MAX);
            let (sent_code, sent_reason) = payload.split_at(2);
            prop_assert_eq!(&code.to_be_bytes()[..], sent_code);
            prop_assert!(reason.starts_with(std::str::from_utf8(sent_reason).unwrap()));
        }

        #[test]
        fn whatever_comes_is_taken_without_a_panic(pieces: Vec<Vec<u8>>) {
            let mut boundary = Boundary::new();
            for piece in &pieces {
                let len = boundary.split_at_boundary(piece);
                boundary.advance(&piece[len..]);
            }
        }
    }
}
