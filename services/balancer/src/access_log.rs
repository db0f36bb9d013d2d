//! The access log: one JSON line for every request, written by a thread of its own.
//!
//! A request never waits for whoever reads the log. Lines are written by hand into a buffer of the worker ([`Lines`]), which is handed
//! over when it is large or has waited for a tick; how many may wait is bounded, and what does not fit is dropped and counted.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::IntCounter;
use telemetry::trace_context::TraceId;
use time::OffsetDateTime;

use crate::address_text::{TEXT_LEN_MAX, text_of};
use crate::termination::Termination;

/// How much a worker gathers before it hands over.
const BATCH_BYTES: usize = 65_536;

/// More than most lines have.
const LINE_BYTES: usize = 1024;

/// What is said about a request.
#[derive(Debug)]
pub struct Line<'a> {
    /// When it ended.
    pub at: SystemTime,
    /// Of its trace.
    pub trace_id: TraceId,
    /// The number that the client was told; needs no escapes.
    pub request_id: &'a [u8],
    /// The client's address, without port.
    pub client: IpAddr,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The method, a token, which needs no escapes; none if the head could not be read.
    pub method: Option<&'a [u8]>,
    /// The path, without query: a query may hold what should not be in a log. ASCII.
    pub path: Option<&'a [u8]>,
    /// The status that was sent, if any.
    pub status: Option<u16>,
    /// The last backend that was chosen.
    pub backend: Option<&'a str>,
    /// How often it was tried.
    pub tries: usize,
    /// Body bytes from the client.
    pub received_bytes: u64,
    /// Body bytes to the client.
    pub sent_bytes: u64,
    /// How long it has waited until a backend had room for it; none if it had not to.
    pub queued: Option<Duration>,
    /// From the choice of the last backend to a connection; none if none was made.
    pub connect: Option<Duration>,
    /// From the head of the request to the head of the answer.
    pub first_byte: Option<Duration>,
    /// From the head of the request to the end.
    pub duration: Duration,
    /// How it ended.
    pub termination: Termination,
    /// The rule that a refused message breaks.
    pub refusal: Option<&'static str>,
}

/// Where lines are handed in.
#[derive(Debug)]
pub struct AccessLog {
    queue: Option<Sender<Batch>>,
    lines_max: usize,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    lines: usize,
}

impl AccessLog {
    /// Starts the thread that writes to `out`. A batch is dropped when `lines_max` lines wait already.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        out: impl Write + Send + 'static,
        lines_max: usize,
        dropped: IntCounter,
    ) -> std::io::Result<AccessLog> {
        let (queue, batches) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(out, &batches, &written))?;
        Ok(AccessLog {
            queue: Some(queue),
            lines_max,
            waiting,
            dropped,
        })
    }

    /// A log that nobody wants.
    pub fn disabled(dropped: IntCounter) -> AccessLog {
        AccessLog {
            queue: None,
            lines_max: 0,
            waiting: Arc::default(),
            dropped,
        }
    }

    fn hand_in(&self, batch: Batch) {
        let lines = batch.lines;
        let is_full = self.waiting.load(Ordering::Acquire) >= self.lines_max;
        match &self.queue {
            Some(queue) if !is_full => {
                self.waiting.fetch_add(lines, Ordering::AcqRel);
                // The thread lives as long as this does.
                let _ = queue.send(batch);
            }
            _ => self.dropped.inc_by(lines as u64),
        }
    }

    /// Waits until all lines are written, but not for longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.waiting.load(Ordering::Acquire) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write_all(mut out: impl Write, batches: &Receiver<Batch>, waiting: &AtomicUsize) {
    while let Ok(batch) = batches.recv() {
        // A log that cannot be written has nowhere to be complained about.
        let _ = out.write_all(&batch.text).and_then(|()| out.flush());
        waiting.fetch_sub(batch.lines, Ordering::AcqRel);
    }
}

/// The lines of one worker that were not handed over yet.
#[derive(Debug)]
pub struct Lines {
    log: Arc<AccessLog>,
    batch: RefCell<Batch>,
    /// The second that was written last, and how.
    second: RefCell<(u64, String)>,
}

impl Lines {
    /// For one worker.
    pub fn new(log: Arc<AccessLog>) -> Lines {
        Lines {
            log,
            batch: RefCell::default(),
            second: RefCell::default(),
        }
    }

    /// Adds a line.
    pub fn write(&self, line: &Line<'_>) {
        if self.log.queue.is_none() {
            return;
        }
        let mut batch = self.batch.borrow_mut();
        if batch.text.capacity() == 0 {
            batch.text.reserve(BATCH_BYTES + LINE_BYTES);
        }
        self.put(line, &mut batch.text);
        batch.lines += 1;
        if batch.text.len() >= BATCH_BYTES {
            self.log.hand_in(std::mem::take(&mut *batch));
        }
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if batch.lines > 0 {
            self.log.hand_in(std::mem::take(&mut *batch));
        }
    }

    fn put(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ts\":\"");
        self.put_time(line.at, out);
        out.extend_from_slice(
            b"\",\"level\":\"info\",\"service\":\"balancer\",\"target\":\"access\",\"message\":\"request\",\"trace_id\":\"",
        );
        out.extend_from_slice(&line.trace_id.to_hex());
        out.extend_from_slice(b"\",\"request_id\":\"");
        out.extend_from_slice(line.request_id);
        out.extend_from_slice(b"\",\"client\":\"");
        out.extend_from_slice(text_of(line.client, &mut [0; TEXT_LEN_MAX]));
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(line.protocol.as_bytes());
        out.push(b'"');
        put_plain(b",\"method\":", line.method, out);
        out.extend_from_slice(b",\"path\":");
        match line.path {
            Some(path) => put_string(path, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"status\":");
        match line.status {
            Some(status) => put_number(status.into(), out),
            None => out.extend_from_slice(b"null"),
        }
        put_plain(b",\"backend\":", line.backend.map(str::as_bytes), out);
        for (name, number) in [
            (",\"tries\":", line.tries as u64),
            (",\"received_bytes\":", line.received_bytes),
            (",\"sent_bytes\":", line.sent_bytes),
        ] {
            out.extend_from_slice(name.as_bytes());
            put_number(number, out);
        }
        for (name, took) in [
            (",\"queue_ms\":", line.queued),
            (",\"connect_ms\":", line.connect),
            (",\"first_byte_ms\":", line.first_byte),
            (",\"duration_ms\":", Some(line.duration)),
        ] {
            out.extend_from_slice(name.as_bytes());
            match took {
                Some(took) => put_ms(took, out),
                None => out.extend_from_slice(b"null"),
            }
        }
        let termination = line.termination.as_str().as_bytes();
        put_plain(b",\"termination\":", Some(termination), out);
        put_plain(b",\"refusal\":", line.refusal.map(str::as_bytes), out);
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC, with microseconds. Most lines fall into the second of the line before.
    fn put_time(&self, at: SystemTime, out: &mut Vec<u8>) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut second = self.second.borrow_mut();
        if second.0 != since.as_secs() || second.1.is_empty() {
            *second = (since.as_secs(), text_of_second(since.as_secs()));
        }
        out.extend_from_slice(second.1.as_bytes());
        out.push(b'.');
        put_padded(since.subsec_micros().into(), 6, out);
        out.push(b'Z');
    }
}

fn text_of_second(second: u64) -> String {
    let second = i64::try_from(second).unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// A member whose value needs no escapes.
fn put_plain(name: &[u8], text: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    match text {
        Some(text) => {
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// A string of JSON (RFC 8259, 7).
fn put_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !is_plain(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            quoted @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', quoted]),
            control => {
                out.extend_from_slice(b"\\u00");
                out.push(b"0123456789abcdef"[usize::from(control >> 4)]);
                out.push(b"0123456789abcdef"[usize::from(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Milliseconds with three places.
fn put_ms(took: Duration, out: &mut Vec<u8>) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    put_number(micros / 1000, out);
    out.push(b'.');
    put_padded(micros % 1000, 3, out);
}

fn put_number(number: u64, out: &mut Vec<u8>) {
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    put_padded(number, digits as usize, out);
}

/// The last `digits` digits.
fn put_padded(number: u64, digits: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + digits, b'0');
    let mut rest = number;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line(path: &'static str) -> Line<'static> {
        Line {
            at: UNIX_EPOCH + Duration::from_micros(1_764_100_000_000_042),
            trace_id: TraceId::from_bytes([0xab; 16]),
            request_id: b"1",
            client: IpAddr::from([192, 0, 2, 7]),
            protocol: "HTTP/2",
            method: Some(b"GET"),
            path: Some(path.as_bytes()),
            status: Some(200),
            backend: Some("web-1"),
            tries: 1,
            received_bytes: 0,
            sent_bytes: 5,
            queued: None,
            connect: None,
            first_byte: Some(Duration::from_micros(500)),
            duration: Duration::from_micros(12_345),
            termination: Termination::Completed,
            refusal: None,
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_a_json_object_of_its_own() {
        let kept = Kept::default();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let log = Arc::new(AccessLog::start(kept.clone(), 100, dropped.clone()).unwrap());
        let lines = Lines::new(Arc::clone(&log));
        let paths = ["/a", "/a\"b\\c", "/\u{1}\n\u{1f600}"];
        for path in paths {
            lines.write(&line(path));
        }
        lines.flush();
        log.flush(Duration::from_secs(5));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(3, text.lines().count());
        for (text, path) in text.lines().zip(paths) {
            let line: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(path, line["path"]);
            assert_eq!("completed", line["termination"]);
            assert_eq!("access", line["target"]);
            assert_eq!("2025-11-25T19:46:40.000042Z", line["ts"]);
            assert_eq!("192.0.2.7", line["client"]);
            assert_eq!("ab".repeat(16), line["trace_id"]);
            assert_eq!(12.345, line["duration_ms"]);
            assert_eq!(0.5, line["first_byte_ms"]);
            assert_eq!(200, line["status"]);
            assert!(line["connect_ms"].is_null() && line["refusal"].is_null());
        }
        assert_eq!(0, dropped.get());
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                loop {
                    thread::park();
                }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let log = Arc::new(AccessLog::start(Stuck, 10, dropped.clone()).unwrap());
        let lines = Lines::new(Arc::clone(&log));
        for _ in 0..1000 {
            lines.write(&line("/"));
            lines.flush();
        }
        assert_eq!(990, dropped.get());
        log.flush(Duration::from_millis(20));
    }
}
