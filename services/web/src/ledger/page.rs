//! Pages of a list, newest first.
//!
//! A page starts below the id at which the last one ended (keyset pagination): rows that come or stay do not move it.

use serde::Serialize;
use uuid::Uuid;

use super::{LedgerError, cursor::List};

/// One page of a list.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// What to ask the next page with; none at the end.
    pub next_after: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    limit: u8,
    after: Option<String>,
}

impl Default for Paging {
    /// The first 20.
    fn default() -> Self {
        Self {
            limit: 20,
            after: None,
        }
    }
}

impl Paging {
    /// The most rows of a page.
    pub const LIMIT_MAX: u8 = 100;

    /// A page of at most `limit` rows, 1 to 100; none if it is out of that range.
    #[must_use]
    pub fn new(limit: u8, after: Option<String>) -> Option<Self> {
        (1..=Self::LIMIT_MAX)
            .contains(&limit)
            .then_some(Self { limit, after })
    }

    /// The id below which the page starts.
    pub(super) fn below(&self, list: List) -> Result<Uuid, LedgerError> {
        match &self.after {
            None => Ok(Uuid::max()),
            Some(cursor) => list
                .position(cursor)
                .ok_or(LedgerError::CursorOfAnotherList),
        }
    }

    /// How many rows to ask for: one more than the page holds tells whether there is a next one.
    pub(super) fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The page, from the rows that were asked for.
    pub(super) fn page<T>(&self, list: List, mut items: Vec<T>, id: fn(&T) -> Uuid) -> Page<T> {
        let more = items.len() > usize::from(self.limit);
        items.truncate(usize::from(self.limit));
        let last = items.last().filter(|_| more);
        let next_after = last.map(|last| list.cursor(id(last)));
        Page { items, next_after }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::OwnerId;

    /// What the database does with `below` and `rows`.
    fn select(table: &[Uuid], paging: &Paging, list: List) -> Vec<Uuid> {
        let below = paging.below(list).unwrap();
        let rows = usize::try_from(paging.rows()).unwrap();
        table
            .iter()
            .copied()
            .filter(|id| *id < below)
            .take(rows)
            .collect()
    }

    proptest! {
        #[test]
        fn pages_hold_every_row_once_in_order(count in 0..250u128, limit in 1..=100u8) {
            let list = List::Accounts(OwnerId::fixed(Uuid::nil()));
            let table: Vec<_> = (0..count).rev().map(Uuid::from_u128).collect();
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let paging = Paging::new(limit, after).unwrap();
                let page = paging.page(list, select(&table, &paging, list), |id| *id);
                prop_assert!(page.items.len() == usize::from(limit) || page.next_after.is_none());
                seen.extend(page.items);
                match page.next_after {
                    Some(cursor) => after = Some(cursor),
                    None => break,
                }
            }
            prop_assert_eq!(seen, table);
        }
    }

    #[test]
    fn a_limit_out_of_range_is_no_page() {
        assert_eq!(Paging::new(0, None), None);
        assert_eq!(Paging::new(101, None), None);
        assert!(Paging::new(100, None).is_some());
    }
}
