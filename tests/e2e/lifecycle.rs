//! What `./stack` promises: a second start is nothing, and it can say how things are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{compose::Stack, wait_for};

/// For a look that comes late on a busy machine.
const SOON: Duration = Duration::from_secs(60);

pub(crate) async fn status_and_doctor_find_the_stack_whole(stack: &Stack) -> Result<()> {
    // A look that somebody answers late is said, too: on a machine that is busy, they are asked again.
    let status = well(stack, "status").await?;
    for service in [
        "balancer-1",
        "balancer-2",
        "web-1",
        "web-2",
        "mysql-1",
        "mysql-2",
        "arbiter",
    ] {
        ensure!(
            status.contains(service),
            "status says nothing of {service}:\n{status}"
        );
    }
    ensure!(
        status.contains("primary") && status.contains("replica"),
        "{status}"
    );
    well(stack, "doctor").await.map(drop)
}

/// What `./stack` says by this command, once it finds no fault.
async fn well(stack: &Stack, command: &str) -> Result<String> {
    let mut last = String::new();
    let said = wait_for("no fault is found", SOON, async || {
        let asked = stack.stack_output(&[command]).ok()?;
        last = String::from_utf8_lossy(&asked.stdout).into_owned();
        asked.status.success().then(|| last.clone())
    });
    let said = said.await;
    said.with_context(|| format!("./stack {command}:\n{last}"))
}

pub(crate) async fn a_second_up_changes_nothing(stack: &Stack) -> Result<()> {
    let before = stack.container_ids()?;
    stack.stack(&["up"])?;
    let after = stack.container_ids()?;
    ensure!(before == after, "before {before:#?}\nafter {after:#?}");
    Ok(())
}
