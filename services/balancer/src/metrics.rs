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
use crate::clients::Clients;
use crate::health::Outcome;
use crate::http1::Refusal;
use crate::retry::Sent;
use crate::rotation::Condition;
use crate::termination::Termination;

/// The backend label of what the edge answered by itself.
const EDGE: &str = "none";
const OUTCOMES: [&str; 3] = ["ready", "not_ready", "failed"];
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The registry, and a handle on every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    in_flight: IntGaugeVec,
    state: IntGaugeVec,
    share: IntGaugeVec,
    requests: IntCounterVec,
    duration: HistogramVec,
    errors: IntCounterVec,
    ejections: IntCounterVec,
    terminations: Vec<IntCounter>,
    refusals: Vec<IntCounter>,
    /// What the edge answered by itself.
    own: Answered,
    retries: IntCounterVec,
    checks: IntCounterVec,
    certificate_days_left: IntGauge,
    connections: IntGauge,
    queue_waiting: IntGauge,
    clients: IntGauge,
    /// How long requests have waited in the queue.
    pub queue_duration: Histogram,
    /// Requests that found the queue full.
    pub queue_full: IntCounter,
    /// Requests that waited too long.
    pub queue_late: IntCounter,
    last_resort: IntGauge,
    /// Requests that were sent to a backend that is not well, because none is.
    pub last_resort_requests: IntCounter,
    /// Connections of clients that were accepted.
    pub connections_accepted: IntCounter,
    /// Connections that were closed at once because there were too many.
    pub connections_refused: IntCounter,
    /// Connections that were closed at once because their client has too many.
    pub client_connections_refused: IntCounter,
    /// Requests that were refused because their client sends too many.
    pub client_requests_refused: IntCounter,
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
    /// Times that the file with the desired states could not be read or written.
    pub state_file_errors: IntCounter,
    /// Backends that there was no room for.
    pub backends_left_out: IntCounter,
}

/// The counters of who has answered: looked up once.
#[derive(Clone, Debug)]
pub struct Answered {
    by_class: Vec<IntCounter>,
    duration: Histogram,
}

/// The counters of one backend: looked up once.
#[derive(Clone, Debug)]
pub struct OfBackend {
    answered: Answered,
    retried_unsent: IntCounter,
    retried_sent: IntCounter,
    /// Answers of 5xx, and requests without an answer.
    pub errors: IntCounter,
    /// How often it was ejected.
    pub ejections: IntCounter,
}

impl OfBackend {
    /// Counters that nobody reads.
    pub fn unread() -> OfBackend {
        Metrics::new().of_backend("unread")
    }

    /// A try has failed and there will be another.
    pub fn retried(&self, sent: Sent) {
        match sent {
            Sent::Nothing => self.retried_unsent.inc(),
            Sent::Perhaps => self.retried_sent.inc(),
        }
    }

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.answered.by_class.iter().map(IntCounter::get).sum()
    }
}

impl Metrics {
    /// Registers everything but what is counted elsewhere. Backends come later.
    pub fn new() -> Metrics {
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
            share: keep.gauges(
                "balancer_backend_share",
                "A backend's part of the work among those of its kind: 256 for each unit of its weight once it is warm, 0 while it is out.",
                &["backend"],
            ),
            errors: keep.counters("balancer_backend_errors_total", "Answers of 5xx, and requests without an answer.", &["backend"]),
            ejections: keep.counters("balancer_ejections_total", "How often a backend was ejected for failing.", &["backend"]),
            queue_waiting: keep.gauge("balancer_queue_waiting", "Requests that wait because every backend has as many as it takes."),
            queue_duration: keep.histogram("balancer_queue_duration_seconds", "How long requests have waited in the queue."),
            queue_full: keep.counter("balancer_queue_full_total", "Requests that were refused because admission.queue_max was reached."),
            queue_late: keep.counter("balancer_queue_timeouts_total", "Requests that were refused because they waited for admission.queue_timeout_ms."),
            last_resort: keep.gauge("balancer_last_resort", "1 while no backend is well and those that are not are asked."),
            last_resort_requests: keep.counter(
                "balancer_last_resort_requests_total",
                "Requests that were sent to a backend that is not well, because none is.",
            ),
            clients: keep.gauge("balancer_clients", "Clients' addresses that are remembered."),
            client_connections_refused: keep.counter(
                "balancer_client_connections_refused_total",
                "Connections that were closed at once because clients.connections_max was reached.",
            ),
            client_requests_refused: keep.counter(
                "balancer_client_requests_refused_total",
                "Requests that were refused because their client sends more than clients.requests_per_s.",
            ),
            state_file_errors: keep.counter(
                "balancer_state_file_errors_total",
                "Times that balancing.state_file could not be read or written.",
            ),
            backends_left_out: keep.counter(
                "balancer_backends_left_out_total",
                "Backends that there was no room for: balancing.backends_max was reached.",
            ),
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
        metrics
    }

    /// Registers what counts clients by itself.
    pub fn counts_of(&self, clients: &Arc<Clients>) {
        let clients = Arc::clone(clients);
        Keep(&self.registry).register(PulledCounter::new(
            "balancer_clients_overflowed_total",
            "How often a client shared its limits with others, because clients.tracked_max was reached.",
            move || clients.overflowed(),
        ));
    }

    /// Where everything is registered.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The counters of one backend; all of its labels are there from now on.
    pub fn of_backend(&self, backend: &str) -> OfBackend {
        self.in_flight.with_label_values(&[backend]);
        self.share.with_label_values(&[backend]);
        for condition in Condition::ALL {
            self.state.with_label_values(&[backend, condition.as_str()]);
        }
        for outcome in OUTCOMES {
            self.checks.with_label_values(&[backend, outcome]);
        }
        let retried = |sent| self.retries.with_label_values(&[backend, word(sent)]);
        OfBackend {
            answered: answered(backend, &self.requests, &self.duration),
            retried_unsent: retried(Sent::Nothing),
            retried_sent: retried(Sent::Perhaps),
            errors: self.errors.with_label_values(&[backend]),
            ejections: self.ejections.with_label_values(&[backend]),
        }
    }

    /// A backend is gone for good, and its counters with it.
    pub fn forget(&self, backend: &str) {
        let of_it = [backend];
        // What was never there is not missed.
        let _ = self.in_flight.remove_label_values(&of_it);
        let _ = self.share.remove_label_values(&of_it);
        let _ = self.duration.remove_label_values(&of_it);
        let _ = self.errors.remove_label_values(&of_it);
        let _ = self.ejections.remove_label_values(&of_it);
        for condition in Condition::ALL {
            let _ = self
                .state
                .remove_label_values(&[backend, condition.as_str()]);
        }
        for outcome in OUTCOMES {
            let _ = self.checks.remove_label_values(&[backend, outcome]);
        }
        for sent in [Sent::Nothing, Sent::Perhaps] {
            let _ = self.retries.remove_label_values(&[backend, word(sent)]);
        }
        for code in CODES {
            let _ = self.requests.remove_label_values(&[backend, code]);
        }
    }

    /// A request has ended; `by` is none where the edge answered by itself.
    pub fn request_ended(
        &self,
        by: Option<&OfBackend>,
        status: Option<u16>,
        end: Termination,
        took: Duration,
    ) {
        let by = by.map_or(&self.own, |by| &by.answered);
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
    pub fn render(&self, now: &Now<'_>) -> String {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.set(count(now.connections));
        self.queue_waiting.set(count(now.waiting));
        self.clients.set(count(now.clients));
        self.last_resort.set(now.is_last_resort.into());
        self.certificate_days_left.set(now.certificate_days_left);
        for (backend, condition) in now.backends {
            let name = backend.name();
            let in_flight = count(backend.in_flight().count());
            self.in_flight.with_label_values(&[name]).set(in_flight);
            let share = backend.offer().map_or(0, |offer| offer.share);
            self.share.with_label_values(&[name]).set(share.into());
            for one in Condition::ALL {
                let gauge = self.state.with_label_values(&[name, one.as_str()]);
                gauge.set((one == *condition).into());
            }
        }
        telemetry::metrics::render(&self.registry)
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// What is true at the moment, for the gauges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now<'a> {
    /// The backends, and how they are.
    pub backends: &'a [(Arc<Backend>, Condition)],
    /// Whether none of them is well, and those that are not are asked.
    pub is_last_resort: bool,
    /// Connections of clients that are open.
    pub connections: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Clients that are remembered.
    pub clients: usize,
    /// Whole days until the first of our certificates expires.
    pub certificate_days_left: i64,
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

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS_SECONDS.to_vec());
        self.keep(Histogram::with_opts(opts))
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
    fn every_label_value_is_there_before_anything_has_happened_and_gone_with_its_backend() {
        let metrics = Metrics::new();
        for backend in ["web-1", "web-2"] {
            metrics.of_backend(backend);
        }
        let text = metrics.render(&Now {
            certificate_days_left: 90,
            ..Now::default()
        });
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
        metrics.forget("web-2");
        let text = metrics.render(&Now::default());
        assert!(text.contains("web-1") && !text.contains("web-2"), "{text}");
    }

    #[test]
    fn a_request_is_counted_by_backend_and_class() {
        let metrics = Metrics::new();
        let one = metrics.of_backend("web-1");
        metrics.request_ended(
            Some(&one),
            Some(201),
            Termination::Completed,
            Duration::from_millis(3),
        );
        metrics.request_ended(None, Some(404), Termination::Refused, Duration::ZERO);
        metrics.request_ended(Some(&one), None, Termination::ClientAbort, Duration::ZERO);
        let text = metrics.render(&Now::default());
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
