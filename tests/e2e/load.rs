//! `./stack load`: the k6 scripts run as they are, against the whole stack.

use anyhow::{Result, ensure};
use harness::compose::Stack;

pub(crate) async fn the_smoke_test_holds_every_threshold_and_its_script_is_understood(
    stack: &Stack,
) -> Result<()> {
    let said = stack.stack_aside(&["load", "smoke", "--report"]).await?;
    ensure!(said.contains("smoke: every threshold held"), "{said}");
    for of_every_visit in [
        "has all of its own writes",
        "dropped_iterations",
        "http_req_failed",
    ] {
        ensure!(
            said.contains(of_every_visit),
            "no {of_every_visit}:\n{said}"
        );
    }
    let report = said
        .lines()
        .find_map(|line| line.strip_prefix("the report: "));
    ensure!(
        report.is_some_and(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 10_000)),
        "no report:\n{said}"
    );
    Ok(())
}

pub(crate) async fn a_load_that_fails_says_so_and_why(stack: &Stack) -> Result<()> {
    // An edge that nobody listens at: the checks fail, and so do the thresholds.
    let nowhere = [("HOLDFAST_HTTPS_PORT", "9")];
    let failed = stack.stack_output_with(&["load", "smoke"], &nowhere)?;
    let words = String::from_utf8_lossy(&failed.stderr).into_owned();
    ensure!(!failed.status.success(), "{failed:?}");
    ensure!(words.contains("a threshold was crossed"), "{words}");
    ensure!(
        words.contains("/trace/"),
        "no failed check says where its trace is:\n{words}"
    );
    Ok(())
}
