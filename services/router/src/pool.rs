//! The connections to one server: those that are idle, and how many there may be.
//!
//! One pool for each server, never for a role: after a change of roles the new primary's pool is warm, and nobody is stuck on the old
//! one. sqlx's own pool is not used, for it asks the server at every release whether the connection still lives, goes on trying a server
//! that is away until its timeout, and opens as many connections at once as somebody waits for: decision 22.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, MySqlConnection};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::{config::RouterConfig, login::Login};

/// A connection that was idle for longer is asked whether it still lives before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// The longest that this may take, and that closing an idle connection may.
const PING: Duration = Duration::from_secs(1);
/// The longest that a server may take to close a connection, while it counts. A commit may wait for its replica for hours; but a network
/// that swallowed the end of it must not count for ever.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Mostly the server closes a connection that was given up as soon as it hears of it. Who needs its place waits for that, but not for longer.
const CLOSES_SOON: Duration = Duration::from_millis(100);

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// What may write.
    Write,
    /// A read on the primary: it leaves the write reserve alone.
    ReadOnPrimary,
    /// A read on a replica.
    ReadOnReplica,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// As many wait as may.
    QueueFull,
    /// As many connections were given up as there may be, and the server is still at work on them.
    Abandoned,
    /// The pool is closed.
    Closed,
    /// The server said no, or nothing.
    Failed(sqlx::Error),
}

/// The connections to a server.
pub(crate) struct Pool {
    pub(crate) login: Login,
    idle: Mutex<Idle>,
    /// One for each connection that may be in use.
    room: Arc<Semaphore>,
    /// What reads may take of it while the server is primary.
    reads: Arc<Semaphore>,
    /// One for each login that may be under way: a server that comes back is not stormed.
    logins: Arc<Semaphore>,
    /// The server is away: logins that are under way are given up.
    doubts: Notify,
    /// The longest that a login may take.
    login_for_max: Duration,
    /// A connection came back.
    returned: Notify,
    /// Who waits for room now.
    waiting: AtomicUsize,
    /// Connections that were given up and that the server has not closed yet, for it is still at work: a commit that waits for its
    /// replica, or a slow query. They are no longer the pool's, but they are the server's.
    abandoned: AtomicUsize,
    /// One of those is closed.
    closed: Notify,
    max: u32,
    in_use: AtomicU32,
    waiting_max: usize,
    idle_for_max: Duration,
    age_max: Duration,
}

/// Idle connections: the last one in is the first one out, so that those that are not needed grow old.
#[derive(Default)]
struct Idle {
    connections: VecDeque<Resting>,
    /// What is known to be idle since before this is asked whether it lives: the server was away.
    doubted: Option<Instant>,
    closed: bool,
}

struct Resting {
    live: Live,
    since: Instant,
}

impl Idle {
    /// Whether a connection can be used without asking whether it lives.
    fn trusts(&self, resting: &Resting) -> bool {
        resting.since.elapsed() <= PING_AFTER_IDLE
            && self.doubted.is_none_or(|doubted| resting.since > doubted)
    }
}

/// A connection, and when it was made.
pub(crate) struct Live {
    pub(crate) connection: MySqlConnection,
    born: Instant,
}

/// A place among those that may be in use. Dropping it gives it to the next who waits.
pub(crate) struct Place {
    pool: Arc<Pool>,
    _room: OwnedSemaphorePermit,
    _read: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who waits counts, also one that stops waiting.
struct Waiting<'p>(&'p AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    pub(crate) fn new(login: Login, config: &RouterConfig) -> Arc<Self> {
        let max = config.max_connections;
        Arc::new(Self {
            login,
            idle: Mutex::default(),
            room: Arc::new(Semaphore::new(max as usize)),
            reads: Arc::new(Semaphore::new((max - config.write_reserve) as usize)),
            logins: Arc::new(Semaphore::new(config.max_connecting as usize)),
            doubts: Notify::new(),
            login_for_max: config.acquire_timeout(),
            returned: Notify::new(),
            waiting: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            closed: Notify::new(),
            max,
            in_use: AtomicU32::new(0),
            waiting_max: config.max_waiting as usize,
            idle_for_max: config.idle_timeout(),
            age_max: config.max_lifetime(),
        })
    }

    /// Connections in use.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed) as usize
    }

    /// Idle connections.
    pub(crate) fn idle(&self) -> usize {
        self.resting().connections.len()
    }

    /// Who waits for a connection.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Connections that were given up while the server was at work on them.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Whether somebody who comes now has to wait.
    pub(crate) fn is_full(&self, usage: Use) -> bool {
        self.room.available_permits() == 0
            || (usage == Use::ReadOnPrimary && self.reads.available_permits() == 0)
    }

    /// A place and a connection, if both are there: mostly they are.
    pub(crate) fn at_once(self: &Arc<Self>, usage: Use) -> Option<(Live, Place)> {
        if self.abandoned() > 0 {
            return None;
        }
        let read = match usage {
            Use::Write | Use::ReadOnReplica => None,
            Use::ReadOnPrimary => Some(self.reads.clone().try_acquire_owned().ok()?),
        };
        let room = self.room.clone().try_acquire_owned().ok()?;
        let resting = {
            let mut idle = self.resting();
            let last = idle.connections.back();
            match !idle.closed && last.is_some_and(|last| idle.trusts(last)) {
                true => idle.connections.pop_back(),
                false => None,
            }
        }?;
        Some((resting.live, self.taken(room, read)))
    }

    fn taken(
        self: &Arc<Self>,
        room: OwnedSemaphorePermit,
        read: Option<OwnedSemaphorePermit>,
    ) -> Place {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Place {
            pool: Arc::clone(self),
            _room: room,
            _read: read,
        }
    }

    /// A place for a connection, first come, first served; waits for as long as its caller does.
    pub(crate) async fn place(self: &Arc<Self>, usage: Use) -> Result<Place, NoConnection> {
        // Each of them is one of the server's connections still. Where writes hang, reads may go on.
        let bound = match usage {
            Use::Write => self.max as usize,
            Use::ReadOnPrimary | Use::ReadOnReplica => 2 * self.max as usize,
        };
        if self.abandoned() >= bound {
            let fewer = tokio::time::timeout(CLOSES_SOON, self.fewer_abandoned_than(bound));
            fewer.await.map_err(|_| NoConnection::Abandoned)?;
        }
        let read = match usage {
            Use::Write | Use::ReadOnReplica => None,
            Use::ReadOnPrimary => Some(self.permit(&self.reads).await?),
        };
        let room = self.permit(&self.room).await?;
        Ok(self.taken(room, read))
    }

    async fn fewer_abandoned_than(&self, bound: usize) {
        loop {
            let closed = self.closed.notified();
            if self.abandoned() < bound {
                return;
            }
            closed.await;
        }
    }

    async fn permit(&self, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, NoConnection> {
        match of.clone().try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(NoConnection::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return Err(NoConnection::QueueFull);
        }
        let permit = of.clone().acquire_owned().await;
        permit.map_err(|_| NoConnection::Closed)
    }

    /// A connection for somebody who has a place: an idle one, or a new one.
    pub(crate) async fn connection(self: &Arc<Self>, _place: &Place) -> Result<Live, NoConnection> {
        loop {
            while let Some((mut live, is_trusted)) = self.take()? {
                if is_trusted {
                    return Ok(live);
                }
                match tokio::time::timeout(PING, live.connection.ping()).await {
                    Ok(Ok(())) => return Ok(live),
                    _ => drop(live),
                }
            }
            // Somebody else's may come back before it is our turn to log in.
            let returned = self.returned.notified();
            let turn = tokio::select! {
                biased;
                turn = Arc::clone(&self.logins).acquire_owned() => turn.map_err(|_| NoConnection::Closed)?,
                () = returned => continue,
            };
            return self.log_in(turn).await;
        }
    }

    /// A new connection. Whoever asks for it may find one elsewhere meanwhile; it is made all the same, for the next: else the pool of a
    /// server that is slow to log in at would stay empty, and the server would be asked again and again.
    async fn log_in(self: &Arc<Self>, turn: OwnedSemaphorePermit) -> Result<Live, NoConnection> {
        let (made, asker) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let doubts = pool.doubts.notified();
            let login = tokio::time::timeout(pool.login_for_max, pool.login.connect());
            let login = tokio::select! {
                login = login => login.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into()))),
                () = doubts => return,
            };
            drop(turn);
            let live = login.map(|connection| Live {
                connection,
                born: Instant::now(),
            });
            if let Err(Ok(live)) = made.send(live) {
                pool.keep(live);
            }
        });
        match asker.await {
            Ok(live) => live.map_err(NoConnection::Failed),
            Err(_) => Err(NoConnection::Failed(sqlx::Error::Io(
                std::io::ErrorKind::ConnectionAborted.into(),
            ))),
        }
    }

    /// A connection that nobody waits for any more. There may be as many as there may be already.
    fn keep(&self, live: Live) {
        self.rest(live, |idle| idle + self.in_use() >= self.max as usize);
    }

    /// Puts a connection to those that are idle; or closes it where there are enough of them, or none is wanted any more.
    fn rest(&self, live: Live, are_enough: impl FnOnce(usize) -> bool) {
        {
            let mut idle = self.resting();
            if idle.closed || are_enough(idle.connections.len()) {
                drop(idle);
                self.retire(live);
                return;
            }
            let since = Instant::now();
            idle.connections.push_back(Resting { live, since });
        }
        self.returned.notify_one();
    }

    /// The connection that came back last, and whether it can be used as it is.
    fn take(&self) -> Result<Option<(Live, bool)>, NoConnection> {
        let mut idle = self.resting();
        if idle.closed {
            return Err(NoConnection::Closed);
        }
        let resting = idle.connections.pop_back();
        Ok(resting.map(|resting| {
            let is_trusted = idle.trusts(&resting);
            (resting.live, is_trusted)
        }))
    }

    /// A connection comes back, between two statements and outside of a transaction.
    pub(crate) fn give_back(&self, live: Live, place: Place) {
        if live.born.elapsed() > self.age_max {
            self.retire(live);
            return;
        }
        // Before the place is free: who gets it finds the connection.
        self.rest(live, |_| false);
        drop(place);
    }

    /// Closes a connection that nobody needs.
    fn retire(&self, live: Live) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(PING, live.connection.close()));
        }
    }

    /// Gives up a connection that is in the middle of something. Its place is free at once; closing ends when the server has closed it too,
    /// which may take as long as what it is at.
    pub(crate) fn abandon(self: &Arc<Self>, live: Live) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let pool = Arc::clone(self);
        pool.abandoned.fetch_add(1, Ordering::Relaxed);
        runtime.spawn(async move {
            let _ = tokio::time::timeout(ABANDONED, live.connection.close()).await;
            pool.abandoned.fetch_sub(1, Ordering::Relaxed);
            pool.closed.notify_waiters();
        });
    }

    /// The server was away: what is idle now may be dead.
    pub(crate) fn doubt(&self) {
        self.resting().doubted = Some(Instant::now());
        self.doubts.notify_waiters();
    }

    /// Closes what nobody has needed for long.
    pub(crate) fn reap(&self) {
        loop {
            let old = {
                let mut idle = self.resting();
                let is_old = |resting: &Resting| {
                    resting.since.elapsed() > self.idle_for_max
                        || resting.live.born.elapsed() > self.age_max
                };
                match idle.connections.front().is_some_and(is_old) {
                    true => idle.connections.pop_front(),
                    false => None,
                }
            };
            match old {
                Some(resting) => self.retire(resting.live),
                None => return,
            }
        }
    }

    /// Takes nobody any more, closes what is idle, and waits until everything that is in use came back.
    pub(crate) async fn close(&self) {
        let resting = {
            let mut idle = self.resting();
            idle.closed = true;
            std::mem::take(&mut idle.connections)
        };
        for resting in resting {
            let _ = tokio::time::timeout(PING, resting.live.connection.close()).await;
        }
        let all = self.room.acquire_many(self.max).await;
        self.room.close();
        self.reads.close();
        drop(all);
    }

    fn resting(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
