//! The plain port: reads the head of one request, answers 308, and closes.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::edge::{Edge, ms};
use crate::problem::Problem;
use crate::raw_answer;
use crate::termination::Termination;

/// The longest head that is read: a redirect needs two lines of it.
const HEAD_BYTES_MAX: usize = 16_384;
/// How long and how much is read after the answer, so that the client reads it instead of a reset.
const DRAIN_MS: u64 = 500;
const DRAIN_BYTES_MAX: u64 = 65_536;

/// Serves one connection.
pub async fn serve(edge: &Edge, mut stream: TcpStream) {
    let limit = ms(edge.config.request.header_timeout_ms);
    let answer = match timeout(limit, read_head(&mut stream)).await {
        Ok(Ok(Some(head))) => redirect(edge, &head),
        Ok(Ok(None)) => refuse(edge, Problem::HeaderTooLarge, Termination::TooLarge),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            refuse(edge, Problem::BadRequest, Termination::ParseError)
        }
        Ok(Err(_)) => return,
        Err(_) => refuse(edge, Problem::RequestTimeout, Termination::ClientTimeout),
    };
    let _ = timeout(limit, finish(stream, &answer)).await;
}

async fn finish(mut stream: TcpStream, answer: &str) -> io::Result<()> {
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let drain =
        async { tokio::io::copy(&mut stream.take(DRAIN_BYTES_MAX), &mut tokio::io::sink()).await };
    let _ = timeout(ms(DRAIN_MS), drain).await;
    Ok(())
}

/// What a redirect needs of a head.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    target: String,
    host: Option<String>,
    traceparent: Option<String>,
}

/// The head of a request; `None` if it is too long.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Head>> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            return parse(&bytes[..end])
                .map(Some)
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(head: &[u8]) -> Option<Head> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut line = lines.next()?.split(' ');
    let (_method, target, version) = (line.next()?, line.next()?, line.next()?);
    if line.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    let mut parsed = Head {
        target: target.to_owned(),
        ..Head::default()
    };
    for field in lines {
        let (name, value) = field.split_once(':')?;
        let slot = if name.eq_ignore_ascii_case("host") {
            &mut parsed.host
        } else if name.eq_ignore_ascii_case("traceparent") {
            &mut parsed.traceparent
        } else {
            continue;
        };
        if slot.replace(value.trim().to_owned()).is_some() {
            return None;
        }
    }
    Some(parsed)
}

fn redirect(edge: &Edge, head: &Head) -> String {
    let names = edge.names.load();
    let location = edge
        .redirect()
        .location(head.host.as_deref(), &head.target, &names);
    raw_answer::redirect(&location, head.traceparent.as_deref())
}

fn refuse(edge: &Edge, problem: Problem, end: Termination) -> String {
    edge.metrics.head_refused(end);
    raw_answer::problem(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_host_and_trace_are_read() {
        let head = parse(
            b"POST /a?b HTTP/1.1\r\nHost:  localhost:8080 \r\naccept: */*\r\nTraceparent: 00-a",
        )
        .unwrap();
        assert_eq!("/a?b", head.target);
        assert_eq!(Some("localhost:8080"), head.host.as_deref());
        assert_eq!(Some("00-a"), head.traceparent.as_deref());
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for head in [
            "",
            "GET /",
            "GET / HTTP/2",
            "GET / a HTTP/1.1",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b",
        ] {
            assert_eq!(None, parse(head.as_bytes()), "{head:?}");
        }
        assert_eq!(None, parse(b"GET /\xff HTTP/1.1"));
    }
}
