//! A network namespace of a test's own: a loopback that nobody else is on, with kernel settings that the host need not have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Says to the test which namespace it is in already.
const INSIDE: &str = "HOLDFAST_TEST_NAMESPACE";

/// Says to the test which file is in the place of `/etc/hosts`.
const HOSTS: &str = "HOLDFAST_TEST_HOSTS";

/// Runs the calling test again in a namespace of its own with these settings of `/proc/sys/net`, and returns its outcome. Returns `None`
/// to the test that is there already, which then goes on.
///
/// `test` is the test's name as the test runner knows it.
///
/// # Errors
/// When the test fails in there, or the namespace cannot be made: it takes root, or a kernel that lets users make namespaces.
pub fn in_its_own(test: &str, settings: &[(&str, &str)]) -> Option<Result<()>> {
    match is_inside(test) {
        true => None,
        false => Some(run(test, settings, None)),
    }
}

/// The same without settings, and with this file in the place of `/etc/hosts`, whoever reads it in there: names mean what is written to
/// [`hosts`], and something else as soon as something else is.
///
/// # Errors
/// As with [`in_its_own`].
pub fn with_its_own_hosts(test: &str, hosts: &Path) -> Option<Result<()>> {
    match is_inside(test) {
        true => None,
        false => Some(run(test, &[], Some(hosts))),
    }
}

/// The file that is in the place of `/etc/hosts`.
///
/// # Errors
/// To a test that is not in a namespace with one.
pub fn hosts() -> Result<PathBuf> {
    std::env::var_os(HOSTS)
        .map(PathBuf::from)
        .context("a test in a namespace with hosts of its own")
}

fn is_inside(test: &str) -> bool {
    std::env::var(INSIDE).is_ok_and(|inside| inside == test)
}

fn run(test: &str, settings: &[(&str, &str)], hosts: Option<&Path>) -> Result<()> {
    let mut script = "ip link set lo up".to_owned();
    for (name, value) in settings {
        script.push_str(&format!(" && echo {value} >/proc/sys/net/{name}"));
    }
    let mut command = Command::new("unshare");
    if let Some(hosts) = hosts {
        command.arg("--mount").env(HOSTS, hosts);
        script.push_str(&format!(" && mount --bind \"${HOSTS}\" /etc/hosts"));
    }
    script.push_str(" && exec \"$@\"");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let status = command
        .args(["--net", "sh", "-euc", &script, "sh"])
        .arg(std::env::current_exe()?)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .status()
        .context("run unshare, which is in util-linux")?;
    ensure!(
        status.success(),
        "{test} failed in a network namespace of its own: {status}"
    );
    Ok(())
}
