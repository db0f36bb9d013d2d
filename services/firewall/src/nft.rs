//! Running nft: loading, listing, reading the counters.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::Deserialize;

use crate::{report::Counted, ruleset::TABLE};

/// The chains, each of which has to drop what no rule accepts.
const CHAINS: [&str; 3] = ["input", "output", "forward"];

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program cannot be run.
    #[error("cannot run {}: {source}; the image needs nftables", program.display())]
    Absent {
        /// Which.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It refuses.
    #[error("nft {what}: {said}")]
    Refused {
        /// What it was asked.
        what: String,
        /// Its own words.
        said: String,
    },
    /// Its answer cannot be read.
    #[error("nft {what} prints what cannot be read: {reason}")]
    Unreadable {
        /// What it was asked.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A chain is missing, or lets pass what no rule accepts.
    #[error("the chain {0} does not drop by default")]
    Open(&'static str),
}

/// The program.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
}

impl Nft {
    /// This program.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
        }
    }

    /// Replaces the rules by these, in one step, and returns them as the kernel lists them.
    ///
    /// # Errors
    /// When they are refused, and what was there before stays; or when what is there then would not drop by default.
    pub fn load(&self, rules: &str) -> Result<String, NftError> {
        self.run(&["-f", "-"], Some(rules))?;
        self.list()
    }

    /// The rules as they are, without what changes by itself (`-s`: counts, `-t`: the elements of sets).
    ///
    /// # Errors
    /// When there are none, or they would not drop by default.
    pub fn list(&self) -> Result<String, NftError> {
        let listing = self.run(&["-s", "-t", "list", "table", "inet", TABLE], None)?;
        drops_by_default(&listing)?;
        Ok(listing)
    }

    /// What the named counters have counted.
    ///
    /// # Errors
    /// When there are none.
    pub fn counters(&self) -> Result<BTreeMap<String, Counted>, NftError> {
        let arguments = ["-j", "list", "counters", "table", "inet", TABLE];
        let text = self.run(&arguments, None)?;
        read_counters(&text).map_err(|error| NftError::Unreadable {
            what: arguments.join(" "),
            reason: error.to_string(),
        })
    }

    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String, NftError> {
        let absent = |source| NftError::Absent {
            program: self.program.clone(),
            source,
        };
        let Output {
            status,
            stdout,
            stderr,
        } = self.output(arguments, input).map_err(absent)?;
        if !status.success() {
            return Err(NftError::Refused {
                what: arguments.join(" "),
                said: String::from_utf8_lossy(&stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    fn output(&self, arguments: &[&str], input: Option<&str>) -> io::Result<Output> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            // A program that has ended early says why on its standard error.
            let _ = stdin.write_all(text.as_bytes());
        }
        child.wait_with_output()
    }
}

fn drops_by_default(listing: &str) -> Result<(), NftError> {
    for chain in CHAINS {
        let wanted = format!("type filter hook {chain} priority filter; policy drop;");
        if !listing.lines().any(|line| line.trim() == wanted) {
            return Err(NftError::Open(chain));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    counter: Option<CounterEntry>,
}

#[derive(Deserialize)]
struct CounterEntry {
    name: String,
    packets: u64,
    bytes: u64,
}

fn read_counters(json: &str) -> serde_json::Result<BTreeMap<String, Counted>> {
    let listing: Listing = serde_json::from_str(json)?;
    let counters = listing.nftables.into_iter().filter_map(|e| e.counter);
    Ok(counters
        .map(
            |CounterEntry {
                 name,
                 packets,
                 bytes,
             }| (name, Counted { packets, bytes }),
        )
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_listing() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "x", "json_schema_version": 1}},
            {"counter": {"family": "inet", "name": "in_https", "table": "fw", "handle": 2, "packets": 3, "bytes": 180}}]}"#;
        let counters = read_counters(json).unwrap();
        assert_eq!(counters.len(), 1);
        assert_eq!(
            counters["in_https"],
            Counted {
                packets: 3,
                bytes: 180
            }
        );
        assert!(read_counters("").is_err());
    }

    #[test]
    fn a_chain_that_accepts_by_default_is_named() {
        let line = |chain, policy| {
            format!("\t\ttype filter hook {chain} priority filter; policy {policy};\n")
        };
        let all = |output| {
            [
                line("input", "drop"),
                line("output", output),
                line("forward", "drop"),
            ]
            .concat()
        };
        assert!(drops_by_default(&all("drop")).is_ok());
        let error = drops_by_default(&all("accept")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the chain output does not drop by default"
        );
        assert!(drops_by_default("").is_err());
    }

    #[test]
    fn a_missing_program_says_what_the_image_needs() {
        let error = Nft::new(Path::new("/nowhere/nft")).list().unwrap_err();
        assert!(error.to_string().contains("needs nftables"), "{error}");
    }
}
