//! What an input says of how it is to be read: its first bytes are no part of what is sent.

use crate::http1::Limits;

/// How the bytes of an input are read.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What the target makes of it.
    pub choice: u8,
    cut: u8,
}

impl Shape {
    /// Of the first two bytes; the others are what is sent. Nothing of what is shorter.
    pub fn of(data: &[u8]) -> Option<(Shape, &[u8])> {
        let [choice, cut, sent @ ..] = data else {
            return None;
        };
        let (choice, cut) = (*choice, *cut);
        Some((Shape { choice, cut }, sent))
    }

    /// How long the parts are in which the bytes arrive, again and again.
    pub fn cuts(self) -> [usize; 2] {
        [self.cut & 15, self.cut >> 4].map(|cut| usize::from(cut) + 1)
    }

    /// Those of the tables of cases, so that short inputs reach them, or those of every day.
    pub fn limits(self) -> Limits {
        match self.choice & 1 {
            0 => crate::codec::small_limits(),
            _ => Limits::default(),
        }
    }
}

/// Somewhere in `data`, as it says itself.
pub(crate) fn cut(data: &[u8]) -> usize {
    let sum = data.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31) + usize::from(*byte) % 31
    });
    sum % (data.len() + 1)
}
