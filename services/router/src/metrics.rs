//! The router's metrics, every label value there from the start.

use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::{
    config::RouterConfig,
    decision::{Decision, Reason, Target},
    error::RouterError,
};

pub(crate) struct Metrics {
    statements: IntCounterVec,
    errors: IntCounterVec,
    tokens: IntCounterVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) abandoned: IntGaugeVec,
    pub(crate) up: IntGaugeVec,
    pub(crate) lag: GaugeVec,
    pub(crate) epoch: IntGauge,
    pub(crate) samples: IntCounter,
    pub(crate) max_lag: Gauge,
}

/// What can become of a token.
const TOKENS: [&str; 6] = [
    "accepted",
    "too_long",
    "malformed",
    "forged",
    "history_gone",
    "too_long_to_make",
];

impl Metrics {
    pub(crate) fn new(
        registry: &Registry,
        config: &RouterConfig,
    ) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            statements: counters(
                "router_statements_total",
                "Statements that were sent to a server, by its role and the reason.",
                &["target", "reason"],
            )?,
            errors: counters(
                "router_errors_total",
                "Statements that ended in an error, by its kind.",
                &["kind"],
            )?,
            tokens: counters(
                "router_causal_tokens_total",
                "Causal tokens, by what became of them.",
                &["outcome"],
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new(
                    "router_in_flight",
                    "Connections in use for statements, by server.",
                ),
                &["server"],
            )?,
            abandoned: IntGaugeVec::new(
                Opts::new(
                    "router_abandoned_connections",
                    "Connections that were given up while the server was at work on them, by server.",
                ),
                &["server"],
            )?,
            up: IntGaugeVec::new(
                Opts::new(
                    "router_server_up",
                    "Whether the server answered the last probe, by server.",
                ),
                &["server"],
            )?,
            lag: GaugeVec::new(
                Opts::new(
                    "router_lag_seconds",
                    "How old a replica's data may be; -1 where it is not known.",
                ),
                &["server"],
            )?,
            epoch: IntGauge::new("router_epoch", "The highest epoch that was read.")?,
            samples: IntCounter::new(
                "router_samples_total",
                "How often the primary was asked what it has executed.",
            )?,
            max_lag: Gauge::new(
                "router_max_lag_seconds",
                "The configured bound of a replica's lag.",
            )?,
        };
        registry.register(Box::new(metrics.statements.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.tokens.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.abandoned.clone()))?;
        registry.register(Box::new(metrics.up.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.epoch.clone()))?;
        registry.register(Box::new(metrics.samples.clone()))?;
        registry.register(Box::new(metrics.max_lag.clone()))?;
        for target in Target::ALL {
            for reason in Reason::ALL {
                metrics
                    .statements
                    .with_label_values(&[&target.to_string(), &reason.to_string()]);
            }
        }
        for kind in RouterError::KINDS {
            metrics.errors.with_label_values(&[kind]);
        }
        for outcome in TOKENS {
            metrics.tokens.with_label_values(&[outcome]);
        }
        for server in &config.servers {
            metrics.in_flight.with_label_values(&[&server.name]);
            metrics.abandoned.with_label_values(&[&server.name]);
            metrics.up.with_label_values(&[&server.name]);
            metrics.lag.with_label_values(&[&server.name]).set(-1.0);
        }
        metrics.max_lag.set(config.max_lag().as_secs_f64());
        Ok(metrics)
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        let labels = [decision.target.to_string(), decision.reason.to_string()];
        self.statements.with_label_values(&labels).inc();
    }

    pub(crate) fn failed(&self, error: &RouterError) {
        self.errors.with_label_values(&[error.kind()]).inc();
    }

    pub(crate) fn token(&self, outcome: &str) {
        self.tokens.with_label_values(&[outcome]).inc();
    }
}
