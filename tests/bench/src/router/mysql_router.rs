//! MySQL Router in a container, in front of both servers.
//!
//! It has one port for each server, which is what it can do with servers that are named in its configuration. Its splitting by statement
//! (`access_mode=auto`) cannot be compared: see docs/performance.md.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Identities, Pair, Server, docker, free_port, named, run, stand_in, wait_for};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::group::Group;

/// Names an image with the program `mysqlrouter`; else one is made of Debian's package.
const VARIABLE: &str = "MYSQLROUTER_IMAGE";

/// For what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// Where its files are in the container.
const FILES: &str = "/etc/holdfast";

/// What it does with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Ends the client's, and begins one of its own with the server: as it has to where it shares connections or splits statements.
    Both,
    /// Carries it unopened from the client to the server.
    Passing,
}

/// It runs until it is dropped.
#[derive(Debug)]
pub(super) struct MysqlRouter {
    /// The port that leads to the replica.
    pub(super) reads: u16,
    /// The port that leads to the primary.
    pub(super) writes: u16,
    /// What it says of itself.
    pub(super) version: String,
    container: String,
    _files: TempDir,
}

impl MysqlRouter {
    /// Starts it in front of a pair, and waits until both its ports are open.
    pub(super) async fn start(pair: &Pair, tls: Tls) -> Result<MysqlRouter> {
        let image = image().await?;
        let files = run::directory("mysqlrouter")?;
        let (reads, writes) = (free_port()?, free_port()?);
        let ways = [
            ("reads", reads, pair.mysql_2()),
            ("writes", writes, pair.mysql_1()),
        ];
        fs::write(
            files.path().join("mysqlrouter.conf"),
            configuration(tls, &ways),
        )?;
        lay_out(files.path(), pair.identities())?;
        let mut mount = OsString::from("--volume=");
        mount.push(files.path());
        mount.push(format!(":{FILES}:ro"));
        let label = format!("--label={}={}", run::LABEL, run::id());
        let options = [
            "run",
            "--detach",
            "--network=host",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            &label,
        ];
        let arguments = options.map(OsString::from).into_iter().chain([mount]);
        let user = format!("--user={}", nix::unistd::geteuid());
        let command = [
            user.as_str(),
            image.as_str(),
            "mysqlrouter",
            "--config",
            &format!("{FILES}/mysqlrouter.conf"),
        ];
        let container = docker(arguments.chain(command.map(OsString::from))).await?;
        let version = docker(["exec", &container, "mysqlrouter", "--version"]).await;
        let this = MysqlRouter {
            reads,
            writes,
            version: version
                .as_deref()
                .ok()
                .and_then(of_version)
                .unwrap_or_default()
                .to_owned(),
            container,
            _files: files,
        };
        for port in [reads, writes] {
            let open = wait_for("MySQL Router listens", SOON, async || {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Some(true);
                }
                let state = ["inspect", "--format={{.State.Running}}", &this.container];
                let running = docker(state).await;
                running
                    .is_ok_and(|running| running == "false")
                    .then_some(false)
            });
            if !matches!(open.await, Ok(true)) {
                bail!(
                    "MySQL Router does not listen; it wrote:\n{}",
                    this.log().await?
                );
            }
        }
        version?;
        Ok(this)
    }

    /// Its processes, for their CPU time.
    pub(super) async fn group(&self) -> Result<Group> {
        group_of(&self.container).await
    }

    async fn log(&self) -> Result<String> {
        let output = Command::new("docker")
            .args(["logs", &self.container])
            .output()
            .await?;
        Ok(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

impl Drop for MysqlRouter {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.container])
            .output();
    }
}

/// Whoever calls it has to show a certificate of our authority; it verifies the servers' names, and shows them the client's certificate,
/// for the account is bound to that.
fn configuration(tls: Tls, ways: &[(&str, u16, &Server)]) -> String {
    let mut text =
        String::from("[DEFAULT]\nlogging_folder =\n\n[logger]\nlevel = WARNING\n\n[io]\n");
    for (name, port, server) in ways {
        let _ = write!(
            text,
            "\n[routing:{name}]\nbind_address = 127.0.0.1\nbind_port = {port}\ndestinations = 127.0.0.1:{}\n\
             routing_strategy = first-available\nprotocol = classic\n",
            server.port()
        );
        text += &match tls {
            Tls::Passing => {
                "client_ssl_mode = PASSTHROUGH\nserver_ssl_mode = AS_CLIENT\n".to_owned()
            }
            Tls::Both => format!(
                "client_ssl_mode = REQUIRED\nclient_ssl_ca = {FILES}/ca.crt\nclient_ssl_cert = {FILES}/front.crt\n\
                 client_ssl_key = {FILES}/front.key\nserver_ssl_mode = REQUIRED\nserver_ssl_verify = VERIFY_IDENTITY\n\
                 server_ssl_ca = {FILES}/ca.crt\nserver_ssl_cert = {FILES}/back.crt\nserver_ssl_key = {FILES}/back.key\n"
            ),
        };
    }
    text
}

/// What it shows to clients is a server's, what it shows to servers is the web server's.
fn lay_out(to: &Path, identities: &Identities) -> Result<()> {
    let front = identities.of("mysql-1").join("current");
    let back = identities.of("web-1").join("current");
    for (from, name) in [
        (front.join("ca.crt"), "ca.crt"),
        (front.join("tls.crt"), "front.crt"),
        (front.join("tls.key"), "front.key"),
        (back.join("tls.crt"), "back.crt"),
        (back.join("tls.key"), "back.key"),
    ] {
        let copy = to.join(name);
        fs::copy(&from, &copy).with_context(|| format!("copy {}", from.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
        // Copied by root of what is another user's.
        std::os::unix::fs::chown(&copy, Some(nix::unistd::geteuid().as_raw()), None)?;
    }
    Ok(())
}

async fn image() -> Result<String> {
    match named(VARIABLE) {
        Some(named) => Ok(named),
        None => stand_in("mysqlrouter").await,
    }
}

/// The processes of a container.
pub(super) async fn group_of(container: &str) -> Result<Group> {
    let id = docker(["inspect", "--format={{.State.Pid}}", container]).await?;
    Ok(Group(id.parse()?))
}

/// `9.7.4` out of `MySQL Router  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`.
fn of_version(said: &str) -> Option<&str> {
    said.split_whitespace()
        .skip_while(|word| *word != "Ver")
        .nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_word_behind_ver() {
        let said = "MySQL Router  Ver 9.7.4-2 for Linux on x86_64 ((Debian))";
        assert_eq!(Some("9.7.4-2"), of_version(said));
        assert_eq!(None, of_version("nothing of the kind"));
    }
}
