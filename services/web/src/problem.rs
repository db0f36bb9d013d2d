//! Problem documents (RFC 9457): what every refusal and failure answers with.
//!
//! A handler returns a [`Problem`]; the layer around all handlers ([`crate::request`]) knows the trace and whether the caller reads pages
//! or JSON, and writes the body. The catalogue of kinds is here, and `GET` of a kind's path is a page that explains it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

/// The media type of a problem document.
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A refusal or a failure, told to whoever called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
}

/// A field or parameter at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Which: an RFC 6901 pointer into the body, or a query's parameter after a `/`.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// A problem of a kind, with what is wrong this time.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// 500. What happened is for the log, not for the caller.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Kind::Internal,
            "the fault is logged under the trace that is named here",
        )
    }

    /// With the fields at fault.
    #[must_use]
    pub fn errors(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.errors.extend(errors);
        self
    }

    /// With the time after which it makes sense to try again; told in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is wrong this time.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields at fault.
    #[must_use]
    pub fn field_errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The document, for a request in this trace.
    #[must_use]
    pub fn document(&self, trace_id: &str) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'static str,
            status: u16,
            detail: &'a str,
            trace_id: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
        }
        let document = Document {
            r#type: self.kind.path(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            trace_id,
            errors: &self.errors,
        };
        serde_json::to_string(&document).expect("text and numbers are always JSON")
    }
}

impl IntoResponse for Problem {
    /// Status and headers; the body is written where the trace is known, from the extension that stays here.
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $status:ident $slug:literal $title:literal $meaning:literal $cure:literal)*) => {
        /// Every kind of problem that this program answers with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What the catalogue says of it.
            #[must_use]
            pub fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$name => &Entry {
                        slug: $slug, status: StatusCode::$status, title: $title, meaning: $meaning, cure: $cure, edge: false,
                    },)*
                }
            }
        }
    };
}

kinds! {
    /// 400: the body broke off, or is no JSON.
    MalformedBody BAD_REQUEST "malformed-body" "The body cannot be read"
        "The request's body is not JSON in UTF-8 with one meaning: its syntax is wrong, a name comes twice in one object, it is nested too deeply, or it did not come to its end."
        "Send one JSON object, encoded in UTF-8. Where a name comes twice, the error's pointer says which."
    /// 400: no `Idempotency-Key`, several, or a bad one.
    IdempotencyKey BAD_REQUEST "idempotency-key" "The idempotency key is missing or malformed"
        "A request that moves money has to carry exactly one Idempotency-Key header of 1 to 255 visible ASCII characters, so that it can be sent again without doing it twice."
        "Make a new random key, such as a UUID, for each change, and use the same one when the same change is tried again."
    /// 400: unknown, repeated or bad parameters.
    InvalidQuery BAD_REQUEST "invalid-query" "The query is not valid"
        "A parameter of the query is unknown, repeated, missing, or has a value that it cannot have."
        "Each entry of `errors` names a parameter after a slash, and says what is wrong with it. A cursor is good for the list that it came from alone."
    /// 401: no token, or none that is good.
    Unauthorized UNAUTHORIZED "unauthorized" "A token is needed"
        "The call needs a token that says which owner is calling. None came, or the one that came has expired or was not made here."
        "Make an owner with POST /api/owners, and send its token as `Authorization: Bearer TOKEN`."
    /// 403: a form of another site.
    CrossSite FORBIDDEN "cross-site" "The form was sent by another site"
        "A page of another site tried to change something here with your browser's cookies. Nothing was changed."
        "Open the page here and send the form from it."
    /// 404: not there, or another owner's.
    NotFound NOT_FOUND "not-found" "There is nothing here"
        "The path leads nowhere, or to something that belongs to another owner: the two look the same from outside."
        "Check the address, and whether the token is that of the owner whom the thing belongs to."
    /// 405, with `Allow`.
    MethodNotAllowed METHOD_NOT_ALLOWED "method-not-allowed" "The method is not allowed"
        "The path is there, but not for this method."
        "The Allow header names the methods that it has."
    /// 406: what is answered here is not among what the caller takes.
    NotAcceptable NOT_ACCEPTABLE "not-acceptable" "Nothing acceptable can be answered"
        "The Accept header leaves out the only media type that is answered here."
        "Accept application/json."
    /// 408: the body did not come in time.
    RequestTimeout REQUEST_TIMEOUT "request-timeout" "The request took too long to arrive"
        "The request was begun, and its end did not come in time. Nothing was changed."
        "Send it again."
    /// 409: the account holds less than should leave it.
    InsufficientFunds CONFLICT "insufficient-funds" "The account does not hold enough"
        "The transfer would take the balance of the account below zero. Nothing was moved."
        "Send less, or wait until more has come in. The same key may be used again, for a refusal is not remembered."
    /// 409: the receiving account would hold too much.
    BalanceTooLarge CONFLICT "balance-too-large" "The receiving account would hold too much"
        "The transfer would take the balance of the receiving account above 2^53 - 1 cents, the largest integer that every JSON reader gets right. Nothing was moved."
        "Send less, or to another account."
    /// 413: more than 16 KiB.
    TooLarge PAYLOAD_TOO_LARGE "content-too-large" "The content is too large"
        "The body is larger than is taken here."
        "Send at most 16 KiB."
    /// 415: not JSON, or with a content encoding.
    UnsupportedMediaType UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The body is of a type that is not taken"
        "The Content-Type is not the one that is taken here, or the body has a content encoding."
        "Send calls of the API as application/json in UTF-8, and forms as application/x-www-form-urlencoded; neither compressed."
    /// 422: fields of the body are at fault.
    InvalidFields UNPROCESSABLE_ENTITY "invalid-fields" "Fields of the body are not valid"
        "The body can be read, but it is no object, lacks a field, has one that is unknown, or one whose value cannot be what it should be. Nothing was changed."
        "Each entry of `errors` points at a field (RFC 6901), and says what is wrong with it."
    /// 422: the key belongs to a request with other values.
    KeyReused UNPROCESSABLE_ENTITY "key-reused" "The idempotency key was used for another request"
        "Within the last 24 hours this key came with a request of other values. Nothing was changed by this one."
        "Use a new key for a new change."
    /// 500: a fault of ours.
    Internal INTERNAL_SERVER_ERROR "internal" "The server failed"
        "Something went wrong that should not have. It is logged under the trace that the document names."
        "Report the trace id. Where the request carried an idempotency key, it may be sent again with it."
    /// 503: sent, and nobody knows whether it was done.
    OutcomeUnknown SERVICE_UNAVAILABLE "outcome-unknown" "Whether the change was made is not known"
        "The database did not acknowledge the change in time. It may have been made, and may still be: a change counts once two database servers hold it, and one of them is away."
        "Send the same request with the same Idempotency-Key again, after the time that Retry-After names: it tells what became of the change, and makes it at most once."
    /// 503: nothing was done, for something is away.
    Unavailable SERVICE_UNAVAILABLE "unavailable" "The database is not available"
        "The database server that the request needs is away or has no room. Nothing was changed. `detail` says which."
        "Try again after the time that Retry-After names."
}

impl Kind {
    /// The status that it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.entry().status
    }

    /// What is always the same about it, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// The path that is its type's URI.
    #[must_use]
    pub fn path(self) -> String {
        format!("/problems/{}", self.entry().slug)
    }
}

/// What the page of a kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The last part of its type's path.
    pub slug: &'static str,
    /// The status that it is answered with.
    pub status: StatusCode,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// What to do.
    pub cure: &'static str,
    /// The balancer answers it too, or it alone.
    pub edge: bool,
}

const fn of_the_edge(
    slug: &'static str,
    status: StatusCode,
    title: &'static str,
    meaning: &'static str,
    cure: &'static str,
) -> Entry {
    Entry {
        slug,
        status,
        title,
        meaning,
        cure,
        edge: true,
    }
}

/// What the balancer alone answers: its documents name paths that come here.
const EDGE: &[Entry] = &[
    of_the_edge(
        "bad-request",
        StatusCode::BAD_REQUEST,
        "The request is malformed",
        "The head of the request, or the framing of its body, breaks a rule of HTTP. It was not passed on.",
        "Use an HTTP client that follows RFC 9110 and RFC 9112.",
    ),
    of_the_edge(
        "uri-too-long",
        StatusCode::URI_TOO_LONG,
        "The target is too long",
        "The target of the request is longer than is taken here. It was not passed on.",
        "Put what is long into the content of the request.",
    ),
    of_the_edge(
        "expectation-failed",
        StatusCode::EXPECTATION_FAILED,
        "The expectation cannot be met",
        "Nothing but 100-continue can be expected. The request was not passed on.",
        "Leave the Expect field out.",
    ),
    of_the_edge(
        "not-implemented",
        StatusCode::NOT_IMPLEMENTED,
        "The transfer coding is not understood",
        "No transfer coding but chunked is understood. The request was not passed on.",
        "Send the content with a Content-Length or in chunks.",
    ),
    of_the_edge(
        "version-not-supported",
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "The version of HTTP is not spoken here",
        "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here.",
        "Use an HTTP client that speaks one of them.",
    ),
    of_the_edge(
        "misdirected-request",
        StatusCode::MISDIRECTED_REQUEST,
        "The host is not served here",
        "The certificate of this server does not name the host that the request is for.",
        "Use a name that the certificate has; further ones are set by HOLDFAST_NAMES.",
    ),
    of_the_edge(
        "header-too-large",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The header is too large",
        "The fields of the request's head are larger in all than is taken here.",
        "Send fewer or shorter ones; in a browser, delete the cookies of this site.",
    ),
    of_the_edge(
        "bad-gateway",
        StatusCode::BAD_GATEWAY,
        "The web server's answer was broken off",
        "The request was sent to a web server, and the answer to it was not complete or not valid. Whether it was acted on is not known.",
        "Send a change again only with the same Idempotency-Key.",
    ),
    of_the_edge(
        "no-backend",
        StatusCode::SERVICE_UNAVAILABLE,
        "No web server is available",
        "No web server is ready. The request was not sent to any.",
        "Try again after the time that Retry-After names.",
    ),
    of_the_edge(
        "busy",
        StatusCode::SERVICE_UNAVAILABLE,
        "All web servers are busy",
        "Every web server has as many requests as it takes, and too many wait already. The request was not sent to any.",
        "Try again after the time that Retry-After names.",
    ),
    of_the_edge(
        "too-many-requests",
        StatusCode::TOO_MANY_REQUESTS,
        "There are too many requests",
        "This client sends more requests than one may. The request was not sent to any web server.",
        "Try again after the time that Retry-After names, and more slowly.",
    ),
    of_the_edge(
        "backends-unreachable",
        StatusCode::SERVICE_UNAVAILABLE,
        "No web server could be reached",
        "No connection to a web server could be made. The request was not sent to any.",
        "Try again after the time that Retry-After names.",
    ),
    of_the_edge(
        "gateway-timeout",
        StatusCode::GATEWAY_TIMEOUT,
        "The web server took too long",
        "The request was sent to a web server, and no answer came in time. Whether it was acted on is not known.",
        "Send a change again only with the same Idempotency-Key.",
    ),
];

/// Every entry of the catalogue, in order of status.
#[must_use]
pub fn catalogue() -> Vec<&'static Entry> {
    let ours = Kind::ALL.iter().map(|kind| kind.entry());
    let mut entries: Vec<_> = ours.chain(EDGE).collect();
    entries.sort_by_key(|entry| (entry.status, entry.slug));
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_document_has_the_members_of_the_interface() {
        let problem = Problem::new(Kind::InvalidFields, "no").errors([FieldError {
            pointer: "/amount_cents".to_owned(),
            detail: "is missing".to_owned(),
        }]);
        let document: serde_json::Value =
            serde_json::from_str(&problem.document("4bf92f35")).unwrap();
        let expected = serde_json::json!({
            "type": "/problems/invalid-fields",
            "title": "Fields of the body are not valid",
            "status": 422,
            "detail": "no",
            "trace_id": "4bf92f35",
            "errors": [{"pointer": "/amount_cents", "detail": "is missing"}],
        });
        assert_eq!(document, expected);
        assert!(!Problem::internal().document("").contains("errors"));
    }

    #[test]
    fn the_headers_say_when_to_come_again_and_what_is_missing() {
        let busy = Problem::new(Kind::Unavailable, "").retry_after(Duration::from_millis(1200));
        assert_eq!(busy.into_response().headers()["retry-after"], "2");
        let soon = Problem::new(Kind::Unavailable, "").retry_after(Duration::ZERO);
        assert_eq!(soon.into_response().headers()["retry-after"], "1");
        let nobody = Problem::new(Kind::Unauthorized, "").into_response();
        assert_eq!(nobody.status(), 401);
        assert_eq!(nobody.headers()["www-authenticate"], "Bearer");
    }

    #[test]
    fn every_type_has_a_path_of_its_own() {
        let slugs: HashSet<_> = catalogue().iter().map(|entry| entry.slug).collect();
        assert_eq!(slugs.len(), catalogue().len());
    }

    #[test]
    fn every_type_that_the_balancer_names_is_explained() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../balancer/src/problem.rs");
        let source = std::fs::read_to_string(source).unwrap();
        let (_, slugs) = source.split_once("pub fn slug").unwrap();
        let (slugs, _) = slugs.split_once("\n    }\n").unwrap();
        let named: Vec<_> = slugs.split('"').skip(1).step_by(2).collect();
        assert!(named.len() > 5, "{named:?}");
        for slug in named {
            let found = catalogue().iter().any(|entry| entry.slug == slug);
            assert!(found, "{slug}");
        }
    }
}
