//! The durable state: what was decided, on disk before anything is done about it.
//!
//! The file holds a line with the SHA-256 of the rest, then JSON. It is written under another name, synced, renamed, and the directory
//! synced, so that it is always whole: the one before or the one after. A lock on a file beside it keeps a second arbiter out. A file
//! that cannot be understood is refused: two primaries would be worse than none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::fcntl::{Flock, FlockArg};
use replication::ClusterRow;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version of the format. 1 had fewer phases, and is read as it is.
const VERSION: u32 = 2;

/// What the arbiter has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Of the format.
    pub version: u32,
    /// Counts the configurations, from 1.
    pub epoch: u64,
    /// The primary's name.
    pub primary: String,
    /// The servers that hold every acknowledged write.
    pub in_sync: BTreeSet<String>,
    /// What is being done.
    pub phase: Phase,
    /// The boot in which the replica in the in-sync set was last seen to have received everything. In another boot it may no longer
    /// have it, and counts as in sync only once that was seen again.
    pub replica_boot: Option<String>,
    /// The `server_uuid` of each server: one of another UUID is another server.
    pub uuids: BTreeMap<String, String>,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// An empty pair is wired and opened for the first time.
    Bootstrap,
    /// Nothing but to keep it so.
    Steady,
    /// The primary is gone, and the replica, which is in sync, takes its place.
    Failover,
    /// The primary is gone, and the replica, which is not in sync, takes its place: a person has accepted the loss.
    ForcedPromotion,
    /// The replica takes the primary's place as planned: nothing is lost, and writes are held for a moment.
    Switchover,
    /// This server, the replica, is being worked on: it stays out of the in-sync set and out of the rotation.
    Maintenance(String),
}

impl fmt::Display for Phase {
    /// As it is published.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bootstrap => f.write_str("bootstrap"),
            Self::Steady => f.write_str("steady"),
            Self::Failover => f.write_str("failover"),
            Self::ForcedPromotion => f.write_str("forced promotion"),
            Self::Switchover => f.write_str(ClusterRow::SWITCHOVER),
            Self::Maintenance(server) => write!(f, "{}{server}", ClusterRow::MAINTENANCE),
        }
    }
}

impl State {
    /// The first state of an empty pair: epoch 1, both in sync, for both have the same nothing.
    #[must_use]
    pub fn first(primary: &str, replica_boot: &str, uuids: BTreeMap<String, String>) -> Self {
        Self {
            version: VERSION,
            epoch: 1,
            primary: primary.to_owned(),
            in_sync: uuids.keys().cloned().collect(),
            phase: Phase::Bootstrap,
            replica_boot: Some(replica_boot.to_owned()),
            uuids,
        }
    }

    /// The first state of a pair that was running before there was an arbiter: only the primary's data is known to be whole.
    #[must_use]
    pub fn adopted(primary: &str, epoch: u64, uuids: BTreeMap<String, String>) -> Self {
        Self {
            version: VERSION,
            epoch,
            primary: primary.to_owned(),
            in_sync: [primary.to_owned()].into(),
            phase: Phase::Steady,
            replica_boot: None,
            uuids,
        }
    }

    /// This one, in another phase.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> Self {
        Self {
            version: VERSION,
            phase,
            ..self.clone()
        }
    }

    /// SHRINK: the primary goes on alone.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self {
            in_sync: [self.primary.clone()].into(),
            replica_boot: None,
            ..self.in_phase(Phase::Steady)
        }
    }

    /// GROW: the replica, in this boot, holds every acknowledged write, and every further one before it is acknowledged.
    #[must_use]
    pub fn grown(&self, replica_boot: &str) -> Self {
        Self {
            in_sync: self.uuids.keys().cloned().collect(),
            replica_boot: Some(replica_boot.to_owned()),
            ..self.in_phase(self.phase.clone())
        }
    }

    /// The commit point of every change of the primary: this server is the primary of the next epoch, alone in sync.
    #[must_use]
    pub fn promoted(&self, server: &str) -> Self {
        Self {
            epoch: self.epoch + 1,
            primary: server.to_owned(),
            ..self.in_phase(Phase::Steady)
        }
        .alone()
    }

    /// Whether both servers hold every acknowledged write.
    #[must_use]
    pub fn is_redundant(&self) -> bool {
        self.in_sync.len() == 2
    }

    /// The replica's name.
    #[must_use]
    pub fn replica(&self) -> Option<&str> {
        let mut names = self.uuids.keys().map(String::as_str);
        names.find(|name| *name != self.primary)
    }

    /// What contradicts itself. Nothing that an arbiter wrote does.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let different: BTreeSet<&String> = self.uuids.values().collect();
        if self.epoch == 0 {
            Some("the epoch is 0")
        } else if self.uuids.len() != 2 || different.len() != 2 {
            Some("there are not two different servers")
        } else if !self.in_sync.contains(&self.primary) {
            Some("the primary is not in the in-sync set")
        } else if !self
            .in_sync
            .iter()
            .all(|name| self.uuids.contains_key(name))
        {
            Some("the in-sync set has a server that is none of the two")
        } else if self.in_sync.len() < 2 && self.replica_boot.is_some() {
            Some("it has the boot of a replica that is not in sync")
        } else {
            self.contradiction_of_phase()
        }
    }

    fn contradiction_of_phase(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::Bootstrap | Phase::Failover | Phase::Switchover if !self.is_redundant() => {
                Some("its phase needs both servers in sync")
            }
            Phase::ForcedPromotion if self.is_redundant() => {
                Some("a promotion is forced, and the replica is in sync")
            }
            Phase::Maintenance(server)
                if self.is_redundant() || self.replica() != Some(server.as_str()) =>
            {
                Some("a server is in maintenance that is in sync, or not the replica")
            }
            _ => None,
        }
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another arbiter has it.
    #[error("{}: another arbiter holds the lock; there must be one only: stop the other first", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("{}: {reason}; it is not guessed who is primary: `docker compose stop arbiter`, `docker compose run --rm --no-deps arbiter forget-state`, `docker compose start arbiter`, and name the server whose data counts (`arbiter adopt SERVER`)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of another version of the format.
    #[error("{}: its format is version {found}, and this arbiter reads 1 to {VERSION}: run the arbiter that wrote it", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The state's place on disk, locked for this process.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Locks the directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`StateError::Locked`] where another process has it.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { path, source }
        };
        fs::create_dir_all(directory).map_err(io(directory))?;
        let path = directory.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io(&path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self {
                directory: directory.to_owned(),
                _lock: lock,
            }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StateError::Locked { path }),
            Err((_, errno)) => Err(StateError::Io {
                path,
                source: errno.into(),
            }),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn io(&self) -> impl Fn(io::Error) -> StateError {
        let path = self.path();
        move |source| StateError::Io {
            path: path.clone(),
            source,
        }
    }

    /// What was stored last; `None` before the first time.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where the file is not what was written.
    pub fn load(&self) -> Result<Option<State>, StateError> {
        let text = match fs::read_to_string(self.path()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(self.damaged("it is not text"));
            }
            Err(error) => return Err(self.io()(error)),
        };
        let Some((sum, json)) = text.split_once('\n') else {
            return Err(self.damaged("it is cut off"));
        };
        if sum != checksum(json) {
            return Err(self.damaged("its checksum does not fit"));
        }
        // First, for another version has other fields.
        let Versioned { version } =
            serde_json::from_str(json).map_err(|error| self.damaged(&error.to_string()))?;
        if !(1..=VERSION).contains(&version) {
            return Err(StateError::OtherVersion {
                path: self.path(),
                found: version,
            });
        }
        let state: State =
            serde_json::from_str(json).map_err(|error| self.damaged(&error.to_string()))?;
        // Whoever wrote it may have ended before it was on disk.
        sync(&self.path())
            .and_then(|()| sync(&self.directory))
            .map_err(self.io())?;
        match state.contradiction() {
            None => Ok(Some(state)),
            Some(contradiction) => Err(self.damaged(contradiction)),
        }
    }

    fn damaged(&self, reason: &str) -> StateError {
        StateError::Damaged {
            path: self.path(),
            reason: reason.to_owned(),
        }
    }

    /// When a state was stored last; `None` before the first time.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn changed_at(&self) -> Result<Option<SystemTime>, StateError> {
        match fs::metadata(self.path()).and_then(|file| file.modified()) {
            Ok(at) => Ok(Some(at)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io()(error)),
        }
    }

    /// Puts the state aside, whatever is in it, so that the next start finds none; gives where it is kept now, if there was one.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn forget(&self) -> Result<Option<PathBuf>, StateError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let kept = format!("state.forgotten-{}", since.unwrap_or_default().as_secs());
        let kept = self.directory.join(kept);
        match fs::rename(self.path(), &kept) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io()(error)),
        }
        sync(&self.directory).map_err(self.io())?;
        Ok(Some(kept))
    }

    /// Stores a state; when this returns, it is on disk.
    ///
    /// # Errors
    /// When it may not be; the file is then the one before or this one, whole in both cases.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let json =
            serde_json::to_string_pretty(state).expect("a state has only strings and numbers");
        let temporary = self.directory.join("state.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            write!(file, "{}\n{json}", checksum(&json))?;
            file.sync_all()?;
            fs::rename(&temporary, self.path())?;
            sync(&self.directory)
        };
        write().map_err(self.io())
    }
}

/// Waits until a file's content, or a directory's names, are on disk.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn checksum(json: &str) -> String {
    Sha256::digest(json.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> State {
        let uuids = [("mysql-1", "a"), ("mysql-2", "b")];
        State::first(
            "mysql-1",
            "2026-01-01 00:00:00",
            uuids.map(|(n, u)| (n.to_owned(), u.to_owned())).into(),
        )
    }

    #[test]
    fn what_is_stored_is_loaded_and_nothing_is_there_before() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.load().unwrap(), None);
        let mut state = first();
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), Some(state.clone()));
        state.phase = Phase::Steady;
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), Some(state));
    }

    #[test]
    fn what_is_forgotten_is_kept_aside_even_if_it_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.forget().unwrap(), None);
        assert_eq!(store.changed_at().unwrap(), None);
        store.save(&first()).unwrap();
        assert!(store.changed_at().unwrap().is_some());
        fs::write(directory.path().join("state"), "damaged").unwrap();
        let kept = store.forget().unwrap().unwrap();
        assert_eq!(store.load().unwrap(), None);
        assert_eq!(fs::read_to_string(kept).unwrap(), "damaged");
    }

    #[test]
    fn a_second_arbiter_is_kept_out_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StateError::Locked { .. }), "{error}");
        drop(store);
        Store::open(directory.path()).unwrap();
    }

    #[test]
    fn any_single_damage_to_the_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.save(&first()).unwrap();
        let path = directory.path().join("state");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(store.load().is_err(), "the byte at {at} was changed");
            fs::write(&path, &good[..at]).unwrap();
            assert!(store.load().is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn a_crash_while_writing_leaves_the_state_before() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.save(&first()).unwrap();
        fs::write(directory.path().join("state.new"), "half").unwrap();
        assert_eq!(store.load().unwrap(), Some(first()));
    }

    #[test]
    fn a_state_of_another_version_or_that_contradicts_itself_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.save(&first()).unwrap();
        let path = directory.path().join("state");
        let good = fs::read_to_string(&path).unwrap();
        let (_, json) = good.split_once('\n').unwrap();
        for (from, to, reason) in [
            ("\"version\": 2", "\"version\": 3", "version 3"),
            ("\"epoch\": 1", "\"epoch\": 0", "epoch"),
            ("\"mysql-2\": \"b\"", "\"mysql-2\": \"a\"", "different"),
            (
                "\"primary\": \"mysql-1\"",
                "\"primary\": \"mysql-3\"",
                "primary",
            ),
            ("    \"mysql-2\"\n", "    \"mysql-9\"\n", "in-sync set"),
            ("\"bootstrap\"", "\"leaping\"", "leaping"),
            ("\"bootstrap\"", "\"forced_promotion\"", "forced"),
            (
                "\"bootstrap\"",
                "{\"maintenance\": \"mysql-2\"}",
                "maintenance",
            ),
        ] {
            assert!(json.contains(from), "{from} is not in {json}");
            let bad = json.replacen(from, to, 1);
            fs::write(&path, format!("{}\n{bad}", checksum(&bad))).unwrap();
            let error = store.load().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_format_before_this_one_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let json = serde_json::to_string(&first()).unwrap();
        let old = json.replacen("\"version\":2", "\"version\":1", 1);
        assert_ne!(json, old);
        fs::write(
            directory.path().join("state"),
            format!("{}\n{old}", checksum(&old)),
        )
        .unwrap();
        let read = store.load().unwrap().unwrap();
        assert_eq!((read.version, read.epoch), (1, 1));
    }

    #[test]
    fn the_legal_moves_end_in_states_that_do_not_contradict_themselves() {
        let steady = first().in_phase(Phase::Steady);
        let alone = steady.alone();
        let promoted = steady.in_phase(Phase::Failover).promoted("mysql-2");
        assert_eq!(
            (
                promoted.epoch,
                promoted.primary.as_str(),
                promoted.in_sync.len()
            ),
            (2, "mysql-2", 1)
        );
        let maintained = alone.in_phase(Phase::Maintenance("mysql-2".to_owned()));
        let forced = alone.in_phase(Phase::ForcedPromotion);
        let grown = promoted.grown("boot");
        for state in [steady, alone, promoted, maintained, forced, grown] {
            assert_eq!(state.contradiction(), None, "{state:?}");
        }
    }
}
