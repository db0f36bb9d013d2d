//! `./stack bench`: the benches run, and what they compare answers every request. What they measure is not looked at: on a machine that
//! does other things besides, no figure is worth a failed test.

use anyhow::{Context, Result, ensure};
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

pub(crate) async fn the_bench_of_sick_backends_runs(stack: &Stack) -> Result<()> {
    let balancer = path_of("balancer")?.display().to_string();
    let said = stack
        .stack_aside(&[
            "bench",
            "faults",
            "--quick",
            "--only",
            "flapping,restarting",
            "--proxies",
            "holdfast,haproxy",
            "--balancer",
            &balancer,
        ])
        .await?;
    for part in [
        "**flapping**",
        "**restarting**",
        "| Holdfast |",
        "| HAProxy",
    ] {
        ensure!(said.contains(part), "no {part}:\n{said}");
    }
    Ok(())
}

pub(crate) async fn the_bench_of_the_router_runs_and_a_read_takes_fewer_round_trips_than_a_pool(
    stack: &Stack,
) -> Result<()> {
    let client = path_of("bench")?.display().to_string();
    let said = stack
        .stack_aside(&["bench", "router", "--quick", "--client", &client])
        .await?;
    let tables = [
        "Queries a second",
        "Time to an answer",
        "| a quarter of a core",
    ];
    for part in tables {
        ensure!(said.contains(part), "no {part}:\n{said}");
    }
    let (_, rest) = said
        .split_once("Round trips per query")
        .context("no round trips")?;
    let rows: Vec<Vec<&str>> = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let head = rows.first().context("no table of round trips")?;
    for other in ["`&MySqlPool`", "MySQL Router"] {
        let column = head.iter().position(|cell| *cell == format!("to {other}"));
        let column = column.with_context(|| format!("no ratio to {other}:\n{said}"))?;
        for query in ["point select", "10-row select"] {
            let row = rows.iter().find(|row| row[0] == query);
            let cell = row.with_context(|| format!("no {query}:\n{said}"))?[column];
            let ratio: f64 = cell.parse().with_context(|| format!("{query}: {cell}"))?;
            ensure!(
                ratio < 1.0,
                "{query}: {ratio} times the round trips of {other}:\n{said}"
            );
        }
    }
    Ok(())
}
