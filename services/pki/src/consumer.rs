//! The files of one consumer: a directory that is written once, and the link `current` that points to it. A rotation writes a new
//! directory and renames a new link over the old one, so that nobody ever reads half a pair.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Error, authority::Leaf};

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The new directory, which `current` now points to.
    pub directory: PathBuf,
    /// Whether the files belong to the user they are for: false where we are not root and it is another one.
    pub owned: bool,
}

/// Writes `ca.crt`, `tls.crt`, `tls.key` and `secrets/*` for `user` into a new directory below `directory`, syncs them, and points
/// `current` to it. The directory before stays, for whoever is reading it; older ones are removed.
///
/// # Errors
/// When something cannot be written; `current` is then as it was.
pub fn write_consumer(
    directory: &Path,
    user: u32,
    ca_pem: &str,
    leaf: &Leaf,
    secrets: &BTreeMap<&'static str, String>,
) -> Result<Written, Error> {
    let stamp = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let name = format!("{stamp:020}");
    let new = directory.join(&name);
    fs::create_dir_all(new.join("secrets")).map_err(Error::io(&new))?;
    write_file(&new.join("ca.crt"), ca_pem, 0o444)?;
    write_file(&new.join("tls.crt"), &leaf.cert_pem, 0o444)?;
    write_file(&new.join("tls.key"), &leaf.key_pem, 0o400)?;
    for (secret, text) in secrets {
        write_file(&new.join("secrets").join(secret), text, 0o400)?;
    }
    for closed in [new.join("secrets"), new.clone()] {
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755))
            .map_err(Error::io(&closed))?;
    }
    let owned = give(&new, user)?;
    File::open(&new)
        .and_then(|d| d.sync_all())
        .map_err(Error::io(&new))?;

    let before = fs::read_link(directory.join("current")).ok();
    let link = directory.join(".current.new");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(&link)(error));
        }
        _ => {}
    }
    symlink(&name, &link).map_err(Error::io(&link))?;
    fs::rename(&link, directory.join("current")).map_err(Error::io(&link))?;
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(Error::io(directory))?;
    remove_older(directory, &[Some(name.into()), before])?;
    Ok(Written {
        directory: new,
        owned,
    })
}

/// Removes all generations but those to keep.
fn remove_older(directory: &Path, keep: &[Option<PathBuf>]) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let entry = entry.map_err(Error::io(directory))?;
        let name = PathBuf::from(entry.file_name());
        let a_generation = name.to_string_lossy().chars().all(|c| c.is_ascii_digit());
        if a_generation && !keep.contains(&Some(name)) {
            fs::remove_dir_all(entry.path()).map_err(Error::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Gives a tree to a user. As another user than root this is not possible, and not needed where the files are our own.
fn give(path: &Path, user: u32) -> Result<bool, Error> {
    let metadata = fs::symlink_metadata(path).map_err(Error::io(path))?;
    let mut owned = metadata.uid() == user;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io(path))? {
            owned &= give(&entry.map_err(Error::io(path))?.path(), user)?;
        }
    }
    if nix::unistd::geteuid().is_root() {
        chown(path, Some(user), Some(user)).map_err(Error::io(path))?;
        owned = true;
    }
    Ok(owned)
}

/// Writes a file under a name of its own first, syncs it, and renames it: whoever reads the name reads all of it.
pub(crate) fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(&temporary)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(Error::io(&temporary))?;
    file.write_all(text.as_bytes())
        .map_err(Error::io(&temporary))?;
    file.sync_all().map_err(Error::io(&temporary))?;
    fs::rename(&temporary, path).map_err(Error::io(path))
}
