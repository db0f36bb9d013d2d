//! Dice with a seed: SplitMix64, which is short, and gives the same numbers with every version of every library. Not for secrets.

use std::f64::consts::TAU;

/// The dice.
pub(crate) struct Dice(u64);

impl Dice {
    /// Those of this seed. `purpose` keeps apart what the same seed is used for.
    pub(crate) fn new(seed: u64, purpose: u64) -> Dice {
        let mut dice = Dice(seed);
        let mixed = dice.next() ^ purpose;
        Dice(mixed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, and neither of them.
    fn between(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// One of `0..count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// Exponential, with a mean of 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.between().ln()
    }

    /// Normal, with a mean of 0 and a deviation of 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (TAU * self.between()).cos()
    }
}
