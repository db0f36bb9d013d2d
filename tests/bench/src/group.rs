//! What a program has used so far, all of its processes together: they are a process group of their own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};

/// A process group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(pub(crate) i32);

/// What a group's memory comes to, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Resident; what processes share is counted for each.
    pub(crate) resident: u64,
    /// Proportional: what processes share is shared out among them.
    pub(crate) proportional: u64,
}

impl Group {
    /// The CPU time of its processes, user and kernel.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let ticks_per_second: u64 = sysconf(SysconfVar::CLK_TCK)?
            .context("a clock tick has a length")?
            .try_into()?;
        let ticks: u64 = self.processes()?.iter().map(|stat| stat.ticks).sum();
        Ok(Duration::from_millis(ticks * 1000 / ticks_per_second))
    }

    /// Their memory.
    pub(crate) fn memory(self) -> Result<Memory> {
        let mut memory = Memory {
            resident: 0,
            proportional: 0,
        };
        for process in self.processes()? {
            let path = format!("/proc/{}/smaps_rollup", process.id);
            let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            memory.resident += kilobytes(&text, "Rss:").context("no Rss")? * 1024;
            memory.proportional += kilobytes(&text, "Pss:").context("no Pss")? * 1024;
        }
        Ok(memory)
    }

    fn processes(self) -> Result<Vec<Stat>> {
        let found: Vec<Stat> = fs::read_dir("/proc")
            .context("read /proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|id: i32| {
                Stat::parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
            })
            .filter(|stat| stat.group == self.0)
            .collect();
        ensure!(!found.is_empty(), "the program has ended");
        Ok(found)
    }
}

/// What is needed of /proc/PID/stat.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    id: i32,
    group: i32,
    ticks: u64,
}

impl Stat {
    /// The second field, the program's name in parentheses, may hold spaces. Of those after it the third is the process group, the
    /// twelfth and thirteenth are user and kernel time.
    fn parse(text: &str) -> Option<Stat> {
        let (before, after) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Stat {
            id: before.split_whitespace().next()?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            ticks: ticks(11)? + ticks(12)?,
        })
    }
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_moves_no_field() {
        let text = "12 (a (b) c) S 1 12 12 0 -1 4194560 1 2 3 4 70 30 0 0 20 0 1 0 100 1 1";
        let expected = Stat {
            id: 12,
            group: 12,
            ticks: 100,
        };
        assert_eq!(Some(expected), Stat::parse(text));
    }

    #[test]
    fn a_field_of_a_rollup_is_read() {
        let text = "00400000-7ffd rollup\nRss:  1024 kB\nPss:   512 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(Some(512), kilobytes(text, "Pss:"));
    }
}
