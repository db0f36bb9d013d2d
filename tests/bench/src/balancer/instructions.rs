//! Instructions per request, counted by callgrind: user code only, and steady where CPU time is not.
//!
//! Each proxy runs twice, with few and with many requests on equally many connections; in the difference, start and handshakes cancel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::cell::{Cell, Request, Traffic};
use super::proxy::{Running, Under};
use super::report::Report;
use super::scene::Scene;
use crate::callgrind;
use crate::h2load::{Load, Width};
use crate::programs::Proxy;
use crate::tools;

/// Everything takes fifty times as long, so not much is under way at one time.
const WIDTH: Width = Width {
    connections: 16,
    streams: 2,
};

/// Requests of the two runs, for each stream or connection.
const FEW: u32 = 20;
const MANY: u32 = 100;

/// So that a slow run has not more of them.
const CHECKS_APART: Duration = Duration::from_secs(600);

/// What a cell came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) traffic: Traffic,
    pub(super) each: BTreeMap<Proxy, f64>,
}

/// The cells with short answers, among these.
pub(super) async fn measure(cells: &[Cell], scene: &mut Scene, report: &mut Report) -> Result<()> {
    let valgrind = tools::find("valgrind")?;
    for cell in cells {
        let Cell::Traffic(traffic) = *cell else {
            continue;
        };
        if traffic.request != (Request::Get { path: "/1k" }) {
            continue;
        }
        let mut each = BTreeMap::new();
        for (proxy, program) in scene.programs.clone() {
            match per_request(traffic, proxy, &program, scene, &valgrind).await {
                Ok(instructions) => {
                    eprintln!("{traffic} {proxy}: {instructions:.0} instructions a request");
                    each.insert(proxy, instructions);
                }
                // It is not made for this.
                Err(error) if proxy == Proxy::Envoy => {
                    eprintln!("{traffic} {proxy} under callgrind: {error:#}");
                    report.remark(format!(
                        "{traffic}: Envoy does not run under callgrind here; it is left out."
                    ));
                }
                Err(error) => report.fail(proxy, &format!("{traffic}, {proxy}, callgrind"), &error),
            }
        }
        report.instructions.push(Outcome { traffic, each });
    }
    Ok(())
}

async fn per_request(
    traffic: Traffic,
    proxy: Proxy,
    program: &Path,
    scene: &mut Scene,
    valgrind: &Path,
) -> Result<f64> {
    let in_flight = WIDTH.connections * if traffic.http2 { WIDTH.streams } else { 1 };
    let (few, many) = (u64::from(FEW * in_flight), u64::from(MANY * in_flight));
    let mut counts = [0, 0];
    for (count, requests) in counts.iter_mut().zip([few, many]) {
        let setting = scene.setting(traffic.link, CHECKS_APART)?;
        let to = setting.directory.join("callgrind");
        fs::create_dir_all(&to)?;
        let under = Under::Callgrind { valgrind, to: &to };
        let running = Running::start(proxy, program, &setting, under).await?;
        let load = Load {
            width: WIDTH,
            ..scene.load(traffic, running.port)
        };
        load.send(requests).await?;
        running.stop().await?;
        *count = callgrind::instructions_of_all(&to)?;
    }
    let [with_few, with_many] = counts;
    ensure!(
        with_many > with_few,
        "more requests took fewer instructions: {with_few}, then {with_many}"
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of instructions")]
    Ok((with_many - with_few) as f64 / (many - few) as f64)
}
