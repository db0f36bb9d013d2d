//! The part of a document that a bench writes, if it is asked to.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::marks;

/// What follows `--write` among the arguments, if anything does: a path from the root of the repository, for cargo runs a bench elsewhere.
pub(crate) fn asked_for() -> Option<PathBuf> {
    let mut arguments = env::args().skip_while(|argument| argument != "--write");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    arguments.nth(1).map(|path| root.join(path))
}

/// Replaces what is between the marks of this name.
pub(crate) fn replace(path: &Path, name: &str, part: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let (before, _, after) = marks::split(&text, name).ok_or_else(|| {
        let missing = format!("{} has no marks `{name}`", path.display());
        io::Error::new(io::ErrorKind::InvalidData, missing)
    })?;
    fs::write(path, format!("{before}\n\n{}\n\n{after}", part.trim()))
}
