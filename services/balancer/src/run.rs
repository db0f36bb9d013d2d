//! From a configuration to a running balancer, and to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use chassis::identity::{Clients, Identity, IdentityWatch};
use chassis::{admin as socket, matrix::matrix, namespace, stop};
use futures::FutureExt;
use pingora_core::apps::HttpServerApp;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use telemetry::metrics::{self, Endpoint};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::accept::{self, Https, Service};
use crate::config::Config;
use crate::edge::{Edge, ms};
use crate::exchange::{Proxy, TRIES_MAX};
use crate::names::Names;
use crate::peer::Peers;
use crate::{admin, health_check};

/// How long the access log may take to be written at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, then until what is in flight has ended or the deadline has come.
///
/// # Errors
/// When the identity cannot be used or a port is taken.
pub fn run(config: Config) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads())
        .enable_all()
        .build()?;
    let edge = runtime.block_on(serve(config))?;
    edge.access_log.flush(FLUSH);
    edge.traces.flush();
    // Whatever is left has had its time.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(config: Config) -> Result<Arc<Edge>> {
    let identity = IdentityWatch::load(&config.identity)?;
    let edge = Arc::new(Edge::new(config, identity)?);
    let Edge { config, .. } = &*edge;
    let identity = edge.identity.current();
    let backends = edge.chooser.backends();
    let peers = Peers::new(config.backend.clone(), &identity, backends.len())?;
    let peers = Arc::new(peers);
    let proxy = Arc::new(proxy(&edge, &identity, Arc::clone(&peers)));
    let https = Arc::new(Https::new(&edge, Arc::clone(&proxy)));

    // Spans leave by a thread of their own.
    let tls = edge.identity.client_of("telemetry");
    edge.traces.start(edge.metrics.registry(), tls)?;
    tokio::spawn(answer_prometheus(Arc::clone(&edge)).await?);
    let (first_look, first_looks) = mpsc::channel(backends.len());
    for backend in backends.iter() {
        tokio::spawn(health_check::watch(
            Arc::clone(&edge),
            Arc::clone(backend),
            first_look.clone(),
        ));
    }
    drop(first_look);
    tokio::spawn(follow_identity(
        Arc::clone(&edge),
        peers,
        Arc::clone(&https),
    ));
    tokio::spawn(namespace::end_with_it());

    someone_is_up(first_looks).await;
    let ports = [
        (
            accept::listen(config.listen.https)?,
            Service::Https(Arc::clone(&https)),
        ),
        (accept::listen(config.listen.redirect)?, Service::Redirect),
    ];
    // Whoever asks how it is learns that it listens.
    tokio::spawn(answer_admin(Arc::clone(&edge)));
    let (announce, announced) = watch::channel(false);
    for (listener, service) in ports {
        tracing::info!(address = %listener.local_addr()?, "listening");
        tokio::spawn(accept::accept(
            Arc::clone(&edge),
            listener,
            service,
            announced.clone(),
        ));
    }

    stop::requested().await;
    edge.traffic.stop();
    announce.send_replace(true);
    finish(&edge, &proxy).await;
    Ok(edge)
}

/// Waits for the first look that finds a backend up, or until each was looked at once. Another balancer may listen on the same port:
/// as soon as this one does, too, it is given its share of the connections, and would have nobody to send them to.
async fn someone_is_up(mut first_looks: mpsc::Receiver<bool>) {
    while first_looks.recv().await == Some(false) {}
}

/// Waits for what is in flight; then for idle connections to be idle for sure; then closes them.
async fn finish(edge: &Edge, proxy: &HttpProxy<Proxy>) {
    let config = &edge.config.stop;
    let ended = timeout(
        ms(config.deadline_ms),
        edge.traffic.ended(ms(config.quiet_ms)),
    )
    .await;
    match ended {
        Ok(()) => tracing::info!(
            idle_connections = edge.traffic.connections(),
            "nothing is in flight"
        ),
        Err(_) => tracing::warn!(
            requests = edge.traffic.requests(),
            "the deadline has come; what is in flight is cut"
        ),
    }
    proxy.http_cleanup().await;
}

fn proxy(edge: &Arc<Edge>, identity: &Identity, peers: Arc<Peers>) -> HttpProxy<Proxy> {
    let conf = ServerConf {
        threads: edge.config.threads(),
        upstream_keepalive_pool_size: edge.config.backend.idle_connections_max,
        // Each peer brings its own; but without this one pingora looks for the system's, and an image has none.
        ca_file: Some(identity.ca_path().display().to_string()),
        max_retries: TRIES_MAX,
        ..ServerConf::default()
    };
    let mut proxy = http_proxy(&Arc::new(conf), Proxy::new(Arc::clone(edge), peers));
    // Refused by a hook of ours, with a problem document, instead of by pingora without one.
    let mut options = pingora_core::apps::HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    proxy
}

/// New certificate files are used without a restart: for clients, for backends, and for what is verified.
async fn follow_identity(edge: Arc<Edge>, peers: Arc<Peers>, https: Arc<Https>) {
    let watch = edge.identity.clone();
    let changed = |identity: Arc<Identity>| {
        if let Err(error) = peers.identity_changed(&identity) {
            tracing::error!(%error, "backends are still reached with the last certificate");
        }
        https.identity_changed(&identity);
        edge.names
            .store(Arc::new(Names::of_certificate(&identity.chain()[0])));
        for verified in &edge.verified {
            verified.forget();
        }
    };
    watch.follow(changed).await;
}

/// Listens for Prometheus; what it returns answers.
async fn answer_prometheus(edge: Arc<Edge>) -> Result<impl Future<Output = ()> + Send + 'static> {
    let endpoint = Endpoint::bind(
        &edge.config.metrics,
        "balancer",
        env!("CARGO_PKG_VERSION"),
        edge.metrics.registry(),
    )
    .await?;
    let identity = edge.identity.clone();
    let callers = matrix().callers("balancer", "metrics");
    let tls = move || {
        let identity = identity.current();
        identity.server_config(Clients::Roles(&callers), &[b"http/1.1"])
    };
    Ok(metrics::serve(endpoint, tls, move || admin::metrics(&edge)))
}

async fn answer_admin(edge: Arc<Edge>) {
    let path = edge.config.admin_socket.clone();
    let answer = move |command: String| {
        let answer = admin::answer(&edge, &command);
        async move { answer }.boxed()
    };
    if let Err(error) = socket::serve(&path, answer).await {
        tracing::error!(path = %path.display(), %error, "no admin socket");
    }
}
