//! The web server's own metrics; the router and the ledger bring theirs.

use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use telemetry::{metrics::DURATION_BUCKETS_SECONDS, pulled::PulledCounter};

use crate::monitoring::Away;

/// Classes of status, as values of a label.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why a connection ended before it could carry a request.
pub(crate) const HANDSHAKE_FAILURES: [&str; 2] = ["refused", "timeout"];

/// Registered once, cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Answers by route and class of status. Routes are a closed list: what is routed nowhere is `none`.
    pub answers: IntCounterVec,
    /// How long answers took, by route.
    pub duration: HistogramVec,
    /// Requests that are being answered.
    pub in_flight: IntGauge,
    /// Requests that ended in a panic.
    pub panics: IntCounter,
    /// Requests that were given up because they took too long.
    pub timeouts: IntCounter,
    /// Open connections.
    pub connections: IntGauge,
    /// How often a connection had to wait because there were too many.
    pub connections_full: IntCounter,
    /// Connections that failed in the TLS handshake.
    pub handshake_failures: IntCounterVec,
    /// Whole days until our certificate expires.
    pub certificate_days_left: IntGauge,
    /// Questions to Prometheus for the status page.
    pub monitoring_queries: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a metric of that name is there already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            answers: IntCounterVec::new(
                Opts::new("web_answers_total", "Answers by route and class of status."),
                &["route", "class"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "web_request_duration_seconds",
                    "From a request's head to the head of its answer.",
                )
                .buckets(DURATION_BUCKETS_SECONDS.to_vec()),
                &["route"],
            )?,
            in_flight: IntGauge::new(
                "web_requests_in_flight",
                "Requests that are being answered.",
            )?,
            panics: IntCounter::new("web_panics_total", "Requests that ended in a panic.")?,
            timeouts: IntCounter::new(
                "web_request_timeouts_total",
                "Requests that were given up because they took longer than request.timeout_ms.",
            )?,
            connections: IntGauge::new("web_connections", "Open connections.")?,
            connections_full: IntCounter::new(
                "web_connections_full_total",
                "How often connections.max was reached, so that a connection had to wait.",
            )?,
            handshake_failures: IntCounterVec::new(
                Opts::new(
                    "web_handshake_failures_total",
                    "Connections that failed in the TLS handshake.",
                ),
                &["reason"],
            )?,
            certificate_days_left: IntGauge::new(
                "web_certificate_days_left",
                "Whole days until our certificate expires.",
            )?,
            monitoring_queries: IntCounterVec::new(
                Opts::new(
                    "web_monitoring_queries_total",
                    "Questions to Prometheus for the status page, by what came of them.",
                ),
                &["outcome"],
            )?,
        };
        for outcome in Away::KINDS.into_iter().chain(["answered"]) {
            metrics.monitoring_queries.with_label_values(&[outcome]);
        }
        for reason in HANDSHAKE_FAILURES {
            metrics.handshake_failures.with_label_values(&[reason]);
        }
        registry.register(Box::new(metrics.answers.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.timeouts.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_full.clone()))?;
        registry.register(Box::new(metrics.handshake_failures.clone()))?;
        registry.register(Box::new(metrics.certificate_days_left.clone()))?;
        registry.register(Box::new(metrics.monitoring_queries.clone()))?;
        registry.register(Box::new(PulledCounter::new(
            "web_role_refusals_total",
            "Certificates of our authority that were refused for their role.",
            chassis::identity::role_refusals,
        )?))?;
        Ok(metrics)
    }

    /// There is such a route: its series begin at 0 now, and not with its first answer.
    pub fn has_route(&self, route: &str) {
        for class in CLASSES {
            self.answers.with_label_values(&[route, class]);
        }
        self.duration.with_label_values(&[route]);
    }

    /// Counts an answer.
    pub fn answered(&self, route: &str, status: http::StatusCode, seconds: f64) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        let class = CLASSES.get(class).copied().unwrap_or("5xx");
        self.answers.with_label_values(&[route, class]).inc();
        self.duration.with_label_values(&[route]).observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_by_route_and_class() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.answered("/accounts/{id}", http::StatusCode::NOT_FOUND, 0.01);
        let text = telemetry::metrics::render(&registry);
        assert!(
            text.contains(r#"web_answers_total{class="4xx",route="/accounts/{id}"} 1"#),
            "{text}"
        );
        assert!(Metrics::new(&registry).is_err(), "twice");
    }
}
