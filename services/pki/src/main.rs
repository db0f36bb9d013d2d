//! The program `pki`; everything is in the library beside it.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Holdfast's private certificate authority
#[derive(Parser)]
enum Command {
    /// Write certificates, keys and passwords for every consumer; keep what is good, renew what has fewer than 30 days left
    Issue {
        /// The directory of the authority's key and of all secrets
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The directory below which every consumer has its own
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// What the edge is called besides localhost: DNS names and IP addresses, separated by commas
        #[arg(
            long,
            value_name = "NAMES",
            value_delimiter = ',',
            env = "HOLDFAST_NAMES"
        )]
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    let Command::Issue { ca, out, names } = Command::parse();
    let names: Vec<String> = names
        .into_iter()
        .map(|n| n.trim().to_owned())
        .filter(|n| !n.is_empty())
        .collect();
    match pki::issue_all(&ca, &out, &names) {
        Ok(outcomes) => {
            for outcome in outcomes {
                let what = outcome
                    .written
                    .map_or_else(|| "kept".to_owned(), |why| format!("written ({why})"));
                let days = outcome.days_left;
                println!("pki: {}: {what}, good for {days} days", outcome.service);
                if !outcome.owned {
                    println!(
                        "pki: {}: not run as root, so the files keep this user",
                        outcome.service
                    );
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pki: {error}");
            ExitCode::FAILURE
        }
    }
}
