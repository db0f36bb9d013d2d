//! What all turns share: certificates, backend, programs, the directory they are in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::certificates::{self, Identities};
use crate::cores::Cores;
use crate::descriptors;
use crate::h2load::Load;
use crate::ports::Ports;
use crate::programs::{self, Proxy};
use crate::tools;

use super::backend::Backend;
use super::cell::{Link, Request, Traffic};
use super::proxy::{Running, Setting, Under};
use super::report::Report;
use super::{Extent, Options};

/// What an upload holds.
const UPLOAD_BYTES: usize = 1 << 16;

/// Everything that stays for the whole run. Fields are dropped in this order: the directory last.
#[derive(Debug)]
pub(super) struct Scene {
    backend: Backend,
    /// Who is compared, and where each is.
    pub(super) programs: Vec<(Proxy, PathBuf)>,
    pub(super) h2load: PathBuf,
    pub(super) identities: Identities,
    core: usize,
    connections_max: u64,
    /// How often a proxy was started: each has a directory of its own.
    starts: u32,
    ports: Ports,
    directory: TempDir,
}

impl Scene {
    /// Finds the programs, makes certificates, starts the backend.
    pub(super) fn set(options: &Options, cores: &Cores) -> Result<Scene> {
        let nginx = tools::find("nginx")?;
        let programs = programs::find(&options.proxies, options.balancer.as_deref())?;
        let connections_max = 12_000;
        let descriptors = descriptors::most()?;
        ensure!(
            descriptors > connections_max + 4096,
            "only {descriptors} files may be open: raise the limit (ulimit -n 65536, or as root)"
        );
        let directory = tempfile::Builder::new()
            .prefix("holdfast-bench-")
            .tempdir()?;
        let identities = certificates::make(directory.path())?;
        let mut ports = Ports::default();
        let backend_directory = directory.path().join("backend");
        fs::create_dir(&backend_directory)?;
        let backend = Backend::start(&nginx, &backend_directory, &identities.web, &mut ports)?;
        let scene = Scene {
            backend,
            programs,
            h2load: tools::find("h2load")?,
            identities,
            core: cores.proxy,
            connections_max,
            starts: 0,
            ports,
            directory,
        };
        fs::write(scene.upload(), vec![b'x'; UPLOAD_BYTES])?;
        Ok(scene)
    }

    /// A directory for what is soon gone again.
    pub(super) fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// What h2load is to do for a cell at this port.
    pub(super) fn load(&self, traffic: Traffic, port: u16) -> Load {
        let (path, upload) = match traffic.request {
            Request::Get { path } => (path, None),
            Request::Upload => ("/upload", Some(self.upload())),
        };
        Load {
            program: self.h2load.clone(),
            port,
            path,
            http2: traffic.http2,
            width: traffic.width(),
            upload,
        }
    }

    /// Every proxy, for backends of this kind. Who does not start is told of, and left out.
    pub(super) async fn fleet(&mut self, link: Link, report: &mut Report) -> Vec<Running> {
        let mut fleet = Vec::new();
        for (proxy, program) in self.programs.clone() {
            match self.start(proxy, &program, link).await {
                Ok(running) => fleet.push(running),
                Err(error) => {
                    let what = format!("{proxy} before {} backends", link.name());
                    report.fail(proxy, &what, &error);
                }
            }
        }
        fleet
    }

    /// One proxy, on its core.
    pub(super) async fn start(
        &mut self,
        proxy: Proxy,
        program: &Path,
        link: Link,
    ) -> Result<Running> {
        let setting = self.setting(link, Duration::from_secs(1))?;
        Running::start(proxy, program, &setting, Under::Core(self.core)).await
    }

    /// What the next proxy is to do.
    pub(super) fn setting(&mut self, link: Link, check_interval: Duration) -> Result<Setting> {
        self.starts += 1;
        Ok(Setting {
            directory: self.directory.path().join(format!("proxy-{}", self.starts)),
            identity: self.identities.balancer.clone(),
            port: self.ports.take()?,
            aside: [self.ports.take()?, self.ports.take()?],
            backends: self.backend.ports(link),
            link,
            connections_max: self.connections_max,
            check_interval,
        })
    }

    fn upload(&self) -> PathBuf {
        self.directory.path().join("upload")
    }
}

impl Extent {
    /// In words, for a progress line.
    pub(super) fn turn(self, round: u32) -> String {
        format!("{}/{}", round + 1, self.rounds)
    }
}
