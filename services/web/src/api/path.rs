//! Ids in paths: what is none is not there.

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use super::refuse;
use crate::{
    ledger::{AccountId, TransferId},
    problem::Problem,
    state::AppState,
};

/// The id in a path that ends in `{id}`.
pub(crate) struct Id<T>(pub(crate) T);

/// What can be read from a path.
pub(crate) trait PathId: Sized {
    fn parse(text: &str) -> Option<Self>;
}

impl PathId for AccountId {
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl PathId for TransferId {
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

impl<T: PathId> FromRequestParts<AppState> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let segments = RawPathParams::from_request_parts(parts, state).await;
        let segments = segments.map_err(|_| refuse::not_found())?;
        let mut ids = segments.iter().filter(|(name, _)| *name == "id");
        ids.next()
            .and_then(|(_, text)| T::parse(text))
            .map(Self)
            .ok_or_else(refuse::not_found)
    }
}
