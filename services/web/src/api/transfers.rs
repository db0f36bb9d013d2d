//! `/api/transfers`.

use axum::{Json, response::Response};

use super::{
    answer::created,
    fields::{Fault, Fields, integer, text},
    json::Value,
    path::Id,
    query, refuse,
    request::{JsonBody, Key, NoQuery, Query, TakesJson},
};
use crate::{
    auth::Caller,
    db::Db,
    ledger::{
        AccountId, Cents, Invalid, MakeTransfer, Memo, Page, Transfer, TransferId, transfers,
    },
    problem::Problem,
};

/// `POST /api/transfers`
pub(super) async fn make(
    Caller(owner): Caller,
    _: TakesJson,
    _: NoQuery,
    Key(key): Key,
    Db(db): Db,
    JsonBody(fields): JsonBody,
) -> Result<Response, Problem> {
    let request = request(fields).map_err(refuse::bad_fields)?;
    let made = transfers::make(&db, owner, &key, &request)
        .await
        .map_err(refuse::ledger)?;
    let location = format!("/api/transfers/{}", made.answer.id);
    Ok(created(&location, made))
}

/// What the body's fields ask for.
fn request(mut fields: Fields) -> Result<MakeTransfer, Vec<Fault>> {
    let from = fields.required("from", account);
    let to = fields.required("to", account);
    let amount_cents = fields.required("amount_cents", |value| Cents::amount(integer(value)?));
    let memo = fields.optional("memo", |value| Memo::new(text(value)?));
    if from.is_some() && from == to {
        fields.fault("to", "must be another account than `from`");
    }
    fields.build(|| {
        Some(MakeTransfer {
            from: from?,
            to: to?,
            amount_cents: amount_cents?,
            memo,
        })
    })
}

/// A field's value as the id of an account.
fn account(value: Value) -> Result<AccountId, Invalid> {
    AccountId::parse(&text(value)?).ok_or(Invalid("must be a UUIDv7 in lower case"))
}

/// `GET /api/transfers`
pub(super) async fn list(
    Caller(owner): Caller,
    _: TakesJson,
    Query(mut parameters): Query,
    Db(db): Db,
) -> Result<Json<Page<Transfer>>, Problem> {
    let account = parameters.required("account", query::account);
    let paging = parameters.paging();
    let (account, paging) = parameters
        .build(|| account.zip(paging))
        .map_err(refuse::bad_query)?;
    let page = transfers::list(&db, owner, account, &paging).await;
    page.map(Json).map_err(refuse::ledger)
}

/// `GET /api/transfers/{id}`
pub(super) async fn get(
    Caller(owner): Caller,
    _: TakesJson,
    _: NoQuery,
    Id(id): Id<TransferId>,
    Db(db): Db,
) -> Result<Json<Transfer>, Problem> {
    let transfer = transfers::get(&db, owner, id).await;
    let transfer = transfer.map_err(refuse::ledger)?;
    transfer.map(Json).ok_or_else(refuse::not_found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::json;

    /// A string in JSON, in one of the many ways that it can be written.
    fn written(text: &str, ways: &[u8]) -> String {
        let mut json = String::from('"');
        for (character, way) in text.chars().zip(ways.iter().cycle()) {
            match way % 3 {
                0 if !"\"\\".contains(character) => json.push(character),
                1 => json += serde_json::to_string(&character).unwrap().trim_matches('"'),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        json += &format!("\\u{unit:04x}");
                    }
                }
            }
        }
        json + "\""
    }

    proptest! {
        #[test]
        fn the_same_values_are_the_same_request_however_they_are_written(
            cents in 1..=1_000_000_000_000_i64,
            memo in proptest::option::of("[a-z/é💶 ~]{0,20}"),
            order in Just([0, 1, 2, 3]).prop_shuffle(),
            ways in proptest::collection::vec(any::<u8>(), 1..8),
            spaces in "[ \t\r\n]{0,3}",
        ) {
            let (from, to) = (AccountId::new(), AccountId::new());
            let memo_json = memo.as_ref().map(|memo| written(memo, &ways));
            let fields = [
                Some((r#""from""#, format!("\"{from}\""))),
                Some((r#""to""#, written(&to.to_string(), &ways))),
                Some((r#""amount\u005fcents""#, cents.to_string())),
                // No memo and null are the same.
                memo_json.or((ways[0] % 2 == 0).then(|| "null".to_owned())).map(|json| (r#""memo""#, json)),
            ];
            let members: Vec<_> = order
                .iter()
                .filter_map(|index| fields[*index].as_ref())
                .map(|(name, value)| format!("{spaces}{name}{spaces}:{spaces}{value}{spaces}"))
                .collect();
            let body = format!("{spaces}{{{}}}{spaces}", members.join(","));

            let read = request(Fields::of(json::read(body.as_bytes()).unwrap()).unwrap());
            let meant = MakeTransfer {
                from,
                to,
                amount_cents: Cents::amount(cents).unwrap(),
                memo: memo.map(|memo| Memo::new(memo).unwrap()),
            };
            prop_assert_eq!(read, Ok(meant), "{}", body);
        }
    }
}
