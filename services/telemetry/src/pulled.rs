//! A counter whose count is kept elsewhere, by code that knows no metrics, and is read when the metrics are.

use std::sync::Mutex;

use prometheus::{
    IntCounter,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Reads a count that only grows.
pub struct PulledCounter {
    counter: IntCounter,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Two readers at a time would both add what is new.
    adding: Mutex<()>,
}

impl PulledCounter {
    /// A counter of this name that shows what `read` gives.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(
        name: &str,
        help: &str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            counter: IntCounter::new(name, help)?,
            read: Box::new(read),
            adding: Mutex::new(()),
        })
    }
}

impl Collector for PulledCounter {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _adding = self.adding.lock().expect("nothing panics with it");
        let new = (self.read)().saturating_sub(self.counter.get());
        self.counter.inc_by(new);
        self.counter.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;
    use crate::metrics::{Registry, render};

    #[test]
    fn what_was_counted_elsewhere_is_shown() {
        let count = Arc::new(AtomicU64::new(0));
        let read = {
            let count = Arc::clone(&count);
            move || count.load(Ordering::Relaxed)
        };
        let registry = Registry::new();
        let counter = PulledCounter::new("sample_total", "Samples.", read).unwrap();
        registry.register(Box::new(counter)).unwrap();
        assert!(render(&registry).ends_with("\nsample_total 0\n"));
        count.store(3, Ordering::Relaxed);
        assert!(render(&registry).ends_with("\nsample_total 3\n"));
        assert!(render(&registry).ends_with("\nsample_total 3\n"));
    }
}
