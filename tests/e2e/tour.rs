//! `./stack tour`, as somebody sees it who goes through without a pause.

use anyhow::{Result, ensure};
use harness::compose::Stack;

use crate::ledger::client::whole;

pub(crate) async fn the_tour_shows_what_it_promises_and_leaves_the_stack_as_it_was(
    stack: &Stack,
) -> Result<()> {
    let before = stack.container_ids()?;
    // It judges what it shows, step by step, and fails when that is not what it says.
    let said = stack.stack_aside(&["tour", "--yes"]).await?;
    for step in ["\n1. ", "\n2. ", "\n3. ", "\n4. ", "\n5. ", "0 failed"] {
        ensure!(said.contains(step), "{step:?} is missing:\n{said}");
    }
    whole(stack).await?;
    ensure!(
        stack.container_ids()? == before,
        "a container was replaced:\n{said}"
    );
    Ok(())
}

pub(crate) async fn a_tour_that_is_ended_puts_back_what_it_broke(stack: &Stack) -> Result<()> {
    whole(stack).await?;
    stack
        .interrupted(&["tour", "--yes"], "--signal STOP web-1")
        .await?;
    whole(stack).await
}
