//! Compares what clients were told with what is there. Pure: what is there was read before.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::history::{Attempt, Outcome, Sighting};
use crate::sight::name;

/// Of a fault that has hit many rows only so many are told one by one.
const TOLD_MAX: usize = 20;

/// A row as a server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Who wrote it.
    pub writer: u32,
    /// Which of its attempts it was.
    pub sequence: u32,
    /// The epoch that was published where it was executed.
    pub epoch: u64,
    /// The server that executed it, 0 or 1.
    pub server: usize,
}

/// All that is known.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// Each writer's attempts, from its first one on.
    pub attempts: &'a [Vec<Attempt>],
    /// Only those of this round, and only rows of it were read.
    pub round: Option<u32>,
    /// What mysql-1 and mysql-2 have.
    pub rows: [&'a [Row]; 2],
    /// Who was seen as primary of which epoch, and since when.
    pub sightings: &'a BTreeMap<u64, Vec<Sighting>>,
    /// A person has accepted that what was acknowledged later than this, until then, may be lost.
    pub accepted: Option<(Duration, Duration)>,
}

/// What the judge has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Writes that were tried.
    pub attempts: usize,
    /// Of them those that were acknowledged.
    pub acknowledged: usize,
    /// Those of which nobody knows.
    pub unknown: usize,
    /// Of the unknown those that are there.
    pub unknown_and_there: usize,
    /// Acknowledged ones that are gone, as a person has accepted.
    pub accepted_losses: usize,
    /// Acknowledged ones that are not on both servers.
    pub lost: usize,
    /// How many things are wrong, those that are lost included.
    pub wrong: usize,
    /// The first of them, in words.
    pub told: Vec<String>,
}

impl Verdict {
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} attempts, {} acknowledged, {} unknown of which {} are there, {} lost",
            self.attempts, self.acknowledged, self.unknown, self.unknown_and_there, self.lost
        )?;
        if self.accepted_losses > 0 {
            write!(f, ", {} lost as was accepted", self.accepted_losses)?;
        }
        if self.wrong > self.told.len() {
            write!(f, "; {} things are wrong, the first of them:", self.wrong)?;
        }
        self.told
            .iter()
            .try_for_each(|told| write!(f, "\n  {told}"))
    }
}

/// How often a row is on each server, and one of its copies.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    times: [u32; 2],
    row: Option<Row>,
}

/// Judges.
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for (epoch, of_epoch) in evidence.sightings {
        if of_epoch.len() > 1 {
            verdict.wrong(|| format!("epoch {epoch} has two primaries: {of_epoch:?}"));
        }
    }
    let found = find(evidence, &mut verdict);
    one_server_an_epoch(evidence, &found, &mut verdict);
    for (writer, attempts) in evidence.attempts.iter().enumerate() {
        for (sequence, attempt) in attempts.iter().enumerate() {
            if evidence.round.is_none_or(|round| round == attempt.round) {
                let one = Judged {
                    writer,
                    sequence,
                    attempt,
                    found: found[writer][sequence],
                };
                one.judge(evidence, &mut verdict);
            }
        }
    }
    verdict
}

/// Finds each attempt's row on both servers, and rows that nobody has tried to write.
fn find(evidence: &Evidence<'_>, verdict: &mut Verdict) -> Vec<Vec<Found>> {
    let nothing = |attempts: &Vec<Attempt>| vec![Found::default(); attempts.len()];
    let mut found: Vec<Vec<Found>> = evidence.attempts.iter().map(nothing).collect();
    for (server, rows) in evidence.rows.iter().enumerate() {
        for row in *rows {
            let place = found
                .get_mut(row.writer as usize)
                .and_then(|of_writer| of_writer.get_mut(row.sequence as usize));
            let Some(place) = place else {
                verdict.wrong(|| format!("{} has a row that nobody wrote: {row:?}", name(server)));
                continue;
            };
            place.times[server] += 1;
            match place.row {
                Some(other) if other != *row => {
                    verdict.wrong(|| format!("the servers differ: {other:?} and {row:?}"));
                }
                _ => place.row = Some(*row),
            }
        }
    }
    found
}

/// In one epoch one server alone has acknowledged, whether or not somebody saw the epoch published: a short one may lie between two looks.
fn one_server_an_epoch(evidence: &Evidence<'_>, found: &[Vec<Found>], verdict: &mut Verdict) {
    let mut servers: BTreeMap<u64, usize> = BTreeMap::new();
    let attempts = evidence.attempts.iter().flatten();
    for (attempt, found) in attempts.zip(found.iter().flatten()) {
        let acknowledged = attempt.outcome == Outcome::Acknowledged;
        let Some(row) = found.row.filter(|_| acknowledged) else {
            continue;
        };
        let first = *servers.entry(row.epoch).or_insert(row.server);
        if first != row.server {
            verdict.wrong(|| {
                format!(
                    "two servers acknowledged in epoch {}, {} and {}: {row:?}",
                    row.epoch,
                    name(first),
                    name(row.server)
                )
            });
        }
    }
}

struct Judged<'a> {
    writer: usize,
    sequence: usize,
    attempt: &'a Attempt,
    found: Found,
}

impl Judged<'_> {
    fn judge(&self, evidence: &Evidence<'_>, verdict: &mut Verdict) {
        let [one, two] = self.found.times;
        verdict.attempts += 1;
        match self.attempt.outcome {
            Outcome::Acknowledged => {
                verdict.acknowledged += 1;
                self.is_there(evidence, verdict);
            }
            Outcome::Unknown => {
                verdict.unknown += 1;
                verdict.unknown_and_there += usize::from(one + two > 0);
            }
            Outcome::Refused if one + two > 0 => {
                verdict.wrong(|| format!("refused, but there: {self}"));
            }
            Outcome::Refused => {}
        }
        if one.max(two) > 1 {
            verdict.wrong(|| format!("there more than once: {self}"));
        }
        if one != two && self.attempt.outcome != Outcome::Acknowledged {
            verdict.wrong(|| format!("on one server only: {self}"));
        }
        if let Some(row) = self.found.row
            && self.attempt.outcome == Outcome::Acknowledged
        {
            self.came_from_the_primary(row, evidence.sightings, verdict);
        }
    }

    fn is_there(&self, evidence: &Evidence<'_>, verdict: &mut Verdict) {
        let [one, two] = self.found.times;
        let accepted = evidence
            .accepted
            .is_some_and(|(from, to)| from < self.attempt.ended && self.attempt.began < to);
        if one + two == 0 && accepted {
            verdict.accepted_losses += 1;
        } else if one == 0 || two == 0 {
            verdict.lost += 1;
            verdict.wrong(|| format!("acknowledged, and lost: {self}"));
        }
    }

    /// Nobody but the primary of the epoch has acknowledged; and once an epoch is published, nobody of an older one.
    fn came_from_the_primary(
        &self,
        row: Row,
        sightings: &BTreeMap<u64, Vec<Sighting>>,
        verdict: &mut Verdict,
    ) {
        let server = name(row.server);
        let named =
            |of_epoch: &[Sighting]| of_epoch.iter().any(|sighting| sighting.primary == server);
        let own = sightings.get(&row.epoch).map_or(&[][..], Vec::as_slice);
        if !own.is_empty() && !named(own) {
            verdict.wrong(|| format!("acknowledged by {server}, which was not primary: {self}"));
        }
        let published = |of_epoch: &[Sighting]| {
            of_epoch
                .iter()
                .any(|sighting| sighting.at < self.attempt.began)
        };
        let newest = sightings
            .iter()
            .rev()
            .find(|(_, of_epoch)| published(of_epoch));
        if let Some((epoch, of_epoch)) = newest
            && *epoch > row.epoch
            && !named(of_epoch)
        {
            verdict.wrong(|| {
                format!(
                    "acknowledged by {server} in epoch {}, and begun when epoch {epoch} was published ({of_epoch:?}): {self}",
                    row.epoch
                )
            });
        }
    }
}

impl fmt::Display for Judged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "writer {}, its attempt {}: {:?}, {:?}",
            self.writer, self.sequence, self.attempt, self.found
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn attempt(began: u64, outcome: Outcome) -> Attempt {
        Attempt {
            round: 0,
            seen: 1,
            to: 0,
            began: ms(began),
            ended: ms(began + 1),
            outcome,
        }
    }

    fn row(sequence: u32, epoch: u64, server: usize) -> Row {
        Row {
            writer: 0,
            sequence,
            epoch,
            server,
        }
    }

    fn seen(sightings: &[(u64, u64, &str)]) -> BTreeMap<u64, Vec<Sighting>> {
        let mut seen: BTreeMap<u64, Vec<Sighting>> = BTreeMap::new();
        for (epoch, at, primary) in sightings {
            seen.entry(*epoch).or_default().push(Sighting {
                at: ms(*at),
                primary: (*primary).to_owned(),
            });
        }
        seen
    }

    /// Three attempts of one writer, at 10, 20 and 30 ms: acknowledged, unknown, refused.
    fn verdict(rows: [&[Row]; 2], sightings: &[(u64, u64, &str)]) -> Verdict {
        let outcomes = [Outcome::Acknowledged, Outcome::Unknown, Outcome::Refused];
        let attempts = (1..).zip(outcomes);
        let attempts: Vec<_> = attempts
            .map(|(number, outcome)| attempt(10 * number, outcome))
            .collect();
        judge(&Evidence {
            attempts: &[attempts],
            round: None,
            rows,
            sightings: &seen(sightings),
            accepted: None,
        })
    }

    const EPOCH_1: (u64, u64, &str) = (1, 0, "mysql-1");

    #[test]
    fn what_was_acknowledged_is_on_both_servers_and_what_is_unknown_may_be() {
        for rows in [&[row(0, 1, 0)][..], &[row(0, 1, 0), row(1, 1, 0)]] {
            let verdict = verdict([rows, rows], &[EPOCH_1]);
            assert_eq!((0, 0), (verdict.wrong, verdict.lost), "{verdict}");
            assert_eq!(
                (3, 1, 1),
                (verdict.attempts, verdict.acknowledged, verdict.unknown)
            );
        }
    }

    #[test]
    fn a_lost_row_is_found_on_either_server() {
        let there = [row(0, 1, 0)];
        for rows in [[&[][..], &there], [&there, &[]], [&[], &[]]] {
            let verdict = verdict(rows, &[EPOCH_1]);
            assert_eq!(1, verdict.lost, "{verdict}");
            assert!(verdict.to_string().contains("acknowledged, and lost"));
        }
    }

    #[test]
    fn a_row_twice_an_invented_one_and_a_refused_one_are_wrong() {
        let rows = |more: Row| [row(0, 1, 0), more];
        for (more, expected) in [
            (row(0, 1, 0), "more than once"),
            (row(3, 1, 0), "nobody wrote"),
            (row(2, 1, 0), "refused, but there"),
        ] {
            let rows = rows(more);
            let verdict = verdict([&rows, &rows], &[EPOCH_1]);
            assert!(verdict.to_string().contains(expected), "{verdict}");
        }
    }

    #[test]
    fn servers_that_differ_are_wrong() {
        let unknown = [row(0, 1, 0), row(1, 1, 0)];
        let verdict_of = verdict([&unknown[..1], &unknown], &[EPOCH_1]);
        assert!(verdict_of.to_string().contains("on one server only"));
        let verdict_of = verdict([&[row(0, 1, 0)], &[row(0, 2, 0)]], &[EPOCH_1]);
        assert!(verdict_of.to_string().contains("differ"));
    }

    #[test]
    fn an_acknowledgement_of_one_that_was_not_primary_is_wrong() {
        let rows = [row(0, 1, 1)];
        let verdict_of = verdict([&rows, &rows], &[EPOCH_1]);
        assert!(verdict_of.to_string().contains("was not primary"));
        let both = [EPOCH_1, (1, 5, "mysql-2")];
        assert!(
            verdict([&rows, &rows], &both)
                .to_string()
                .contains("two primaries")
        );
    }

    #[test]
    fn two_servers_that_acknowledge_in_an_epoch_that_nobody_saw_are_wrong() {
        let attempts = [10, 20].map(|began| attempt(began, Outcome::Acknowledged));
        for (second, wrong) in [(0, 0), (1, 1)] {
            let rows = [row(0, 2, 0), row(1, 2, second)];
            let verdict = judge(&Evidence {
                attempts: &[attempts.to_vec()],
                round: None,
                rows: [&rows, &rows],
                sightings: &seen(&[EPOCH_1]),
                accepted: None,
            });
            assert_eq!(wrong, verdict.wrong, "{verdict}");
            assert_eq!(
                wrong > 0,
                verdict.to_string().contains("two servers acknowledged")
            );
        }
    }

    #[test]
    fn an_old_primary_may_acknowledge_what_was_begun_before_the_new_one_was_published_only() {
        let rows = [row(0, 1, 0)];
        let later = verdict([&rows, &rows], &[EPOCH_1, (2, 11, "mysql-2")]);
        assert_eq!(0, later.wrong, "{later}");
        let before = verdict([&rows, &rows], &[EPOCH_1, (2, 9, "mysql-2")]);
        assert_eq!(1, before.wrong, "{before}");
        let the_same = verdict([&rows, &rows], &[EPOCH_1, (2, 9, "mysql-1")]);
        assert_eq!(0, the_same.wrong, "{the_same}");
    }

    #[test]
    fn what_a_person_has_accepted_may_be_lost_and_no_more() {
        let attempts = [10, 20, 30].map(|began| attempt(began, Outcome::Acknowledged));
        let verdict = judge(&Evidence {
            attempts: &[attempts.to_vec()],
            round: None,
            rows: [&[row(2, 1, 0)]; 2],
            sightings: &seen(&[EPOCH_1]),
            accepted: Some((ms(15), ms(25))),
        });
        assert_eq!((1, 1), (verdict.accepted_losses, verdict.lost), "{verdict}");
    }
}
