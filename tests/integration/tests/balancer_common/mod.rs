//! A balancer with its backends, on loopback: the real binary, and web servers whose misbehaviour is chosen by the path.

#![allow(dead_code, unused_imports)] // every test file takes what it needs

mod backend;
mod client;
pub(crate) mod frames;
mod gate;
mod operator;
mod raw_backend;
pub(crate) mod websocket;
mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use harness::{Program, free_port, metric, wait_for, wait_until};
use pki::{Authority, LEAF_DAYS, Request, Usage, write_consumer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

pub(crate) use backend::{Backend, Received};
pub(crate) use client::{Raw, header, problem, tls_of_client};
pub(crate) use frames::{Frames, Taken};
pub(crate) use gate::Gate;
pub(crate) use operator::{Said, members};
pub(crate) use raw_backend::{Conversation, Heard, Next, RawBackend};
pub(crate) use wire::{Answer, Wire};

/// Longer than anything here takes, shorter than a person's patience.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Backends that the stack does not have.
const MORE_NAMES: [&str; 4] = ["web", "web-3", "web-4", "web-5"];

/// A certificate authority and a directory for this test's files.
pub(crate) struct World {
    pub(crate) authority: Authority,
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Result<World> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(World {
            authority: Authority::create(&MORE_NAMES.map(str::to_owned))?,
            directory: harness::run::directory("balancer")?,
        })
    }

    /// An identity of this role, good for loopback and `name`; again with the same name, it is rotated.
    pub(crate) fn identity(&self, name: &str, role: &str) -> Result<PathBuf> {
        let leaf = self.authority.issue(&Request {
            role: role.to_owned(),
            names: [name, "localhost", "127.0.0.1"].map(str::to_owned).into(),
            usage: vec![Usage::Server, Usage::Client],
            days: LEAF_DAYS,
        })?;
        let directory = self.directory.path().join(name);
        fs::create_dir_all(&directory)?;
        let user = fs::metadata(&directory)?;
        let user = std::os::unix::fs::MetadataExt::uid(&user);
        // Both balancers of a pod have the same one.
        let tickets = ("tls_ticket_key", "k".repeat(43));
        let secrets = BTreeMap::from_iter((role == "balancer").then_some(tickets));
        write_consumer(&directory, user, self.authority.cert_pem(), &leaf, &secrets)?;
        Ok(directory.join("current"))
    }

    /// A backend of the right role.
    pub(crate) async fn backend(&self, name: &str) -> Result<Backend> {
        Backend::start(name, &self.identity(name, "web")?, free_port()?).await
    }

    /// A backend of the right role that does what `script` says.
    pub(crate) fn raw_backend<S, F>(&self, name: &str, script: S) -> Result<RawBackend>
    where
        S: Fn(Conversation) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Next>> + Send + 'static,
    {
        RawBackend::start(name, &self.identity(name, "web")?, free_port()?, script)
    }

    /// A balancer over these backends, with these keys besides, which has found all of them up.
    pub(crate) async fn balancer_before(
        &self,
        backends: &[&RawBackend],
        keys: &str,
    ) -> Result<Balancer> {
        let places: Vec<_> = backends.iter().map(|backend| backend.place()).collect();
        let balancer = self
            .balancer_on(free_port()?, free_port()?, "balancer-1", &places, keys)
            .await?;
        balancer
            .wait_for_states(&vec!["up"; backends.len()])
            .await?;
        Ok(balancer)
    }

    /// A balancer over these backends, with these keys besides; it may not have looked at them yet.
    pub(crate) async fn balancer(&self, backends: &[&Backend], keys: &str) -> Result<Balancer> {
        let ports: Vec<_> = backends.iter().map(|b| (b.name(), b.port())).collect();
        self.balancer_on(free_port()?, free_port()?, "balancer-1", &ports, keys)
            .await
    }

    /// The same, and waits until all its backends are up.
    pub(crate) async fn balancer_ready(
        &self,
        backends: &[&Backend],
        keys: &str,
    ) -> Result<Balancer> {
        let balancer = self.balancer(backends, keys).await?;
        balancer
            .wait_for_states(&vec!["up"; backends.len()])
            .await?;
        Ok(balancer)
    }

    /// The same, on given ports, under a given name.
    pub(crate) async fn balancer_on(
        &self,
        https: u16,
        redirect: u16,
        name: &str,
        backends: &[(&str, u16)],
        keys: &str,
    ) -> Result<Balancer> {
        let (config, socket) = self.write_config(https, redirect, name, backends, keys)?;
        let config = config.display().to_string();
        let program = Program::spawn("balancer", ["--config", &config], [])?;
        let balancer = Balancer {
            program,
            https,
            redirect,
            socket,
            ca_pem: self.authority.cert_pem().to_owned(),
        };
        wait_until("the balancer answers", SOON, async || {
            balancer.admin("health").await.is_ok()
        })
        .await
        .with_context(|| balancer.program.log().join("\n"))?;
        Ok(balancer)
    }

    /// Writes a configuration; checks are quick unless `keys` say otherwise.
    pub(crate) fn write_config(
        &self,
        https: u16,
        redirect: u16,
        name: &str,
        backends: &[(&str, u16)],
        keys: &str,
    ) -> Result<(PathBuf, PathBuf)> {
        let identity = self.identity(name, "balancer")?;
        let socket = self.directory.path().join(format!("{name}.sock"));
        let desired = self.directory.path().join("backends.json");
        let backends: Vec<String> = backends
            .iter()
            .map(|(name, port)| {
                format!("{{ name = \"{name}\", host = \"127.0.0.1\", port = {port} }}")
            })
            .collect();
        let mut config: toml::Table = format!(
            "identity = {identity:?}\nadmin_socket = {socket:?}\nthreads = 2\nbackends = [{}]\n\
             [listen]\nhttps = \"127.0.0.1:{https}\"\nredirect = \"127.0.0.1:{redirect}\"\n\
             [edge]\nhttps_port = {https}\n\
             [health]\ninterval_ms = 100\ninterval_in_doubt_ms = 30\n\
             [balancing]\nstate_file = {desired:?}\n\
             [metrics]\nlisten = \"127.0.0.1:0\"\n\
             [traces]\nendpoint = \"https://127.0.0.1:1\"\n",
            backends.join(", ")
        )
        .parse()?;
        for (table, values) in keys.parse::<toml::Table>()? {
            match (
                config.get_mut(&table).and_then(toml::Value::as_table_mut),
                values,
            ) {
                (Some(there), toml::Value::Table(values)) => there.extend(values),
                (_, values) => {
                    config.insert(table, values);
                }
            }
        }
        let path = self.directory.path().join(format!("{name}.toml"));
        fs::write(&path, toml::to_string(&config)?)?;
        Ok((path, socket))
    }
}

/// A running balancer.
pub(crate) struct Balancer {
    pub(crate) program: Program,
    pub(crate) https: u16,
    pub(crate) redirect: u16,
    pub(crate) socket: PathBuf,
    ca_pem: String,
}

impl Balancer {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https)
    }

    /// HTTP/1.1 and HTTP/2, whatever the balancer prefers.
    pub(crate) fn client(&self) -> Result<reqwest::Client> {
        self.client_with(|builder| builder)
    }

    /// HTTP/1.1 alone.
    pub(crate) fn client_1(&self) -> Result<reqwest::Client> {
        self.client_with(reqwest::ClientBuilder::http1_only)
    }

    pub(crate) fn client_with(
        &self,
        with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client> {
        let authority = reqwest::Certificate::from_pem(self.ca_pem.as_bytes())?;
        let builder = reqwest::Client::builder()
            .tls_certs_only([authority])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(30));
        Ok(with(builder).build()?)
    }

    /// A connection whose bytes are ours to write.
    pub(crate) async fn raw(&self) -> Result<Raw> {
        Raw::connect(self.https, &self.ca_pem).await
    }

    /// A connection of HTTP/2, by `h2`, with windows of this size.
    pub(crate) async fn two(&self, window: u32) -> Result<h2::client::SendRequest<Bytes>> {
        let stream = self.tls_with(b"h2", None).await?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window.max(65_535))
            .enable_push(false)
            .handshake(stream)
            .await?;
        // Ends with the last handle, or with the balancer.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(send.ready().await?)
    }

    /// A request by HTTP/2.
    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        http::Request::builder().method(method).uri(self.url(path))
    }

    /// One command on the admin socket.
    pub(crate) async fn admin(&self, command: &str) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let json = answer
            .strip_prefix("ok ")
            .with_context(|| format!("{command}: {answer}"))?;
        Ok(serde_json::from_str(json)?)
    }

    /// The requests in flight on each backend.
    pub(crate) async fn in_flight(&self) -> Result<Vec<u64>> {
        let status = self.admin("status").await?;
        let backends = status["backends"].as_array().context("no backends")?;
        Ok(backends
            .iter()
            .filter_map(|b| b["in_flight"].as_u64())
            .collect())
    }

    pub(crate) async fn wait_for_in_flight(&self, expected: &[u64]) -> Result<()> {
        let mut last = Vec::new();
        let met = wait_until("as many requests in flight", SOON, async || {
            last = self.in_flight().await.unwrap_or_default();
            last == expected
        });
        met.await
            .with_context(|| format!("{last:?} instead of {expected:?}"))
    }

    pub(crate) async fn wait_for_states(&self, expected: &[&str]) -> Result<()> {
        let mut last = Value::Null;
        let met = wait_until("backends in their states", SOON, async || {
            last = self.admin("status").await.unwrap_or_default();
            let states: Vec<_> = last["backends"]
                .as_array()
                .map(|backends| {
                    backends
                        .iter()
                        .filter_map(|b| b["state"].as_str())
                        .collect()
                })
                .unwrap_or_default();
            states == expected
        });
        met.await
            .with_context(|| format!("expected {expected:?}, the status is {last}"))
    }

    /// The value of a metric, by its name and labels as they are written.
    pub(crate) async fn metric(&self, name: &str) -> Result<u64> {
        let text = self.admin("metrics").await?;
        metric(text.as_str().context("no text")?, name)
    }

    /// A line of the access log.
    pub(crate) async fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_for("a line of the access log", SOON, async || {
            let lines = self.program.log();
            let mut parsed = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            parsed.find(|line| line["target"] == "access" && wanted(line))
        })
        .await
        .with_context(|| self.program.log().join("\n"))
    }

    /// SIGTERM, and a clean end.
    pub(crate) async fn stop(&mut self, within: Duration) -> Result<()> {
        self.program.terminate()?;
        let status = self.program.exited(within).await?;
        ensure!(
            status.success(),
            "{status}\n{}",
            self.program.log().join("\n")
        );
        Ok(())
    }
}
