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
pub(crate) mod path;
mod query;
pub(crate) mod refuse;
pub(crate) mod request;
mod transfers;

use axum::{
    middleware,
    routing::{get, post},
};

use crate::{db, routes::Routes};

/// A path of the API, and the methods that it has.
pub(crate) type Path = (&'static str, &'static str);

const OWNERS: Path = ("/api/owners", "POST, OPTIONS");
const ACCOUNTS: Path = ("/api/accounts", "GET, HEAD, POST, OPTIONS");
const ACCOUNT: Path = ("/api/accounts/{id}", "GET, HEAD, OPTIONS");
const TRANSFERS: Path = ("/api/transfers", "GET, HEAD, POST, OPTIONS");
const TRANSFER: Path = ("/api/transfers/{id}", "GET, HEAD, OPTIONS");

/// All of them; `openapi.rs` describes each.
#[cfg(test)]
pub(crate) const PATHS: [Path; 5] = [OWNERS, ACCOUNTS, ACCOUNT, TRANSFERS, TRANSFER];

/// Every call of the API, and nothing for other paths.
pub fn routes() -> Routes {
    let calls = [
        (OWNERS, post(owners::create)),
        (ACCOUNTS, get(accounts::list).post(accounts::open)),
        (ACCOUNT, get(accounts::get)),
        (TRANSFERS, get(transfers::list).post(transfers::make)),
        (TRANSFER, get(transfers::get)),
    ];
    calls
        .into_iter()
        .fold(Routes::new(), |routes, ((path, allow), methods)| {
            routes.route(path, allow, methods)
        })
        .around(|router| router.layer(middleware::from_fn(db::per_request)))
}
