//! Round robin: one after the other, whatever they have to do.

use super::{Counts, Draw};
use crate::simulation::dice::Dice;

/// Whose turn it is.
pub(super) struct RoundRobin {
    turn: usize,
}

impl RoundRobin {
    /// Two balancers begin at different places.
    pub(super) fn new(start: usize) -> RoundRobin {
        RoundRobin { turn: start }
    }
}

impl Draw for RoundRobin {
    fn draw(&mut self, counts: &Counts, _dice: &mut Dice) -> usize {
        let all = &counts.in_rotation;
        let server = all[self.turn % all.len()];
        self.turn += 1;
        server
    }
}
