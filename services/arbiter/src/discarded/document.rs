//! The text of a file of discarded transactions: what it is, what is in it, what is not, and then each transaction.

use std::fmt::Write as _;

use replication::GtidSet;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use super::events::{Change, Part, Transaction};

/// What the text begins with.
pub(super) struct Heading<'a> {
    pub server: &'a str,
    pub saved_at: OffsetDateTime,
    pub errant: &'a GtidSet,
}

/// The whole text, and what is in it.
pub(super) struct Rendered {
    pub text: String,
    pub transactions: u64,
    pub left_out: u64,
    pub missing: u64,
}

/// Transactions in the order in which the server committed them, as many as there is room for.
pub(super) struct Document {
    bytes_max: usize,
    entries: String,
    /// The GTID of each entry, and where it begins.
    kept: Vec<(Box<str>, usize)>,
    found: GtidSet,
    left_out: GtidSet,
}

impl Document {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            entries: String::new(),
            kept: Vec::new(),
            found: GtidSet::default(),
            left_out: GtidSet::default(),
        }
    }

    /// Adds a transaction, if there is one; by name alone where the rest has no room. A small one may still have room after that.
    pub(super) fn add(&mut self, transaction: Option<Transaction>) {
        let Some(transaction) = transaction else {
            return;
        };
        let text = transaction
            .parts
            .as_deref()
            .map(|parts| entry(&transaction, parts))
            .filter(|text| self.entries.len().saturating_add(text.len()) <= self.bytes_max);
        self.found = self.found.union(&transaction.gtid);
        match text {
            Some(text) => {
                let gtid = transaction.gtid.to_string();
                self.kept.push((gtid.into_boxed_str(), self.entries.len()));
                self.entries += &text;
            }
            None => self.left_out = self.left_out.union(&transaction.gtid),
        }
    }

    /// The text. Its head is always whole; for its sake the last transactions may have to go.
    pub(super) fn render(mut self, heading: &Heading<'_>) -> Rendered {
        let missing = heading.errant.subtract(&self.found);
        loop {
            let mut text = self.head(heading, &missing);
            if text.len() + self.entries.len() <= self.bytes_max || self.kept.is_empty() {
                text += &self.entries;
                return Rendered {
                    text,
                    transactions: self.kept.len() as u64,
                    left_out: self.left_out.count(),
                    missing: missing.count(),
                };
            }
            if let Some((gtid, begins)) = self.kept.pop() {
                self.entries.truncate(begins);
                let gtid = gtid.parse().expect("it was written from a set");
                self.left_out = self.left_out.union(&gtid);
            }
        }
    }

    fn head(&self, heading: &Heading<'_>, missing: &GtidSet) -> String {
        let Heading {
            server,
            saved_at,
            errant,
        } = heading;
        let saved_at = (saved_at.to_offset(UtcOffset::UTC))
            .format(&Rfc3339)
            .unwrap_or_else(|_| saved_at.to_string());
        let mut text = format!(
            "-- Transactions that {server} had and the primary has not, saved before they were discarded.\n\
             -- Nothing applies them again: read each, and decide whether it is still wanted. Lines that begin as this one are not theirs.\n\
             -- A statement stands as its client sent it, but that bytes that are no text are shown as \\xff, and control characters as\n\
             -- \\u{{1b}}. Values that it took from elsewhere, as with NOW(), are not here. The server does not show when a transaction was\n\
             -- committed; they are in the order in which they were.\n\
             --\n\
             -- server: {server}\n\
             -- saved at: {saved_at}\n\
             -- discarded: {} ({errant})\n\
             -- of them here: {}\n",
            errant.count(),
            self.kept.len(),
        );
        let mut more = |set: &GtidSet, what: &str, why: &str| {
            if !set.is_empty() {
                let count = set.count();
                writeln!(text, "-- {what}: {count} ({set}): {why}")
                    .expect("a string takes everything");
            }
        };
        let room = format!(
            "there was no room, for this file may have {} bytes",
            self.bytes_max
        );
        more(&self.left_out, "left out", &room);
        let gone = "they are in no binary log of the server's, or not any more";
        more(missing, "not found", gone);
        text
    }
}

fn entry(transaction: &Transaction, parts: &[Part]) -> String {
    let Transaction {
        gtid,
        log,
        position,
        ..
    } = transaction;
    let mut text = format!("\n-- {gtid} ({log}, position {position})\n");
    for part in parts {
        match part {
            Part::Statement(statement) => writeln!(text, "{};", statement.trim_end()),
            Part::Rows {
                change,
                table,
                events,
                alone,
            } => {
                let alone = if *alone {
                    "no statement was logged; "
                } else {
                    ""
                };
                let change = match change {
                    Change::Written => "written to",
                    Change::Updated => "updated in",
                    Change::Deleted => "deleted from",
                };
                let plural = if *events == 1 { "event" } else { "events" };
                writeln!(text, "-- {alone}rows {change} {table} ({events} {plural})")
            }
            Part::Other { kind, info } => {
                writeln!(text, "-- {kind}: {}", info.replace('\n', "\n-- "))
            }
        }
        .expect("a string takes everything");
    }
    if parts.is_empty() {
        text.push_str("-- nothing: an empty transaction\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::events::tests::{read, set};
    use super::*;

    fn render(errant: &str, bytes_max: usize) -> Rendered {
        let mut document = Document::new(bytes_max);
        for transaction in read(errant, bytes_max) {
            document.add(Some(transaction));
        }
        document.add(None);
        document.render(&Heading {
            server: "mysql-1",
            saved_at: OffsetDateTime::UNIX_EPOCH,
            errant: &set(errant),
        })
    }

    fn counts(rendered: &Rendered) -> (u64, u64, u64) {
        (rendered.transactions, rendered.left_out, rendered.missing)
    }

    #[test]
    fn a_person_reads_what_each_transaction_did() {
        let rendered = render("A:1:3-4", 4096);
        assert_eq!(counts(&rendered), (3, 0, 0));
        let (head, entries) = rendered.text.split_once("\n\n").unwrap();
        assert!(head.lines().all(|line| line.starts_with("--")), "{head}");
        for said in [
            "-- server: mysql-1",
            "-- saved at: 1970-01-01T00:00:00Z",
            "-- discarded: 3 (90bd350d-e98e-11f1-9428-02fc00000001:1:3-4)",
            "-- of them here: 3",
        ] {
            assert!(head.lines().any(|line| line == said), "{said}: {head}");
        }
        assert_eq!(
            entries,
            "-- 90bd350d-e98e-11f1-9428-02fc00000001:1 (binlog.000005, position 158)
CREATE DATABASE holdfast;

-- 90bd350d-e98e-11f1-9428-02fc00000001:3 (binlog.000005, position 783)
INSERT INTO ledger.t VALUES (1, X'00FF', 'a\\nb'),(2,NULL,'zwei');
-- rows written to ledger.t (1 event)

-- 90bd350d-e98e-11f1-9428-02fc00000001:4 (binlog.000005, position 1187)
UPDATE ledger.t SET s='x' WHERE id<9;
-- rows updated in ledger.t (2 events)
-- no statement was logged; rows deleted from ledger.t (1 event)
"
        );
    }

    #[test]
    fn what_is_in_no_log_is_said() {
        let rendered = render("A:4-9", 4096);
        assert_eq!(counts(&rendered), (1, 0, 5));
        let said = "-- not found: 5 (90bd350d-e98e-11f1-9428-02fc00000001:5-9): ";
        assert!(rendered.text.contains(said), "{}", rendered.text);
    }

    #[test]
    fn whatever_the_room_is_the_text_fits_and_names_every_transaction() {
        let head = render("A:1-4:arbiter:1", 0);
        assert_eq!(counts(&head), (0, 5, 0));
        let all = render("A:1-4:arbiter:1", 1 << 20);
        assert_eq!(counts(&all), (5, 0, 0));
        for bytes_max in 0..all.text.len() + 200 {
            let rendered = render("A:1-4:arbiter:1", bytes_max);
            // The numbers in the head have more digits or fewer.
            let bound = bytes_max.max(head.text.len() + 200);
            assert!(rendered.text.len() <= bound, "{bytes_max}");
            assert!(
                rendered.text.len() <= bytes_max || rendered.transactions == 0,
                "{bytes_max}"
            );
            assert_eq!(rendered.transactions + rendered.left_out, 5, "{bytes_max}");
            assert_eq!(
                rendered.text.contains("-- left out: "),
                rendered.left_out > 0,
                "{bytes_max}"
            );
        }
    }

    #[test]
    fn a_transaction_with_no_room_does_not_keep_a_smaller_one_out() {
        let all = render("A:1-4", 1 << 20);
        let without_one = render("A:1-4", all.text.len() - 10);
        assert_eq!(counts(&without_one), (3, 1, 0));
    }
}
