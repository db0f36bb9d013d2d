//! The JSON API of the ledger: what comes over HTTP is read strictly, handed to [`crate::ledger`], and answered.
//!
//! Checks run in one order for every call: route and method, who calls, what may be answered, the query, the key, the body's headers, its
//! size, its syntax, its fields. The first that fails answers, and nothing is written.

mod accept;
mod accounts;
mod answer;
mod fields;
mod json;
mod owners;
mod path;
mod query;
mod refuse;
mod request;
mod transfers;

use axum::{
    Router, middleware,
    routing::{get, post},
};

use crate::{db, methods::only, state::AppState};

/// Every call of the API, and nothing for other paths.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/owners", only("POST, OPTIONS", post(owners::create)))
        .route(
            "/api/accounts",
            only(
                "GET, HEAD, POST, OPTIONS",
                get(accounts::list).post(accounts::open),
            ),
        )
        .route(
            "/api/accounts/{id}",
            only("GET, HEAD, OPTIONS", get(accounts::get)),
        )
        .route(
            "/api/transfers",
            only(
                "GET, HEAD, POST, OPTIONS",
                get(transfers::list).post(transfers::make),
            ),
        )
        .route(
            "/api/transfers/{id}",
            only("GET, HEAD, OPTIONS", get(transfers::get)),
        )
        .layer(middleware::from_fn(db::per_request))
}
