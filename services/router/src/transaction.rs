//! Transactions and pinned connections: what belongs to one connection, by name.

use std::ops::{Deref, DerefMut};

use replication::{ErrorKind, errors};
use sqlx::{Executor, MySqlConnection};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Router,
    choose::{self, Choice},
    classify::{self, Class},
    decision::{Decision, Reason},
    error::RouterError,
    executor::Attempts,
    pool::{self, Lease},
    spans,
};

impl Router {
    /// Begins a transaction on the primary. Dropping it rolls it back.
    ///
    /// # Errors
    /// [`RouterError::PrimaryUnavailable`] or [`RouterError::Overloaded`], within milliseconds of knowing; nothing was sent then.
    pub async fn begin(&self) -> Result<Transaction, RouterError> {
        let begun = async {
            let mut attempts = Attempts::new(self);
            let primary = || choose::primary(&self.shared, Class::Write, Reason::Transaction);
            let (choice, lease) = attempts.lease(primary).await?;
            self.begin_on(&attempts, &choice, lease, "START TRANSACTION")
                .await
        };
        begun
            .await
            .inspect_err(|error| self.shared.metrics.failed(error))
    }

    /// Begins a transaction that only reads, on a replica that is fresh for this session, or else on the primary.
    ///
    /// # Errors
    /// [`RouterError::NoServer`] or [`RouterError::Overloaded`].
    pub async fn begin_read_only(&self) -> Result<Transaction, RouterError> {
        let begun = async {
            let mut attempts = Attempts::new(self);
            loop {
                let fresh = || choose::read(&self.shared, &self.session, None);
                let (choice, lease) = attempts.lease(fresh).await?;
                let begun = self
                    .begin_on(&attempts, &choice, lease, "START TRANSACTION READ ONLY")
                    .await;
                match begun {
                    // Nothing was read yet.
                    Err(RouterError::NoServer { .. } | RouterError::PrimaryUnavailable { .. })
                        if attempts.may_try_elsewhere(choice.server).await => {}
                    begun => return begun,
                }
            }
        };
        begun
            .await
            .inspect_err(|error| self.shared.metrics.failed(error))
    }

    /// One connection to the primary, for what needs the state of a session. It is closed afterwards, with that state.
    ///
    /// # Errors
    /// As [`Router::begin`].
    pub async fn pinned(&self) -> Result<Pinned, RouterError> {
        let deadline = Instant::now() + self.shared.config.statement_timeout();
        let begun = std::time::Instant::now();
        let pinned = async {
            let choice = choose::primary(&self.shared, Class::Write, Reason::Pinned)?;
            let lease = pool::lease(&self.shared, choice.server, choice.usage, deadline).await?;
            let step = self.decided(&choice, "pinned connection".to_owned(), begun);
            Ok(Pinned {
                router: self.clone(),
                lease,
                step,
            })
        };
        pinned
            .await
            .inspect_err(|error| self.shared.metrics.failed(error))
    }

    async fn begin_on(
        &self,
        attempts: &Attempts<'_>,
        choice: &Choice,
        mut lease: Lease,
        statement: &'static str,
    ) -> Result<Transaction, RouterError> {
        let span = spans::statement(&choice.decision, statement);
        // Nothing is done yet: whoever waits need not wait for a server that is known to be away.
        let away = self.shared.until(|view| !view.servers[choice.server].up);
        let begun = tokio::select! {
            biased;
            begun = timeout_at(attempts.deadline, (*lease).execute(statement)) => begun.map_err(|_| None),
            () = away => Err(None),
        };
        if let Err(error) = begun.and_then(|begun| begun.map_err(Some)) {
            spans::failed(&span, error.as_ref());
            self.shared.suspect();
            let away = |reason: &str| choose::away_because(&self.shared, choice.server, reason);
            return Err(match error {
                None => away("it does not answer"),
                Some(error) if errors::kind(&error) == ErrorKind::Gone => away(&error.to_string()),
                Some(error) => error.into(),
            });
        }
        let writes = choice.class != Class::Read;
        let summary = if writes {
            "transaction"
        } else {
            "read-only transaction"
        };
        let step = self.decided(choice, summary.to_owned(), attempts.begun);
        Ok(Transaction {
            router: self.clone(),
            lease: Some(lease),
            server: choice.server,
            decision: choice.decision.clone(),
            writes,
            step,
        })
    }

    /// A statement or transaction has a connection: counted, and a step of the session.
    pub(crate) fn decided(
        &self,
        choice: &Choice,
        summary: String,
        begun: std::time::Instant,
    ) -> Option<usize> {
        self.shared.metrics.decided(&choice.decision);
        let decision = choice.decision.clone();
        self.session.decided(decision, summary, begun)
    }
}

/// A transaction. `&mut transaction` is an executor, as `&Router` is; no statement of it is ever sent twice.
///
/// ```no_run
/// # async fn example(db: router::Router) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = db.begin().await?;
/// sqlx::query("DELETE FROM carts WHERE id = ?").bind(7).execute(&mut transaction).await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    router: Router,
    /// `None` once it has ended.
    lease: Option<Lease>,
    server: usize,
    decision: Decision,
    writes: bool,
    /// Its place in the session.
    step: Option<usize>,
}

impl Transaction {
    /// Commits, and marks the session: its next reads see this.
    ///
    /// # Errors
    /// [`RouterError::CommitOutcomeUnknown`] when COMMIT was sent and no answer came within the statement timeout. The transaction
    /// may have been committed, or may still be: ask by something that was written in it, an idempotency key for example. Any
    /// other error means that it was rolled back.
    pub async fn commit(mut self) -> Result<(), RouterError> {
        let outcome = self.end("COMMIT", self.writes).await;
        if let Err(error) = &outcome {
            self.router.shared.metrics.failed(error);
        } else if self.writes {
            self.router
                .session
                .wrote(self.router.shared.watermark.acknowledged());
        }
        outcome
    }

    /// Rolls back and returns the connection. Dropping does the same, later.
    ///
    /// # Errors
    /// When the server is gone; it rolls back by itself then.
    pub async fn rollback(mut self) -> Result<(), RouterError> {
        self.end("ROLLBACK", false).await
    }

    /// A statement of it that begins now.
    pub(crate) fn span(&self, sql: &str) -> tracing::Span {
        spans::statement(&self.decision, &classify::summary(sql))
    }

    pub(crate) fn connection(&mut self) -> &mut MySqlConnection {
        self.lease
            .as_deref_mut()
            .expect("has one until it ends, and ending consumes it")
    }

    /// Ends it; where no answer comes, `commits` says whether something may have been done.
    async fn end(&mut self, statement: &'static str, commits: bool) -> Result<(), RouterError> {
        let shared = &self.router.shared;
        let no_answer = |reason: String| {
            shared.suspect();
            if commits {
                choose::outcome_unknown(shared, self.server, reason)
            } else {
                choose::away_because(shared, self.server, &reason)
            }
        };
        let limit = shared.config.statement_timeout();
        let mut lease = self
            .lease
            .take()
            .expect("ends once: commit and rollback consume it");
        let span = spans::statement(&self.decision, statement);
        let ended = timeout(limit, (*lease).execute(statement)).await;
        if !matches!(ended, Ok(Ok(_))) {
            spans::failed(
                &span,
                ended.as_ref().ok().and_then(|ended| ended.as_ref().err()),
            );
        }
        match ended {
            Ok(Ok(_)) => {
                lease.finish();
                Ok(())
            }
            Ok(Err(error)) => match errors::kind(&error) {
                // The server has said no, and rolled back.
                ErrorKind::WrongServer => {
                    shared.suspect();
                    Err(choose::away_because(
                        shared,
                        self.server,
                        &error.to_string(),
                    ))
                }
                ErrorKind::Gone => Err(no_answer(error.to_string())),
                _ => Err(error.into()),
            },
            Err(_) => Err(no_answer(format!("no answer within {limit:?}"))),
        }
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

impl Drop for Transaction {
    /// A dropped future may have left a statement half read, so the connection is closed and the server rolls back.
    fn drop(&mut self) {
        drop(self.lease.take());
        self.router.session.ended(self.step);
    }
}

/// A connection to the primary that is one's own.
pub struct Pinned {
    router: Router,
    lease: Lease,
    step: Option<usize>,
}

impl Deref for Pinned {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.lease
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.lease
    }
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl Drop for Pinned {
    /// What was done on it is not known, so it counts as a write.
    fn drop(&mut self) {
        self.router
            .session
            .wrote(self.router.shared.watermark.acknowledged());
        self.router.session.ended(self.step);
    }
}
