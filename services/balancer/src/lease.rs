//! A lease: one request counted on one backend, from the moment the backend is chosen until the request's last byte.
//!
//! The only way to count is to hold a lease and the only way to stop is to drop it, so that a request that ends in an error, an abort,
//! a retry or a panic is taken off like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::Backend;

/// How many requests a backend has in flight.
#[derive(Debug, Default)]
pub struct InFlight(AtomicUsize);

impl InFlight {
    /// The number of leases that are held.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// One request in flight on one backend; dropping it takes the request off.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
}

impl Lease {
    /// Counts one more on `backend`, but only if it still has exactly `seen` in flight: whoever chose it for having the fewest must
    /// look again when somebody else was quicker.
    pub(crate) fn take(backend: &Arc<Backend>, seen: usize) -> Option<Lease> {
        let InFlight(count) = backend.in_flight();
        count
            .compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| Lease {
                backend: Arc::clone(backend),
            })
    }

    /// The backend that the request is counted on.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let InFlight(count) = self.backend.in_flight();
        // Before the look at the queue, in the order that everybody sees: whoever joins it looks at the counts afterwards.
        let before = count.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a lease was given back twice");
        let queue = self.backend.queue();
        if queue.waiting() > 0 {
            queue.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn backend() -> Arc<Backend> {
        Arc::new(Backend::alone("web-1"))
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let backend = backend();
        let first = Lease::take(&backend, 0).unwrap();
        let second = Lease::take(&backend, 1).unwrap();
        assert_eq!(2, backend.in_flight().count());
        drop(first);
        drop(second);
        assert_eq!(0, backend.in_flight().count());
    }

    #[test]
    fn a_count_that_has_moved_on_gives_no_lease() {
        let backend = backend();
        let _held = Lease::take(&backend, 0).unwrap();
        assert!(Lease::take(&backend, 0).is_none());
        assert_eq!(1, backend.in_flight().count());
    }

    #[test]
    fn a_panic_gives_the_lease_back() {
        let backend = backend();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _lease = Lease::take(&backend, 0).unwrap();
            panic!("in the middle of a request");
        }));
        assert!(caught.is_err());
        assert_eq!(0, backend.in_flight().count());
    }
}
