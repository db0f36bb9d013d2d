//! Requests over connections that stay open: as many as each proxy takes, then all at one rate.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::Extent;
use super::cell::Traffic;
use super::proxy::Running;
use super::report::{Report, Sample};
use super::scene::Scene;
use crate::h2load::Measured;
use crate::median::{median, quantile};
use crate::programs::Proxy;

/// The rate at which latency is measured: this share of what the slowest proxy takes.
const SHARE_OF_SLOWEST: f64 = 0.3;

/// A run that keeps less than this of its rate says nothing about latency.
const RATE_KEPT: f64 = 0.9;

/// Turns in which no request ends before it counts as a failure; each is four times as long as the one before.
const TURNS_MAX: usize = 3;

/// What a cell came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) traffic: Traffic,
    /// In saturation, by rounds.
    pub(super) saturation: BTreeMap<Proxy, Vec<Sample>>,
    /// Requests a second.
    pub(super) rate: f64,
    /// At that rate, by rounds.
    pub(super) latency: BTreeMap<Proxy, Vec<Latency>>,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) median: f64,
    pub(super) p99: f64,
}

/// Measures one cell. What fails is told, and left out of the rounds that remain.
pub(super) async fn measure(
    traffic: Traffic,
    scene: &Scene,
    fleet: &mut [Running],
    extent: Extent,
    report: &mut Report,
) {
    let mut outcome = Outcome {
        traffic,
        saturation: BTreeMap::new(),
        rate: 0.0,
        latency: BTreeMap::new(),
    };
    let mut failed = settle(traffic, scene, fleet, extent, report).await;
    for round in 0..extent.rounds {
        for running in fleet.iter_mut() {
            let proxy = running.proxy;
            if failed.contains(&proxy) {
                continue;
            }
            match saturate(traffic, scene, running, extent).await {
                Ok(measured) => {
                    let sample = Sample::of(measured.requests, measured.window, measured.cpu);
                    eprintln!("{traffic} {} {proxy}: {sample}", extent.turn(round));
                    outcome.saturation.entry(proxy).or_default().push(sample);
                }
                Err(error) => {
                    report.fail(proxy, &format!("{traffic}, {proxy}"), &error);
                    failed.push(proxy);
                }
            }
        }
    }
    let slowest = outcome
        .saturation
        .values()
        .filter_map(|samples| median(samples.iter().map(|sample| sample.per_second)))
        .min_by(f64::total_cmp);
    if let Some(slowest) = slowest {
        outcome.rate = slowest * SHARE_OF_SLOWEST;
        at_the_rate(&mut outcome, scene, fleet, extent, report, &mut failed).await;
    }
    report.traffic.push(outcome);
}

/// A turn as fast as it goes. On a slow machine all of a short one may go into handshakes, with the backends too: where no request has ended
/// in it, a longer one is made, and one that is longer still.
async fn saturate(
    traffic: Traffic,
    scene: &Scene,
    running: &mut Running,
    extent: Extent,
) -> Result<Measured> {
    let mut longer = extent;
    for _ in 0..TURNS_MAX {
        let measured = turn(traffic, scene, running, longer, None).await?;
        if measured.requests > 0 {
            return Ok(measured);
        }
        longer.warm_up *= 4;
        longer.length *= 4;
    }
    bail!(
        "no request ended in any turn, of up to {:?}",
        longer.length / 4
    )
}

/// A turn that counts for nothing: a proxy opens as many connections to its backends as the cell takes, and keeps them. Tells who failed.
async fn settle(
    traffic: Traffic,
    scene: &Scene,
    fleet: &mut [Running],
    extent: Extent,
    report: &mut Report,
) -> Vec<Proxy> {
    let mut failed = Vec::new();
    let short = Extent {
        length: extent.warm_up,
        ..extent
    };
    for running in fleet.iter_mut() {
        if let Err(error) = turn(traffic, scene, running, short, None).await {
            report.fail(
                running.proxy,
                &format!("{traffic}, {}", running.proxy),
                &error,
            );
            failed.push(running.proxy);
        }
    }
    failed
}

async fn at_the_rate(
    outcome: &mut Outcome,
    scene: &Scene,
    fleet: &mut [Running],
    extent: Extent,
    report: &mut Report,
    failed: &mut Vec<Proxy>,
) {
    let (traffic, rate) = (outcome.traffic, outcome.rate);
    for round in 0..extent.rounds {
        for running in fleet.iter_mut() {
            let proxy = running.proxy;
            if failed.contains(&proxy) {
                continue;
            }
            match turn(traffic, scene, running, extent, Some(rate)).await {
                Ok(measured) => {
                    let per_second = measured.per_second();
                    if per_second < rate * RATE_KEPT {
                        report.remark(format!(
                            "{traffic}, {proxy}, round {}: only {per_second:.0} requests a second were sent instead of {rate:.0}, so its latency is left out.",
                            round + 1,
                        ));
                        continue;
                    }
                    let latency = latency(&measured);
                    eprintln!(
                        "{traffic} {} {proxy} at {rate:.0}/s: p50 {:.2} ms, p99 {:.2} ms",
                        extent.turn(round),
                        latency.median,
                        latency.p99
                    );
                    outcome.latency.entry(proxy).or_default().push(latency);
                }
                Err(error) => {
                    report.fail(proxy, &format!("{traffic} at {rate:.0}/s, {proxy}"), &error);
                    failed.push(proxy);
                }
            }
        }
    }
}

async fn turn(
    traffic: Traffic,
    scene: &Scene,
    running: &mut Running,
    extent: Extent,
    rate: Option<f64>,
) -> Result<Measured> {
    let load = scene.load(traffic, running.port);
    let measured = load
        .run(
            running.group(),
            extent.warm_up,
            extent.length,
            rate,
            scene.scratch(),
        )
        .await?;
    running.empty_log()?;
    Ok(measured)
}

fn latency(measured: &Measured) -> Latency {
    let milliseconds = |share| quantile(&measured.latencies, share).unwrap_or_default() / 1000.0;
    Latency {
        median: milliseconds(0.5),
        p99: milliseconds(0.99),
    }
}
