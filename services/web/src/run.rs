//! The life of the web server, from its start to its stop.
//!
//! It starts whatever else is away: roles and servers are found while it serves. When it is asked to stop, readiness fails first, and
//! the server serves on until every balancer has noticed; then it accepts nothing more, finishes what it has, and ends. Being asked a
//! second time ends the announcement.

use std::{path::Path, sync::Arc, time::Duration};

use chassis::{
    admin,
    identity::{Clients, Identity, IdentityWatch},
    matrix::matrix,
    namespace, stop,
};
use prometheus::Registry;
use router::{CausalKey, Credentials, Password, Router};
use telemetry::{
    logs,
    metrics::{self, Endpoint},
    traces::{Service, Traces},
};
use tokio::time::Instant;

use crate::{
    app,
    auth::Tokens,
    config::Config,
    health::{self, Readiness},
    ledger::{check, housekeeping},
    metrics::Metrics,
    migrate,
    monitoring::Monitoring,
    server::{self, Server, Tls},
    state::AppState,
};

/// The account of requests, and the secret that holds its password.
const APP: (&str, &str) = ("app", "mysql_app_password");

/// The account of migrations.
const MIGRATE: (&str, &str) = ("migrate", "mysql_migrate_password");

/// Whose spans become spans of a request's trace.
const TRACED: &[&str] = &["web", "router"];

/// How long a command waits for a primary to be found.
const FIND_PRIMARY: Duration = Duration::from_secs(10);

/// Serves until it is asked to stop.
///
/// # Errors
/// What keeps it from starting: files of its identity, the address that it should listen at.
pub fn serve(mut config: Config) -> anyhow::Result<()> {
    if config.instance.is_empty() {
        config.instance = host_name();
    }
    let service = Service {
        name: "web",
        instance: &config.instance,
        version: env!("CARGO_PKG_VERSION"),
    };
    let traces = Traces::new(service, &config.traces);
    logs::init_with("web", &config.log, &traces, TRACED)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        builder.worker_threads(config.threads);
    }
    let runtime = builder.enable_all().build()?;
    let served = runtime.block_on(live(config, &traces));
    traces.flush();
    served
}

/// How long to wait for the router's first look at the database.
const FIRST_LOOK: Duration = Duration::from_secs(1);

async fn live(config: Config, traces: &Traces) -> anyhow::Result<()> {
    let identity = IdentityWatch::load(&config.identity)?;
    let registry = Registry::new();
    let state = state(config, &identity, registry)?;
    let config = Arc::clone(&state.config);
    let ledger = housekeeping::Metrics::new(&state.registry)?;
    let tls = Arc::new(Tls::new(&identity.current()));
    let listener = server::listen(config.listen).map_err(|error| {
        anyhow::anyhow!(
            "cannot listen at {}: {error}; is another web server running there?",
            config.listen
        )
    })?;

    traces.start(&state.registry, identity.client_of("telemetry"))?;
    let endpoint = Endpoint::bind(
        &config.metrics,
        "web",
        env!("CARGO_PKG_VERSION"),
        &state.registry,
    )
    .await?;
    let background = [
        tokio::spawn(answer_prometheus(
            endpoint,
            identity.clone(),
            state.registry.clone(),
        )),
        tokio::spawn(follow(identity, Arc::clone(&tls), state.metrics.clone())),
        tokio::spawn(answer_admin(state.clone())),
        tokio::spawn(housekeeping::run(state.router.clone(), ledger)),
        tokio::spawn(namespace::end_with_it()),
    ];
    let server = Server::new(
        app::routes(state.clone()),
        tls,
        &config.connections,
        &state.metrics,
    );
    tracing::info!(address = %listener.local_addr()?, "listening");
    // Who asked before the router has looked would be told that there is no primary. Without one it serves all the same.
    let _ = state.router.wait_for_primary(FIRST_LOOK).await;
    state.readiness.is_ready();

    let asked = stop::requested();
    tokio::select! {
        () = server.accept(&listener) => {}
        () = asked => {}
    }
    let deadline =
        Instant::now() + Duration::from_millis(config.stop.announce_ms + config.stop.deadline_ms);
    state.readiness.is_stopping();
    tracing::info!(
        announce_ms = config.stop.announce_ms,
        "not ready any more; serving on until the balancers have noticed"
    );
    let announce = Duration::from_millis(config.stop.announce_ms);
    tokio::select! {
        _ = tokio::time::timeout(announce, server.accept(&listener)) => {}
        // Who asks a second time has seen that the balancers have noticed.
        () = stop::requested() => {}
    }
    drop(listener);
    if tokio::time::timeout_at(deadline, server.finish())
        .await
        .is_err()
    {
        tracing::warn!(
            requests = state.metrics.in_flight.get(),
            "the deadline has come; what is under way is cut"
        );
    }
    for task in background {
        task.abort();
    }
    let _ = tokio::time::timeout_at(deadline, state.router.close()).await;
    tracing::info!("stopped");
    Ok(())
}

/// What all requests share.
fn state(config: Config, watch: &IdentityWatch, registry: Registry) -> anyhow::Result<AppState> {
    let identity = &watch.current();
    let lifetime = time::Duration::hours(i64::from(config.session.lifetime_hours));
    let tokens = Tokens::new(&identity.secret("session_token_key")?, lifetime)?;
    let credentials = credentials(&config.identity, identity, APP)?;
    let router = Router::connect(config.database.clone(), &credentials, &registry)?;
    let metrics = Metrics::new(&registry)?;
    metrics.certificate_days_left.set(identity.days_left());
    let monitoring = Monitoring::new(&config.monitoring, watch.clone(), metrics.clone());
    Ok(AppState {
        monitoring,
        router,
        tokens,
        config: Arc::new(config),
        readiness: Readiness::starting(),
        registry,
        metrics,
    })
}

/// What this host is called; in a container that is not told, the container's id.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "web".to_owned(),
        name => name.to_owned(),
    }
}

/// The files are named through the link, so that a new connection to a database has the new certificate.
fn credentials(
    directory: &Path,
    identity: &Identity,
    (user, secret): (&str, &str),
) -> anyhow::Result<Credentials> {
    let key = CausalKey::new(identity.secret("causal_token_key")?.as_bytes());
    // It must be there; it is read anew at every login.
    identity.secret(secret)?;
    let password = Password::File(directory.join("secrets").join(secret));
    Ok(Credentials::new(user, password, directory, key))
}

/// New certificate files are used without a restart, and the days that are left are counted down.
async fn follow(identity: IdentityWatch, tls: Arc<Tls>, metrics: Metrics) {
    const EVERY: Duration = Duration::from_secs(600);
    let days_left = async {
        loop {
            let days = identity.current().days_left();
            metrics.certificate_days_left.set(days);
            tokio::time::sleep(EVERY).await;
        }
    };
    let changed = |identity: Arc<Identity>| {
        tls.replace(&identity);
        metrics.certificate_days_left.set(identity.days_left());
    };
    tokio::join!(days_left, identity.follow(changed));
}

/// Nobody but Prometheus reads metrics over the network.
async fn answer_prometheus(endpoint: Endpoint, identity: IdentityWatch, registry: Registry) {
    let callers = matrix().callers("web", "metrics");
    let tls = move || {
        let identity = identity.current();
        identity.server_config(Clients::Roles(&callers), &[b"http/1.1"])
    };
    metrics::serve(endpoint, tls, move || metrics::render(&registry)).await;
}

async fn answer_admin(state: AppState) {
    let path = state.config.admin_socket.clone();
    let answer = move |command: String| {
        let answer = health::admin(&state, &command);
        async move { answer }
    };
    if let Err(error) = admin::serve(&path, answer).await {
        tracing::error!(path = %path.display(), %error, "no admin socket");
    }
}

/// `web migrate`: brings the schema to what this release needs.
///
/// # Errors
/// What waiting does not cure.
pub fn migrate(config: &Config) -> anyhow::Result<()> {
    let identity = Identity::load(&config.identity)?;
    let credentials = credentials(&config.identity, &identity, MIGRATE)?;
    let work = async {
        tokio::select! {
            done = migrate::migrate(&config.database, &credentials) => done.map_err(anyhow::Error::from),
            () = stop::requested() => Err(anyhow::anyhow!("stopped before it was done")),
        }
    };
    alone()?.block_on(work)
}

/// `web check-ledger`: audits the whole ledger, prints what it found, and says whether it is sound.
///
/// # Errors
/// When the ledger cannot be read.
pub fn check_ledger(config: Config) -> anyhow::Result<bool> {
    let identity = Identity::load(&config.identity)?;
    let credentials = credentials(&config.identity, &identity, APP)?;
    alone()?.block_on(async {
        let router = Router::connect(config.database, &credentials, &Registry::new())?;
        router.wait_for_primary(FIND_PRIMARY).await?;
        let report = check::check(&router.session(None)).await?;
        println!("{report}");
        router.close().await;
        Ok(report.is_sound())
    })
}

/// `web explain SQL` and others: one command to the running web server, whose answer is printed.
///
/// # Errors
/// When the server does not run, or refuses.
pub fn ask(config: &Config, command: &str) -> anyhow::Result<String> {
    const LIMIT: Duration = Duration::from_secs(3);
    Ok(alone()?.block_on(admin::call(&config.admin_socket, command, LIMIT))?)
}

/// A run-time for one command.
fn alone() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
