//! Bits as GTID sets, each made once.

use std::cell::RefCell;
use std::collections::HashMap;

use replication::GtidSet;

use super::model::{Set, Transaction, Write};
use super::world::UUIDS;

/// Turns bits into GTID sets.
pub(super) struct Gtids<'a>(pub &'a [Transaction]);

type Key = (bool, Set, Set, Set);

thread_local! {
    static KNOWN: RefCell<HashMap<Key, GtidSet>> = RefCell::new(HashMap::new());
}

impl Gtids<'_> {
    pub(super) fn of(&mut self, base: bool, set: Set) -> GtidSet {
        let those = |which: fn(&Transaction) -> bool| {
            self.0.iter().enumerate().fold(0, |set, (number, one)| {
                set | (Set::from(which(one)) << number)
            })
        };
        let key = (
            base,
            set,
            set & those(|one| one.by == 1),
            set & those(|one| one.write == Write::Bulk),
        );
        KNOWN.with_borrow_mut(|known| {
            let text = || {
                let mut parts = Vec::new();
                if base {
                    parts.push(format!("{}:1", UUIDS[0]));
                }
                for (number, one) in self.0.iter().enumerate() {
                    if set & (1 << number) != 0 {
                        let uuid = UUIDS[usize::from(one.by)];
                        let first = (number + 1) * 10_000;
                        let last = match one.write {
                            Write::Bulk => first + 1_999,
                            _ => first,
                        };
                        parts.push(format!("{uuid}:{first}-{last}"));
                    }
                }
                parts.join(",").parse().unwrap()
            };
            known.entry(key).or_insert_with(text).clone()
        })
    }

    pub(super) fn set(&mut self, gtids: &GtidSet) -> Set {
        (0..self.0.len())
            .filter(|&number| gtids.contains(&self.of(false, 1 << number)))
            .fold(0, |set, number| set | 1 << number)
    }
}
