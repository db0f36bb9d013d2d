//! Ports on loopback for servers that a test starts.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Result, bail};

/// Below the range from which the kernel takes the ports of outgoing connections (32768 and up), so that none of those is in the way.
const RANGE: Range<u16> = 20_000..30_000;

/// A port on 127.0.0.1 that nobody listens on, and that no other test process is given as long as this one lives: each port handed out
/// is a locked file.
pub fn free_port() -> Result<u16> {
    static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let locks = std::env::temp_dir().join("holdfast-ports");
    fs::create_dir_all(&locks)?;
    let first = rand::random_range(RANGE);
    for port in (first..RANGE.end).chain(RANGE.start..first) {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(locks.join(port.to_string()))?;
        if lock.try_lock().is_err() || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        TAKEN
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(lock);
        return Ok(port);
    }
    bail!("no free port from {} to {}", RANGE.start, RANGE.end)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let ports: HashSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(50, ports.len());
    }
}
