//! `/status`: what this web server knows of the databases, and where a read of this visitor would go now. It asks no database.

use askama::Template;
use axum::{extract::State, response::Response};

use super::html;
use crate::{db::Db, state::AppState};

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    phase: &'static str,
    in_flight: i64,
    epoch: u64,
    writes: &'static str,
    servers: Vec<Server>,
    read: String,
}

struct Server {
    name: String,
    role: &'static str,
    state: String,
    in_sync: bool,
    lag: String,
    in_use: usize,
}

/// `GET /status`
pub(super) async fn show(State(state): State<AppState>, Db(db): Db) -> Response {
    let health = db.health();
    let servers = health
        .servers
        .into_iter()
        .map(|server| Server {
            role: match &health.primary {
                Some(primary) if *primary == server.name => "primary",
                Some(_) => "replica",
                None => "not known",
            },
            state: if server.up {
                "up".to_owned()
            } else {
                format!("away: {}", server.error)
            },
            in_sync: health.in_sync.contains(&server.name),
            lag: server
                .lag_ms
                .map(|lag| format!("{lag} ms"))
                .unwrap_or_default(),
            in_use: server.in_use,
            name: server.name,
        })
        .collect();
    let read = match db.explain("SELECT id FROM accounts") {
        Ok(decision) => format!(
            "the {} {} ({})",
            decision.target, decision.server, decision.reason
        ),
        Err(error) => format!("nowhere: {error}"),
    };
    html(&StatusPage {
        phase: state.readiness.phase().as_str(),
        in_flight: state.metrics.in_flight.get(),
        epoch: health.epoch,
        writes: if health.writable {
            "taken"
        } else {
            "not taken"
        },
        servers,
        read,
    })
}
