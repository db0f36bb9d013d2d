//! Every server against every leaf: a certificate of the right authority and the wrong role gets no answer, a line in the server's log,
//! and a count in its metrics. Who may is in the matrix. (MySQL's servers do the same by account: mysql_image.rs.)

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use chassis::{
    identity::Identity,
    matrix::{Usage, matrix},
};
use harness::{Identities, Program, free_port, wait_for};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

const SOON: Duration = Duration::from_secs(10);

/// How a refusal ends up in a log.
const REFUSED: &str = "a certificate of the wrong role was refused";

/// A server that runs, and one of its ports.
struct Port {
    /// The role of the server, and what the port is for: both as the matrix calls them.
    role: &'static str,
    purpose: &'static str,
    address: SocketAddr,
}

/// Tries every leaf at every port of one program; `refusals` reads its counter.
async fn try_all(
    identities: &Identities,
    program: &Program,
    ports: &[Port],
    metric: &str,
    scrape: Scrape<'_>,
) -> Result<()> {
    for port in ports {
        let callers: BTreeSet<_> = matrix()
            .callers(port.role, port.purpose)
            .into_iter()
            .collect();
        ensure!(
            !callers.is_empty(),
            "nobody may call {} of {}",
            port.purpose,
            port.role
        );
        for (leaf, service) in &matrix().services {
            let Some(role) = service.role.as_deref() else {
                continue;
            };
            let what = format!("{leaf} at {} of {}", port.purpose, port.role);
            let before = scrape.read(identities, metric).await?;
            let lines = said(program);
            let answered = call(identities, leaf, port).await;
            let may = callers.contains(role);
            ensure!(
                answered.is_ok() == may,
                "{what}: {answered:?}, {may} was expected"
            );
            // One that is for servers alone is refused before anybody asks for its role.
            let counts = !may && service.usage.contains(&Usage::Client);
            let expected = u64::from(counts);
            let counted = scrape.read(identities, metric).await? - before;
            ensure!(counted == expected, "{what}: {metric} went up by {counted}");
            wait_for(&format!("{what}: {expected} lines"), SOON, async || {
                (said(program) - lines == usize::from(counts)).then_some(())
            })
            .await
            .with_context(|| program.log().join("\n"))?;
        }
    }
    Ok(())
}

fn said(program: &Program) -> usize {
    let log = program.log();
    log.iter().filter(|line| line.contains(REFUSED)).count()
}

/// Where a program tells its metrics.
enum Scrape<'a> {
    /// Over mutual TLS.
    Port(&'a Port),
    /// On its admin socket.
    Socket(PathBuf),
}

impl Scrape<'_> {
    async fn read(&self, identities: &Identities, metric: &str) -> Result<u64> {
        let text = match self {
            Self::Port(port) => call(identities, "prometheus", port).await?,
            Self::Socket(path) => {
                let json = chassis::admin::call(path, "metrics", SOON).await?;
                serde_json::from_str::<String>(&json)?
            }
        };
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{metric} ")))
            .with_context(|| format!("no {metric} in\n{text}"))?;
        Ok(value.trim().parse()?)
    }
}

/// A whole exchange with the certificate of `leaf`: only an answer counts, for with TLS 1.3 a client learns after its handshake that it
/// was refused.
async fn call(identities: &Identities, leaf: &str, port: &Port) -> Result<String> {
    let identity = Identity::load(&identities.of(leaf).join("current"))?;
    let connector = TlsConnector::from(identity.client_config(Some(port.role), &[b"http/1.1"]));
    let exchange = async {
        let stream = TcpStream::connect(port.address).await?;
        let mut stream = connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        ensure!(text.starts_with("HTTP/1.1 "), "no answer");
        Ok(text)
    };
    timeout(SOON, exchange).await?
}

async fn listens(program: &Program, ports: &[Port]) -> Result<()> {
    for port in ports {
        wait_for(
            &format!("it listens at {}", port.address),
            SOON,
            async || TcpStream::connect(port.address).await.ok(),
        )
        .await
        .with_context(|| program.log().join("\n"))?;
    }
    Ok(())
}

fn variables<const N: usize>(variables: [(&str, String); N]) -> Vec<(String, String)> {
    variables
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

#[tokio::test]
async fn a_web_server_answers_balancers_alone() -> Result<()> {
    let identities = Identities::make()?;
    let directory = harness::run::directory("roles")?;
    let socket = directory.path().join("admin.sock");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let environment = variables([
        ("HOLDFAST_WEB__LISTEN", address.to_string()),
        (
            "HOLDFAST_WEB__IDENTITY",
            identities.of("web-1").join("current").display().to_string(),
        ),
        ("HOLDFAST_WEB__ADMIN_SOCKET", socket.display().to_string()),
    ]);
    let program = Program::spawn("web", Vec::<String>::new(), environment)?;
    let ports = [Port {
        role: "web",
        purpose: "https",
        address,
    }];
    listens(&program, &ports).await?;
    try_all(
        &identities,
        &program,
        &ports,
        "web_role_refusals_total",
        Scrape::Socket(socket),
    )
    .await
}

#[tokio::test]
async fn a_firewall_tells_its_counters_to_prometheus_alone() -> Result<()> {
    let identities = Identities::make()?;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let program = firewall(
        &identities,
        "fw-web-1",
        "pod-web-1",
        address,
        [127, 0, 0, 1],
    )?;
    let ports = [Port {
        role: "firewall",
        purpose: "metrics",
        address,
    }];
    listens(&program, &ports).await?;
    let scrape = Scrape::Port(&ports[0]);
    try_all(
        &identities,
        &program,
        &ports,
        "firewall_role_refusals_total",
        scrape,
    )
    .await
}

#[tokio::test]
async fn the_door_lets_through_whom_the_matrix_names_for_each_of_its_ports() -> Result<()> {
    let identities = Identities::make()?;
    // The ports are fixed, so the address is one that nobody else has.
    let [a, b] = rand::random::<[u8; 2]>();
    let own = [127, 81, a, b.clamp(1, 254)];
    let behind = TcpListener::bind(("127.0.0.1", 0)).await?;
    let to = behind.local_addr()?;
    tokio::spawn(answer_plainly(behind));
    let metrics = SocketAddr::from((own, 9100));
    let passages =
        format!("[{{ port = 'spans', to = '{to}' }}, {{ port = 'queries', to = '{to}' }}]");
    let mut environment = environment(&identities, "fw-telemetry", "pod-telemetry", metrics, own);
    environment.push(("HOLDFAST_FIREWALL__DOOR__PASSAGES".to_owned(), passages));
    let program = Program::spawn("firewall", vec!["serve".to_owned()], environment)?;
    let port = |purpose, port| Port {
        role: "telemetry",
        purpose,
        address: SocketAddr::from((own, port)),
    };
    let ports = [
        port("metrics", 9100),
        port("spans", 4318),
        port("queries", 8443),
    ];
    listens(&program, &ports).await?;
    let scrape = Scrape::Port(&ports[0]);
    try_all(
        &identities,
        &program,
        &ports,
        "firewall_role_refusals_total",
        scrape,
    )
    .await
}

fn firewall(
    identities: &Identities,
    service: &str,
    pod: &str,
    metrics: SocketAddr,
    door: [u8; 4],
) -> Result<Program> {
    let environment = environment(identities, service, pod, metrics, door);
    Program::spawn("firewall", vec!["serve".to_owned()], environment)
}

fn environment(
    identities: &Identities,
    service: &str,
    pod: &str,
    metrics: SocketAddr,
    door: [u8; 4],
) -> Vec<(String, String)> {
    let identity = identities.of(service).join("current");
    variables([
        ("HOLDFAST_FIREWALL__POD", pod.to_owned()),
        (
            "HOLDFAST_FIREWALL__IDENTITY",
            identity.display().to_string(),
        ),
        ("HOLDFAST_FIREWALL__METRICS__LISTEN", metrics.to_string()),
        (
            "HOLDFAST_FIREWALL__DOOR__LISTEN",
            std::net::Ipv4Addr::from(door).to_string(),
        ),
    ])
}

/// Who is behind the door: plain HTTP, without a question.
async fn answer_plainly(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        });
    }
}
