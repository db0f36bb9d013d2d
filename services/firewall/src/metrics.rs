//! The firewall's metrics. Every label value is there from the start, at 0, so that a graph never lies by absence.

use std::{collections::BTreeMap, sync::Mutex};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use telemetry::pulled::PulledCounter;

use crate::{
    report::{Counted, Report},
    ruleset::{Counter, Verdict},
};

/// Why the door let somebody not through.
pub(crate) const DOOR_FAILURES: [&str; 3] = ["handshake", "timeout", "nobody_behind"];

/// A handle on every metric.
#[derive(Debug)]
pub struct Metrics {
    accepted: [IntCounterVec; 2],
    dropped: [IntCounterVec; 2],
    rules_good: IntGauge,
    loads: IntCounter,
    failures: IntCounter,
    /// Whole days until our certificate expires.
    pub certificate_days_left: IntGauge,
    /// Connections through the door.
    pub door_connections: IntGaugeVec,
    /// Connections that were closed at once because there were too many.
    pub door_full: IntCounterVec,
    /// Connections that did not get through.
    pub door_failures: IntCounterVec,
    counters: Vec<Counter>,
    seen: Mutex<Report>,
}

impl Metrics {
    /// Registers everything, for these counters and these ports of a door.
    ///
    /// # Errors
    /// When the registry has one of the names already.
    pub fn new(
        registry: &Registry,
        counters: Vec<Counter>,
        doors: &[&str],
    ) -> prometheus::Result<Self> {
        let vec = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let door_connections = IntGaugeVec::new(
            Opts::new("firewall_door_connections", "Connections through the door."),
            &["port"],
        )?;
        registry.register(Box::new(door_connections.clone()))?;
        registry.register(Box::new(PulledCounter::new(
            "firewall_role_refusals_total",
            "Certificates of our authority that were refused for their role.",
            chassis::identity::role_refusals,
        )?))?;
        let metrics = Self {
            accepted: [
                vec(
                    "firewall_accepted_packets_total",
                    "Packets that passed, by direction and flow of the matrix.",
                    &["direction", "flow"],
                )?,
                vec(
                    "firewall_accepted_bytes_total",
                    "Bytes that passed, headers included.",
                    &["direction", "flow"],
                )?,
            ],
            dropped: [
                vec(
                    "firewall_dropped_packets_total",
                    "Packets that did not pass, by direction and reason.",
                    &["direction", "reason"],
                )?,
                vec(
                    "firewall_dropped_bytes_total",
                    "Bytes that did not pass, headers included.",
                    &["direction", "reason"],
                )?,
            ],
            rules_good: gauge(
                "firewall_rules_good",
                "1 if the rules are as they were loaded.",
            )?,
            loads: counter("firewall_rule_loads_total", "How often rules were loaded.")?,
            failures: counter(
                "firewall_rule_verification_failures_total",
                "How often the rules were found to be other ones than were loaded.",
            )?,
            certificate_days_left: gauge(
                "firewall_certificate_days_left",
                "Whole days until our certificate expires.",
            )?,
            door_connections,
            door_full: vec(
                "firewall_door_connections_full_total",
                "Connections that were closed at once because door.connections_max was reached.",
                &["port"],
            )?,
            door_failures: vec(
                "firewall_door_failures_total",
                "Connections that did not get through the door, by reason.",
                &["port", "reason"],
            )?,
            counters,
            seen: Mutex::default(),
        };
        for port in doors {
            metrics.door_connections.with_label_values(&[port]);
            metrics.door_full.with_label_values(&[port]);
            for reason in DOOR_FAILURES {
                metrics.door_failures.with_label_values(&[*port, reason]);
            }
        }
        metrics.add(&BTreeMap::new(), &BTreeMap::new());
        Ok(metrics)
    }

    /// Takes what the owner says. Its counts begin anew when rules are loaded; ours go on.
    pub fn reported(&self, report: Report) {
        let mut seen = self.seen.lock().expect("nothing panics with it");
        self.add(&seen.counters, &report.counters);
        self.rules_good.set(report.rules_good.into());
        self.loads.inc_by(report.loads.saturating_sub(seen.loads));
        self.failures
            .inc_by(report.failures.saturating_sub(seen.failures));
        *seen = report;
    }

    fn add(&self, before: &BTreeMap<String, Counted>, now: &BTreeMap<String, Counted>) {
        for counter in &self.counters {
            let name = counter.name();
            let of =
                |counts: &BTreeMap<String, Counted>| counts.get(&name).copied().unwrap_or_default();
            let (before, now) = (of(before), of(now));
            let (family, what) = match &counter.verdict {
                Verdict::Accepted(flow) => (&self.accepted, flow.as_str()),
                Verdict::Dropped(reason) => (&self.dropped, *reason),
            };
            let labels = [counter.direction.as_str(), what];
            for (family, before, now) in [
                (&family[0], before.packets, now.packets),
                (&family[1], before.bytes, now.bytes),
            ] {
                let new = now.checked_sub(before).unwrap_or(now);
                family.with_label_values(&labels).inc_by(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::matrix::matrix;

    use super::*;
    use crate::ruleset::counters;

    fn report(packets: u64) -> Report {
        let bytes = packets * 60;
        Report {
            counters: [("out_no_flow".to_owned(), Counted { packets, bytes })].into(),
            rules_good: true,
            loads: 1,
            failures: 0,
        }
    }

    #[test]
    fn every_label_value_is_there_before_anything_has_happened_and_counts_outlive_a_reload() {
        let registry = Registry::new();
        let counters = counters(matrix(), "pod-telemetry").unwrap();
        let metrics = Metrics::new(&registry, counters, &["spans"]).unwrap();
        let has = |line: &str| {
            let text = telemetry::metrics::render(&registry);
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        };
        has("firewall_accepted_packets_total{direction=\"in\",flow=\"spans\"} 0");
        has("firewall_accepted_bytes_total{direction=\"out\",flow=\"scrapes\"} 0");
        has("firewall_dropped_packets_total{direction=\"in\",reason=\"no_flow\"} 0");
        has("firewall_dropped_packets_total{direction=\"forward\",reason=\"no_flow\"} 0");
        has("firewall_door_failures_total{port=\"spans\",reason=\"handshake\"} 0");
        has("firewall_role_refusals_total 0");
        metrics.reported(report(5));
        metrics.reported(report(7));
        has("firewall_dropped_packets_total{direction=\"out\",reason=\"no_flow\"} 7");
        has("firewall_rules_good 1");
        metrics.reported(report(2));
        has("firewall_dropped_packets_total{direction=\"out\",reason=\"no_flow\"} 9");
        has("firewall_dropped_bytes_total{direction=\"out\",reason=\"no_flow\"} 540");
    }
}
