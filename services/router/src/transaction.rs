//! Transactions, by name: on the primary, or on a replica if they only read.

use std::{
    hash::{BuildHasher, RandomState},
    ops::{Deref, DerefMut},
    time::Duration,
};

use futures::future::BoxFuture;
use replication::{ErrorKind, errors};
use sqlx::{MySqlConnection, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;
use tokio::time::{timeout, timeout_at};

use crate::{
    Router,
    attempt::Attempts,
    choose::{self, Choice},
    classify::Class,
    decision::Reason,
    error::RouterError,
    lease::Lease,
    own_connection::{OwnConnection, Within, executor_by_own_connection},
    spans,
};

/// sqlx's own bookkeeping of transactions: it makes one that is begun within ours a savepoint.
type Manager = sqlx::mysql::MySqlTransactionManager;

/// The first pause before a transaction is begun again; the next ones are each twice as long, and a random part of them is waited.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl Router {
    /// Begins a transaction on the primary. Dropping it rolls it back.
    ///
    /// # Errors
    /// [`RouterError::PrimaryUnavailable`], [`RouterError::Maintenance`] or [`RouterError::Overloaded`]; nothing was sent then.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        let begun: Result<Transaction, RouterError> = async {
            let mut attempts = Attempts::new(self);
            let primary = || choose::primary(&self.shared, Class::Write, Reason::Transaction);
            let (choice, lease) = attempts.lease(true, primary).await?;
            self.begin_on(&attempts, &choice, lease, "START TRANSACTION")
                .await
        }
        .await;
        begun.map_err(|error| self.give_up(error))
    }

    /// Begins a transaction that only reads, on a replica that is fresh for this session, or else on the primary.
    ///
    /// # Errors
    /// [`RouterError::NoServer`] or [`RouterError::Overloaded`].
    pub async fn begin_read_only(&self) -> Result<Transaction, sqlx::Error> {
        let begun: Result<Transaction, RouterError> = async {
            let mut attempts = Attempts::new(self);
            loop {
                let (choice, lease) = attempts.lease(false, || self.read(None, None)).await?;
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
        }
        .await;
        begun.map_err(|error| self.give_up(error))
    }

    /// Does something in a transaction on the primary, and commits it. When a statement of it meets a deadlock, a lock that does not come, or a
    /// server that is not the primary any more, it is rolled back and done again from its beginning, at most `transaction_retries` times,
    /// after a short random pause. Once COMMIT was sent, nothing is done again.
    ///
    /// ```no_run
    /// # async fn example(db: router::Router) -> Result<(), sqlx::Error> {
    /// let left: i64 = db
    ///     .transaction(|tx| {
    ///         Box::pin(async move {
    ///             sqlx::query("UPDATE seats SET free = free - 1 WHERE id = 7").execute(&mut *tx).await?;
    ///             sqlx::query_scalar("SELECT free FROM seats WHERE id = 7").fetch_one(&mut *tx).await
    ///         })
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What the closure gives, and as [`Router::begin`] and [`Transaction::commit`].
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<sqlx::Error>,
        F: for<'t> Fn(&'t mut Transaction) -> BoxFuture<'t, Result<T, E>>,
    {
        let mut pause = FIRST_PAUSE;
        for tries_left in (0..=self.shared.config.transaction_retries).rev() {
            let mut transaction = self.begin().await?;
            let worked = work(&mut transaction).await;
            let error = match (worked, transaction.own.rolled_back()) {
                (Ok(done), None) => {
                    transaction.commit().await?;
                    return Ok(done);
                }
                // Nothing of it is left, though nobody minded.
                (Ok(_), Some(rolled_back)) => self.give_up(rolled_back).into(),
                (Err(error), _) => error,
            };
            let was_closed = transaction.own.was_closed();
            let again = tries_left > 0 && (was_closed || transaction.own.met_contention());
            // Should this fail, the server rolls back when it finds the connection closed.
            let _ = transaction.rollback().await;
            if !again {
                return Err(error);
            }
            self.shared.metrics.transactions_retried.inc();
            if was_closed {
                // From then on it is known that the primary changes, for which the next one is held.
                let config = &self.shared.config;
                let round = config.probe_timeout() + config.probe_interval();
                self.shared.next_round(round).await;
            }
            tokio::time::sleep(random_part_of(pause)).await;
            pause *= 2;
        }
        unreachable!("the last try returns")
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
        let begin = Manager::begin(&mut lease, Some(statement.into_sql_str()));
        let begun = tokio::select! {
            biased;
            begun = timeout_at(attempts.deadline, begin) => begun.map_err(|_| None),
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
            own: OwnConnection::new(self, choice, lease, Within::Transaction),
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

fn random_part_of(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0);
    pause.mul_f64((random % 1024) as f64 / 1024.0)
}

/// A transaction. `&mut transaction` and `&mut *transaction` are executors, as `&Router` is; no statement of it is ever sent twice. What
/// takes sqlx's connection can have it (`&mut **transaction`), and a transaction that is begun on that is a savepoint of this one.
///
/// ```no_run
/// # async fn example(db: router::Router) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = db.begin().await?;
/// sqlx::query("DELETE FROM carts WHERE id = ?").bind(7).execute(&mut transaction).await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
#[must_use = "a transaction that is dropped is rolled back"]
#[derive(Debug)]
pub struct Transaction {
    own: OwnConnection,
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
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let ended = self.end(End::Commit).await;
        let Router {
            shared, session, ..
        } = self.own.router();
        match &ended {
            Ok(()) if self.writes => session.wrote(shared.watermark.acknowledged()),
            Err(RouterError::CommitOutcomeUnknown { .. }) => {
                session.may_have_written(shared.watermark.acknowledged());
            }
            _ => {}
        }
        ended.map_err(|error| self.own.router().give_up(error))
    }

    /// Rolls back and returns the connection. Dropping does the same, later.
    ///
    /// # Errors
    /// When the server is gone; it rolls back by itself then.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        Ok(self.end(End::Rollback).await?)
    }

    async fn end(&mut self, how: End) -> Result<(), RouterError> {
        if how == End::Commit
            && let Some(rolled_back) = self.own.rolled_back()
        {
            // Dropped, it gives its connection back.
            return Err(rolled_back);
        }
        let mut lease = self.own.take()?;
        let (router, server) = (self.own.router(), self.own.server());
        let shared = &router.shared;
        let no_answer = |reason: String| {
            shared.suspect();
            if how == End::Commit && self.writes {
                choose::outcome_unknown(shared, server, reason)
            } else {
                choose::away_because(shared, server, &reason)
            }
        };
        let limit = shared.config.statement_timeout();
        let span = spans::statement(self.own.decision(), how.statement());
        let ended = timeout(limit, how.done_on(&mut lease)).await;
        if !matches!(ended, Ok(Ok(()))) {
            spans::failed(
                &span,
                ended.as_ref().ok().and_then(|ended| ended.as_ref().err()),
            );
        }
        match ended {
            Ok(Ok(())) => {
                lease.finish();
                Ok(())
            }
            Ok(Err(error)) => match errors::kind(&error) {
                // The server has said no, and rolled back.
                ErrorKind::WrongServer => {
                    shared.suspect();
                    Err(choose::away_because(shared, server, &error.to_string()))
                }
                ErrorKind::Gone => Err(no_answer(error.to_string())),
                _ => Err(error.into()),
            },
            Err(_) => Err(no_answer(format!("no answer within {limit:?}"))),
        }
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Commit,
    Rollback,
}

impl End {
    fn statement(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
        }
    }

    /// A savepoint that was left open ends with it.
    async fn done_on(self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        while Manager::get_transaction_depth(connection) > 0 {
            match self {
                Self::Commit => Manager::commit(connection).await?,
                Self::Rollback => Manager::rollback(connection).await?,
            }
        }
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = OwnConnection;

    fn deref(&self) -> &OwnConnection {
        &self.own
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut OwnConnection {
        &mut self.own
    }
}

executor_by_own_connection!(Transaction);

impl Drop for Transaction {
    /// Rolls back. After a dropped future a statement may be half read: then the connection is closed, and the server rolls back.
    fn drop(&mut self) {
        let router = self.own.router();
        router.session.ended(self.step);
        let limit = router.shared.config.statement_timeout();
        let (Some(mut lease), Ok(runtime)) = (
            self.own.take_if_in_step(),
            tokio::runtime::Handle::try_current(),
        ) else {
            return;
        };
        runtime.spawn(async move {
            let rolled_back = timeout(limit, End::Rollback.done_on(&mut lease)).await;
            if matches!(rolled_back, Ok(Ok(()))) {
                lease.finish();
            }
        });
    }
}
