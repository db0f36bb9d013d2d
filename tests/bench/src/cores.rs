//! Who runs where: the proxy alone on one core, everything else on the others.

use anyhow::{Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may use.
#[derive(Clone, Debug)]
pub struct Cores {
    /// The proxy's.
    pub proxy: usize,
    /// Everybody else's: the load, the backend, this program.
    pub others: Vec<usize>,
}

impl Cores {
    /// Shares them out, and moves this process, and with it whatever it starts, to the others.
    ///
    /// # Errors
    /// When there is only one core.
    pub fn share() -> Result<Cores> {
        let this = Pid::from_raw(0);
        let allowed = sched_getaffinity(this)?;
        let mut cores =
            (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or_default());
        let proxy = cores.next().unwrap_or_default();
        let others: Vec<usize> = cores.collect();
        ensure!(
            !others.is_empty(),
            "there is only one core, and the proxy needs one to itself: run this on a machine with two or more"
        );
        let mut set = CpuSet::new();
        for core in &others {
            set.set(*core)?;
        }
        sched_setaffinity(this, &set)?;
        Ok(Cores { proxy, others })
    }
}
