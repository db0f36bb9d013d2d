//! What `./stack` promises: a second start is nothing, and it can say how things are.

use anyhow::{Result, ensure};
use harness::compose::Stack;

pub(crate) async fn status_and_doctor_find_the_stack_whole(stack: &Stack) -> Result<()> {
    let status = stack.stack(&["status"])?;
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
    stack.stack(&["doctor"])?;
    Ok(())
}

pub(crate) async fn a_second_up_changes_nothing(stack: &Stack) -> Result<()> {
    let before = stack.container_ids()?;
    stack.stack(&["up"])?;
    let after = stack.container_ids()?;
    ensure!(before == after, "before {before:#?}\nafter {after:#?}");
    Ok(())
}
