//! The matrix, tried: from inside every pod, from this machine, and from containers that are in no pod. And what happens to a pod whose
//! rules were changed, or whose owner is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use chassis::matrix::{HOST, Matrix, WORLD, matrix};
use harness::compose::Stack;
use reqwest::StatusCode;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::ledger::client::whole;

/// How long a connection may take. What is dropped never answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a service may take to be in the new namespace of its pod: it notices after two seconds, and a database shuts down first.
const BACK_WITHIN: Duration = Duration::from_secs(45);

/// Whether a connection came about, as far as a firewall is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Somebody listens there.
    Open,
    /// It may be reached, and nobody listens there.
    Closed,
    /// It may not be reached.
    Nothing,
}

/// Every address of every pod, with every port that anybody anywhere listens on.
fn targets(subnet: &str) -> Vec<(String, String, SocketAddr)> {
    let ports: BTreeSet<u16> = matrix()
        .services
        .values()
        .flat_map(|service| service.ports.values().copied())
        // Behind the door, on the loopback alone.
        .chain([4319])
        .collect();
    let mut targets = Vec::new();
    for (pod, description) in &matrix().pods {
        for network in description.hosts.keys() {
            let address = address(matrix(), subnet, pod, network);
            for &port in &ports {
                targets.push((pod.clone(), network.clone(), SocketAddr::new(address, port)));
            }
        }
    }
    targets
}

fn address(matrix: &Matrix, subnet: &str, who: &str, network: &str) -> IpAddr {
    let address = matrix.address(subnet, who, network);
    address
        .expect("whoever is on a network has an address there")
        .into()
}

/// Whether the matrix lets `from` connect to a port of a pod on a network.
fn allowed(from: &str, pod: &str, network: &str, port: u16) -> bool {
    matrix().flows.iter().any(|flow| {
        flow.port == port
            && flow.network == network
            && flow.to.iter().any(|to| to == pod)
            && flow
                .from
                .iter()
                .any(|who| who == from || who == WORLD && on(from, network))
    })
}

/// Whether somebody is on a network: `host` is on all of them, a container that is in no pod on that of its name.
fn on(who: &str, network: &str) -> bool {
    match matrix().pods.get(who) {
        Some(pod) => pod.hosts.contains_key(network),
        None => who == HOST || who == network,
    }
}

/// What is other than the matrix says, seen by `from`.
fn differences(
    from: &str,
    targets: &[(String, String, SocketAddr)],
    seen: &BTreeMap<SocketAddr, Seen>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (pod, network, target) in targets {
        // Within a pod everything goes over the loopback.
        if pod == from {
            continue;
        }
        let port = target.port();
        let expected = if allowed(from, pod, network, port) {
            Seen::Open
        } else {
            Seen::Nothing
        };
        let found = seen.get(target).copied();
        if found != Some(expected) {
            differences.push(format!(
                "from {from} to {pod} on {network} at {target}: {found:?}, the matrix says {expected:?}"
            ));
        }
    }
    differences
}

/// What a program `firewall reach` has printed.
fn read(text: &str) -> Result<BTreeMap<SocketAddr, Seen>> {
    text.lines()
        .map(|line| {
            let (address, outcome) = line.split_once(' ').context("ADDRESS OUTCOME")?;
            let seen = match outcome {
                "open" => Seen::Open,
                "closed" => Seen::Closed,
                "refused" | "silent" => Seen::Nothing,
                other => anyhow::bail!("{address}: {other}"),
            };
            Ok((address.parse()?, seen))
        })
        .collect()
}

fn arguments(targets: &[(String, String, SocketAddr)]) -> Vec<String> {
    targets.iter().map(|(.., to)| to.to_string()).collect()
}

/// Looks from inside a pod.
fn look_from_pod(
    stack: &Stack,
    owner: &str,
    targets: &[(String, String, SocketAddr)],
) -> Result<BTreeMap<SocketAddr, Seen>> {
    let to = arguments(targets);
    let mut command = vec!["exec", "-T", owner, "/usr/local/bin/firewall", "reach"];
    command.extend(to.iter().map(String::as_str));
    read(&stack.compose(&command)?)
}

/// Every difference that every pod sees.
fn differences_of_all_pods(stack: &Stack) -> Result<Vec<String>> {
    let targets = targets(stack.subnet());
    let mut found = Vec::new();
    for (pod, description) in &matrix().pods {
        let seen = look_from_pod(stack, &description.owner, &targets)?;
        found.extend(differences(pod, &targets, &seen));
    }
    Ok(found)
}

pub(crate) async fn every_pod_reaches_what_the_matrix_says_and_nothing_else(
    stack: &Stack,
) -> Result<()> {
    let found = differences_of_all_pods(stack)?;
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

pub(crate) async fn this_machine_reaches_the_edge_and_the_pages_and_nothing_else(
    stack: &Stack,
) -> Result<()> {
    let targets = targets(stack.subnet());
    let mut tries = JoinSet::new();
    for (.., target) in targets.clone() {
        tries.spawn(async move {
            let seen = match timeout(PATIENCE, TcpStream::connect(target)).await {
                Ok(Ok(_)) => Seen::Open,
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Seen::Closed
                }
                Ok(Err(_)) | Err(_) => Seen::Nothing,
            };
            (target, seen)
        });
    }
    let mut seen = BTreeMap::new();
    while let Some(tried) = tries.join_next().await {
        let (target, found) = tried?;
        seen.insert(target, found);
    }
    let found = differences(HOST, &targets, &seen);
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

pub(crate) async fn a_container_in_no_pod_reaches_the_edge_and_nothing_else(
    stack: &Stack,
) -> Result<()> {
    let targets = targets(stack.subnet());
    for network in matrix().networks.keys() {
        let mut command = vec!["reach".to_owned()];
        command.extend(arguments(&targets));
        let seen = read(&stack.run_firewall_on(network, &command)?)?;
        let found = differences(network, &targets, &seen);
        ensure!(found.is_empty(), "{}", found.join("\n"));
    }
    Ok(())
}

/// Each side by itself keeps out what the matrix does not name: with every pod's own way out wide open, the other side still does.
pub(crate) async fn a_pod_whose_own_rules_let_everything_out_reaches_no_more(
    stack: &Stack,
) -> Result<()> {
    let targets = targets(stack.subnet());
    for (pod, description) in &matrix().pods {
        let owner = description.owner.as_str();
        nft(
            stack,
            owner,
            &["insert", "rule", "inet", "fw", "output", "accept"],
        )?;
        nft(
            stack,
            owner,
            &[
                "insert",
                "rule",
                "inet",
                "fw",
                "input",
                "ct",
                "state",
                "established",
                "accept",
            ],
        )?;
        let seen = look_from_pod(stack, owner, &targets);
        reload(stack, owner).await?;
        let found = differences(pod, &targets, &seen?);
        ensure!(found.is_empty(), "{}", found.join("\n"));
    }
    whole(stack).await
}

pub(crate) async fn a_rule_that_is_taken_away_is_seen_by_this_test_and_by_the_owner(
    stack: &Stack,
) -> Result<()> {
    let rules = nft(
        stack,
        "fw-web-1",
        &["-a", "list", "chain", "inet", "fw", "input"],
    )?;
    let handle = rules
        .lines()
        .find(|line| line.contains("in_requests"))
        .and_then(|line| line.rsplit(' ').next())
        .with_context(|| format!("no rule for requests in\n{rules}"))?;
    nft(
        stack,
        "fw-web-1",
        &["delete", "rule", "inet", "fw", "input", "handle", handle],
    )?;
    let found = differences_of_all_pods(stack)?;
    ensure!(
        found
            .iter()
            .any(|difference| difference.contains("from pod-edge to pod-web-1 on app")),
        "the rule is gone, and nobody saw it: {found:?}"
    );
    let health = [
        "exec",
        "-T",
        "fw-web-1",
        "/usr/local/bin/firewall",
        "healthcheck",
    ];
    let said = stack
        .compose(&health)
        .err()
        .context("the owner calls itself healthy")?;
    let said = format!("{said:#}");
    ensure!(said.contains("other ones than were loaded"), "{said}");
    reload(stack, "fw-web-1").await?;
    let found = differences_of_all_pods(stack)?;
    ensure!(found.is_empty(), "{}", found.join("\n"));
    whole(stack).await
}

pub(crate) async fn services_come_back_by_themselves_when_their_owner_is_started_anew(
    stack: &Stack,
) -> Result<()> {
    for (pod, description) in &matrix().pods {
        let before = stack.container_ids()?;
        // By the engine alone: Compose would start the others anew itself.
        stack.restart_alone(&description.owner)?;
        for service in &description.services {
            let joined = format!("{service} is in the new namespace of {pod}");
            until(&joined, BACK_WITHIN, || {
                let owner = stack.namespace(&description.owner);
                matches!((stack.namespace(service), owner), (Ok(one), Ok(other)) if one == other)
            })
            .await?;
        }
        whole(stack).await?;
        ensure!(before == stack.container_ids()?, "something was replaced");
    }
    let answer = stack.client()?.get(stack.url("/healthz")).send().await?;
    ensure!(answer.status() == StatusCode::OK, "{answer:?}");
    let found = differences_of_all_pods(stack)?;
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

fn nft(stack: &Stack, owner: &str, arguments: &[&str]) -> Result<String> {
    let mut command = vec!["exec", "-T", owner, "/usr/sbin/nft"];
    command.extend(arguments);
    stack.compose(&command)
}

/// Has an owner load its rules anew, and waits until they are in force.
async fn reload(stack: &Stack, owner: &str) -> Result<()> {
    stack.compose(&["kill", "--signal", "SIGHUP", owner])?;
    let health = [
        "exec",
        "-T",
        owner,
        "/usr/local/bin/firewall",
        "healthcheck",
    ];
    until("the rules are in force again", BACK_WITHIN, || {
        stack.compose(&health).is_ok()
    })
    .await
}

/// Waits until a condition is true.
async fn until(what: &str, within: Duration, mut is: impl FnMut() -> bool + Send) -> Result<()> {
    let end = Instant::now() + within;
    while !is() {
        ensure!(Instant::now() < end, "not within {within:?}: {what}");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
