//! One worker's connections to backends that wait for their next request.
//!
//! No lock, no task and no timer: taking one is a pop and a look at what the reactor knows, giving one back is a push, and what has
//! waited too long is swept out with the worker's ticks.

use std::cell::RefCell;
use std::net::SocketAddr;

use crate::backend_connection::BackendConnection;
use crate::clock::Moment;

/// Idle connections, by the backend's index; the latest of each last.
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

    /// The connection that waited the shortest, of those that lead to this address and were made with this identity. What cannot be
    /// used any more is closed on the way.
    pub fn take(
        &self,
        backend: usize,
        address: SocketAddr,
        generation: u64,
    ) -> Option<BackendConnection> {
        let mut idle = self.idle.borrow_mut();
        let of_backend = idle.get_mut(backend)?;
        while let Some(connection) = of_backend.pop() {
            if connection.address == address
                && connection.generation == generation
                && connection.is_idle()
            {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request; where there are enough, it is closed.
    pub fn give(&self, backend: usize, connection: BackendConnection) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= backend {
            idle.resize_with(backend + 1, Vec::new);
        }
        if idle[backend].len() < self.each_max {
            idle[backend].push(connection);
        }
    }

    /// Closes those that have waited since before this moment.
    pub fn sweep(&self, before: Moment) {
        for of_backend in self.idle.borrow_mut().iter_mut() {
            let old = of_backend.partition_point(|c| c.idle_since.get() < before);
            of_backend.drain(..old);
        }
    }
}
