//! Is there room on the disk and in memory?

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::command;

const GIB: u64 = 1 << 30;

/// Images, two data directories and three days of binary logs of a small stack.
const DISK_WARNING: u64 = 5 * GIB;

/// Less, and a database stops in the middle of something.
const DISK_FAULT: u64 = GIB;

/// What a stack takes, with some room.
const MEMORY_WARNING: u64 = 5 * GIB / 2;

pub(super) async fn examine() -> Vec<Finding> {
    let arguments = ["info", "--format", "{{.DockerRootDir}}"];
    let root = command::output("docker", &arguments)
        .await
        .unwrap_or_default();
    // The engine may be in a machine of its own; then its directory is not here.
    let disk = statvfs(root.trim()).ok().map(|disk| {
        #[allow(clippy::useless_conversion)] // these are not 64 bits wide everywhere
        let (blocks, size) = (
            u64::from(disk.blocks_available()),
            u64::from(disk.fragment_size()),
        );
        blocks * size
    });
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    [disk.map(judge_disk), available(&memory).map(judge_memory)]
        .into_iter()
        .flatten()
        .collect()
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

fn judge_disk(free: u64) -> Finding {
    let found = format!("{} are free where the engine keeps its data", gib(free));
    let cure = "docker system prune removes what nothing uses";
    match free {
        free if free < DISK_FAULT => Finding::fault("disk", found, cure),
        free if free < DISK_WARNING => Finding::warning("disk", found, cure),
        _ => Finding::ok("disk", found),
    }
}

fn judge_memory(free: u64) -> Finding {
    let found = format!("{} can be had", gib(free));
    if free < MEMORY_WARNING {
        let cure = "end something else, or set HOLDFAST_MYSQL_BUFFER_POOL lower in .env; a stack that runs already has what it needs";
        return Finding::warning("memory", found, cure);
    }
    Finding::ok("memory", found)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn little_room_is_a_warning_and_none_a_fault() {
        assert_eq!(judge_disk(GIB / 2).severity, Severity::Fault);
        assert_eq!(judge_disk(2 * GIB).severity, Severity::Warning);
        let much = judge_disk(80 * GIB + GIB / 2);
        assert_eq!(much.severity, Severity::Ok);
        assert!(much.found.starts_with("80.5 GiB"), "{much:?}");
        assert_eq!(judge_memory(GIB).severity, Severity::Warning);
        assert_eq!(judge_memory(3 * GIB).severity, Severity::Ok);
    }

    #[test]
    fn what_can_be_had_is_read_from_the_kernels_words() {
        let meminfo = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   2097152 kB\n";
        assert_eq!(available(meminfo), Some(2 * GIB));
        assert_eq!(available(""), None);
    }
}
