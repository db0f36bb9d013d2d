//! The files of discarded transactions: each is written as a whole, for its owner alone, and its name sorts by time.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use time::{OffsetDateTime, UtcOffset, macros::format_description};

/// What a name ends with that is not finished.
const UNFINISHED: &str = ".new";

/// The name of a file that is made now.
pub(super) fn name(server: &str, now: OffsetDateTime) -> String {
    let format =
        format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:6]Z");
    let time = now
        .to_offset(UtcOffset::UTC)
        .format(format)
        .expect("a time has all of these");
    let plain = |c: char| {
        let keep = c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if keep { c } else { '_' }
    };
    let server: String = server.chars().map(plain).collect();
    format!("{time}-{server}.txt")
}

/// Writes a file; when this returns, it is on disk. It never takes another's place.
pub(super) fn write(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
    }
    let path = directory.join(name);
    if path.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let temporary = directory.join(format!(".{name}{UNFINISHED}"));
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Most likely the disk is full: what is half there helps nobody.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::rename(&temporary, &path)?;
    File::open(directory)?.sync_all()
}

/// The names of all files, oldest first. There are none where there is no directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.file_type()?.is_file()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The text of one of them.
///
/// # Errors
/// When it cannot be read, or the name is none that [`list`] gives.
pub fn read(directory: &Path, name: &str) -> io::Result<String> {
    if name.is_empty() || name.starts_with('.') || name.contains("..") || name.contains('/') {
        let reason = format!("{name:?} is not the name of a file here");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    fs::read_to_string(directory.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use time::macros::datetime;

    use super::*;

    #[test]
    fn names_sort_by_time_and_hold_nothing_that_a_path_has() {
        let early = name("mysql-2", datetime!(2026-01-02 03:04:05.000006 UTC));
        let late = name("mysql-1", datetime!(2026-01-02 05:04:05.1 +01:00));
        assert_eq!(early, "20260102T030405.000006Z-mysql-2.txt");
        assert_eq!(late, "20260102T040405.100000Z-mysql-1.txt");
        assert!(early < late);
        assert_eq!(
            name("../a b", datetime!(1970-01-01 00:00 UTC)),
            "19700101T000000.000000Z-___a_b.txt"
        );
    }

    #[test]
    fn a_file_is_listed_and_read_oldest_first_and_is_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("discarded");
        assert_eq!(list(&directory).unwrap(), [""; 0]);
        write(&directory, "2-b.txt", b"two").unwrap();
        write(&directory, "1-a.txt", b"one").unwrap();
        assert_eq!(list(&directory).unwrap(), ["1-a.txt", "2-b.txt"]);
        assert_eq!(read(&directory, "2-b.txt").unwrap(), "two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.join("2-b.txt")), 0o600);
        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn a_file_never_takes_the_place_of_another() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "1", b"one").unwrap();
        let error = write(directory.path(), "1", b"other").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(directory.path(), "1").unwrap(), "one");
    }

    #[test]
    fn what_a_crash_left_half_written_is_not_listed_and_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".1.new"), "a longer half").unwrap();
        assert_eq!(list(directory.path()).unwrap(), [""; 0]);
        write(directory.path(), "1", b"whole").unwrap();
        assert_eq!(read(directory.path(), "1").unwrap(), "whole");
        assert_eq!(list(directory.path()).unwrap(), ["1"]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("discarded");
        write(&directory, "1", b"one").unwrap();
        fs::write(state.path().join("state"), "secret").unwrap();
        fs::write(directory.join(".hidden"), "hidden").unwrap();
        for name in ["../state", "..", ".", "", "/etc/passwd", "a/b", ".hidden"] {
            let error = read(&directory, name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        let missing = read(&directory, "2").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
