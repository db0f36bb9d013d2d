//! Whether this web server is well: `/healthz`, `/readyz`, and `health` on the admin socket.
//!
//! All of them speak for this server alone, never for the database, which both web servers share: taking both out for its fault would
//! make it a total outage. `/healthz` says that the process serves; `/readyz` says that new work is welcome, and is the first thing to
//! fail when the server is asked to stop.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use tokio::sync::watch;

use crate::{explain, routes::Routes, state::AppState};

/// Whether new work is welcome: not yet, yes, not any more.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Phase>>);

/// Where a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not listen yet.
    Starting,
    /// New work is welcome.
    Ready,
    /// It finishes what it has, and serves who has not noticed.
    Stopping,
}

impl Phase {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }
}

impl Readiness {
    /// Of a server that starts.
    #[must_use]
    pub fn starting() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Starting)))
    }

    /// New work is welcome, unless the server is stopping.
    pub fn is_ready(&self) {
        self.0.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Ready;
            }
            starting
        });
    }

    /// No new work, from now to the end.
    pub fn is_stopping(&self) {
        self.0.send_replace(Phase::Stopping);
    }

    /// Where the server is now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }
}

/// `/healthz` and `/readyz`.
pub fn routes() -> Routes {
    const ALLOW: &str = "GET, HEAD, OPTIONS";
    Routes::new()
        .route("/healthz", ALLOW, get(alive))
        .route("/readyz", ALLOW, get(ready))
}

async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(State(state): State<AppState>) -> Response {
    match state.readiness.phase() {
        Phase::Ready => "ok\n".into_response(),
        other => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", other.as_str()),
        )
            .into_response(),
    }
}

/// What the admin socket answers to `command`, as JSON.
///
/// # Errors
/// A sentence, for a command that there is not.
pub fn admin(state: &AppState, command: &str) -> Result<String, String> {
    let json = match command {
        "health" => match state.readiness.phase() {
            // Stopping is no fault: a container engine that restarted it now would cut what it finishes.
            Phase::Ready | Phase::Stopping => serde_json::to_string("ok"),
            Phase::Starting => serde_json::to_string("starting"),
        },
        "status" => serde_json::to_string(&serde_json::json!({
            "phase": state.readiness.phase().as_str(),
            "connections": state.metrics.connections.get(),
            "requests_in_flight": state.metrics.in_flight.get(),
            "database": state.router.health(),
        })),
        "metrics" => serde_json::to_string(&telemetry::metrics::render(&state.registry)),
        other if other.starts_with(explain::COMMAND) => {
            let sql: String = serde_json::from_str(other.trim_start_matches(explain::COMMAND))
                .map_err(|_| "the statement to explain is not a JSON string".to_owned())?;
            serde_json::to_string(&explain::explain(&state.router, &sql)?)
        }
        other => {
            return Err(format!(
                "no such command: {other}; there are `health`, `status`, `metrics` and `explain` with a statement as a JSON string"
            ));
        }
    };
    json.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stops_is_never_ready_again() {
        let readiness = Readiness::starting();
        assert_eq!(readiness.phase(), Phase::Starting);
        readiness.is_ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.is_stopping();
        readiness.is_ready();
        assert_eq!(readiness.phase(), Phase::Stopping);
    }
}
