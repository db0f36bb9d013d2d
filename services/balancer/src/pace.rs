//! How fast a client moves: a client that sends or takes a byte now and then satisfies any limit on silence, and holds a backend for ever.
//!
//! Only the time in which we wait for the client counts, so a slow backend is nobody's fault here.

use std::cell::Cell;

use crate::clock::Moment;

/// The least that a client must move in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// In bytes for each second; 0 for no such limit.
    pub bytes_per_s: u64,
    /// How much waiting is free, in milliseconds.
    pub grace_ms: u64,
}

/// One direction of one message.
#[derive(Debug, Default)]
pub struct Pace {
    waited_ms: Cell<u64>,
    bytes: Cell<u64>,
}

impl Pace {
    /// Another message begins.
    pub fn begin(&self) {
        self.waited_ms.set(0);
        self.bytes.set(0);
    }

    /// A wait has ended with so many bytes.
    pub fn moved(&self, waited_ms: u64, bytes: usize) {
        let waited_ms = self.waited_ms.get().saturating_add(waited_ms);
        self.waited_ms.set(waited_ms);
        self.bytes
            .set(self.bytes.get().saturating_add(bytes as u64));
    }

    /// Until when a wait that begins at `now` may last before the client is too slow.
    pub fn due(&self, now: Moment, rate: Rate) -> Moment {
        if rate.bytes_per_s == 0 {
            return Moment::MAX;
        }
        let earned = self.bytes.get().saturating_mul(1000) / rate.bytes_per_s;
        let left = earned
            .saturating_add(rate.grace_ms)
            .saturating_sub(self.waited_ms.get());
        now.saturating_add(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        bytes_per_s: 100,
        grace_ms: 1000,
    };

    #[test]
    fn bytes_earn_time_and_waiting_uses_it_up() {
        let pace = Pace::default();
        assert_eq!(6000, pace.due(5000, RATE));
        pace.moved(900, 1);
        assert_eq!(5000 + 110, pace.due(5000, RATE));
        pace.moved(110, 100);
        assert_eq!(5000 + 1000, pace.due(5000, RATE));
        pace.moved(4000, 0);
        assert_eq!(5000, pace.due(5000, RATE));
    }

    #[test]
    fn without_a_rate_nobody_is_too_slow() {
        let none = Rate {
            bytes_per_s: 0,
            ..RATE
        };
        assert_eq!(Moment::MAX, Pace::default().due(5000, none));
    }
}
