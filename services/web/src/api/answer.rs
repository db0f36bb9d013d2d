//! What a successful call answers with.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header::LOCATION};
use serde::Serialize;

use crate::ledger::Outcome;

/// Says that the 201 is one that was given before.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// 201, with where to find what was made.
pub(super) fn created<T: Serialize>(location: &str, outcome: Outcome<T>) -> Response {
    let mut response = (StatusCode::CREATED, Json(outcome.answer)).into_response();
    let headers = response.headers_mut();
    let location = HeaderValue::from_str(location).expect("a path of ids is visible ASCII");
    headers.insert(LOCATION, location);
    if outcome.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
