//! Random: any of them, whatever they have to do.

use super::{Counts, Draw};
use crate::simulation::dice::Dice;

/// Nothing but the dice.
pub(super) struct Random;

impl Draw for Random {
    fn draw(&mut self, counts: &Counts, dice: &mut Dice) -> usize {
        let all = &counts.in_rotation;
        all[dice.below(all.len())]
    }
}
