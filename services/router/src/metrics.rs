//! The router's metrics, every label value there from the start.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{
    config::RouterConfig,
    decision::{Decision, Reason, Target},
    error::RouterError,
    lease::Limit,
    pool::Pool,
    server::Server,
    view::{ServerState, View},
};

pub(crate) struct Metrics {
    /// Every counter of the label pairs that decisions have, by target and reason.
    statements: Vec<IntCounter>,
    /// By target.
    duration: [Histogram; 2],
    errors: IntCounterVec,
    tokens: IntCounterVec,
    /// By server, then by limit.
    refused: Vec<Vec<IntCounter>>,
    up: IntGaugeVec,
    state: IntGaugeVec,
    lag: GaugeVec,
    pub(crate) epoch: IntGauge,
    pub(crate) samples: IntCounter,
    pub(crate) held: IntGauge,
    pub(crate) hold_expired: IntCounter,
    pub(crate) corrected: IntCounter,
    pub(crate) corrections: IntGauge,
    pub(crate) corrections_forgotten: IntCounter,
    pub(crate) retried: IntCounter,
    pub(crate) transactions_retried: IntCounter,
}

/// From a read that is in memory on the same machine to the longest statement timeout that makes sense.
const DURATION_SECONDS: [f64; 13] = [
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 3.0, 10.0,
];

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
        servers: &[Server],
    ) -> Result<Self, prometheus::Error> {
        registry.register(Box::new(Pools::new(servers)?))?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let statements = counters(
            "router_statements_total",
            "Statements that were sent to a server, by its role and the reason.",
            &["target", "reason"],
        )?;
        let refused = counters(
            "router_refused_total",
            "Statements that were refused for lack of room, by server and by the bound that was reached.",
            &["server", "limit"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "router_statement_duration_seconds",
                "From a statement's call to the end of its answer, waiting included; transactions aside.",
            )
            .buckets(DURATION_SECONDS.into()),
            &["target"],
        )?;
        registry.register(Box::new(duration.clone()))?;
        let lag = GaugeVec::new(
            Opts::new(
                "router_lag_seconds",
                "How old a replica's data may be; -1 where it is not known.",
            ),
            &["server"],
        )?;
        registry.register(Box::new(lag.clone()))?;
        let max_lag = Gauge::new(
            "router_max_lag_seconds",
            "The configured bound of a replica's lag.",
        )?;
        registry.register(Box::new(max_lag.clone()))?;
        max_lag.set(config.max_lag().as_secs_f64());
        let metrics = Self {
            statements: Target::ALL
                .iter()
                .flat_map(|target| {
                    Reason::ALL.map(|reason| [target.to_string(), reason.to_string()])
                })
                .map(|labels| statements.with_label_values(&labels))
                .collect(),
            duration: Target::ALL.map(|target| duration.with_label_values(&[target.to_string()])),
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
            refused: config
                .servers
                .iter()
                .map(|server| {
                    let of = |limit: Limit| {
                        refused.with_label_values(&[server.name.as_str(), limit.as_str()])
                    };
                    Limit::ALL.map(of).into()
                })
                .collect(),
            up: gauges(
                "router_server_up",
                "Whether the server gets statements: it answered the last probes, by server.",
                &["server"],
            )?,
            state: gauges(
                "router_server_state",
                "How a server is: 1 for the state that it is in, by server.",
                &["server", "state"],
            )?,
            lag,
            epoch: gauge("router_epoch", "The highest epoch that was read.")?,
            samples: counter(
                "router_samples_total",
                "How often the primary was asked what it has executed.",
            )?,
            held: gauge(
                "router_held",
                "Writes that wait for the end of a switchover.",
            )?,
            hold_expired: counter(
                "router_hold_expired_total",
                "Writes that were held for as long as may be, and refused.",
            )?,
            corrected: counter(
                "router_corrected_total",
                "Statements that a replica refused as writes and that were sent to the primary.",
            )?,
            corrections: gauge(
                "router_corrections",
                "Statements that are remembered as refused by a replica.",
            )?,
            corrections_forgotten: counter(
                "router_corrections_forgotten_total",
                "Statements that were forgotten again, because as many are remembered as may be.",
            )?,
            retried: counter(
                "router_reads_retried_total",
                "Reads that were sent once more, to another server or after a look at all of them.",
            )?,
            transactions_retried: counter(
                "router_transactions_retried_total",
                "Transactions given as closures that were begun again after a deadlock, a lock that did not come, or a change of the primary.",
            )?,
        };
        for kind in RouterError::KINDS {
            metrics.errors.with_label_values(&[kind]);
        }
        for outcome in TOKENS {
            metrics.tokens.with_label_values(&[outcome]);
        }
        for server in &config.servers {
            let name = server.name.as_str();
            metrics.up.with_label_values(&[name]);
            metrics.lag.with_label_values(&[name]).set(-1.0);
            for state in ServerState::ALL {
                metrics
                    .state
                    .with_label_values(&[name, &state.to_string()])
                    .set((state == ServerState::Down).into());
            }
        }
        Ok(metrics)
    }

    pub(crate) fn decided(&self, decision: &Decision) {
        let at = decision.target as usize * Reason::ALL.len() + decision.reason as usize;
        self.statements[at].inc();
    }

    /// A statement has ended well.
    pub(crate) fn took(&self, target: Target, duration: Duration) {
        self.duration[target as usize].observe(duration.as_secs_f64());
    }

    pub(crate) fn failed(&self, error: &RouterError) {
        self.errors.with_label_values(&[error.kind()]).inc();
    }

    pub(crate) fn token(&self, outcome: &str) {
        self.tokens.with_label_values(&[outcome]).inc();
    }

    /// A bound was reached at the server with this index.
    pub(crate) fn refused(&self, server: usize, limit: Limit) {
        self.refused[server][limit as usize].inc();
    }

    /// What a round of probes found of a server.
    pub(crate) fn is(&self, index: usize, server: &Server, view: &View) {
        let name = server.name();
        let known = &view.servers[index];
        self.up.with_label_values(&[name]).set(known.up.into());
        let lag = known.lag().map_or(-1.0, |lag| lag.as_secs_f64());
        self.lag.with_label_values(&[name]).set(lag);
        for state in ServerState::ALL {
            self.state
                .with_label_values(&[name, &state.to_string()])
                .set((state == view.state(index)).into());
        }
    }
}

/// What a gauge reads of a pool.
type Read = fn(&Pool) -> usize;

/// Gauges that tell of pools. They are read when somebody asks, for a statement should cost as little as it can.
struct Pools {
    servers: Vec<(String, Arc<Pool>)>,
    gauges: Vec<(IntGaugeVec, Read)>,
}

impl Pools {
    fn new(servers: &[Server]) -> Result<Self, prometheus::Error> {
        let gauges: [(&str, &str, Read); 4] = [
            (
                "router_in_flight",
                "Connections in use for statements, by server.",
                Pool::in_use,
            ),
            (
                "router_idle_connections",
                "Connections that are ready for a statement, by server.",
                Pool::idle,
            ),
            (
                "router_waiting",
                "Statements that wait for a connection, by server.",
                Pool::waiting,
            ),
            (
                "router_abandoned_connections",
                "Connections that were given up while the server was at work on them, by server.",
                Pool::abandoned,
            ),
        ];
        let gauges = gauges.into_iter().map(|(name, help, read)| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["server"])?;
            Ok::<_, prometheus::Error>((gauges, read))
        });
        Ok(Self {
            servers: servers
                .iter()
                .map(|server| (server.name().to_owned(), Arc::clone(&server.pool)))
                .collect(),
            gauges: gauges.collect::<Result<_, _>>()?,
        })
    }
}

impl Collector for Pools {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges
            .iter()
            .flat_map(|(gauges, _)| gauges.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |(gauges, read): &(IntGaugeVec, Read)| {
            for (name, pool) in &self.servers {
                let value = i64::try_from(read(pool)).unwrap_or(i64::MAX);
                gauges.with_label_values(&[name.as_str()]).set(value);
            }
            gauges.collect()
        };
        self.gauges.iter().flat_map(read).collect()
    }
}
