//! The roster: who the backends are, what is wanted and known of each, and what they offer because of it.
//!
//! Everything that changes it runs on the thread of control: checks, verbs, reloads, names that are looked up, and the round that is made
//! ten times a second (`keeper.rs`). Requests read what is published: the list of the chooser, and each backend's offer.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::backend::{Backend, Member};
use crate::config::{BackendConfig, Balancing, Config, Ejection, Mode};
use crate::desired::{Desired, DesiredFile};
use crate::ejection::{Ejected, Event, Judge, Policy, Seen};
use crate::health::State;
use crate::least_connections::LeastConnections;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::rotation::{Condition, Facts, Wish, warm_percent};

/// How soon another look is made while it is not clear whether a backend is to be ejected.
const IN_DOUBT: Duration = Duration::from_millis(10);
/// Over so many seconds a rate is told.
const RATE_SECONDS: usize = 10;

/// Who the backends are, and how each of them is.
#[derive(Debug)]
pub struct Roster {
    chooser: Arc<LeastConnections>,
    queue: Arc<Queue>,
    /// Mean time to an answer among the backends that work, in microseconds.
    typical_us: AtomicU32,
    errors_in_a_row: u32,
    look: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Rules,
    entries: Vec<Entry>,
    /// No members any more, with requests in flight.
    leaving: Vec<Entry>,
    specs: Vec<BackendConfig>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    desired: Desired,
    file: DesiredFile,
    judge: Judge,
    next_id: u64,
    is_last_resort: bool,
}

/// What does not change while the balancer runs.
#[derive(Debug)]
struct Rules {
    balancing: Balancing,
    requests_max: u32,
}

/// A backend, and what only the roster has to know of it.
#[derive(Debug)]
struct Entry {
    backend: Arc<Backend>,
    spec: BackendConfig,
    /// Whether it is as old as the balancer, and was not looked at yet: then it is not it that is new.
    is_of_the_start: bool,
    condition: Condition,
    since: SystemTime,
    /// Since when it is warming up; none once it is warm.
    warming: Option<Instant>,
    ejected: Option<Ejected>,
    /// When it has had its time to finish.
    ends_at: Option<Instant>,
    /// Answers and errors so far, one for each second.
    rates: VecDeque<(u64, u64)>,
}

/// How a backend is, for whoever looks.
#[derive(Clone, Debug)]
pub struct Report {
    /// The backend.
    pub backend: Arc<Backend>,
    /// In one word.
    pub condition: Condition,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
    /// Its part, 1 to 1000.
    pub weight: u32,
    /// How much of it it gets.
    pub warm_percent: u32,
    /// Answers in a second.
    pub rate: f64,
    /// Errors in a second.
    pub error_rate: f64,
    /// Whether it is no member any more.
    pub is_leaving: bool,
}

impl Roster {
    /// Nobody yet.
    pub fn new(config: &Config) -> Roster {
        let queue = Queue::new(config.admission.queue_max);
        let chooser = Arc::new(LeastConnections::new(Vec::new(), config.instance));
        queue.asks(&chooser);
        Roster {
            chooser,
            queue,
            typical_us: AtomicU32::new(0),
            errors_in_a_row: config.ejection.consecutive_errors,
            look: Notify::new(),
            inner: Mutex::new(Inner {
                rules: Rules {
                    balancing: config.balancing.clone(),
                    requests_max: config.admission.requests_max,
                },
                entries: Vec::new(),
                leaving: Vec::new(),
                specs: config.backends.clone(),
                addresses: BTreeMap::new(),
                desired: Desired::default(),
                file: DesiredFile::new(&config.balancing.state_file),
                judge: Judge::new(policy(&config.ejection), Instant::now()),
                next_id: 0,
                is_last_resort: false,
            }),
        }
    }

    /// Who gets the next request.
    pub fn chooser(&self) -> &Arc<LeastConnections> {
        &self.chooser
    }

    /// Who waits.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Mean time to an answer among the backends that work.
    pub fn typical(&self) -> Duration {
        Duration::from_micros(self.typical_us.load(Ordering::Relaxed).into())
    }

    /// A backend has had one more error in a row, and now so many. Whoever judges need not wait for the next round.
    pub fn failed(&self, in_a_row: u32) {
        if in_a_row == self.errors_in_a_row {
            self.look.notify_one();
        }
    }

    /// Waits until a look at the backends cannot wait.
    pub async fn asked_to_look(&self) {
        let is_in_doubt = self.inner().judge.is_in_doubt();
        match is_in_doubt {
            true => sleep(IN_DOUBT).await,
            false => self.look.notified().await,
        }
    }

    /// The hosts of which each address is a backend.
    pub fn hosts_of_many(&self) -> Vec<(String, u16)> {
        let inner = self.inner();
        let many = inner.specs.iter().filter(|spec| spec.every_address);
        // Whatever the port, a host is looked up once.
        let hosts: BTreeMap<_, _> = many.map(|spec| (spec.host.clone(), spec.port)).collect();
        hosts.into_iter().collect()
    }

    /// A host has these addresses now; true if that is new.
    pub fn found(&self, host: &str, addresses: Vec<IpAddr>) -> bool {
        let before = self
            .inner()
            .addresses
            .insert(host.to_owned(), addresses.clone());
        before != Some(addresses)
    }

    /// What the configuration says of the backends now.
    pub fn configured(&self, specs: Vec<BackendConfig>) {
        self.inner().specs = specs;
    }

    /// Makes the members what configuration and addresses say; gives back the new ones, which somebody must watch, and those that are
    /// none any more. Who stays is not touched.
    pub fn reconcile(
        &self,
        metrics: &Metrics,
        is_start: bool,
    ) -> (Vec<Arc<Backend>>, Vec<Arc<Backend>>) {
        let mut inner = self.inner();
        let mut members = inner.members();
        let max = inner.rules.balancing.backends_max;
        if members.len() > max {
            let too_many = members.len() - max;
            tracing::error!(
                too_many,
                "balancing.backends_max is reached; backends are left out"
            );
            metrics.backends_left_out.inc_by(too_many as u64);
            members.truncate(max);
        }
        let inner = &mut *inner;
        let mut before = std::mem::take(&mut inner.entries);
        let mut new = Vec::new();
        for (member, spec) in members {
            let is_it = |entry: &Entry| *entry.backend.member() == member;
            let known = before.iter().position(is_it).map(|at| before.remove(at));
            let mut entry = match known {
                Some(entry) => entry,
                None => {
                    let back = inner.leaving.iter().position(is_it);
                    let entry = match back {
                        Some(at) => Entry {
                            ends_at: None,
                            ..inner.leaving.remove(at)
                        },
                        None => inner.join(member, &spec, &self.queue, metrics, is_start),
                    };
                    tracing::info!(backend = entry.backend.name(), "backend is a member");
                    new.push(Arc::clone(&entry.backend));
                    entry
                }
            };
            let requests_max = spec.requests_max.unwrap_or(inner.rules.requests_max);
            entry.backend.takes(requests_max as usize);
            entry.spec = spec;
            inner.entries.push(entry);
        }
        let mut gone = Vec::new();
        for mut entry in before {
            tracing::info!(
                backend = entry.backend.name(),
                "backend is no member any more"
            );
            gone.push(Arc::clone(&entry.backend));
            entry.backend.offers(None);
            entry.condition = Condition::Drain;
            entry.since = SystemTime::now();
            entry.ends_at = Some(Instant::now() + inner.rules.balancing.drain_deadline());
            inner.leaving.push(entry);
        }
        let backends = inner.entries.iter().map(|e| Arc::clone(&e.backend));
        self.chooser.replace(backends.collect());
        inner.publish();
        self.queue.advance();
        (new, gone)
    }

    /// A check has found this.
    pub fn looked(&self, backend: &Arc<Backend>, state: State, reason: String) {
        let mut inner = self.inner();
        backend.stands(state, reason);
        inner.publish();
        if let Some(entry) = inner.entry(backend) {
            entry.is_of_the_start = false;
        }
        drop(inner);
        self.queue.advance();
    }

    /// Whether checks are to be left alone.
    pub fn is_in_maintenance(&self, backend: &Backend) -> bool {
        self.inner().desired.of(backend.name()).state == Wish::Maint
    }

    /// One round: what is wanted, who is ejected, who is warm, who has left.
    pub fn round(&self, metrics: &Metrics) {
        let mut inner = self.inner();
        inner.follow_desired(metrics);
        inner.judge();
        inner.publish();
        inner.part(metrics);
        self.typical_us.store(inner.typical_us(), Ordering::Relaxed);
        drop(inner);
        self.queue.advance();
    }

    /// Once a second: what rates are made of.
    pub fn second(&self) {
        let mut inner = self.inner();
        for entry in &mut inner.entries {
            let metrics = &entry.backend.metrics;
            entry
                .rates
                .push_back((metrics.answers(), metrics.errors.get()));
            if entry.rates.len() > RATE_SECONDS + 1 {
                entry.rates.pop_front();
            }
        }
    }

    /// Writes down what is wanted, and does it.
    ///
    /// # Errors
    /// When the file cannot be read or written. Nothing is changed then.
    pub fn want(
        &self,
        metrics: &Metrics,
        change: impl FnOnce(&mut Desired),
    ) -> Result<(), io::Error> {
        let mut inner = self.inner();
        if let Err(error) = inner.file.change(change) {
            metrics.state_file_errors.inc();
            return Err(error);
        }
        inner.follow_desired(metrics);
        inner.publish();
        drop(inner);
        self.queue.advance();
        Ok(())
    }

    /// An ejection is forgiven.
    pub fn forgive(&self, backend: &str) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        for entry in inner.entries.iter_mut() {
            if entry.backend.name() == backend && entry.ejected.take().is_some() {
                inner
                    .judge
                    .forgive(entry.backend.id(), entry.backend.outcomes());
            }
        }
    }

    /// How the backends share the work.
    pub fn mode(&self) -> Mode {
        self.inner().mode()
    }

    /// Whether no backend is well, and requests go to those that are not.
    pub fn is_last_resort(&self) -> bool {
        self.inner().is_last_resort
    }

    /// Every backend, those that are leaving last.
    pub fn report(&self) -> Vec<Report> {
        let inner = self.inner();
        let members = inner.entries.iter().map(|entry| inner.report(entry, false));
        let leaving = inner.leaving.iter().map(|entry| inner.report(entry, true));
        members.chain(leaving).collect()
    }

    /// The same, for gauges, which have room for one of each name: for the member, where that has moved.
    pub fn conditions(&self) -> Vec<(Arc<Backend>, Condition)> {
        let inner = self.inner();
        let leaving = inner.leaving.iter();
        let leaving = leaving.filter(|entry| !is_named_among(&inner.entries, entry));
        let all = inner.entries.iter().chain(leaving);
        all.map(|entry| (Arc::clone(&entry.backend), entry.condition))
            .collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn mode(&self) -> Mode {
        self.desired.mode.unwrap_or(self.rules.balancing.mode)
    }

    fn entry(&mut self, backend: &Arc<Backend>) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| Arc::ptr_eq(&entry.backend, backend))
    }

    fn members(&self) -> Vec<(Member, BackendConfig)> {
        let mut members = Vec::new();
        for spec in &self.specs {
            let member = |name: String, address| Member {
                name,
                tls_name: spec.name.clone(),
                host: spec.host.clone(),
                port: spec.port,
                address,
            };
            if !spec.every_address {
                members.push((member(spec.name.clone(), None), spec.clone()));
                continue;
            }
            for address in self.addresses.get(&spec.host).into_iter().flatten() {
                let name = format!("{}@{address}", spec.name);
                members.push((member(name, Some(*address)), spec.clone()));
            }
        }
        members
    }

    fn join(
        &mut self,
        member: Member,
        spec: &BackendConfig,
        queue: &Arc<Queue>,
        metrics: &Metrics,
        is_start: bool,
    ) -> Entry {
        let all = || self.entries.iter().chain(&self.leaving);
        let place = (0..)
            .find(|place| all().all(|entry| entry.backend.place() != *place))
            .unwrap_or_default();
        let of_backend = metrics.of_backend(&member.name);
        // What comes before the first second is over counts, too.
        let rates = VecDeque::from([(of_backend.answers(), of_backend.errors.get())]);
        let address = member.address.map(|ip| SocketAddr::new(ip, member.port));
        let backend = Backend::new(place, self.next_id, member, queue, of_backend);
        self.next_id += 1;
        if let Some(address) = address {
            backend.moved_to(address);
        }
        Entry {
            backend: Arc::new(backend),
            spec: spec.clone(),
            is_of_the_start: is_start,
            condition: Condition::Starting,
            since: SystemTime::now(),
            warming: None,
            ejected: None,
            ends_at: None,
            rates,
        }
    }

    /// What is wanted may be another than before.
    fn follow_desired(&mut self, metrics: &Metrics) {
        match self.file.changed() {
            Ok(None) => {}
            Ok(Some(desired)) => {
                for entry in &self.entries {
                    let name = entry.backend.name();
                    let (before, now) = (self.desired.of(name), desired.of(name));
                    if before != now {
                        tracing::info!(
                            backend = name,
                            state = now.state.as_str(),
                            weight = now.weight,
                            "wanted"
                        );
                        // Checks are left alone in maintenance, and begin again after it.
                        entry.backend.look_again();
                    }
                }
                let before = self.mode();
                self.desired = desired;
                let mode = self.mode();
                if mode != before {
                    tracing::info!(mode = mode.as_str(), "wanted");
                }
            }
            Err(error) => {
                metrics.state_file_errors.inc();
                tracing::error!(%error, "what is wanted of the backends cannot be read; it stays as it was");
            }
        }
    }

    /// Who is to be ejected, and who comes back.
    fn judge(&mut self) {
        let seen: Vec<Seen<'_>> = self
            .entries
            .iter()
            .map(|entry| Seen {
                key: entry.backend.id(),
                outcomes: entry.backend.outcomes(),
                is_usable: entry.condition.is_well() || entry.condition == Condition::Ejected,
            })
            .collect();
        let verdicts = self.judge.judge(Instant::now(), &seen);
        for (entry, verdict) in self.entries.iter_mut().zip(verdicts) {
            let backend = entry.backend.name();
            entry.ejected = verdict.ejected;
            match (verdict.event, verdict.ejected) {
                (Some(Event::Ejected), Some(ejected)) => {
                    entry.backend.metrics.ejections.inc();
                    tracing::warn!(
                        backend,
                        why = %ejected.why,
                        seconds = ejected.time.as_secs_f64(),
                        "backend is ejected"
                    );
                }
                (Some(event), _) => {
                    tracing::info!(
                        backend,
                        event = event.as_str(),
                        "backend's ejection is over"
                    );
                }
                (None, _) => {}
            }
        }
    }

    /// Lets everybody offer what comes of what is known.
    fn publish(&mut self) {
        let mode = self.mode();
        let now = Instant::now();
        let balancing = &self.rules.balancing;
        for entry in &mut self.entries {
            let wanted = self.desired.of(entry.backend.name());
            let mut facts = Facts {
                wish: wanted.state,
                health: entry.backend.standing().state,
                is_ejected: entry.ejected.is_some(),
                is_standby: entry.spec.standby,
                weight: wanted.weight.unwrap_or(entry.spec.weight),
                warm_percent: 100,
            };
            let condition = facts.condition(mode);
            if condition != entry.condition {
                // One that was only drained is as warm as before, unless it was away in the meantime.
                let was_away = match entry.condition {
                    Condition::Drain => entry.backend.standing().since > entry.since,
                    condition => !condition.is_well(),
                };
                if condition.is_well() && was_away {
                    entry.warming = (!entry.is_of_the_start).then_some(now);
                }
                tell(entry, condition);
                entry.condition = condition;
                entry.since = SystemTime::now();
            }
            // One that is ready has no end, also if it has just been no member.
            let deadline = || now + balancing.drain_deadline();
            entry.ends_at = matches!(condition, Condition::Drain | Condition::Maint)
                .then(|| entry.ends_at.unwrap_or_else(deadline));
            facts.warm_percent = entry.warm_percent(balancing, now);
            if facts.warm_percent == 100 {
                entry.warming = None;
            }
            entry.end_in_time(now);
            entry.backend.offers(facts.offer(mode, balancing.when_none));
        }
        let offers = || self.entries.iter().filter_map(|e| e.backend.offer());
        let is_last_resort = offers().next().is_some() && offers().all(|o| o.rank.is_last_resort());
        if is_last_resort != self.is_last_resort {
            match is_last_resort {
                true => tracing::error!(
                    "no backend is well: requests go to those that are not (balancing.when_none)"
                ),
                false => tracing::info!("requests go to nobody any more who is not well"),
            }
        }
        self.is_last_resort = is_last_resort;
    }

    /// Those who are no members any more end what they have, and are forgotten.
    fn part(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        self.leaving.retain(|entry| {
            entry.end_in_time(now);
            let stays = entry.backend.in_flight().count() > 0;
            if !stays && !is_named_among(&self.entries, entry) {
                metrics.forget(entry.backend.name());
            }
            stays
        });
    }

    fn typical_us(&self) -> u32 {
        let at_work = self.entries.iter().filter(|e| e.condition.is_well());
        let (mut sum, mut count) = (0_u64, 0_u64);
        for latency in at_work.filter_map(|entry| entry.backend.latency()) {
            sum += u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            count += 1;
        }
        let mean = sum.checked_div(count).unwrap_or_default();
        u32::try_from(mean).unwrap_or(u32::MAX)
    }

    fn report(&self, entry: &Entry, is_leaving: bool) -> Report {
        let backend = &entry.backend;
        let wanted = self.desired.of(backend.name());
        let (answers, errors, seconds) = match (entry.rates.front(), entry.rates.back()) {
            (Some(first), Some(last)) if entry.rates.len() > 1 => {
                (last.0 - first.0, last.1 - first.1, entry.rates.len() - 1)
            }
            _ => (0, 0, 1),
        };
        Report {
            backend: Arc::clone(backend),
            condition: entry.condition,
            reason: reason(entry, is_leaving),
            since: entry.since,
            weight: wanted.weight.unwrap_or(entry.spec.weight),
            warm_percent: entry.warm_percent(&self.rules.balancing, Instant::now()),
            rate: answers as f64 / seconds as f64,
            error_rate: errors as f64 / seconds as f64,
            is_leaving,
        }
    }
}

impl Entry {
    /// How much of its part it gets.
    fn warm_percent(&self, balancing: &Balancing, now: Instant) -> u32 {
        self.warming.map_or(100, |since| {
            let slow_start = Duration::from_secs(balancing.slow_start_s);
            warm_percent(now - since, slow_start, balancing.slow_start_percent)
        })
    }

    /// Ends what may last for ever, once it has had its time.
    fn end_in_time(&self, now: Instant) {
        let is_over = self.ends_at.is_some_and(|ends_at| ends_at <= now);
        self.backend.ends(is_over);
    }
}

/// Whether another has its name by now: a host that has moved.
fn is_named_among(entries: &[Entry], entry: &Entry) -> bool {
    let mut names = entries.iter().map(|other| other.backend.name());
    names.any(|name| name == entry.backend.name())
}

fn reason(entry: &Entry, is_leaving: bool) -> String {
    if is_leaving {
        return "no member any more".to_owned();
    }
    match (entry.condition, &entry.ejected) {
        (Condition::Ejected, Some(Ejected { until, why, .. })) => {
            let left = until.saturating_duration_since(Instant::now());
            format!("{why}; {} s left", left.as_secs() + 1)
        }
        (Condition::Drain | Condition::Maint, _) => "an operator's word".to_owned(),
        _ => entry.backend.standing().reason.clone(),
    }
}

fn tell(entry: &Entry, condition: Condition) {
    let backend = entry.backend.name();
    match condition {
        Condition::Up | Condition::Standby => {
            tracing::info!(backend, condition = condition.as_str(), "backend is up");
        }
        _ => tracing::warn!(
            backend,
            state = condition.as_str(),
            reason = reason(entry, false),
            "backend is out of rotation"
        ),
    }
}

fn policy(config: &Ejection) -> Policy {
    Policy {
        consecutive_errors: config.consecutive_errors,
        error_percent_over: config.error_percent_over,
        requests_min: config.requests_min,
        window: Duration::from_secs(config.window_s),
        time: Duration::from_secs(config.time_s),
        time_max: Duration::from_secs(config.time_max_s),
        share_max_percent: config.share_max_percent,
    }
}
