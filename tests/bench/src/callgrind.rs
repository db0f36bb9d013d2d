//! What callgrind writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The instructions that a file tells of.
pub(crate) fn instructions(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    totals(&text).with_context(|| format!("read {}", path.display()))
}

/// What the files of all processes come to.
pub(crate) fn instructions_of_all(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        sum += instructions(&entry?.path())?;
    }
    ensure!(sum > 0, "callgrind has written nothing");
    Ok(sum)
}

/// The totals of a file's parts; a process that ended before it ran anything has none.
fn totals(text: &str) -> Result<u64> {
    let totals = text
        .lines()
        .filter_map(|line| line.strip_prefix("totals: "));
    totals.map(|total| Ok(total.trim().parse::<u64>()?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_all_parts_are_added() {
        assert_eq!(
            42,
            totals("events: Ir\ntotals: 40\nfn=x\ntotals: 2\n").unwrap()
        );
        assert!(totals("totals: many\n").is_err());
    }
}
