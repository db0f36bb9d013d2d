//! Statements that a replica refused as writes, though they were taken for reads: a view over a function that writes, for example.
//!
//! Each is remembered by a hash of its text, so that the next one goes to the primary at once. The set is bounded; when it is full, the
//! statement that was remembered first is forgotten, and costs one refusal more.

use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

pub(crate) struct Corrections {
    max: usize,
    /// How many are known: nearly always none, and then nothing is hashed.
    known: AtomicUsize,
    hasher: RandomState,
    statements: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    hashes: HashSet<u64>,
    in_order: VecDeque<u64>,
}

/// What became of a statement that was to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// It was not known yet.
    New,
    /// It was not known yet, and another one was forgotten for it.
    InPlaceOfAnother,
    /// Somebody else was faster.
    Known,
}

impl Corrections {
    /// Remembers at most so many.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            known: AtomicUsize::new(0),
            hasher: RandomState::new(),
            statements: RwLock::default(),
        }
    }

    /// Whether a replica has refused this text.
    pub(crate) fn knows(&self, sql: &str) -> bool {
        self.known() > 0 && {
            let hash = self.hasher.hash_one(sql);
            let statements = self
                .statements
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            statements.hashes.contains(&hash)
        }
    }

    /// How many are known.
    pub(crate) fn known(&self) -> usize {
        self.known.load(Ordering::Acquire)
    }

    pub(crate) fn remember(&self, sql: &str) -> Remembered {
        let hash = self.hasher.hash_one(sql);
        let mut statements = self
            .statements
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !statements.hashes.insert(hash) {
            return Remembered::Known;
        }
        statements.in_order.push_back(hash);
        let mut remembered = Remembered::New;
        if statements.in_order.len() > self.max
            && let Some(oldest) = statements.in_order.pop_front()
        {
            statements.hashes.remove(&oldest);
            remembered = Remembered::InPlaceOfAnother;
        }
        self.known.store(statements.hashes.len(), Ordering::Release);
        remembered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_known_and_the_oldest_goes_first() {
        let corrections = Corrections::new(2);
        assert!(!corrections.knows("a"));
        assert_eq!(corrections.remember("a"), Remembered::New);
        assert_eq!(corrections.remember("a"), Remembered::Known);
        assert_eq!(corrections.remember("b"), Remembered::New);
        assert!(corrections.knows("a") && corrections.knows("b"));
        assert_eq!(corrections.remember("c"), Remembered::InPlaceOfAnother);
        assert_eq!(corrections.known(), 2);
        assert!(!corrections.knows("a") && corrections.knows("c"));
    }
}
