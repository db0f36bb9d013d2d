//! Numbers that look random and are the same in every run, for every proxy: each depends only on what it is for.

/// What a number is for, so that those of one request have nothing to do with each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    /// How long after the one before a request comes.
    Gap,
    /// Its kind.
    Kind,
    /// How long a backend works on it.
    Work,
}

/// From 0 to just below 1, evenly.
pub(super) fn roll(what: For, number: u64) -> f64 {
    // SplitMix64: a counter, well mixed.
    let mut mixed = (number + 1)
        .wrapping_mul(4)
        .wrapping_add(what as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are what a float holds without loss"
    )]
    let even = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    even
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolls_are_even_and_the_same_again() {
        let mean = |what| (0..10_000).map(|number| roll(what, number)).sum::<f64>() / 10_000.0;
        for what in [For::Gap, For::Kind, For::Work] {
            assert!((0.49..0.51).contains(&mean(what)), "{what:?}");
        }
        assert!(roll(For::Gap, 7) != roll(For::Kind, 7));
        assert!((roll(For::Gap, 7) - roll(For::Gap, 7)).abs() < f64::EPSILON);
    }
}
