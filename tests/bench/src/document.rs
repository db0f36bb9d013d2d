//! The part of a document that a program writes: what is between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Replaces what is between the marks of this file.
pub(crate) fn replace(path: &Path, part: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let text = replaced(&text, part).with_context(|| {
        format!(
            "{} has no lines {BEGIN} and {END}: put them where the figures belong",
            path.display()
        )
    })?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Whether it can be done, said before hours of measuring.
pub(crate) fn check(path: &Path) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    replaced(&text, "").map(drop).with_context(|| {
        format!(
            "{} has no lines {BEGIN} and {END}: put them where the figures belong",
            path.display()
        )
    })
}

fn replaced(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        part.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nthe end\n");
        let expected = format!("# Title\n{BEGIN}\n\nnew\n\n{END}\nthe end\n");
        assert_eq!(Some(expected), replaced(&text, "new\n"));
        assert_eq!(None, replaced("no marks", "new"));
    }
}
