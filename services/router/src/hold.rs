//! Writes that wait for the end of a switchover, instead of failing for a fraction of a second.
//!
//! The arbiter publishes that the primary is about to change, lets what has begun finish, publishes the new one, and lets everybody write
//! there. What comes meanwhile is held here: bounded in time by `hold_timeout_ms`, in number by `max_waiting`.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{Shared, error::RouterError, lease::Limit};

/// Waits until writes are not held; nearly always that is at once.
pub(crate) async fn writes(shared: &Shared, deadline: Instant) -> Result<(), RouterError> {
    if !shared.view.load().holds_writes() {
        return Ok(());
    }
    let _held = Held::new(shared)?;
    let limit = shared.config.hold_timeout();
    let deadline = deadline.min(Instant::now() + limit);
    let over = shared.until(|view| !view.holds_writes() && view.writable_primary().is_some());
    let waited = timeout_at(deadline, over).await;
    if waited.is_err() && shared.view.load().is_to_change() {
        shared.metrics.hold_expired.inc();
        return Err(RouterError::Maintenance {
            reason: format!("a switchover takes longer than {limit:?}"),
        });
    }
    Ok(())
}

/// One of those that wait.
struct Held<'s>(&'s Shared);

impl<'s> Held<'s> {
    fn new(shared: &'s Shared) -> Result<Self, RouterError> {
        let before = shared.held.fetch_add(1, Ordering::Relaxed);
        let held = Self(shared);
        shared.metrics.held.inc();
        if before >= shared.config.max_waiting as usize {
            let primary = shared.view.load().primary.unwrap_or_default();
            shared.metrics.refused(primary, Limit::Waiting);
            return Err(RouterError::Overloaded {
                server: shared.servers[primary].name().to_owned(),
                waited: Duration::ZERO,
            });
        }
        Ok(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.held.dec();
    }
}
