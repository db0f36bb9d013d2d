//! The access log: one JSON line for every request, written by a thread of its own.
//!
//! A request never waits for whoever reads the log: the queue is bounded, and what does not fit is dropped and counted.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::termination::Termination;

/// How much is gathered before it is written.
const BATCH_BYTES: usize = 65_536;

/// What is said about a request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// Of its trace.
    pub trace_id: String,
    /// The number that the client was told.
    pub request_id: &'a str,
    /// The client's address, without port.
    pub client: String,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// The method.
    pub method: &'a str,
    /// The path, without query: a query may hold what should not be in a log.
    pub path: &'a str,
    /// The status that was sent, if any.
    pub status: Option<u16>,
    /// The last backend that was chosen.
    pub backend: Option<&'a str>,
    /// How often it was tried.
    pub tries: usize,
    /// Body bytes from the client.
    pub received_bytes: u64,
    /// Body bytes to the client.
    pub sent_bytes: usize,
    /// From the choice of the last backend to a connection; none if none was made.
    pub connect_ms: Option<f64>,
    /// From the head of the request to the head of the answer.
    pub first_byte_ms: Option<f64>,
    /// From the head of the request to the end.
    pub duration_ms: f64,
    /// How it ended.
    pub termination: Termination,
}

/// Where lines are handed in.
#[derive(Debug)]
pub struct AccessLog {
    queue: Option<SyncSender<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Starts the thread that writes to `out`; at most `lines_max` lines wait for it.
    pub fn start(
        out: impl Write + Send + 'static,
        lines_max: usize,
        dropped: IntCounter,
    ) -> std::io::Result<AccessLog> {
        let (queue, lines) = sync_channel(lines_max);
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(out, &lines, &written))?;
        Ok(AccessLog {
            queue: Some(queue),
            waiting,
            dropped,
        })
    }

    /// A log that nobody wants.
    pub fn disabled(dropped: IntCounter) -> AccessLog {
        AccessLog {
            queue: None,
            waiting: Arc::default(),
            dropped,
        }
    }

    /// Hands a line in, or drops it.
    pub fn write(&self, line: &Line<'_>) {
        let Some(queue) = &self.queue else { return };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            queue.try_send(text_of(line))
        {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.dropped.inc();
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

fn text_of(line: &Line<'_>) -> Vec<u8> {
    /// As every line of every service's log has it.
    #[derive(Serialize)]
    struct Whole<'a> {
        ts: String,
        level: &'static str,
        service: &'static str,
        target: &'static str,
        message: &'static str,
        #[serde(flatten)]
        line: &'a Line<'a>,
    }
    let whole = Whole {
        ts: OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .unwrap_or_default(),
        level: "info",
        service: "balancer",
        target: "access",
        message: "request",
        line,
    };
    let mut text = serde_json::to_vec(&whole).expect("text and numbers are always JSON");
    text.push(b'\n');
    text
}

fn write_all(mut out: impl Write, lines: &Receiver<Vec<u8>>, waiting: &AtomicUsize) {
    while let Ok(mut batch) = lines.recv() {
        let mut count = 1;
        while batch.len() < BATCH_BYTES
            && let Ok(line) = lines.try_recv()
        {
            batch.extend_from_slice(&line);
            count += 1;
        }
        // A log that cannot be written has nowhere to be complained about.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        waiting.fetch_sub(count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line() -> Line<'static> {
        Line {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            request_id: "1",
            client: "192.0.2.7".to_owned(),
            protocol: "HTTP/2",
            method: "GET",
            path: "/a\"b",
            status: Some(200),
            backend: Some("web-1"),
            tries: 1,
            received_bytes: 0,
            sent_bytes: 5,
            connect_ms: None,
            first_byte_ms: Some(0.5),
            duration_ms: 1.5,
            termination: Termination::Completed,
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
        let log = AccessLog::start(kept.clone(), 100, dropped.clone()).unwrap();
        for _ in 0..3 {
            log.write(&line());
        }
        log.flush(Duration::from_secs(5));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(3, text.lines().count());
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!("/a\"b", line["path"]);
            assert_eq!("completed", line["termination"]);
            assert_eq!("access", line["target"]);
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
        let log = AccessLog::start(Stuck, 10, dropped.clone()).unwrap();
        let lines = 1000;
        for _ in 0..lines {
            log.write(&line());
        }
        // At most: ten that wait, and those that the thread had gathered before it was stuck.
        assert!(
            dropped.get() > 0,
            "{} of {lines} were dropped",
            dropped.get()
        );
        log.flush(Duration::from_millis(20));
    }
}
