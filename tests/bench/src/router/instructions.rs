//! Instructions of the client per query, by callgrind: user code only, and steady where CPU time is not.
//!
//! A client runs twice, with few and with many queries; in the difference, start, handshakes and preparing cancel. One task, so nothing
//! waits for anything but the server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::client::{Job, Setting, Until};
use super::query::Query;
use super::scene::Scene;
use super::way::Way;
use super::worker::Worker;
use crate::callgrind;
use crate::tools;

/// So that a slow run has not more of them.
const PROBES_APART: Duration = Duration::from_secs(600);

const FEW: u32 = 200;
const MANY: u32 = 1200;

/// Of a way's client.
pub(super) async fn per_query(way: Way, query: Query, scene: &Scene, to: &Path) -> Result<f64> {
    let valgrind = tools::find("valgrind")?;
    let mut counts = [0, 0];
    for (count, number) in counts.iter_mut().zip([FEW, MANY]) {
        let setting = Setting {
            probe_interval: PROBES_APART,
            ..scene.setting(way)?
        };
        let file = to.join(format!("{way:?}-{query:?}-{number}.callgrind"));
        let mut client =
            Worker::start_under_callgrind(&valgrind, &file, &scene.client, &setting).await?;
        let job = Job {
            query,
            tasks: 1,
            until: Until::Each(number),
        };
        let outcome = client.run(job).await?;
        ensure!(
            outcome.failed == 0,
            "{} queries failed: {}",
            outcome.failed,
            outcome.error.unwrap_or_default()
        );
        client.end().await?;
        *count = callgrind::instructions(&file)?;
    }
    let [few, many] = counts;
    ensure!(
        many > few,
        "more queries took fewer instructions: {few}, then {many}"
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of instructions")]
    Ok((many - few) as f64 / f64::from(MANY - FEW))
}
