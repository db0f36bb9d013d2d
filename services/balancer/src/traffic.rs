//! What is going on right now: open connections, requests in flight, and whether the balancer is about to stop.
//!
//! Counted by guards, as leases are, and awaited by the stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// Shared by everything that serves.
#[derive(Debug)]
pub struct Traffic {
    connections: AtomicUsize,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
    stopping: AtomicBool,
    began: Instant,
    /// When anything last began or ended since the stop was announced, in milliseconds since `began`.
    last_ms: AtomicU64,
    ended: Notify,
}

/// A connection or a request that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    traffic: Arc<Traffic>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Connection,
    Request,
    Tunnel,
}

impl Traffic {
    /// Nothing yet.
    pub fn new() -> Arc<Traffic> {
        Arc::new(Traffic {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            ended: Notify::new(),
        })
    }

    /// Counts a connection, if there are not `max` already.
    pub fn connection(self: &Arc<Self>, max: usize) -> Option<Counted> {
        let counted = self.count(Kind::Connection);
        (self.connections() <= max).then_some(counted)
    }

    /// Counts a request.
    pub fn request(self: &Arc<Self>) -> Counted {
        self.count(Kind::Request)
    }

    /// Counts a tunnel, which is a request, too.
    pub fn tunnel(self: &Arc<Self>) -> Counted {
        self.count(Kind::Tunnel)
    }

    /// Waits until there is no tunnel any more.
    pub async fn without_tunnels(&self) {
        while self.tunnels.load(Ordering::Acquire) > 0 {
            let _ = timeout(Duration::from_millis(50), self.ended.notified()).await;
        }
    }

    /// Connections of clients that are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Requests in flight.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Whether the stop was announced.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Announces the stop: from now on every answer says that it is the last on its connection.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.touch();
    }

    /// Waits until every connection is closed, or until no request has been in flight for `quiet`: then those that are left are idle.
    pub async fn ended(&self, quiet: Duration) {
        loop {
            if self.connections() == 0 {
                return;
            }
            if self.requests() == 0 && self.quiet_for() >= quiet {
                return;
            }
            // Whichever comes first: something has ended, or it has been quiet for a while.
            let _ = timeout(Duration::from_millis(50), self.ended.notified()).await;
        }
    }

    fn quiet_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Acquire));
        self.began.elapsed().saturating_sub(last)
    }

    /// Nobody asks when anything was before the stop, and a look at the clock costs as much as the rest of this.
    fn touch(&self) {
        if !self.is_stopping() {
            return;
        }
        let now = self
            .began
            .elapsed()
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX);
        self.last_ms.fetch_max(now, Ordering::AcqRel);
    }

    fn count(self: &Arc<Self>, kind: Kind) -> Counted {
        self.touch();
        self.counter(kind).fetch_add(1, Ordering::AcqRel);
        Counted {
            traffic: Arc::clone(self),
            kind,
        }
    }

    fn counter(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Connection => &self.connections,
            Kind::Request => &self.requests,
            Kind::Tunnel => &self.tunnels,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.traffic.touch();
        self.traffic
            .counter(self.kind)
            .fetch_sub(1, Ordering::AcqRel);
        if self.traffic.is_stopping() {
            self.traffic.ended.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_above_the_limit_is_not_counted() {
        let traffic = Traffic::new();
        let first = traffic.connection(1);
        assert!(first.is_some());
        assert!(traffic.connection(1).is_none());
        assert_eq!(1, traffic.connections());
        drop(first);
        assert!(traffic.connection(1).is_some());
    }

    #[tokio::test]
    async fn it_has_ended_when_the_last_connection_is_closed() {
        let traffic = Traffic::new();
        let connection = traffic.connection(9);
        let request = traffic.request();
        let forever = Duration::from_secs(3600);
        assert!(
            timeout(Duration::from_millis(120), traffic.ended(forever))
                .await
                .is_err()
        );
        drop(request);
        assert!(
            timeout(Duration::from_millis(120), traffic.ended(forever))
                .await
                .is_err()
        );
        drop(connection);
        timeout(Duration::from_secs(5), traffic.ended(forever))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn connections_without_requests_are_waited_for_only_as_long_as_asked() {
        let traffic = Traffic::new();
        traffic.stop();
        let _idle = traffic.connection(9);
        let request = traffic.request();
        assert!(
            timeout(Duration::from_millis(120), traffic.ended(Duration::ZERO))
                .await
                .is_err()
        );
        drop(request);
        timeout(
            Duration::from_secs(5),
            traffic.ended(Duration::from_millis(30)),
        )
        .await
        .unwrap();
    }
}
