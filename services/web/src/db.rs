//! The database session of a request: it starts from the causal tokens that the caller sent, and what it did goes into the answer.
//!
//! A handler takes [`Db`]; [`per_request`] is the layer around it.

use std::{convert::Infallible, time::Instant};

use axum::{
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, SET_COOKIE},
    request::Parts,
};
use router::{Decision, Reason, Router};

use crate::{making::Making, state::AppState};

/// The header that carries a causal token; the cookie has the same name.
const CAUSAL_TOKEN: HeaderName = HeaderName::from_static("causal-token");

/// Where statements went and why: an RFC 9651 list in order of use.
const X_DB: HeaderName = HeaderName::from_static("x-db");

/// The database, bound to this request's session.
#[derive(Debug, Clone)]
pub struct Db(pub Router);

impl FromRequestParts<AppState> for Db {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let making = parts.extensions.get::<Making>().cloned();
        let making = making.unwrap_or_default();
        let session = making.session(|| {
            let begun = Instant::now();
            let token = token(&state.router, &parts.headers);
            let session = state.router.session(token);
            if token.is_some() {
                making.note("read the causal token", begun);
            }
            session
        });
        Ok(Self(session))
    }
}

/// Adds to an answer what its session did: `x-db`, and after a write the causal token as header and cookie.
pub async fn per_request(mut request: Request, next: Next) -> Response {
    let making = request.extensions_mut().get_or_insert_default::<Making>();
    let making = making.clone();
    let mut response = next.run(request).await;
    if let Some(session) = making.session_if_any() {
        let begun = Instant::now();
        if tell(session, response.headers_mut()).await {
            making.note("make a causal token", begun);
        }
    }
    response
}

/// Whether there was a write to prove.
async fn tell(session: &Router, headers: &mut HeaderMap) -> bool {
    if let Some(list) = x_db(&session.decisions()) {
        headers.insert(X_DB, list);
    }
    match session.causal_token().await {
        Ok(Some(token)) => carry(&token, headers),
        Ok(None) => return false,
        // The write is acknowledged, so the answer stands; who made it may not see it for as long as `max_lag`.
        Err(error) => tracing::warn!(%error, "a write was answered without a causal token"),
    }
    true
}

/// The newer of the tokens in the header and in the cookie.
fn token<'a>(router: &Router, headers: &'a HeaderMap) -> Option<&'a str> {
    let header = headers
        .get(CAUSAL_TOKEN)
        .and_then(|value| value.to_str().ok());
    match (header, cookie(headers)) {
        (Some(header), Some(cookie)) => Some(router.newer(header, cookie)),
        (header, cookie) => header.or(cookie),
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers
        .get_all(COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == CAUSAL_TOKEN.as_str())
        .map(|(_, token)| token)
}

fn carry(token: &str, headers: &mut HeaderMap) {
    let cookie = format!("{CAUSAL_TOKEN}={token}; Path=/; Secure; HttpOnly; SameSite=Lax");
    let (Ok(token), Ok(cookie)) = (HeaderValue::from_str(token), HeaderValue::from_str(&cookie))
    else {
        return;
    };
    headers.insert(CAUSAL_TOKEN, token);
    headers.append(SET_COOKIE, cookie);
}

/// `replica;reason=fresh, primary;reason=write`; nothing where nothing was asked of the database.
fn x_db(decisions: &[Decision]) -> Option<HeaderValue> {
    let items: Vec<_> = decisions
        .iter()
        .map(|Decision { target, reason, .. }| match reason {
            // Only writes are transactions here: reads that belong together are one statement.
            Reason::Transaction => format!("{target};reason={}", Reason::Write),
            reason => format!("{target};reason={reason}"),
        })
        .collect();
    HeaderValue::from_str(&items.join(", "))
        .ok()
        .filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use router::Target;

    use super::*;

    #[test]
    fn every_decision_is_an_item_of_a_structured_list() {
        let decisions: Vec<_> = Target::ALL
            .into_iter()
            .flat_map(|target| Reason::ALL.map(|reason| (target, reason)))
            .map(|(target, reason)| Decision {
                target,
                server: "mysql-1".into(),
                reason,
                epoch: 1,
                lag: None,
            })
            .collect();
        let list = x_db(&decisions).unwrap();
        let parsed: sfv::List = sfv::Parser::new(list.as_bytes()).parse().unwrap();
        assert_eq!(parsed.len(), decisions.len());
        assert_eq!(x_db(&decisions[..1]).unwrap(), "primary;reason=fresh");
        assert_eq!(x_db(&[]), None);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers), None);
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=causal-token; xcausal-token=1"),
        );
        headers.append(
            COOKIE,
            HeaderValue::from_static("b=2; causal-token=1.2.x=y ;c"),
        );
        assert_eq!(cookie(&headers), Some("1.2.x=y"));
    }

    #[test]
    fn a_token_is_carried_by_header_and_cookie() {
        let mut headers = HeaderMap::new();
        carry("1.2.a.b", &mut headers);
        assert_eq!(headers["causal-token"], "1.2.a.b");
        let cookie = "causal-token=1.2.a.b; Path=/; Secure; HttpOnly; SameSite=Lax";
        assert_eq!(headers["set-cookie"], cookie);
    }
}
