//! `/api/owners`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    fields::text,
    refuse,
    request::{JsonBody, NoQuery, TakesJson},
};
use crate::{
    db::Db,
    ledger::{Name, OwnerId, owners},
    problem::Problem,
    state::AppState,
};

/// A new owner, and what it calls with.
#[derive(Serialize)]
struct NewOwner {
    id: OwnerId,
    name: String,
    token: String,
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// `POST /api/owners`
pub(super) async fn create(
    State(state): State<AppState>,
    _: TakesJson,
    _: NoQuery,
    Db(db): Db,
    JsonBody(mut fields): JsonBody,
) -> Result<Response, Problem> {
    let name = fields.required("name", |value| Name::new(text(value)?));
    let name = fields.build(|| name).map_err(refuse::bad_fields)?;
    let owner = owners::create(&db, &name).await.map_err(refuse::ledger)?;
    let token = state.tokens.issue(owner.id);
    let owner = NewOwner {
        id: owner.id,
        name: owner.name,
        token: token.text,
        expires_at: token.expires_at,
    };
    Ok((StatusCode::CREATED, Json(owner)).into_response())
}
