//! What an operator does and sees: the program's own commands, the status, a configuration that changes.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use harness::{free_port, path_of, wait_until};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::{Balancer, SOON, World};

/// The key `backends`: the name and the port of each, and what else is said of it.
pub(crate) fn members(list: &[(&str, u16, &str)]) -> String {
    let members = list.iter().map(|(name, port, more)| {
        format!("{{ name = \"{name}\", host = \"127.0.0.1\", port = {port}{more} }}")
    });
    format!("backends = [{}]\n", members.collect::<Vec<_>>().join(", "))
}

/// What a command has printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl World {
    /// A balancer over backends of which more is said than name and port, with these keys besides. It may not have looked at them yet.
    pub(crate) async fn balancer_over(
        &self,
        list: &[(&str, u16, &str)],
        keys: &str,
    ) -> Result<Balancer> {
        self.balancer_named("balancer-1", list, keys).await
    }

    /// The same, under a given name: of several, each has its own.
    pub(crate) async fn balancer_named(
        &self,
        name: &str,
        list: &[(&str, u16, &str)],
        keys: &str,
    ) -> Result<Balancer> {
        let keys = members(list) + keys;
        self.balancer_on(free_port()?, free_port()?, name, &[], &keys)
            .await
    }
}

impl Balancer {
    /// Who answers so many requests of each client, one after the other.
    pub(crate) async fn answerers(
        &self,
        clients: &[reqwest::Client],
        count: usize,
    ) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for client in clients {
            for _ in 0..count {
                let response = client.get(self.url("/")).send().await?;
                let response = response.error_for_status()?;
                names.push(response.headers()["x-served-by"].to_str()?.to_owned());
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.socket.with_extension("toml")
    }

    /// Changes its configuration; it has not read it yet.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut toml::Table)) -> Result<()> {
        let mut config: toml::Table = fs::read_to_string(self.config())?.parse()?;
        change(&mut config);
        Ok(fs::write(self.config(), toml::to_string(&config)?)?)
    }

    /// Changes the backends of its configuration; it has not read them yet.
    pub(crate) fn reconfigure_members(&self, list: &[(&str, u16, &str)]) -> Result<()> {
        let members: toml::Table = members(list).parse()?;
        self.reconfigure(|config| config.extend(members))
    }

    /// Starts one of the program's commands beside the running balancer.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Child> {
        Ok(Command::new(path_of("balancer")?)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?)
    }

    /// One of the program's commands, to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Said> {
        let ended = self.command(arguments)?.wait_with_output();
        let output = tokio::time::timeout(SOON, ended)
            .await
            .with_context(|| format!("{arguments:?} does not end"))??;
        Ok(Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout)?,
            error: String::from_utf8(output.stderr)?,
        })
    }

    /// A command that must end well; what it has printed.
    pub(crate) async fn tell(&self, arguments: &[&str]) -> Result<String> {
        let said = self.run(arguments).await?;
        ensure!(said.code == Some(0), "{arguments:?}: {said:?}");
        Ok(said.out)
    }

    /// A command that must fail; what it has said.
    pub(crate) async fn fails(&self, arguments: &[&str]) -> Result<String> {
        let said = self.run(arguments).await?;
        ensure!(
            said.code.is_some_and(|code| code != 0) && said.out.is_empty(),
            "{arguments:?}: {said:?}"
        );
        Ok(said.error)
    }

    /// What the status says of a backend.
    pub(crate) async fn of(&self, backend: &str) -> Result<Value> {
        let status = self.admin("status").await?;
        let backends = status["backends"].as_array().context("no backends")?;
        let one = backends.iter().find(|one| one["name"] == backend);
        one.cloned()
            .with_context(|| format!("no {backend} in {status}"))
    }

    /// Waits until the status says of a backend what it should.
    pub(crate) async fn wait_for_backend(
        &self,
        backend: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let met = wait_until(what, SOON, async || {
            last = self.of(backend).await.unwrap_or_default();
            is(&last)
        });
        met.await.with_context(|| {
            let log = self.program.log().join("\n");
            format!("the status of {backend} is {last}\n{log}")
        })?;
        Ok(last)
    }

    /// Waits until a backend is in this state.
    pub(crate) async fn wait_for_state(&self, backend: &str, state: &str) -> Result<Value> {
        let what = format!("{backend} is {state}");
        self.wait_for_backend(backend, &what, |one| one["state"] == state)
            .await
    }

    /// Waits until so many requests wait in the queue.
    pub(crate) async fn wait_for_waiting(&self, count: u64) -> Result<()> {
        let mut last = Value::Null;
        let met = wait_until("as many requests wait", SOON, async || {
            last = self.admin("status").await.unwrap_or_default();
            last["waiting"] == count
        });
        met.await
            .with_context(|| format!("{count} are to wait, the status is {last}"))
    }

    /// Lines of the log, the access log left out, that hold all of these words.
    pub(crate) fn told(&self, words: &[&str]) -> Vec<Value> {
        let lines = self.program.log().into_iter().filter_map(|line| {
            let parsed: Value = serde_json::from_str(&line).ok()?;
            (parsed["target"] != "access" && words.iter().all(|word| line.contains(word)))
                .then_some(parsed)
        });
        lines.collect()
    }

    /// Waits for such a line.
    pub(crate) async fn wait_for_told(&self, words: &[&str]) -> Result<Value> {
        let found = harness::wait_for("a line of the log", SOON, async || self.told(words).pop());
        found
            .await
            .with_context(|| format!("{words:?} in\n{}", self.program.log().join("\n")))
    }
}
