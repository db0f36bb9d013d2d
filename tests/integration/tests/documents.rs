//! What the documents name is there: paths, tests, links. Whether their commands print what they show is seen by running them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// What stands between backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| !line.starts_with("    "));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Every file below a directory that has this extension, build outputs aside.
fn files(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            files(&path, extension, found)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_path_that_the_architecture_names_exists() -> Result<()> {
    let architecture = read(&root().join("ARCHITECTURE.md"))?;
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources)?;
    files(&root(), "toml", &mut sources)?;
    let sources: Vec<_> = sources.iter().map(|path| path.to_string_lossy()).collect();
    let mut looked_at = 0;
    for name in quoted(&architecture) {
        let is_path = name.contains('/') || name.ends_with(".rs") || name.ends_with(".toml");
        let is_address = name.starts_with('/') || name.starts_with("./") || name.contains(' ');
        if !is_path || is_address || name.starts_with('.') {
            continue;
        }
        looked_at += 1;
        // In full, or its end where the text has said whose it is.
        let in_full = root().join(name).exists();
        let as_end = format!("/{}", name.trim_end_matches('/'));
        let by_end = sources
            .iter()
            .any(|path| path.ends_with(&as_end) || path.contains(&format!("{as_end}/")));
        ensure!(
            in_full || by_end,
            "ARCHITECTURE.md names `{name}`, which is not there"
        );
    }
    ensure!(looked_at > 40, "only {looked_at} paths were found in it");
    Ok(())
}

#[test]
fn every_test_that_the_invariants_name_exists() -> Result<()> {
    let architecture = read(&root().join("ARCHITECTURE.md"))?;
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources)?;
    let mut functions = BTreeSet::new();
    for source in sources {
        for line in read(&source)?.lines() {
            let declared = line
                .split_once("fn ")
                .and_then(|(_, rest)| rest.split_once('('));
            functions.extend(declared.map(|(name, _)| name.to_owned()));
        }
    }
    let invariants = architecture.lines().filter(|line| {
        let mut cells = line
            .strip_prefix("| ")
            .into_iter()
            .flat_map(|rest| rest.split(" | "));
        cells
            .next()
            .is_some_and(|number| number.parse::<u8>().is_ok())
    });
    let mut looked_at = 0;
    for line in invariants {
        let names = quoted(line).filter(|name| {
            name.contains('_') && !name.contains(['.', '/']) && *name != "super_read_only"
        });
        for name in names {
            looked_at += 1;
            ensure!(functions.contains(name), "there is no test `{name}`");
        }
    }
    ensure!(looked_at > 10, "only {looked_at} tests were found in it");
    Ok(())
}

#[test]
fn every_link_between_the_documents_leads_somewhere() -> Result<()> {
    let mut documents = Vec::new();
    files(&root(), "md", &mut documents)?;
    let mut looked_at = 0;
    for document in documents {
        let text = read(&document)?;
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (link, _) in links {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            looked_at += 1;
            let path = link.split('#').next().unwrap_or(link);
            let target = document.parent().unwrap_or(&document).join(path);
            ensure!(target.exists(), "{} links to {link}", document.display());
        }
    }
    ensure!(looked_at > 10, "only {looked_at} links were found");
    Ok(())
}
