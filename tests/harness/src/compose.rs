//! One Holdfast in Compose, with a project name, host ports and a subnet of its own, brought up by the very `./stack` that users call.
//!
//! A `Stack` is taken down with its volumes when it is dropped; what a killed run left behind is taken down by the next run's start.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The project name of a run: this and the process id.
const PROJECT_PREFIX: &str = "holdfast-test-";

/// The first two octets of subnets that test stacks choose from; the default one is left to the stack that a person runs.
const SUBNETS: std::ops::RangeInclusive<u8> = 214..=250;

/// A running stack of this process.
pub struct Stack {
    project: String,
    subnet: String,
    https_port: u16,
    http_port: u16,
    jaeger_port: u16,
    prometheus_port: u16,
    ca: PathBuf,
}

impl Stack {
    /// Takes down what dead runs left, then brings up a stack and waits until all of it is healthy.
    ///
    /// # Errors
    /// What `./stack up` said, when it fails; what it had started is taken down again.
    pub fn up() -> Result<Self> {
        sweep()?;
        let mut stack = Self {
            project: format!("{PROJECT_PREFIX}{}", std::process::id()),
            subnet: free_subnet()?,
            https_port: free_port()?,
            http_port: free_port()?,
            jaeger_port: free_port()?,
            prometheus_port: free_port()?,
            ca: PathBuf::new(),
        };
        stack.stack_visibly(&["up"])?;
        stack.ca = stack.stack(&["ca"])?.trim().into();
        Ok(stack)
    }

    /// The URL of `path` at the edge, over HTTPS.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https_port)
    }

    /// The URL of `path` on the port that only redirects.
    #[must_use]
    pub fn plain_url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.http_port)
    }

    /// The URL of `path` at Jaeger's pages, or at those of its stand-in.
    #[must_use]
    pub fn jaeger_url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.jaeger_port)
    }

    /// The URL of `path` at Prometheus's own pages.
    #[must_use]
    pub fn prometheus_url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.prometheus_port)
    }

    /// The first two octets of all addresses.
    #[must_use]
    pub fn subnet(&self) -> &str {
        &self.subnet
    }

    /// The file of the certificate authority, as `./stack ca` prints it.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The project's name in Compose.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// An HTTP client that trusts this stack's authority and nothing else, follows no redirect, and keeps connections alive.
    ///
    /// # Errors
    /// When the authority's file cannot be read.
    pub fn client(&self) -> Result<reqwest::Client> {
        self.client_with(|builder| builder)
    }

    /// The same, with `customise` applied to its builder.
    ///
    /// # Errors
    /// When the authority's file cannot be read or the builder refuses.
    pub fn client_with(
        &self,
        customise: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<reqwest::Client> {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let ca = std::fs::read(&self.ca).with_context(|| format!("read {}", self.ca.display()))?;
        let builder = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&ca)?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30));
        Ok(customise(builder).build()?)
    }

    /// Runs `./stack ARGS` for this project and returns its standard output.
    ///
    /// # Errors
    /// When it exits non-zero: with all that it said.
    pub fn stack(&self, args: &[&str]) -> Result<String> {
        succeeded(
            self.stack_output(args)?,
            &format!("./stack {}", args.join(" ")),
        )
    }

    /// Runs `./stack ARGS` and returns its outcome, whatever it is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn stack_output(&self, args: &[&str]) -> Result<Output> {
        self.stack_output_with(args, &[])
    }

    /// The same, with more variables, which win.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn stack_output_with(&self, args: &[&str], more: &[(&str, &str)]) -> Result<Output> {
        let mut command = self.command("./stack");
        command.envs(more.iter().copied());
        Ok(command.args(args).stdin(Stdio::null()).output()?)
    }

    /// The same as [`Stack::stack`], on a thread of its own, while the caller's other tasks go on.
    ///
    /// # Errors
    /// When it exits non-zero: with all that it said.
    pub async fn stack_aside(&self, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command("./stack"));
        let output = command.args(args).stdin(Stdio::null()).output().await?;
        succeeded(output, &format!("./stack {}", args.join(" ")))
    }

    /// Runs any program with this stack's variables, in the repository's root, and returns its standard output.
    ///
    /// # Errors
    /// When it exits non-zero: with all that it said.
    pub async fn run_aside(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command(program));
        let output = command
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        succeeded(output, program)
    }

    /// Runs `./stack ARGS`, interrupts it (as Ctrl-C does) when it has printed a line with these words, and waits for its end.
    ///
    /// # Errors
    /// When it ends before.
    pub async fn interrupted(&self, args: &[&str], at: &str) -> Result<()> {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut command = tokio::process::Command::from(self.command("./stack"));
        let mut child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("it is piped")?;
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await? {
            if line.contains(at) {
                let id = child.id().context("it runs")?;
                let id = nix::unistd::Pid::from_raw(i32::try_from(id)?);
                nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT)?;
                while lines.next_line().await?.is_some() {}
                child.wait().await?;
                return Ok(());
            }
        }
        bail!("./stack {} never said {at:?}", args.join(" "))
    }

    /// Runs `./stack ARGS` with its progress on this process's standard error.
    fn stack_visibly(&self, args: &[&str]) -> Result<()> {
        let status = self
            .command("./stack")
            .args(args)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()?;
        ensure!(
            status.success(),
            "./stack {} failed: {status}",
            args.join(" ")
        );
        Ok(())
    }

    /// Runs `docker compose ARGS` for this project and returns its standard output.
    ///
    /// # Errors
    /// When it exits non-zero: with all that it said.
    pub fn compose(&self, args: &[&str]) -> Result<String> {
        let output = self.command("docker").arg("compose").args(args).output()?;
        succeeded(output, &format!("docker compose {}", args.join(" ")))
    }

    /// Kills a service's container at once, as a crash would, and leaves it down.
    ///
    /// # Errors
    /// When Compose refuses.
    pub fn kill(&self, service: &str) -> Result<()> {
        self.compose(&["kill", "--signal", "SIGKILL", service])
            .map(drop)
    }

    /// Starts a stopped service again.
    ///
    /// # Errors
    /// When Compose refuses.
    pub fn start(&self, service: &str) -> Result<()> {
        self.compose(&["start", service]).map(drop)
    }

    /// Runs `firewall ARGS` in a container of its own, in no pod, on one network of the stack, and returns its standard output.
    ///
    /// # Errors
    /// When it exits non-zero: with all that it said.
    pub fn run_firewall_on(&self, network: &str, args: &[String]) -> Result<String> {
        let image = self.inspect("fw-edge", "{{.Config.Image}}")?;
        let name = self.compose(&["config", "--format", "json"])?;
        let name: Value = serde_json::from_str(&name)?;
        let name = name["networks"][network]["name"].as_str();
        let name = name.with_context(|| format!("the stack has no network {network}"))?;
        let mut command = vec!["run", "--rm", "--network", name, &image];
        command.extend(args.iter().map(String::as_str));
        docker(&command)
    }

    /// Starts a service's container anew by the engine, which knows nothing of those who depend on it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn restart_alone(&self, service: &str) -> Result<()> {
        docker(&["restart", "--time", "5", &self.container(service)?]).map(drop)
    }

    /// The network namespace that a service's processes are in.
    ///
    /// # Errors
    /// When it does not run, or this user may not look.
    pub fn namespace(&self, service: &str) -> Result<PathBuf> {
        let path = format!("/proc/{}/ns/net", self.pid(service)?);
        std::fs::read_link(&path).with_context(|| format!("read {path}; this needs root"))
    }

    /// The first process of a service's container, as this machine numbers it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, service: &str) -> Result<u32> {
        let pid = self.inspect(service, "{{.State.Pid}}")?.parse()?;
        ensure!(pid != 0, "{service} does not run");
        Ok(pid)
    }

    fn inspect(&self, service: &str, format: &str) -> Result<String> {
        let text = docker(&["inspect", "--format", format, &self.container(service)?])?;
        Ok(text.trim().to_owned())
    }

    fn container(&self, service: &str) -> Result<String> {
        let id = self.compose(&["ps", "--all", "--quiet", service])?;
        Ok(id.trim().to_owned())
    }

    /// The running containers' ids, service by service: the same before and after means that nothing was replaced.
    ///
    /// # Errors
    /// When Compose refuses.
    pub fn container_ids(&self) -> Result<BTreeSet<String>> {
        let text = self.compose(&["ps", "--format", "{{.Service}} {{.ID}}"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Every long-running service with its health as Compose tells it (`healthy`, `starting`, …, empty where there is none).
    ///
    /// # Errors
    /// When Compose refuses or prints no JSON.
    pub fn health(&self) -> Result<Vec<(String, String)>> {
        let text = self.compose(&["ps", "--format", "json"])?;
        text.lines()
            .map(|line| {
                let service: Value = serde_json::from_str(line)?;
                let field = |key: &str| service[key].as_str().unwrap_or_default().to_owned();
                Ok((field("Service"), field("Health")))
            })
            .collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(root());
        // What cargo tells a test of its package: a cargo below us would take it for its own, and compile everything anew.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            let of_a_package = [
                "CARGO_MANIFEST_",
                "CARGO_PKG_",
                "CARGO_CRATE_",
                "CARGO_BIN_",
            ];
            if of_a_package.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(&key);
            }
        }
        for (key, value) in self.environment() {
            command.env(key, value);
        }
        command
    }

    /// What tells this stack from every other one on the machine.
    fn environment(&self) -> [(&'static str, String); 7] {
        [
            ("COMPOSE_PROJECT_NAME", self.project.clone()),
            ("HOLDFAST_SUBNET", self.subnet.clone()),
            ("HOLDFAST_HTTPS_PORT", self.https_port.to_string()),
            ("HOLDFAST_HTTP_PORT", self.http_port.to_string()),
            ("HOLDFAST_JAEGER_PORT", self.jaeger_port.to_string()),
            ("HOLDFAST_PROMETHEUS_PORT", self.prometheus_port.to_string()),
            ("HOLDFAST_RUN", std::process::id().to_string()),
        ]
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("HOLDFAST_KEEP_LOGS").is_some() {
            let _ = self
                .compose(&["logs", "--no-color", "--tail", "60"])
                .map(|text| eprintln!("{text}"));
        }
        if let Err(error) = self.stack(&["down", "--volumes"]) {
            eprintln!(
                "the test stack {} was not taken down: {error:#}",
                self.project
            );
        }
    }
}

/// The repository's root.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Takes down the stacks of runs whose process is gone, and no others.
fn sweep() -> Result<()> {
    let projects = docker(&[
        "ps",
        "-a",
        "--format",
        "{{.Label \"com.docker.compose.project\"}}",
    ])?;
    let volumes = docker(&[
        "volume",
        "ls",
        "--format",
        "{{.Label \"com.docker.compose.project\"}}",
    ])?;
    let networks = docker(&[
        "network",
        "ls",
        "--format",
        "{{.Label \"com.docker.compose.project\"}}",
    ])?;
    let found: BTreeSet<&str> = projects
        .lines()
        .chain(volumes.lines())
        .chain(networks.lines())
        .collect();
    for project in found {
        let Some(pid) = project.strip_prefix(PROJECT_PREFIX) else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            eprintln!("taking down {project}, whose run is gone");
            remove(project)?;
        }
    }
    Ok(())
}

/// Removes all that carries a project's label. Not by `docker compose down`: where a run was killed while it was taken down, a container may
/// be left whose pod is gone, and Compose gives up on the whole project then.
fn remove(project: &str) -> Result<()> {
    let label = format!("label=com.docker.compose.project={project}");
    let listed = |what: &[&str]| docker(&[what, &["--quiet", "--filter", &label]].concat());
    for (list, remove) in [
        (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
        (&["network", "ls"], &["network", "rm"]),
        (&["volume", "ls"], &["volume", "rm", "--force"]),
    ] {
        let ids = listed(list)?;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            docker(&[remove, &ids].concat())?;
        }
    }
    Ok(())
}

/// A subnet's first two octets that no network of the engine uses.
fn free_subnet() -> Result<String> {
    let ids = docker(&["network", "ls", "--quiet"])?;
    let mut inspect = vec![
        "network",
        "inspect",
        "--format",
        "{{range .IPAM.Config}}{{.Subnet}} {{end}}",
    ];
    inspect.extend(ids.lines());
    let used = docker(&inspect)?;
    // Runs that start at the same time should not choose the same one.
    let count = u32::from(SUBNETS.end() - SUBNETS.start()) + 1;
    let first = std::process::id() % count;
    (0..count)
        .map(|n| u32::from(*SUBNETS.start()) + (first + n) % count)
        .map(|octet| format!("10.{octet}"))
        .find(|subnet| {
            !used
                .split_whitespace()
                .any(|u| u.starts_with(&format!("{subnet}.")))
        })
        .context("every subnet from 10.214 to 10.250 is in use: `docker network ls` shows by whom")
}

/// A TCP port of the loopback that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn docker(args: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(args).output()?;
    succeeded(output, &format!("docker {}", args.join(" ")))
}

fn succeeded(output: Output, what: &str) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{what} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
