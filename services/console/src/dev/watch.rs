//! Notices that files were saved. It looks at their times every fifth of a second: this works on every file system, mounted ones too.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

/// Between two looks. An editor's save is over when two looks find the same.
const PAUSE: Duration = Duration::from_millis(200);

/// When each file was last written, and how long it is.
type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Files and directories, and how they were.
pub(super) struct Watch {
    places: Vec<PathBuf>,
    seen: Seen,
}

impl Watch {
    /// Of these, as they are now.
    pub(super) fn of(places: &[impl AsRef<Path>]) -> Self {
        let places: Vec<PathBuf> = places.iter().map(|p| p.as_ref().to_owned()).collect();
        let seen = look(&places);
        Self { places, seen }
    }

    /// What was written, made or removed since the last time, once it has come to rest.
    pub(super) async fn changed(&mut self) -> Vec<PathBuf> {
        let mut last = look(&self.places);
        loop {
            sleep(PAUSE).await;
            let now = look(&self.places);
            if now == last && now != self.seen {
                let changed = differing(&self.seen, &now);
                self.seen = now;
                return changed;
            }
            last = now;
        }
    }
}

fn differing(before: &Seen, now: &Seen) -> Vec<PathBuf> {
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let other = now
        .iter()
        .filter(|(path, file)| before.get(*path) != Some(file))
        .map(|(path, _)| path);
    other.chain(gone).cloned().collect()
}

fn look(places: &[PathBuf]) -> Seen {
    let mut seen = Seen::new();
    for place in places {
        look_at(place, &mut seen);
    }
    seen
}

/// What cannot be read is not there; the next look may find it.
fn look_at(path: &Path, seen: &mut Seen) {
    let Ok(about) = path.metadata() else { return };
    if about.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .filter(|entry| !is_an_editors(&entry.file_name().to_string_lossy()))
            .for_each(|entry| look_at(&entry.path(), seen));
    } else if let Ok(written) = about.modified() {
        seen.insert(path.to_owned(), (written, about.len()));
    }
}

/// Files that an editor makes beside the one that it saves.
fn is_an_editors(name: &str) -> bool {
    name.ends_with('~')
        || name.ends_with(".swp")
        || name.starts_with(".#")
        || name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_written_made_or_removed_is_noticed_and_an_editors_own_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        fs::create_dir(file("deeper")).unwrap();
        fs::write(file("deeper/a.rs"), "1").unwrap();
        fs::write(file("b.rs"), "1").unwrap();
        let mut watch = Watch::of(&[directory.path(), &file("is-not-there")]);

        fs::write(file("deeper/a.rs"), "12").unwrap();
        assert_eq!(watch.changed().await, [file("deeper/a.rs")]);
        fs::rename(file("b.rs"), file("c.rs")).unwrap();
        assert_eq!(watch.changed().await, [file("c.rs"), file("b.rs")]);
        for name in [".a.rs.swp", "a.rs~", ".#a.rs", "4913"] {
            fs::write(file(name), "x").unwrap();
        }
        let still = timeout(3 * PAUSE, watch.changed()).await;
        assert!(still.is_err(), "noticed {still:?}");
    }
}
