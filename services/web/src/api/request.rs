//! What every call asks of a request before it looks at what the request says, each as an extractor.
//!
//! The order of a handler's arguments is the order of the checks: who calls, what may be answered, what was sent.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request},
};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
    request::Parts,
};
use http_body_util::BodyExt;

use super::{accept, fields::Fields, json, query::Parameters, refuse};
use crate::{ledger::IdempotencyKey, problem::Problem, state::AppState};

/// The largest body, in bytes.
pub(super) const BODY_MAX: usize = 16 * 1024;

/// How much of a body that is too large is read on and thrown away after the answer, so that the client, which is still sending, comes
/// to read it; and for how long.
const DRAIN_MAX: usize = 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How long a body may take to come.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);

/// The caller takes JSON.
pub(super) struct TakesJson;

impl FromRequestParts<AppState> for TakesJson {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        if accept::takes_json(&parts.headers) {
            Ok(Self)
        } else {
            Err(refuse::not_acceptable())
        }
    }
}

/// The query's parameters.
pub(super) struct Query(pub(super) Parameters);

impl FromRequestParts<AppState> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Ok(Self(Parameters::of(parts.uri.query())))
    }
}

/// A query without parameters, for calls that know none.
pub(super) struct NoQuery;

impl FromRequestParts<AppState> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        Parameters::of(parts.uri.query())
            .build(|| Some(Self))
            .map_err(refuse::bad_query)
    }
}

/// The request's idempotency key.
pub(super) struct Key(pub(super) IdempotencyKey);

impl FromRequestParts<AppState> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        key(&parts.headers).map(Self).map_err(refuse::bad_key)
    }
}

fn key(headers: &HeaderMap) -> Result<IdempotencyKey, &'static str> {
    let mut values = headers.get_all("idempotency-key").iter();
    let value = values
        .next()
        .ok_or("this call needs an Idempotency-Key header")?;
    if values.next().is_some() {
        return Err("the Idempotency-Key header comes more than once");
    }
    IdempotencyKey::new(value.as_bytes())
        .map_err(|_| "an Idempotency-Key is 1 to 255 visible ASCII characters")
}

/// The fields of the request's body: a JSON object of at most [`BODY_MAX`] bytes. Takes the body, so it comes last.
pub(super) struct JsonBody(pub(super) Fields);

impl FromRequest<AppState> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(refuse::not_json());
        }
        let bytes = read_body(&parts.headers, body).await?;
        let value = json::read(&bytes).map_err(refuse::bad_json)?;
        Fields::of(value)
            .map(Self)
            .map_err(|fault| refuse::bad_fields(vec![fault]))
    }
}

/// A body of at most [`BODY_MAX`] bytes, within [`BODY_TIME`].
pub(crate) async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if declared_length(headers).is_some_and(|length| length > BODY_MAX as u64) {
        // Who asks first whether to send is not sending.
        if !headers.contains_key(EXPECT) {
            drain(body);
        }
        return Err(refuse::too_large());
    }
    let read = tokio::time::timeout(BODY_TIME, read_to_limit(body));
    read.await.map_err(|_| refuse::late_body())?
}

/// `application/json`, in UTF-8 if it says what in, and not encoded further.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else {
        return false;
    };
    let mut parts = content_type.to_str().unwrap_or_default().split(';');
    let json = parts
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    json && utf8 && !headers.contains_key(CONTENT_ENCODING)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_to_limit(mut body: Body) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| refuse::broken_body())?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > BODY_MAX {
            drain(body);
            return Err(refuse::too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.into())
}

/// Reads on in the background and throws away what comes, within bounds.
fn drain(mut body: Body) {
    tokio::spawn(tokio::time::timeout(DRAIN_TIME, async move {
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > DRAIN_MAX {
                break;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_body_is_json_by_its_headers() {
        for (content_type, json) in [
            ("application/json", true),
            ("Application/JSON", true),
            ("application/json; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/jsonp", false),
            ("application/problem+json", false),
            ("text/json", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            let headers = headers(&[(CONTENT_TYPE, content_type)]);
            assert_eq!(is_json(&headers), json, "{content_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let twice = [
            (CONTENT_TYPE, "application/json"),
            (CONTENT_TYPE, "application/json"),
        ];
        assert!(!is_json(&headers(&twice)));
        let encoded = [
            (CONTENT_TYPE, "application/json"),
            (CONTENT_ENCODING, "gzip"),
        ];
        assert!(!is_json(&headers(&encoded)));
    }

    #[test]
    fn a_key_comes_once_and_is_visible_ascii() {
        let name = HeaderName::from_static("idempotency-key");
        assert!(key(&HeaderMap::new()).is_err());
        assert!(key(&headers(&[(name.clone(), "a"), (name.clone(), "a")])).is_err());
        assert!(key(&headers(&[(name.clone(), "a b")])).is_err());
        assert!(key(&headers(&[(name.clone(), "")])).is_err());
        let quoted = key(&headers(&[(name, "\"k-1\"")])).unwrap();
        assert_eq!(quoted.as_str(), "\"k-1\"", "kept byte for byte");
    }
}
