//! How much work a request is: the time that a server of ordinary speed needs for it.

use std::time::Duration;

use super::dice::Dice;

/// The mean.
pub(crate) const MEAN: Duration = Duration::from_millis(10);

/// How uneven it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Exponential: as uneven as its mean.
    Exponential,
    /// Lognormal with a deviation of 1: most of it small, some of it large. One in a hundred is six times the mean.
    Lognormal,
}

impl Work {
    /// That of one request.
    pub(crate) fn of_one(self, dice: &mut Dice) -> Duration {
        let means = match self {
            Work::Exponential => dice.exponential(),
            Work::Lognormal => (dice.normal() - 0.5).exp(),
        };
        MEAN.mul_f64(means)
    }
}
