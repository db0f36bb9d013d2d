//! `/accounts/{id}`: one's own account and what went in and out.

use askama::Template;
use axum::{extract::RawQuery, response::Response};
use time::{OffsetDateTime, macros::format_description};

use super::{amount, html, see};
use crate::{
    api::{path::Id, refuse},
    auth::Visitor,
    db::Db,
    ledger::{
        AccountId, Page, Paging,
        statement::{self, Line, Statement},
    },
    problem::Problem,
};

/// The most transfers on one page.
const ROWS: u8 = 20;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    id: String,
    name: String,
    balance: String,
    opened: String,
    rows: Vec<Row>,
    /// What it was opened with, on the page of the oldest transfers.
    opening: Option<String>,
    /// Whether this page is not the first.
    newer: bool,
    older: Option<String>,
}

struct Row {
    at: String,
    what: &'static str,
    other: String,
    other_name: Option<String>,
    memo: String,
    out: bool,
    amount: String,
    balance: String,
}

/// `GET /accounts/{id}`
pub(super) async fn show(
    visitor: Option<Visitor>,
    id: Result<Id<AccountId>, Problem>,
    RawQuery(query): RawQuery,
    Db(db): Db,
) -> Result<Response, Problem> {
    let Some(Visitor(owner)) = visitor else {
        return Ok(see("/"));
    };
    let Id(id) = id?;
    let query = query.as_deref();
    let statement = statement::read(&db, owner, id, &paging(query, ROWS)).await;
    let statement = statement.map_err(refuse::ledger)?;
    let Statement {
        account,
        lines: Page { items, next_after },
        opening,
    } = statement.ok_or_else(refuse::not_found)?;
    Ok(html(&AccountPage {
        id: id.to_string(),
        name: account.name,
        balance: amount::shown(account.balance_cents.get()),
        opened: shown_time(account.created_at),
        rows: items.into_iter().map(Row::from).collect(),
        opening: opening.map(|cents| amount::shown(cents.get())),
        newer: first_of(query, "after").is_some(),
        older: next_after,
    }))
}

impl From<Line> for Row {
    fn from(line: Line) -> Self {
        let out = line.amount.get() < 0;
        Self {
            at: shown_time(line.at),
            what: if out { "to" } else { "from" },
            other: line.other.to_string(),
            other_name: line.other_name,
            memo: line.memo.unwrap_or_default(),
            out,
            amount: amount::shown(line.amount.get()),
            balance: amount::shown(line.balance.get()),
        }
    }
}

/// To the second, in UTC.
pub(super) fn shown_time(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.format(&format).unwrap_or_default()
}

/// The page that a link's `after` leads to.
pub(super) fn paging(query: Option<&str>, rows: u8) -> Paging {
    Paging::new(rows, first_of(query, "after")).unwrap_or_default()
}

/// The first value of a parameter of the query.
pub(super) fn first_of(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let found = pairs.find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Cents, TransferId};

    fn line(cents: i64) -> Line {
        Line {
            transfer: TransferId::new(),
            at: time::macros::datetime!(2026-01-02 03:04:05.678 UTC),
            other: AccountId::new(),
            other_name: None,
            memo: None,
            amount: serde_json::from_value(cents.into()).unwrap(),
            balance: Cents::amount(100_000).unwrap(),
        }
    }

    #[test]
    fn a_line_says_to_or_from_whom_and_what_was_left() {
        let out = line(-123_456);
        let row = Row::from(out.clone());
        assert_eq!((row.what, row.amount.as_str()), ("to", "-1,234.56"));
        assert_eq!(row.other, out.other.to_string());
        assert_eq!(row.at, "2026-01-02 03:04:05");
        assert_eq!(row.balance, "1,000.00");
        let into = Row::from(line(1));
        assert_eq!((into.what, into.amount.as_str()), ("from", "0.01"));
    }

    fn page(rows: Vec<Row>) -> AccountPage {
        AccountPage {
            id: "id-1".to_owned(),
            name: "<script>alert(1)</script>".to_owned(),
            balance: "1.00".to_owned(),
            opened: String::new(),
            opening: Some("0.00".to_owned()),
            rows,
            newer: false,
            older: Some("a\"b".to_owned()),
        }
    }

    #[test]
    fn names_and_memos_are_text_and_never_markup() {
        let row = Row {
            memo: "\"><img src=x onerror=alert(1)><!--made-->".to_owned(),
            other_name: Some("<b>".to_owned()),
            ..Row::from(line(1))
        };
        let page = page(vec![row]).render().unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<img"), "{page}");
        assert!(!page.contains("<b>"), "{page}");
        assert!(!page.contains("a\"b"), "{page}");
        assert_eq!(page.matches("<!--made-->").count(), 1, "{page}");
    }

    #[test]
    fn an_account_without_transfers_says_how_to_begin() {
        let page = page(Vec::new()).render().unwrap();
        assert!(page.contains("href=\"/?from=id-1#send\""), "{page}");
        assert!(page.contains("No transfers yet"), "{page}");
    }
}
