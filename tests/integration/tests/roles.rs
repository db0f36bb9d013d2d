//! Every port against every leaf: a certificate of the right authority and the wrong role gets no answer, a line in the server's log, and a
//! count in its metrics. Who may is in the matrix. (MySQL's servers do the same by account: mysql_image.rs.)

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use chassis::{
    identity::Identity,
    matrix::{Usage, matrix},
};
use harness::{Identities, Program, free_port, metric, wait_for};
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

/// What the port for Prometheus is called in the matrix.
const METRICS: &str = "metrics";

/// A port of a server that runs.
struct Port {
    /// The role of the server, and what the port is for: both as the matrix calls them.
    role: &'static str,
    purpose: &'static str,
    address: SocketAddr,
}

/// A program that runs, with its ports; one of them is for metrics, and there it counts whom it has refused.
struct Running {
    name: &'static str,
    program: Program,
    ports: Vec<Port>,
}

impl Running {
    fn start(
        name: &'static str,
        arguments: &[&str],
        environment: Vec<(String, String)>,
        ports: impl Into<Vec<Port>>,
    ) -> Result<Running> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        Ok(Running {
            name,
            program: Program::spawn(name, arguments, environment)?,
            ports: ports.into(),
        })
    }

    /// Tries every leaf at every port, once all of them are open.
    async fn answers_whom_the_matrix_names(&self, identities: &Identities) -> Result<()> {
        for port in &self.ports {
            let what = format!("it listens at {}", port.address);
            wait_for(&what, SOON, async || {
                TcpStream::connect(port.address).await.ok()
            })
            .await
            .with_context(|| self.program.log().join("\n"))?;
        }
        for port in &self.ports {
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
                let may = callers.contains(role);
                // One that is for servers alone is refused before anybody asks for its role.
                let counts = !may && service.usage.contains(&Usage::Client);
                self.answers_or_refuses(identities, leaf, port, may, counts)
                    .await
                    .with_context(|| format!("{leaf} at {} of {}", port.purpose, port.role))?;
            }
        }
        Ok(())
    }

    async fn answers_or_refuses(
        &self,
        identities: &Identities,
        leaf: &str,
        port: &Port,
        may: bool,
        counts: bool,
    ) -> Result<()> {
        let (before, lines) = (self.refusals(identities).await?, self.said());
        let answered = call(identities, leaf, port).await;
        ensure!(answered.is_ok() == may, "{answered:?}, {may} was expected");
        let counted = self.refusals(identities).await? - before;
        ensure!(
            counted == u64::from(counts),
            "the refusals went up by {counted}"
        );
        let as_many = format!("{} lines", u64::from(counts));
        wait_for(&as_many, SOON, async || {
            (self.said() - lines == usize::from(counts)).then_some(())
        })
        .await
        .with_context(|| self.program.log().join("\n"))
    }

    /// How many certificates it has refused for their role, as Prometheus reads it.
    async fn refusals(&self, identities: &Identities) -> Result<u64> {
        let port = self.ports.iter().find(|port| port.purpose == METRICS);
        let text = call(
            identities,
            "prometheus",
            port.context("no port for metrics")?,
        )
        .await?;
        metric(&text, &format!("{}_role_refusals_total", self.name))
    }

    fn said(&self) -> usize {
        let log = self.program.log();
        log.iter().filter(|line| line.contains(REFUSED)).count()
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

/// The variables of a service's configuration.
fn variables<const N: usize>(service: &str, keys: [(&str, String); N]) -> Vec<(String, String)> {
    let prefix = format!("HOLDFAST_{}__", service.to_uppercase());
    keys.map(|(key, value)| (format!("{prefix}{key}"), value))
        .into()
}

fn identity(identities: &Identities, service: &str) -> String {
    let directory = identities.of(service).join("current");
    directory.display().to_string()
}

/// An address of the loopback that nobody else has, for ports that are fixed.
fn own_address() -> Ipv4Addr {
    let [a, b] = rand::random::<[u8; 2]>();
    Ipv4Addr::new(127, 81, a, b.clamp(1, 254))
}

fn metrics(role: &'static str, address: Ipv4Addr, port: u16) -> Port {
    Port {
        role,
        purpose: METRICS,
        address: (address, port).into(),
    }
}

#[tokio::test]
async fn both_balancers_tell_their_metrics_to_prometheus_alone() -> Result<()> {
    let identities = Identities::make()?;
    let directory = harness::run::directory("roles")?;
    let own = own_address();
    for (balancer, port) in [("balancer-1", 9101), ("balancer-2", 9102)] {
        let loopback = |port: u16| format!("127.0.0.1:{port}");
        let environment = variables(
            "balancer",
            [
                ("IDENTITY", identity(&identities, balancer)),
                ("ADMIN_SOCKET", socket(directory.path())),
                ("LISTEN__HTTPS", loopback(free_port()?)),
                ("LISTEN__REDIRECT", loopback(free_port()?)),
                ("METRICS__LISTEN", format!("{own}:{port}")),
            ],
        );
        let ports = [metrics("balancer", own, port)];
        Running::start("balancer", &[], environment, ports)?
            .answers_whom_the_matrix_names(&identities)
            .await
            .context(balancer)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_web_server_answers_balancers_and_tells_its_metrics_to_prometheus_alone() -> Result<()> {
    let identities = Identities::make()?;
    let directory = harness::run::directory("roles")?;
    let own = own_address();
    let environment = variables(
        "web",
        [
            ("IDENTITY", identity(&identities, "web-1")),
            ("ADMIN_SOCKET", socket(directory.path())),
            ("LISTEN", format!("{own}:8443")),
            ("METRICS__LISTEN", format!("{own}:9101")),
        ],
    );
    let ports = [
        metrics("web", own, 9101),
        Port {
            role: "web",
            purpose: "https",
            address: (own, 8443).into(),
        },
    ];
    Running::start("web", &[], environment, ports)?
        .answers_whom_the_matrix_names(&identities)
        .await
}

#[tokio::test]
async fn an_arbiter_tells_its_metrics_to_prometheus_alone() -> Result<()> {
    let identities = Identities::make()?;
    let directory = harness::run::directory("roles")?;
    let own = own_address();
    let state = directory.path().join("state");
    let environment = variables(
        "arbiter",
        [
            ("IDENTITY", identity(&identities, "arbiter")),
            ("ADMIN_SOCKET", socket(directory.path())),
            ("STATE_DIRECTORY", state.display().to_string()),
            ("METRICS__LISTEN", format!("{own}:9101")),
        ],
    );
    Running::start("arbiter", &[], environment, [metrics("arbiter", own, 9101)])?
        .answers_whom_the_matrix_names(&identities)
        .await
}

#[tokio::test]
async fn a_firewall_tells_its_counters_to_prometheus_alone() -> Result<()> {
    let identities = Identities::make()?;
    let own = own_address();
    let environment = firewall(&identities, "fw-web-1", "pod-web-1", own);
    let ports = [metrics("firewall", own, 9100)];
    Running::start("firewall", &["serve"], environment, ports)?
        .answers_whom_the_matrix_names(&identities)
        .await
}

#[tokio::test]
async fn the_door_lets_through_whom_the_matrix_names_for_each_of_its_ports() -> Result<()> {
    let identities = Identities::make()?;
    let own = own_address();
    let behind = TcpListener::bind(("127.0.0.1", 0)).await?;
    let to = behind.local_addr()?;
    tokio::spawn(answer_plainly(behind));
    let mut environment = firewall(&identities, "fw-telemetry", "pod-telemetry", own);
    let passages =
        format!("[{{ port = 'spans', to = '{to}' }}, {{ port = 'queries', to = '{to}' }}]");
    environment.extend(variables("firewall", [("DOOR__PASSAGES", passages)]));
    let door = |purpose, port: u16| Port {
        role: "telemetry",
        purpose,
        address: (own, port).into(),
    };
    let ports = [
        metrics("telemetry", own, 9100),
        door("spans", 4318),
        door("queries", 8443),
    ];
    Running::start("firewall", &["serve"], environment, ports)?
        .answers_whom_the_matrix_names(&identities)
        .await
}

fn socket(directory: &Path) -> String {
    directory.join("admin.sock").display().to_string()
}

/// The configuration of a pod's owner that listens at one address.
fn firewall(
    identities: &Identities,
    service: &str,
    pod: &str,
    own: Ipv4Addr,
) -> Vec<(String, String)> {
    variables(
        "firewall",
        [
            ("POD", pod.to_owned()),
            ("IDENTITY", identity(identities, service)),
            ("METRICS__LISTEN", format!("{own}:9100")),
            ("DOOR__LISTEN", own.to_string()),
        ],
    )
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
