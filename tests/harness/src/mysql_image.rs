//! The stack's MySQL image, as the sources in docker/mysql are now, and a data directory initialised once for all tests.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{getegid, geteuid};
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

use crate::base_image::{base_image, named};
use crate::docker::docker;
use crate::{compose, program, run};

/// What says what [`MysqlImage::get`] is made from, where it is not the stack's own default.
const VARIABLE: &str = "MYSQL_IMAGE";

/// How long a seed is kept after the sources have moved on.
const SEED_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The image that a server of the stack runs, built from docker/mysql of this repository.
#[derive(Clone, Debug)]
pub struct MysqlImage {
    name: String,
}

impl MysqlImage {
    /// Finds the image, or builds it: over `MYSQL_IMAGE` if that is set, over the official image if the engine has it, else over the
    /// stand-in that docker/airgap makes. The name holds a digest of the sources, so an image is never older than they are. The first
    /// call on a machine can take a minute; processes that call together make it once.
    pub async fn get() -> Result<MysqlImage> {
        static IMAGE: OnceCell<MysqlImage> = OnceCell::const_new();
        IMAGE.get_or_try_init(find_or_build).await.cloned()
    }

    /// The image's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives a file or a directory, with all that is in it, to the user that servers run as.
    pub fn give(&self, path: &Path) -> Result<()> {
        own(path)
    }

    /// Runs a container in the foreground until it ends by itself, under the stack's restrictions, and removes it: for boots that have
    /// to fail. `options` are `docker run`'s; without a mount of their own at /var/lib/mysql, the data is an empty tmpfs.
    pub async fn run_to_end(&self, options: &[&str]) -> Result<Output> {
        let mut arguments = vec!["run".into(), "--rm".into()];
        arguments.extend(restrictions());
        if !options
            .iter()
            .any(|option| option.contains(":/var/lib/mysql"))
        {
            arguments.push(tmpfs("/var/lib/mysql"));
        }
        arguments.extend(options.iter().map(OsString::from));
        arguments.push(self.name().into());
        Ok(Command::new("docker")
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await?)
    }

    /// Copies a freshly initialised data directory to `to`, owned by the user that servers run as. It has no accounts yet but a root
    /// without a password, no server UUID and no binary log: each server makes its own at its first boot.
    pub async fn copy_seed(&self, to: &Path) -> Result<()> {
        // The file's lock blocks the thread that waits for it, and both servers of a pair may be copying on the same one.
        static IN_THIS_PROCESS: Mutex<()> = Mutex::const_new(());
        let _one_at_a_time = IN_THIS_PROCESS.lock().await;
        let lock = lock("seed")?;
        let seed = program::build_directory()?
            .join("holdfast-seed")
            .join(self.name().replace([':', '/'], "-"));
        if !seed.join("mysql.ibd").exists() {
            self.initialise(&seed)
                .await
                .context("initialise the seed")?;
        }
        lock.lock_shared()?;
        let copied = Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(&seed)
            .arg(to)
            .output()
            .await?;
        ensure!(
            copied.status.success(),
            "copy the seed: {}",
            String::from_utf8_lossy(&copied.stderr)
        );
        // Two servers with one UUID do not replicate; each makes its own.
        fs::remove_file(to.join("auto.cnf")).context("the seed's UUID")?;
        Ok(())
    }

    async fn initialise(&self, seed: &Path) -> Result<()> {
        remove_old_seeds(seed.parent().context("a seed has a place")?)?;
        let making = seed.with_extension("making");
        if making.exists() {
            fs::remove_dir_all(&making)?;
        }
        fs::create_dir(&making)?;
        own(&making)?;
        let mut arguments: Vec<OsString> =
            vec!["run".into(), "--rm".into(), "--entrypoint=mysqld".into()];
        arguments.extend(restrictions());
        arguments.push(mount(&making, "/var/lib/mysql", ""));
        arguments.push(self.name().into());
        arguments.extend(
            [
                "--defaults-file=/etc/holdfast/my.cnf",
                "--initialize-insecure",
                "--skip-log-bin",
            ]
            .map(OsString::from),
        );
        docker(arguments).await?;
        Ok(fs::rename(making, seed)?)
    }
}

/// Removes seeds of images that are no more in use: a source of docker/mysql that changes makes a new one each time. We hold the lock,
/// so nobody is copying.
fn remove_old_seeds(seeds: &Path) -> Result<()> {
    fs::create_dir_all(seeds)?;
    for entry in fs::read_dir(seeds)? {
        let entry = entry?;
        if entry
            .metadata()?
            .modified()?
            .elapsed()
            .is_ok_and(|age| age > SEED_AGE_MAX)
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

async fn find_or_build() -> Result<MysqlImage> {
    run::sweep();
    let sources = compose::root().join("docker/mysql");
    let base = named(VARIABLE);
    let image = MysqlImage {
        name: format!(
            "holdfast/mysql:test-{:016x}",
            digest(&sources, base.as_deref())?
        ),
    };
    let lock = lock("image")?;
    if docker(["image", "inspect", image.name()]).await.is_err() {
        let base = base_image("mysql", VARIABLE).await?;
        let argument = format!("MYSQL_IMAGE={base}");
        docker([
            "build".as_ref(),
            "--tag".as_ref(),
            image.name().as_ref(),
            "--build-arg".as_ref(),
            argument.as_ref(),
            sources.as_os_str(),
        ])
        .await?;
    }
    drop(lock);
    Ok(image)
}

/// Of every file in the directory, and of the base that was asked for.
fn digest(sources: &Path, base: Option<&str>) -> Result<u64> {
    let mut files: Vec<PathBuf> = fs::read_dir(sources)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    base.hash(&mut hasher);
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// One maker at a time among all test processes; released when the file is dropped.
fn lock(what: &str) -> Result<File> {
    let file = File::create(program::build_directory()?.join(format!("holdfast-{what}.lock")))?;
    file.lock()?;
    Ok(file)
}

/// What every container of the image runs under, in the stack as in tests: no root, no capability, no file system to write to but the
/// data and two tmpfs.
pub(crate) fn restrictions() -> Vec<OsString> {
    let (uid, gid) = user();
    let options = [
        format!("--label={}={}", run::LABEL, run::id()),
        format!("--user={uid}:{gid}"),
        "--read-only".into(),
        "--cap-drop=ALL".into(),
        "--security-opt=no-new-privileges".into(),
    ];
    let writable = ["/run/mysqld", "/tmp"].map(tmpfs);
    options
        .map(OsString::from)
        .into_iter()
        .chain(writable)
        .collect()
}

/// `docker run`'s option for a tmpfs that belongs to the servers' user.
fn tmpfs(path: &str) -> OsString {
    let (uid, gid) = user();
    format!("--tmpfs={path}:uid={uid},gid={gid},mode=0700").into()
}

/// `docker run`'s option for a bind mount.
pub(crate) fn mount(from: &Path, to: &str, mode: &str) -> OsString {
    let mut option = OsString::from("--volume=");
    option.push(from);
    option.push(format!(":{to}{mode}"));
    option
}

/// Whom servers run as: the stack's user where the tests run as root, else whoever runs the tests, so that all files can be removed.
pub(crate) fn user() -> (u32, u32) {
    if geteuid().is_root() {
        (999, 999)
    } else {
        (geteuid().as_raw(), getegid().as_raw())
    }
}

/// Gives a directory, with all that is in it, to that user.
pub(crate) fn own(path: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = user();
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path())?;
        }
    }
    Ok(())
}
