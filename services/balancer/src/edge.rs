//! What everything in the balancer shares: the configuration and the parts made from it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use chassis::identity::{Clients, Identity, IdentityWatch};
use http::HeaderValue;
use rustls::ServerConfig;
use telemetry::trace_context::TraceContext;
use telemetry::traces::{Service, Traces};
use uuid::Builder;

use crate::access_log::AccessLog;
use crate::certificates::Certificates;
use crate::clients;
use crate::config::Config;
use crate::connect::Connector;
use crate::headers;
use crate::http1::Limits;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::redirect::Redirect;
use crate::retry::RetryBudget;
use crate::roster::Roster;
use crate::tickets::Tickets;
use crate::traffic::Traffic;
use crate::trust::Trust;

/// The balancer.
#[derive(Debug)]
pub struct Edge {
    /// As it was when the balancer started.
    pub config: Config,
    /// Our certificate, and whom we trust.
    pub identity: IdentityWatch,
    /// What clients are shown: ours and further ones.
    pub certificates: Certificates,
    /// The hosts that our certificates are good for.
    pub names: ArcSwap<Names>,
    /// Who the backends are, and who gets the next request.
    pub roster: Roster,
    /// What each client may do.
    pub clients: Arc<clients::Clients>,
    /// TLS to clients.
    pub server_tls: ArcSwap<ServerConfig>,
    /// How backends are reached.
    pub connector: ArcSwap<Connector>,
    /// How many tries there may be beyond the first.
    pub retries: RetryBudget,
    /// What is taken of a message.
    pub limits: Limits,
    /// Whose word on a client's address is taken.
    pub trust: Trust,
    /// What is going on.
    pub traffic: Arc<Traffic>,
    /// What has gone on.
    pub metrics: Metrics,
    /// A line for every request.
    pub access_log: Arc<AccessLog>,
    /// The spans of every request whose trace is recorded.
    pub traces: Traces,
    hsts: HeaderValue,
}

impl Edge {
    /// Puts the parts together; nothing listens or looks yet.
    ///
    /// # Errors
    /// When a certificate cannot be used, or the access log's thread cannot be started.
    pub fn new(config: Config, identity: IdentityWatch) -> anyhow::Result<Edge> {
        let certificates = Certificates::load(identity.clone(), &config.edge.certificates)?;
        let metrics = Metrics::new();
        let clients = clients::Clients::new(config.clients.limits(), Instant::now());
        let clients = Arc::new(clients);
        metrics.counts_of(&clients);
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
            names: ArcSwap::from_pointee(certificates.names()),
            server_tls: ArcSwap::new(server_tls(&certificates, &identity.current())),
            connector: ArcSwap::from_pointee(Connector::new(
                &identity.current(),
                &config.backend,
                0,
            )),
            retries: RetryBudget::new(config.backend.retry_percent, config.backend.retry_burst),
            limits: config.limits(),
            trust: Trust::new(
                &config.listen.proxy_protocol_from,
                &config.edge.trusted_hops,
            ),
            roster: Roster::new(&config),
            clients,
            traffic: Traffic::new(),
            hsts: headers::strict_transport_security(config.edge.hsts_max_age_s),
            identity,
            certificates,
            metrics,
            access_log: Arc::new(access_log),
            config,
        })
    }

    /// One of the certificates that clients are shown is another.
    pub fn certificate_changed(&self) {
        let tls = server_tls(&self.certificates, &self.identity.current());
        self.server_tls.store(tls);
        self.names.store(Arc::new(self.certificates.names()));
    }

    /// Our own is: backends are reached with it.
    pub fn identity_changed(&self, identity: &Identity) {
        let generation = self.connector.load().generation() + 1;
        let connector = Connector::new(identity, &self.config.backend, generation);
        self.connector.store(Arc::new(connector));
        self.certificate_changed();
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

/// A request's number of 36 characters, ASCII: time-ordered (RFC 9562, 5.7), so that numbers sort as requests came.
pub fn request_id(now: SystemTime) -> [u8; 36] {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or_default();
    let id = Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid();
    let mut text = [0; 36];
    id.hyphenated().encode_lower(&mut text);
    text
}

fn server_tls(certificates: &Certificates, identity: &Identity) -> Arc<ServerConfig> {
    let config = identity.server_config(Clients::Anybody, &[b"h2", b"http/1.1"]);
    let mut config = Arc::unwrap_or_clone(config);
    match identity.secret(TICKET_KEY) {
        Ok(secret) => config.ticketer = Arc::new(Tickets::new(secret.as_bytes())),
        // Sessions are resumed all the same, but with this balancer only, and not after its restart.
        Err(_) => match rustls::crypto::ring::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "TLS sessions are not resumed"),
        },
    }
    if let Some(resolver) = certificates.resolver() {
        config.cert_resolver = resolver;
    }
    Arc::new(config)
}

/// The secret of `pki` that is made for this.
const TICKET_KEY: &str = "tls_ticket_key";

/// A configured number of milliseconds.
pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
