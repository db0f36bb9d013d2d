//! A pinned connection: for what needs the state of a session, such as user variables, named locks and temporary tables.

use std::ops::{Deref, DerefMut};

use sqlx::MySqlConnection;

use crate::{
    Router,
    attempt::Attempts,
    choose,
    classify::Class,
    decision::Reason,
    error::RouterError,
    own_connection::{OwnConnection, Within, executor_by_own_connection},
};

impl Router {
    /// One connection to the primary, for what needs the state of a session. It is closed afterwards, with that state.
    ///
    /// # Errors
    /// As [`Router::begin`].
    pub async fn pinned(&self) -> Result<Pinned, sqlx::Error> {
        let begun = std::time::Instant::now();
        let pinned: Result<Pinned, RouterError> = async {
            let (choice, lease) = Attempts::new(self)
                .lease(true, || {
                    choose::primary(&self.shared, Class::Write, Reason::Pinned)
                })
                .await?;
            let step = self.decided(&choice, "pinned connection".to_owned(), begun);
            self.session.writes_unseen();
            Ok(Pinned {
                own: OwnConnection::new(self, &choice, lease, Within::Autocommit),
                step,
            })
        }
        .await;
        pinned.map_err(|error| self.give_up(error))
    }
}

/// A connection to the primary that is one's own. `&mut pinned` is an executor whose statements have spans and limits; `&mut *pinned` is
/// sqlx's own connection. While it is there, the session's other reads go to the primary, for what is done on it cannot be seen.
///
/// ```no_run
/// # async fn example(db: router::Router) -> Result<(), Box<dyn std::error::Error>> {
/// let mut pinned = db.pinned().await?;
/// let got: i64 = sqlx::query_scalar("SELECT GET_LOCK('nightly', 5)").fetch_one(&mut pinned).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Pinned {
    own: OwnConnection,
    step: Option<usize>,
}

impl Deref for Pinned {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.own
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.own
    }
}

executor_by_own_connection!(Pinned);

impl Drop for Pinned {
    /// What was done on it is not known, so it counts as a write.
    fn drop(&mut self) {
        let Router {
            shared, session, ..
        } = self.own.router();
        session.wrote(shared.watermark.acknowledged());
        session.writes_are_seen();
        session.ended(self.step);
    }
}
