//! Numbers that look random and are the same again for the same seed, on every machine and with every version of every library.

use std::time::Duration;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of a round: no round depends on those before it, so that one can be repeated alone.
    pub fn of(seed: u64, round: u32) -> Dice {
        let mut dice = Dice(seed);
        let of_seed = dice.roll();
        Dice(of_seed.wrapping_add(u64::from(round).wrapping_mul(0xd134_2543_de82_ef95)))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // So few values of so many that it makes no difference which are a little likelier.
        self.roll() % end
    }

    /// One of them.
    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap_or_default();
        all[at].clone()
    }

    /// A time from `from` to `to`, in whole milliseconds.
    pub fn time(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(self.below(span + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_its_own_numbers_and_the_same_again() {
        let rolls = |seed, round| {
            let mut dice = Dice::of(seed, round);
            [0; 4].map(|_| dice.below(1000))
        };
        assert_eq!(rolls(1, 1), rolls(1, 1));
        assert_ne!(rolls(1, 1), rolls(1, 2));
        assert_ne!(rolls(1, 1), rolls(2, 1));
    }

    #[test]
    fn times_lie_where_they_were_asked_for() {
        let mut dice = Dice::of(0, 0);
        let [from, to] = [Duration::from_secs(1), Duration::from_secs(6)];
        assert!((0..1000).all(|_| (from..=to).contains(&dice.time(from, to))));
    }
}
