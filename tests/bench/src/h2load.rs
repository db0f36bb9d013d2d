//! Load by h2load, and what it has measured.
//!
//! h2load logs every request of its main phase. What counts here are those that ended between two readings of the proxy's CPU time, both
//! taken within that phase: so neither handshakes nor the warm-up are in the figures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::group::Group;

/// How much is under way at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Width {
    pub(crate) connections: u32,
    /// Of each connection of HTTP/2.
    pub(crate) streams: u32,
}

/// Of short requests.
pub(crate) const WIDE: Width = Width {
    connections: 64,
    streams: 10,
};

/// Of those that take long. If very many were under way, they would all end in one moment, or none in a whole turn.
pub(crate) const NARROW: Width = Width {
    connections: 16,
    streams: 2,
};

/// The one cipher suite, so that nobody is quick by a shorter key.
pub(crate) const CIPHER_SUITE: &str = "TLS_AES_256_GCM_SHA384";

/// Requests a second on one connection at a fixed rate, unless all connections are needed.
const CONNECTION_RATE: f64 = 50.0;

/// How much longer than it should a run may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for, of whom.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) program: PathBuf,
    pub(crate) port: u16,
    pub(crate) path: &'static str,
    pub(crate) http2: bool,
    pub(crate) width: Width,
    /// A file that is posted; without one it is GET.
    pub(crate) upload: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Requests that ended in the window.
    pub(crate) requests: u64,
    /// The window's length.
    pub(crate) window: Duration,
    /// What the proxy used in it.
    pub(crate) cpu: Duration,
    /// How long each took, in microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
}

impl Measured {
    /// The rate that was kept.
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few million at most")]
        let requests = self.requests as f64;
        requests / self.window.as_secs_f64()
    }
}

impl Load {
    fn command(&self, connections: u32) -> Command {
        let mut command = Command::new(&self.program);
        if self.http2 {
            command.args(["-m", &self.width.streams.to_string()]);
        } else {
            command.arg("--h1");
        }
        if let Some(file) = &self.upload {
            command.arg("-d").arg(file);
        }
        command
            .args(["-t", "1", "-c", &connections.to_string()])
            .arg(format!("--tls13-ciphers={CIPHER_SUITE}"))
            .arg(format!("--connect-to=127.0.0.1:{}", self.port))
            .arg(format!("https://localhost:{}{}", self.port, self.path))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Puts this group's port under load for a while; `rate` is in requests a second, none means as many as it takes.
    pub(crate) async fn run(
        &self,
        proxy: Group,
        warm_up: Duration,
        length: Duration,
        rate: Option<f64>,
        scratch: &Path,
    ) -> Result<Measured> {
        let log = scratch.join("h2load.log");
        let most = self.width.connections;
        let connections = rate.map_or(most, |rate| connections(rate, most));
        let mut command = self.command(connections);
        command
            .arg(format!("-D{}ms", length.as_millis()))
            .arg(format!("--warm-up-time={}ms", warm_up.as_millis()))
            .arg(format!("--log-file={}", log.display()));
        if let Some(rate) = rate {
            command.arg(format!("--rps={:.3}", rate / f64::from(connections)));
        }
        let mut child = command.spawn().context("start h2load")?;
        let mut lines = BufReader::new(child.stdout.take().context("h2load's output")?).lines();
        let (mut said, mut begin, mut end) = (String::new(), None, None);
        let run = async {
            while let Some(line) = lines.next_line().await? {
                if line.starts_with("Main benchmark duration is started") {
                    begin = Some(Reading::take(proxy)?);
                } else if line.starts_with("Main benchmark duration is over") {
                    end = Some(Reading::take(proxy)?);
                }
                said += &line;
                said.push('\n');
            }
            let status = child.wait().await?;
            ensure!(status.success(), "h2load ended with {status}:\n{said}");
            anyhow::Ok(())
        };
        timeout(warm_up + length + PATIENCE, run)
            .await
            .context("h2load does not come to its end")??;
        let summary = Summary::parse(&said).with_context(|| format!("h2load said:\n{said}"))?;
        ensure!(summary.failed == 0, "requests failed:\n{said}");
        let (Some(begin), Some(end)) = (begin, end) else {
            bail!("h2load has not told when its main phase was:\n{said}");
        };
        let text = fs::read_to_string(&log).context("read h2load's log")?;
        fs::remove_file(&log)?;
        let mut latencies = ended_between(&text, begin.at, end.at)?;
        latencies.sort_unstable();
        Ok(Measured {
            requests: latencies.len() as u64,
            window: Duration::from_micros(end.at - begin.at),
            cpu: end.cpu.saturating_sub(begin.cpu),
            latencies,
        })
    }

    /// Sends this many requests, and no more.
    pub(crate) async fn send(&self, requests: u64) -> Result<()> {
        let mut command = self.command(self.width.connections);
        command.args(["-n", &requests.to_string()]);
        let mut child = command.spawn().context("start h2load")?;
        let mut output = child.stdout.take().context("h2load's output")?;
        let mut said = String::new();
        output.read_to_string(&mut said).await?;
        let status = child.wait().await?;
        let summary = Summary::parse(&said).with_context(|| format!("h2load said:\n{said}"))?;
        ensure!(
            status.success() && summary.failed == 0 && summary.succeeded == requests,
            "requests failed:\n{said}"
        );
        Ok(())
    }
}

/// On how many connections a rate is sent. Each of h2load's sends at its own beat, and all begin together: many slow ones would send in
/// bursts.
fn connections(rate: f64, most: u32) -> u32 {
    let enough = |connections: &u32| f64::from(*connections) * CONNECTION_RATE >= rate;
    (1..most).find(enough).unwrap_or(most)
}

/// The time, in microseconds since 1970, and the CPU time used until then.
#[derive(Clone, Copy)]
struct Reading {
    at: u64,
    cpu: Duration,
}

impl Reading {
    fn take(group: Group) -> Result<Reading> {
        let cpu = group.cpu()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Reading {
            at: since.as_micros().try_into()?,
            cpu,
        })
    }
}

/// What a run came to in h2load's own words.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    succeeded: u64,
    /// Without an answer, or with one other than 2xx.
    failed: u64,
}

impl Summary {
    fn parse(said: &str) -> Result<Summary> {
        let numbers = |prefix: &str| -> Result<Vec<(u64, String)>> {
            let line = said
                .lines()
                .find_map(|line| line.strip_prefix(prefix))
                .with_context(|| format!("there is no line {prefix:?}"))?;
            line.split(',')
                .map(|part| {
                    let (number, what) = part.trim().split_once(' ').context("a number of what")?;
                    Ok((number.parse()?, what.to_owned()))
                })
                .collect()
        };
        let (mut succeeded, mut failed) = (0, 0);
        for (number, what) in numbers("requests: ")? {
            match what.as_str() {
                "succeeded" => succeeded = number,
                "failed" | "errored" | "timeout" => failed += number,
                _ => {}
            }
        }
        for (number, what) in numbers("status codes: ")? {
            if what != "2xx" {
                failed += number;
            }
        }
        Ok(Summary { succeeded, failed })
    }
}

/// How long those took that ended between two times: in each line when it began, its status, and how long it took. Whether one failed
/// is said by the summary.
fn ended_between(log: &str, begin: u64, end: u64) -> Result<Vec<u32>> {
    let mut latencies = Vec::new();
    for line in log.lines() {
        let mut fields = line.split('\t');
        let mut number = || -> Result<i64> {
            let field = fields.next().context("a line of h2load's log is short")?;
            field.parse().context("a line of h2load's log")
        };
        let (began, status, took) = (number()?, number()?, number()?);
        // What the end of the run has cut off has none.
        if !(200..300).contains(&status) {
            continue;
        }
        let ended = u64::try_from(began + took)?;
        if (begin..=end).contains(&ended) {
            latencies.push(u32::try_from(took)?);
        }
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_whatever_is_not_well() {
        let said = "requests: 10 total, 10 started, 9 done, 9 succeeded, 1 failed, 0 errored, 0 timeout\n\
                    status codes: 8 2xx, 0 3xx, 0 4xx, 1 5xx\n";
        let expected = Summary {
            succeeded: 9,
            failed: 2,
        };
        assert_eq!(expected, Summary::parse(said).unwrap());
        assert!(Summary::parse("nothing").is_err());
    }

    #[test]
    fn a_low_rate_has_few_connections() {
        assert_eq!(1, connections(20.0, 64));
        assert_eq!(3, connections(140.0, 64));
        assert_eq!(64, connections(1e6, 64));
    }

    #[test]
    fn only_what_ended_in_the_window_counts() {
        let log = "100\t200\t5\n100\t200\t50\n140\t200\t61\n140\t0\t9\n";
        assert_eq!(vec![50], ended_between(log, 110, 200).unwrap());
        assert!(ended_between("100\t200\n", 0, 1000).is_err());
    }
}
