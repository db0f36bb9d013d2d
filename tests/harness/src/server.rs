//! One mysqld of the stack's image, on a port of loopback.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use replication::{Endpoint, TlsFiles, connect_options};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use crate::docker::docker;
use crate::identity::Identities;
use crate::mysql_image::{MysqlImage, mount, restrictions};
use crate::small_disk::SmallDisk;
use crate::{free_port, run, wait_for};

/// Stops everything but the entrypoint, and waits until each thread of mysqld has stopped: on a busy machine those that run go on until the
/// one that was told has had its turn.
const FREEZE: &str = r#"
kill -s STOP -- -1
for process in /proc/[0-9]*; do
    [ "$(cat "$process/comm" 2>/dev/null)" = mysqld ] || continue
    while cat "$process"/task/*/status 2>/dev/null | grep '^State:' | grep -qv stopped; do :; done
done
"#;

/// Enough for a boot, and for making a data directory before it, on a machine that is busy compiling. A server that gives up is noticed
/// at once.
const BOOT_MAX: Duration = Duration::from_secs(180);

/// A database account, with the certificate that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Opens, closes and wires servers; may log in to a closed one.
    Arbiter,
    /// What the other server's receiver logs in as.
    Replication,
    /// Makes the schema `ledger`.
    Migrate,
    /// The web servers: rows of `ledger`, and reading who is primary.
    App,
    /// Metrics.
    Monitor,
    /// Backups.
    Backup,
}

impl Account {
    /// Every account there is.
    pub const ALL: [Account; 6] = [
        Account::Arbiter,
        Account::Replication,
        Account::Migrate,
        Account::App,
        Account::Monitor,
        Account::Backup,
    ];

    /// The name to log in with.
    pub fn user(self) -> &'static str {
        match self {
            Account::Arbiter => "arbiter",
            Account::Replication => "replication",
            Account::Migrate => "migrate",
            Account::App => "app",
            Account::Monitor => "monitor",
            Account::Backup => "backup",
        }
    }

    /// The service whose certificate the account has to be used with.
    pub fn consumer(self) -> &'static str {
        match self {
            Account::Arbiter => "arbiter",
            Account::Replication | Account::Backup => "mysql-1",
            Account::Migrate => "migrate",
            Account::App => "web-1",
            Account::Monitor => "prometheus",
        }
    }
}

/// A server in its container. It is closed after each boot, as the image leaves it: [`Account::Arbiter`] alone can log in. Removed with
/// its data when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    port: u16,
    container: String,
    identities: Identities,
    directory: TempDir,
    /// In place of `data` below the directory.
    disk: Option<SmallDisk>,
}

impl Server {
    /// Starts `name` (mysql-1, mysql-2 or mysql-3) on an empty database, and waits until it answers.
    pub async fn start(name: &str, identities: &Identities) -> Result<Server> {
        let directory = run::directory(name)?;
        MysqlImage::get()
            .await?
            .copy_seed(&directory.path().join("data"))
            .await?;
        Server::start_on(name, identities, directory).await
    }

    /// Starts `name` on what is in `data` below the directory (from [`run::directory`]), which may be empty: then the server initialises
    /// it, which takes seconds.
    pub async fn start_on(
        name: &str,
        identities: &Identities,
        directory: TempDir,
    ) -> Result<Server> {
        Server::start_with(name, identities, directory, None).await
    }

    /// Starts `name` with its data on a disk of its own, of so many bytes, which is empty at first.
    pub async fn start_on_small_disk(
        name: &str,
        identities: &Identities,
        bytes: u64,
    ) -> Result<Server> {
        let disk = SmallDisk::make(bytes).await?;
        Server::start_with(name, identities, run::directory(name)?, Some(disk)).await
    }

    async fn start_with(
        name: &str,
        identities: &Identities,
        directory: TempDir,
        disk: Option<SmallDisk>,
    ) -> Result<Server> {
        let image = MysqlImage::get().await?;
        let number = name
            .strip_prefix("mysql-")
            .context("a server is called mysql-1, mysql-2 or mysql-3")?;
        let data = directory.path().join("data");
        let at = "/var/lib/mysql";
        let mounted = match &disk {
            Some(disk) => disk.mount(at),
            None => {
                image.give(&data)?;
                mount(&data, at, "")
            }
        };
        let port = free_port()?;
        let environment = [
            format!("--env=HOLDFAST_MYSQL_SERVER_ID={number}"),
            format!("--env=HOLDFAST_MYSQL_PORT={port}"),
            "--env=HOLDFAST_MYSQL_BIND=127.0.0.1".to_owned(),
            "--env=HOLDFAST_MYSQL_REPORT_HOST=127.0.0.1".to_owned(),
            "--env=HOLDFAST_MYSQL_BUFFER_POOL=32M".to_owned(),
        ];
        let mut arguments: Vec<OsString> =
            vec!["run".into(), "--detach".into(), "--network=host".into()];
        arguments.extend(restrictions());
        arguments.extend(environment.map(OsString::from));
        arguments.push(mounted);
        arguments.push(mount(
            &identities.of(&format!("mysql-{number}")),
            "/run/holdfast/pki",
            ":ro",
        ));
        arguments.push(image.name().into());
        let container = docker(arguments).await?;
        let server = Server {
            name: name.to_owned(),
            port,
            container,
            identities: identities.clone(),
            directory,
            disk,
        };
        server.answers().await?;
        Ok(server)
    }

    /// mysql-1, mysql-2 or mysql-3.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its data is, unless it has a small disk of its own.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The container's id.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// How to log in as `account`: with its password and certificate, over TLS that verifies the server.
    pub fn options(&self, account: Account) -> Result<MySqlConnectOptions> {
        self.options_with_certificate_of(account, account.consumer())
    }

    /// The same with the certificate of another service: what a server has to refuse.
    pub fn options_with_certificate_of(
        &self,
        account: Account,
        consumer: &str,
    ) -> Result<MySqlConnectOptions> {
        let endpoint = Endpoint {
            name: self.name.clone(),
            host: "127.0.0.1".to_owned(),
            port: self.port,
        };
        let user = account.user().to_owned();
        let password = self.identities.password(&user)?;
        let current = self.identities.of(consumer).join("current");
        let files = TlsFiles {
            ca: current.join("ca.crt"),
            cert: current.join("tls.crt"),
            key: current.join("tls.key"),
        };
        Ok(connect_options(
            &endpoint,
            &replication::Account { user, password },
            &files,
        ))
    }

    /// Logs in as `account`.
    pub async fn connect(&self, account: Account) -> Result<MySqlConnection> {
        let options = self.options(account)?;
        options
            .connect()
            .await
            .with_context(|| format!("log in to {} as {}", self.name, account.user()))
    }

    /// A crash: SIGKILL, nothing is said to anybody.
    pub async fn kill(&self) -> Result<()> {
        docker(["kill", &self.container]).await.map(drop)
    }

    /// A clean stop, as `docker stop` does it; gives the exit status.
    pub async fn stop(&self) -> Result<i32> {
        docker(["stop", "--time", "20", &self.container]).await?;
        self.exit_status().await
    }

    /// Starts it again after [`kill`](Server::kill) or [`stop`](Server::stop), and waits until it answers. It is closed again.
    pub async fn restart(&self) -> Result<()> {
        docker(["start", &self.container]).await?;
        self.answers().await
    }

    /// Kills it if it runs, throws its data away, and starts it on an empty database: another server of the same name and port.
    pub async fn renew(&self) -> Result<()> {
        let _ = self.kill().await;
        let data = self.directory.path().join("data");
        tokio::fs::remove_dir_all(&data).await?;
        let image = MysqlImage::get().await?;
        image.copy_seed(&data).await?;
        image.give(&data)?;
        self.restart().await
    }

    /// Stops mysqld from running; connections stay open, and the kernel goes on accepting new ones. Not by `docker pause`, which gives up
    /// now and then where the host has version 1 of control groups.
    pub async fn freeze(&self) -> Result<()> {
        self.run(&["sh", "-c", FREEZE]).await.map(drop)
    }

    /// Lets a frozen server run on.
    pub async fn thaw(&self) -> Result<()> {
        self.run(&["sh", "-c", "kill -s CONT -- -1"])
            .await
            .map(drop)
    }

    /// Runs a program inside the container, as the server's user; gives what it wrote to standard output.
    pub async fn run(&self, command: &[&str]) -> Result<String> {
        docker([&["exec", &self.container], command].concat()).await
    }

    /// What it and its entrypoint have written since it was started first.
    pub async fn log(&self) -> Result<String> {
        let output = tokio::process::Command::new("docker")
            .args(["logs", &self.container])
            .output()
            .await?;
        Ok(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    async fn exit_status(&self) -> Result<i32> {
        Ok(
            docker(["inspect", "--format={{.State.ExitCode}}", &self.container])
                .await?
                .parse()?,
        )
    }

    /// Waits until it can be logged in to; an end of the container is an error at once.
    async fn answers(&self) -> Result<()> {
        let waiting = wait_for("mysqld answers", BOOT_MAX, async || {
            if let Ok(connection) = self.connect(Account::Arbiter).await {
                let _ = connection.close().await;
                return Some(true);
            }
            let running = docker(["inspect", "--format={{.State.Running}}", &self.container]).await;
            (running.is_ok_and(|running| running == "false")).then_some(false)
        });
        match waiting.await {
            Ok(true) => Ok(()),
            Ok(false) => bail!(
                "{} ended with status {} while booting:\n{}",
                self.name,
                self.exit_status().await?,
                self.log().await?
            ),
            Err(error) => {
                Err(error.context(format!("{} wrote:\n{}", self.name, self.log().await?)))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.container])
            .output();
        // Only now can it be removed.
        self.disk.take();
    }
}

/// The number of an error that a server answered with, for example 1045 for a refused login.
pub fn error_number(error: &anyhow::Error) -> Option<u16> {
    let error = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<sqlx::Error>())?;
    error
        .as_database_error()?
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map(|error| error.number())
}
