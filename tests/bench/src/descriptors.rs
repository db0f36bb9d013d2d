//! How many files and connections this process and what it starts may have open.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Enough for a proxy that counts two for each of its connections.
const WANTED: u64 = 65_536;

/// Raises the limit: as root as far as is wanted, else as far as it goes.
///
/// # Errors
/// When the system refuses.
pub fn raise() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = most.max(WANTED);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most))
        .context("raise the limit of open files")
}

/// How many there may be now.
pub(crate) fn most() -> Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}
