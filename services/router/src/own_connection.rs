//! A connection that is one's own for a while: a transaction's, or a pinned one.
//!
//! Each statement has a span and a time limit, and ends early when the server is known to be away. After a statement that did not end the
//! connection is out of step: it takes no further one, and is closed.

use std::{
    ops::{Deref, DerefMut},
    pin::pin,
};

use async_stream::try_stream;
use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};
use replication::{ErrorKind, errors};
use sqlx::{
    Either, Execute, Executor, MySql, MySqlConnection, SqlStr,
    mysql::{MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo},
};
use tokio::time::sleep;

use crate::{
    Router,
    attempt::answer,
    choose::{self, Choice},
    classify,
    decision::Decision,
    error::RouterError,
    executor::Query,
    lease::Lease,
    spans,
};

/// What a statement that did not end may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// Nothing: its transaction is rolled back.
    Transaction,
    /// Whatever it says: each statement commits by itself.
    Autocommit,
}

/// A connection that is one's own. `&mut` of it is an executor whose statements have spans and limits; behind it is sqlx's own connection,
/// for what takes only that.
pub struct OwnConnection {
    router: Router,
    /// `None` once it is given back.
    lease: Option<Lease>,
    server: usize,
    decision: Decision,
    within: Within,
    /// A statement did not end: why.
    lost: Option<String>,
    /// A statement is under way, or was dropped, or sqlx's connection was lent out: whether it is in step is not known.
    is_in_doubt: bool,
    /// An answer is awaited. If nobody awaits it any more, it was dropped in the middle of a packet, perhaps.
    is_mid_answer: bool,
    /// The server has rolled the transaction back: why. What came now would commit by itself.
    rolled_back: Option<String>,
    /// The last statement that failed was rolled back, or gave up waiting, for somebody else's lock.
    met_contention: bool,
    /// The server refused a statement of a transaction, because it is not the primary any more or is closed.
    was_closed: bool,
}

impl OwnConnection {
    pub(crate) fn new(router: &Router, choice: &Choice, lease: Lease, within: Within) -> Self {
        Self {
            router: router.clone(),
            lease: Some(lease),
            server: choice.server,
            decision: choice.decision.clone(),
            within,
            lost: None,
            is_in_doubt: false,
            is_mid_answer: false,
            rolled_back: None,
            met_contention: false,
            was_closed: false,
        }
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) fn decision(&self) -> &Decision {
        &self.decision
    }

    pub(crate) fn server(&self) -> usize {
        self.server
    }

    pub(crate) fn met_contention(&self) -> bool {
        self.met_contention
    }

    /// Whether the transaction met a server that was closed, or made a replica, before anything of it was committed.
    pub(crate) fn was_closed(&self) -> bool {
        self.was_closed
    }

    /// Why the server has rolled the transaction back by itself, if it has.
    pub(crate) fn rolled_back(&self) -> Option<RouterError> {
        let reason = self.rolled_back.clone()?;
        Some(RouterError::RolledBack { reason })
    }

    /// The connection, to end what is done on it; or why it cannot be ended.
    pub(crate) fn take(&mut self) -> Result<Lease, RouterError> {
        self.is_in_step()?;
        Ok(self.lease.take().expect("ends once: ending consumes it"))
    }

    /// The connection, if it is between two statements for sure.
    pub(crate) fn take_if_in_step(&mut self) -> Option<Lease> {
        match self.is_in_step().is_ok() && !self.is_in_doubt {
            true => self.lease.take(),
            false => None,
        }
    }

    fn connection(&mut self) -> &mut MySqlConnection {
        self.lease.as_deref_mut().expect("has one until it ends")
    }

    /// Whether it can be used: the transaction is there, and the connection in step.
    fn is_usable(&self) -> Result<(), RouterError> {
        self.is_in_step()?;
        self.rolled_back().map_or(Ok(()), Err)
    }

    /// Whether no statement of it was left without its answer.
    fn is_in_step(&self) -> Result<(), RouterError> {
        let why = match &self.lost {
            Some(why) => why,
            None if !self.is_mid_answer => return Ok(()),
            None => "a statement was dropped in the middle of its answer",
        };
        if self.lost.is_none() && self.within == Within::Transaction {
            let reason = why.to_owned();
            return Err(RouterError::RolledBack { reason });
        }
        Err(choose::away_because(
            &self.router.shared,
            self.server,
            &format!("this connection was given up: {why}"),
        ))
    }

    /// What the error of a statement means, or that of a question about one (then there is no text); no error is no answer in time.
    fn failed(&mut self, sql: Option<&str>, error: Option<sqlx::Error>) -> RouterError {
        let shared = &self.router.shared;
        let limit = shared.config.statement_timeout();
        let reason = match error {
            None => format!("no answer within {limit:?}"),
            Some(error) => match errors::kind(&error) {
                ErrorKind::Gone => error.to_string(),
                ErrorKind::WrongServer
                    if errors::number(&error) != Some(errors::READ_ONLY_TRANSACTION) =>
                {
                    shared.suspect();
                    self.lost = Some(error.to_string());
                    self.was_closed = self.within == Within::Transaction;
                    return choose::away_because(shared, self.server, &error.to_string());
                }
                kind => {
                    self.met_contention = kind == ErrorKind::Contention;
                    if self.within == Within::Transaction
                        && errors::number(&error) == Some(errors::DEADLOCK)
                    {
                        self.rolled_back = Some(error.to_string());
                    }
                    return error.into();
                }
            },
        };
        shared.suspect();
        self.lost = Some(reason.clone());
        let may_have_written = |sql: &str| classify::classify(sql).may_write();
        if self.within == Within::Autocommit && sql.is_some_and(may_have_written) {
            let session = &self.router.session;
            session.may_have_written(shared.watermark.acknowledged());
            return choose::outcome_unknown(shared, self.server, reason);
        }
        if !shared.view.load().servers[self.server].up {
            return choose::away(shared, self.server);
        }
        choose::away_because(shared, self.server, &reason)
    }

    /// A statement has ended well.
    fn done(&mut self, sql: &str, summary: &str) {
        self.met_contention = false;
        if self.within == Within::Transaction && may_commit(sql, summary) {
            self.within = Within::Autocommit;
        }
        if self.within == Within::Autocommit && classify::classify(sql).may_write() {
            let Router {
                shared, session, ..
            } = &self.router;
            session.wrote(shared.watermark.acknowledged());
        }
    }

    /// Asks about a statement, within the same limits.
    async fn about<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let router = self.router.clone();
        self.is_usable().map_err(|error| router.give_up(error))?;
        let server = self.server;
        let was_in_doubt = std::mem::replace(&mut self.is_in_doubt, true);
        self.is_mid_answer = true;
        let answered = {
            let time_is_over = pin!(sleep(router.shared.config.statement_timeout()));
            let is_silent = pin!(router.shared.until(|view| !view.servers[server].up));
            answer(ask(self.connection()), time_is_over, is_silent, true).await
        };
        self.is_mid_answer = false;
        if matches!(answered, Ok(_) | Err(Some(sqlx::Error::Database(_)))) {
            self.is_in_doubt = was_in_doubt;
        }
        answered.map_err(|error| {
            let error = self.failed(None, error);
            router.give_up(error)
        })
    }
}

/// Whether a statement may have ended its transaction: by its text, as definitions do, or within a procedure.
fn may_commit(sql: &str, summary: &str) -> bool {
    let first = summary.split(' ').next().unwrap_or_default();
    let stays = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "TABLE", "VALUES",
    ];
    !stays.contains(&first) || sql.contains(';')
}

impl Deref for OwnConnection {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        self.lease.as_deref().expect("has one until it ends")
    }
}

impl DerefMut for OwnConnection {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.is_in_doubt = true;
        self.connection()
    }
}

impl std::fmt::Debug for OwnConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnConnection")
            .field("decision", &self.decision)
            .finish_non_exhaustive()
    }
}

impl<'c> Executor<'c> for &'c mut OwnConnection {
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
            let router = self.router.clone();
            self.is_usable().map_err(|error| router.give_up(error))?;
            let sql = query.sql.clone();
            let summary = classify::summary(sql.as_str());
            let span = spans::statement(&self.decision, &summary);
            let server = self.server;
            let was_in_doubt = std::mem::replace(&mut self.is_in_doubt, true);
            let outcome = {
                let connection = self.lease.as_deref_mut().expect("has one until it ends");
                let mut rows = connection.fetch_many(query);
                let mut time_is_over = pin!(sleep(router.shared.config.statement_timeout()));
                let mut is_silent = pin!(router.shared.until(|view| !view.servers[server].up));
                loop {
                    self.is_mid_answer = true;
                    let answered = answer(rows.try_next(), time_is_over.as_mut(), is_silent.as_mut(), true).await;
                    self.is_mid_answer = false;
                    match answered {
                        Err(error) => break Err(error),
                        Ok(None) => break Ok(()),
                        Ok(Some(item)) => yield item,
                    }
                }
            };
            // An error that the server sent leaves it in step.
            if matches!(outcome, Ok(()) | Err(Some(sqlx::Error::Database(_)))) {
                self.is_in_doubt = was_in_doubt;
            }
            match outcome {
                Ok(()) => self.done(sql.as_str(), &summary),
                Err(error) => {
                    spans::failed(&span, error.as_ref());
                    let error = self.failed(Some(sql.as_str()), error);
                    Err(router.give_up(error))?;
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
        // To its end: the connection's next statement would have to wait for the rest anyway.
        let mut rows = self.fetch_many(query);
        Box::pin(async move {
            let mut first = None;
            while let Some(item) = rows.try_next().await? {
                if let Either::Right(row) = item {
                    first.get_or_insert(row);
                }
            }
            Ok(first)
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
        Box::pin(self.about(async |connection| connection.prepare_with(sql, parameters).await))
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<MySql>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(self.about(async |connection| connection.describe(sql).await))
    }
}

/// Makes `&mut` of what holds an [`OwnConnection`] in its field `own` an executor.
macro_rules! executor_by_own_connection {
    ($holder:ty) => {
        impl<'c> sqlx::Executor<'c> for &'c mut $holder {
            type Database = sqlx::MySql;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures::stream::BoxStream<
                'e,
                Result<
                    sqlx::Either<sqlx::mysql::MySqlQueryResult, sqlx::mysql::MySqlRow>,
                    sqlx::Error,
                >,
            >
            where
                'c: 'e,
                E: 'q + sqlx::Execute<'q, sqlx::MySql>,
            {
                (&mut self.own).fetch_many(query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures::future::BoxFuture<'e, Result<Option<sqlx::mysql::MySqlRow>, sqlx::Error>>
            where
                'c: 'e,
                E: 'q + sqlx::Execute<'q, sqlx::MySql>,
            {
                (&mut self.own).fetch_optional(query)
            }

            fn prepare_with<'e>(
                self,
                sql: sqlx::SqlStr,
                parameters: &'e [sqlx::mysql::MySqlTypeInfo],
            ) -> futures::future::BoxFuture<'e, Result<sqlx::mysql::MySqlStatement, sqlx::Error>>
            where
                'c: 'e,
            {
                (&mut self.own).prepare_with(sql, parameters)
            }

            #[doc(hidden)]
            fn describe<'e>(
                self,
                sql: sqlx::SqlStr,
            ) -> futures::future::BoxFuture<'e, Result<sqlx::Describe<sqlx::MySql>, sqlx::Error>>
            where
                'c: 'e,
            {
                (&mut self.own).describe(sql)
            }
        }
    };
}

pub(crate) use executor_by_own_connection;
