//! The log of decisions: each that changed something, or was to, with what it was made from. One JSON document a line, in the directory of the
//! state, so that what happened at night can be read in the morning; half of it is thrown away when it is full.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::status::Status;

/// One decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339, UTC.
    pub at: String,
    /// The trace that has its steps with their times; empty where there is none.
    pub trace: String,
    /// What a person had asked for, if it was that.
    pub asked: Option<String>,
    /// The steps, in order; the last one failed if `failure` says so. None where a person has to look at something first.
    pub steps: Vec<String>,
    /// Why the last step was not done.
    pub failure: Option<String>,
    /// All that was known when it was decided.
    pub seen: Status,
}

impl Event {
    /// Nothing is done, for what a person has to look at.
    #[must_use]
    pub fn of_nothing(seen: Status) -> Self {
        Self {
            at: String::new(),
            trace: String::new(),
            asked: None,
            steps: Vec::new(),
            failure: None,
            seen,
        }
    }

    /// For a terminal: a line, and another one for why.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}  epoch {} {}  {}",
            self.at,
            self.seen.epoch,
            self.seen.phase,
            match self.steps.as_slice() {
                [] => "nothing is done".to_owned(),
                steps => steps.join(", "),
            }
        );
        if let Some(asked) = &self.asked {
            let _ = write!(text, "  (asked for: {asked})");
        }
        if let Some(failure) = &self.failure {
            let _ = write!(text, "\n    failed: {failure}");
        }
        for reason in self.seen.waits.iter().chain(&self.seen.refusals) {
            let _ = write!(text, "\n    {reason}");
        }
        text.push('\n');
        text
    }
}

/// The log on disk: the newest part, and the part before it.
#[derive(Clone, Debug)]
pub struct Events {
    directory: PathBuf,
    bytes_max: u64,
}

impl Events {
    /// In this directory, of at most so many bytes.
    #[must_use]
    pub fn new(directory: &Path, bytes_max: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            bytes_max,
        }
    }

    fn newest(&self) -> PathBuf {
        self.directory.join("events")
    }

    fn before(&self) -> PathBuf {
        self.directory.join("events.before")
    }

    /// Adds a decision that was made now. It is not worth waiting for the disk.
    ///
    /// # Errors
    /// As the file system's.
    pub fn add(&self, mut event: Event) -> io::Result<()> {
        event.at = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .map_err(io::Error::other)?;
        let line = serde_json::to_string(&event).map_err(io::Error::other)?;
        let newest = self.newest();
        let length = fs::metadata(&newest).map_or(0, |metadata| metadata.len());
        if length > self.bytes_max / 2 {
            fs::rename(&newest, self.before())?;
        }
        let mut file = File::options().create(true).append(true).open(&newest)?;
        writeln!(file, "{line}")
    }

    /// The last `count` of them, the oldest first. A line that a crash cut off is left out.
    ///
    /// # Errors
    /// As the file system's.
    pub fn last(&self, count: usize) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for path in [self.before(), self.newest()] {
            let file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in BufReader::new(file).lines() {
                events.extend(serde_json::from_str::<Event>(&line?).ok());
            }
        }
        let first = events.len().saturating_sub(count);
        Ok(events.split_off(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(step: &str) -> Event {
        Event {
            at: String::new(),
            trace: "t".to_owned(),
            asked: None,
            steps: vec![step.to_owned()],
            failure: None,
            seen: Status::default(),
        }
    }

    #[test]
    fn the_newest_are_kept_and_a_line_that_was_cut_off_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let events = Events::new(directory.path(), 4_000);
        assert!(events.last(5).unwrap().is_empty());
        for n in 0..100 {
            events.add(event(&n.to_string())).unwrap();
        }
        let size = |path: PathBuf| fs::metadata(path).unwrap().len();
        assert!(size(events.newest()) + size(events.before()) < 6_000);
        let mut file = File::options().append(true).open(events.newest()).unwrap();
        write!(file, "{{\"at\":").unwrap();
        let last: Vec<_> = events.last(3).unwrap();
        let steps: Vec<_> = last.iter().flat_map(|event| &event.steps).collect();
        assert_eq!(steps, ["97", "98", "99"]);
        assert!(last[0].to_text().contains("97"), "{}", last[0].to_text());
    }
}
