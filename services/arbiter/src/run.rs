//! The loop: look, decide, act, look again.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use chassis::{
    identity::{Clients, Identity, IdentityWatch},
    matrix::matrix,
};
use replication::{Account, Endpoint, TlsFiles, connect_options};
use sqlx::mysql::MySqlConnectOptions;
use telemetry::{
    metrics::{self, Endpoint as MetricsEndpoint, Registry},
    traces::{Service, Traces},
};
use tokio::sync::watch;
use tracing::Instrument;

use crate::{
    act::{ActError, Wiring, act},
    config::Config,
    decide::{Decision, decide, would_acknowledge},
    heartbeat::{self, Acknowledged, Beat},
    logins::RefusedLogins,
    look::{Earlier, Look, Pulse},
    metrics::Metrics,
    observe::{Observation, Server},
    spans::{Spans, Trace},
    state::{State, StateError, Store},
    status::Status,
    step::Step,
};

/// A loop that has not come round for this long is not healthy.
const STUCK: Duration = Duration::from_secs(20);
/// Between a round in which something was done and the next: what was done takes effect in milliseconds.
const AFTER_A_STEP: Duration = Duration::from_millis(20);

/// Runs until it is asked to stop.
///
/// # Errors
/// When the state cannot be used or the identity not be read; a server that is away is no error.
pub async fn run(config: Config) -> Result<()> {
    telemetry::logs::init("arbiter", &config.log)?;
    let service = Service {
        name: "arbiter",
        instance: "arbiter",
        version: env!("CARGO_PKG_VERSION"),
    };
    let traces = Traces::new(service, &config.traces);
    let ended = live(config, traces.clone()).await;
    traces.flush();
    ended
}

async fn live(config: Config, traces: Traces) -> Result<()> {
    // Its sentences have their causes in them.
    let whole = |error: StateError| anyhow::Error::msg(error.to_string());
    let store = Store::open(&config.state_directory).map_err(whole)?;
    let state = store.load().map_err(whole)?;
    let pair = config.pair().context("there are not two servers")?;
    let watch = IdentityWatch::load(&config.identity)?;
    let identity = watch.current();
    let options = options(&config, &identity)?;
    let wiring = Wiring {
        endpoints: config.servers.clone(),
        password: identity.secret("mysql_replication_password")?,
        identity: config.server_identity.clone(),
    };
    let registry = Registry::new();
    let names = pair.iter().map(|server| server.name.as_str());
    let metrics = Metrics::new(&registry, names).context("register metrics")?;
    metrics.certificate_days_left.set(identity.days_left());
    let endpoint = MetricsEndpoint::bind(
        &config.metrics,
        "arbiter",
        env!("CARGO_PKG_VERSION"),
        &registry,
    )
    .await?;
    traces.start(&registry, watch.client_of("telemetry"))?;
    tokio::spawn(answer_prometheus(
        endpoint,
        watch,
        metrics.clone(),
        registry.clone(),
    ));

    tokio::spawn(chassis::namespace::end_with_it());
    let (beat, beats) = watch::channel(Beat::Off);
    let (acknowledged, acknowledgements) = watch::channel(None);
    let find = options.clone();
    tokio::spawn(heartbeat::run(
        beats,
        move |name| find.get(name).cloned(),
        config.heartbeat(),
        config.acknowledge_timeout(),
        acknowledged,
    ));

    let (status, statuses) = watch::channel((Status::default(), None));
    let socket = config.admin_socket.clone();
    let admin = tokio::spawn(async move {
        chassis::admin::serve(&socket, move |command| {
            let statuses = statuses.clone();
            let registry = registry.clone();
            async move { answer(&command, &statuses.borrow(), &registry) }
        })
        .await
    });

    let servers = pair.each_ref().map(|endpoint| {
        Server::new(
            &endpoint.name,
            options[&endpoint.name].clone(),
            config.limits(),
        )
    });
    let arbiter = Arbiter {
        config,
        pair,
        store,
        state,
        servers,
        wiring,
        beat,
        acknowledgements,
        earlier: Earlier::default(),
        logins: RefusedLogins::default(),
        metrics,
        spans: Spans::new(traces),
        said: Vec::new(),
    };
    tokio::select! {
        ended = arbiter.keep(status) => ended,
        served = admin => served?.context("serve the admin socket"),
        () = chassis::stop::requested() => Ok(()),
    }
}

/// Nobody but Prometheus reads metrics over the network. New certificate files are used without a restart.
async fn answer_prometheus(
    endpoint: MetricsEndpoint,
    identity: IdentityWatch,
    metrics: Metrics,
    registry: Registry,
) {
    let watch = identity.clone();
    let callers = matrix().callers("arbiter", "metrics");
    let tls = move || {
        let identity = watch.current();
        identity.server_config(Clients::Roles(&callers), &[b"http/1.1"])
    };
    let watch = identity.clone();
    let text = move || {
        metrics
            .certificate_days_left
            .set(watch.current().days_left());
        metrics::render(&registry)
    };
    tokio::join!(identity.follow(drop), metrics::serve(endpoint, tls, text));
}

/// Connection options for every server. The files are read at each connect, so a renewed certificate needs nothing.
fn options(
    config: &Config,
    identity: &Identity,
) -> Result<Arc<BTreeMap<String, MySqlConnectOptions>>> {
    let file = |name: &str| config.identity.join(name);
    let tls = TlsFiles {
        ca: file("ca.crt"),
        cert: file("tls.crt"),
        key: file("tls.key"),
    };
    let account = Account {
        user: "arbiter".to_owned(),
        password: identity.secret("mysql_arbiter_password")?,
    };
    let options = config
        .servers
        .iter()
        .map(|e| (e.name.clone(), connect_options(e, &account, &tls)));
    Ok(Arc::new(options.collect()))
}

/// When the status is from, and the status.
type Known = (Status, Option<Instant>);

fn answer(command: &str, (status, at): &Known, registry: &Registry) -> Result<String, String> {
    let json = |value: &str| serde_json::to_string(value).map_err(|error| error.to_string());
    match command {
        "status" => serde_json::to_string(status).map_err(|error| error.to_string()),
        "metrics" => json(&telemetry::metrics::render(registry)),
        "health" => json(&health(status, at.map(|at| at.elapsed()))),
        other => Err(format!(
            "no such command: {other}; there are health, status and metrics"
        )),
    }
}

/// Healthy is an arbiter whose loop comes round and whose primary is open, so that whoever waits for a healthy stack waits for the pair.
/// A replica that is away is no illness: writes wait for it, reads go on, and the status says so.
fn health(status: &Status, age: Option<Duration>) -> String {
    match age {
        None => "it has not looked at the servers yet".to_owned(),
        Some(age) if age > STUCK => format!("the last look at the servers was {age:?} ago"),
        Some(_) if status.open => "ok".to_owned(),
        Some(_) => {
            let why = [&status.refusals[..], &status.waits[..]].concat();
            format!("the pair is not open: {}", why.join("; "))
        }
    }
}

struct Arbiter {
    config: Config,
    pair: [Endpoint; 2],
    store: Store,
    state: Option<State>,
    servers: [Server; 2],
    wiring: Wiring,
    beat: watch::Sender<Beat>,
    acknowledgements: watch::Receiver<Acknowledged>,
    earlier: Earlier,
    logins: RefusedLogins,
    metrics: Metrics,
    spans: Spans,
    said: Vec<String>,
}

impl Arbiter {
    /// Goes round until the state cannot be written: then nobody knows what is on disk until it is read again.
    async fn keep(mut self, status: watch::Sender<Known>) -> Result<()> {
        loop {
            let acted = self.once(&status).await?;
            let pause = if acted {
                AFTER_A_STEP
            } else {
                self.config.tick()
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One round. Returns whether something was done, so that the next round need not wait.
    async fn once(&mut self, status: &watch::Sender<Known>) -> Result<bool> {
        let look = self.look().await;
        let decision = decide(&self.pair, self.state.as_ref(), &look);
        self.tell(&decision, &look, status);
        if decision.steps.is_empty() {
            return Ok(false);
        }
        let (known, _) = status.borrow().clone();
        let mut trace = Trace::begin();
        let lines = tracing::info_span!("decision", trace_id = %trace.id());
        let carried_out = self.carry_out(&decision, &mut trace);
        let carried_out = carried_out.instrument(lines).await;
        self.spans.send(trace, decision, &known);
        carried_out
    }

    /// Does the steps. Returns whether all of them were done.
    async fn carry_out(&mut self, decision: &Decision, trace: &mut Trace) -> Result<bool> {
        for step in &decision.steps {
            let begun = SystemTime::now();
            let done = act(step, &mut self.servers, &self.store, &self.wiring).await;
            trace.step(step, begun, &done);
            self.metrics.count(step, done.is_ok());
            match done {
                Ok(()) => {
                    if let Step::Save(state) = step {
                        tracing::info!(
                            epoch = state.epoch,
                            primary = state.primary,
                            phase = state.phase.as_str(),
                            "state"
                        );
                        self.state = Some(state.clone());
                    }
                }
                Err(ActError::State(error)) => {
                    bail!("{error}; stopping, for it is not known what is on disk")
                }
                Err(error) => {
                    tracing::warn!(%error, "a step failed; it is decided anew");
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn look(&mut self) -> Look {
        let [first, second] = &mut self.servers;
        let (one, two) = tokio::join!(first.observe(), second.observe());
        let servers: BTreeMap<String, Observation> =
            [(first.name.clone(), one), (second.name.clone(), two)].into();
        for (server, logins) in self.logins.since_last(&servers) {
            self.metrics.denied(server, logins);
        }
        let pulse = Pulse {
            acknowledged: self.acknowledgements.borrow().map(|at| at.into_std()),
            limit: self.config.acknowledge_timeout() + self.config.heartbeat(),
        };
        self.earlier
            .look(servers, self.state.as_ref(), pulse, Instant::now())
    }

    /// Says what is known now to all who ask, and what has changed to the log.
    fn tell(&mut self, decision: &Decision, look: &Look, status: &watch::Sender<Known>) {
        let beat = beat(self.state.as_ref(), look);
        self.beat.send_if_modified(|before| {
            let changed = *before != beat;
            *before = beat;
            changed
        });
        let now = Status::of(self.state.as_ref(), decision, look);
        self.metrics.set(&now);
        let said = [&now.waits[..], &now.refusals[..]].concat();
        if said != self.said {
            for wait in &now.waits {
                tracing::warn!(wait, "waiting");
            }
            for refusal in &now.refusals {
                tracing::error!(refusal, "refused");
            }
            if said.is_empty() {
                tracing::info!("nothing is waited for");
            }
            self.said = said;
        }
        status.send_replace((now, Some(Instant::now())));
    }
}

/// Heartbeats are written where they can be acknowledged: one that cannot stays on the server as a session that waits.
fn beat(state: Option<&State>, look: &Look) -> Beat {
    let Some(state) = state else {
        return Beat::Off;
    };
    let primary = look.facts(&state.primary);
    let replica = state.replica().and_then(|replica| look.facts(replica));
    match primary.zip(replica) {
        Some((primary, replica))
            if primary.takes_ours()
                && primary.row.is_some()
                && would_acknowledge(primary, replica) =>
        {
            Beat::On(state.primary.clone())
        }
        _ => Beat::Off,
    }
}
