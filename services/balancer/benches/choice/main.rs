//! Whom to send to: ways to choose a backend, compared in a simulation. `./stack bench choice`.
//!
//! It measures no time: its figures are the same on every machine, and change only with the code that chooses.

mod comparison;
mod document;
mod marks;
mod plot;
mod report;
mod simulation;
mod table;

use std::process::ExitCode;
use std::{fs, io};

/// The picture that the document shows, beside it.
const PICTURE: &str = "images/choice.svg";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("choice: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let markdown = report::markdown();
    println!("{markdown}");
    let Some(path) = document::asked_for() else {
        return Ok(());
    };
    document::replace(&path, "choice", &markdown)?;
    fs::write(path.with_file_name(PICTURE), report::picture())
}
