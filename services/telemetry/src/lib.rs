//! What a service tells about itself: logs as JSON lines, W3C trace context, metrics as Prometheus text.
//!
//! It knows neither MySQL nor pingora nor axum. It exports no spans yet: trace and span ids are made, passed on and logged, so that
//! one id leads through all services' logs.

pub mod logs;
pub mod metrics;
pub mod pulled;
pub mod trace_context;
pub mod traces;
