//! One worker's connections to backends that wait for their next request.
//!
//! No lock, no task and no timer: taking one is a pop and a look at what the reactor knows, giving one back is a push, and what has
//! waited too long is swept out with the worker's ticks.

use std::cell::RefCell;
use std::net::SocketAddr;

use crate::backend::Backend;
use crate::backend_connection::BackendConnection;
use crate::clock::Moment;

/// Idle connections, by the backend's place; the latest of each last.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<Vec<Vec<BackendConnection>>>,
    each_max: usize,
}

impl Pool {
    /// Keeps at most so many for each backend.
    pub fn new(each_max: usize) -> Pool {
        Pool {
            idle: RefCell::default(),
            each_max,
        }
    }

    /// The connection that waited the shortest, of those to this backend that lead to this address and were made with this identity.
    /// What cannot be used any more is closed on the way.
    pub fn take(
        &self,
        backend: &Backend,
        address: SocketAddr,
        generation: u64,
    ) -> Option<BackendConnection> {
        let mut idle = self.idle.borrow_mut();
        let of_place = idle.get_mut(backend.place())?;
        while let Some(connection) = of_place.pop() {
            // Another backend may have had the place before.
            if connection.backend == backend.id()
                && connection.address == address
                && connection.generation == generation
                && connection.is_idle()
            {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; where there are enough, it is closed.
    pub fn give(&self, backend: &Backend, connection: BackendConnection) {
        let mut idle = self.idle.borrow_mut();
        let place = backend.place();
        if idle.len() <= place {
            idle.resize_with(place + 1, Vec::new);
        }
        if idle[place].len() < self.each_max {
            idle[place].push(connection);
        }
    }

    /// Closes those that have waited since before this moment.
    pub fn sweep(&self, before: Moment) {
        for of_place in self.idle.borrow_mut().iter_mut() {
            let old = of_place.partition_point(|c| c.idle_since.get() < before);
            of_place.drain(..old);
        }
    }
}
