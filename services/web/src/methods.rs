//! What a route answers to methods that it does not have.

use axum::{
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use http::{HeaderValue, Method, StatusCode, header::ALLOW};

use crate::{
    problem::{Kind, Problem},
    state::AppState,
};

/// These methods, 204 to `OPTIONS`, and 405 to all others; both say which are allowed.
pub fn only(allow: &'static str, methods: MethodRouter<AppState>) -> MethodRouter<AppState> {
    methods.fallback(move |method: Method| async move {
        let mut response: Response = if method == Method::OPTIONS {
            StatusCode::NO_CONTENT.into_response()
        } else {
            let detail = format!("{method} is not among the methods that Allow names");
            Problem::new(Kind::MethodNotAllowed, detail).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(allow));
        response
    })
}
