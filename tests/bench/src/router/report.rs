//! What was measured, and the tables that tell it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Extent;
use super::query::Query;
use super::round_trips::RoundTrips;
use super::scene::{CONNECTIONS_MAX, Scene};
use super::traffic::{self, Cell, Sample};
use super::two_servers::{self, Case};
use super::way::Way;
use crate::cores::Cores;
use crate::invocation;
use crate::machine;
use crate::median::median;
use harness::Table;

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    ways: Vec<Way>,
    preamble: String,
    round_trips: BTreeMap<Query, BTreeMap<Way, RoundTrips>>,
    traffic: traffic::Outcomes,
    two_servers: two_servers::Outcomes,
    instructions: BTreeMap<Query, BTreeMap<Way, f64>>,
    failures: Vec<String>,
}

impl Report {
    pub(super) async fn begin(
        scene: &Scene,
        cores: &Cores,
        extent: Extent,
        ways: &[Way],
    ) -> Result<Report> {
        let preamble = format!(
            "- Command: `{}`\n- Machine: {}\n- Programs: Holdfast {}, {}\n- Extent: {} of {} s in each cell, after {} s of warm-up; up to {CONNECTIONS_MAX} connections to each server\n",
            invocation::command(),
            machine::describe(cores)?,
            invocation::revision().await,
            scene.versions.join(", "),
            match extent.rounds {
                1 => "one round".to_owned(),
                rounds => format!("{rounds} rounds"),
            },
            extent.length.as_secs_f64(),
            extent.warm_up.as_secs_f64(),
        );
        Ok(Report {
            ways: ways.to_owned(),
            preamble,
            round_trips: BTreeMap::new(),
            traffic: BTreeMap::new(),
            two_servers: BTreeMap::new(),
            instructions: BTreeMap::new(),
            failures: Vec::new(),
        })
    }

    /// Notes what must not be, and goes on.
    pub(super) fn fail(&mut self, what: &str, error: &anyhow::Error) {
        let failure = format!("{what}: {error:#}");
        eprintln!("bench: {failure}");
        self.failures.push(failure);
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    pub(super) fn round_trips(&mut self, way: Way, counted: BTreeMap<Query, RoundTrips>) {
        for (query, counted) in counted {
            self.round_trips
                .entry(query)
                .or_default()
                .insert(way, counted);
        }
    }

    pub(super) fn traffic(&mut self, cell: Cell, way: Way, sample: Sample) {
        let cell = self.traffic.entry(cell).or_default();
        cell.entry(way).or_default().push(sample);
    }

    pub(super) fn two_servers(&mut self, case: Case, sample: two_servers::Sample) {
        self.two_servers.entry(case).or_default().push(sample);
    }

    pub(super) fn instructions(&mut self, way: Way, query: Query, each: f64) {
        eprintln!(
            "{}, {way}: {each:.0} instructions of the client",
            query.name()
        );
        self.instructions
            .entry(query)
            .or_default()
            .insert(way, each);
    }

    /// Everything, as Markdown.
    pub(super) fn to_text(&self) -> String {
        let mut text = self.preamble.clone();
        let mut part = |title: &str, table: &Table| {
            if !table.is_empty() {
                text += &format!("\n{title}\n\n{}", table.to_text());
            }
        };
        part(
            "Round trips per query of the client, counted on the wire by a relay, and ours to those of others.",
            &self.trips(),
        );
        part(
            "What the server that does it is told per query.",
            &self.commands(),
        );
        part(
            "Queries a second, and ours to those of others: the median of the rounds' ratios, with the smallest and the largest. More is better.",
            &self.rates(),
        );
        part(
            "Time to an answer: median / 99th percentile, in µs.",
            &self.latency(),
        );
        part(
            "CPU time of the client per query in µs, and ours to that of others. Less is better.",
            &self.client(),
        );
        part(
            "CPU time per query of everything that works for it in µs: the client, MySQL Router, and both servers, replicating included.",
            &self.everything(),
        );
        part(
            "Instructions of the client per query, by callgrind, without the kernel's, and ours to those of others.",
            &self.counts(),
        );
        part(
            "Point selects by 12 tasks through `&Router`, with 8 connections to each server: the replica alone, and both.",
            &self.servers(),
        );
        if !self.failures.is_empty() {
            text += "\n**Not all went well**, so do not trust these figures:\n\n";
            for failure in &self.failures {
                let first = failure.lines().next().unwrap_or_default();
                text += &format!("- {first}\n");
            }
        }
        text
    }

    fn head(&self, first: &str, ratios: bool) -> Table {
        let mut head = vec![first.to_owned()];
        head.extend(self.ways.iter().map(|way| code(*way)));
        if ratios {
            head.extend(self.others().map(|way| format!("to {}", code(way))));
        }
        Table::new(head)
    }

    /// Whom ours is held against.
    fn others(&self) -> impl Iterator<Item = Way> {
        let ours = self.ways.contains(&Way::Router);
        let others = self.ways.iter().copied();
        others.filter(move |way| ours && *way != Way::Router)
    }

    fn row(&self, name: String, cell: impl Fn(Way) -> Option<String>) -> Vec<String> {
        let cells = self.ways.iter().map(|way| cell(*way));
        std::iter::once(name).chain(cells.map(or_dash)).collect()
    }

    /// A row of one value each, and ratios.
    fn single(&self, name: &str, values: &BTreeMap<Way, f64>, digits: usize) -> Vec<String> {
        let mut row = self.row(name.to_owned(), |way| {
            Some(format!("{:.digits$}", values.get(&way)?))
        });
        row.extend(self.others().map(|other| {
            let ratio = || Some(values.get(&Way::Router)? / values.get(&other)?);
            or_dash(ratio().map(|ratio| format!("{ratio:.2}")))
        }));
        row
    }

    /// A row of medians, and ratios round by round, for a round's turns are close together.
    fn medians(
        &self,
        cell: Cell,
        samples: &BTreeMap<Way, Vec<Sample>>,
        digits: usize,
        value: impl Fn(&Sample) -> f64,
    ) -> Vec<String> {
        let mut row = self.row(cell.to_string(), |way| {
            let middle = median(samples.get(&way)?.iter().map(&value))?;
            Some(format!("{middle:.digits$}"))
        });
        row.extend(self.others().map(|other| {
            let pairs = || {
                let ours = samples.get(&Way::Router)?.iter().map(&value);
                let theirs = samples.get(&other)?.iter().map(&value);
                ratios(ours.zip(theirs).map(|(ours, theirs)| ours / theirs))
            };
            or_dash(pairs())
        }));
        row
    }

    fn trips(&self) -> Table {
        let mut table = self.head("query", true);
        for (query, ways) in &self.round_trips {
            let each = ways.iter().map(|(way, trips)| (*way, trips.of_client));
            table.row(self.single(query.name(), &each.collect(), 2));
        }
        table
    }

    fn commands(&self) -> Table {
        let mut table = self.head("query", false);
        for (query, ways) in &self.round_trips {
            table.row(self.row(query.name().to_owned(), |way| {
                let kinds = ways.get(&way)?.at_server.iter();
                let kinds: Vec<String> = kinds
                    .map(|(kind, count)| format!("{count:.2} {kind}"))
                    .collect();
                Some(kinds.join(" + "))
            }));
        }
        table
    }

    fn rates(&self) -> Table {
        let mut table = self.head("query", true);
        for (cell, samples) in &self.traffic {
            table.row(self.medians(*cell, samples, 0, |sample| sample.per_second));
        }
        table
    }

    fn latency(&self) -> Table {
        let mut table = self.head("query", false);
        for (cell, samples) in &self.traffic {
            table.row(self.row(cell.to_string(), |way| {
                let samples = samples.get(&way)?;
                Some(format!(
                    "{:.0} / {:.0}",
                    median(samples.iter().map(|sample| sample.median))?,
                    median(samples.iter().map(|sample| sample.p99))?
                ))
            }));
        }
        table
    }

    fn client(&self) -> Table {
        let mut table = self.head("query", true);
        for (cell, samples) in &self.traffic {
            table.row(self.medians(*cell, samples, 1, |sample| sample.client));
        }
        table
    }

    fn everything(&self) -> Table {
        let mut table = self.head("query", false);
        for (cell, samples) in &self.traffic {
            table.row(self.row(cell.to_string(), |way| {
                let samples = samples.get(&way)?;
                let middle = |value: fn(&Sample) -> f64| median(samples.iter().map(value));
                let (client, proxy) = (middle(|s| s.client)?, middle(|s| s.proxy)?);
                let servers = middle(|s| s.servers)?;
                let proxy = if way.has_proxy() {
                    format!("{proxy:.0} + ")
                } else {
                    String::new()
                };
                Some(format!("{client:.0} + {proxy}{servers:.0}"))
            }));
        }
        table
    }

    fn counts(&self) -> Table {
        let mut table = self.head("query", true);
        for (query, ways) in &self.instructions {
            table.row(self.single(query.name(), ways, 0));
        }
        table
    }

    fn servers(&self) -> Table {
        let head = [
            "each server has",
            "one server",
            "two servers",
            "two to one",
            "of these the primary's",
            "p99, one server",
            "p99, two",
        ];
        let mut table = Table::new(head.map(str::to_owned));
        for rationed in [false, true] {
            let of = |servers| self.two_servers.get(&Case { rationed, servers });
            let (Some(one), Some(two)) = (of(1), of(2)) else {
                continue;
            };
            let name = if rationed {
                "a quarter of a core"
            } else {
                "what is there: two cores for all"
            };
            let middle = |samples: &[two_servers::Sample],
                          value: fn(&two_servers::Sample) -> f64| {
                median(samples.iter().map(value)).unwrap_or_default()
            };
            let pairs = one.iter().zip(two);
            table.row([
                name.to_owned(),
                format!("{:.0}/s", middle(one, |s| s.per_second)),
                format!("{:.0}/s", middle(two, |s| s.per_second)),
                or_dash(ratios(
                    pairs.map(|(one, two)| two.per_second / one.per_second),
                )),
                format!("{:.0} %", middle(two, |s| s.on_primary) * 100.0),
                format!("{:.1} ms", middle(one, |s| s.p99) / 1000.0),
                format!("{:.1} ms", middle(two, |s| s.p99) / 1000.0),
            ]);
        }
        table
    }
}

/// A name of Rust's is written as such.
fn code(way: Way) -> String {
    let name = way.to_string();
    if name.starts_with('&') {
        format!("`{name}`")
    } else {
        name
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// The median, with the smallest and the largest.
fn ratios(values: impl Iterator<Item = f64>) -> Option<String> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = median(sorted.iter().copied())?;
    Some(match sorted.as_slice() {
        [smallest, .., largest] => format!("{middle:.2} ({smallest:.2}-{largest:.2})"),
        _ => format!("{middle:.2}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_told_with_how_far_the_rounds_are_apart() {
        assert_eq!(
            Some("1.20 (1.00-1.50)".to_owned()),
            ratios([1.5, 1.0, 1.2].into_iter())
        );
        assert_eq!(Some("2.00".to_owned()), ratios([2.0].into_iter()));
        assert_eq!(None, ratios([].into_iter()));
    }
}
