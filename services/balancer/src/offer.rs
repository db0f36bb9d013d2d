//! What a backend offers: whether it gets requests at all, before whom, and how large a part of them.
//!
//! One number that a choice reads without a lock. Who decides what it is: `rotation.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Who is asked before whom. Those of a rank get requests only while nobody of an earlier one is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// At work.
    Active,
    /// Waits for the active ones to be gone.
    Standby,
    /// Ejected for failing; better than nothing.
    Ejected,
    /// Fails its checks; perhaps better than nothing.
    Failing,
}

impl Rank {
    /// Whether it is one that is asked although it is not well.
    pub fn is_last_resort(self) -> bool {
        self >= Rank::Ejected
    }
}

/// A backend's part in the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who is asked before it.
    pub rank: Rank,
    /// Its part among those of its rank, beside theirs; at least 1.
    pub share: u32,
}

/// Out of rotation.
const NONE: u64 = u64::MAX;

/// An offer, or none, that is read by everybody and changed by one.
#[derive(Debug)]
pub struct OfferCell(AtomicU64);

impl Default for OfferCell {
    fn default() -> OfferCell {
        OfferCell(AtomicU64::new(NONE))
    }
}

impl OfferCell {
    /// What it is now; none while the backend is out of rotation.
    pub fn get(&self) -> Option<Offer> {
        let packed = self.0.load(Ordering::Acquire);
        let rank = match packed >> 32 {
            0 => Rank::Active,
            1 => Rank::Standby,
            2 => Rank::Ejected,
            3 => Rank::Failing,
            _ => return None,
        };
        let share = packed as u32;
        Some(Offer { rank, share })
    }

    /// The part, if it is one among those of this rank.
    #[inline]
    pub fn share(&self, rank: Rank) -> Option<u32> {
        let packed = self.0.load(Ordering::Acquire);
        (packed >> 32 == rank as u64).then_some(packed as u32)
    }

    /// Changes it.
    pub fn set(&self, offer: Option<Offer>) {
        let packed = offer.map_or(NONE, |offer| {
            (offer.rank as u64) << 32 | u64::from(offer.share.max(1))
        });
        self.0.store(packed, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read() {
        let cell = OfferCell::default();
        assert_eq!(None, cell.get());
        for rank in [Rank::Active, Rank::Standby, Rank::Ejected, Rank::Failing] {
            for share in [1, 25_600, u32::MAX] {
                cell.set(Some(Offer { rank, share }));
                assert_eq!(Some(Offer { rank, share }), cell.get());
                for other in [Rank::Active, Rank::Standby, Rank::Ejected, Rank::Failing] {
                    let expected = (other == rank).then_some(share);
                    assert_eq!(expected, cell.share(other));
                }
            }
        }
        cell.set(None);
        assert_eq!(None, cell.get());
        assert_eq!(None, cell.share(Rank::Failing));
    }
}
