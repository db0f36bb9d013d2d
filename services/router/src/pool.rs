//! One pool for each server, never for a role: after a change of roles the new primary's pool is warm, and nobody is stuck on the old
//! one.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus::{IntGauge, IntGaugeVec};
use replication::{Endpoint, ErrorKind, connect_options, errors};
use sqlx::{
    Connection, Executor, MySql, MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    pool::PoolConnection,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Shared, choose,
    config::{Credentials, RouterConfig},
    error::RouterError,
};

/// A connection that was idle for longer is asked whether it still lives before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// A connection that nobody used for this long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// The longest that a server may take to close a connection, while it counts. A commit may wait for its replica for hours; but a network
/// that swallowed the end of it must not count for ever.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A server and the connections to it.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) options: MySqlConnectOptions,
    pub(crate) pool: MySqlPool,
    /// Connections in use for statements.
    in_use: Arc<AtomicUsize>,
    /// Connections that were given up and that the server has not closed yet, for it is still at work: a commit that waits for its
    /// replica, or a slow query. They are no longer the pool's, but they are the server's.
    abandoned: Arc<AtomicUsize>,
    /// What reads may take of the connections while the server is primary.
    reads: Arc<Semaphore>,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A read on a replica, or anything that writes.
    Any,
    /// A read on the primary: it leaves the write reserve alone.
    ReadOnPrimary,
}

impl Server {
    pub(crate) fn new(
        endpoint: &Endpoint,
        config: &RouterConfig,
        credentials: &Credentials,
    ) -> Self {
        let options = connect_options(endpoint, &credentials.account, &credentials.tls);
        let lock_wait_seconds = config.statement_timeout().as_secs().max(1);
        let pool = MySqlPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(IDLE)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > PING_AFTER_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    // A lock that does not come within the statement timeout must end as an error of the server, not as a silence.
                    let set = format!("SET SESSION innodb_lock_wait_timeout = {lock_wait_seconds}");
                    connection.execute(sqlx::AssertSqlSafe(set)).await.map(drop)
                })
            })
            .connect_lazy_with(options.clone().database(&config.database));
        let reads = (config.max_connections - config.write_reserve) as usize;
        Self {
            endpoint: endpoint.clone(),
            options,
            pool,
            in_use: Arc::default(),
            abandoned: Arc::default(),
            reads: Arc::new(Semaphore::new(reads)),
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Whether a read would have to wait: on the primary for what the write reserve leaves, on a replica for a connection.
    pub(crate) fn full(&self, usage: Use, config: &RouterConfig) -> bool {
        match usage {
            Use::ReadOnPrimary => self.reads.available_permits() == 0,
            Use::Any => self.in_use() >= config.max_connections as usize,
        }
    }
}

/// A connection on loan. One that is dropped before [`Lease::finish`] is closed, for its stream may be in the middle of an answer.
pub(crate) struct Lease {
    /// `None` once it is dropped.
    connection: Option<PoolConnection<MySql>>,
    finished: bool,
    in_use: Count,
    abandoned: Count,
    _read: Option<OwnedSemaphorePermit>,
}

/// A number and the gauge that shows it.
struct Count {
    number: Arc<AtomicUsize>,
    gauge: IntGauge,
}

impl Count {
    fn add(&self) {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
    }

    fn take(&self) {
        self.number.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

impl Lease {
    /// The connection is between two statements and outside of a transaction: it can go back to the pool.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Deref for Lease {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        self.connection.as_ref().expect("only dropping takes it")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.connection.as_mut().expect("only dropping takes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.in_use.take();
        let Some(connection) = self.connection.take().filter(|_| !self.finished) else {
            return;
        };
        // Its place in the pool is free at once. Closing ends when the server has closed it too, which may take as long as what it is at.
        let connection = connection.detach();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let abandoned = Count {
            number: self.abandoned.number.clone(),
            gauge: self.abandoned.gauge.clone(),
        };
        abandoned.add();
        runtime.spawn(async move {
            let _ = timeout(ABANDONED, connection.close()).await;
            abandoned.take();
        });
    }
}

/// Takes a connection to the server with this index, by `deadline` and within the acquire timeout. Fails at once when the server turns
/// out to be away: sqlx's pool itself would go on trying until its timeout.
pub(crate) async fn lease(
    shared: &Shared,
    server: usize,
    usage: Use,
    deadline: Instant,
) -> Result<Lease, RouterError> {
    let Server {
        endpoint,
        pool,
        in_use,
        abandoned,
        reads,
        ..
    } = &shared.servers[server];
    let began = Instant::now();
    let deadline = deadline.min(began + shared.config.acquire_timeout());
    let overloaded = || RouterError::Overloaded {
        server: endpoint.name.clone(),
        waited: began.elapsed(),
    };
    // Each of them is one of the server's connections still. Where writes hang, reads may go on.
    let max = shared.config.max_connections as usize;
    let bound = match usage {
        Use::Any => max,
        Use::ReadOnPrimary => 2 * max,
    };
    if abandoned.load(Ordering::Relaxed) >= bound {
        return Err(overloaded());
    }
    let read = match usage {
        Use::Any => None,
        Use::ReadOnPrimary => {
            let permit = timeout_at(deadline, reads.clone().acquire_owned())
                .await
                .map_err(|_| overloaded())?;
            Some(permit.expect("the semaphore is never closed"))
        }
    };
    let acquired = tokio::select! {
        acquired = timeout_at(deadline, pool.acquire()) => acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut)),
        () = shared.until(|view| !view.servers[server].up) => return Err(choose::away(shared, server)),
    };
    match acquired {
        Ok(connection) => {
            let count = |number: &Arc<AtomicUsize>, gauges: &IntGaugeVec| Count {
                number: number.clone(),
                gauge: gauges.with_label_values(&[&endpoint.name]),
            };
            let in_use = count(in_use, &shared.metrics.in_flight);
            in_use.add();
            Ok(Lease {
                connection: Some(connection),
                finished: false,
                in_use,
                abandoned: count(abandoned, &shared.metrics.abandoned),
                _read: read,
            })
        }
        Err(error) => match errors::kind(&error) {
            ErrorKind::Capacity => Err(overloaded()),
            ErrorKind::Gone => {
                shared.suspect();
                Err(choose::away_because(shared, server, &error.to_string()))
            }
            _ => Err(error.into()),
        },
    }
}
