//! The figures of all rounds, as Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use harness::Table;

use crate::fault::{Done, Fault};
use crate::fault_loop::Options;
use crate::history::Sighting;
use crate::judge::Verdict;

/// What a round has come to.
#[derive(Clone, Debug)]
pub(crate) struct RoundFigures {
    pub(crate) done: Vec<Done>,
    /// The longest time without an acknowledged write, from the first fault until the pair was whole.
    pub(crate) gap: Duration,
    /// From the end of the faults until the pair was whole.
    pub(crate) whole_after: Duration,
    pub(crate) verdict: Verdict,
}

impl fmt::Display for RoundFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for done in &self.done {
            write!(f, "{} ({}); ", done.fault, done.note)?;
        }
        write!(
            f,
            "longest time without an acknowledged write {}, whole {} after the last fault; {}",
            seconds(self.gap),
            seconds(self.whole_after),
            self.verdict
        )
    }
}

#[derive(Debug)]
pub(crate) struct Report {
    options: Options,
    in_memory: bool,
    rounds: Vec<RoundFigures>,
    verdict: Verdict,
    changes: usize,
}

impl Report {
    pub(crate) fn begin(options: Options, in_memory: bool) -> Report {
        Report {
            options,
            in_memory,
            rounds: Vec::new(),
            verdict: Verdict::default(),
            changes: 0,
        }
    }

    pub(crate) fn add(&mut self, round: RoundFigures) {
        self.rounds.push(round);
    }

    pub(crate) fn end(&mut self, verdict: &Verdict, sightings: &BTreeMap<u64, Vec<Sighting>>) {
        self.verdict = verdict.clone();
        self.changes = changes(sightings);
    }

    pub(crate) fn to_text(&self) -> String {
        let happened = self.number_of(|_| true);
        let switchovers = self.number_of(|done| done.fault == Fault::Switchover);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let verdict = &self.verdict;
        let mut text = String::new();
        let _ = writeln!(text, "- Command: `{}`", self.options.command());
        let _ = writeln!(
            text,
            "- Machine: {cores} cores, which servers, arbiter and clients share; data {}",
            if self.in_memory {
                "in memory"
            } else {
                "on a disk"
            }
        );
        let _ = writeln!(
            text,
            "- Rounds: {}; faults: {} tried, {happened} of them happened; changes of the primary: {}, {switchovers} of them by command",
            self.rounds.len(),
            self.rounds
                .iter()
                .map(|round| round.done.len())
                .sum::<usize>(),
            self.changes,
        );
        let _ = writeln!(
            text,
            "- Writes: {} attempts, {} acknowledged, {} of unknown outcome of which {} are there",
            verdict.attempts, verdict.acknowledged, verdict.unknown, verdict.unknown_and_there
        );
        let _ = writeln!(text, "- Acknowledged and lost: **{}**\n", verdict.lost);
        text += &self.table();
        text
    }

    /// A round with several faults says nothing about one of them, so those have a line of their own. One whose only fault has not happened
    /// says nothing at all.
    fn table(&self) -> String {
        let mut faults: BTreeMap<String, usize> = BTreeMap::new();
        let mut alone: BTreeMap<String, Vec<&RoundFigures>> = BTreeMap::new();
        let mut several = Vec::new();
        for round in &self.rounds {
            for done in &round.done {
                *faults.entry(done.fault.kind()).or_default() += usize::from(done.happened);
            }
            match &round.done[..] {
                [one] if one.happened => alone.entry(one.fault.kind()).or_default().push(round),
                [_] => {}
                _ => several.push(round),
            }
        }
        let head = [
            "fault",
            "times",
            "alone",
            "s without a write: median",
            "longest",
            "s until whole: median",
            "longest",
        ];
        let mut table = Table::new(head.map(str::to_owned));
        for (kind, times) in faults {
            let rounds = alone.remove(&kind).unwrap_or_default();
            table.row(line(kind, times.to_string(), &rounds));
        }
        if !several.is_empty() {
            table.row(line("several at once".to_owned(), String::new(), &several));
        }
        table.to_text()
    }

    /// How many such faults have happened.
    fn number_of(&self, wanted: impl Fn(&Done) -> bool) -> usize {
        let all = self.rounds.iter().flat_map(|round| &round.done);
        all.filter(|done| done.happened && wanted(done)).count()
    }
}

fn line(kind: String, times: String, rounds: &[&RoundFigures]) -> [String; 7] {
    let [median_gap, longest_gap] = spread(rounds.iter().map(|round| round.gap));
    let [median_whole, longest_whole] = spread(rounds.iter().map(|round| round.whole_after));
    [
        kind,
        times,
        rounds.len().to_string(),
        median_gap,
        longest_gap,
        median_whole,
        longest_whole,
    ]
}

/// The median and the longest.
fn spread(times: impl Iterator<Item = Duration>) -> [String; 2] {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let told = |time: Option<Duration>| time.map_or_else(String::new, number);
    [told(median(&times)), told(times.last().copied())]
}

/// Of an even number of times the mean of the two in the middle.
fn median(sorted: &[Duration]) -> Option<Duration> {
    let lower = sorted.len().checked_sub(1)? / 2;
    let upper = sorted.len() / 2;
    Some((sorted[lower] + sorted[upper]) / 2)
}

fn number(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn seconds(time: Duration) -> String {
    format!("{} s", number(time))
}

/// How often the primary became another one.
fn changes(sightings: &BTreeMap<u64, Vec<Sighting>>) -> usize {
    let primaries: Vec<&String> = sightings
        .values()
        .filter_map(|of_epoch| of_epoch.first())
        .map(|sighting| &sighting.primary)
        .collect();
    primaries.windows(2).filter(|two| two[0] != two[1]).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Role;

    fn round(gap_ms: u64, faults: &[(Fault, bool)]) -> RoundFigures {
        let done = |(fault, happened): &(Fault, bool)| Done {
            fault: fault.clone(),
            note: String::new(),
            happened: *happened,
            began: Duration::ZERO,
            ended: Duration::ZERO,
        };
        RoundFigures {
            done: faults.iter().map(done).collect(),
            gap: Duration::from_millis(gap_ms),
            whole_after: Duration::from_secs(1),
            verdict: Verdict::default(),
        }
    }

    fn report(rounds: impl IntoIterator<Item = RoundFigures>) -> String {
        let options = Options {
            rounds: 3,
            seed: 7,
            from: 1,
        };
        let mut report = Report::begin(options, true);
        rounds.into_iter().for_each(|round| report.add(round));
        report.to_text()
    }

    /// The first cells of the table's lines, without its head.
    fn lines(text: &str) -> Vec<Vec<String>> {
        let cells = |line: &str| -> Vec<String> {
            let cells = line.split('|').skip(1).take(5);
            cells.map(|cell| cell.trim().to_owned()).collect()
        };
        text.lines()
            .filter(|line| line.starts_with('|'))
            .skip(2)
            .map(cells)
            .collect()
    }

    fn kill() -> Fault {
        Fault::Kill(Role::Primary, Duration::from_secs(1))
    }

    #[test]
    fn a_fault_alone_has_a_line_and_several_share_one() {
        let text = report([
            round(1000, &[(kill(), true)]),
            round(3000, &[(kill(), true)]),
            round(9000, &[(kill(), true), (Fault::Switchover, true)]),
        ]);
        let lines = lines(&text);
        assert_eq!(["primary killed", "3", "2", "2.00", "3.00"], lines[0][..]);
        assert_eq!(["several at once", "", "1", "9.00", "9.00"], lines[2][..]);
        assert!(text.contains("./stack drill loop --rounds 3 --seed 7`"));
        assert!(text.contains("faults: 4 tried, 4 of them happened"));
        assert!(text.contains("1 of them by command"));
    }

    #[test]
    fn a_fault_that_has_not_happened_is_counted_as_tried_alone() {
        let text = report([
            round(1000, &[(kill(), true)]),
            round(3000, &[(kill(), false)]),
            round(2000, &[(Fault::Switchover, false)]),
        ]);
        let lines = lines(&text);
        assert_eq!(["primary killed", "1", "1", "1.00", "1.00"], lines[0][..]);
        assert_eq!(["switchover", "0", "0", "", ""], lines[1][..]);
        assert!(text.contains("faults: 3 tried, 1 of them happened"));
        assert!(text.contains(" 0 of them by command"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        let seconds = |all: &[u64]| -> Vec<Duration> {
            all.iter().copied().map(Duration::from_secs).collect()
        };
        assert_eq!(None, median(&[]));
        let odd = median(&seconds(&[1, 2, 9]));
        assert_eq!(Some(Duration::from_secs(2)), odd);
        let even = median(&seconds(&[1, 2, 3, 9]));
        assert_eq!(Some(Duration::from_millis(2500)), even);
    }
}
