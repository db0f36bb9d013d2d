//! Giving away what is not needed any more.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// From now on this process, and whatever it starts, may administer its network namespace and nothing else; what it starts cannot get
/// more back, for the container has no-new-privileges. Call it before there is a second thread: each has capabilities of its own.
///
/// # Errors
/// When it does not have that one to begin with.
pub fn keep_only_net_admin() -> io::Result<()> {
    let only = CapabilitySet::NET_ADMIN;
    set_capabilities(
        None,
        CapabilitySets {
            effective: only,
            permitted: only,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}
