//! What the balancer knows about itself, and the table that `balancer status` prints of it.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::edge::Edge;
use crate::roster::Report;

/// What the balancer knows about itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Its number in its pod.
    pub instance: usize,
    /// Whether it is about to stop.
    pub stopping: bool,
    /// `active-active` or `active-passive`.
    pub mode: String,
    /// Whether no backend is well, and requests go to those that are not.
    pub last_resort: bool,
    /// Connections of clients that are open.
    pub connections: usize,
    /// Requests in flight, those included that the edge answers by itself.
    pub requests: usize,
    /// Requests that wait because every backend has as many as it takes.
    pub waiting: usize,
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
    /// How it is, in one word: `up`, `standby`, `starting`, `not_ready`, `down`, `ejected`, `drain`, `maint`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Seconds since the state began.
    pub since_s: u64,
    /// Its part among the others, 1 to 1000.
    pub weight: u32,
    /// How much of it it gets: less than 100 while it starts slowly.
    pub warm_percent: u32,
    /// Leases held.
    pub in_flight: usize,
    /// How many it is given at one time.
    pub requests_max: usize,
    /// Answers in a second, over the last ten.
    pub rate: f64,
    /// Errors in a second, over the last ten: answers of 5xx, and none.
    pub error_rate: f64,
    /// Errors so far.
    pub errors: u64,
    /// How often it was ejected so far.
    pub ejections: u64,
    /// Mean time to an answer, in milliseconds; none before the first.
    pub latency_ms: Option<f64>,
    /// Whether it is no member any more, and finishes what it has.
    pub leaving: bool,
}

/// The status as it is now.
pub fn status(edge: &Edge) -> Status {
    let reports = edge.roster.report();
    Status {
        instance: edge.config.instance,
        stopping: edge.traffic.is_stopping(),
        mode: edge.roster.mode().as_str().to_owned(),
        last_resort: edge.roster.is_last_resort(),
        connections: edge.traffic.connections(),
        requests: edge.traffic.requests(),
        waiting: edge.roster.queue().waiting(),
        certificate_days_left: edge.certificates.days_left(),
        backends: reports.into_iter().map(BackendStatus::from).collect(),
    }
}

impl From<Report> for BackendStatus {
    fn from(report: Report) -> BackendStatus {
        let backend = &report.backend;
        let since = SystemTime::now().duration_since(report.since);
        BackendStatus {
            name: backend.name().to_owned(),
            address: backend.address().map(|address| address.to_string()),
            state: report.condition.as_str().to_owned(),
            reason: report.reason,
            since_s: since.unwrap_or(Duration::ZERO).as_secs(),
            weight: report.weight,
            warm_percent: report.warm_percent,
            in_flight: backend.in_flight().count(),
            requests_max: backend.requests_max(),
            rate: report.rate,
            error_rate: report.error_rate,
            errors: backend.metrics.errors.get(),
            ejections: backend.metrics.ejections.get(),
            latency_ms: backend.latency().map(|mean| mean.as_secs_f64() * 1000.0),
            leaving: report.is_leaving,
        }
    }
}

/// The status for people.
pub fn table(status: &Status) -> String {
    let mut text = String::new();
    let stopping = if status.stopping { ", stopping" } else { "" };
    let _ = writeln!(
        text,
        "balancer {}: {}, {} connections, {} requests in flight, {} waiting, certificate good for {} days{stopping}",
        status.instance,
        status.mode,
        status.connections,
        status.requests,
        status.waiting,
        status.certificate_days_left
    );
    if status.last_resort {
        let _ = writeln!(
            text,
            "no backend is well: requests go to those that are not (balancing.when_none)"
        );
    }
    let head = [
        "BACKEND",
        "STATE",
        "SINCE",
        "WEIGHT",
        "WARM",
        "IN FLIGHT",
        "REQ/S",
        "ERR/S",
        "ERRORS",
        "EJECTED",
        "LATENCY",
        "ADDRESS",
    ]
    .map(str::to_owned);
    let mut rows = vec![(head, "REASON")];
    for backend in &status.backends {
        let latency = backend.latency_ms;
        let row = [
            backend.name.clone(),
            backend.state.clone(),
            span(backend.since_s),
            backend.weight.to_string(),
            format!("{} %", backend.warm_percent),
            format!("{}/{}", backend.in_flight, backend.requests_max),
            format!("{:.1}", backend.rate),
            format!("{:.1}", backend.error_rate),
            backend.errors.to_string(),
            backend.ejections.to_string(),
            latency.map_or("-".to_owned(), |ms| format!("{ms:.1} ms")),
            backend.address.clone().unwrap_or("-".to_owned()),
        ];
        rows.push((row, backend.reason.as_str()));
    }
    text.push('\n');
    let width = |column: usize| {
        rows.iter()
            .map(|(row, _)| row[column].chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..rows[0].0.len()).filter_map(width).collect();
    for (row, reason) in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = match column {
                0 | 1 | 11 => write!(text, "{cell:<width$}  "),
                _ => write!(text, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{reason}");
    }
    text
}

/// A time of the clock in two units at most.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_backend() {
        let backend = |name: &str, state: &str, reason: &str| BackendStatus {
            name: name.to_owned(),
            address: None,
            state: state.to_owned(),
            reason: reason.to_owned(),
            since_s: 3725,
            weight: 100,
            warm_percent: 40,
            in_flight: 1,
            requests_max: 1000,
            rate: 12.25,
            error_rate: 0.0,
            errors: 3,
            ejections: 1,
            latency_ms: Some(4.25),
            leaving: false,
        };
        let status = Status {
            instance: 2,
            stopping: false,
            mode: "active-active".to_owned(),
            last_resort: true,
            connections: 3,
            requests: 1,
            waiting: 0,
            certificate_days_left: 89,
            backends: vec![
                backend("web-1", "up", "ready"),
                backend("web-2@10.213.2.22", "not_ready", "/readyz answered 503"),
            ],
        };
        let text = table(&status);
        let rows: Vec<&str> = text.lines().collect();
        assert!(
            rows[0].starts_with("balancer 2: active-active, 3 connections, 1 requests in flight"),
            "{text}"
        );
        assert!(rows[1].starts_with("no backend is well"), "{text}");
        for (start, end) in [("web-1 ", "ready"), ("web-2@10.213.2.22 ", "503")] {
            let row = rows.iter().find(|row| row.starts_with(start));
            let row = row.expect("a row");
            assert!(row.ends_with(end) && row.contains(" 1h02m "), "{text}");
        }
    }
}
