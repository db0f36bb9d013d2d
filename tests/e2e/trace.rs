//! `./stack trace`: what one request did, in the terminal.

use anyhow::{Context, Result, ensure};
use harness::compose::Stack;

use crate::edge::header;

pub(crate) async fn a_trace_shows_the_log_lines_of_every_service_that_the_request_crossed(
    stack: &Stack,
) -> Result<()> {
    let answer = stack.client()?.get(stack.url("/")).send().await?;
    let trace = header(&answer, "traceresponse").to_owned();
    let served_by = header(&answer, "x-served-by").to_owned();
    let id = trace.split('-').nth(1).context("traceresponse has an id")?;
    for given in [trace.as_str(), id] {
        let said = stack.stack_aside(&["trace", given]).await?;
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(" | ")).collect();
        for service in ["balancer-", &served_by] {
            ensure!(
                lines.iter().any(|line| line.starts_with(service)),
                "no log line of {service}:\n{said}"
            );
        }
        let times: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.split_once("| ")?.1.split(' ').next())
            .collect();
        ensure!(times.is_sorted(), "the lines are out of order:\n{said}");
    }
    Ok(())
}

pub(crate) async fn what_is_no_trace_is_refused_in_words(stack: &Stack) -> Result<()> {
    let refused = stack.stack_output(&["trace", "not-an-id"])?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && words.contains("32 hexadecimal digits"),
        "{words}"
    );
    let nothing = stack.stack_output(&["trace", "0af7651916cd43dd8448eb211c803199"])?;
    let words = String::from_utf8_lossy(&nothing.stdout).into_owned();
    ensure!(
        !nothing.status.success() && words.contains("no service has a log line of it"),
        "{words}"
    );
    Ok(())
}
