//! Running it: configuration, the admin socket, certificates.

mod balancer_common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, SOON, World};
use harness::{Program, free_port, path_of, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_exits_78_and_names_file_line_key_and_what_is_expected() -> Result<()>
{
    let world = World::new()?;
    let (path, _) = world.write_config(
        free_port()?,
        free_port()?,
        "balancer-1",
        &[("web-1", 1)],
        "",
    )?;
    let good = fs::read_to_string(&path)?;
    for (bad, parts) in [
        ("[health]\nfall = 0\n", ["health.fall", "1 to 1000", "0"]),
        ("[health]\nfal = 3\n", ["health.fal", "no such key", "fall"]),
        (
            "[listen]\nhttps = \"8443\"\n",
            ["listen.https", "socket address", "8443"],
        ),
        (
            "[backend]\nidle_s = \"15\"\n",
            ["backend.idle_s", "an integer", "15"],
        ),
    ] {
        fs::write(&path, bad)?;
        for command in ["run", "check-config"] {
            let output = Command::new(path_of("balancer")?)
                .arg("--config")
                .arg(&path)
                .arg(command)
                .output()?;
            let text = String::from_utf8(output.stderr)?;
            ensure!(
                output.status.code() == Some(78),
                "{command} {bad}: {:?} {text}",
                output.status
            );
            let place = format!("{}:2", path.display());
            for part in parts.into_iter().chain([place.as_str()]) {
                ensure!(text.contains(part), "{bad}: no {part} in {text}");
            }
        }
    }
    fs::write(&path, good)?;
    let output = Command::new(path_of("balancer")?)
        .arg("--config")
        .arg(&path)
        .arg("check-config")
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_certificate_or_a_taken_port_is_said_in_a_sentence() -> Result<()> {
    let world = World::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let (path, _) = world.write_config(port, free_port()?, "balancer-1", &[("web-1", 1)], "")?;
    let config = path.display().to_string();
    let mut program = Program::spawn("balancer", ["--config", &config], [])?;
    ensure!(program.exited(SOON).await?.code() == Some(1));
    program
        .wait_for_log("the port", SOON, |line| {
            line.contains(&format!("listen on 127.0.0.1:{port}"))
        })
        .await?;

    let identity = world.identity("balancer-1", "balancer")?;
    fs::remove_file(identity.join("tls.key"))?;
    let mut program = Program::spawn("balancer", ["--config", &config], [])?;
    ensure!(program.exited(SOON).await?.code() == Some(1));
    program
        .wait_for_log("the file", SOON, |line| {
            line.contains("tls.key") && line.contains("pki")
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_and_status_answer_from_the_running_balancer() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let mut balancer = world.balancer_ready(&[&one], "").await?;
    let config = balancer.socket.with_extension("toml");
    let run = |arguments: &[&str]| {
        Command::new(path_of("balancer")?)
            .arg("--config")
            .arg(&config)
            .args(arguments)
            .output()
            .context("run")
    };
    ensure!(run(&["healthcheck"])?.status.success());
    let table = String::from_utf8(run(&["status"])?.stdout)?;
    ensure!(
        table
            .lines()
            .any(|line| line.starts_with("web-1") && line.contains("up")),
        "{table}"
    );
    let json: serde_json::Value = serde_json::from_slice(&run(&["status", "--json"])?.stdout)?;
    ensure!(
        json["backends"][0]["name"] == "web-1" && json["certificate_days_left"].as_i64() > Some(80),
        "{json}"
    );
    ensure!(balancer.admin("dance").await.is_err());
    balancer.stop(SOON).await?;
    let gone = run(&["healthcheck"])?;
    ensure!(
        gone.status.code() == Some(1) && !gone.stdout.is_empty(),
        "{gone:?}"
    );
    drop(two);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&one], "").await?;
    let keep_alive = balancer.client()?;
    keep_alive
        .get(balancer.url("/"))
        .send()
        .await?
        .error_for_status()?;
    let before = certificate(&balancer).await?;

    let identity = world.identity("balancer-1", "balancer")?;
    wait_until("another certificate", SOON, async || {
        certificate(&balancer).await.is_ok_and(|now| now != before)
    })
    .await?;
    let renewed = certificate(&balancer).await?;
    // Neither the connection that was open nor the way to the backends has suffered.
    for client in [&keep_alive, &balancer.client()?] {
        client
            .get(balancer.url("/"))
            .send()
            .await?
            .error_for_status()?;
    }

    // A pair that does not belong together: the link is moved to it as a rotation would.
    let directory = identity.parent().context("a directory")?;
    let bad = directory.join("bad");
    fs::create_dir(&bad)?;
    for file in ["ca.crt", "tls.crt"] {
        fs::copy(identity.join(file), bad.join(file))?;
    }
    let other = world.identity("balancer-2", "balancer")?;
    fs::copy(other.join("tls.key"), bad.join("tls.key"))?;
    std::os::unix::fs::symlink("bad", directory.join("next"))?;
    fs::rename(directory.join("next"), directory.join("current"))?;
    balancer
        .program
        .wait_for_log("a complaint", SOON, |line| {
            line.contains("tls.key") && line.contains("last good one")
        })
        .await?;
    ensure!(certificate(&balancer).await? == renewed);
    balancer
        .client()?
        .get(balancer.url("/"))
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}

/// The certificate that a new connection is given.
async fn certificate(balancer: &Balancer) -> Result<Vec<u8>> {
    balancer.raw().await?.peer_certificate()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_the_log_slows_no_request() -> Result<()> {
    let world = World::new()?;
    let one = world.backend("web-1").await?;
    let (config, socket) = world.write_config(
        free_port()?,
        free_port()?,
        "balancer-1",
        &[("web-1", one.port())],
        "[access_log]\nqueue_lines_max = 10\n",
    )?;
    let text: toml::Table = fs::read_to_string(&config)?.parse()?;
    let https = text["listen"]["https"]
        .as_str()
        .and_then(|address| address.rsplit(':').next())
        .context("a port")?
        .to_owned();
    // Nobody reads this pipe.
    let mut child = Command::new(path_of("balancer")?)
        .arg("--config")
        .arg(&config)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let asked = async {
        wait_until("it listens", SOON, async || socket.exists()).await?;
        let authority = reqwest::Certificate::from_pem(world.authority.cert_pem().as_bytes())?;
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .timeout(SOON)
            .build()?;
        let url = format!("https://localhost:{https}/{}", "x".repeat(500));
        wait_until("the first answer", SOON, async || {
            client
                .get(&url)
                .send()
                .await
                .is_ok_and(|r| r.status() == 200)
        })
        .await?;
        // 64 KiB of pipe, 64 KiB of batch and ten lines are full long before this ends.
        for _ in 0..400 {
            client.get(&url).send().await?.error_for_status()?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), asked).await;
    let dropped = metric(&socket, "balancer_access_log_lines_dropped_total").await;
    child.kill()?;
    child.wait()?;
    asked??;
    ensure!(dropped? > 0, "no line was dropped");
    Ok(())
}

async fn metric(socket: &std::path::Path, name: &str) -> Result<u64> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(socket).await?;
    stream.write_all(b"metrics\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let text: String = serde_json::from_str(answer.strip_prefix("ok ").context("refused")?)?;
    harness::metric(&text, name)
}
