//! Keeps the roster: has new backends watched and those that have left not any more, and makes its rounds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::edge::Edge;
use crate::health_check;

/// How often offers are made anew.
const ROUND: Duration = Duration::from_millis(100);
/// Rounds in a second.
const ROUNDS_PER_SECOND: u32 = 10;

/// Those who watch the backends.
#[derive(Debug, Default)]
pub struct Keeper {
    watches: Mutex<HashMap<u64, JoinHandle<()>>>,
}

impl Keeper {
    /// Makes the members what configuration and addresses say, and has each of them watched.
    pub fn reconcile(&self, edge: &Arc<Edge>, first_look: Option<&mpsc::Sender<bool>>) {
        let (new, gone) = edge.roster.reconcile(&edge.metrics, first_look.is_some());
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        for backend in new {
            let id = backend.id();
            let watch = health_check::watch(Arc::clone(edge), backend, first_look.cloned());
            watches.insert(id, tokio::spawn(watch));
        }
        for backend in gone {
            if let Some(watch) = watches.remove(&backend.id()) {
                watch.abort();
            }
        }
    }
}

/// Makes the rounds until it is dropped.
pub async fn keep(edge: Arc<Edge>) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            _ = rounds.tick() => {
                count = count.wrapping_add(1);
                if count.is_multiple_of(ROUNDS_PER_SECOND) {
                    edge.roster.second();
                    edge.clients.sweep(Instant::now());
                    edge.retries.refill(edge.config.backend.retry_per_s);
                }
            }
            () = edge.roster.asked_to_look() => {}
        }
        edge.roster.round(&edge.metrics);
    }
}
