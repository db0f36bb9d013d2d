//! What everything in the balancer shares: the configuration and the parts made from it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chassis::identity::IdentityWatch;
use http::HeaderValue;
use telemetry::trace_context::TraceContext;
use telemetry::traces::{Service, Traces};
use uuid::Uuid;

use crate::access_log::AccessLog;
use crate::backend::Backend;
use crate::config::Config;
use crate::headers;
use crate::least_connections::LeastConnections;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::redirect::Redirect;
use crate::role_check::Verified;
use crate::traffic::Traffic;

/// The balancer.
#[derive(Debug)]
pub struct Edge {
    /// As it was when the balancer started.
    pub config: Config,
    /// Our certificate, and whom we trust.
    pub identity: IdentityWatch,
    /// The hosts that our certificate is good for.
    pub names: ArcSwap<Names>,
    /// Who gets the next request.
    pub chooser: LeastConnections,
    /// Which certificates of each backend have the right role, by the backend's index.
    pub verified: Vec<Verified>,
    /// What is going on.
    pub traffic: Arc<Traffic>,
    /// What has gone on.
    pub metrics: Metrics,
    /// A line for every request.
    pub access_log: AccessLog,
    /// The spans of every request whose trace is recorded.
    pub traces: Traces,
    hsts: HeaderValue,
}

impl Edge {
    /// Puts the parts together; nothing listens or looks yet.
    ///
    /// # Errors
    /// When the access log's thread cannot be started.
    pub fn new(config: Config, identity: IdentityWatch) -> std::io::Result<Edge> {
        let backends: Vec<_> = config
            .backends
            .iter()
            .enumerate()
            .map(|(index, b)| Arc::new(Backend::new(index, &b.name, &b.host, b.port)))
            .collect();
        let metrics = Metrics::new(backends.iter().map(|backend| backend.name()));
        let dropped = metrics.log_lines_dropped.clone();
        let access_log = if config.access_log.enabled {
            AccessLog::start(
                std::io::stdout(),
                config.access_log.queue_lines_max,
                dropped,
            )?
        } else {
            AccessLog::disabled(dropped)
        };
        let service = Service {
            name: "balancer",
            instance: &format!("balancer-{}", config.instance),
            version: env!("CARGO_PKG_VERSION"),
        };
        Ok(Edge {
            traces: Traces::new(service, &config.traces),
            names: ArcSwap::from_pointee(Names::of_certificate(&identity.current().chain()[0])),
            verified: backends.iter().map(|_| Verified::default()).collect(),
            chooser: LeastConnections::new(backends, config.instance),
            traffic: Traffic::new(),
            hsts: headers::strict_transport_security(config.edge.hsts_max_age_s),
            identity,
            metrics,
            access_log,
            config,
        })
    }

    /// The value of `strict-transport-security`.
    pub fn hsts(&self) -> &HeaderValue {
        &self.hsts
    }

    /// How plain HTTP is sent to HTTPS.
    pub fn redirect(&self) -> Redirect {
        Redirect {
            host: self.config.edge.host.clone(),
            https_port: self.config.edge.https_port,
        }
    }

    /// Continues the caller's trace with a span of our own, or begins one. Where no spans are made, nobody may be told of one: the
    /// caller's own is passed on.
    pub fn trace(&self, caller: Option<&TraceContext>) -> TraceContext {
        match caller {
            Some(caller) if !self.traces.is_enabled() => *caller,
            Some(caller) => caller.child(),
            None if !self.traces.is_enabled() => TraceContext::new(false),
            None => TraceContext::new(
                rand::random_range(0..100) < self.config.edge.trace_sample_percent,
            ),
        }
    }
}

/// A request's number: time-ordered, so that numbers sort as requests came.
pub fn request_id() -> String {
    Uuid::now_v7().to_string()
}

/// A configured number of milliseconds.
pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
