//! Routes that are known by name: adding one to a router is also how it gets onto the list of them, so that metrics have every route from the
//! start.

use axum::{Router, routing::MethodRouter};

use crate::{methods::only, state::AppState};

/// Routes, and the patterns of their paths.
#[derive(Debug, Default)]
pub struct Routes {
    router: Router<AppState>,
    patterns: Vec<&'static str>,
}

impl Routes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more: the pattern of its path, what `Allow` says of it, and its methods.
    #[must_use]
    pub fn route(
        mut self,
        pattern: &'static str,
        allow: &'static str,
        methods: MethodRouter<AppState>,
    ) -> Self {
        self.patterns.push(pattern);
        self.around(|router| router.route(pattern, only(allow, methods)))
    }

    /// With something around all that are there so far.
    #[must_use]
    pub fn around(mut self, layers: impl FnOnce(Router<AppState>) -> Router<AppState>) -> Self {
        self.router = layers(self.router);
        self
    }

    /// With all of these too.
    #[must_use]
    pub fn merge(mut self, others: Self) -> Self {
        self.patterns.extend(others.patterns);
        self.around(|router| router.merge(others.router))
    }

    /// The patterns of all of them.
    #[must_use]
    pub fn patterns(&self) -> &[&'static str] {
        &self.patterns
    }

    /// To be served.
    pub fn into_router(self) -> Router<AppState> {
        self.router
    }
}
