//! The unprivileged child: it has the open ports, and can do nothing else.
//!
//! There are two processes of it. `keep` starts `serve` again when it ends, for the owner cannot: by then it has given up the right to
//! start anything under another user. What the owner knows comes in on the standard input, a line at a time.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use chassis::{
    identity::{Clients, Identity, IdentityWatch},
    matrix::matrix,
};
use prometheus::Registry;
use rustls::ServerConfig;
use telemetry::metrics::Endpoint;
use tokio::net::TcpListener;

use crate::{config::Config, door::Passage, metrics::Metrics, ruleset::counters};

/// Between an end and the next start.
const KEEP_PAUSE: Duration = Duration::from_secs(1);

/// How often the days that the certificate has left are counted.
const DAYS_EVERY: Duration = Duration::from_secs(600);

/// What is behind the door speaks this.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Starts `serve` again and again.
///
/// # Errors
/// When it cannot be started at all.
pub fn keep() -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    loop {
        let status = Command::new(&program)
            .arg("serve")
            .stdin(Stdio::inherit())
            .status()
            .context("cannot start the process that serves the counters")?;
        eprintln!(
            "firewall: the process that serves the counters ended ({status}); starting it again"
        );
        std::thread::sleep(KEEP_PAUSE);
    }
}

/// Serves the metrics and the door until it is killed.
///
/// # Errors
/// When a port cannot be had, or the identity not be read.
pub fn serve(config: Config) -> Result<()> {
    telemetry::logs::init("firewall", &config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(live(config))
}

async fn live(config: Config) -> Result<()> {
    let registry = Registry::new();
    let passages = config.passages();
    let doors: Vec<&str> = passages.iter().map(|(p, _)| p.port.as_str()).collect();
    let metrics = Metrics::new(&registry, counters(matrix(), &config.pod)?, &doors)?;
    let metrics = Arc::new(metrics);
    let identity = IdentityWatch::load(&config.identity)?;
    let owner = config.owner().context("there is no such pod")?;
    let service = &matrix().services[owner];
    let role = service.role.as_deref().unwrap_or_default();

    let mut ports = Ports::default();
    let tls = |ports: &mut Ports, purpose: &str| {
        let callers = matrix().callers(role, purpose);
        ports.add(callers, &identity.current())
    };
    let version = env!("CARGO_PKG_VERSION");
    let endpoint = Endpoint::bind(&config.metrics, "firewall", version, &registry).await?;
    let scraped = tls(&mut ports, "metrics");
    tokio::spawn(telemetry::metrics::serve(
        endpoint,
        move || scraped.load_full(),
        move || telemetry::metrics::render(&registry),
    ));
    for (passage, port) in passages {
        let listener = listen((config.door.listen, port).into()).await?;
        let passage = Passage {
            port: passage.port.clone(),
            to: passage.to,
            tls: tls(&mut ports, &passage.port),
            limits: config.door.clone(),
            metrics: Arc::clone(&metrics),
        };
        tokio::spawn(passage.serve(listener));
    }
    let told = Arc::clone(&metrics);
    std::thread::spawn(move || listen_to_owner(&told));
    tokio::join!(
        count_days(&identity, &metrics),
        identity.follow(|identity| ports.replace(&identity)),
    );
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// What TLS is made of on each port, by who may call there.
#[derive(Default)]
struct Ports(Vec<(Vec<&'static str>, Arc<ArcSwap<ServerConfig>>)>);

impl Ports {
    fn add(
        &mut self,
        callers: Vec<&'static str>,
        identity: &Identity,
    ) -> Arc<ArcSwap<ServerConfig>> {
        let tls = identity.server_config(Clients::Roles(&callers), ALPN);
        let tls = Arc::new(ArcSwap::new(tls));
        self.0.push((callers, Arc::clone(&tls)));
        tls
    }

    fn replace(&self, identity: &Identity) {
        for (callers, tls) in &self.0 {
            tls.store(identity.server_config(Clients::Roles(callers), ALPN));
        }
    }
}

/// Until the owner is gone; a thread of its own, for a read of the standard input cannot be waited for otherwise.
fn listen_to_owner(metrics: &Metrics) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(report) => metrics.reported(report),
            // Cut short, because we were slow.
            Err(error) => tracing::debug!(%error, "a report of the owner was not read"),
        }
    }
}

async fn count_days(identity: &IdentityWatch, metrics: &Metrics) {
    loop {
        metrics
            .certificate_days_left
            .set(identity.current().days_left());
        tokio::time::sleep(DAYS_EVERY).await;
    }
}
