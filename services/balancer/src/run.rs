//! From a configuration to a running balancer, and to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use chassis::cli::Loader;
use chassis::identity::{Clients, Identity, IdentityWatch};
use chassis::{admin as socket, matrix::matrix, namespace, stop};
use futures::FutureExt;
use telemetry::metrics::{self, Endpoint};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::accept::{self, Service};
use crate::admin;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::edge::{Edge, ms};
use crate::keeper::{Keeper, keep};
use crate::reload::Reload;
use crate::worker::{Phase, Workers};

/// How long the access log may take to be written at the end.
const FLUSH: Duration = Duration::from_secs(1);
/// How long tunnels that are still open at the deadline have to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT, then until what is in flight has ended or the deadline has come.
///
/// Requests are served by the workers' threads; this one looks after everything else.
///
/// # Errors
/// When the identity cannot be used or a port is taken.
pub fn run(config: Config, reload: Loader<Config>) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (edge, workers) = runtime.block_on(serve(config, reload))?;
    // Whatever is left has had its time.
    drop(runtime);
    if let Some(workers) = Arc::into_inner(workers) {
        workers.end();
    }
    edge.access_log.flush(FLUSH);
    edge.traces.flush();
    Ok(())
}

async fn serve(config: Config, reload: Loader<Config>) -> Result<(Arc<Edge>, Arc<Workers>)> {
    let identity = IdentityWatch::load(&config.identity)?;
    let edge = Arc::new(Edge::new(config, identity)?);
    let Edge { config, .. } = &*edge;
    let keeper = Arc::new(Keeper::default());
    let reload = Arc::new(Reload::new(&edge, &keeper, reload));

    // Spans leave by a thread of their own.
    let tls = edge.identity.client_of("telemetry");
    edge.traces.start(edge.metrics.registry(), tls)?;
    tokio::spawn(answer_prometheus(Arc::clone(&edge)).await?);
    // What operators want, and where services of several containers are, is known before anybody is looked at.
    edge.roster.round(&edge.metrics);
    let mut discovery = Discovery::default();
    discovery.look(&edge).await;
    let (first_look, first_looks) = mpsc::channel(config.balancing.backends_max);
    keeper.reconcile(&edge, Some(&first_look));
    drop(first_look);
    tokio::spawn(discovery.follow(Arc::clone(&edge), Arc::clone(&keeper)));
    tokio::spawn(keep(Arc::clone(&edge)));
    tokio::spawn(Arc::clone(&reload).on_hangup());
    follow_certificates(&edge);
    tokio::spawn(namespace::end_with_it());

    someone_is_up(first_looks).await;
    let ports = [
        (accept::listen(config.listen.https)?, Service::Https),
        (accept::listen(config.listen.redirect)?, Service::Redirect),
    ];
    let workers = Arc::new(Workers::start(&edge, config.threads())?);
    // Whoever asks how it is learns that it listens.
    tokio::spawn(answer_admin(Arc::clone(&edge), reload));
    for (listener, service) in ports {
        tracing::info!(address = %listener.local_addr()?, "listening");
        tokio::spawn(accept::accept(
            Arc::clone(&edge),
            listener,
            service,
            Arc::clone(&workers),
            workers.phase(),
        ));
    }

    stop::requested().await;
    edge.traffic.stop();
    workers.enter(Phase::Stopping);
    finish(&edge, &workers).await;
    Ok((edge, workers))
}

/// Waits for the first look that finds a backend up, or until each was looked at once. Another balancer may listen on the same port:
/// as soon as this one does, too, it is given its share of the connections, and would have nobody to send them to.
async fn someone_is_up(mut first_looks: mpsc::Receiver<bool>) {
    while first_looks.recv().await == Some(false) {}
}

/// Waits for what is in flight; then for idle connections to be idle for sure. What is still at work at the deadline is told to end.
async fn finish(edge: &Edge, workers: &Workers) {
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
        Err(_) => {
            tracing::warn!(
                requests = edge.traffic.requests(),
                "the deadline has come; what is in flight is cut"
            );
            workers.enter(Phase::Ending);
            let _ = timeout(GOODBYE, edge.traffic.without_tunnels()).await;
        }
    }
}

/// New certificate files are used without a restart: for clients, for backends, and for what is verified.
fn follow_certificates(edge: &Arc<Edge>) {
    for (index, watch) in edge.certificates.watches().enumerate() {
        let (edge, watch) = (Arc::clone(edge), watch.clone());
        tokio::spawn(async move {
            let changed = |identity: Arc<Identity>| match index {
                0 => edge.identity_changed(&identity),
                _ => edge.certificate_changed(),
            };
            watch.follow(changed).await;
        });
    }
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

async fn answer_admin(edge: Arc<Edge>, reload: Arc<Reload>) {
    let path = edge.config.admin_socket.clone();
    let answer = move |command: String| {
        let answer = admin::answer(&edge, &reload, &command);
        async move { answer }.boxed()
    };
    if let Err(error) = socket::serve(&path, answer).await {
        tracing::error!(path = %path.display(), %error, "no admin socket");
    }
}
