//! What a service tells about itself: logs as JSON lines, W3C trace context, spans by OTLP, metrics as Prometheus text.
//!
//! It knows neither MySQL nor pingora nor axum, and no certificate files: TLS is handed in. While nobody listens a service goes on as if
//! somebody did; what could not be told is counted.

mod gate;
pub mod logs;
pub mod metrics;
pub mod pulled;
pub mod trace_context;
pub mod traces;
