//! Splits sqlx queries between a MySQL primary and its replicas, safely and fresh.
//!
//! Use `&Router` where you would use `&MySqlPool`. A statement goes to a replica only if a lexer proves that it only reads
//! ([`classify`]), and only if that replica is fresh for the session: it has applied everything that the session has written, on
//! whichever process, and is not further behind than `max_lag`. Everything else goes to the primary. Roles come from the row
//! `holdfast.cluster` on the servers themselves; a server that is away is known before a statement is sent to it, so that an error
//! takes milliseconds.
//!
//! It is not a proxy: it has no port, parses no result, and rewrites no statement. It never sends a write twice.
//!
//! ```no_run
//! # async fn example(router: router::Router) -> Result<(), Box<dyn std::error::Error>> {
//! let db = router.session(None); // one for each request
//! let names: Vec<String> = sqlx::query_scalar("SELECT name FROM owners").fetch_all(&db).await?; // a replica
//! let mut tx = db.begin().await?; // the primary
//! sqlx::query("INSERT INTO owners (name) VALUES (?)").bind("Ada").execute(&mut tx).await?;
//! tx.commit().await?;
//! let token = db.causal_token().await?; // proves the write to another process
//! # Ok(()) }
//! ```
#![doc = include_str!("../README.md")]

mod acquire;
mod attempt;
mod causal;
mod choose;
pub mod classify;
mod config;
mod consistency;
mod corrections;
mod decision;
mod error;
mod executor;
mod health;
mod hold;
mod lease;
mod login;
mod metrics;
mod own_connection;
mod pinned;
mod pool;
mod server;
mod session;
mod spans;
mod transaction;
mod view;
mod watermark;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, task::JoinHandle};

pub use causal::CausalKey;
pub use config::{Credentials, Password, RouterConfig};
pub use consistency::Consistency;
pub use decision::{Decision, Reason, Step, Target};
pub use error::RouterError;
pub use health::{ClusterHealth, ServerHealth};
pub use own_connection::OwnConnection;
pub use pinned::Pinned;
pub use replication::{Endpoint, TlsFiles};
pub use transaction::Transaction;
pub use view::ServerState;

use crate::{
    choose::Wish, classify::Classifier, corrections::Corrections, metrics::Metrics, server::Server,
    session::Session, view::View, watermark::Watermark,
};

/// Routes statements. Cheap to clone; a clone shares the session.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
    session: Arc<Session>,
    consistency: Consistency,
}

/// What all sessions of a process share.
struct Shared {
    config: RouterConfig,
    servers: Vec<Server>,
    view: ArcSwap<View>,
    watermark: Watermark,
    key: CausalKey,
    classifier: Classifier,
    corrections: Corrections,
    metrics: Metrics,
    /// Wakes the probes: something looked wrong.
    suspicion: Notify,
    /// Told after every round of probes, and when a server has executed what somebody waits for.
    changed: Notify,
    /// How many rounds of probes there were.
    rounds: AtomicU64,
    /// Whose turn it is among equal replicas.
    turn: AtomicUsize,
    /// How many writes wait for the end of a switchover.
    held: AtomicUsize,
    /// The probes, the sampler and its followers.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Router {
    /// Starts to watch the servers and returns at once; none of them needs to be there yet. Must be called within a tokio run-time.
    ///
    /// # Errors
    /// [`RouterError::Configuration`] where a value makes no sense, or a metric of ours is registered already.
    pub fn connect(
        config: RouterConfig,
        credentials: &Credentials,
        registry: &prometheus::Registry,
    ) -> Result<Self, RouterError> {
        if let Some(problem) = config.problem() {
            return Err(RouterError::Configuration(problem));
        }
        let servers: Vec<Server> = config
            .servers
            .iter()
            .map(|endpoint| Server::new(endpoint, &config, credentials))
            .collect();
        let metrics = Metrics::new(registry, &config, &servers)
            .map_err(|error| RouterError::Configuration(error.to_string()))?;
        let classifier =
            Classifier::new(&config.pure_functions).map_err(RouterError::Configuration)?;
        let shared = Arc::new(Shared {
            view: ArcSwap::from_pointee(View::unknown(servers.len())),
            watermark: Watermark::new(servers.len()),
            key: credentials.causal_key.clone(),
            classifier,
            corrections: Corrections::new(config.corrections_max as usize),
            suspicion: Notify::new(),
            changed: Notify::new(),
            rounds: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            tasks: Mutex::default(),
            metrics,
            servers,
            config,
        });
        let mut tasks = vec![
            tokio::spawn(health::watch(Arc::downgrade(&shared))),
            tokio::spawn(watermark::sample(Arc::downgrade(&shared))),
        ];
        tasks.extend(
            (0..shared.servers.len())
                .map(|server| tokio::spawn(watermark::follow(Arc::downgrade(&shared), server))),
        );
        *shared.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(Self {
            shared,
            session: Arc::new(Session::new(None)),
            consistency: Consistency::default(),
        })
    }

    /// The same router for a new session, which begins with what its causal token proves: one for each request. A token that is
    /// malformed, forged, oversized or of a history that is gone is as good as none, and counted.
    #[must_use]
    pub fn session(&self, token: Option<&str>) -> Self {
        let token = token.and_then(|token| match self.shared.key.open(token) {
            Ok(token) => {
                self.shared.metrics.token("accepted");
                Some(token)
            }
            Err(error) => {
                tracing::debug!(%error, "a causal token was ignored");
                self.shared.metrics.token(error.kind());
                None
            }
        });
        Self {
            shared: self.shared.clone(),
            session: Arc::new(Session::new(token)),
            consistency: self.consistency,
        }
    }

    /// The same session, whose statements through this value demand this much of the data that they read.
    ///
    /// ```no_run
    /// # async fn example(db: router::Router) -> Result<(), sqlx::Error> {
    /// use std::time::Duration;
    /// use router::Consistency;
    ///
    /// let dashboard = db.with_consistency(Consistency::Eventual { max_lag: Duration::from_secs(10) });
    /// let visits: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM visits").fetch_one(&dashboard).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_consistency(&self, consistency: Consistency) -> Self {
        Self {
            consistency,
            ..self.clone()
        }
    }

    /// Of two tokens that a client sent, the one that proves more; one that cannot be opened proves nothing.
    #[must_use]
    pub fn newer<'a>(&self, one: &'a str, other: &'a str) -> &'a str {
        match (self.shared.key.open(one), self.shared.key.open(other)) {
            (Ok(a), Ok(b))
                if b.epoch > a.epoch
                    || (b.epoch == a.epoch && b.executed.contains(&a.executed)) =>
            {
                other
            }
            (Err(_), Ok(_)) => other,
            _ => one,
        }
    }

    /// Proves this session's writes to another process: everything that the primary had executed when it was asked, which was after
    /// the last of them was acknowledged. `None` if the session has written nothing.
    ///
    /// # Errors
    /// When the primary does not answer in time. The writes are acknowledged all the same.
    pub async fn causal_token(&self) -> Result<Option<String>, RouterError> {
        let mark = match self.session.is_writing_unseen() {
            // Everything until now.
            true => self.shared.watermark.acknowledged(),
            false => self.session.mark(),
        };
        if mark == 0 {
            return Ok(None);
        }
        let (epoch, executed) = watermark::executed_by_primary(&self.shared, mark).await?;
        let token = self.shared.key.seal(epoch, &executed);
        if token.is_none() {
            self.shared.metrics.token("too_long_to_make");
        }
        Ok(token)
    }

    /// Where this session's statements went, in order of use; at most 64 are kept.
    #[must_use]
    pub fn decisions(&self) -> Vec<Decision> {
        let steps = self.session.steps().into_iter();
        steps.map(|step| step.decision).collect()
    }

    /// The same with what each of them was and how long it took.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.session.steps()
    }

    /// What a statement is, and why; with the functions that are registered.
    #[must_use]
    pub fn classify(&self, sql: &str) -> classify::Verdict {
        self.shared.classifier.classify(sql)
    }

    /// Where a statement would go now, and why, without sending it.
    ///
    /// # Errors
    /// What sending it would answer at once: nobody to send it to, or a statement that needs a pinned connection.
    pub fn explain(&self, sql: &str) -> Result<Decision, RouterError> {
        let verdict = self.shared.classifier.classify(sql);
        self.choose(Wish::of(&self.shared, sql, &verdict))
            .map(|choice| choice.decision)
    }

    /// What is known of the servers.
    #[must_use]
    pub fn health(&self) -> ClusterHealth {
        ClusterHealth::of(&self.shared)
    }

    /// Waits until the primary takes writes.
    ///
    /// # Errors
    /// [`RouterError::PrimaryUnavailable`] when it does not within `limit`.
    pub async fn wait_for_primary(&self, limit: std::time::Duration) -> Result<(), RouterError> {
        let waiting = self
            .shared
            .until(|view| view.writable_primary().is_some() && !view.holds_writes());
        tokio::time::timeout(limit, waiting)
            .await
            .map_err(|_| choose::no_primary(&self.shared))
    }

    /// Closes all connections; statements that are under way finish first.
    pub async fn close(&self) {
        self.shared.stop();
        for server in &self.shared.servers {
            server.close().await;
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("mark", &self.session.mark())
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Ends the probes, the sampler and its followers.
    fn stop(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks.drain(..) {
            task.abort();
        }
    }

    /// Something looked wrong with a server: look at once instead of at the next interval.
    fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Waits until what is known of the servers is so.
    async fn until(&self, condition: impl Fn(&View) -> bool) {
        self.until_some(|| condition(&self.view.load()).then_some(()))
            .await;
    }

    /// Waits until there is something; asked again whenever something has changed that is known of the servers.
    async fn until_some<T>(&self, something: impl Fn() -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(something) = something() {
                return something;
            }
            changed.await;
        }
    }

    /// Waits until a round of probes that began after this call has ended, for at most `limit`.
    async fn next_round(&self, limit: std::time::Duration) {
        // The round that is under way may have begun before.
        let enough = self.rounds.load(Ordering::Acquire) + 2;
        let waiting = async {
            loop {
                let probed = self.changed.notified();
                if self.rounds.load(Ordering::Acquire) >= enough {
                    return;
                }
                self.suspect();
                probed.await;
            }
        };
        let _ = tokio::time::timeout(limit, waiting).await;
    }
}
