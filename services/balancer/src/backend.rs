//! A backend: what the balancer sends to, with its count of requests in flight and its standing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::sync::Notify;

use crate::health::State;
use crate::lease::InFlight;

/// One backend for as long as the program runs: its address may change, its place in the list and its counters do not.
#[derive(Debug)]
pub struct Backend {
    index: usize,
    name: String,
    header_value: HeaderValue,
    host: String,
    port: u16,
    in_flight: InFlight,
    usable: AtomicBool,
    standing: ArcSwap<Standing>,
    address: ArcSwapOption<SocketAddr>,
    look_again: Notify,
}

/// What is known about a backend's health.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Starting, up or down.
    pub state: State,
    /// What the last look found, for people.
    pub reason: String,
    /// Since when it has been in this state.
    pub since: SystemTime,
}

impl Backend {
    /// A backend that is out of rotation until a check has passed. `index` is its place in the configuration.
    pub fn new(index: usize, name: &str, host: &str, port: u16) -> Backend {
        Backend {
            index,
            name: name.to_owned(),
            // The configuration takes host names only.
            header_value: HeaderValue::from_str(name)
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            host: host.to_owned(),
            port,
            in_flight: InFlight::default(),
            usable: AtomicBool::new(false),
            standing: ArcSwap::from_pointee(Standing {
                state: State::Starting,
                reason: "not looked at yet".to_owned(),
                since: SystemTime::now(),
            }),
            address: ArcSwapOption::empty(),
            look_again: Notify::new(),
        }
    }

    /// Its place in the configuration.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its name: a label in metrics and logs, and the name that its certificate must hold.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as the value of a field.
    pub fn header_value(&self) -> &HeaderValue {
        &self.header_value
    }

    /// Where it is looked up.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its requests in flight.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Whether new requests may be sent to it.
    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    /// What is known about its health.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// Publishes what a check found; the time is kept while the state stays the same.
    pub fn stands(&self, state: State, reason: String) {
        let before = self.standing.load();
        let since = if before.state == state {
            before.since
        } else {
            SystemTime::now()
        };
        self.standing.store(Arc::new(Standing {
            state,
            reason,
            since,
        }));
        self.usable.store(state == State::Up, Ordering::Release);
    }

    /// The address it had when it was last looked up.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// Remembers where it is; true if that is new.
    pub fn moved_to(&self, address: SocketAddr) -> bool {
        if self.address() == Some(address) {
            return false;
        }
        self.address.store(Some(Arc::new(address)));
        true
    }

    /// Asks for a check now, because a request has just met a fault there.
    pub fn look_again(&self) {
        self.look_again.notify_one();
    }

    /// Waits until somebody asks for a check.
    pub async fn asked_to_look_again(&self) {
        self.look_again.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_gets_nothing_until_a_check_has_passed() {
        let backend = Backend::new(0, "web-1", "web-1", 8443);
        assert!(!backend.is_usable());
        backend.stands(State::Up, "ready".to_owned());
        assert!(backend.is_usable());
        backend.stands(State::Down, "refused".to_owned());
        assert!(!backend.is_usable());
    }

    #[test]
    fn the_time_of_a_state_is_when_it_began() {
        let backend = Backend::new(0, "web-1", "web-1", 8443);
        backend.stands(State::Down, "refused".to_owned());
        let began = backend.standing().since;
        backend.stands(State::Down, "timed out".to_owned());
        assert_eq!(began, backend.standing().since);
        assert_eq!("timed out", backend.standing().reason);
    }
}
