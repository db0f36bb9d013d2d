//! `/`: without a session a form that makes an owner; with one the owner's accounts, and the forms that open accounts and send money.
//!
//! A form that could not be done comes back with 422, its values and its key kept, and says what was wrong where it was wrong.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::{StatusCode, header::SET_COOKIE};
use router::Router;

use super::{
    account::{first_of, paging},
    amount,
    form::{Faults, Sent, Shown, carry_retry_after},
    html,
    same_origin::SameOrigin,
    see,
};
use crate::{
    api::refuse,
    auth::{FORGET, Visitor},
    db::Db,
    ledger::{
        Account, AccountId, Cents, Invalid, LedgerError, MakeTransfer, Memo, Name, OpenAccount,
        OwnerId, Page, accounts, owners, transfers,
    },
    problem::{Kind, Problem},
    state::AppState,
};

/// The most accounts on one page, and in the form's choice.
const ROWS: u8 = 50;

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome {
    form: Shown,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    name: String,
    accounts: Vec<Row>,
    /// Of all accounts, where all are on this page.
    total: Option<String>,
    /// Whether this page is not the first.
    newer: bool,
    older: Option<String>,
    account: Shown,
    transfer: Shown,
}

struct Row {
    id: String,
    name: String,
    balance: String,
}

impl From<Account> for Row {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.to_string(),
            name: account.name,
            balance: amount::shown(account.balance_cents.get()),
        }
    }
}

/// `GET /`
pub(super) async fn show(
    visitor: Option<Visitor>,
    RawQuery(query): RawQuery,
    Db(db): Db,
) -> Result<Response, Problem> {
    let Some(Visitor(owner)) = visitor else {
        return Ok(html(&Welcome {
            form: Shown::empty(),
        }));
    };
    // A link may say which account to send from.
    let transfer = match first_of(query.as_deref(), "from") {
        Some(from) => Shown::empty().with("from", from),
        None => Shown::empty(),
    };
    home(&db, owner, query.as_deref(), Shown::empty(), transfer).await
}

async fn home(
    db: &Router,
    owner: OwnerId,
    query: Option<&str>,
    account: Shown,
    transfer: Shown,
) -> Result<Response, Problem> {
    let Some(known) = owners::get(db, owner).await.map_err(refuse::ledger)? else {
        // A token of a ledger that was forgotten.
        let mut page = html(&Welcome {
            form: Shown::empty(),
        });
        page.headers_mut().append(SET_COOKIE, FORGET);
        return Ok(page);
    };
    let page = accounts::list(db, owner, &paging(query, ROWS)).await;
    let Page { items, next_after } = page.map_err(refuse::ledger)?;
    let newer = first_of(query, "after").is_some();
    let all = items.len() > 1 && !newer && next_after.is_none();
    let total = all.then(|| {
        let cents = items.iter().map(|account| account.balance_cents.get());
        amount::shown(cents.sum())
    });
    Ok(html(&Home {
        name: known.name,
        total,
        newer,
        accounts: items.into_iter().map(Row::from).collect(),
        older: next_after,
        account,
        transfer,
    }))
}

/// `POST /owners`
pub(super) async fn new_owner(
    _: SameOrigin,
    State(state): State<AppState>,
    Db(db): Db,
    sent: Sent,
) -> Result<Response, Problem> {
    let sent = sent.has(&["name"])?;
    match make_owner(&state, &db, &sent).await {
        Ok(cookie) => {
            let mut response = see("/");
            response.headers_mut().append(SET_COOKIE, cookie);
            Ok(response)
        }
        Err(problem) => {
            let form = sent.again(&problem);
            Ok(refused(html(&Welcome { form }), problem))
        }
    }
}

async fn make_owner(
    state: &AppState,
    db: &Router,
    sent: &Sent,
) -> Result<http::HeaderValue, Problem> {
    let mut faults = Faults::default();
    let name = faults.take("name", Name::new(sent.get("name")));
    let name = faults.build(name)?;
    let owner = owners::create(db, &name).await.map_err(refuse::ledger)?;
    Ok(state.tokens.cookie(&state.tokens.issue(owner.id)))
}

/// `POST /accounts`
pub(super) async fn open_account(
    _: SameOrigin,
    visitor: Option<Visitor>,
    Db(db): Db,
    sent: Sent,
) -> Result<Response, Problem> {
    let Some(Visitor(owner)) = visitor else {
        return Ok(see("/"));
    };
    let sent = sent.has(&["name", "opening"])?;
    match make_account(&db, owner, &sent).await {
        Ok(account) => Ok(see(&format!("/accounts/{}", account.id))),
        Err(problem) => {
            let form = sent.again(&problem);
            let page = home(&db, owner, None, form, Shown::empty()).await?;
            Ok(refused(page, problem))
        }
    }
}

async fn make_account(db: &Router, owner: OwnerId, sent: &Sent) -> Result<Account, Problem> {
    let key = sent.key()?;
    let mut faults = Faults::default();
    let name = faults.take("name", Name::new(sent.get("name")));
    let opening = match sent.get("opening").trim() {
        "" => "0",
        typed => typed,
    };
    let opening_cents = faults.take("opening", opening_cents(opening));
    let request = name.zip(opening_cents);
    let (name, opening_cents) = faults.build(request)?;
    let request = OpenAccount {
        name,
        opening_cents,
    };
    let opened = accounts::open(db, owner, &key, &request).await;
    Ok(opened.map_err(refuse::ledger)?.answer)
}

/// `POST /transfers`
pub(super) async fn send_money(
    _: SameOrigin,
    visitor: Option<Visitor>,
    Db(db): Db,
    sent: Sent,
) -> Result<Response, Problem> {
    let Some(Visitor(owner)) = visitor else {
        return Ok(see("/"));
    };
    let sent = sent.has(&["from", "to", "amount", "memo"])?;
    match make_transfer(&db, owner, &sent).await {
        Ok(from) => Ok(see(&format!("/accounts/{from}"))),
        Err(problem) => {
            let form = sent.again(&problem);
            let page = home(&db, owner, None, Shown::empty(), form).await?;
            Ok(refused(page, problem))
        }
    }
}

async fn make_transfer(db: &Router, owner: OwnerId, sent: &Sent) -> Result<AccountId, Problem> {
    let key = sent.key()?;
    let mut faults = Faults::default();
    let from = faults.take("from", account_id(sent.get("from")));
    let to = faults.take("to", account_id(sent.get("to")));
    if from.is_some() && from == to {
        faults.take::<()>("to", Err(Invalid("must be another account")));
    }
    let amount_cents = faults.take("amount", amount_cents(sent.get("amount")));
    let memo = match sent.get("memo") {
        "" => Some(None),
        typed => faults.take("memo", Memo::new(typed)).map(Some),
    };
    let request = (|| {
        Some(MakeTransfer {
            from: from?,
            to: to?,
            amount_cents: amount_cents?,
            memo: memo?,
        })
    })();
    let request = faults.build(request)?;
    let sent = transfers::make(db, owner, &key, &request).await;
    Ok(sent.map_err(refusal)?.answer.from)
}

/// As the API refuses, with amounts as these pages write them.
fn refusal(error: LedgerError) -> Problem {
    match error {
        LedgerError::InsufficientFunds { balance, amount } => Problem::new(
            Kind::InsufficientFunds,
            format!(
                "the account holds {}, which is less than {}",
                amount::shown(balance.get()),
                amount::shown(amount.get())
            ),
        ),
        other => refuse::ledger(other),
    }
}

/// `POST /sign-out`
pub(super) async fn sign_out(_: SameOrigin) -> Response {
    let mut response = see("/");
    response.headers_mut().append(SET_COOKIE, FORGET);
    response
}

/// A form that is shown again.
fn refused(mut page: Response, problem: Problem) -> Response {
    *page.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    carry_retry_after(problem, &mut page);
    page
}

fn account_id(typed: &str) -> Result<AccountId, Invalid> {
    AccountId::parse(typed.trim()).ok_or(Invalid(
        "must be the id of an account, as its page shows it",
    ))
}

fn amount_cents(typed: &str) -> Result<Cents, Invalid> {
    let invalid = Invalid("must be an amount such as 12.34, from 0.01 to 10000000000");
    let cents = amount::read(typed).ok_or(invalid)?;
    Cents::amount(cents).map_err(|_| invalid)
}

fn opening_cents(typed: &str) -> Result<Cents, Invalid> {
    let invalid = Invalid("must be an amount such as 12.34, from 0 to 10000000000");
    let cents = amount::read(typed).ok_or(invalid)?;
    Cents::opening(cents).map_err(|_| invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_in_forms_have_the_bounds_of_the_interface() {
        assert!(amount_cents("0.01").is_ok());
        assert!(amount_cents("10000000000").is_ok());
        assert!(amount_cents("10000000000.01").is_err());
        assert!(amount_cents("0").is_err());
        assert!(opening_cents("0").is_ok());
        assert!(opening_cents("x").is_err());
    }

    #[test]
    fn a_page_shows_a_form_again_with_its_values_key_and_faults_as_text() {
        let page = Home {
            name: "Ada".to_owned(),
            accounts: vec![Row {
                id: "id-1".to_owned(),
                name: "<i>Current</i>".to_owned(),
                balance: "1.00".to_owned(),
            }],
            total: None,
            newer: false,
            older: None,
            account: Shown::empty(),
            transfer: Shown::empty()
                .with("from", "id-1")
                .with("memo", "\"><script>")
                .with("key", "key-1"),
        };
        let page = page.render().unwrap();
        assert!(page.contains("value=\"key-1\""), "{page}");
        assert!(page.contains("<option value=\"id-1\" selected>"), "{page}");
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<i>"), "{page}");
    }
}
