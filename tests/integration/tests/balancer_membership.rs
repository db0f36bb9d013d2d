//! Who the backends are, changed while everything goes on: by a new configuration, and by names that come to mean something else.

mod balancer_common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::websocket::echo;
use balancer_common::{Backend, Balancer, Conversation, Next, RawBackend, SOON, World};
use futures::future::{join, join_all};
use harness::{free_port, namespace, wait_until};
use tokio::sync::Semaphore;

/// How a balancer is told.
#[derive(Clone, Copy, Debug)]
enum How {
    Hangup,
    Verb,
}

impl How {
    /// Tells it, and returns what it says.
    async fn reload(self, balancer: &Balancer) -> Result<String> {
        match self {
            How::Verb => balancer.tell(&["reload"]).await,
            How::Hangup => {
                let before = balancer.told(&["reloaded"]).len();
                balancer.program.hang_up()?;
                wait_until("it has reloaded", SOON, async || {
                    balancer.told(&["reloaded"]).len() > before
                })
                .await
                .with_context(|| balancer.program.log().join("\n"))?;
                let told = balancer.told(&["reloaded"]).pop().context("no line")?;
                Ok(told["message"].as_str().unwrap_or_default().to_owned())
            }
        }
    }
}

/// A backend for everything that lasts: WebSockets, and below /long an answer of which the second half waits.
fn lasting(world: &World, name: &str) -> Result<(RawBackend, Arc<Semaphore>)> {
    let (go_on, says) = (Arc::new(Semaphore::new(0)), name.to_owned());
    let there = Arc::clone(&go_on);
    let backend = world.raw_backend(name, move |on: Conversation| {
        serve(on, Arc::clone(&there), says.clone())
    })?;
    Ok((backend, go_on))
}

async fn serve(mut on: Conversation, go_on: Arc<Semaphore>, says: String) -> Result<Next> {
    match on.path().as_str() {
        "/socket" => return echo(on, Arc::new(AtomicUsize::new(0))).await,
        "/long" => {
            on.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
                .await?;
            go_on.acquire().await?.forget();
            on.write("-half").await?;
        }
        _ => {
            on.read_body().await?;
            on.answer(&says).await?;
        }
    }
    on.go_on()
}

/// Who answers so many requests, one after the other.
async fn answers(balancer: &Balancer, count: usize) -> Result<Vec<String>> {
    balancer.answerers(&[balancer.client()?], count).await
}

async fn names(balancer: &Balancer) -> Result<Vec<String>> {
    let status = balancer.admin("status").await?;
    let all = status["backends"].as_array().context("no backends")?;
    let names = all.iter().filter_map(|one| one["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

async fn wait_for_names(balancer: &Balancer, expected: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    let met = wait_until("these backends", SOON, async || {
        last = names(balancer).await.unwrap_or_default();
        last == expected
    });
    met.await
        .with_context(|| format!("{last:?} instead of {expected:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_removed_finishes_what_it_has() -> Result<()> {
    for how in [How::Hangup, How::Verb] {
        let world = World::new()?;
        let ((one, go_on), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
        let balancer = world.balancer_before(&[&one], "").await?;
        let mut socket = balancer.websocket().await?;
        let mut long = Vec::new();
        for client in [balancer.client()?, balancer.client_1()?] {
            long.push(client.get(balancer.url("/long")).send().await?);
        }
        let mut upload = balancer.wire().await?;
        upload
            .write("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nfirst")
            .await?;
        balancer.wait_for_in_flight(&[4]).await?;
        let (_, port) = two.place();
        balancer.reconfigure_members(&[("web-2", port, "")])?;
        let said = how.reload(&balancer).await?;
        ensure!(said.trim() == "reloaded: 1 backends, 1 before", "{said}");
        balancer.wait_for_state("web-2", "up").await?;
        let leaving = balancer.of("web-1").await?;
        ensure!(
            leaving["leaving"] == true && leaving["in_flight"] == 4,
            "{leaving}"
        );
        ensure!(leaving["reason"] == "no member any more", "{leaving}");
        ensure!(answers(&balancer, 10).await? == ["web-2"], "{how:?}");
        upload.write("-half").await?;
        let answer = upload.answer_to("POST").await?;
        ensure!(answer.text() == "web-1", "{answer:?}");
        go_on.add_permits(2);
        for long in long {
            ensure!(long.text().await? == "first-half");
        }
        ensure!(socket.is_alive().await);
        balancer.wait_for_in_flight(&[0, 1]).await?;
        drop(socket);
        wait_for_names(&balancer, &["web-2"]).await?;
        let metrics = balancer.admin("metrics").await?;
        let metrics = metrics.as_str().context("no text")?;
        ensure!(
            !metrics.contains("backend=\"web-1\""),
            "its counters are still there"
        );
        ensure!(metrics.contains("balancer_requests_total{backend=\"web-2\",code=\"2xx\"} 10"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_of_a_removed_backend_is_told_1001_at_the_deadline() -> Result<()> {
    let world = World::new()?;
    let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
    let keys = "[balancing]\ndrain_deadline_s = 1\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut socket = balancer.websocket().await?;
    ensure!(socket.is_alive().await);
    balancer.reconfigure_members(&[("web-2", two.place().1, "")])?;
    let began = Instant::now();
    How::Verb.reload(&balancer).await?;
    ensure!(socket.is_alive().await);
    ensure!(socket.closed().await? == 1001);
    ensure!(began.elapsed() >= Duration::from_secs(1));
    wait_for_names(&balancer, &["web-2"]).await
}

/// One that was removed by mistake and is a member again is a member like any other: the deadline that it had is none any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_a_member_again_keeps_what_it_has() -> Result<()> {
    let world = World::new()?;
    let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
    let keys = "[balancing]\ndrain_deadline_s = 5\n";
    let balancer = world.balancer_before(&[&one], keys).await?;
    let mut socket = balancer.websocket().await?;
    let ((_, port_1), (_, port_2)) = (one.place(), two.place());
    let began = Instant::now();
    balancer.reconfigure_members(&[("web-2", port_2, "")])?;
    How::Verb.reload(&balancer).await?;
    balancer.reconfigure_members(&[("web-1", port_1, ""), ("web-2", port_2, "")])?;
    How::Verb.reload(&balancer).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(balancer.of("web-1").await?["leaving"] == false);
    balancer.wait_for_in_flight(&[1, 0]).await?;
    while began.elapsed() < Duration::from_secs(6) {
        ensure!(
            socket.is_alive().await,
            "it was ended after {:?}",
            began.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Nor is a new one ended.
    let mut sockets = [balancer.websocket().await?, balancer.websocket().await?];
    for socket in &mut sockets {
        ensure!(socket.is_alive().await);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_one_that_stays_disturbs_nothing_and_its_counters_go_on() -> Result<()> {
    for how in [How::Hangup, How::Verb] {
        let world = World::new()?;
        let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
        let balancer = world.balancer_before(&[&one, &two], "").await?;
        let ((_, port_1), (_, port_2)) = (one.place(), two.place());
        ensure!(answers(&balancer, 10).await?.len() == 2);
        let mut sockets = [balancer.websocket().await?, balancer.websocket().await?];
        balancer.wait_for_in_flight(&[1, 1]).await?;
        let since = balancer.of("web-1").await?;
        let connections = one.connections();
        // In another order, too.
        balancer.reconfigure_members(&[
            ("web-2", port_2, ""),
            (
                "web-1",
                port_1,
                ", weight = 300, requests_max = 7, standby = true",
            ),
        ])?;
        how.reload(&balancer).await?;
        ensure!(names(&balancer).await? == ["web-2", "web-1"]);
        let now = balancer.of("web-1").await?;
        ensure!(
            now["weight"] == 300 && now["requests_max"] == 7 && now["in_flight"] == 1,
            "{now}"
        );
        ensure!(
            now["state"] == "up" && now["warm_percent"] == 100,
            "{now} {since}"
        );
        ensure!(
            balancer
                .metric("balancer_backend_share{backend=\"web-1\"}")
                .await?
                == 300 * 256
        );
        answers(&balancer, 10).await?;
        let mut answered = 0;
        for name in ["web-1", "web-2"] {
            let counter = format!("balancer_requests_total{{backend=\"{name}\",code=\"2xx\"}}");
            answered += balancer.metric(&counter).await?;
        }
        ensure!(answered == 20, "{answered} {how:?}");
        for socket in &mut sockets {
            ensure!(socket.is_alive().await);
        }
        // Its connections are used again.
        ensure!(one.connections() <= connections + 1, "{how:?}");
        ensure!(balancer.told(&["no member any more"]).is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_changes_nothing_and_says_why() -> Result<()> {
    let world = World::new()?;
    let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
    let balancer = world.balancer_before(&[&one, &two], "").await?;
    let mut sockets = [balancer.websocket().await?, balancer.websocket().await?];
    let good = fs::read_to_string(balancer.config())?;
    let (_, port) = one.place();
    let with = |member: &str| {
        let mut config: toml::Table = good.parse()?;
        let members: toml::Table = format!("backends = [{member}]").parse()?;
        config.extend(members);
        anyhow::Ok(toml::to_string(&config)?)
    };
    let cases = [
        ("backends = [".to_owned(), "balancer-1.toml"),
        (format!("{good}\n[nothing]\nkey = 1\n"), "no such key"),
        (with("")?, "at least one backend"),
        (
            with("{ name = \"web-1\", host = \"127.0.0.1\", port = 0 }")?,
            "backends[0].port",
        ),
        (
            with(&format!(
                "{{ name = \"web-1\", host = \"127.0.0.1\", port = {port}, weight = 1001 }}"
            ))?,
            "backends[0].weight",
        ),
        (
            with(&format!(
                "{{ name = \"a\", host = \"b\", port = {port} }}, {{ name = \"a\", host = \"c\", port = {port} }}"
            ))?,
            "a name that no other backend has",
        ),
        (
            with(&format!(
                "{{ name = \"web-1\", hose = \"b\", port = {port} }}"
            ))?,
            "hose",
        ),
        (
            good.replace("[health]\n", "[health]\nrise = 0\n"),
            "health.rise",
        ),
    ];
    for (bad, why) in &cases {
        fs::write(balancer.config(), bad)?;
        let before = balancer.told(&["the configuration is wrong"]).len();
        // The program's own command reads the same configuration, to know where the socket is: it is asked on the socket itself.
        let error = balancer.admin("reload").await.unwrap_err();
        let error = format!("{error:#}");
        ensure!(error.contains(why), "no {why} in {error}");
        balancer.program.hang_up()?;
        wait_until("it is told of", SOON, async || {
            balancer.told(&["the configuration is wrong"]).len() > before
        })
        .await?;
        let told = balancer.told(&["the configuration is wrong"]).pop();
        let told = told.context("no line")?.to_string();
        ensure!(told.contains(why), "no {why} in {told}");
        ensure!(names(&balancer).await? == ["web-1", "web-2"]);
    }
    fs::remove_file(balancer.config())?;
    let error = balancer.admin("reload").await.unwrap_err();
    ensure!(format!("{error:#}").contains("balancer-1.toml"), "{error}");
    balancer.wait_for_states(&["up", "up"]).await?;
    for socket in &mut sockets {
        ensure!(socket.is_alive().await);
    }
    ensure!(answers(&balancer, 10).await?.len() == 2);
    fs::write(balancer.config(), good)?;
    let said = How::Hangup.reload(&balancer).await?;
    ensure!(said == "reloaded: 2 backends, 2 before", "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_need_a_restart_are_named_and_backends_are_taken_over_all_the_same() -> Result<()>
{
    let world = World::new()?;
    let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
    let balancer = world.balancer_before(&[&one], "").await?;
    let ((_, port_1), (_, port_2)) = (one.place(), two.place());
    balancer.reconfigure_members(&[("web-1", port_1, ""), ("web-2", port_2, "")])?;
    let more: toml::Table =
        "instance = 2\n[admission]\nqueue_max = 7\n[request]\nkeep_alive_s = 9\n\
         upgrades = []\n[ejection]\ntime_s = 4\n"
            .parse()?;
    balancer.reconfigure(|config| config.extend(more))?;
    for how in [How::Verb, How::Hangup] {
        let said = how.reload(&balancer).await?;
        let (_, keys) = said
            .trim()
            .split_once("; a restart is needed for ")
            .with_context(|| said.clone())?;
        let mut keys: Vec<&str> = keys.split(", ").collect();
        keys.sort_unstable();
        ensure!(
            keys == [
                "admission.queue_max",
                "ejection.time_s",
                "instance",
                "request.keep_alive_s",
                "request.upgrades"
            ],
            "{said}"
        );
    }
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(answers(&balancer, 10).await?.len() == 2);
    // Until then the old ones are in force.
    let mut socket = balancer.websocket().await?;
    ensure!(socket.is_alive().await);
    Ok(())
}

/// Another host or port under the same name is another backend: what the old one has is finished there.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_moves_finishes_where_it_was() -> Result<()> {
    let world = World::new()?;
    let (old, go_on) = lasting(&world, "web-1")?;
    let balancer = world.balancer_before(&[&old], "").await?;
    let client = balancer.client()?;
    let long = client.get(balancer.url("/long")).send().await?;
    ensure!(answers(&balancer, 5).await? == ["web-1"]);
    let heard = old.heard().len();
    let (new, _) = lasting(&world, "web-1")?;
    balancer.reconfigure_members(&[("web-1", new.place().1, "")])?;
    How::Verb.reload(&balancer).await?;
    balancer.wait_for_states(&["up", "drain"]).await?;
    ensure!(answers(&balancer, 5).await? == ["web-1"]);
    ensure!(old.heard().len() == heard && new.heard().len() == 5);
    go_on.add_permits(1);
    ensure!(long.text().await? == "first-half");
    wait_for_names(&balancer, &["web-1"]).await?;
    // It is one name, and its counters go on.
    let answered = balancer
        .metric("balancer_requests_total{backend=\"web-1\",code=\"2xx\"}")
        .await?;
    ensure!(answered == 11, "{answered}");
    ensure!(
        balancer
            .metric("balancer_backend_state{backend=\"web-1\",state=\"up\"}")
            .await?
            == 1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wanted_of_a_backend_holds_when_it_is_a_member_again() -> Result<()> {
    let world = World::new()?;
    let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
    let ((_, port_1), (_, port_2)) = (one.place(), two.place());
    let balancer = world.balancer_before(&[&one, &two], "").await?;
    balancer.tell(&["drain", "web-2"]).await?;
    balancer.reconfigure_members(&[("web-1", port_1, "")])?;
    How::Verb.reload(&balancer).await?;
    wait_for_names(&balancer, &["web-1"]).await?;
    balancer.reconfigure_members(&[("web-1", port_1, ""), ("web-2", port_2, "")])?;
    How::Verb.reload(&balancer).await?;
    balancer.wait_for_states(&["up", "drain"]).await?;
    ensure!(answers(&balancer, 6).await? == ["web-1"]);
    ensure!(two.heard().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_members_come_and_go_and_no_request_is_lost() -> Result<()> {
    let world = World::new()?;
    let ((one, _), (two, _)) = (lasting(&world, "web-1")?, lasting(&world, "web-2")?);
    let ((_, port_1), (_, port_2)) = (one.place(), two.place());
    let balancer = world
        .balancer_before(&[&one, &two], "[balancing]\nslow_start_s = 0\n")
        .await?;
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = join_all((0..6).map(|worker| {
        let client = match worker % 2 {
            0 => balancer.client(),
            _ => balancer.client_1(),
        };
        let (balancer, over, done) = (&balancer, &over, &done);
        async move {
            let client = client?;
            while !over.load(Ordering::SeqCst) {
                // Without a key: nobody may send it again for us.
                let response = client.post(balancer.url("/")).body("x").send().await?;
                ensure!(response.status() == 200, "{response:?}");
                response.bytes().await?;
                done.fetch_add(1, Ordering::SeqCst);
            }
            anyhow::Ok(())
        }
    }));
    let drill = async {
        for round in 0..10 {
            for list in [
                &[("web-1", port_1, "")][..],
                &[("web-1", port_1, ""), ("web-2", port_2, "")],
                &[("web-2", port_2, "")],
                &[("web-2", port_2, ""), ("web-1", port_1, "")],
            ] {
                balancer.reconfigure_members(list)?;
                let how = [How::Verb, How::Hangup][round % 2];
                how.reload(&balancer).await?;
                let up = async || {
                    let mut count = 0;
                    for (name, ..) in list {
                        let one = balancer.of(name).await.unwrap_or_default();
                        count += usize::from(one["state"] == "up" && one["leaving"] == false);
                    }
                    count == list.len()
                };
                wait_until("they are up", SOON, up).await?;
                let target = done.load(Ordering::SeqCst) + 20;
                wait_until("requests are answered", SOON, async || {
                    done.load(Ordering::SeqCst) >= target
                })
                .await?;
            }
        }
        anyhow::Ok(())
    };
    let drill = async {
        let drilled = drill.await;
        over.store(true, Ordering::SeqCst);
        drilled
    };
    let (load, drilled) = join(load, drill).await;
    drilled?;
    load.into_iter().collect::<Result<Vec<_>>>()?;
    let heard = one.heard().len() + two.heard().len();
    let answered = done.load(Ordering::SeqCst);
    ensure!(heard == answered, "{heard} heard, {answered} answered");
    balancer.wait_for_in_flight(&[0, 0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_of_a_host_is_a_backend_and_they_come_and_go() -> Result<()> {
    let test = "each_address_of_a_host_is_a_backend_and_they_come_and_go";
    let directory = tempfile::tempdir()?;
    let hosts = directory.path().join("hosts");
    fs::write(
        &hosts,
        "127.0.0.1 localhost\n127.0.0.2 web\n127.0.0.3 web\n",
    )?;
    if let Some(outcome) = namespace::with_its_own_hosts(test, &hosts) {
        return outcome;
    }
    let hosts = namespace::hosts()?;
    let means = |lasts: &[u8]| {
        let lines = lasts.iter().map(|last| format!("127.0.0.{last} web\n"));
        fs::write(
            &hosts,
            lines.fold("127.0.0.1 localhost\n".to_owned(), |all, line| all + &line),
        )
    };
    let world = World::new()?;
    let (port, identity) = (free_port()?, world.identity("web", "web")?);
    let start = |last: u8| Backend::start_at("web", &identity, ([127, 0, 0, last], port).into());
    let (two, three, four) = (start(2)?, start(3)?, start(4)?);
    let member = |host: &str| {
        format!(
            "backends = [{{ name = \"web\", host = \"{host}\", port = {port}, every_address = true }}]\n"
        )
    };
    let keys = member("web") + "[balancing]\nslow_start_s = 0\ndrain_deadline_s = 1\n";
    let balancer = world
        .balancer_on(free_port()?, free_port()?, "balancer-1", &[], &keys)
        .await?;
    wait_for_names(&balancer, &["web@127.0.0.2", "web@127.0.0.3"]).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(answers(&balancer, 10).await? == ["web@127.0.0.2", "web@127.0.0.3"]);
    // Each can be spoken of.
    balancer.tell(&["drain", "web@127.0.0.2"]).await?;
    ensure!(answers(&balancer, 6).await? == ["web@127.0.0.3"]);
    balancer.tell(&["ready", "web@127.0.0.2"]).await?;
    // One more comes.
    means(&[4, 3, 2])?;
    let all = ["web@127.0.0.2", "web@127.0.0.3", "web@127.0.0.4"];
    wait_for_names(&balancer, &all).await?;
    balancer.wait_for_states(&["up"; 3]).await?;
    ensure!(answers(&balancer, 12).await? == all);
    // One goes, with a request in flight.
    let held: Vec<_> = (0..3)
        .map(|_| {
            let client = balancer.client().expect("a client");
            tokio::spawn(client.get(balancer.url("/sleep/1500")).send())
        })
        .collect();
    balancer.wait_for_in_flight(&[1, 1, 1]).await?;
    means(&[4, 2])?;
    let is_leaving = |one: &serde_json::Value| one["leaving"] == true;
    balancer
        .wait_for_backend("web@127.0.0.3", "it leaves", is_leaving)
        .await?;
    let before = three.count();
    ensure!(answers(&balancer, 12).await? == ["web@127.0.0.2", "web@127.0.0.4"]);
    ensure!(three.count() == before);
    for one in held {
        ensure!(one.await??.status() == 200, "what was in flight is lost");
    }
    wait_for_names(&balancer, &["web@127.0.0.2", "web@127.0.0.4"]).await?;
    // A name server that knows nothing takes nobody out.
    fs::write(&hosts, "127.0.0.1 localhost\n")?;
    let (checks, looks) = (four.checks(), two.checks());
    wait_until("many looks", SOON, async || {
        four.checks() > checks + 15 && two.checks() > looks + 15
    })
    .await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(answers(&balancer, 4).await? == ["web@127.0.0.2", "web@127.0.0.4"]);
    // A configuration that names another host brings other addresses.
    fs::write(
        &hosts,
        "127.0.0.1 localhost\n127.0.0.3 other\n127.0.0.4 other\n",
    )?;
    let other: toml::Table = member("other").parse()?;
    balancer.reconfigure(|config| config.extend(other))?;
    How::Verb.reload(&balancer).await?;
    wait_for_names(&balancer, &["web@127.0.0.3", "web@127.0.0.4"]).await?;
    balancer.wait_for_states(&["up", "up"]).await?;
    ensure!(answers(&balancer, 6).await? == ["web@127.0.0.3", "web@127.0.0.4"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_addresses_are_taken_than_there_may_be_backends() -> Result<()> {
    let test = "no_more_addresses_are_taken_than_there_may_be_backends";
    let directory = tempfile::tempdir()?;
    let hosts = directory.path().join("hosts");
    let lines = (2..=9).map(|last| format!("127.0.0.{last} web\n"));
    fs::write(&hosts, lines.collect::<String>())?;
    if let Some(outcome) = namespace::with_its_own_hosts(test, &hosts) {
        return outcome;
    }
    let world = World::new()?;
    let (port, identity) = (free_port()?, world.identity("web", "web")?);
    let _backends = (2..=9_u8)
        .map(|last| Backend::start_at("web", &identity, ([127, 0, 0, last], port).into()))
        .collect::<Result<Vec<_>>>()?;
    let keys = format!(
        "backends = [{{ name = \"web\", host = \"web\", port = {port}, every_address = true }}]\n\
         [balancing]\nbackends_max = 5\n"
    );
    let balancer = world
        .balancer_on(free_port()?, free_port()?, "balancer-1", &[], &keys)
        .await?;
    balancer.wait_for_states(&["up"; 5]).await?;
    balancer
        .wait_for_told(&["balancing.backends_max is reached"])
        .await?;
    ensure!(balancer.metric("balancer_backends_left_out_total").await? == 3);
    Ok(())
}
