//! The parts of a document that a program writes: what is between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Two lines between which nobody else writes.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    begin: &'static str,
    end: &'static str,
}

impl Marks {
    /// These two lines.
    pub const fn new(begin: &'static str, end: &'static str) -> Marks {
        Marks { begin, end }
    }

    /// Replaces what is between them in this file.
    pub fn replace(self, path: &Path, part: &str) -> Result<()> {
        let text = self.replaced_in(path, part)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Whether it can be done, said before hours of measuring.
    pub fn check(self, path: &Path) -> Result<()> {
        self.replaced_in(path, "").map(drop)
    }

    fn replaced_in(self, path: &Path, part: &str) -> Result<String> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        self.replaced(&text, part).with_context(|| {
            format!(
                "{} has no lines {} and {}: put them where the figures belong",
                path.display(),
                self.begin,
                self.end
            )
        })
    }

    fn replaced(self, text: &str, part: &str) -> Option<String> {
        let Marks { begin, end } = self;
        let (before, rest) = text.split_once(begin)?;
        let (_, after) = rest.split_once(end)?;
        let part = part.trim();
        Some(format!("{before}{begin}\n\n{part}\n\n{end}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let marks = Marks::new("<!-- here: begin -->", "<!-- here: end -->");
        let others = Marks::new("<!-- there: begin -->", "<!-- there: end -->");
        let Marks { begin, end } = marks;
        let text = format!("# Title\n{begin}\nold\n{end}\nthe end\n");
        let expected = format!("# Title\n{begin}\n\nnew\n\n{end}\nthe end\n");
        assert_eq!(Some(expected), marks.replaced(&text, "new\n"));
        assert_eq!(None, others.replaced(&text, "new"));
    }
}
