//! `/api/accounts`.

use axum::{Json, response::Response};

use super::{
    answer::created,
    fields::{integer, text},
    path::Id,
    refuse,
    request::{JsonBody, Key, NoQuery, Query, TakesJson},
};
use crate::{
    auth::Caller,
    db::Db,
    ledger::{Account, AccountId, Cents, Name, OpenAccount, Page, accounts},
    problem::Problem,
};

/// `POST /api/accounts`
pub(super) async fn open(
    Caller(owner): Caller,
    _: TakesJson,
    _: NoQuery,
    Key(key): Key,
    Db(db): Db,
    JsonBody(mut fields): JsonBody,
) -> Result<Response, Problem> {
    let name = fields.required("name", |value| Name::new(text(value)?));
    let opening_cents = fields.required("opening_cents", |value| Cents::opening(integer(value)?));
    let request = fields.build(|| {
        Some(OpenAccount {
            name: name?,
            opening_cents: opening_cents?,
        })
    });
    let request = request.map_err(refuse::bad_fields)?;
    let opened = accounts::open(&db, owner, &key, &request)
        .await
        .map_err(refuse::ledger)?;
    let location = format!("/api/accounts/{}", opened.answer.id);
    Ok(created(&location, opened))
}

/// `GET /api/accounts`
pub(super) async fn list(
    Caller(owner): Caller,
    _: TakesJson,
    Query(mut parameters): Query,
    Db(db): Db,
) -> Result<Json<Page<Account>>, Problem> {
    let paging = parameters.paging();
    let paging = parameters.build(|| paging).map_err(refuse::bad_query)?;
    let page = accounts::list(&db, owner, &paging).await;
    page.map(Json).map_err(refuse::ledger)
}

/// `GET /api/accounts/{id}`
pub(super) async fn get(
    Caller(owner): Caller,
    _: TakesJson,
    _: NoQuery,
    Id(id): Id<AccountId>,
    Db(db): Db,
) -> Result<Json<Account>, Problem> {
    let account = accounts::get(&db, owner, id).await;
    let account = account.map_err(refuse::ledger)?;
    account.map(Json).ok_or_else(refuse::not_found)
}
