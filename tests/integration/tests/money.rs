//! Everything about money stays in a few places, so that a team that wants another product knows what to take out, and that the rest
//! does not need it: docs/make-it-yours.md. Documents may speak of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

/// Where it is. The last is the ring 2 test of what the first does.
const PLACES: &[&str] = &[
    "services/web",
    "migrations",
    "loadtest",
    "docker/prometheus/ledger.yml",
    "tests/e2e/ledger",
    "tests/integration/tests/ledger_api.rs",
    "tests/integration/tests/money.rs",
];

/// What nobody would say who does not mean money. (`account` is not among them: MySQL has some, too; nor `ledger`, the schema's name.)
const WORDS: &[&str] = &[
    "cents",
    "money",
    "/api/accounts",
    "/api/transfers",
    "transfers",
];

/// Neither ours nor source.
const LEFT_OUT: &[&str] = &[
    "target",
    ".git",
    ".holdfast",
    "LICENSE-APACHE",
    "Cargo.lock",
    ".env",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file that could hold some, by its path from the root.
fn files(below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root().join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let is = |place: &&str| path == Path::new(place);
        if LEFT_OUT.iter().any(is) || PLACES.iter().any(is) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_none_or(|extension| extension != "md") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn money_stays_in_its_own_places() -> Result<()> {
    let mut found = Vec::new();
    files(Path::new(""), &mut found)?;
    ensure!(
        found.len() > 100,
        "only {} files were looked at",
        found.len()
    );
    let mut strays = Vec::new();
    for path in found {
        // What is no text has nothing to say.
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            // The list of ring 3's tests names those of a place by that place.
            let names_a_test = lower.trim_start().starts_with("ledger::");
            if !names_a_test && WORDS.iter().any(|word| lower.contains(word)) {
                strays.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    ensure!(
        strays.is_empty(),
        "this is about money, and not in its places:\n{}",
        strays.join("\n")
    );
    for place in PLACES {
        ensure!(root().join(place).exists(), "{place} is not there");
    }
    Ok(())
}
