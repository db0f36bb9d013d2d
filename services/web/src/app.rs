//! Every route of the web server, and the layers around them.
//!
//! From outside in: [`crate::request`] (trace, bounds, log, problem documents), a net under panics, then the route.

use axum::{Router, middleware, response::IntoResponse};
use http::Uri;
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use crate::{
    api, health, openapi, pages,
    problem::{Kind, Problem},
    request::{self, NO_ROUTE},
    routes::Routes,
    state::AppState,
};

/// All routes.
fn all() -> Routes {
    Routes::new()
        .merge(api::routes())
        .merge(openapi::routes())
        .merge(pages::routes())
        .merge(health::routes())
}

/// All routes, with what is around them; each of them is in the metrics from now on.
pub fn routes(state: AppState) -> Router {
    let panics = state.metrics.panics.clone();
    let routes = all();
    for route in routes.patterns().iter().chain([&NO_ROUTE]) {
        state.metrics.has_route(route);
    }
    routes
        .into_router()
        .fallback(nothing_here)
        .layer(CatchPanicLayer::custom(Panicked(panics)))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            request::around,
        ))
        .with_state(state)
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("nothing is at {}", uri.path()))
}

/// A handler that panics costs its own request a 500, and nobody else's.
#[derive(Clone)]
struct Panicked(prometheus::IntCounter);

impl ResponseForPanic for Panicked {
    type ResponseBody = axum::body::Body;

    fn response_for_panic(
        &mut self,
        panic: Box<dyn std::any::Any + Send + 'static>,
    ) -> http::Response<Self::ResponseBody> {
        self.0.inc();
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        tracing::error!(
            panic = words.unwrap_or("without words"),
            "a handler panicked"
        );
        Problem::internal().into_response()
    }
}
