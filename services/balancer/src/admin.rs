//! What the admin socket answers, and the table that `balancer status` prints from it.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::edge::Edge;

/// What the balancer knows about itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Its number in its pod.
    pub instance: usize,
    /// Whether it is about to stop.
    pub stopping: bool,
    /// Connections of clients that are open.
    pub connections: usize,
    /// Requests in flight, those included that the edge answers by itself.
    pub requests: usize,
    /// Whole days until the first of its certificates expires.
    pub certificate_days_left: i64,
    /// The backends.
    pub backends: Vec<BackendStatus>,
}

/// What the balancer knows about a backend.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Where it was last found.
    pub address: Option<String>,
    /// `starting`, `up` or `down`.
    pub state: String,
    /// What the last check found.
    pub reason: String,
    /// Seconds since the state began.
    pub since_s: u64,
    /// Leases held.
    pub in_flight: usize,
}

/// Answers one command.
///
/// # Errors
/// A sentence for the caller, if there is no such command.
pub fn answer(edge: &Arc<Edge>, command: &str) -> Result<String, String> {
    match command {
        "health" => Ok(json(&health(edge))),
        "status" => Ok(json(&status(edge))),
        "metrics" => Ok(json(&metrics(edge))),
        other => Err(format!(
            "there is no command `{other}`; try health, status or metrics"
        )),
    }
}

/// All metrics as text, as they are now.
pub fn metrics(edge: &Edge) -> String {
    edge.metrics.render(
        &edge.chooser.backends(),
        edge.traffic.connections(),
        edge.certificates.days_left(),
    )
}

/// "ok" as long as it takes requests; backends that are away are not the balancer's illness.
fn health(edge: &Edge) -> &'static str {
    if edge.traffic.is_stopping() {
        "stopping: no new connections are taken"
    } else {
        "ok"
    }
}

fn status(edge: &Edge) -> Status {
    let now = SystemTime::now();
    let backends = edge.chooser.backends();
    Status {
        instance: edge.config.instance,
        stopping: edge.traffic.is_stopping(),
        connections: edge.traffic.connections(),
        requests: edge.traffic.requests(),
        certificate_days_left: edge.certificates.days_left(),
        backends: backends
            .iter()
            .map(|backend| {
                let standing = backend.standing();
                BackendStatus {
                    name: backend.name().to_owned(),
                    address: backend.address().map(|address| address.to_string()),
                    state: standing.state.as_str().to_owned(),
                    reason: standing.reason.clone(),
                    since_s: now
                        .duration_since(standing.since)
                        .unwrap_or(Duration::ZERO)
                        .as_secs(),
                    in_flight: backend.in_flight().count(),
                }
            })
            .collect(),
    }
}

/// The status for people.
pub fn table(status: &Status) -> String {
    let mut text = String::new();
    let stopping = if status.stopping { ", stopping" } else { "" };
    let _ = writeln!(
        text,
        "balancer {}: {} connections, {} requests in flight, certificate good for {} days{stopping}\n",
        status.instance, status.connections, status.requests, status.certificate_days_left
    );
    let _ = writeln!(
        text,
        "{:<12} {:<22} {:<9} {:>7} {:>9}  REASON",
        "BACKEND", "ADDRESS", "STATE", "SINCE", "IN FLIGHT"
    );
    for backend in &status.backends {
        let _ = writeln!(
            text,
            "{:<12} {:<22} {:<9} {:>6}s {:>9}  {}",
            backend.name,
            backend.address.as_deref().unwrap_or("-"),
            backend.state,
            backend.since_s,
            backend.in_flight,
            backend.reason
        );
    }
    text
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_backend() {
        let status = Status {
            instance: 2,
            stopping: false,
            connections: 3,
            requests: 1,
            certificate_days_left: 89,
            backends: vec![
                BackendStatus {
                    name: "web-1".to_owned(),
                    address: Some("10.213.2.21:8443".to_owned()),
                    state: "up".to_owned(),
                    reason: "ready".to_owned(),
                    since_s: 12,
                    in_flight: 1,
                },
                BackendStatus {
                    name: "web-2".to_owned(),
                    address: None,
                    state: "starting".to_owned(),
                    reason: "web-2 is not found".to_owned(),
                    since_s: 0,
                    in_flight: 0,
                },
            ],
        };
        let rows: Vec<String> = table(&status).lines().map(str::to_owned).collect();
        assert!(
            rows[0].starts_with("balancer 2: 3 connections, 1 requests in flight"),
            "{rows:?}"
        );
        assert!(
            rows.iter()
                .any(|row| row.starts_with("web-1") && row.ends_with("ready"))
        );
        assert!(
            rows.iter()
                .any(|row| row.starts_with("web-2") && row.contains("starting"))
        );
    }
}
