//! Frames of WebSockets.

use crate::shape::cut;
use crate::websocket::{Boundary, close_frame};

/// Frames to begin with, of every form of length.
pub fn seeds() -> Vec<Vec<u8>> {
    let frames: [&[u8]; 8] = [
        b"\x81\x05hello",
        b"\x81\x83maskabc",
        b"\x89\0\x8a\x80mask",
        b"\x88\x02\x03\xe8",
        b"\x01\x7e\0\x03abc\x80\xfe\0\0mask",
        b"\x82\x7f\0\0\0\0\0\0\0\x02ab\x81\0",
        b"\x02\x7f\x80\0\0\0\0\0\0\0",
        b"\x02\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask",
    ];
    let mut seeds = frames.map(<[u8]>::to_vec).to_vec();
    seeds.push(frames.concat());
    seeds
}

/// Frames end where a second reader says, however `data` comes.
///
/// # Panics
///
/// If this does not hold.
pub fn check(data: &[u8]) {
    check_close(data);
    let (ends, is_closing, is_malformed) = frame_ends(data);
    let mut whole = Boundary::new();
    whole.advance(data);
    assert_eq!(is_closing, whole.is_closing());
    assert_eq!(is_malformed, whole.is_malformed());
    let is_at_end = data.is_empty() || ends.last() == Some(&data.len());
    assert_eq!(is_at_end, whole.is_at_boundary());
    assert_eq!(is_at_end, whole.missing() == Some(0));

    let mut single = Boundary::new();
    for (index, byte) in data.iter().enumerate() {
        if let Some(missing @ 1..) = single.missing() {
            let end = index as u64 + missing;
            let next = ends.iter().find(|end| **end > index);
            assert!(next.is_none_or(|next| *next as u64 == end));
        }
        single.advance(&[*byte]);
        assert_eq!(ends.contains(&(index + 1)), single.is_at_boundary());
    }
    assert_eq!(whole, single);

    let cut = cut(data);
    let mut halves = Boundary::new();
    halves.advance(&data[..cut]);
    // Where the second half is split, its first frame ends.
    let mut split = halves.clone();
    let len = split.split_at_boundary(&data[cut..]);
    let is_between = cut == 0 || ends.contains(&cut);
    let next = ends.iter().find(|end| **end > cut);
    match is_between {
        true => assert_eq!(0, len),
        false => assert_eq!(*next.unwrap_or(&data.len()), cut + len),
    }
    split.advance(&data[cut + len..]);
    halves.advance(&data[cut..]);
    assert_eq!(whole, halves);
    assert_eq!(whole, split);
}

/// A Close that is written is one frame, whatever its reason.
fn check_close(data: &[u8]) {
    let reason = String::from_utf8_lossy(data);
    for mask in [None, Some([1, 2, 3, 4])] {
        let mut out = Vec::new();
        close_frame(1_000, &reason, mask, &mut out);
        let control_frame_bytes_max = 2 + mask.map_or(0, |mask| mask.len()) + 125;
        assert!(out.len() <= control_frame_bytes_max);
        assert_eq!((vec![out.len()], true, false), frame_ends(&out));
    }
}

/// Where the frames in `data` end, whether one is a Close, and whether one is malformed.
fn frame_ends(data: &[u8]) -> (Vec<usize>, bool, bool) {
    let (mut ends, mut at, mut is_closing) = (Vec::new(), 0, false);
    loop {
        let frame = &data[at..];
        is_closing |= frame.first().is_some_and(|first| first % 16 == 8);
        let Some(second) = frame.get(1) else {
            return (ends, is_closing, false);
        };
        let extended = match second % 128 {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if extended == 8 && frame.get(2).is_some_and(|byte| *byte >= 128) {
            return (ends, is_closing, true);
        }
        let Some(length) = frame.get(2..2 + extended) else {
            return (ends, is_closing, false);
        };
        let payload = match extended {
            0 => u128::from(second % 128),
            _ => length
                .iter()
                .fold(0, |length, byte| length * 256 + u128::from(*byte)),
        };
        let mask = if *second < 128 { 0 } else { 4 };
        let end = (at + 2 + extended + mask) as u128 + payload;
        if end > data.len() as u128 {
            return (ends, is_closing, false);
        }
        at = end as usize;
        ends.push(at);
    }
}
