//! `./stack bench balancer`: the balancer beside nginx, HAProxy and Envoy, each with one thread, the same certificate, the same backends
//! and the same features.
//!
//! The proxies take turns, so that what else happens on the machine meets all of them, and a median of several rounds is told. How CPU
//! time is counted is said in `h2load.rs`, for requests, and in `connections.rs`.

mod backend;
mod cell;
mod connections;
mod instructions;
mod proxy;
mod report;
mod scene;
mod traffic;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::cores::Cores;
use crate::document::MEASURED;
use crate::programs::Proxy;
use cell::{Cell, Connections, Link};
use report::Report;
use scene::Scene;

/// How much, and of what.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Another binary than the one that `cargo build --profile dist --package balancer` makes
    #[arg(long, value_name = "PATH")]
    balancer: Option<PathBuf>,
    /// How often each proxy has its turn in each cell
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn is measured, after a warm-up
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Only cells whose name holds one of these, such as http1-mtls or connections-idle
    #[arg(long, value_name = "CELL", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these proxies
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<Proxy>,
    /// One short round of a few cells: does everything run, and does no request fail?
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "write"])]
    quick: bool,
    /// Count instructions per request as well, by callgrind, which takes minutes more
    #[arg(long)]
    callgrind: bool,
    /// Write the tables into this file too, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// How much is done in a run: in a quick one less.
#[derive(Clone, Copy, Debug)]
struct Extent {
    rounds: u32,
    warm_up: Duration,
    length: Duration,
    idle_connections: usize,
}

impl Options {
    fn extent(&self) -> Extent {
        if self.quick {
            return Extent {
                rounds: 1,
                warm_up: Duration::from_millis(200),
                length: Duration::from_millis(400),
                idle_connections: 500,
            };
        }
        Extent {
            rounds: self.rounds,
            warm_up: Duration::from_secs(1),
            length: self.seconds,
            idle_connections: 10_000,
        }
    }

    fn cells(&self) -> Result<Vec<Cell>> {
        let all = if self.quick {
            cell::quick()
        } else {
            cell::all()
        };
        let names: Vec<String> = all.iter().map(Cell::to_string).collect();
        let wanted = |name: &str| {
            self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
        };
        let cells: Vec<Cell> = all
            .into_iter()
            .filter(|cell| wanted(&cell.to_string()))
            .collect();
        ensure!(
            !cells.is_empty(),
            "--only leaves no cell; there are {}",
            names.join(", ")
        );
        Ok(cells)
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse()?;
    ensure!(
        (0.2..=600.0).contains(&seconds),
        "a turn takes from 0.2 to 600 seconds"
    );
    Ok(Duration::from_secs_f64(seconds))
}

/// Measures, prints the tables, and writes them where that was asked for.
///
/// # Errors
/// When something cannot be set up, and at the end, when the balancer has failed a request.
pub async fn run(options: &Options, cores: &Cores) -> Result<()> {
    let cells = options.cells()?;
    if let Some(path) = &options.write {
        MEASURED.check(path)?;
    }
    let extent = options.extent();
    let mut scene = Scene::set(options, cores)?;
    let mut report = Report::begin(&scene, cores, extent).await?;
    for link in Link::ALL {
        let traffic: Vec<_> = cells
            .iter()
            .filter_map(|cell| match cell {
                Cell::Traffic(traffic) if traffic.link == link => Some(*traffic),
                _ => None,
            })
            .collect();
        let kinds: Vec<_> = cells
            .iter()
            .filter_map(|cell| match cell {
                Cell::Connections(kind) if link == Link::Mutual => Some(*kind),
                _ => None,
            })
            .collect();
        if traffic.is_empty() && kinds.is_empty() {
            continue;
        }
        let mut fleet = scene.fleet(link, &mut report).await;
        for traffic in traffic {
            traffic::measure(traffic, &scene, &mut fleet, extent, &mut report).await;
        }
        for kind in kinds {
            if kind != Connections::Idle {
                connections::measure(kind, &scene, &mut fleet, extent, &mut report).await;
            }
        }
        for running in &mut fleet {
            if let Err(error) = running.ensure_logged().await {
                report.fail(running.proxy, &running.proxy.to_string(), &error);
            }
        }
    }
    if cells.contains(&Cell::Connections(Connections::Idle)) {
        connections::measure_idle(&mut scene, extent, &mut report).await?;
    }
    if options.callgrind {
        instructions::measure(&cells, &mut scene, &mut report).await?;
    }
    let text = report.to_text();
    println!("{text}");
    if let Some(path) = &options.write {
        MEASURED.replace(path, &text)?;
    }
    if !report.failures.is_empty() {
        bail!("{} things went wrong: see above", report.failures.len());
    }
    Ok(())
}
