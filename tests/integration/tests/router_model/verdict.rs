//! What a round has come to, for people: a line of figures if all is well, and the story of each item that something is wrong with.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::history::{Did, Event, Outcome};
use crate::judge::Finding;
use crate::world::Trouble;

/// Of how many findings the whole story is told.
const TOLD: usize = 5;
/// How many events of the item before it.
const BEFORE: usize = 40;
/// How long before and after it troubles are of interest.
const AROUND: Duration = Duration::from_secs(8);

pub(crate) struct Verdict {
    pub(crate) events: Vec<Event>,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) found: Vec<Finding>,
}

impl Verdict {
    /// A round in which nothing happened would find nothing.
    pub(crate) fn is_worth_something(&self) -> Result<()> {
        let figures = self.figures();
        let at_least = |name: &str, least: usize| {
            let count = figures.get(name).copied().unwrap_or(0);
            let troubles = self.troubles.iter().map(|trouble| format!("\n  {trouble}"));
            let troubles: String = troubles.collect();
            ensure!(count >= least, "only {count} {name}: {self}{troubles}");
            Ok(())
        };
        at_least("writes acknowledged", 20)?;
        at_least("reads on the replica", 20)?;
        at_least("reads on the primary", 10)
    }

    fn figures(&self) -> BTreeMap<String, usize> {
        let mut figures = BTreeMap::new();
        let mut count = |name: String| *figures.entry(name).or_default() += 1;
        for event in &self.events {
            match &event.did {
                Did::Wrote { outcome, .. } => match outcome {
                    Outcome::Acknowledged => count("writes acknowledged".to_owned()),
                    Outcome::Unknown => count("writes unknown".to_owned()),
                    Outcome::Refused if event.error.is_some() => count("writes refused".to_owned()),
                    Outcome::Refused => count("writes taken back".to_owned()),
                },
                Did::Read { .. } => {
                    let on = event.went.last().and_then(|went| went.split(';').next());
                    count(format!("reads on the {}", on.unwrap_or("?")));
                }
                Did::ReadNothing(_) => count("reads failed".to_owned()),
                Did::Proved(Some(_)) => count("tokens".to_owned()),
                Did::Proved(None) => count("tokens not to be had".to_owned()),
                Did::Began(_) => count("sessions".to_owned()),
            }
        }
        figures.insert("troubles".to_owned(), self.troubles.len());
        let told = |what: &str| {
            self.troubles
                .iter()
                .filter(|trouble| trouble.what.contains(what))
                .count()
        };
        figures.insert(
            "changes of roles".to_owned(),
            told("becomes the primary") - told("could not be closed"),
        );
        figures.insert("servers made anew".to_owned(), told("made anew"));
        figures
    }

    /// The findings, and around each of the first what happened to its item and what was broken then.
    pub(crate) fn story(&self) -> String {
        let mut story = format!("{} findings: {self}\n", self.found.len());
        let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
        for finding in &self.found {
            *kinds.entry(finding.fault).or_default() += 1;
        }
        let _ = writeln!(story, "{kinds:?}");
        // The first of each kind tells most.
        let mut told: Vec<&Finding> = Vec::new();
        for finding in &self.found {
            let of_kind = told
                .iter()
                .filter(|other| other.fault == finding.fault)
                .count();
            if of_kind < TOLD {
                told.push(finding);
                self.tell(finding, of_kind == 0, &mut story);
            }
        }
        story
    }

    fn tell(&self, finding: &Finding, whole: bool, story: &mut String) {
        let _ = writeln!(story, "\n{finding}");
        let place = finding.event.unwrap_or(self.events.len().saturating_sub(1));
        let Some(event) = self.events.get(place).filter(|_| whole) else {
            return;
        };
        let calls: Vec<String> = event
            .calls
            .iter()
            .map(|(call, took)| format!("{call} {took:?}"))
            .collect();
        let _ = writeln!(story, "  its calls: {}", calls.join(", "));
        let _ = writeln!(
            story,
            "  the item, and the session, before it and a little after:"
        );
        let of_it = |other: &&Event| {
            other.session == event.session
                || (finding.item.is_some() && other.item() == finding.item)
                || matches!(other.did, Did::Proved(Some(token)) if self.began_with(event) == Some(token))
        };
        let (before, after) = self.events.split_at(place + 1);
        let mut before: Vec<&Event> = before.iter().filter(of_it).collect();
        before.drain(..before.len().saturating_sub(BEFORE));
        for line in before
            .into_iter()
            .chain(after.iter().filter(of_it).take(BEFORE / 4))
        {
            let _ = writeln!(story, "  {line}");
        }
        let _ = writeln!(story, "  what was broken around it:");
        let (from, to) = (event.began.saturating_sub(AROUND), event.ended + AROUND / 4);
        let around = |trouble: &&Trouble| {
            trouble.began <= to && trouble.ended.is_none_or(|ended| ended >= from)
        };
        for trouble in self.troubles.iter().filter(around) {
            let _ = writeln!(story, "  {trouble}");
        }
    }

    /// The token of an event's session.
    fn began_with(&self, event: &Event) -> Option<u64> {
        self.events.iter().find_map(|other| match other.did {
            Did::Began(token) if other.session == event.session => token,
            _ => None,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<String> = self
            .figures()
            .into_iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        write!(f, "{}", figures.join(", "))?;
        let slowest = self
            .events
            .iter()
            .flat_map(|event| &event.calls)
            .max_by_key(|(_, took)| *took);
        if let Some((call, took)) = slowest {
            write!(f, "; slowest call: {call}, {took:?}")?;
        }
        let mut errors: BTreeMap<String, usize> = BTreeMap::new();
        for error in self.events.iter().filter_map(|event| event.error.as_ref()) {
            let kind: Vec<&str> = error.splitn(3, ": ").take(2).collect();
            *errors.entry(kind.join(": ")).or_default() += 1;
        }
        write!(f, "; errors: {errors:?}")
    }
}
