//! The proxies, each told all that its manual offers against sick backends, with the same numbers wherever a number means the same.
//!
//! - **Who is next**: least connections.
//! - **Checks**: `GET /readyz` every second, a quarter of a second after a failure, 1 s to answer; three failures take a backend out, two passes
//!   bring it back. nginx has none.
//! - **What traffic tells**: after 5 errors in a row a backend is left alone for 5 s. In HAProxy it counts as failed until it passes
//!   checks again; nginx counts errors within 5 s.
//! - **A second try**: three tries in all, on another backend where there is one. What could not be sent goes elsewhere whatever it is; what may
//!   have been seen (no answer within 2 s, a connection that broke, an answer of 5xx) only if it is GET or carries an `Idempotency-Key`.
//! - **Slow start**: a backend that is back gets a tenth at first, and all of its share after 10 s. nginx has none.
//! - **Time**: 1 s to connect, 2 s for an answer to begin.
//!
//! For ours these are the shipped defaults, but for the 2 s. No proxy limits what one address may do, for all clients have the same.

mod envoy;
mod haproxy;
mod holdfast;
mod nginx;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::certificates::Identity;
use crate::process::Process;
use crate::programs::Proxy;

/// What a proxy is to do. The same for all of them.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Its own, and empty.
    pub(super) directory: PathBuf,
    /// What it shows to clients.
    pub(super) identity: Identity,
    /// Where clients come.
    pub(super) port: u16,
    /// Two more, for metrics and the like.
    pub(super) aside: [u16; 2],
    pub(super) backends: [u16; 2],
}

impl Setting {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Starts one, on its core, with one thread.
pub(super) fn start(
    proxy: Proxy,
    program: &Path,
    setting: &Setting,
    core: usize,
) -> Result<Process> {
    let arguments: Vec<OsString> = match proxy {
        Proxy::Holdfast => holdfast::arguments(setting)?,
        Proxy::Nginx => nginx::arguments(setting)?,
        Proxy::Haproxy => haproxy::arguments(setting)?,
        Proxy::Envoy => envoy::arguments(setting)?,
    };
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string());
    command.arg(program).args(arguments);
    let output = setting.directory.join("output");
    Process::start(&proxy.to_string(), command, &output)
}
