//! A connection on loan, for one statement or one transaction.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use replication::{ErrorKind, errors};
use sqlx::{Connection, MySqlConnection};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Shared, choose,
    error::RouterError,
    pool::{Live, NoConnection, Place, Pool, Use},
};

/// A connection on loan. One that is dropped before [`Lease::finish`] is closed, for its stream may be in the middle of an answer.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    /// `None` once it is given back.
    loan: Option<(Live, Place)>,
}

impl Lease {
    /// The connection is between two statements and outside of a transaction: it can go back to the pool.
    pub(crate) fn finish(mut self) {
        if let Some((live, place)) = self.loan.take() {
            self.pool.give_back(live, place);
        }
    }

    /// The same, but the answer was not read to its end: the rest is read first, for at most `limit`, and nobody waits for it. Mostly it has
    /// come with the first row.
    pub(crate) fn finish_reading(mut self, limit: Duration) {
        let Some((mut live, place)) = self.loan.take() else {
            return;
        };
        let mut rest = Box::pin(async move {
            let read = timeout(limit, live.connection.flush()).await;
            (matches!(read, Ok(Ok(()))), live)
        });
        let pool = Arc::clone(&self.pool);
        let end = move |(is_read, live): (bool, Live)| match is_read {
            true => pool.give_back(live, place),
            false => pool.abandon(live),
        };
        // A read that has begun must not be dropped in the middle: its stream would be out of step.
        match (&mut rest).now_or_never() {
            Some(read) => end(read),
            None => {
                tokio::spawn(async move { end(rest.await) });
            }
        }
    }
}

impl Deref for Lease {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        let (live, _) = self.loan.as_ref().expect("only giving it back takes it");
        &live.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        let (live, _) = self.loan.as_mut().expect("only giving it back takes it");
        &mut live.connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((live, place)) = self.loan.take() {
            self.pool.abandon(live);
            drop(place);
        }
    }
}

/// Takes a connection to the server with this index, by `deadline` and within the acquire timeout. Fails at once when the server turns
/// out to be away.
pub(crate) async fn lease(
    shared: &Shared,
    server: usize,
    usage: Use,
    deadline: Instant,
) -> Result<Lease, RouterError> {
    let pool = &shared.servers[server].pool;
    let lend = |loan| Lease {
        pool: Arc::clone(pool),
        loan: Some(loan),
    };
    if let Some(loan) = pool.at_once(usage) {
        return Ok(lend(loan));
    }
    let began = Instant::now();
    let deadline = deadline.min(began + shared.config.acquire_timeout());
    let overloaded = |limit: Limit| {
        shared.metrics.refused(server, limit);
        RouterError::Overloaded {
            server: shared.servers[server].name().to_owned(),
            waited: began.elapsed(),
        }
    };
    // A login's future is large, and moved often where it is not boxed.
    let acquire = Box::pin(async {
        let place = pool.place(usage).await?;
        let live = pool.connection(&place).await?;
        Ok::<_, NoConnection>((live, place))
    });
    let acquired = tokio::select! {
        biased;
        acquired = timeout_at(deadline, acquire) => acquired,
        () = shared.until(|view| !view.servers[server].up) => return Err(choose::away(shared, server)),
    };
    let failed = match acquired {
        Ok(Ok(loan)) => return Ok(lend(loan)),
        Err(_) => return Err(overloaded(Limit::AcquireTimeout)),
        Ok(Err(failed)) => failed,
    };
    let error = match failed {
        NoConnection::QueueFull => return Err(overloaded(Limit::Waiting)),
        NoConnection::Abandoned => return Err(overloaded(Limit::Abandoned)),
        NoConnection::Closed => sqlx::Error::PoolClosed,
        NoConnection::Failed(error) => error,
    };
    Err(match errors::kind(&error) {
        ErrorKind::Capacity => overloaded(Limit::Server),
        ErrorKind::Gone => {
            shared.suspect();
            choose::away_because(shared, server, &error.to_string())
        }
        _ => error.into(),
    })
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `max_waiting`: as many wait for a connection as may.
    Waiting,
    /// `acquire_timeout_ms`: no connection became free in time.
    AcquireTimeout,
    /// As many connections were given up as there may be.
    Abandoned,
    /// The server's own bound on connections.
    Server,
}

impl Limit {
    pub(crate) const ALL: [Self; 4] = [
        Self::Waiting,
        Self::AcquireTimeout,
        Self::Abandoned,
        Self::Server,
    ];

    /// For a metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "max_waiting",
            Self::AcquireTimeout => "acquire_timeout",
            Self::Abandoned => "abandoned",
            Self::Server => "server",
        }
    }
}
