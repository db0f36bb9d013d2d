//! The tables: one for each fault, a row for each proxy.

use std::path::PathBuf;

use anyhow::Result;

use super::Extent;
use super::fault::Fault;
use super::figures::Figures;
use super::plan::{Kind, RATE};
use crate::cores::Cores;
use crate::invocation;
use crate::machine;
use crate::programs::{self, Proxy};
use harness::Table;

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    preamble: String,
    /// In the order in which they came.
    rows: Vec<(Fault, Proxy, Figures)>,
    /// What a reader of the tables has to know.
    remarks: Vec<String>,
    /// What could not be run.
    pub(super) failures: Vec<String>,
}

impl Report {
    /// Asks every program what it is.
    pub(super) async fn begin(
        programs: &[(Proxy, PathBuf)],
        cores: &Cores,
        extent: Extent,
    ) -> Result<Report> {
        let preamble = format!(
            "- Command: `{}`\n- Machine: {}\n- Programs: {}\n- Extent: {} s of each fault, {RATE:.0} requests a second\n",
            invocation::command(),
            machine::describe(cores)?,
            programs::versions(programs).await?.join(", "),
            extent.observed.as_secs_f64(),
        );
        Ok(Report {
            preamble,
            rows: Vec::new(),
            remarks: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// One more row.
    pub(super) fn add(&mut self, fault: Fault, proxy: Proxy, figures: Figures) {
        if figures.was_late() {
            let remark = format!(
                "{fault}, {proxy}: one request in a hundred was sent {:.0} ms late or more, for the machine was busy with something else; do not trust this row.",
                figures.late_ms
            );
            eprintln!("bench: {remark}");
            self.remarks.push(remark);
        }
        self.rows.push((fault, proxy, figures));
    }

    /// Notes what could not be run, and goes on.
    pub(super) fn fail(&mut self, what: &str, error: &anyhow::Error) {
        let failure = format!("{what}: {error:#}");
        eprintln!("bench: {failure}");
        self.failures.push(failure);
    }

    /// Everything, as Markdown.
    pub(super) fn to_text(&self) -> String {
        let mut text = self.preamble.clone();
        for rows in self.rows.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some((fault, ..)) = rows.first() else {
                continue;
            };
            text += &format!("\n**{fault}**: {}\n\n{}", fault.story(), table(rows));
        }
        if !self.remarks.is_empty() {
            text.push('\n');
            for remark in &self.remarks {
                text += &format!("- {remark}\n");
            }
        }
        if !self.failures.is_empty() {
            text += "\n**Not all could be run**:\n\n";
            for failure in &self.failures {
                let first = failure.lines().next().unwrap_or_default();
                text += &format!("- {first}\n");
            }
        }
        text
    }
}

fn table(rows: &[(Fault, Proxy, Figures)]) -> String {
    let mut table = Table::new(
        [
            "proxy",
            "requests",
            "failed",
            "GET",
            "POST",
            "POST with key",
            "POST done twice",
            "to the sick one",
            "p50 ms",
            "p99 ms",
            "max ms",
        ]
        .map(str::to_owned),
    );
    for (_, proxy, figures) in rows {
        let failed = |kind| {
            figures
                .failed
                .get(&kind)
                .map_or_else(String::new, usize::to_string)
        };
        let mut row = vec![
            proxy.to_string(),
            figures.requests.to_string(),
            figures.failed_in_all().to_string(),
            failed(Kind::Get),
            failed(Kind::Post),
            failed(Kind::KeyedPost),
            figures.done_twice.to_string(),
            or_dash(figures.to_sick.map(|share| format!("{share:.1} %"))),
        ];
        let latencies = figures.latency_ms.iter();
        row.extend(latencies.map(|ms| or_dash(ms.map(|ms| format!("{ms:.0}")))));
        table.row(row);
    }
    table.to_text()
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
