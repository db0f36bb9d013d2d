//! The arbiter's metrics. Every label value is there from the start, at 0, so that a graph never lies by absence.

use std::time::SystemTime;

use telemetry::{
    metrics::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry},
    pulled::PulledCounter,
};

use crate::{status::Status, step::Step};

/// A handle on every metric.
#[derive(Clone, Debug)]
pub struct Metrics {
    epoch: IntGauge,
    open: IntGauge,
    acknowledging: IntGauge,
    refusals: IntGauge,
    lag: Gauge,
    lag_transactions: IntGauge,
    last_change: Gauge,
    reachable: IntGaugeVec,
    semi_sync: IntGaugeVec,
    waiting: IntGaugeVec,
    role: IntGaugeVec,
    in_sync: IntGaugeVec,
    steps: IntCounterVec,
    access_denied: IntCounterVec,
    /// Whole days until our certificate expires.
    pub certificate_days_left: IntGauge,
}

const ROLES: [&str; 3] = ["primary", "replica", "none"];

impl Metrics {
    /// Registers everything, for these servers.
    ///
    /// # Errors
    /// When the registry has one of the names already.
    pub fn new<'s>(
        registry: &Registry,
        servers: impl IntoIterator<Item = &'s str>,
    ) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let lag = Gauge::new(
            "arbiter_replica_lag_seconds",
            "The age of what the replica has received and not applied; -1 where it is not known.",
        )?;
        registry.register(Box::new(lag.clone()))?;
        let last_change = Gauge::new(
            "arbiter_last_change_timestamp_seconds",
            "When the durable state was changed last; 0 before the first.",
        )?;
        registry.register(Box::new(last_change.clone()))?;
        registry.register(Box::new(PulledCounter::new(
            "arbiter_role_refusals_total",
            "Certificates of our authority that were refused for their role.",
            chassis::identity::role_refusals,
        )?))?;
        let metrics = Self {
            epoch: gauge(
                "arbiter_epoch",
                "The epoch of the durable state; 0 before the first.",
            )?,
            open: gauge("arbiter_primary_open", "1 if the primary takes writes.")?,
            acknowledging: gauge(
                "arbiter_acknowledging",
                "1 if the last heartbeat was acknowledged in time: by the replica if it is in sync, else by the primary alone; if not, writes wait or the primary is closed.",
            )?,
            refusals: gauge(
                "arbiter_refusals",
                "Conditions that a person has to look at.",
            )?,
            lag,
            last_change,
            lag_transactions: gauge(
                "arbiter_replica_lag_transactions",
                "Transactions of the primary that the replica has not applied; -1 where it is not known.",
            )?,
            semi_sync: gauges(
                "arbiter_semi_sync",
                "1 if commits on the server wait for an acknowledgement.",
                &["server"],
            )?,
            waiting: gauges(
                "arbiter_waiting_sessions",
                "Sessions on the server that wait for an acknowledgement.",
                &["server"],
            )?,
            reachable: gauges(
                "arbiter_server_reachable",
                "1 if the server answered the last look.",
                &["server"],
            )?,
            role: gauges(
                "arbiter_role",
                "1 for the role that a server has.",
                &["server", "role"],
            )?,
            in_sync: gauges(
                "arbiter_in_sync",
                "1 if the server is in the durable in-sync set.",
                &["server"],
            )?,
            steps: counters(
                "arbiter_steps_total",
                "Steps, by what came of them.",
                &["step", "outcome"],
            )?,
            access_denied: counters(
                "arbiter_mysql_access_denied_total",
                "Logins that a server has refused while it was looked at: a certificate of another role, a wrong password, no such account.",
                &["server"],
            )?,
            certificate_days_left: gauge(
                "arbiter_certificate_days_left",
                "Whole days until our certificate expires.",
            )?,
        };
        for server in servers {
            metrics.reachable.with_label_values(&[server]);
            metrics.semi_sync.with_label_values(&[server]);
            metrics.waiting.with_label_values(&[server]);
            metrics.in_sync.with_label_values(&[server]);
            metrics.access_denied.with_label_values(&[server]);
            for role in ROLES {
                metrics.role.with_label_values(&[server, role]);
            }
        }
        for step in Step::NAMES {
            for outcome in ["done", "failed"] {
                metrics.steps.with_label_values(&[step, outcome]);
            }
        }
        Ok(metrics)
    }

    /// Counts a step.
    pub fn count(&self, step: &Step, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.steps.with_label_values(&[step.name(), outcome]).inc();
    }

    /// The durable state was changed.
    pub fn changed(&self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        self.last_change
            .set(since.unwrap_or_default().as_secs_f64());
    }

    /// Counts logins that a server has refused.
    pub fn denied(&self, server: &str, logins: u64) {
        self.access_denied
            .with_label_values(&[server])
            .inc_by(logins);
    }

    /// Sets the gauges to the latest status.
    pub fn set(&self, status: &Status) {
        self.epoch
            .set(i64::try_from(status.epoch).unwrap_or(i64::MAX));
        self.open.set(status.open.into());
        self.acknowledging.set(status.acknowledging.into());
        self.refusals
            .set(i64::try_from(status.refusals.len()).unwrap_or(i64::MAX));
        let lag_ms = status.servers.iter().find_map(|server| server.lag_ms);
        self.lag.set(lag_ms.map_or(-1.0, |ms| {
            std::time::Duration::from_millis(ms).as_secs_f64()
        }));
        let behind = status
            .servers
            .iter()
            .find_map(|server| server.lag_transactions);
        self.lag_transactions
            .set(behind.map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX)));
        for server in &status.servers {
            let name = server.name.as_str();
            self.semi_sync
                .with_label_values(&[name])
                .set(server.semi_sync.into());
            self.waiting
                .with_label_values(&[name])
                .set(i64::try_from(server.waiting_sessions).unwrap_or(i64::MAX));
            self.reachable
                .with_label_values(&[name])
                .set(server.reachable.into());
            self.in_sync
                .with_label_values(&[name])
                .set(status.in_sync.contains(&server.name).into());
            for role in ROLES {
                self.role
                    .with_label_values(&[name, role])
                    .set((server.role == role).into());
            }
        }
    }
}
