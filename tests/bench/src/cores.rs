//! Who runs where: the proxy alone on one core, everything else on the others.

use anyhow::{Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may use.
#[derive(Clone, Debug)]
pub struct Cores {
    /// The proxy's; one of everybody's where they are not shared out.
    pub proxy: usize,
    /// Everybody else's: the load, the backend, this program.
    pub others: Vec<usize>,
    /// How many there are.
    pub number: usize,
}

impl Cores {
    /// Shares them out, and moves this process, and with it whatever it starts, to the others.
    ///
    /// # Errors
    /// When there is only one core.
    pub fn share() -> Result<Cores> {
        let Cores {
            proxy,
            mut others,
            number,
        } = Cores::all()?;
        others.retain(|core| *core != proxy);
        ensure!(
            !others.is_empty(),
            "there is only one core, and the proxy needs one to itself: run this on a machine with two or more"
        );
        let mut set = CpuSet::new();
        for core in &others {
            set.set(*core)?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)?;
        Ok(Cores {
            proxy,
            others,
            number,
        })
    }

    /// Leaves everybody on all of them.
    ///
    /// # Errors
    /// When the system does not say which there are.
    pub fn all() -> Result<Cores> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let others: Vec<usize> = (0..CpuSet::count())
            .filter(|core| allowed.is_set(*core).unwrap_or_default())
            .collect();
        Ok(Cores {
            proxy: others.first().copied().unwrap_or_default(),
            number: others.len(),
            others,
        })
    }
}
