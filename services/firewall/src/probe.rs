//! A health check for images that have no program to make one with: does a URL of the loopback answer well?

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

/// How long connecting, writing and reading may take, each.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How much of the answer is read: its first line matters.
const ANSWER_BYTES: u64 = 4096;

/// Asks for `http://HOST:PORT/PATH`.
///
/// # Errors
/// When nobody answers, or the status is not 2xx.
pub fn probe(url: &str) -> Result<()> {
    let (authority, path) = split(url).context("give a URL as http://HOST:PORT/PATH")?;
    let mut addresses = authority.to_socket_addrs()?;
    let address = addresses.next().context("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("{authority} does not answer"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    // In one piece: whoever answers what it has read of it, and closes, is no fault.
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES).read_to_end(&mut answer);
    let status = status_of(&answer);
    if status.is_none() {
        read.context("no answer")?;
    }
    let status = status.context("the answer is not HTTP")?;
    ensure!((200..300).contains(&status), "{path} answers {status}");
    Ok(())
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let good = authority.contains(':') && !url.contains([' ', '\r', '\n']);
    good.then_some((authority, path))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        });
        format!("http://{address}/health")
    }

    #[test]
    fn only_a_good_answer_is_well() {
        probe(&answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).unwrap();
        let error = probe(&answering("HTTP/1.1 503 Service Unavailable\r\n\r\n")).unwrap_err();
        assert_eq!(error.to_string(), "/health answers 503");
        assert!(probe(&answering("hello")).is_err());
    }

    #[test]
    fn what_is_no_such_url_is_refused_with_the_form() {
        for url in [
            "",
            "https://localhost:1/",
            "http://localhost",
            "http://a:1/ b",
        ] {
            let error = probe(url).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT/PATH"), "{url}: {error}");
        }
    }
}
