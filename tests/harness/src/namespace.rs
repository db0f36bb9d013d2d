//! A network namespace of a test's own: a loopback that nobody else is on, with kernel settings that the host need not have.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Says to the test which namespace it is in already.
const INSIDE: &str = "HOLDFAST_TEST_NAMESPACE";

/// Runs the calling test again in a namespace of its own with these settings of `/proc/sys/net`, and returns its outcome. Returns `None`
/// to the test that is there already, which then goes on.
///
/// `test` is the test's name as the test runner knows it.
///
/// # Errors
/// When the test fails in there, or the namespace cannot be made: it takes root, or a kernel that lets users make namespaces.
pub fn in_its_own(test: &str, settings: &[(&str, &str)]) -> Option<Result<()>> {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return None;
    }
    Some(run(test, settings))
}

fn run(test: &str, settings: &[(&str, &str)]) -> Result<()> {
    let mut script = "ip link set lo up".to_owned();
    for (name, value) in settings {
        script.push_str(&format!(" && echo {value} >/proc/sys/net/{name}"));
    }
    script.push_str(" && exec \"$@\"");
    let mut command = Command::new("unshare");
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
