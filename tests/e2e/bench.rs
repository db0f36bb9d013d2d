//! `./stack bench`: the benches run, and what they compare answers every request. What they measure is not looked at: on a machine that
//! does other things besides, no figure is worth a failed test.

use anyhow::{Result, ensure};
use harness::{compose::Stack, path_of};

pub(crate) async fn the_bench_of_the_balancer_runs_and_no_request_fails(
    stack: &Stack,
) -> Result<()> {
    let balancer = path_of("balancer")?.display().to_string();
    let said = stack
        .stack_aside(&["bench", "balancer", "--quick", "--balancer", &balancer])
        .await?;
    for program in ["Holdfast", "nginx", "HAProxy"] {
        ensure!(said.contains(program), "no {program}:\n{said}");
    }
    ensure!(said.contains("| http1-"), "no table:\n{said}");
    Ok(())
}
