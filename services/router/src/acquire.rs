//! `&Router` as sqlx's `Acquire`: what is generic over pools and connections, such as `Migrator::run`, takes a router too.
//!
//! A connection that is acquired is a pinned one. A transaction that is begun this way is sqlx's own, whose commit cannot be seen from here:
//! the session that began it reads from the primary from then on, so that it is never shown less than what it has committed. Use
//! [`Router::begin`] where you can.

use futures::{FutureExt, future::BoxFuture};
use sqlx::{Acquire, MySql};

use crate::{Pinned, Router, choose, classify::Class, decision::Reason, hold};

impl<'c> Acquire<'c> for &Router {
    type Database = MySql;
    type Connection = Pinned;

    fn acquire(self) -> BoxFuture<'c, Result<Pinned, sqlx::Error>> {
        let router = self.clone();
        async move { router.pinned().await }.boxed()
    }

    fn begin(self) -> BoxFuture<'c, Result<sqlx::Transaction<'c, MySql>, sqlx::Error>> {
        let router = self.clone();
        async move {
            let shared = &router.shared;
            let begun = std::time::Instant::now();
            let deadline = tokio::time::Instant::now() + shared.config.statement_timeout();
            hold::writes(shared, deadline)
                .await
                .map_err(|error| router.give_up(error))?;
            let choice = choose::primary(shared, Class::Write, Reason::Transaction)
                .map_err(|error| router.give_up(error))?;
            let pool = shared.servers[choice.server].foreign_pool()?;
            let transaction = pool.begin().await?;
            let step = router.decided(&choice, "transaction of sqlx's own".to_owned(), begun);
            router.session.ended(step);
            router.session.writes_unseen();
            Ok(transaction)
        }
        .boxed()
    }
}
