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

use prometheus::IntGauge;
use replication::{Endpoint, ErrorKind, connect_options, errors};
use sqlx::{
    Connection, Executor, MySql, MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    pool::PoolConnection,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
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

/// A server and the connections to it.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) options: MySqlConnectOptions,
    pub(crate) pool: MySqlPool,
    /// Connections in use for statements.
    in_use: Arc<AtomicUsize>,
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
    connection: PoolConnection<MySql>,
    finished: bool,
    in_use: Arc<AtomicUsize>,
    gauge: IntGauge,
    _read: Option<OwnedSemaphorePermit>,
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
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.close_on_drop();
        }
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
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
        reads,
        ..
    } = &shared.servers[server];
    let began = Instant::now();
    let deadline = deadline.min(began + shared.config.acquire_timeout());
    let overloaded = || RouterError::Overloaded {
        server: endpoint.name.clone(),
        waited: began.elapsed(),
    };
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
            in_use.fetch_add(1, Ordering::Relaxed);
            let gauge = shared
                .metrics
                .in_flight
                .with_label_values(&[&endpoint.name]);
            gauge.inc();
            Ok(Lease {
                connection,
                finished: false,
                in_use: in_use.clone(),
                gauge,
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
