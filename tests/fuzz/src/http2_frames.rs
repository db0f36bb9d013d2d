//! Frames of HTTP/2, as far as they are counted.

use crate::frame_budget::{Flood, FrameBudget, Kind, Limit, Limits};
use crate::shape::cut;

/// Frames of every kind to begin with, alone and together.
pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |(kind, len, flags): (u8, u8, u8)| {
        let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + usize::from(len), kind);
        frame
    };
    let forms = [(0, 0), (0, 1), (0, 4), (3, 5)];
    let each = (0..18).flat_map(|kind| forms.map(|(len, flags)| frame((kind, len, flags))));
    let each: Vec<Vec<u8>> = each.collect();
    let together = [&each.concat()[..], b"\0\xff\0"].concat();
    let mut seeds: Vec<Vec<u8>> = each
        .into_iter()
        .map(|frame| [&b"01"[..], &frame, &frame].concat())
        .collect();
    seeds.push([&b"\x241"[..], &together].concat());
    seeds.push([&b"\xff0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &together].concat());
    seeds.push(b"\0\0GET / HTTP/1.1\r\n\r\n".to_vec());
    seeds
}

/// Without time, a flood is the first frame beyond its kind's burst, and neither that nor where the bytes end depends on how they come.
/// The first byte chooses the budgets, the second whether there is a preface.
///
/// # Panics
///
/// If this does not hold.
pub fn check(data: &[u8]) {
    let [bursts, preface, frames @ ..] = data else {
        return;
    };
    let mut bytes = Vec::new();
    if preface % 8 != 0 {
        bytes.extend_from_slice(PREFACE);
    }
    bytes.extend_from_slice(frames);
    let limit = |shift: u8| Limit {
        burst: u32::from(bursts.rotate_left(shift.into()) % 8),
        per_second: u32::from(*preface),
    };
    let limits = Limits {
        settings: limit(0),
        ping: limit(1),
        priority: limit(2),
        rst_stream: limit(3),
        window_update: limit(4),
        continuation: limit(5),
        empty_data: limit(6),
        other: limit(7),
    };
    let (expected, end) = counted(&bytes, &limits);

    let mut whole = FrameBudget::new(limits);
    assert_eq!(expected, whole.advance(&bytes, 0));
    assert_eq!(end, End::of(&whole));

    let (first, second) = bytes.split_at(cut(&bytes));
    let mut halves = FrameBudget::new(limits);
    let halved = halves
        .advance(first, 0)
        .and_then(|()| halves.advance(second, 0));
    assert_eq!(expected, halved);
    assert_eq!(end, End::of(&halves));

    // With time on their side, no frames are too many that were not too many without.
    let mut slow = FrameBudget::new(limits);
    let slowed = bytes
        .chunks(7)
        .zip(0..)
        .try_for_each(|(piece, second)| slow.advance(piece, second * 1_000));
    if expected.is_ok() {
        assert_eq!(expected, slowed);
        assert_eq!(end, End::of(&slow));
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What some bytes end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    is_inside: bool,
    is_inside_data: bool,
}

impl End {
    fn of(budget: &FrameBudget) -> End {
        End {
            is_inside: budget.is_inside(),
            is_inside_data: budget.is_inside_data(),
        }
    }

    fn inside(is_inside: bool) -> End {
        End {
            is_inside,
            is_inside_data: false,
        }
    }
}

/// What comes of all frames at once, and what they end in.
fn counted(bytes: &[u8], limits: &Limits) -> (Result<(), Flood>, End) {
    let Some(mut rest) = bytes.strip_prefix(PREFACE) else {
        let is_inside = !bytes.is_empty() && PREFACE.starts_with(bytes);
        return (Ok(()), End::inside(is_inside));
    };
    let mut left = [
        (Kind::Settings, limits.settings.burst),
        (Kind::Ping, limits.ping.burst),
        (Kind::Priority, limits.priority.burst),
        (Kind::RstStream, limits.rst_stream.burst),
        (Kind::WindowUpdate, limits.window_update.burst),
        (Kind::Continuation, limits.continuation.burst),
        (Kind::EmptyData, limits.empty_data.burst),
        (Kind::Other, limits.other.burst),
    ];
    let mut is_in_block = false;
    while rest.len() >= 9 {
        let len = rest[..3]
            .iter()
            .fold(0, |len, byte| len * 256 + usize::from(*byte));
        let (kind, flags) = (rest[3], rest[4]);
        if [1, 5, 9].contains(&kind) {
            is_in_block = flags & 4 == 0;
        }
        let kind = match kind {
            0 if len == 0 && flags & 1 == 0 => Some(Kind::EmptyData),
            0 | 1 => None,
            2 | 16 => Some(Kind::Priority),
            3 => Some(Kind::RstStream),
            4 => Some(Kind::Settings),
            6 => Some(Kind::Ping),
            8 => Some(Kind::WindowUpdate),
            9 => Some(Kind::Continuation),
            _ => Some(Kind::Other),
        };
        for (_, left) in left.iter_mut().filter(|(of, _)| Some(*of) == kind) {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => {
                    let flood = kind.map_or(Ok(()), |kind| Err(Flood { kind }));
                    return (flood, End::inside(false));
                }
            }
        }
        let Some(behind) = rest.get(9 + len..) else {
            let end = End {
                is_inside: true,
                is_inside_data: rest[3] == 0,
            };
            return (Ok(()), end);
        };
        rest = behind;
    }
    (Ok(()), End::inside(is_in_block || !rest.is_empty()))
}
