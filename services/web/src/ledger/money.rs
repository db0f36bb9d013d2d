//! Money, in whole cents.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The most that one transfer or opening may move: ten billion of the currency's unit.
pub(crate) const AMOUNT_MAX: i64 = 1_000_000_000_000;

/// The most that an account may hold: 2^53 − 1, the largest integer that every JSON reader gets right.
pub(crate) const BALANCE_MAX: i64 = (1 << 53) - 1;

/// An amount of money in cents; below zero it is owed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Cents(i64);

impl Cents {
    /// Nothing.
    pub(super) const ZERO: Self = Self(0);

    /// What a transfer may move: 1 to 10^12.
    ///
    /// # Errors
    /// When it is out of that range.
    pub fn amount(cents: i64) -> Result<Self, Invalid> {
        if (1..=AMOUNT_MAX).contains(&cents) {
            Ok(Self(cents))
        } else {
            Err(Invalid("must be an integer from 1 to 1000000000000"))
        }
    }

    /// What an account may be opened with: 0 to 10^12.
    ///
    /// # Errors
    /// When it is out of that range.
    pub fn opening(cents: i64) -> Result<Self, Invalid> {
        if (0..=AMOUNT_MAX).contains(&cents) {
            Ok(Self(cents))
        } else {
            Err(Invalid("must be an integer from 0 to 1000000000000"))
        }
    }

    /// As an integer.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// This amount as the entry of the account that it leaves, and of the one that it comes to: they add up to zero.
    pub(super) fn entries(self) -> [Self; 2] {
        [Self(-self.0), self]
    }

    /// What a balance was before an entry of this amount, whatever its sign.
    pub(super) fn without(self, entry: Self) -> Self {
        Self(self.0.saturating_sub(entry.0))
    }

    /// The balance after `amount` has left, unless that is below zero.
    pub(super) fn minus(self, amount: Self) -> Option<Self> {
        self.0
            .checked_sub(amount.0)
            .filter(|cents| *cents >= 0)
            .map(Self)
    }

    /// The balance after `amount` has come, unless that is more than an account may hold.
    pub(super) fn plus(self, amount: Self) -> Option<Self> {
        self.0
            .checked_add(amount.0)
            .filter(|cents| *cents <= BALANCE_MAX)
            .map(Self)
    }
}

impl std::fmt::Display for Cents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_interface() {
        assert_eq!(Cents::amount(1), Ok(Cents(1)));
        assert_eq!(Cents::amount(AMOUNT_MAX), Ok(Cents(AMOUNT_MAX)));
        assert_eq!(Cents::opening(0), Ok(Cents(0)));
        for out in [i64::MIN, -1, AMOUNT_MAX + 1, i64::MAX] {
            assert!(Cents::amount(out).is_err(), "amount {out}");
            assert!(Cents::opening(out).is_err(), "opening {out}");
        }
        assert!(Cents::amount(0).is_err());
    }

    proptest! {
        #[test]
        fn a_balance_never_leaves_its_range_and_a_move_keeps_the_sum(
            from in 0..=BALANCE_MAX, to in 0..=BALANCE_MAX, amount in 1..=AMOUNT_MAX
        ) {
            let (from, to, amount) = (Cents(from), Cents(to), Cents(amount));
            prop_assert_eq!(from.minus(amount).is_some(), from >= amount);
            prop_assert_eq!(to.plus(amount).is_some(), to.0 <= BALANCE_MAX - amount.0);
            if let (Some(less), Some(more)) = (from.minus(amount), to.plus(amount)) {
                prop_assert!(less.0 >= 0 && more.0 <= BALANCE_MAX);
                prop_assert_eq!(less.0 + more.0, from.0 + to.0);
                let [leaves, comes] = amount.entries();
                prop_assert_eq!(leaves.0 + comes.0, 0);
                prop_assert_eq!((less.0 - from.0, more.0 - to.0), (leaves.0, comes.0));
            }
        }
    }
}
