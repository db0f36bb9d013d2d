//! When to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT after the call. The handlers stay installed, so a later signal does not kill the process.
///
/// # Panics
/// Outside of a tokio run-time with I/O enabled.
pub async fn requested() {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler can be installed");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler can be installed");
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "asked to stop"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "asked to stop"),
    }
}
