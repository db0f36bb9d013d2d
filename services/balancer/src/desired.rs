//! What operators want of the backends: one file that all balancers of a pod share and follow.
//!
//! A verb given to one of them is written there, so it reaches the others too, also one that is away, and outlives a restart. Names of
//! backends that are not members are kept: they may be again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Mode, WEIGHT_MAX};
use crate::rotation::Wish;

/// What is wanted, where it is not what the configuration says.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// How the backends share the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The backends of which anything is wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<String, Wanted>,
}

/// What is wanted of one backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Whether it is to work.
    #[serde(default)]
    pub state: Wish,
    /// Its part, instead of the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl Desired {
    /// What is wanted of this backend.
    pub fn of(&self, backend: &str) -> Wanted {
        self.backends.get(backend).copied().unwrap_or_default()
    }

    /// Changes what is wanted of a backend. One of which nothing is wanted is not kept.
    pub fn want(&mut self, backend: &str, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.of(backend);
        change(&mut wanted);
        match wanted == Wanted::default() {
            true => self.backends.remove(backend),
            false => self.backends.insert(backend.to_owned(), wanted),
        };
    }
}

/// The file, and how it was when it was last read.
#[derive(Debug)]
pub struct DesiredFile {
    path: PathBuf,
    /// The one that was read last, or that is none; or why there is none that could be read.
    seen: Result<Option<Version>, ErrorKind>,
}

/// What is another one after every change: a file is replaced, never rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl DesiredFile {
    /// Not read yet.
    pub fn new(path: &Path) -> DesiredFile {
        DesiredFile {
            path: path.to_owned(),
            seen: Ok(None),
        }
    }

    /// What is in it, if it is another than the last time. No file is one in which nothing is wanted.
    ///
    /// # Errors
    /// When it is not what we write, or cannot be read; once for each change. What cannot be read is tried again all the same.
    pub fn changed(&mut self) -> io::Result<Option<Desired>> {
        let read = match self.version() {
            Ok(version) if self.seen == Ok(version) => return Ok(None),
            Ok(version) => match read(&self.path) {
                Ok(desired) => Ok((version, desired)),
                Err(error) => Err((Some(version), error)),
            },
            Err(error) => Err((None, error)),
        };
        let (seen, told) = match read {
            Ok((version, desired)) => (Ok(version), Ok(Some(desired))),
            Err((Some(version), error)) if error.kind() == ErrorKind::InvalidData => {
                (Ok(version), Err(self.named(error)))
            }
            Err((_, error)) if self.seen == Err(error.kind()) => return Ok(None),
            Err((_, error)) => (Err(error.kind()), Err(self.named(error))),
        };
        self.seen = seen;
        told
    }

    fn version(&self) -> io::Result<Option<Version>> {
        match fs::metadata(&self.path) {
            Ok(about) => Ok(Some(Version {
                inode: about.ino(),
                len: about.len(),
                modified: (about.mtime(), about.mtime_nsec()),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes what is in it. Whoever else does at the same time waits: no change is lost.
    ///
    /// # Errors
    /// When it cannot be read or written. Then it is as before.
    pub fn change(&self, change: impl FnOnce(&mut Desired)) -> io::Result<()> {
        self.replace(change).map_err(|error| self.named(error))
    }

    fn replace(&self, change: impl FnOnce(&mut Desired)) -> io::Result<()> {
        // A file of its own: the one that it guards is replaced.
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(self.beside("lock"))?;
        lock.lock()?;
        let mut desired = read(&self.path)?;
        change(&mut desired);
        let new = self.beside("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&desired)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(new, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    fn named(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

fn read(path: &Path) -> io::Result<Desired> {
    match fs::read(path) {
        Ok(text) => parse(&text).map_err(|error| io::Error::new(ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Desired::default()),
        Err(error) => Err(error),
    }
}

fn parse(text: &[u8]) -> Result<Desired, String> {
    let desired: Desired = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    for (name, wanted) in &desired.backends {
        if let Some(weight) = wanted.weight
            && !(1..=WEIGHT_MAX).contains(&weight)
        {
            return Err(format!(
                "{name} has the weight {weight}, which is not 1 to {WEIGHT_MAX}"
            ));
        }
    }
    Ok(desired)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(wanted: &mut Wanted) {
        wanted.state = Wish::Drain;
    }

    #[test]
    fn what_one_writes_another_reads_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backends.json");
        let (one, mut other) = (DesiredFile::new(&path), DesiredFile::new(&path));
        assert_eq!(None, other.changed().unwrap());
        one.change(|desired| desired.want("web-1", drain)).unwrap();
        let read = other.changed().unwrap().unwrap();
        assert_eq!(Wish::Drain, read.of("web-1").state);
        assert_eq!(Wish::Ready, read.of("web-2").state);
        assert_eq!(None, other.changed().unwrap());
        one.change(|desired| desired.mode = Some(Mode::ActivePassive))
            .unwrap();
        assert_eq!(
            Some(Mode::ActivePassive),
            other.changed().unwrap().unwrap().mode
        );
        one.change(|desired| desired.want("web-1", |wanted| wanted.state = Wish::Ready))
            .unwrap();
        assert!(other.changed().unwrap().unwrap().backends.is_empty());
    }

    #[test]
    fn two_that_write_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backends.json");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..10 {
                        let name = format!("web-{writer}-{number}");
                        let file = DesiredFile::new(path);
                        file.change(|desired| desired.want(&name, drain)).unwrap();
                    }
                });
            }
        });
        let desired = DesiredFile::new(&path).changed().unwrap().unwrap();
        assert_eq!(40, desired.backends.len());
    }

    #[test]
    fn what_is_not_ours_is_an_error_once_and_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backends.json");
        fs::write(&path, "{\"backends\": 3}").unwrap();
        let mut file = DesiredFile::new(&path);
        let error = file.changed().unwrap_err().to_string();
        assert!(error.contains("backends.json"), "{error}");
        assert_eq!(None, file.changed().unwrap());
        assert!(file.change(|desired| desired.want("web-1", drain)).is_err());
        assert_eq!("{\"backends\": 3}", fs::read_to_string(&path).unwrap());
    }
    #[test]
    fn a_weight_that_is_none_is_not_ours() {
        let with = |weight: &str| {
            parse(format!("{{\"backends\": {{\"web-1\": {{\"weight\": {weight}}}}}}}").as_bytes())
        };
        assert!(with("1").is_ok() && with("1000").is_ok());
        for weight in ["0", "1001", "4294967295", "-1", "1.5"] {
            assert!(with(weight).is_err(), "{weight}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_of_once_and_read_when_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backends.json");
        let mut file = DesiredFile::new(&path);
        fs::create_dir(&path).unwrap();
        assert!(file.changed().is_err());
        assert_eq!(None, file.changed().unwrap());
        fs::remove_dir(&path).unwrap();
        let other = DesiredFile::new(&path);
        other
            .change(|desired| desired.want("web-1", drain))
            .unwrap();
        let read = file.changed().unwrap().unwrap();
        assert_eq!(Wish::Drain, read.of("web-1").state);
        let beneath = path.join("a-file-is-no-directory");
        let mut file = DesiredFile::new(&beneath);
        assert!(file.changed().is_err());
        assert_eq!(None, file.changed().unwrap());
    }
}
