//! The parts of a document that a program writes: what is between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What `./stack bench balancer` writes.
pub(crate) const MEASURED: Marks = Marks {
    begin: "<!-- measured: begin -->",
    end: "<!-- measured: end -->",
};

/// What `./stack bench faults` writes.
pub(crate) const FAULTS: Marks = Marks {
    begin: "<!-- faults: begin -->",
    end: "<!-- faults: end -->",
};

/// What `./stack bench router` writes.
pub(crate) const ROUTER: Marks = Marks {
    begin: "<!-- router: begin -->",
    end: "<!-- router: end -->",
};

/// Two lines between which nobody else writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    begin: &'static str,
    end: &'static str,
}

impl Marks {
    /// Replaces what is between them in this file.
    pub(crate) fn replace(self, path: &Path, part: &str) -> Result<()> {
        let text = self.replaced_in(path, part)?;
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Whether it can be done, said before hours of measuring.
    pub(crate) fn check(self, path: &Path) -> Result<()> {
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
        let Marks { begin, end } = FAULTS;
        let text = format!("# Title\n{begin}\nold\n{end}\nthe end\n");
        let expected = format!("# Title\n{begin}\n\nnew\n\n{end}\nthe end\n");
        assert_eq!(Some(expected), FAULTS.replaced(&text, "new\n"));
        assert_eq!(None, MEASURED.replaced(&text, "new"));
    }
}
