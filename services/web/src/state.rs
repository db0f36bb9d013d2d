//! What every handler can reach.

use std::sync::Arc;

use prometheus::Registry;
use router::Router;

use crate::{
    auth::Tokens, config::Config, health::Readiness, metrics::Metrics, monitoring::Monitoring,
};

/// Shared by all requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    /// The database, without a session: a request takes [`crate::db::Db`] instead.
    pub router: Router,
    /// Makes and reads the tokens of owners.
    pub tokens: Tokens,
    /// The configuration that the program was started with.
    pub config: Arc<Config>,
    /// Asks Prometheus, for the status page.
    pub monitoring: Monitoring,
    /// Whether new work is welcome.
    pub readiness: Readiness,
    /// Where all metrics are registered.
    pub registry: Registry,
    /// The web server's own metrics.
    pub metrics: Metrics,
}
