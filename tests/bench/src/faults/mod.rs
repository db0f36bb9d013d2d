//! `./stack bench faults`: what clients notice when one of two backends is sick, behind the balancer, nginx, HAProxy and Envoy.
//!
//! Each proxy meets each fault alone, freshly started, with the same requests at the same moments. The backends are two small servers in
//! this program, which count what reaches them. What each proxy was told to do about faults is in `proxy/`.

mod backend;
mod client;
mod condition;
mod dice;
mod fault;
mod figures;
mod plan;
mod proxy;
mod report;
mod scene;
mod tally;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::cores::Cores;
use crate::document::FAULTS;
use crate::programs::Proxy;
use fault::Fault;
use figures::Figures;
use report::Report;
use scene::Scene;

/// The backend to which nothing happens.
const WELL: usize = 0;

/// The backend that is sick.
const SICK: usize = 1;

/// How long a proxy is left alone once it has started, because some take a backend that is new to them for one that needs a slow start,
/// for 10 s.
const SETTLE: Duration = Duration::from_millis(10);

/// What to do to whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Another binary than the one that `cargo build --profile dist --package balancer` makes
    #[arg(long, value_name = "PATH")]
    balancer: Option<PathBuf>,
    /// How long a fault is observed
    #[arg(long, value_name = "S", default_value = "8", value_parser = seconds)]
    seconds: Duration,
    /// Only these faults
    #[arg(long, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Only these proxies
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<Proxy>,
    /// Two seconds of each: does everything run?
    #[arg(long, conflicts_with_all = ["seconds", "write"])]
    quick: bool,
    /// Write the tables into this file too, between its marks
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// How long each part of a turn takes.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// A proxy has started and is left alone.
    settle: Duration,
    /// All is well, and not observed.
    well: Duration,
    /// A fault is observed.
    observed: Duration,
    /// How often a proxy may have its turn, if the machine is busy with something else.
    turns_max: u32,
}

impl Options {
    fn extent(&self) -> Extent {
        if self.quick {
            return Extent {
                settle: Duration::ZERO,
                well: Duration::from_millis(500),
                observed: Duration::from_secs(2),
                turns_max: 1,
            };
        }
        Extent {
            settle: SETTLE,
            well: Duration::from_millis(1500),
            observed: self.seconds,
            turns_max: 3,
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let all = Fault::value_variants().iter().copied();
        all.filter(|fault| self.only.is_empty() || self.only.contains(fault))
            .collect()
    }
}

/// One turn, or if the machine was busy with something else, another one.
async fn turns(
    scene: &mut Scene,
    extent: Extent,
    fault: Fault,
    proxy: Proxy,
    program: &Path,
) -> Result<Figures> {
    let mut turn = 1;
    loop {
        let figures = scene.turn(fault, proxy, program).await?;
        eprintln!("{fault}, {proxy}: {figures}");
        if !figures.was_late() || turn == extent.turns_max {
            return Ok(figures);
        }
        eprintln!("bench: requests were sent late, for the machine was busy: once more");
        turn += 1;
    }
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds: f64 = text.parse()?;
    ensure!(
        (1.0..=600.0).contains(&seconds),
        "a fault takes from 1 to 600 seconds"
    );
    Ok(Duration::from_secs_f64(seconds))
}

/// Lets every fault happen behind every proxy, prints the tables, and writes them where that was asked for.
///
/// # Errors
/// When something cannot be set up or run. That requests fail is what is measured, and no error.
pub async fn run(options: &Options, cores: &Cores) -> Result<()> {
    if let Some(path) = &options.write {
        FAULTS.check(path)?;
    }
    let extent = options.extent();
    let mut scene = Scene::set(options, cores, extent)?;
    let mut report = Report::begin(&scene.programs, cores, extent).await?;
    for fault in options.faults() {
        for (proxy, program) in scene.programs.clone() {
            match turns(&mut scene, extent, fault, proxy, &program).await {
                Ok(figures) => report.add(fault, proxy, figures),
                Err(error) => report.fail(&format!("{fault}, {proxy}"), &error),
            }
        }
    }
    let text = report.to_text();
    println!("{text}");
    if let Some(path) = &options.write {
        FAULTS.replace(path, &text)?;
    }
    if !report.failures.is_empty() {
        bail!("{} things went wrong: see above", report.failures.len());
    }
    Ok(())
}
