//! Backends that answer when the test says so, and count what they have at one time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::sync::Semaphore;

use super::{Conversation, Next, RawBackend, World};

/// What holds a backend's answers back. It starts closed.
pub(crate) struct Gate {
    permits: Semaphore,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    /// Lets so many more answers go.
    pub(crate) fn open(&self, answers: usize) {
        self.permits.add_permits(answers);
    }

    /// Lets all answers go, from now on.
    pub(crate) fn open_wide(&self) {
        self.permits.close();
    }

    /// The most requests that the backend has had at one time.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        // It is an error only once the gate is wide open.
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    /// A backend of the right role whose answers, its name, wait at a gate.
    pub(crate) fn gated(&self, name: &str) -> Result<(RawBackend, Arc<Gate>)> {
        let gate = Arc::new(Gate {
            permits: Semaphore::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let (there, says) = (Arc::clone(&gate), name.to_owned());
        let backend = self.raw_backend(name, move |on: Conversation| {
            answer(on, Arc::clone(&there), says.clone())
        })?;
        Ok((backend, gate))
    }
}

async fn answer(mut on: Conversation, gate: Arc<Gate>, says: String) -> Result<Next> {
    on.read_body().await?;
    gate.pass().await;
    on.answer(&says).await?;
    on.go_on()
}
