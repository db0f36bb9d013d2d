//! Free ports on loopback, handed out once.

use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Range;

use anyhow::{Context, Result};

/// Below the range from which the kernel takes the ports of outgoing connections (32768 and up).
const RANGE: Range<u16> = 20_000..30_000;

/// Ports that nobody else is given as long as this lives: each is a locked file, in the directory that the tests' harness uses as well.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    taken: Vec<File>,
}

impl Ports {
    /// One more.
    pub(crate) fn take(&mut self) -> Result<u16> {
        let locks = std::env::temp_dir().join("holdfast-ports");
        fs::create_dir_all(&locks).with_context(|| format!("create {}", locks.display()))?;
        // Runs at the same time begin at different places.
        let width = u32::from(RANGE.end - RANGE.start);
        let first = RANGE.start + u16::try_from(std::process::id() * 61 % width)?;
        for port in (first..RANGE.end).chain(RANGE.start..first) {
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(locks.join(port.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
                self.taken.push(lock);
                return Ok(port);
            }
        }
        anyhow::bail!("no free port from {} to {}", RANGE.start, RANGE.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let mut ports = Ports::default();
        let mut given: Vec<u16> = (0..20).map(|_| ports.take().unwrap()).collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(20, given.len());
    }
}
