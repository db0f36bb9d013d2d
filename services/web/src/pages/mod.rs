//! The pages: rendered here, plain HTML and one style sheet, everything by links and forms. They need no script, and the policy that
//! every page carries lets none run.
//!
//! They are a second way to the same [`crate::ledger`] as the API, with the same rules and the same idempotency keys, which travel in
//! hidden fields. Who is looking is told by a cookie (`auth.rs`).

mod account;
mod amount;
mod assets;
mod form;
mod home;
mod palette;
pub(crate) mod panel;
mod picture;
mod problems;
mod same_origin;
mod status;

use askama::Template;
use axum::{
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};

use self::panel::Draft;
use crate::{
    db,
    problem::{FieldError, Problem},
    routes::Routes,
};

/// What a page may load and where its forms may go: our style sheet and icon, and here.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// What else browsers are told: no other site's window, page or document has a part in ours, and no page of ours wants a device.
const APART: [(HeaderName, HeaderValue); 4] = [
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        HeaderValue::from_static("require-corp"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ),
];

/// Every page, form target and static file.
pub fn routes() -> Routes {
    const READ: &str = "GET, HEAD, OPTIONS";
    const SENT: &str = "POST, OPTIONS";
    Routes::new()
        .route("/", READ, get(home::show))
        .route("/owners", SENT, post(home::new_owner))
        .route("/accounts", SENT, post(home::open_account))
        .route("/transfers", SENT, post(home::send_money))
        .route("/sign-out", SENT, post(home::sign_out))
        .route("/accounts/{id}", READ, get(account::show))
        .route("/status", READ, get(status::show))
        .around(|router| router.layer(middleware::from_fn(db::per_request)))
        .route("/problems", READ, get(problems::list))
        .route("/problems/{slug}", READ, get(problems::show))
        .around(|router| router.layer(middleware::from_fn(guarded)))
        .route("/static/{name}", READ, get(assets::show))
}

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    security_headers(response.headers_mut());
    response
}

/// What browsers are told about every page, errors included.
pub fn security_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.extend(APART);
}

/// The page that tells a person of a problem.
#[must_use]
pub(crate) fn error_page(problem: &Problem, trace_id: &str) -> Draft {
    let entry = problem.kind().entry();
    let page = ErrorPage {
        status: entry.status.as_u16(),
        title: entry.title,
        detail: problem.detail(),
        cure: entry.cure,
        errors: problem.field_errors(),
        explained: problem.kind().path(),
        trace_id,
    };
    Draft::of(&page)
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: u16,
    title: &'a str,
    detail: &'a str,
    cure: &'a str,
    errors: &'a [FieldError],
    explained: String,
    trace_id: &'a str,
}

/// A page as an answer.
fn html(page: &impl Template) -> Response {
    Draft::of(page).into_response()
}

/// 303: what was sent is done, and this is where to look now.
fn see(path: &str) -> Response {
    Redirect::to(path).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;

    #[test]
    fn an_error_page_names_fields_and_trace_and_lets_no_markup_through() {
        let problem = Problem::new(Kind::NotFound, "nothing is at /<script>alert(1)</script>")
            .errors([FieldError {
                pointer: "/name".to_owned(),
                detail: "is <b>bad</b>".to_owned(),
            }]);
        let page = error_page(&problem, "0af7651916cd43dd8448eb211c80319c");
        let page = page.html();
        assert!(page.contains("0af7651916cd43dd8448eb211c80319c"), "{page}");
        assert!(page.contains("/problems/not-found"), "{page}");
        assert!(page.contains("/name"), "{page}");
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<b>"), "{page}");
    }
}
