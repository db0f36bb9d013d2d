//! The two ports: spans in, traces out.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::json;
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};

use crate::{
    page,
    store::{Store, trace_id},
};

/// The longest message with spans.
const MESSAGE_BYTES: usize = 16 << 20;
/// Connections at one time, at each port; further ones wait.
const CONNECTIONS: usize = 64;
/// From the first byte of a head to its last, and the longest that a connection may be idle.
const IDLE: Duration = Duration::from_secs(120);
/// What a list shows.
const NEWEST: usize = 50;

type Answer = Response<Full<Bytes>>;

/// Takes spans until it is dropped.
pub async fn spans(listener: TcpListener, store: Arc<Store>) {
    serve(listener, move |request| take(request, Arc::clone(&store))).await;
}

/// Answers who asks for traces until it is dropped.
pub async fn pages(listener: TcpListener, store: Arc<Store>) {
    let answer = move |request: Request<Incoming>| {
        let answer = look(request.method(), request.uri().path(), &store);
        async move { answer }
    };
    serve(listener, answer).await;
}

async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let answer = handler(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            // A connection that ends early has nobody who would want to know.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// One message of spans, in either of OTLP's encodings.
async fn take(request: Request<Incoming>, store: Arc<Store>) -> Answer {
    if request.uri().path() != "/v1/traces" {
        return problem(StatusCode::NOT_FOUND, "spans are posted to /v1/traces");
    }
    if request.method() != Method::POST {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "spans are posted");
    }
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let Ok(body) = Limited::new(request.into_body(), MESSAGE_BYTES)
        .collect()
        .await
    else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "a message is at most 16 MiB");
    };
    let body = body.to_bytes();
    let message = if is_json {
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    } else {
        ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string())
    };
    match message {
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
        Ok(message) => {
            store.take(message);
            if is_json {
                answer(StatusCode::OK, "application/json", "{}")
            } else {
                let taken = ExportTraceServiceResponse::default().encode_to_vec();
                answer(StatusCode::OK, "application/x-protobuf", taken)
            }
        }
    }
}

/// What Jaeger's API answers to programs, and pages for people.
fn look(method: &Method, path: &str, store: &Store) -> Answer {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "there is nothing to change here",
        );
    }
    if path == "/" || path == "/search" {
        return html(StatusCode::OK, page::list(&store.newest(NEWEST)));
    }
    if path == "/api/v3/services" {
        let services = json!({ "services": store.services() });
        return answer(StatusCode::OK, "application/json", services.to_string());
    }
    if let Some(id) = path.strip_prefix("/api/v3/traces/") {
        return match trace_id(id).map(|id| store.trace(&id)) {
            None => problem(StatusCode::BAD_REQUEST, "malformed parameter trace_id"),
            Some(None) => problem(StatusCode::NOT_FOUND, "No traces found"),
            Some(Some(trace)) => {
                let found = json!({ "result": trace.into_data() });
                answer(StatusCode::OK, "application/json", found.to_string())
            }
        };
    }
    if let Some(id) = path.strip_prefix("/trace/") {
        return match trace_id(id).and_then(|id| store.trace(&id)) {
            None => html(StatusCode::NOT_FOUND, page::nothing(id)),
            Some(trace) => html(StatusCode::OK, page::trace(id, &trace)),
        };
    }
    problem(StatusCode::NOT_FOUND, "nothing is here")
}

/// As Jaeger says it.
fn problem(status: StatusCode, message: &str) -> Answer {
    let error = json!({ "error": { "httpCode": status.as_u16(), "message": message } });
    answer(status, "application/json", error.to_string())
}

fn html(status: StatusCode, page: String) -> Answer {
    let mut answer = answer(status, "text/html; charset=utf-8", page);
    let policy = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    );
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    answer
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Limits,
        tests::{message, span},
    };

    fn asked(store: &Store, path: &str) -> (StatusCode, String) {
        let answer = look(&Method::GET, path, store);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let status = answer.status();
        let body = runtime.block_on(answer.into_body().collect()).unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_trace_is_answered_as_jaeger_answers_it() {
        let store = Store::new(Limits {
            traces: 9,
            spans: 9,
        });
        let mut child = span(0xab, 2, 1, "GET /");
        child.kind = 2;
        store.take(message("web", vec![child]));
        let (status, text) = asked(&store, &format!("/api/v3/traces/{}", "ab".repeat(16)));
        assert_eq!(status, StatusCode::OK);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let part = &json["result"]["resourceSpans"][0];
        assert_eq!(part["resource"]["attributes"][0]["key"], "service.name");
        assert_eq!(
            part["resource"]["attributes"][0]["value"]["stringValue"],
            "web"
        );
        let span = &part["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!(span["spanId"], "02".repeat(8));
        assert_eq!(span["parentSpanId"], "01".repeat(8));
        assert_eq!(span["name"], "GET /");
        assert_eq!(span["kind"], 2);
        assert_eq!(span["startTimeUnixNano"], "2000000");
    }

    #[test]
    fn what_is_not_there_is_said_as_jaeger_says_it() {
        let store = Store::new(Limits {
            traces: 9,
            spans: 9,
        });
        let (status, text) = asked(&store, "/api/v3/traces/1");
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(
            text,
            r#"{"error":{"httpCode":404,"message":"No traces found"}}"#
        );
        assert_eq!(
            asked(&store, "/api/v3/traces/zz").0,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(asked(&store, "/api/v3/services").1, r#"{"services":[]}"#);
        assert_eq!(asked(&store, "/trace/1").0, StatusCode::NOT_FOUND);
        assert_eq!(asked(&store, "/").0, StatusCode::OK);
    }
}
