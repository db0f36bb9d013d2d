//! The edge's own errors as problem documents (RFC 9457).

use std::fmt;

use http::StatusCode;
use serde::Serialize;

use crate::http1::Refusal;

/// An error that the edge answers by itself. What it says is for clients; what it does not say is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The request is not HTTP as the RFCs have it.
    BadRequest,
    /// There is nothing here for clients.
    NotFound,
    /// A method that the edge does not pass on.
    MethodNotAllowed,
    /// The target is longer than the edge takes.
    UriTooLong,
    /// Something else than `100-continue` is expected.
    ExpectationFailed,
    /// A transfer coding that nobody here understands.
    NotImplemented,
    /// A version of HTTP that is not spoken here.
    VersionNotSupported,
    /// The head did not arrive in time.
    RequestTimeout,
    /// The body is larger than the edge takes.
    ContentTooLarge,
    /// The client sends more than it may.
    TooManyRequests,
    /// The host is not one that this edge is good for.
    MisdirectedRequest,
    /// The head is larger than the edge takes.
    HeaderTooLarge,
    /// A backend's answer was broken off or makes no sense.
    BadGateway,
    /// No backend is in rotation.
    NoBackend,
    /// Every backend has as many requests as it takes.
    Busy,
    /// None of the backends that were tried could be reached.
    BackendsUnreachable,
    /// A backend took too long.
    GatewayTimeout,
    /// A fault of the edge itself.
    Internal,
}

impl Problem {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Problem::BadRequest => StatusCode::BAD_REQUEST,
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Problem::UriTooLong => StatusCode::URI_TOO_LONG,
            Problem::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Problem::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Problem::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Problem::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Problem::ContentTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Problem::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Problem::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Problem::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Problem::BadGateway => StatusCode::BAD_GATEWAY,
            Problem::NoBackend | Problem::Busy | Problem::BackendsUnreachable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Problem::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Problem::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which it makes sense to come again; none where it does not, or where nobody knows whether the request was done.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Problem::TooManyRequests
            | Problem::NoBackend
            | Problem::Busy
            | Problem::BackendsUnreachable => Some(1),
            _ => None,
        }
    }

    /// What a message is answered that breaks a rule.
    pub fn of(refusal: Refusal) -> Problem {
        match refusal.status() {
            StatusCode::URI_TOO_LONG => Problem::UriTooLong,
            StatusCode::EXPECTATION_FAILED => Problem::ExpectationFailed,
            StatusCode::NOT_IMPLEMENTED => Problem::NotImplemented,
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => Problem::VersionNotSupported,
            StatusCode::PAYLOAD_TOO_LARGE => Problem::ContentTooLarge,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::HeaderTooLarge,
            _ => Problem::BadRequest,
        }
    }

    /// The document, for a request in this trace; with the rule that it breaks, if it does.
    pub fn document(self, trace_id: &impl fmt::Display, refusal: Option<Refusal>) -> String {
        #[derive(Serialize)]
        struct Document {
            r#type: String,
            title: &'static str,
            status: u16,
            detail: String,
            trace_id: String,
        }
        let document = Document {
            r#type: format!("/problems/{}", self.slug()),
            title: self.title(),
            status: self.status().as_u16(),
            detail: match refusal {
                Some(refusal) => refusal.to_string(),
                None => self.detail().to_owned(),
            },
            trace_id: trace_id.to_string(),
        };
        serde_json::to_string(&document).expect("text and numbers are always JSON")
    }

    /// The last part of its type's path.
    pub fn slug(self) -> &'static str {
        match self {
            Problem::BadRequest => "bad-request",
            Problem::NotFound => "not-found",
            Problem::MethodNotAllowed => "method-not-allowed",
            Problem::UriTooLong => "uri-too-long",
            Problem::ExpectationFailed => "expectation-failed",
            Problem::NotImplemented => "not-implemented",
            Problem::VersionNotSupported => "version-not-supported",
            Problem::RequestTimeout => "request-timeout",
            Problem::ContentTooLarge => "content-too-large",
            Problem::TooManyRequests => "too-many-requests",
            Problem::MisdirectedRequest => "misdirected-request",
            Problem::HeaderTooLarge => "header-too-large",
            Problem::BadGateway => "bad-gateway",
            Problem::NoBackend => "no-backend",
            Problem::Busy => "busy",
            Problem::BackendsUnreachable => "backends-unreachable",
            Problem::GatewayTimeout => "gateway-timeout",
            Problem::Internal => "internal",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Problem::BadRequest => "The request is malformed",
            Problem::NotFound => "There is nothing here",
            Problem::MethodNotAllowed => "The method is not allowed",
            Problem::UriTooLong => "The target is too long",
            Problem::ExpectationFailed => "The expectation cannot be met",
            Problem::NotImplemented => "The transfer coding is not understood",
            Problem::VersionNotSupported => "The version of HTTP is not spoken here",
            Problem::RequestTimeout => "The request took too long to arrive",
            Problem::ContentTooLarge => "The content is too large",
            Problem::TooManyRequests => "There are too many requests",
            Problem::MisdirectedRequest => "The host is not served here",
            Problem::HeaderTooLarge => "The header is too large",
            Problem::BadGateway => "The web server's answer was broken off",
            Problem::NoBackend => "No web server is available",
            Problem::Busy => "All web servers are busy",
            Problem::BackendsUnreachable => "No web server could be reached",
            Problem::GatewayTimeout => "The web server took too long",
            Problem::Internal => "The balancer failed",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Problem::BadRequest => {
                "The head of the request, or the framing of its body, breaks a rule of HTTP."
            }
            Problem::NotFound => "This path is not published.",
            Problem::MethodNotAllowed => "CONNECT and TRACE are not passed on.",
            Problem::UriTooLong => "The target of the request is longer than is taken here.",
            Problem::ExpectationFailed => "Nothing but 100-continue can be expected.",
            Problem::NotImplemented => "No transfer coding but chunked is understood.",
            Problem::VersionNotSupported => "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here.",
            Problem::RequestTimeout => {
                "The request was not complete in time, or came too slowly. It may be sent again."
            }
            Problem::ContentTooLarge => "The body is larger than is taken here.",
            Problem::TooManyRequests => {
                "This client sends more requests than one may. The request was not sent to any web server, and may be sent again."
            }
            Problem::MisdirectedRequest => {
                "The certificate of this server does not name the host that the request is for."
            }
            Problem::HeaderTooLarge => {
                "The fields of the request's head are larger in all than is taken here."
            }
            Problem::BadGateway => {
                "The request was sent, and the answer to it was not complete or not valid. Whether it was acted on is not known."
            }
            Problem::Busy => {
                "Every web server has as many requests as it takes, and too many wait already. The request was not sent to any, and may be sent again."
            }
            Problem::NoBackend => {
                "No web server is ready. The request was not sent to any, and may be sent again."
            }
            Problem::BackendsUnreachable => {
                "No connection to a web server could be made. The request was not sent to any, and may be sent again."
            }
            Problem::GatewayTimeout => {
                "The request was sent, and no whole answer came in time. Whether it was acted on is not known."
            }
            Problem::Internal => "The fault is logged under the trace that is named here.",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ALL: [Problem; 18] = [
        Problem::BadRequest,
        Problem::NotFound,
        Problem::MethodNotAllowed,
        Problem::UriTooLong,
        Problem::ExpectationFailed,
        Problem::NotImplemented,
        Problem::VersionNotSupported,
        Problem::RequestTimeout,
        Problem::ContentTooLarge,
        Problem::TooManyRequests,
        Problem::MisdirectedRequest,
        Problem::HeaderTooLarge,
        Problem::BadGateway,
        Problem::NoBackend,
        Problem::Busy,
        Problem::BackendsUnreachable,
        Problem::GatewayTimeout,
        Problem::Internal,
    ];

    #[test]
    fn a_document_has_every_member() {
        let document: serde_json::Value =
            serde_json::from_str(&Problem::NoBackend.document(&"4bf92f35", None)).unwrap();
        assert_eq!("/problems/no-backend", document["type"]);
        assert_eq!(503, document["status"]);
        assert_eq!("4bf92f35", document["trace_id"]);
        for member in ["title", "detail"] {
            assert!(!document[member].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn a_refusal_is_answered_with_its_own_status_and_rule() {
        for refusal in Refusal::ALL {
            // What only a backend can break is never told to a client in this way.
            if refusal.status() != StatusCode::BAD_GATEWAY {
                assert_eq!(
                    refusal.status(),
                    Problem::of(*refusal).status(),
                    "{refusal:?}"
                );
            }
        }
        let text = Problem::BadRequest.document(&"1", Some(Refusal::BareLf));
        assert!(
            text.contains("does not end in CR LF. (RFC 9112 2.2)"),
            "{text}"
        );
    }

    #[test]
    fn every_kind_has_a_type_of_its_own() {
        let slugs: HashSet<_> = ALL.iter().map(|problem| problem.slug()).collect();
        assert_eq!(ALL.len(), slugs.len());
    }

    #[test]
    fn only_what_was_not_sent_says_when_to_come_again() {
        for problem in ALL {
            let is_for_later = matches!(
                problem.status(),
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
            );
            assert_eq!(is_for_later, problem.retry_after().is_some(), "{problem:?}");
        }
    }
}
