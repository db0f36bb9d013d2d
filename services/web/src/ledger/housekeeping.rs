//! What the ledger does by itself, beside requests: forgets old idempotency keys, and shows that its entries add up to zero.

use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use router::Router;

use super::{LedgerError, check, idempotency};

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// The most batches of old keys that one round deletes: a backlog is worked off over several.
const BATCHES_MAX: usize = 20;

/// The ledger's own metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    imbalance_cents: IntGauge,
    failures: IntCounter,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a metric of that name is there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            imbalance_cents: IntGauge::new(
                "web_ledger_imbalance_cents",
                "The sum of all entries of the ledger. Anything but 0 means that money was made or lost.",
            )?,
            failures: IntCounter::new(
                "web_ledger_housekeeping_failures_total",
                "Rounds of the ledger's housekeeping that the database did not let finish.",
            )?,
        };
        registry.register(Box::new(metrics.imbalance_cents.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }
}

/// Does it once a minute, for ever; a round that fails is logged, and the next one tries again.
pub async fn run(db: Router, metrics: Metrics) {
    loop {
        if let Err(error) = round(&db.session(None), &metrics).await {
            metrics.failures.inc();
            tracing::warn!(%error, "the ledger's housekeeping failed; it is tried again in a minute");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn round(db: &Router, metrics: &Metrics) -> Result<(), LedgerError> {
    metrics
        .imbalance_cents
        .set(check::imbalance_cents(db).await?);
    for _ in 0..BATCHES_MAX {
        if !idempotency::purge_batch(db).await? {
            break;
        }
    }
    Ok(())
}
