//! Connections themselves: what a new one costs, with and without a session resumed, and what one that does nothing holds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Extent;
use super::cell::{Connections, Link};
use super::proxy::Running;
use super::report::{Report, Sample};
use super::scene::Scene;
use crate::programs::Proxy;
use crate::tls_client::{TlsClient, was_resumed};

/// Clients that connect at the same time.
const CLIENTS: usize = 16;

/// What each connection asks for.
const PATH: &str = "/1k";

/// Connections from one source address: well below the number of ports that it has.
const PER_ADDRESS: usize = 5_000;

/// The share of connections that have to be resumed for the figure to be one of resumption.
const RESUMED: f64 = 0.9;

/// How long a proxy may take to give back or to take what it needs, before its memory is read.
const SETTLED: Duration = Duration::from_secs(1);

/// What a cell came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) kind: Connections,
    /// By rounds.
    pub(super) samples: BTreeMap<Proxy, Vec<Sample>>,
}

/// Bytes per idle connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) resident: f64,
    pub(super) proportional: f64,
}

/// New connections with one request each, whole handshakes or resumed ones.
pub(super) async fn measure(
    kind: Connections,
    scene: &Scene,
    fleet: &mut [Running],
    extent: Extent,
    report: &mut Report,
) {
    let cell = super::cell::Cell::Connections(kind);
    let mut outcome = Outcome {
        kind,
        samples: BTreeMap::new(),
    };
    let mut failed = Vec::new();
    for round in 0..extent.rounds {
        for running in fleet.iter_mut() {
            let proxy = running.proxy;
            if failed.contains(&proxy) {
                continue;
            }
            match turn(kind, scene, running, extent).await {
                Ok((sample, resumed)) => {
                    eprintln!("{cell} {} {proxy}: {sample}", extent.turn(round));
                    if kind == Connections::Resumed && resumed < RESUMED {
                        report.remark(format!(
                            "{cell}, {proxy}: only {:.0} % of its connections were resumed; it is left out.",
                            resumed * 100.0
                        ));
                        failed.push(proxy);
                        continue;
                    }
                    outcome.samples.entry(proxy).or_default().push(sample);
                }
                Err(error) => {
                    report.fail(proxy, &format!("{cell}, {proxy}"), &error);
                    failed.push(proxy);
                }
            }
        }
    }
    report.connections.push(outcome);
}

/// One proxy's turn, and the share of its connections that were resumed.
async fn turn(
    kind: Connections,
    scene: &Scene,
    running: &mut Running,
    extent: Extent,
) -> Result<(Sample, f64)> {
    let authority = scene.identities.balancer.authority();
    let (done, resumed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        // Each has a client of its own, with tickets of its own.
        let client = TlsClient::new(&authority, kind == Connections::Resumed)?;
        let (done, resumed) = (Arc::clone(&done), Arc::clone(&resumed));
        let port = running.port;
        clients.spawn(async move {
            loop {
                let (stream, _) = client.get(Ipv4Addr::LOCALHOST, port, PATH).await?;
                done.fetch_add(1, Ordering::Relaxed);
                resumed.fetch_add(u64::from(was_resumed(&stream)), Ordering::Relaxed);
            }
            #[expect(unreachable_code, reason = "says what the error is")]
            anyhow::Ok(())
        });
    }
    let group = running.group();
    let measuring = async {
        sleep(extent.warm_up).await;
        let reading = || -> Result<_> {
            let counts = (
                done.load(Ordering::Relaxed),
                resumed.load(Ordering::Relaxed),
            );
            Ok((Instant::now(), counts, group.cpu()?))
        };
        let (begin, (done_before, resumed_before), cpu_before) = reading()?;
        sleep(extent.length).await;
        let (end, (done_after, resumed_after), cpu_after) = reading()?;
        let connections = done_after - done_before;
        ensure!(connections > 0, "no connection was made");
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let share = (resumed_after - resumed_before) as f64 / connections as f64;
        let cpu = cpu_after.saturating_sub(cpu_before);
        Ok((Sample::of(connections, end - begin, cpu), share))
    };
    let outcome = tokio::select! {
        outcome = measuring => outcome?,
        // A client only ends with an error.
        Some(ended) = clients.join_next() => {
            ended??;
            anyhow::bail!("a client has ended")
        }
    };
    running.empty_log()?;
    Ok(outcome)
}

/// What many connections that do nothing hold: each proxy is started for it, once, for memory does not depend on luck.
pub(super) async fn measure_idle(
    scene: &mut Scene,
    extent: Extent,
    report: &mut Report,
) -> Result<()> {
    for (proxy, program) in scene.programs.clone() {
        let running = scene.start(proxy, &program, Link::Mutual).await;
        let outcome = match running {
            Ok(mut running) => idle(scene, &mut running, extent.idle_connections).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(idle) => {
                eprintln!(
                    "connections-idle {proxy}: {:.1} KiB resident, {:.1} KiB proportional",
                    idle.resident / 1024.0,
                    idle.proportional / 1024.0
                );
                report.idle.insert(proxy, idle);
            }
            Err(error) => report.fail(proxy, &format!("connections-idle, {proxy}"), &error),
        }
    }
    Ok(())
}

async fn idle(scene: &Scene, running: &mut Running, connections: usize) -> Result<Idle> {
    let client = TlsClient::new(&scene.identities.balancer.authority(), false)?;
    // What the first ones make a proxy set up is not theirs.
    drop(open(&client, running.port, CLIENTS * 4).await?);
    sleep(SETTLED).await;
    let before = running.group().memory()?;
    let held = open(&client, running.port, connections).await?;
    sleep(SETTLED).await;
    let after = running.group().memory()?;
    let closed = held.iter().filter(|stream| is_closed(stream)).count();
    ensure!(
        closed == 0,
        "{closed} of {connections} connections were closed while they were idle"
    );
    running.empty_log()?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / connections as f64;
    Ok(Idle {
        resident: each(before.resident, after.resident),
        proportional: each(before.proportional, after.proportional),
    })
}

/// Opens connections and has one request answered on each. What our side needs for TLS is given up: nothing is sent on them any more.
async fn open(client: &TlsClient, port: u16, connections: usize) -> Result<Vec<TcpStream>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, next) = (client.clone(), Arc::clone(&next));
        clients.spawn(async move {
            let mut held = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= connections {
                    return anyhow::Ok(held);
                }
                let (stream, _) = client
                    .get(source(number)?, port, PATH)
                    .await
                    .with_context(|| format!("connection {number} of {connections}"))?;
                held.push(stream.into_inner().0);
            }
        });
    }
    let mut all = Vec::new();
    while let Some(held) = clients.join_next().await {
        all.extend(held??);
    }
    Ok(all)
}

/// The address that a connection comes from: 127.0.0.1, then others of loopback, none too often.
fn source(number: usize) -> Result<Ipv4Addr> {
    let last = u8::try_from(1 + number / PER_ADDRESS).context("too many connections")?;
    Ok(Ipv4Addr::new(127, 0, 0, last))
}

fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_has_more_connections_than_ports() {
        assert_eq!(Ipv4Addr::new(127, 0, 0, 1), source(4_999).unwrap());
        assert_eq!(Ipv4Addr::new(127, 0, 0, 2), source(5_000).unwrap());
        assert!(source(10_000_000).is_err());
    }
}
