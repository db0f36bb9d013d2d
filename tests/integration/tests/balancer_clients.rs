//! What one client may do: connections at one time, and a rate of requests. Each client here has a loopback address of its own.

mod balancer_common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, Raw, SOON, World, header, problem, tls_of_client};
use futures::future::join_all;
use harness::wait_until;
use reqwest::{Client, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A client with this address, of HTTP/2 or of HTTP/1.1.
fn client_at(balancer: &Balancer, last: u8, is_two: bool) -> Result<Client> {
    let source = std::net::IpAddr::from([127, 0, 0, last]);
    balancer.client_with(|builder| {
        let builder = builder.local_address(source);
        if is_two {
            builder
        } else {
            builder.http1_only()
        }
    })
}

async fn get(client: &Client, balancer: &Balancer) -> Result<Response> {
    Ok(client.get(balancer.url("/")).send().await?)
}

/// What a client is answered that sends too much.
async fn too_many(response: Response) -> Result<()> {
    let seconds: u64 = header(&response, "retry-after").parse()?;
    ensure!((1..=60).contains(&seconds), "{response:?}");
    let document = problem(response, 429).await?;
    ensure!(
        document["type"] == "/problems/too-many-requests",
        "{document}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_as_many_connections_as_it_may_and_others_are_not_its_affair() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[clients]\nconnections_max = 3\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    let mut wires = Vec::new();
    for _ in 0..3 {
        wires.push(balancer.wire_from([127, 0, 0, 2]).await?);
    }
    ensure!(
        balancer.wire_from([127, 0, 0, 2]).await.is_err(),
        "a fourth"
    );
    let refused = "balancer_client_connections_refused_total";
    ensure!(balancer.metric(refused).await? == 1);
    // The three are not disturbed, and another client has three of its own.
    for wire in &mut wires {
        wire.write(GET).await?;
        ensure!(wire.answer().await?.status == 200);
    }
    for _ in 0..3 {
        wires.push(balancer.wire_from([127, 0, 0, 3]).await?);
    }
    ensure!(
        balancer.wire_from([127, 0, 0, 3]).await.is_err(),
        "a fourth"
    );
    // Whoever leaves makes room, in order or not.
    wires.remove(0).reset()?;
    wait_until("there is room", SOON, async || {
        balancer.wire_from([127, 0, 0, 2]).await.is_ok()
    })
    .await?;
    // Both ports count together: on the one for plain HTTP, too.
    let plain = async || -> Result<String> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 3], 0).into())?;
        let address = ([127, 0, 0, 1], balancer.redirect).into();
        let mut stream = socket.connect(address).await?;
        stream.write_all(GET.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    ensure!(!plain().await.is_ok_and(|answer| answer.contains("308")));
    wires.clear();
    wait_until("there is room", SOON, async || {
        plain().await.is_ok_and(|answer| answer.contains("308"))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_at_once_never_pass_the_limit() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[clients]\nconnections_max = 10\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    for round in 0..3 {
        let tries = (0..40).map(|_| balancer.wire_from([127, 0, 0, 2]));
        let wires: Vec<_> = join_all(tries).await.into_iter().flatten().collect();
        ensure!(wires.len() == 10, "{} in round {round}", wires.len());
        drop(wires);
        wait_until("they are gone", SOON, async || {
            let status = balancer.admin("status").await.unwrap_or_default();
            status["connections"] == 0
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_too_often_is_told_so_and_others_are_not_its_affair() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    // One in an hour or so comes back: what is spent is spent.
    let keys = "[clients]\nrequests_per_s = 1\nburst = 10\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    let began = Instant::now();
    let (two, old) = (
        client_at(&balancer, 2, true)?,
        client_at(&balancer, 2, false)?,
    );
    // Both protocols, and all connections, take from one allowance.
    let (mut well, mut refused) = (0, 0);
    for number in 0..20 {
        let response = get([&two, &old][number % 2], &balancer).await?;
        match response.status().as_u16() {
            200 => well += 1,
            _ => {
                too_many(response).await?;
                refused += 1;
            }
        }
    }
    let earned = began.elapsed().as_secs() + 1;
    ensure!(
        (10..=10 + earned).contains(&well),
        "{well} of 20, {refused} refused"
    );
    ensure!(one.count() as u64 == well, "what was refused was sent");
    let counted = "balancer_client_requests_refused_total";
    ensure!(balancer.metric(counted).await? == refused);
    let ended = "balancer_terminations_total{reason=\"rate_limited\"}";
    ensure!(balancer.metric(ended).await? == refused);
    let line = balancer.logged(|line| line["status"] == 429).await?;
    ensure!(
        line["client"] == "127.0.0.2" && line["termination"] == "rate_limited",
        "{line}"
    );
    ensure!(line["backend"].is_null() && line["tries"] == 0, "{line}");
    for last in [3, 4] {
        for is_two in [true, false] {
            let other = client_at(&balancer, last, is_two)?;
            for _ in 0..5 {
                let response = get(&other, &balancer).await?;
                ensure!(response.status() == 200, "{last}: {response:?}");
            }
        }
    }
    // After a while it may come again.
    wait_until("it is let in again", SOON, async || {
        get(&two, &balancer)
            .await
            .is_ok_and(|response| response.status() == 200)
    })
    .await
}

/// Over any time t never more than burst + rate × t, however many connections and threads there are, and nearly as many as that.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_exactly() -> Result<()> {
    const RATE: u64 = 100;
    const BURST: u64 = 20;
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = format!("threads = 2\n[clients]\nrequests_per_s = {RATE}\nburst = {BURST}\n");
    let balancer = world.balancer_ready(&[&one], &keys).await?;
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let loads: Vec<_> = (0..8)
        .map(|number| {
            let client = client_at(&balancer, 2, number % 2 == 0)?;
            let (url, over) = (balancer.url("/"), Arc::clone(&over));
            Ok(tokio::spawn(async move {
                let mut well = 0_u64;
                while !over.load(Ordering::SeqCst) {
                    let response = client.get(&url).send().await?;
                    well += u64::from(response.status() == 200);
                    response.bytes().await?;
                }
                reqwest::Result::Ok(well)
            }))
        })
        .collect::<Result<_>>()?;
    // A neighbour, who asks seldom.
    let neighbour = client_at(&balancer, 3, true)?;
    while began.elapsed() < Duration::from_millis(1500) {
        let response = get(&neighbour, &balancer).await?;
        ensure!(response.status() == 200, "{response:?}");
        let seen = one.count() as u64;
        let most = BURST + (began.elapsed().as_secs_f64() * RATE as f64) as u64;
        // The neighbour's own are a few.
        ensure!(seen <= most + 1 + 40, "{seen} after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::SeqCst);
    let mut well = 0;
    for load in loads {
        well += load.await??;
    }
    let most = BURST as f64 + began.elapsed().as_secs_f64() * RATE as f64;
    ensure!(well as f64 <= most + 1.0, "{well} of at most {most}");
    let least = BURST as f64 + 1.5 * RATE as f64;
    ensure!(well as f64 >= least * 0.8, "only {well} of {least}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_limits_nobody_is_refused_and_nobody_is_remembered() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[clients]\nconnections_max = 0\nrequests_per_s = 0\nburst = 1\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    let client = client_at(&balancer, 2, true)?;
    for _ in 0..50 {
        ensure!(get(&client, &balancer).await?.status() == 200);
    }
    ensure!(balancer.metric("balancer_clients").await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_gone_and_owes_nothing_is_forgotten() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    let wires = [2, 3, 4, 5].map(|last| balancer.wire_from([127, 0, 0, last]));
    let wires: Vec<_> = join_all(wires).await.into_iter().flatten().collect();
    ensure!(wires.len() == 4);
    ensure!(balancer.metric("balancer_clients").await? == 4);
    drop(wires);
    wait_until("they are forgotten", SOON, async || {
        balancer.metric("balancer_clients").await.ok() == Some(0)
    })
    .await
}

/// A connection from a proxy that says who its client is.
async fn announced(world: &World, balancer: &Balancer, client: &str) -> Result<Raw> {
    let mut stream = TcpStream::connect(("127.0.0.1", balancer.https)).await?;
    let header = format!("PROXY TCP4 {client} 192.0.2.1 4711 443\r\n");
    stream.write_all(header.as_bytes()).await?;
    let tls = tls_of_client(world.authority.cert_pem(), &[])?;
    Raw::over(stream, "localhost", Arc::new(tls)).await
}

/// Asks once on a connection of its own; the status.
async fn ask(mut raw: Raw, more: &str) -> Result<u16> {
    raw.write(format!(
        "HEAD / HTTP/1.1\r\nhost: localhost\r\n{more}connection: close\r\n\r\n"
    ))
    .await?;
    let answer = raw.read_to_end(SOON).await?;
    let status = answer.get(9..12).context("no answer")?;
    Ok(status.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_behind_a_proxy_protocol_has_limits_of_its_own() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[listen]\nproxy_protocol_from = [\"127.0.0.0/8\"]\n\
                [clients]\nconnections_max = 2\nrequests_per_s = 1\nburst = 3\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    for client in ["192.0.2.7", "192.0.2.8"] {
        let began = Instant::now();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            // The one before may not be gone for the balancer yet.
            wait_until("there is room", SOON, async || {
                balancer
                    .admin("status")
                    .await
                    .is_ok_and(|status| status["connections"] == 0)
            })
            .await?;
            statuses.push(ask(announced(&world, &balancer, client).await?, "").await?);
        }
        ensure!(statuses[..3] == [200; 3], "{client}: {statuses:?}");
        ensure!(
            statuses[3] == 429 || began.elapsed() >= Duration::from_secs(1),
            "{client}: {statuses:?}"
        );
    }
    // A third connection of a client that has two is closed once it is known whose it is.
    let mut held = Vec::new();
    for client in ["192.0.2.9", "192.0.2.10"] {
        for _ in 0..2 {
            held.push(announced(&world, &balancer, client).await?);
        }
        wait_until("both are counted", SOON, async || {
            balancer
                .admin("status")
                .await
                .is_ok_and(|status| status["connections"] == held.len())
        })
        .await?;
        let third = async { ask(announced(&world, &balancer, client).await?, "").await };
        ensure!(third.await.is_err(), "a third connection of {client}");
    }
    ensure!(
        balancer
            .metric("balancer_client_connections_refused_total")
            .await?
            == 2
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_behind_a_trusted_hop_has_a_rate_of_its_own() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[edge]\ntrusted_hops = [\"127.0.0.9\"]\n\
                [clients]\nrequests_per_s = 1\nburst = 3\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    for is_two in [true, false] {
        // One connection of the hop, for all of its clients.
        let hop = client_at(&balancer, 9, is_two)?;
        let mut statuses = Vec::new();
        let began = Instant::now();
        for _ in 0..4 {
            for client in ["192.0.2.7", "192.0.2.8", "2001:db8::7"] {
                let client = match is_two {
                    true => client.to_owned(),
                    false => client.replace('7', "17").replace("2001:db8", "2001:db9"),
                };
                let request = hop
                    .get(balancer.url("/"))
                    .header("x-forwarded-for", &client);
                let response = request.send().await?;
                statuses.push(response.status().as_u16());
            }
        }
        // 192.0.2.8 is one of both rounds.
        ensure!(statuses[0] == 200 && statuses[3] == 200 && statuses[6] == 200);
        ensure!(statuses[2] == 200 && statuses[5] == 200 && statuses[8] == 200);
        ensure!(
            began.elapsed() >= Duration::from_secs(1)
                || (statuses[9] == 429 && statuses[10] == 429 && statuses[11] == 429),
            "{statuses:?}"
        );
    }
    // Who is not trusted cannot choose whose allowance it uses up.
    let began = Instant::now();
    let liar = client_at(&balancer, 10, true)?;
    let mut refused = 0;
    for number in 0..10 {
        let request = liar
            .get(balancer.url("/"))
            .header("x-forwarded-for", format!("192.0.2.{}", 100 + number));
        refused += u32::from(request.send().await?.status() == 429);
    }
    // One a second is allowed again.
    let earned = u32::try_from(began.elapsed().as_secs())? + 1;
    ensure!(refused + earned >= 5, "{refused}, and {earned} earned");
    let honest = client_at(&balancer, 9, true)?;
    let request = honest
        .get(balancer.url("/"))
        .header("x-forwarded-for", "192.0.2.100");
    ensure!(request.send().await?.status() == 200);
    Ok(())
}

/// More clients than are remembered: the known ones keep their own limits, and nobody is let in without one.
#[tokio::test(flavor = "multi_thread")]
async fn when_too_many_clients_come_memory_is_bounded_and_known_ones_keep_their_own() -> Result<()>
{
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let keys = "[clients]\ntracked_max = 16\nconnections_max = 2\n";
    let balancer = world.balancer_ready(&[&one], keys).await?;
    let mut held = vec![balancer.wire_from([127, 0, 1, 1]).await?];
    for last in 1..=60 {
        if let Ok(wire) = balancer.wire_from([127, 0, 2, last]).await {
            held.push(wire);
        }
    }
    ensure!(balancer.metric("balancer_clients").await? <= 16);
    ensure!(balancer.metric("balancer_clients_overflowed_total").await? >= 44);
    ensure!(
        held.len() > 16 && held.len() <= 1 + 16 + 2 * 16,
        "{}",
        held.len()
    );
    let mut second = balancer.wire_from([127, 0, 1, 1]).await?;
    second.write(GET).await?;
    ensure!(second.answer().await?.status == 200);
    ensure!(balancer.wire_from([127, 0, 1, 1]).await.is_err());
    Ok(())
}
