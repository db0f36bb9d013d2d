//! Transactions out of the rows of SHOW BINLOG EVENTS. What the server writes there was recorded on 9.7.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use replication::GtidSet;

/// A row of SHOW BINLOG EVENTS.
pub(super) struct Event {
    pub position: u64,
    pub kind: String,
    pub info: String,
}

/// What a transaction did, in its order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A statement as its client sent it.
    Statement(String),
    /// Rows that changed in a table, by the statement before. The server does not show which, only how many events have them.
    Rows {
        change: Change,
        table: String,
        events: u64,
        /// No statement was logged for it.
        alone: bool,
    },
    /// An event of a kind that is not known here.
    Other { kind: String, info: String },
}

/// What was done to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Written,
    Updated,
    Deleted,
}

/// A transaction that was wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub gtid: GtidSet,
    pub log: String,
    pub position: u64,
    /// `None` where they are larger than all that there is room for.
    pub parts: Option<Vec<Part>>,
}

/// Takes the events of one log in their order and gives the wanted transactions, each once its last event was there.
pub(super) struct Reader {
    log: String,
    wanted: GtidSet,
    bytes_max: usize,
    tables: BTreeMap<String, String>,
    current: Option<Transaction>,
    bytes: usize,
    /// Whether the next rows are changed by a statement that was logged.
    stated: bool,
}

impl Reader {
    /// For a log of which `wanted` is wanted. Of a transaction with more than `bytes_max` bytes nothing is kept.
    pub(super) fn new(log: &str, wanted: GtidSet, bytes_max: usize) -> Self {
        Self {
            log: log.to_owned(),
            wanted,
            bytes_max,
            tables: BTreeMap::new(),
            current: None,
            bytes: 0,
            stated: false,
        }
    }

    /// Whether everything that was wanted has been given.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty() && self.current.is_none()
    }

    /// Takes the next event. The error says what cannot be read.
    pub(super) fn feed(&mut self, event: Event) -> Result<Option<Transaction>, String> {
        let Event {
            position,
            kind,
            info,
        } = event;
        match kind.as_str() {
            "Gtid" | "Gtid_tagged_log_event" => {
                let finished = self.end();
                self.begin(position, &info)?;
                return Ok(finished);
            }
            "Anonymous_Gtid" | "Rotate" | "Stop" | "Format_desc" | "Previous_gtids" => {
                return Ok(self.end());
            }
            _ if self.current.is_none() => {}
            "Xid" => return Ok(self.end()),
            "Query" => self.query(&info),
            "Rows_query" => {
                self.stated = true;
                let statement = info.strip_prefix("# ").unwrap_or(&info);
                self.push(Part::Statement(statement.to_owned()));
            }
            "Table_map" => {
                if let Some((id, table)) = table_map(&info) {
                    self.tables.insert(id.to_owned(), table.to_owned());
                }
            }
            _ => match change(&kind) {
                Some(change) => self.rows(change, &info),
                None => self.push(Part::Other { kind, info }),
            },
        }
        Ok(None)
    }

    /// The log ends: what had begun is whole, for a transaction never goes on in the next log.
    pub(super) fn end(&mut self) -> Option<Transaction> {
        let transaction = self.current.take()?;
        self.wanted = self.wanted.subtract(&transaction.gtid);
        Some(transaction)
    }

    /// At `SET @@SESSION.GTID_NEXT= 'uuid:7'`.
    fn begin(&mut self, position: u64, info: &str) -> Result<(), String> {
        let gtid: GtidSet = info
            .split('\'')
            .nth(1)
            .unwrap_or_default()
            .parse()
            .map_err(|error| format!("{info:?} at {position}: {error}"))?;
        if gtid.count() != 1 {
            return Err(format!("{info:?} at {position} is not one GTID"));
        }
        // Table numbers are of a transaction: each maps those that it uses.
        self.tables.clear();
        self.bytes = 0;
        self.stated = false;
        self.current = self.wanted.contains(&gtid).then(|| Transaction {
            gtid,
            log: self.log.clone(),
            position,
            parts: Some(Vec::new()),
        });
        Ok(())
    }

    fn query(&mut self, info: &str) {
        let statement = without_xid(info);
        if !matches!(statement, "BEGIN" | "COMMIT") {
            self.push(Part::Statement(statement.to_owned()));
        }
    }

    /// At `table_id: 90 flags: STMT_END_F`. A large change has several events.
    fn rows(&mut self, change: Change, info: &str) {
        let id = info
            .strip_prefix("table_id: ")
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_default();
        let table = match self.tables.get(id) {
            Some(table) => table.clone(),
            None => format!("an unknown table ({info})"),
        };
        let alone = !self.stated;
        // Ends with the statement, not with the event: the next rows may have none.
        if info.contains("STMT_END_F") {
            self.stated = false;
        }
        if let Some(Transaction {
            parts: Some(parts), ..
        }) = &mut self.current
            && let Some(Part::Rows {
                change: last_change,
                table: last_table,
                events,
                alone: last_alone,
            }) = parts.last_mut()
            && (*last_change, &*last_table, *last_alone) == (change, &table, alone)
        {
            *events += 1;
            return;
        }
        self.push(Part::Rows {
            change,
            table,
            events: 1,
            alone,
        });
    }

    fn push(&mut self, part: Part) {
        let Some(transaction) = &mut self.current else {
            return;
        };
        self.bytes = self.bytes.saturating_add(match &part {
            Part::Statement(text) | Part::Rows { table: text, .. } => text.len(),
            Part::Other { kind, info } => kind.len() + info.len(),
        });
        if self.bytes > self.bytes_max {
            transaction.parts = None;
        } else if let Some(parts) = &mut transaction.parts {
            parts.push(part);
        }
    }
}

fn change(kind: &str) -> Option<Change> {
    match kind {
        "Write_rows" | "Write_rows_v1" => Some(Change::Written),
        "Update_rows" | "Update_rows_v1" | "Update_rows_partial" => Some(Change::Updated),
        "Delete_rows" | "Delete_rows_v1" => Some(Change::Deleted),
        _ => None,
    }
}

/// Of `table_id: 90 (ledger.t)`.
fn table_map(info: &str) -> Option<(&str, &str)> {
    let (id, table) = info.strip_prefix("table_id: ")?.split_once(' ')?;
    Some((id, table.strip_prefix('(')?.strip_suffix(')')?))
}

/// The server appends its own number of the transaction.
fn without_xid(info: &str) -> &str {
    match info.rsplit_once(" /* xid=") {
        Some((statement, number))
            if number
                .strip_suffix(" */")
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) =>
        {
            statement
        }
        _ => info,
    }
}

/// Text that can be shown on a terminal: what is no UTF-8 or would control it is escaped, but for line ends and tabs.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && !matches!(character, '\n' | '\t') {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What 9.7.4 answered to SHOW BINLOG EVENTS, its columns position, kind and info; A is the server's UUID.
    pub(in crate::discarded) const RECORDED: &str = "\
4|Format_desc|Server ver: 9.7.4-2, Binlog ver: 4
127|Previous_gtids|
158|Gtid|SET @@SESSION.GTID_NEXT= 'A:1'
235|Query|CREATE DATABASE holdfast /* xid=94 */
355|Gtid|SET @@SESSION.GTID_NEXT= 'A:2'
432|Query|use `ledger`; CREATE TABLE t (id INT PRIMARY KEY, b VARBINARY(64), s VARCHAR(99)) /* xid=99 */
783|Gtid|SET @@SESSION.GTID_NEXT= 'A:3'
862|Query|BEGIN
933|Rows_query|# INSERT INTO ledger.t VALUES (1, X'00FF', 'a\\nb'),(2,NULL,'zwei')
1021|Table_map|table_id: 90 (ledger.t)
1097|Write_rows|table_id: 90 flags: STMT_END_F USE_SQL_FOREIGN_KEY_F
1156|Xid|COMMIT /* xid=100 */
1187|Gtid|SET @@SESSION.GTID_NEXT= 'A:4'
1266|Query|BEGIN
1346|Rows_query|# UPDATE ledger.t SET s='x' WHERE id<9
1406|Table_map|table_id: 90 (ledger.t)
1482|Update_rows|table_id: 90
1530|Update_rows|table_id: 90 flags: STMT_END_F USE_SQL_FOREIGN_KEY_F
1561|Table_map|table_id: 90 (ledger.t)
1592|Delete_rows|table_id: 90 flags: STMT_END_F USE_SQL_FOREIGN_KEY_F
1669|Xid|COMMIT /* xid=101 */
2143|Gtid_tagged_log_event|SET @@SESSION.GTID_NEXT= 'A:arbiter:1'
2226|Query|BEGIN
2512|Rows_query|# REPLACE INTO holdfast.heartbeat VALUES (1)
2570|Table_map|table_id: 93 (holdfast.heartbeat)
2632|Write_rows|table_id: 93 flags: STMT_END_F USE_SQL_FOREIGN_KEY_F
2672|Xid|COMMIT /* xid=109 */
2703|Rotate|binlog.000006;pos=4";

    pub(in crate::discarded) fn set(text: &str) -> GtidSet {
        text.replace('A', "90bd350d-e98e-11f1-9428-02fc00000001")
            .parse()
            .unwrap()
    }

    pub(in crate::discarded) fn read(wanted: &str, bytes_max: usize) -> Vec<Transaction> {
        let mut reader = Reader::new("binlog.000005", set(wanted), bytes_max);
        let mut transactions = Vec::new();
        for line in RECORDED.lines() {
            let mut columns = line.splitn(3, '|').map(str::to_owned);
            let mut column = || columns.next().unwrap();
            let event = Event {
                position: column().parse().unwrap(),
                kind: column(),
                info: column().replace("'A:", "'90bd350d-e98e-11f1-9428-02fc00000001:"),
            };
            transactions.extend(reader.feed(event).unwrap());
        }
        transactions.extend(reader.end());
        transactions
    }

    fn statement(text: &str) -> Part {
        Part::Statement(text.to_owned())
    }

    fn rows(change: Change, table: &str, events: u64, alone: bool) -> Part {
        Part::Rows {
            change,
            table: table.to_owned(),
            events,
            alone,
        }
    }

    #[test]
    fn a_transaction_is_its_statements_and_the_tables_whose_rows_they_changed() {
        let read = read("A:1-4:arbiter:1", 1000);
        let at: Vec<_> = read
            .iter()
            .map(|t| (t.gtid.clone(), t.log.as_str(), t.position))
            .collect();
        assert_eq!(
            at,
            [
                (set("A:1"), "binlog.000005", 158),
                (set("A:2"), "binlog.000005", 355),
                (set("A:3"), "binlog.000005", 783),
                (set("A:4"), "binlog.000005", 1187),
                (set("A:arbiter:1"), "binlog.000005", 2143),
            ]
        );
        let parts: Vec<_> = read.into_iter().map(|t| t.parts.unwrap()).collect();
        assert_eq!(
            parts,
            [
                vec![statement("CREATE DATABASE holdfast")],
                vec![statement(
                    "use `ledger`; CREATE TABLE t (id INT PRIMARY KEY, b VARBINARY(64), s VARCHAR(99))"
                )],
                vec![
                    statement("INSERT INTO ledger.t VALUES (1, X'00FF', 'a\\nb'),(2,NULL,'zwei')"),
                    rows(Change::Written, "ledger.t", 1, false),
                ],
                vec![
                    statement("UPDATE ledger.t SET s='x' WHERE id<9"),
                    rows(Change::Updated, "ledger.t", 2, false),
                    rows(Change::Deleted, "ledger.t", 1, true),
                ],
                vec![
                    statement("REPLACE INTO holdfast.heartbeat VALUES (1)"),
                    rows(Change::Written, "holdfast.heartbeat", 1, false),
                ],
            ]
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_given() {
        let gtids: Vec<_> = read("A:2:4", 1000).into_iter().map(|t| t.gtid).collect();
        assert_eq!(gtids, [set("A:2"), set("A:4")]);
        assert_eq!(read("A:7", 1000), []);
    }

    #[test]
    fn of_a_transaction_that_is_too_large_only_its_name_is_kept() {
        let parts: Vec<_> = read("A:1-3", 60)
            .into_iter()
            .map(|t| t.parts.is_some())
            .collect();
        assert_eq!(parts, [true, false, false]);
    }

    #[test]
    fn a_reader_is_done_when_it_gave_all_that_was_wanted() {
        let gtid = |number: u64| Event {
            position: 4,
            kind: "Gtid".to_owned(),
            info: format!(
                "SET @@SESSION.GTID_NEXT= '90bd350d-e98e-11f1-9428-02fc00000001:{number}'"
            ),
        };
        let mut reader = Reader::new("log", set("A:1"), 9);
        assert!(reader.feed(gtid(1)).unwrap().is_none());
        assert!(!reader.is_done(), "its events may follow");
        assert!(reader.feed(gtid(2)).unwrap().is_some());
        assert!(reader.is_done());
        let nonsense = Event {
            info: "SET @@SESSION.GTID_NEXT= 'AUTOMATIC'".to_owned(),
            ..gtid(0)
        };
        assert!(reader.feed(nonsense).unwrap_err().contains("AUTOMATIC"));
    }

    #[test]
    fn an_event_of_an_unknown_kind_is_shown_and_the_servers_number_is_not() {
        let mut reader = Reader::new("log", set("A:1"), 99);
        reader.begin(4, &format!("= '{}'", set("A:1"))).unwrap();
        for (kind, info) in [("User var", "@`a`=1"), ("Query", "SELECT 1 /* xid=a */")] {
            let event = Event {
                position: 9,
                kind: kind.to_owned(),
                info: info.to_owned(),
            };
            assert_eq!(reader.feed(event), Ok(None));
        }
        assert_eq!(
            reader.end().unwrap().parts.unwrap(),
            [
                Part::Other {
                    kind: "User var".to_owned(),
                    info: "@`a`=1".to_owned()
                },
                statement("SELECT 1 /* xid=a */")
            ]
        );
    }

    #[test]
    fn what_would_control_a_terminal_is_escaped() {
        assert_eq!(
            printable(b"a\n\tb\x1b[2J\xff\xfe\0 \xc3\xa4\xc2\x9b"),
            "a\n\tb\\u{1b}[2J\\xff\\xfe\\u{0} \u{e4}\\u{9b}"
        );
    }
}
