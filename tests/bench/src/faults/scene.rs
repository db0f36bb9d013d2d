//! A turn: two backends, a proxy before them, clients, and a fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::backend::Backend;
use super::client::Client;
use super::fault::Fault;
use super::figures::Figures;
use super::plan::{self, Kind, Planned};
use super::proxy::{self, Setting};
use super::tally::Tally;
use super::{Extent, Options, SICK, WELL};
use crate::certificates::{self, Identities};
use crate::cores::Cores;
use crate::ports::Ports;
use crate::programs::{self, Proxy};

/// How long a proxy may take until requests reach both backends.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// The numbers of requests that look whether it is so; the plan has no such numbers.
const LOOKS_FROM: u64 = 1 << 40;

/// How long a proxy may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// What all turns share. Fields are dropped in this order: the directory last.
#[derive(Debug)]
pub(super) struct Scene {
    /// Who is compared, and where each is.
    pub(super) programs: Vec<(Proxy, PathBuf)>,
    extent: Extent,
    identities: Identities,
    core: usize,
    ports: Ports,
    turns: u32,
    directory: TempDir,
}

impl Scene {
    /// Finds the programs, makes certificates.
    pub(super) fn set(options: &Options, cores: &Cores, extent: Extent) -> Result<Scene> {
        let programs = programs::find(&options.proxies, options.balancer.as_deref())?;
        let directory = tempfile::Builder::new()
            .prefix("holdfast-bench-")
            .tempdir()?;
        let identities = certificates::make(directory.path())?;
        Ok(Scene {
            programs,
            extent,
            identities,
            core: cores.proxy,
            ports: Ports::default(),
            turns: 0,
            directory,
        })
    }

    /// Lets one fault happen behind one proxy.
    pub(super) async fn turn(
        &mut self,
        fault: Fault,
        proxy: Proxy,
        program: &Path,
    ) -> Result<Figures> {
        let Extent {
            settle,
            well,
            observed,
            ..
        } = self.extent;
        let tally = Arc::new(Tally::default());
        let setting = self.setting()?;
        let backend = |index: usize| Backend::start(index, setting.backends[index], tally.clone());
        let _well = backend(WELL).await?;
        let mut sick = backend(SICK).await?;
        let mut process = proxy::start(proxy, program, &setting, self.core)?;
        let client = Client::new(&self.identities.balancer.authority(), setting.port)?;
        let begun = Instant::now();
        while !reaches_both(&client, &tally).await {
            process.ensure_running()?;
            ensure!(
                begun.elapsed() < READY_WITHIN,
                "requests do not reach both backends within {READY_WITHIN:?}; it said:\n{}",
                process.words()
            );
            sleep(Duration::from_millis(100)).await;
        }
        sleep(settle).await;
        let plan = plan::requests(well + fault.prelude(observed) + observed);
        let playing = async {
            sleep(well).await;
            fault.play(&mut sick, observed).await
        };
        let (samples, played) = tokio::try_join!(client.send_all(plan, Instant::now()), playing)?;
        let figures = Figures::of(&samples, &tally, &played);
        process.ensure_running()?;
        // A proxy that ends in the ordinary way waits for connections.
        drop(client);
        process.stop(ENDS_WITHIN).await?;
        Ok(figures)
    }

    fn setting(&mut self) -> Result<Setting> {
        self.turns += 1;
        let directory = self.directory.path().join(format!("proxy-{}", self.turns));
        fs::create_dir(&directory)?;
        Ok(Setting {
            directory,
            identity: self.identities.balancer.clone(),
            port: self.ports.take()?,
            aside: [self.ports.take()?, self.ports.take()?],
            backends: [self.ports.take()?, self.ports.take()?],
        })
    }
}

/// Whether a few requests were answered, and by both backends.
async fn reaches_both(client: &Client, tally: &Tally) -> bool {
    let begin = Instant::now();
    for number in LOOKS_FROM..LOOKS_FROM + 4 {
        let look = Planned {
            number,
            kind: Kind::Get,
            due: Duration::ZERO,
        };
        let answer = timeout(Duration::from_secs(1), client.exchange(look)).await;
        if !matches!(answer, Ok(Ok((status, _))) if status.is_success()) {
            return false;
        }
    }
    let until_now = begin..Instant::now();
    tally.at(WELL, &until_now) > 0 && tally.at(SICK, &until_now) > 0
}
