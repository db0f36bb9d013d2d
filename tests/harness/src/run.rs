//! One run = one test process: the name that its containers and files carry, and the sweep of what dead runs left behind.
//!
//! A test that is killed cannot clean up. So everything is labelled `holdfast.run=<process id>.<start time>`, and the first thing a run
//! does is to remove what belongs to processes that are no more. The start time keeps a process id that was used again apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The label of every container, network and volume that a test makes.
pub const LABEL: &str = "holdfast.run";

const DIRECTORY_PREFIX: &str = "holdfast-run-";

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// This process's run: `<process id>.<start time in clock ticks since boot>`.
pub fn id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let pid = std::process::id();
        format!("{pid}.{}", start_time(pid).unwrap_or_default())
    })
}

/// A new directory below this run's own. Removed when the value is dropped, or by the next run's sweep.
pub fn directory(purpose: &str) -> Result<tempfile::TempDir> {
    sweep();
    directory_below(&std::env::temp_dir(), purpose)
}

/// The same in memory, where the system has such a place and `bytes_min` are free there, else as [`directory`]. A process that is killed
/// loses nothing of it, so for tests of crashes it is as good as a disk, and faster.
pub fn directory_in_memory(purpose: &str, bytes_min: u64) -> Result<tempfile::TempDir> {
    sweep();
    let memory = Path::new(MEMORY);
    let free =
        nix::sys::statvfs::statvfs(memory).map(|of| of.blocks_available() * of.fragment_size());
    if free.is_err() || free.is_ok_and(|free| free < bytes_min) {
        return directory(purpose);
    }
    directory_below(memory, purpose)
}

/// Whether a directory is one in memory.
pub fn is_in_memory(directory: &Path) -> bool {
    directory.starts_with(MEMORY)
}

fn directory_below(place: &Path, purpose: &str) -> Result<tempfile::TempDir> {
    let parent = place.join(format!("{DIRECTORY_PREFIX}{}", id()));
    fs::create_dir_all(&parent).with_context(|| format!("create {}", parent.display()))?;
    Ok(tempfile::Builder::new()
        .prefix(&format!("{purpose}-"))
        .tempdir_in(parent)?)
}

/// Removes what dead runs left: containers, volumes and temporary directories. Once per process; never anything of a run that lives, nor
/// what carries a label of another form. What cannot be removed is left to the next run.
pub fn sweep() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let _ = sweep_containers();
        // Once no container has them any more.
        let _ = sweep_volumes();
        let _ = sweep_directories(&std::env::temp_dir());
        let _ = sweep_directories(Path::new(MEMORY));
    });
}

fn sweep_containers() -> Result<()> {
    let dead = dead(&["ps", "--all"], "ID")?;
    remove(&["rm", "--force", "--volumes"], &dead)
}

fn sweep_volumes() -> Result<()> {
    let dead = dead(&["volume", "ls"], "Name")?;
    remove(&["volume", "rm", "--force"], &dead)
}

/// What of dead runs the engine lists by this command, by the column that names it.
fn dead(list: &[&str], column: &str) -> Result<Vec<String>> {
    let filter = format!("label={LABEL}");
    let format = format!("{{{{.{column}}}}} {{{{.Label \"{LABEL}\"}}}}");
    let listed = Command::new("docker")
        .args(list)
        .args(["--filter", &filter, "--format", &format])
        .output()?;
    ensure!(
        listed.status.success(),
        "docker {}: {}",
        list.join(" "),
        String::from_utf8_lossy(&listed.stderr)
    );
    let listed = String::from_utf8_lossy(&listed.stdout);
    let dead = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, run)| is_dead(run))
        .map(|(name, _)| name.to_owned());
    Ok(dead.collect())
}

fn remove(command: &[&str], names: &[String]) -> Result<()> {
    if !names.is_empty() {
        Command::new("docker").args(command).args(names).output()?;
    }
    Ok(())
}

fn sweep_directories(below: &Path) -> Result<()> {
    let dead: Vec<PathBuf> = fs::read_dir(below)?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix(DIRECTORY_PREFIX))
                .is_some_and(is_dead)
        })
        .map(|entry| entry.path())
        .collect();
    for directory in dead {
        let _ = fs::remove_dir_all(directory);
    }
    Ok(())
}

/// True for a run whose process is gone; false for what is not a run's name.
fn is_dead(run: &str) -> bool {
    let Some((pid, started)) = run.split_once('.') else {
        return false;
    };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else {
        return false;
    };
    start_time(pid) != Some(started)
}

/// When the process started, in clock ticks since boot: field 22 of /proc/PID/stat. The second field, the program's name in
/// parentheses, may hold spaces.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_run_lives_and_an_earlier_owner_of_its_process_id_does_not() {
        let (pid, started) = id().split_once('.').unwrap();
        assert!(!is_dead(id()));
        assert!(is_dead(&format!(
            "{pid}.{}",
            started.parse::<u64>().unwrap() - 1
        )));
    }

    #[test]
    fn what_is_not_a_runs_name_is_never_swept() {
        for other in ["", "1", "stack", "1.x", "x.1", "ci.2026"] {
            assert!(!is_dead(other), "{other:?}");
        }
    }

    #[test]
    fn a_sweep_removes_directories_of_dead_runs_only() {
        let below = tempfile::tempdir().unwrap();
        let dead = below.path().join(format!("{DIRECTORY_PREFIX}1.1"));
        let living = below.path().join(format!("{DIRECTORY_PREFIX}{}", id()));
        let foreign = below.path().join("something-else");
        for directory in [&dead, &living, &foreign] {
            fs::create_dir(directory).unwrap();
        }
        sweep_directories(below.path()).unwrap();
        assert_eq!(
            [false, true, true],
            [dead.exists(), living.exists(), foreign.exists()]
        );
    }
}
