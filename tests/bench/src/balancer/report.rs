//! What was measured, and the tables that tell it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;

use super::cell::{Cell, Connections};
use super::scene::Scene;
use super::{Extent, connections, instructions, traffic};
use crate::cores::Cores;
use crate::h2load::{NARROW, WIDE};
use crate::invocation;
use crate::machine;
use crate::median::median;
use crate::programs::{self, Proxy};
use crate::tools;
use harness::Table;

/// One proxy's turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) per_second: f64,
    /// CPU time of each request or connection, in microseconds.
    pub(super) cpu: f64,
    /// How busy the proxy's core was with it, 0 to 1.
    pub(super) busy: f64,
}

impl Sample {
    pub(super) fn of(count: u64, window: Duration, cpu: Duration) -> Sample {
        #[expect(clippy::cast_precision_loss, reason = "a few million at most")]
        let count = count as f64;
        Sample {
            per_second: count / window.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / count,
            busy: cpu.as_secs_f64() / window.as_secs_f64(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{:.0}/s, {:.1} µs of CPU each, its core {:.0} % busy",
            self.per_second,
            self.cpu,
            self.busy * 100.0
        )
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    proxies: Vec<Proxy>,
    preamble: String,
    pub(super) traffic: Vec<traffic::Outcome>,
    pub(super) connections: Vec<connections::Outcome>,
    pub(super) idle: BTreeMap<Proxy, connections::Idle>,
    idle_connections: usize,
    pub(super) instructions: Vec<instructions::Outcome>,
    remarks: Vec<String>,
    /// What must not be.
    pub(super) failures: Vec<String>,
}

impl Report {
    /// Asks every program what it is.
    pub(super) async fn begin(scene: &Scene, cores: &Cores, extent: Extent) -> Result<Report> {
        let mut versions = programs::versions(&scene.programs).await?;
        versions.push(tools::says(&scene.h2load, &["--version"]).await?);
        let preamble = format!(
            "- Command: `{}`\n- Machine: {}\n- Programs: {}\n- Extent: {} of {} s in each cell, after {} s of warm-up; {} connections, over HTTP/2 with {} streams each, or for answers of 1 MiB {} with {}\n",
            invocation::command(),
            machine::describe(cores)?,
            versions.join(", "),
            match extent.rounds {
                1 => "one round".to_owned(),
                rounds => format!("{rounds} rounds"),
            },
            extent.length.as_secs_f64(),
            extent.warm_up.as_secs_f64(),
            WIDE.connections,
            WIDE.streams,
            NARROW.connections,
            NARROW.streams,
        );
        Ok(Report {
            proxies: scene.programs.iter().map(|(proxy, _)| *proxy).collect(),
            preamble,
            traffic: Vec::new(),
            connections: Vec::new(),
            idle: BTreeMap::new(),
            idle_connections: extent.idle_connections,
            instructions: Vec::new(),
            remarks: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// Notes what must not be, and goes on: a failure where it is the balancer's; another proxy is left out of what it failed in.
    pub(super) fn fail(&mut self, proxy: Proxy, what: &str, error: &anyhow::Error) {
        let failure = format!("{what}: {error:#}");
        if proxy == Proxy::Holdfast {
            eprintln!("bench: {failure}");
            self.failures.push(failure);
        } else {
            self.remark(format!("{failure}; it is left out."));
        }
    }

    /// Notes what a reader of the tables has to know.
    pub(super) fn remark(&mut self, remark: String) {
        eprintln!("bench: {remark}");
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
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
            "CPU time of the proxy per request in µs, and ours to that of others: the median of the rounds' ratios, with the smallest and the largest.",
            &self.cpu(),
        );
        part(
            "Requests a second in saturation, and how busy the proxy's core was. Where it was not near 100 %, client and backend were the limit, not the proxy.",
            &self.throughput(),
        );
        part(
            "Latency at a fixed rate, 30 % of what the slowest takes: median / 99th percentile, in ms.",
            &self.latency(),
        );
        part(
            "New connections with one request each: CPU time of the proxy per connection in µs.",
            &self.new_connections(),
        );
        part(
            &format!(
                "Memory for each of {} idle connections of HTTP/1.1 that have had one request, in KiB.",
                self.idle_connections
            ),
            &self.memory(),
        );
        part(
            "Instructions of the proxy's own code per request, by callgrind, without the kernel's.",
            &self.instructions(),
        );
        if !self.remarks.is_empty() {
            text.push('\n');
            for remark in &self.remarks {
                text += &format!("- {remark}\n");
            }
        }
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
        head.extend(self.proxies.iter().map(Proxy::to_string));
        if ratios {
            head.extend(["to nginx", "to HAProxy", "to the better"].map(str::to_owned));
        }
        Table::new(head)
    }

    fn row(&self, name: String, cell: impl Fn(Proxy) -> Option<String>) -> Vec<String> {
        let cells = self.proxies.iter().map(|proxy| cell(*proxy));
        std::iter::once(name)
            .chain(cells.map(|cell| cell.unwrap_or_else(|| "-".to_owned())))
            .collect()
    }

    /// A row of CPU times and their ratios.
    fn costs(&self, name: String, samples: &BTreeMap<Proxy, Vec<Sample>>) -> Vec<String> {
        let costs: BTreeMap<Proxy, Vec<f64>> = samples
            .iter()
            .map(|(proxy, samples)| (*proxy, samples.iter().map(|sample| sample.cpu).collect()))
            .collect();
        let mut row = self.row(name, |proxy| {
            Some(format!(
                "{:.1}",
                median(costs.get(&proxy)?.iter().copied())?
            ))
        });
        row.extend(ratios(&costs));
        row
    }

    fn cpu(&self) -> Table {
        let mut table = self.head("cell", true);
        for outcome in &self.traffic {
            table.row(self.costs(outcome.traffic.to_string(), &outcome.saturation));
        }
        table
    }

    fn throughput(&self) -> Table {
        let mut table = self.head("cell", false);
        for outcome in &self.traffic {
            table.row(self.row(outcome.traffic.to_string(), |proxy| {
                rate_and_busy(outcome.saturation.get(&proxy)?)
            }));
        }
        for outcome in &self.connections {
            let cell = Cell::Connections(outcome.kind);
            table.row(self.row(cell.to_string(), |proxy| {
                rate_and_busy(outcome.samples.get(&proxy)?)
            }));
        }
        table
    }

    fn latency(&self) -> Table {
        let mut table = self.head("cell", false);
        for outcome in self.traffic.iter().filter(|o| !o.latency.is_empty()) {
            let name = format!("{} at {:.0}/s", outcome.traffic, outcome.rate);
            table.row(self.row(name, |proxy| {
                let rounds = outcome.latency.get(&proxy)?;
                Some(format!(
                    "{:.2} / {:.2}",
                    median(rounds.iter().map(|latency| latency.median))?,
                    median(rounds.iter().map(|latency| latency.p99))?
                ))
            }));
        }
        table
    }

    fn new_connections(&self) -> Table {
        let mut table = self.head("handshake", true);
        for outcome in &self.connections {
            let name = match outcome.kind {
                Connections::Resumed => "session resumed",
                Connections::New | Connections::Idle => "whole",
            };
            table.row(self.costs(name.to_owned(), &outcome.samples));
        }
        table
    }

    fn memory(&self) -> Table {
        let mut table = self.head("memory", true);
        if self.idle.is_empty() {
            return table;
        }
        for proportional in [false, true] {
            let name = if proportional {
                "proportional (PSS)"
            } else {
                "resident (RSS)"
            };
            let kind = |idle: &connections::Idle| {
                if proportional {
                    idle.proportional
                } else {
                    idle.resident
                }
            };
            let each: BTreeMap<Proxy, Vec<f64>> = self
                .idle
                .iter()
                .map(|(proxy, idle)| (*proxy, vec![kind(idle) / 1024.0]))
                .collect();
            let mut row = self.row(name.to_owned(), |proxy| {
                Some(format!("{:.1}", each.get(&proxy)?.first()?))
            });
            row.extend(ratios(&each));
            table.row(row);
        }
        table
    }

    fn instructions(&self) -> Table {
        let mut table = self.head("cell", true);
        for outcome in &self.instructions {
            let mut row = self.row(outcome.traffic.to_string(), |proxy| {
                Some(format!("{:.0}", outcome.each.get(&proxy)?))
            });
            let each = outcome.each.iter();
            row.extend(ratios(&each.map(|(proxy, i)| (*proxy, vec![*i])).collect()));
            table.row(row);
        }
        table
    }
}

fn rate_and_busy(samples: &[Sample]) -> Option<String> {
    Some(format!(
        "{:.0} ({:.0} %)",
        median(samples.iter().map(|sample| sample.per_second))?,
        median(samples.iter().map(|sample| sample.busy))? * 100.0
    ))
}

/// Ours to nginx's, to HAProxy's, and to that of whichever of the two does with less: round by round, for a round's turns are close together.
fn ratios(values: &BTreeMap<Proxy, Vec<f64>>) -> [String; 3] {
    let to = |other: Proxy| -> Option<(f64, String)> {
        let (ours, theirs) = (values.get(&Proxy::Holdfast)?, values.get(&other)?);
        let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = median(ratios.iter().copied())?;
        let text = match ratios.as_slice() {
            [smallest, .., largest] => format!("{middle:.2} ({smallest:.2}-{largest:.2})"),
            _ => format!("{middle:.2}"),
        };
        Some((middle, text))
    };
    let (nginx, haproxy) = (to(Proxy::Nginx), to(Proxy::Haproxy));
    let better = match (&nginx, &haproxy) {
        (Some((nginx, _)), Some((haproxy, _))) => format!("{:.2}", nginx.max(*haproxy)),
        _ => "-".to_owned(),
    };
    let text =
        |ratio: Option<(f64, String)>| ratio.map_or_else(|| "-".to_owned(), |(_, text)| text);
    [text(nginx), text(haproxy), better]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_held_against_the_better_of_the_two() {
        let values = BTreeMap::from([
            (Proxy::Holdfast, vec![8.0, 9.0, 10.0]),
            (Proxy::Nginx, vec![10.0, 10.0, 10.0]),
            (Proxy::Haproxy, vec![20.0, 20.0, 20.0]),
        ]);
        let expected = ["0.90 (0.80-1.00)", "0.45 (0.40-0.50)", "0.90"];
        assert_eq!(expected.map(str::to_owned), ratios(&values));
        let alone = BTreeMap::from([(Proxy::Nginx, vec![1.0])]);
        assert_eq!(["-", "-", "-"].map(str::to_owned), ratios(&alone));
    }
}
