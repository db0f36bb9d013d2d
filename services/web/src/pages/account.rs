//! `/accounts/{id}`: one's own account and what went in and out.

use askama::Template;
use axum::{extract::RawQuery, response::Response};
use time::{OffsetDateTime, macros::format_description};

use super::{amount, html, see};
use crate::{
    api::{path::Id, refuse},
    auth::Visitor,
    db::Db,
    ledger::{AccountId, Page, Paging, Transfer, accounts, transfers},
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
    rows: Vec<Row>,
    older: Option<String>,
}

struct Row {
    at: String,
    what: &'static str,
    other: String,
    memo: String,
    amount: String,
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
    let account = accounts::get(&db, owner, id)
        .await
        .map_err(refuse::ledger)?;
    let account = account.ok_or_else(refuse::not_found)?;
    let page = transfers::list(&db, owner, id, &paging(query.as_deref(), ROWS)).await;
    let Page { items, next_after } = page.map_err(refuse::ledger)?;
    Ok(html(&AccountPage {
        id: id.to_string(),
        name: account.name,
        balance: amount::shown(account.balance_cents.get()),
        rows: items
            .into_iter()
            .map(|transfer| row(id, transfer))
            .collect(),
        older: next_after,
    }))
}

/// As seen from an account.
fn row(account: AccountId, transfer: Transfer) -> Row {
    let cents = transfer.amount_cents.get();
    let (what, other, cents) = if transfer.from == account {
        ("to", transfer.to, -cents)
    } else {
        ("from", transfer.from, cents)
    };
    Row {
        at: shown_time(transfer.created_at),
        what,
        other: other.to_string(),
        memo: transfer.memo.unwrap_or_default(),
        amount: amount::shown(cents),
    }
}

/// To the second, in UTC.
pub(super) fn shown_time(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.format(&format).unwrap_or_default()
}

/// The page that a link's `after` leads to.
pub(super) fn paging(query: Option<&str>, rows: u8) -> Paging {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let after = pairs.find(|(name, _)| name == "after");
    Paging::new(rows, after.map(|(_, value)| value.into_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Cents, TransferId};

    #[test]
    fn a_transfer_is_shown_from_the_side_of_the_account() {
        let (from, to) = (AccountId::new(), AccountId::new());
        let transfer = Transfer {
            id: TransferId::new(),
            from,
            to,
            amount_cents: Cents::amount(123_456).unwrap(),
            memo: None,
            created_at: time::macros::datetime!(2026-01-02 03:04:05.678 UTC),
        };
        let out = row(from, transfer.clone());
        assert_eq!((out.what, out.amount.as_str()), ("to", "-1,234.56"));
        assert_eq!(out.other, to.to_string());
        let into = row(to, transfer);
        assert_eq!((into.what, into.amount.as_str()), ("from", "1,234.56"));
        assert_eq!(into.at, "2026-01-02 03:04:05");
    }

    #[test]
    fn names_and_memos_are_text_and_never_markup() {
        let page = AccountPage {
            id: String::new(),
            name: "<script>alert(1)</script>".to_owned(),
            balance: "1.00".to_owned(),
            rows: vec![Row {
                at: String::new(),
                what: "to",
                other: String::new(),
                memo: "\"><img src=x onerror=alert(1)>".to_owned(),
                amount: "1.00".to_owned(),
            }],
            older: Some("a\"b".to_owned()),
        };
        let page = page.render().unwrap();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<img"), "{page}");
        assert!(!page.contains("a\"b"), "{page}");
    }
}
