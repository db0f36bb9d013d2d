//! The log lines of a trace, from all services, in the order of their times.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::TraceId;

/// Lines as the services wrote them, each behind its service's name.
///
/// # Errors
/// When Compose cannot be run.
pub(super) async fn of(id: &TraceId) -> std::io::Result<Vec<String>> {
    let mut compose = Command::new("docker")
        .args(["compose", "logs", "--no-color"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let output = compose.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next_line().await? {
        if line.contains(id.as_str()) {
            found.push(line);
        }
    }
    compose.wait().await?;
    Ok(in_order(found, id))
}

/// In the order of their times, without the id, which is the same in all.
fn in_order(mut lines: Vec<String>, id: &TraceId) -> Vec<String> {
    lines.sort_by_key(|line| time(line).unwrap_or("").to_owned());
    let member = format!(",\"trace_id\":\"{id}\"");
    lines
        .into_iter()
        .map(|line| line.replace(&member, ""))
        .collect()
}

/// Of `"ts":"2026-11-25T01:37:06.591992Z"`: without the letter, which would count as later than a further digit.
fn time(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"ts\":\"")?;
    rest.split(['Z', '"']).next()
}

/// The lines as `./stack logs` shows them, by the same program.
///
/// # Errors
/// When there is no awk.
pub(super) async fn for_people(lines: &[String]) -> std::io::Result<String> {
    let mut awk = Command::new("awk")
        .args(["-f", "docker/logs.awk"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = awk.stdin.take().expect("it is piped");
    let text = lines.join("\n") + "\n";
    // Apart, for it writes before it has read all.
    let written = tokio::spawn(async move { input.write_all(text.as_bytes()).await });
    let output = awk.wait_with_output().await?;
    written.await.map_err(std::io::Error::other)??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_services_are_put_into_the_order_of_their_times() {
        let id: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().unwrap();
        let line = |service: &str, time: &str| {
            format!(
                r#"{service}  | {{"ts":"{time}","level":"info","message":"request","trace_id":"{id}","status":200}}"#
            )
        };
        let lines = in_order(
            vec![
                line("balancer-1-1", "2026-11-25T01:37:06.593100001Z"),
                line("web-1-1", "2026-11-25T01:37:06.5931Z"),
                line("web-1-1", "2026-11-25T01:37:06.591992Z"),
            ],
            &id,
        );
        assert!(lines[0].contains("06.591992"), "{lines:#?}");
        assert!(lines[1].contains("06.5931Z"), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains("trace_id")));
        assert!(lines[2].ends_with(r#""message":"request","status":200}"#));
    }
}
