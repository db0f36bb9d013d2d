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
use sqlx::{ConnectOptions, mysql::MySqlConnectOptions};
use telemetry::{
    metrics::{self, Endpoint as MetricsEndpoint, Registry},
    traces::{Service, Traces},
};
use tokio::sync::watch;
use tracing::Instrument;

use crate::{
    act::{ActError, Hands, Wiring},
    commands::{self, Request, Requests},
    config::Config,
    copying::Copying,
    decide::{Decision, decide, grant},
    events::{Event, Events},
    heartbeat::{self, Acknowledged, Beat},
    logins::RefusedLogins,
    look::{Earlier, Look, Moment, Pulse, is_attached, would_acknowledge},
    metrics::Metrics,
    observe::{Observation, Server},
    spans::{Spans, Trace},
    state::{Phase, State, StateError, Store},
    status::Status,
    step::Step,
};

/// Between a round in which something was done and the next: what was done takes effect in milliseconds.
const AFTER_A_STEP: Duration = Duration::from_millis(20);

/// A step that has failed for so long has to be looked at by a person.
const FAILING_MAX: Duration = Duration::from_secs(10);

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
    let changed_at = store.changed_at().map_err(whole)?;
    let pair = config.pair().context("there are not two servers")?;
    let watch = IdentityWatch::load(&config.identity)?;
    let identity = watch.current();
    let options = options(&config, &identity)?;
    let wiring = Wiring {
        endpoints: config.sources().to_vec(),
        password: identity.secret("mysql_replication_password")?,
        identity: config.server_identity.clone(),
    };
    let registry = Registry::new();
    let names = pair.iter().map(|server| server.name.as_str());
    let metrics = Metrics::new(&registry, names).context("register metrics")?;
    if let Some(at) = changed_at {
        metrics.changed(at);
    }
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
    let (asks, requests) = commands::channel();
    let known = commands::Known {
        statuses,
        registry,
        asks,
        events: Events::new(&config.state_directory, config.events_bytes_max),
        discarded: config.discarded(),
    };
    let socket = config.admin_socket.clone();
    let admin = tokio::spawn(async move {
        chassis::admin::serve(&socket, move |command| {
            let known = known.clone();
            async move { known.answer(&command).await }
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
    let hands = Hands {
        servers,
        store,
        wiring,
        copying: Copying::none(config.copy_retry(), config.limits().step),
        discarded: (config.discarded(), config.discarded_bytes_max),
        saved: None,
        not_saved: None,
        failpoint: config.failpoint(),
    };
    let arbiter = Arbiter {
        events: Events::new(&config.state_directory, config.events_bytes_max),
        config,
        pair,
        state,
        hands,
        requests,
        beat,
        acknowledgements,
        earlier: Earlier::default(),
        logins: RefusedLogins::default(),
        metrics,
        spans: Spans::new(traces),
        said: <[Vec<String>; 2]>::default(),
        failing: None,
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
        // No statement is logged: some have a password in them.
        .map(|e| {
            let options = connect_options(e, &account, &tls).disable_statement_logging();
            (e.name.clone(), options)
        });
    Ok(Arc::new(options.collect()))
}

struct Arbiter {
    config: Config,
    pair: [Endpoint; 2],
    state: Option<State>,
    hands: Hands,
    requests: Requests,
    beat: watch::Sender<Beat>,
    acknowledgements: watch::Receiver<Acknowledged>,
    earlier: Earlier,
    logins: RefusedLogins,
    metrics: Metrics,
    spans: Spans,
    events: Events,
    /// The waits and the refusals that were told last, without their numbers.
    said: [Vec<String>; 2],
    failing: Option<Failing>,
}

/// A step that failed, and nothing has got any further since.
struct Failing {
    since: Instant,
    failure: String,
}

impl Arbiter {
    /// Goes round until the state cannot be written: then nobody knows what is on disk until it is read again.
    async fn keep(mut self, status: watch::Sender<commands::LastLook>) -> Result<()> {
        let mut request = None;
        loop {
            let acted = self.once(&status, request.take()).await?;
            let pause = if acted {
                AFTER_A_STEP
            } else {
                self.config.tick()
            };
            request = tokio::time::timeout(pause, self.requests.next()).await.ok();
        }
    }

    /// One round. Returns whether something new was done, so that the next round need not wait.
    async fn once(
        &mut self,
        status: &watch::Sender<commands::LastLook>,
        request: Option<Request>,
    ) -> Result<bool> {
        let look = self.look().await;
        let mut decision = decide(
            &self.pair,
            self.state.as_ref(),
            &look,
            &self.config.timing(),
        );
        let known = self.tell(&decision, &look, status);
        let asked = match request.filter(Request::is_waited_for) {
            None => None,
            Some(request) => {
                let timing = self.config.timing();
                match grant(
                    &self.pair,
                    self.state.as_ref(),
                    &look,
                    &timing,
                    &request.ask,
                ) {
                    Err(refusal) => {
                        request.refuse(refusal);
                        None
                    }
                    Ok(state) => {
                        // Whatever else was to be done is decided anew, from the new state.
                        decision.steps = vec![Step::Save(state)];
                        Some(request)
                    }
                }
            }
        };
        if decision.steps.is_empty() {
            self.failing = None;
            return Ok(false);
        }
        let mut trace = Trace::begin();
        let lines = tracing::info_span!("decision", trace_id = %trace.id());
        let carried_out = self.carry_out(&decision, &mut trace);
        let carried_out = carried_out.instrument(lines).await;
        self.failing = trace.failure().map(|failure| Failing {
            since: self
                .failing
                .as_ref()
                .map_or_else(Instant::now, |failing| failing.since),
            failure: failure.to_owned(),
        });
        // The same once more has not led on; what is waited for instead takes its time.
        let leads_on = self.spans.is_news(&decision, &trace);
        if leads_on {
            self.log(&decision, &trace, asked.as_ref(), &known);
            self.spans.send(trace, decision, &known);
        }
        if let Some(request) = asked {
            match &carried_out {
                Err(error) => request.refuse(format!("nothing was changed: {error}")),
                Ok(_) => {
                    // Who asked looks at the status next, and is not to find what was before.
                    status.send_modify(|(status, _)| status.record(self.state.as_ref()));
                    request.grant(self.state.as_ref());
                }
            }
        }
        Ok(carried_out? && leads_on)
    }

    /// Does the steps. Returns whether all of them were done.
    async fn carry_out(&mut self, decision: &Decision, trace: &mut Trace) -> Result<bool> {
        for step in &decision.steps {
            let begun = SystemTime::now();
            let done = self.hands.act(step).await;
            trace.step(step, begun, &done);
            self.metrics.count(step, done.is_ok());
            match done {
                Ok(()) => {
                    if let Step::Save(state) = step {
                        tracing::info!(
                            epoch = state.epoch,
                            primary = state.primary,
                            in_sync = ?state.in_sync,
                            phase = %state.phase,
                            "state"
                        );
                        self.metrics.changed(SystemTime::now());
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

    /// Writes the decision down.
    fn log(&self, decision: &Decision, trace: &Trace, asked: Option<&Request>, seen: &Status) {
        self.add(Event {
            at: String::new(),
            trace: trace.id().to_string(),
            asked: asked.map(|request| format!("{:?}", request.ask)),
            steps: decision.steps.iter().map(Step::to_string).collect(),
            failure: trace.failure().map(str::to_owned),
            seen: seen.clone(),
        });
    }

    fn add(&self, event: Event) {
        if let Err(error) = self.events.add(event) {
            tracing::warn!(%error, "the log of decisions cannot be written");
        }
    }

    async fn look(&mut self) -> Look {
        let asked = Instant::now();
        let phase = self.state.as_ref().map(|state| &state.phase);
        let draining = phase == Some(&Phase::Switchover);
        let [first, second] = &mut self.hands.servers;
        let (one, two) = tokio::join!(first.observe(draining), second.observe(draining));
        let servers: BTreeMap<String, Observation> =
            [(first.name.clone(), one), (second.name.clone(), two)].into();
        for (server, logins) in self.logins.since_last(&servers) {
            self.metrics.denied(server, logins);
        }
        let pulse = Pulse {
            acknowledged: *self.acknowledgements.borrow(),
            limit: self.config.acknowledge_timeout() + self.config.heartbeat(),
        };
        let moment = Moment {
            asked,
            answered: Instant::now(),
        };
        let mut look = self
            .earlier
            .look(servers, self.state.as_ref(), pulse, moment);
        look.cloning = self.hands.copying.of(&look).await;
        look.not_saved.clone_from(&self.hands.not_saved);
        look
    }

    /// Says what is known now to all who ask, and what has changed to the log.
    fn tell(
        &mut self,
        decision: &Decision,
        look: &Look,
        status: &watch::Sender<commands::LastLook>,
    ) -> Status {
        let beat = beat(self.state.as_ref(), look);
        self.beat.send_if_modified(|before| {
            let changed = *before != beat;
            *before = beat;
            changed
        });
        let mut now = Status::of(
            self.state.as_ref(),
            decision,
            look,
            &status.borrow().0,
            self.config.timing().failover_after,
        );
        if let Some(Failing { since, failure }) = &self.failing {
            match since.elapsed() < FAILING_MAX {
                true => now.waits.push(format!("a step failed: {failure}")),
                false => now.refusals.push(format!(
                    "a step has failed for {} s: {failure}",
                    since.elapsed().as_secs()
                )),
            }
        }
        self.metrics.set(&now);
        let said = [&now.waits, &now.refusals].map(|sentences| without_numbers(sentences));
        if said[1] != self.said[1] && !said[1].is_empty() {
            self.add(Event::of_nothing(now.clone()));
        }
        if said != self.said {
            for wait in &now.waits {
                tracing::warn!(wait, "waiting");
            }
            for refusal in &now.refusals {
                tracing::error!(refusal, "refused");
            }
            if said.iter().all(Vec::is_empty) {
                tracing::info!("nothing is waited for");
            }
            self.said = said;
        }
        status.send_replace((now.clone(), Some(Instant::now())));
        now
    }
}

/// Sentences, for a comparison: that a number has changed is no news.
fn without_numbers(sentences: &[String]) -> Vec<String> {
    let without = |sentence: &String| sentence.replace(|c: char| c.is_ascii_digit(), "");
    sentences.iter().map(without).collect()
}

/// Heartbeats are written where they can be acknowledged: one that cannot stays on the server as a session that waits.
pub(crate) fn beat(state: Option<&State>, look: &Look) -> Beat {
    let Some(state) = state else {
        return Beat::Off;
    };
    let primary = look.facts(&state.primary);
    let replica = state.replica().and_then(|replica| look.facts(replica));
    let writable = primary.filter(|primary| primary.takes_ours() && primary.row.is_some());
    let acknowledged = match (writable, replica) {
        (None, _) => false,
        (Some(primary), _) if !primary.semi_sync.source_enabled => !state.is_redundant(),
        (Some(_), None) => false,
        (Some(primary), Some(replica)) if state.is_redundant() => {
            would_acknowledge(primary, replica)
        }
        (Some(primary), Some(replica)) => is_attached(primary, replica),
    };
    match acknowledged {
        true => Beat::On(state.primary.clone()),
        false => Beat::Off,
    }
}
