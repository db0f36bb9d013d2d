//! What happens around every request: it joins the caller's trace, has a bound in time, is counted and logged, and if it ends in a
//! [`Problem`], the problem is written as the caller reads: a page for a person, a problem document (RFC 9457) for a program.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use telemetry::{trace_context::TraceContext, traces};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    making::Making,
    pages::{self, panel},
    problem::{self, Kind, Problem},
    state::AppState,
};

/// What leads nowhere, as a route.
pub(crate) const NO_ROUTE: &str = "none";

/// W3C trace context, on the way out.
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The layer around all routes.
pub async fn around(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let making = Making::begin();
    request.extensions_mut().insert(making.clone());
    let reader = Reader::of(&request);
    let route = route(&request);
    let quiet = is_a_check(&route);
    let span = span(&request, &route, quiet);
    let trace = traces::join(&span, caller(request.headers()));
    span.record("trace_id", trace.trace_id.to_string());
    span.record("span_id", trace.span_id.to_string());
    let answered = span.clone();
    async {
        let begun = Instant::now();
        let in_flight = InFlight::new(&state);
        let mut response = bounded(&state, request, next).await;
        drop(in_flight);
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            reader.write(&problem, &trace.trace_id.to_string(), &mut response);
        }
        let about = panel::About {
            instance: &state.config.instance,
            trace_id: &trace.trace_id.to_string(),
            traces: &state.config.links.traces,
        };
        panel::finish(&mut response, &making, about);
        response
            .headers_mut()
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        let taken = begun.elapsed();
        let status = response.status();
        tell(&answered, status);
        if let Ok(value) = HeaderValue::from_str(&trace.to_traceresponse()) {
            response.headers_mut().insert(TRACERESPONSE, value);
        }
        state.metrics.answered(&route, status, taken.as_secs_f64());
        let duration_ms = taken.as_micros() as f64 / 1000.0;
        if quiet {
            tracing::debug!(route, status = status.as_u16(), duration_ms, "answered");
        } else {
            tracing::info!(route, status = status.as_u16(), duration_ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}

/// The request's span: of the kind SERVER, by OpenTelemetry's conventions for HTTP. What has no dot in its name is for the log's lines.
/// Checks of health have lines, and no place in a trace.
fn span(request: &Request, route: &str, is_a_check: bool) -> Span {
    let method = request.method();
    let path = request.uri().path();
    if is_a_check {
        return tracing::info_span!(target: "check", "request", trace_id = Empty, span_id = Empty, %method, path);
    }
    let known = match method.as_str() {
        method @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => method,
        _ => "_OTHER",
    };
    let named = match (known, route) {
        ("_OTHER", _) => "HTTP".to_owned(),
        (method, NO_ROUTE) => method.to_owned(),
        (method, route) => format!("{method} {route}"),
    };
    let version = match request.version() {
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    tracing::info_span!(
        "request",
        trace_id = Empty,
        span_id = Empty,
        %method,
        path,
        otel.name = named,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = known,
        http.route = (route != NO_ROUTE).then_some(route),
        http.response.status_code = Empty,
        "error.type" = Empty,
        url.scheme = "https",
        url.path = path,
        network.protocol.version = version,
    )
}

/// The answer is known. To a server only its own faults are errors.
fn tell(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
}

/// The caller's place in its trace; two are none.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    TraceContext::parse(value.to_str().ok()?)
}

/// The route's pattern, of which there are few; `none` for a path that leads nowhere.
fn route(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or(NO_ROUTE, MatchedPath::as_str)
        .to_owned()
}

/// Each balancer asks several times a second: no line of log for that.
fn is_a_check(route: &str) -> bool {
    matches!(route, "/healthz" | "/readyz")
}

async fn bounded(state: &AppState, request: Request, next: Next) -> Response {
    let limit = Duration::from_millis(state.config.request.timeout_ms);
    let changes = !request.method().is_safe();
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            state.metrics.timeouts.inc();
            tracing::warn!(?limit, "the request was given up");
            too_long(limit, changes).into_response()
        }
    }
}

/// What was given up in the middle may have been done, if it was to change something.
fn too_long(limit: Duration, changes: bool) -> Problem {
    let kind = if changes {
        Kind::OutcomeUnknown
    } else {
        Kind::Unavailable
    };
    Problem::new(kind, format!("the request took longer than {limit:?}"))
        .retry_after(Duration::from_secs(1))
}

/// Counts a request for as long as it is answered, also if its client leaves in the middle.
struct InFlight(prometheus::IntGauge);

impl InFlight {
    fn new(state: &AppState) -> Self {
        let gauge = state.metrics.in_flight.clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Who reads a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Person,
    Program,
}

impl Reader {
    /// Pages are for people and the rest is for programs; at a path that leads nowhere, who asks for HTML is a person.
    fn of(request: &Request) -> Self {
        let path = request.uri().path();
        let matched = request.extensions().get::<MatchedPath>();
        match matched.map(MatchedPath::as_str) {
            Some(route) if is_a_check(route) => Self::Program,
            _ if path == "/api" || path.starts_with("/api/") => Self::Program,
            Some(_) => Self::Person,
            None if asks_for_html(request.headers()) => Self::Person,
            None => Self::Program,
        }
    }

    fn write(self, problem: &Problem, trace_id: &str, response: &mut Response) {
        match self {
            Self::Program => {
                // That of the empty body, where a layer has set it already.
                response.headers_mut().remove(CONTENT_LENGTH);
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, problem::CONTENT_TYPE);
                *response.body_mut() = Body::from(problem.document(trace_id));
            }
            Self::Person => {
                pages::security_headers(response.headers_mut());
                pages::error_page(problem, trace_id).put(response);
            }
        }
    }
}

fn asks_for_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|range| range.trim().eq_ignore_ascii_case("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, accept: &str) -> Request {
        Request::builder()
            .uri(path)
            .header(ACCEPT, accept)
            .body(Body::empty())
            .unwrap()
    }

    #[test]
    fn at_a_path_that_leads_nowhere_a_browser_gets_a_page_and_a_program_a_document() {
        let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
        assert_eq!(Reader::of(&request("/nothing", browser)), Reader::Person);
        assert_eq!(Reader::of(&request("/nothing", "*/*")), Reader::Program);
        assert_eq!(
            Reader::of(&request("/api/nothing", browser)),
            Reader::Program
        );
        assert_eq!(Reader::of(&request("/api", browser)), Reader::Program);
        assert_eq!(Reader::of(&request("/apiary", browser)), Reader::Person);
    }

    #[test]
    fn a_request_joins_its_callers_trace_with_a_span_of_its_own() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_static(parent));
        let join = |headers: &HeaderMap| traces::join(&Span::none(), caller(headers));
        let joined = join(&headers);
        assert_eq!(
            joined.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_ne!(joined.span_id.to_string(), "b7ad6b7169203331");
        assert!(joined.sampled);
        headers.append("traceparent", HeaderValue::from_static(parent));
        assert_ne!(join(&headers).trace_id, joined.trace_id, "two are none");
        assert_ne!(join(&HeaderMap::new()).trace_id, joined.trace_id);
    }

    #[test]
    fn a_read_that_took_too_long_changed_nothing_and_a_write_may_have() {
        let limit = Duration::from_secs(1);
        assert_eq!(too_long(limit, false).kind(), Kind::Unavailable);
        assert_eq!(too_long(limit, true).kind(), Kind::OutcomeUnknown);
    }
}
