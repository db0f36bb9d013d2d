//! Who is in rotation, and with how large a part: from what is known of a backend to what it offers.
//!
//! Pure: `roster.rs` knows the facts and publishes what comes of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Mode, WhenNone};
use crate::health::State;
use crate::offer::{Offer, Rank};

/// A share for each unit of weight, once a backend is warm.
const SHARE_PER_WEIGHT: u32 = 256;

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// To work.
    #[default]
    Ready,
    /// To finish what it has, and to get nothing new.
    Drain,
    /// To be left alone: nothing new, and no checks.
    Maint,
}

impl Wish {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Wish::Ready => "ready",
            Wish::Drain => "drain",
            Wish::Maint => "maint",
        }
    }
}

/// What is known of a backend.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What an operator wants.
    pub wish: Wish,
    /// What the checks say.
    pub health: State,
    /// Whether it is out for failing at its work.
    pub is_ejected: bool,
    /// Whether it waits for the others to be gone, in the mode active-passive.
    pub is_standby: bool,
    /// Its part, 1 to 1000.
    pub weight: u32,
    /// How much of it it gets, 1 to 100.
    pub warm_percent: u32,
}

/// How a backend is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// At work.
    Up,
    /// Well, and waiting for the others to be gone.
    Standby,
    /// Not passed a check yet.
    Starting,
    /// It says itself that it is not ready.
    NotReady,
    /// It fails its checks.
    Down,
    /// It passes its checks, and fails at its work.
    Ejected,
    /// An operator lets it finish what it has.
    Drain,
    /// An operator has taken it out.
    Maint,
}

impl Condition {
    /// Every one, for the metrics' labels.
    pub const ALL: [Condition; 8] = [
        Condition::Up,
        Condition::Standby,
        Condition::Starting,
        Condition::NotReady,
        Condition::Down,
        Condition::Ejected,
        Condition::Drain,
        Condition::Maint,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Standby => "standby",
            Condition::Starting => "starting",
            Condition::NotReady => "not_ready",
            Condition::Down => "down",
            Condition::Ejected => "ejected",
            Condition::Drain => "drain",
            Condition::Maint => "maint",
        }
    }

    /// Whether it is among those that do the work, or would.
    pub fn is_well(self) -> bool {
        matches!(self, Condition::Up | Condition::Standby)
    }
}

impl Facts {
    /// What comes of them. An operator's word goes before the backend's own, and that before what is seen of it.
    pub fn condition(&self, mode: Mode) -> Condition {
        match (self.wish, self.health) {
            (Wish::Maint, _) => Condition::Maint,
            (Wish::Drain, _) => Condition::Drain,
            (Wish::Ready, State::Starting) => Condition::Starting,
            (Wish::Ready, State::NotReady) => Condition::NotReady,
            (Wish::Ready, State::Down) => Condition::Down,
            (Wish::Ready, State::Up) if self.is_ejected => Condition::Ejected,
            (Wish::Ready, State::Up) if self.is_standby && mode == Mode::ActivePassive => {
                Condition::Standby
            }
            (Wish::Ready, State::Up) => Condition::Up,
        }
    }

    /// What it offers. Who is not well does so only if such as it may be asked when nobody else is there.
    pub fn offer(&self, mode: Mode, when_none: WhenNone) -> Option<Offer> {
        let rank = match self.condition(mode) {
            Condition::Up => Rank::Active,
            Condition::Standby => Rank::Standby,
            Condition::Ejected if when_none == WhenNone::Open => Rank::Ejected,
            Condition::Down if when_none == WhenNone::Open => Rank::Failing,
            _ => return None,
        };
        let share = self.weight * SHARE_PER_WEIGHT * self.warm_percent / 100;
        Some(Offer { rank, share })
    }
}

/// Slow start: how much of its part a backend gets that is well again, or new, since so long. Never nothing.
pub fn warm_percent(since: Duration, slow_start: Duration, at_first_percent: u8) -> u32 {
    let at_first = u32::from(at_first_percent).max(1);
    if since >= slow_start {
        return 100;
    }
    let part = since.as_secs_f64() / slow_start.as_secs_f64();
    at_first + (f64::from(100 - at_first) * part) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts {
        wish: Wish::Ready,
        health: State::Up,
        is_ejected: false,
        is_standby: false,
        weight: 100,
        warm_percent: 100,
    };

    fn rank(facts: Facts, mode: Mode, when_none: WhenNone) -> Option<Rank> {
        facts.offer(mode, when_none).map(|offer| offer.rank)
    }

    #[test]
    fn an_operators_word_goes_first_then_the_checks_then_what_is_seen() {
        let worst = Facts {
            wish: Wish::Maint,
            health: State::Down,
            is_ejected: true,
            is_standby: true,
            ..WELL
        };
        let steps = [
            (worst, Condition::Maint),
            (
                Facts {
                    wish: Wish::Drain,
                    ..worst
                },
                Condition::Drain,
            ),
            (
                Facts {
                    wish: Wish::Ready,
                    ..worst
                },
                Condition::Down,
            ),
            (
                Facts {
                    wish: Wish::Ready,
                    health: State::NotReady,
                    ..worst
                },
                Condition::NotReady,
            ),
            (
                Facts {
                    wish: Wish::Ready,
                    health: State::Starting,
                    ..worst
                },
                Condition::Starting,
            ),
            (
                Facts {
                    wish: Wish::Ready,
                    health: State::Up,
                    ..worst
                },
                Condition::Ejected,
            ),
            (
                Facts {
                    is_standby: true,
                    ..WELL
                },
                Condition::Standby,
            ),
            (WELL, Condition::Up),
        ];
        for (facts, condition) in steps {
            assert_eq!(condition, facts.condition(Mode::ActivePassive), "{facts:?}");
        }
        let standby = Facts {
            is_standby: true,
            ..WELL
        };
        assert_eq!(Condition::Up, standby.condition(Mode::ActiveActive));
    }

    #[test]
    fn who_is_not_well_may_be_a_last_resort_and_who_says_no_never_is() {
        let (mode, open) = (Mode::ActiveActive, WhenNone::Open);
        let with = |health| Facts { health, ..WELL };
        assert_eq!(Some(Rank::Failing), rank(with(State::Down), mode, open));
        assert_eq!(None, rank(with(State::Down), mode, WhenNone::Closed));
        let ejected = Facts {
            is_ejected: true,
            ..WELL
        };
        assert_eq!(Some(Rank::Ejected), rank(ejected, mode, open));
        assert_eq!(None, rank(ejected, mode, WhenNone::Closed));
        for health in [State::NotReady, State::Starting] {
            assert_eq!(None, rank(with(health), mode, open));
        }
        for wish in [Wish::Drain, Wish::Maint] {
            assert_eq!(None, rank(Facts { wish, ..WELL }, mode, open));
        }
    }

    #[test]
    fn a_share_is_the_weight_as_far_as_it_is_warm() {
        let share = |facts: Facts| {
            facts
                .offer(Mode::ActiveActive, WhenNone::Open)
                .map(|o| o.share)
        };
        assert_eq!(Some(25_600), share(WELL));
        assert_eq!(
            Some(2_560),
            share(Facts {
                warm_percent: 10,
                ..WELL
            })
        );
        assert_eq!(
            Some(2),
            share(Facts {
                warm_percent: 1,
                weight: 1,
                ..WELL
            })
        );
    }

    #[test]
    fn a_start_is_slow_and_never_at_nothing() {
        let percent = |ms, at_first| {
            warm_percent(Duration::from_millis(ms), Duration::from_secs(10), at_first)
        };
        assert_eq!(
            [10, 55, 99, 100],
            [0, 5000, 9990, 10_000].map(|ms| percent(ms, 10))
        );
        assert_eq!(1, percent(0, 0));
        assert_eq!(100, warm_percent(Duration::ZERO, Duration::ZERO, 10));
    }
}
