//! `&Router` as sqlx's `Executor`.

use std::pin::pin;

use async_stream::try_stream;
use futures::{TryStreamExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Either, Execute, Executor, MySql, MySqlConnection, SqlStr,
    error::BoxDynError,
    mysql::{MySqlArguments, MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo},
};
use tokio::time::timeout_at;

use crate::{
    Router,
    attempt::{Attempts, answer},
    classify::Class,
    error::RouterError,
    lease::Lease,
};

/// A query taken apart, so that it can be sent again.
#[derive(Clone)]
pub(crate) struct Query {
    pub(crate) sql: SqlStr,
    arguments: Option<MySqlArguments>,
    statement: Option<MySqlStatement>,
    persistent: bool,
}

impl Query {
    pub(crate) fn take<'q>(mut query: impl Execute<'q, MySql>) -> Result<Self, sqlx::Error> {
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

impl Router {
    /// An error leaves the router: counted, and as sqlx's.
    pub(crate) fn give_up(&self, error: RouterError) -> sqlx::Error {
        self.shared.metrics.failed(&error);
        error.into()
    }

    /// A connection to where this statement would go, to ask about it without executing it.
    async fn about<T>(
        &self,
        sql: &str,
        ask: impl AsyncFnOnce(&mut MySqlConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let limit = self.shared.config.statement_timeout();
        let mut attempts = Attempts::new(self);
        let wish = attempts.wish(sql);
        let (choice, mut lease) = attempts
            .lease(wish.is_for_a_writable_primary(), || self.choose(wish))
            .await
            .map_err(|e| self.give_up(e))?;
        let server = choice.decision.server.to_string();
        let answer = timeout_at(attempts.deadline, ask(&mut lease)).await;
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
            let wish = attempts.wish(query.sql.as_str());
            loop {
                let (choice, mut lease) = attempts.next(wish).await.map_err(|e| router.give_up(e))?;
                let mut handed_out = false;
                let outcome = {
                    let mut rows = (*lease).fetch_many(query.clone());
                    let mut time_is_over = pin!(attempts.time_is_over());
                    let mut is_silent = pin!(attempts.is_silent(&choice));
                    loop {
                        match answer(rows.try_next(), time_is_over.as_mut(), is_silent.as_mut(), !handed_out).await {
                            Err(error) => break Err(error),
                            Ok(None) => break Ok(()),
                            Ok(Some(item)) => {
                                handed_out = true;
                                yield item;
                            }
                        }
                    }
                };
                match outcome {
                    Ok(()) => {
                        attempts.done(&choice, lease);
                        break;
                    }
                    Err(error) => {
                        let failed = attempts.failed(query.sql.as_str(), &choice, lease, error, handed_out).await;
                        failed.map_err(|e| router.give_up(e))?;
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
            let wish = attempts.wish(query.sql.as_str());
            loop {
                let (choice, mut lease) =
                    attempts.next(wish).await.map_err(|e| router.give_up(e))?;
                let outcome = {
                    let time_is_over = pin!(attempts.time_is_over());
                    let is_silent = pin!(attempts.is_silent(&choice));
                    let first = first_row(&mut lease, &query, choice.class);
                    answer(first, time_is_over, is_silent, true).await
                };
                match outcome {
                    Ok((row, Rest::None)) => {
                        attempts.done(&choice, lease);
                        return Ok(row);
                    }
                    Ok((row, Rest::Unread)) => {
                        attempts.done_early(&choice, lease);
                        return Ok(row);
                    }
                    Err(error) => attempts
                        .failed(query.sql.as_str(), &choice, lease, error, false)
                        .await
                        .map_err(|e| router.give_up(e))?,
                }
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
            let text = sql.clone();
            router
                .about(text.as_str(), async |connection| {
                    connection.prepare_with(sql, parameters).await
                })
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
            let text = sql.clone();
            router
                .about(text.as_str(), async |connection| {
                    connection.describe(sql).await
                })
                .await
        })
    }
}

/// What is left of an answer behind its first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// It was read to its end.
    None,
    /// It may have more rows. The stream rests between two of them.
    Unread,
}

/// The first row. What may write is read to its end all the same: what comes behind a row may write, and is done only then.
async fn first_row(
    lease: &mut Lease,
    query: &Query,
    class: Class,
) -> Result<(Option<MySqlRow>, Rest), sqlx::Error> {
    let mut rows = (**lease).fetch_many(query.clone());
    let mut first = None;
    while let Some(item) = rows.try_next().await? {
        let Either::Right(row) = item else { continue };
        first.get_or_insert(row);
        if class == Class::Read {
            return Ok((first, Rest::Unread));
        }
    }
    Ok((first, Rest::None))
}
