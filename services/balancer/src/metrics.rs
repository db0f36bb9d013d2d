//! The balancer's metrics. Every label value is there from the start, at 0, so that a graph never lies by absence.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use telemetry::metrics::DURATION_BUCKETS_SECONDS;
use telemetry::pulled::PulledCounter;

use crate::backend::Backend;
use crate::health::{Outcome, State};
use crate::http1::Refusal;
use crate::retry::Sent;
use crate::termination::Termination;

/// The backend label of what the edge answered by itself.
const EDGE: &str = "none";
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The registry, and a handle on every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    in_flight: IntGaugeVec,
    state: IntGaugeVec,
    requests: IntCounterVec,
    duration: HistogramVec,
    terminations: Vec<IntCounter>,
    refusals: Vec<IntCounter>,
    /// What the edge answered by itself.
    own: Answered,
    retries: IntCounterVec,
    checks: IntCounterVec,
    certificate_days_left: IntGauge,
    connections: IntGauge,
    /// Connections that were accepted.
    pub connections_accepted: IntCounter,
    /// Connections that were closed at once because there were too many.
    pub connections_refused: IntCounter,
    /// TLS handshakes with clients that failed or took too long.
    pub handshakes_failed: IntCounter,
    /// Lines of the access log that were dropped because its reader is slow.
    pub log_lines_dropped: IntCounter,
    /// Connections to backends that were made.
    pub backend_connections: IntCounter,
    /// Tries on a connection that the backend had given up just before; not its fault, and nobody's error.
    pub stale_connections: IntCounter,
    /// Tries that were not made because the budget was used up.
    pub retries_refused: IntCounter,
    /// HTTP/2 connections that were ended for a flood of frames.
    pub floods: IntCounter,
}

/// The counters of who has answered: looked up once.
#[derive(Clone, Debug)]
pub struct Answered {
    by_class: Vec<IntCounter>,
    duration: Histogram,
}

impl Metrics {
    /// Registers everything, for these backends.
    pub fn new<'a>(backends: impl IntoIterator<Item = &'a str>) -> Metrics {
        let registry = Registry::new();
        let keep = Keep(&registry);
        let requests = keep.counters(
            "balancer_requests_total",
            "Requests answered, by the backend that answered and the class of the status.",
            &["backend", "code"],
        );
        let duration = keep.histograms(
            "balancer_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            &["backend"],
        );
        let metrics = Metrics {
            in_flight: keep.gauges("balancer_in_flight", "Requests in flight on a backend: leases held.", &["backend"]),
            state: keep.gauges("balancer_backend_state", "1 for the state that a backend is in.", &["backend", "state"]),
            own: answered(EDGE, &requests, &duration),
            requests,
            duration,
            terminations: keep.each(
                "balancer_terminations_total",
                "How requests ended.",
                "reason",
                Termination::ALL.iter().map(|end| end.as_str()),
            ),
            refusals: keep.each(
                "balancer_refusals_total",
                "Messages of clients and backends that were refused, by the rule that they break.",
                "rule",
                Refusal::ALL.iter().map(|refusal| refusal.name()),
            ),
            retries: keep.counters(
                "balancer_retries_total",
                "Tries that failed on a backend and were followed by another, by whether the request may have reached it.",
                &["backend", "sent"],
            ),
            checks: keep.counters("balancer_health_checks_total", "Health checks, by what they found.", &["backend", "outcome"]),
            certificate_days_left: keep.gauge("balancer_certificate_days_left", "Whole days until the first of our certificates expires."),
            connections: keep.gauge("balancer_connections", "Connections of clients that are open."),
            connections_accepted: keep.counter("balancer_connections_accepted_total", "Connections of clients that were accepted."),
            connections_refused: keep.counter(
                "balancer_connections_refused_total",
                "Connections that were closed at once because listen.connections_max was reached.",
            ),
            handshakes_failed: keep.counter(
                "balancer_handshakes_failed_total",
                "TLS handshakes with clients that failed or took too long.",
            ),
            log_lines_dropped: keep.counter(
                "balancer_access_log_lines_dropped_total",
                "Lines of the access log that were dropped because its reader is slow.",
            ),
            backend_connections: keep.counter(
                "balancer_backend_connections_total",
                "Connections to backends that were made for requests.",
            ),
            stale_connections: keep.counter(
                "balancer_stale_connections_total",
                "Requests that met an idle connection which the backend was just closing, and were sent again unheard.",
            ),
            retries_refused: keep.counter(
                "balancer_retries_refused_total",
                "Tries that were not made because the retry budget was used up.",
            ),
            floods: keep.counter(
                "balancer_http2_floods_total",
                "HTTP/2 connections that were ended for a flood of frames without content.",
            ),
            registry: registry.clone(),
        };
        keep.register(PulledCounter::new(
            "balancer_role_refusals_total",
            "Certificates of our authority that were refused for their role.",
            chassis::identity::role_refusals,
        ));
        let backends: Vec<&str> = backends.into_iter().collect();
        for backend in backends {
            metrics.answered(backend);
            metrics.in_flight.with_label_values(&[backend]);
            for state in State::ALL {
                metrics.state.with_label_values(&[backend, state.as_str()]);
            }
            for sent in [Sent::Nothing, Sent::Perhaps] {
                metrics.retries.with_label_values(&[backend, word(sent)]);
            }
            for outcome in ["ready", "not_ready", "failed"] {
                metrics.checks.with_label_values(&[backend, outcome]);
            }
        }
        metrics
    }

    /// Where everything is registered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of one backend.
    pub fn answered(&self, backend: &str) -> Answered {
        answered(backend, &self.requests, &self.duration)
    }

    /// A request has ended; `by` is none where the edge answered by itself.
    pub fn request_ended(
        &self,
        by: Option<&Answered>,
        status: Option<u16>,
        end: Termination,
        took: Duration,
    ) {
        let by = by.unwrap_or(&self.own);
        let class = status.map(|status| usize::from(status / 100).wrapping_sub(1));
        if let Some(counter) = class.and_then(|class| by.by_class.get(class)) {
            counter.inc();
        }
        by.duration.observe(took.as_secs_f64());
        self.terminations[end as usize].inc();
    }

    /// A head was refused before it became a request.
    pub fn head_refused(&self, end: Termination) {
        self.terminations[end as usize].inc();
    }

    /// A message breaks a rule.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].inc();
    }

    /// A try has failed and there will be another.
    pub fn retried(&self, backend: &str, sent: Sent) {
        self.retries.with_label_values(&[backend, word(sent)]).inc();
    }

    /// A health check was made.
    pub fn checked(&self, backend: &str, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Ready => "ready",
            Outcome::NotReady(_) => "not_ready",
            Outcome::Failed(_) => "failed",
        };
        self.checks.with_label_values(&[backend, outcome]).inc();
    }

    /// Everything as text, with the gauges set to what is true now.
    pub fn render(
        &self,
        backends: &[Arc<Backend>],
        connections: usize,
        certificate_days_left: i64,
    ) -> String {
        self.connections
            .set(connections.try_into().unwrap_or(i64::MAX));
        self.certificate_days_left.set(certificate_days_left);
        for backend in backends {
            let in_flight = backend.in_flight().count().try_into().unwrap_or(i64::MAX);
            self.in_flight
                .with_label_values(&[backend.name()])
                .set(in_flight);
            let standing = backend.standing();
            for state in State::ALL {
                let is = i64::from(standing.state == state);
                self.state
                    .with_label_values(&[backend.name(), state.as_str()])
                    .set(is);
            }
        }
        telemetry::metrics::render(&self.registry)
    }
}

fn answered(backend: &str, requests: &IntCounterVec, duration: &HistogramVec) -> Answered {
    let class = |code| requests.with_label_values(&[backend, code]);
    Answered {
        by_class: CODES.into_iter().map(class).collect(),
        duration: duration.with_label_values(&[backend]),
    }
}

fn word(sent: Sent) -> &'static str {
    match sent {
        Sent::Nothing => "nothing",
        Sent::Perhaps => "perhaps",
    }
}

/// Makes and registers. The names are constants of this file, so a clash is found by the first test that runs.
struct Keep<'a>(&'a Registry);

impl Keep<'_> {
    fn keep<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<M>,
    ) -> M {
        let metric = metric.expect("the names and labels in this file are valid");
        self.register(Ok(metric.clone()));
        metric
    }

    fn register<M: prometheus::core::Collector + 'static>(&self, metric: prometheus::Result<M>) {
        let metric = metric.expect("the names and labels in this file are valid");
        self.0
            .register(Box::new(metric))
            .expect("each name is registered once");
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A counter for each value of one label, in their order.
    fn each(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = &'static str>,
    ) -> Vec<IntCounter> {
        let counters = self.counters(name, help, &[label]);
        values
            .map(|value| counters.with_label_values(&[value]))
            .collect()
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS_SECONDS.to_vec());
        self.keep(HistogramVec::new(opts, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_value_is_there_before_anything_has_happened() {
        let text = Metrics::new(["web-1", "web-2"]).render(&[], 0, 90);
        for line in [
            "balancer_in_flight{backend=\"web-2\"} 0",
            "balancer_requests_total{backend=\"web-1\",code=\"5xx\"} 0",
            "balancer_requests_total{backend=\"none\",code=\"4xx\"} 0",
            "balancer_terminations_total{reason=\"backend_reset\"} 0",
            "balancer_retries_total{backend=\"web-1\",sent=\"nothing\"} 0",
            "balancer_certificate_days_left 90",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_request_is_counted_by_backend_and_class() {
        let metrics = Metrics::new(["web-1"]);
        let one = metrics.answered("web-1");
        metrics.request_ended(
            Some(&one),
            Some(201),
            Termination::Completed,
            Duration::from_millis(3),
        );
        metrics.request_ended(None, Some(404), Termination::Refused, Duration::ZERO);
        metrics.request_ended(Some(&one), None, Termination::ClientAbort, Duration::ZERO);
        let text = metrics.render(&[], 0, 1);
        for line in [
            "balancer_requests_total{backend=\"web-1\",code=\"2xx\"} 1",
            "balancer_requests_total{backend=\"none\",code=\"4xx\"} 1",
            "balancer_terminations_total{reason=\"client_abort\"} 1",
            "balancer_request_duration_seconds_count{backend=\"web-1\"} 2",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
