//! A span for every statement, `BEGIN`, `COMMIT` and `ROLLBACK`, by OpenTelemetry's conventions for database clients; what begins with
//! `router.` is ours: where it went, why, by which epoch, and how far behind that server was.
//!
//! They are spans of `tracing`: who uses the router chooses what becomes of them.

use std::time::Duration;

use replication::errors;
use tracing::{Span, field::Empty};

use crate::decision::Decision;

/// A statement that is on its way to a server. It lasts until the last copy is dropped.
pub(crate) fn statement(decision: &Decision, summary: &str) -> Span {
    let span = tracing::info_span!(
        "statement",
        otel.name = summary,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "mysql",
        db.query.summary = summary,
        db.response.status_code = Empty,
        "error.type" = Empty,
        server.address = &*decision.server,
        router.target = %decision.target,
        router.reason = %decision.reason,
        router.epoch = decision.epoch,
        router.lag_ms = Empty,
    );
    if let Some(lag) = decision.lag {
        span.record("router.lag_ms", milliseconds(lag));
    }
    span
}

/// It has failed; no error is no answer in time.
pub(crate) fn failed(span: &Span, error: Option<&sqlx::Error>) {
    span.record("otel.status_code", "ERROR");
    match error.and_then(errors::number) {
        Some(number) => {
            let number = number.to_string();
            span.record("db.response.status_code", number.as_str());
            span.record("error.type", number.as_str());
        }
        None if error.is_none() => {
            span.record("error.type", "timeout");
        }
        None => {
            span.record("error.type", "connection");
        }
    }
}

fn milliseconds(lag: Duration) -> u64 {
    u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)
}
