//! The power of two choices: two different ones are drawn, and the one with fewer in flight gets it.

use super::{Counts, Draw};
use crate::simulation::dice::Dice;

/// Nothing but the dice.
pub(super) struct TwoChoices;

impl Draw for TwoChoices {
    fn draw(&mut self, counts: &Counts, dice: &mut Dice) -> usize {
        let all = &counts.in_rotation;
        let first = dice.below(all.len());
        // Another one, wherever there is another.
        let second = match all.len() {
            1 => first,
            count => (first + 1 + dice.below(count - 1)) % count,
        };
        [all[first], all[second]]
            .into_iter()
            .min_by_key(|server| counts.in_flight[*server])
            .expect("it is one of two")
    }
}
