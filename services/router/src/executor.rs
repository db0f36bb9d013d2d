//! `&Router` as sqlx's `Executor`, and `&mut Transaction`.
//!
//! A read that finds its server gone, or that a replica refuses as a write, is sent once more, to another server, if no row was handed
//! out yet; so is one whose server falls silent, as soon as the probes say so and somebody else can answer. Nothing else is ever sent
//! twice.

use std::io;

use async_stream::try_stream;
use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};
use replication::{ErrorKind, errors};
use sqlx::{
    Either, Execute, Executor, MySql, MySqlConnection, SqlStr,
    error::BoxDynError,
    mysql::{MySqlArguments, MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    Router, Transaction,
    choose::{self, Choice},
    classify::{self, Class},
    decision::{Reason, Target},
    error::RouterError,
    pool::{self, Lease},
    spans,
};

/// A query taken apart, so that it can be sent again.
#[derive(Clone)]
struct Query {
    sql: SqlStr,
    arguments: Option<MySqlArguments>,
    statement: Option<MySqlStatement>,
    persistent: bool,
}

impl Query {
    fn take<'q>(mut query: impl Execute<'q, MySql>) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let statement = query.statement().cloned();
        let persistent = query.persistent();
        Ok(Self {
            sql: query.sql(),
            arguments,
            statement,
            persistent,
        })
    }
}

impl Execute<'_, MySql> for Query {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&MySqlStatement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<MySqlArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// One statement on its way: where it was sent, and whether it may be sent again.
pub(crate) struct Attempts<'r> {
    router: &'r Router,
    pub(crate) deadline: Instant,
    pub(crate) begun: std::time::Instant,
    step: Option<usize>,
    span: tracing::Span,
    tried: Option<usize>,
    correct: bool,
    again: bool,
}

impl<'r> Attempts<'r> {
    pub(crate) fn new(router: &'r Router) -> Self {
        let deadline = Instant::now() + router.shared.config.statement_timeout();
        Self {
            router,
            deadline,
            begun: std::time::Instant::now(),
            step: None,
            span: tracing::Span::none(),
            tried: None,
            correct: false,
            again: false,
        }
    }

    /// Where to send it now, with a connection.
    async fn next(&mut self, sql: &str) -> Result<(Choice, Lease), RouterError> {
        let Router { shared, session } = self.router;
        let (choice, lease) = self.lease(|| choose::choose(shared, session, sql)).await?;
        let summary = classify::summary(sql);
        self.span = spans::statement(&choice.decision, &summary);
        self.step = self.router.decided(&choice, summary, self.begun);
        Ok((choice, lease))
    }

    /// A connection to whichever server `first` chooses. What turns out to be a read may come to another one.
    pub(crate) async fn lease(
        &mut self,
        first: impl Fn() -> Result<Choice, RouterError>,
    ) -> Result<(Choice, Lease), RouterError> {
        let Router { shared, session } = self.router;
        loop {
            let choice = if self.correct {
                choose::primary(shared, Class::Unproven, Reason::Corrected)
            } else if self.again {
                choose::read(shared, session, self.tried)
            } else {
                first()
            };
            let (error, is_read, server) = match choice {
                Ok(choice) => {
                    match pool::lease(shared, choice.server, choice.usage, self.deadline).await {
                        Ok(lease) => return Ok((choice, lease)),
                        Err(error) => (error, choice.class == Class::Read, Some(choice.server)),
                    }
                }
                // Whether a server became fresh or came back is known after the next round.
                Err(error @ RouterError::NoServer { .. }) => (error, true, None),
                Err(error) => return Err(error),
            };
            if self.again || !is_read {
                return Err(error);
            }
            self.elsewhere(server).await;
        }
    }

    /// What the server answers; no error means no answer by the deadline. A read without a row yet leaves a server that has fallen silent
    /// as soon as the probes say so, if another one can answer.
    async fn answer<T>(
        &self,
        choice: &Choice,
        rows_handed_out: bool,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Option<sqlx::Error>> {
        let Router { shared, session } = self.router;
        let may_leave = choice.class == Class::Read && !rows_handed_out && !self.again;
        let silent = shared.until(|view| {
            !view.servers[choice.server].up
                && choose::read(shared, session, Some(choice.server)).is_ok()
        });
        tokio::select! {
            biased;
            answer = timeout_at(self.deadline, answer) => match answer {
                Ok(answer) => answer.map_err(Some),
                Err(_) => Err(None),
            },
            () = silent, if may_leave => Err(Some(io::Error::from(io::ErrorKind::TimedOut).into())),
        }
    }

    /// Whether a read may be sent once more, now that this server has failed; after a look at the servers.
    pub(crate) async fn may_try_elsewhere(&mut self, server: usize) -> bool {
        if self.again {
            return false;
        }
        self.elsewhere(Some(server)).await;
        true
    }

    /// A read may be sent once more: after a look at the servers, and not to the one that failed unless it is there again.
    async fn elsewhere(&mut self, server: Option<usize>) {
        self.again = true;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let shared = &self.router.shared;
        let is_up = |server: usize| shared.view.load().servers[server].up;
        if server.is_none_or(is_up) {
            let round = shared.config.probe_timeout() + shared.config.probe_interval();
            shared.next_round(left.min(round)).await;
        }
        self.tried = server.filter(|&server| !is_up(server));
    }

    /// The connection gave an error, or none in time. `Ok` means: once more.
    async fn failed(
        &mut self,
        choice: &Choice,
        lease: Lease,
        error: Option<sqlx::Error>,
        rows_handed_out: bool,
    ) -> Result<(), RouterError> {
        spans::failed(&self.span, error.as_ref());
        self.span = tracing::Span::none();
        let shared = &self.router.shared;
        self.router.session.ended(self.step);
        // What is sent once more is a step of its own.
        self.begun = std::time::Instant::now();
        let server = choice.decision.server.clone();
        let is_read = matches!(choice.class, Class::Read | Class::Locking);
        let Some(error) = error else {
            shared.suspect();
            let limit = shared.config.statement_timeout();
            return Err(if is_read {
                RouterError::DeadlineExceeded { server, limit }
            } else {
                let reason = format!("no answer within {limit:?}");
                choose::outcome_unknown(shared, choice.server, reason)
            });
        };
        let once_more = choice.class == Class::Read && !rows_handed_out && !self.again;
        match errors::kind(&error) {
            ErrorKind::Gone => {
                shared.suspect();
                drop(lease);
                if once_more {
                    self.elsewhere(Some(choice.server)).await;
                    return Ok(());
                }
                Err(if is_read {
                    choose::away_because(shared, choice.server, &error.to_string())
                } else {
                    choose::outcome_unknown(shared, choice.server, error.to_string())
                })
            }
            ErrorKind::WrongServer if choice.decision.target == Target::Replica && once_more => {
                lease.finish();
                tracing::warn!(server, %error, "a replica refused a statement that was taken for a read");
                (self.again, self.correct) = (true, true);
                Ok(())
            }
            // Refused before it did anything: the server is not the primary any more.
            ErrorKind::WrongServer => {
                shared.suspect();
                Err(choose::away_because(
                    shared,
                    choice.server,
                    &error.to_string(),
                ))
            }
            _ => {
                // An error that the server sent leaves the connection in step.
                if matches!(error, sqlx::Error::Database(_)) {
                    lease.finish();
                }
                Err(error.into())
            }
        }
    }

    /// The answer came.
    fn done(self, choice: &Choice, lease: Lease) {
        lease.finish();
        self.router.session.ended(self.step);
        if !matches!(choice.class, Class::Read | Class::Locking) {
            self.router
                .session
                .wrote(self.router.shared.watermark.acknowledged());
        }
    }
}

impl Router {
    fn give_up(&self, error: RouterError) -> sqlx::Error {
        self.shared.metrics.failed(&error);
        error.into()
    }

    /// Any connection to the primary, for what is no statement.
    async fn on_primary<T>(
        &self,
        work: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let deadline = Instant::now() + self.shared.config.statement_timeout();
        let choice = choose::primary(&self.shared, Class::Unproven, Reason::Unproven)
            .map_err(|e| self.give_up(e))?;
        let mut lease = pool::lease(&self.shared, choice.server, choice.usage, deadline)
            .await
            .map_err(|e| self.give_up(e))?;
        let limit = self.shared.config.statement_timeout();
        let server = choice.decision.server;
        let answer = timeout_at(deadline, work(&mut lease)).await;
        let answer =
            answer.map_err(|_| self.give_up(RouterError::DeadlineExceeded { server, limit }))?;
        if matches!(answer, Ok(_) | Err(sqlx::Error::Database(_))) {
            lease.finish();
        }
        answer
    }
}

impl<'c> Executor<'c> for &Router {
    type Database = MySql;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<MySqlQueryResult, MySqlRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let router = self.clone();
        let query = Query::take(query);
        Box::pin(try_stream! {
            let query = query?;
            let mut attempts = Attempts::new(&router);
            loop {
                let (choice, mut lease) = attempts.next(query.sql.as_str()).await.map_err(|e| router.give_up(e))?;
                let mut handed_out = false;
                let mut rows = (*lease).fetch_many(query.clone());
                let outcome = loop {
                    match attempts.answer(&choice, handed_out, rows.try_next()).await {
                        Err(error) => break Err(error),
                        Ok(None) => break Ok(()),
                        Ok(Some(item)) => {
                            handed_out = true;
                            yield item;
                        }
                    }
                };
                drop(rows);
                match outcome {
                    Ok(()) => {
                        attempts.done(&choice, lease);
                        break;
                    }
                    Err(error) => {
                        attempts.failed(&choice, lease, error, handed_out).await.map_err(|e| router.give_up(e))?;
                    }
                }
            }
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<MySqlRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let router = self.clone();
        let query = Query::take(query);
        Box::pin(async move {
            let query = query?;
            let mut attempts = Attempts::new(&router);
            loop {
                let (choice, mut lease) = attempts
                    .next(query.sql.as_str())
                    .await
                    .map_err(|e| router.give_up(e))?;
                let first_row = async {
                    if choice.class == Class::Read {
                        return (*lease).fetch_optional(query.clone()).await;
                    }
                    // To the end: what comes behind a row may write, and is done only then.
                    let mut rows = (*lease).fetch_many(query.clone());
                    let mut first = None;
                    while let Some(item) = rows.try_next().await? {
                        if let Either::Right(row) = item {
                            first.get_or_insert(row);
                        }
                    }
                    Ok(first)
                };
                match attempts.answer(&choice, false, first_row).await {
                    Ok(row) => {
                        attempts.done(&choice, lease);
                        return Ok(row);
                    }
                    Err(error) => attempts.failed(&choice, lease, error, false).await,
                }
                .map_err(|e| router.give_up(e))?;
            }
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, Result<MySqlStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let router = self.clone();
        Box::pin(async move {
            router
                .on_primary(async |connection| connection.prepare_with(sql, parameters).await)
                .await
        })
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<MySql>, sqlx::Error>>
    where
        'c: 'e,
    {
        let router = self.clone();
        Box::pin(async move {
            router
                .on_primary(async |connection| connection.describe(sql).await)
                .await
        })
    }
}

/// Each statement has a span, which says what the transaction's decision was.
impl<'c> Executor<'c> for &'c mut Transaction {
    type Database = MySql;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<MySqlQueryResult, MySqlRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let query = Query::take(query);
        Box::pin(try_stream! {
            let query = query?;
            let span = self.span(query.sql.as_str());
            let mut rows = self.connection().fetch_many(query);
            while let Some(item) = rows.try_next().await.inspect_err(|error| spans::failed(&span, Some(error)))? {
                yield item;
            }
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<MySqlRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let query = Query::take(query);
        Box::pin(async move {
            let query = query?;
            let span = self.span(query.sql.as_str());
            let row = self.connection().fetch_optional(query).await;
            row.inspect_err(|error| spans::failed(&span, Some(error)))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, Result<MySqlStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection().prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<MySql>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection().describe(sql)
    }
}
