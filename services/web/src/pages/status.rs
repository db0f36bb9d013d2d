//! `/status`: the picture of the whole stack with the figures of monitoring, and what this web server knows itself: the databases, and
//! where a read of this visitor would go now. It asks no database.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use router::ServerState;

use super::{
    account::first_of,
    html,
    picture::{Own, Picture},
};
use crate::{db::Db, making::Making, state::AppState};

/// How often the page may load itself again, in seconds, when somebody asks for it.
const REFRESH_SECONDS: std::ops::RangeInclusive<u8> = 2..=60;

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage<'a> {
    picture: Picture,
    /// Why there is no monitoring data; empty where there is.
    away: String,
    refresh: Option<u8>,
    metrics: &'a str,
    instance: &'a str,
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
pub(super) async fn show(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    axum::Extension(making): axum::Extension<Making>,
    Db(db): Db,
) -> Response {
    let begun = std::time::Instant::now();
    let samples = state.monitoring.samples().await;
    making.note("ask monitoring", begun);
    let health = db.health();
    let phase = state.readiness.phase().as_str();
    let own = Own {
        instance: &state.config.instance,
        phase,
        health: &health,
    };
    let picture = Picture::of(samples.as_deref().ok(), &own);
    let read = match db.explain("SELECT id FROM accounts") {
        Ok(decision) => format!(
            "the {} {} ({})",
            decision.target, decision.server, decision.reason
        ),
        Err(error) => format!("nowhere: {error}"),
    };
    let refresh = first_of(query.as_deref(), "refresh")
        .and_then(|seconds| seconds.parse().ok())
        .filter(|seconds| REFRESH_SECONDS.contains(seconds));
    html(&StatusPage {
        picture,
        away: samples
            .err()
            .map(|away| away.to_string())
            .unwrap_or_default(),
        refresh,
        metrics: &state.config.links.metrics,
        instance: &state.config.instance,
        phase,
        in_flight: state.metrics.in_flight.get(),
        epoch: health.epoch,
        writes: match (health.writable, health.holding) {
            (true, _) => "taken",
            (false, true) => "held while the primary changes",
            (false, false) => "not taken",
        },
        servers: servers(health),
        read,
    })
}

fn servers(health: router::ClusterHealth) -> Vec<Server> {
    let primary = health.primary;
    let server = |server: router::ServerHealth| Server {
        role: match &primary {
            Some(primary) if *primary == server.name => "primary",
            Some(_) => "replica",
            None => "not known",
        },
        state: match server.state {
            ServerState::Healthy => "up".to_owned(),
            ServerState::Down => format!("away: {}", server.error),
            other => format!("up, {other}"),
        },
        in_sync: health.in_sync.contains(&server.name),
        lag: server
            .lag_ms
            .map(|lag| format!("{lag} ms"))
            .unwrap_or_default(),
        in_use: server.in_use,
        name: server.name,
    };
    health.servers.into_iter().map(server).collect()
}
