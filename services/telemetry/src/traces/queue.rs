//! Spans that wait to be sent. Bounded: what does not fit is dropped and counted, and nobody waits.

use std::{
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use opentelemetry_sdk::trace::SpanData;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Why a span was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// `queue_spans_max` was reached.
    QueueFull,
    /// The other side does not want it, now or later.
    Refused,
    /// The service stopped before it was sent.
    Stopped,
}

impl Dropped {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Refused, Self::Stopped];

    fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    spans_max: usize,
    batch_max: usize,
    waiting: Mutex<Waiting>,
    /// Told when there is a first span, a whole batch, or the end.
    filled: Condvar,
    /// Told when the sender has nothing left to do.
    done: Condvar,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: Vec<SpanData>,
    /// When whatever is left is dropped.
    end: Option<Instant>,
    /// Nobody takes spans any more.
    is_done: bool,
}

#[derive(Debug)]
struct Counts {
    exported: IntCounter,
    failed: IntCounter,
    dropped: IntCounterVec,
}

impl Queue {
    /// `prefix` is that of the metrics' names.
    pub(super) fn new(prefix: &str, spans_max: usize, batch_max: usize) -> Self {
        let counter = |name: &str, help: &str| {
            IntCounter::new(format!("{prefix}_{name}"), help).expect("a service's name is a prefix")
        };
        let dropped = Opts::new(
            format!("{prefix}_spans_dropped_total"),
            "Spans that were never sent, by why: the queue was full, the other side refused them, the service stopped.",
        );
        let counts = Counts {
            exported: counter("spans_exported_total", "Spans that were sent and taken."),
            failed: counter(
                "span_exports_failed_total",
                "Messages with spans that could not be sent, or were not taken.",
            ),
            dropped: IntCounterVec::new(dropped, &["reason"])
                .expect("a service's name is a prefix"),
        };
        for reason in Dropped::ALL {
            counts.dropped.with_label_values(&[reason.as_str()]);
        }
        Self {
            spans_max,
            batch_max: batch_max.min(spans_max),
            waiting: Mutex::default(),
            filled: Condvar::new(),
            done: Condvar::new(),
            counts,
        }
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.counts.exported.clone()))?;
        registry.register(Box::new(self.counts.failed.clone()))?;
        registry.register(Box::new(self.counts.dropped.clone()))
    }

    /// Keeps a span, or drops it.
    pub(super) fn push(&self, span: SpanData) {
        let mut waiting = self.lock();
        if waiting.is_done {
            drop(waiting);
            return self.count_dropped(Dropped::Stopped, 1);
        }
        if waiting.spans.len() >= self.spans_max {
            drop(waiting);
            return self.count_dropped(Dropped::QueueFull, 1);
        }
        waiting.spans.push(span);
        let now = waiting.spans.len();
        drop(waiting);
        if now == 1 || now == self.batch_max {
            self.filled.notify_one();
        }
    }

    /// Waits for a batch: a whole one, or what there is `delay` after the first. `None` at the end.
    pub(super) fn next(&self, delay: Duration) -> Option<Vec<SpanData>> {
        let mut waiting = self.lock();
        while waiting.spans.is_empty() {
            if waiting.end.is_some() {
                return None;
            }
            waiting = self.filled.wait(waiting).expect("nothing panics with it");
        }
        let begun = Instant::now();
        while waiting.spans.len() < self.batch_max && waiting.end.is_none() {
            let Some(left) = delay.checked_sub(begun.elapsed()) else {
                break;
            };
            (waiting, _) = self
                .filled
                .wait_timeout(waiting, left)
                .expect("nothing panics with it");
        }
        let size = waiting.spans.len().min(self.batch_max);
        Some(waiting.spans.drain(..size).collect())
    }

    /// Waits for `pause`, or shorter if the end has been announced. Returns whether there is time for one more try.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waiting = self.lock();
        let (waiting, _) = self
            .filled
            .wait_timeout_while(waiting, pause, |waiting| waiting.end.is_none())
            .expect("nothing panics with it");
        let Some(end) = waiting.end else { return true };
        drop(waiting);
        let left = end.saturating_duration_since(Instant::now());
        // The end is near: what fails now is tried a few times more, quickly.
        std::thread::sleep(left.min(pause).min(Duration::from_millis(100)));
        !left.is_zero()
    }

    /// When whatever is left is dropped, once the end has been announced.
    pub(super) fn end(&self) -> Option<Instant> {
        self.lock().end
    }

    /// Announces the end, and waits for it for at most `limit`.
    pub(super) fn close(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut waiting = self.lock();
        waiting.end = Some(end);
        self.filled.notify_all();
        let (mut waiting, _) = self
            .done
            .wait_timeout_while(waiting, limit, |waiting| !waiting.is_done)
            .expect("nothing panics with it");
        waiting.is_done = true;
        let left = std::mem::take(&mut waiting.spans).len();
        drop(waiting);
        self.count_dropped(Dropped::Stopped, left);
    }

    /// The sender ends.
    pub(super) fn is_done(&self) {
        self.lock().is_done = true;
        self.done.notify_all();
    }

    pub(super) fn count_exported(&self, spans: usize) {
        self.counts.exported.inc_by(spans as u64);
    }

    pub(super) fn count_failed(&self) {
        self.counts.failed.inc();
    }

    pub(super) fn count_dropped(&self, reason: Dropped, spans: usize) {
        self.counts
            .dropped
            .with_label_values(&[reason.as_str()])
            .inc_by(spans as u64);
    }

    /// How many spans wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().spans.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics with it")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::{InstrumentationScope, trace};

    use super::*;

    fn span() -> SpanData {
        let now = std::time::SystemTime::now();
        SpanData {
            span_context: trace::SpanContext::empty_context(),
            parent_span_id: trace::SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: trace::SpanKind::Internal,
            name: "sample".into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: trace::Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    fn dropped(queue: &Queue, reason: Dropped) -> u64 {
        let counter = queue.counts.dropped.with_label_values(&[reason.as_str()]);
        counter.get()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_the_rest_comes_in_batches() {
        let queue = Queue::new("sample", 5, 3);
        for _ in 0..8 {
            queue.push(span());
        }
        assert_eq!(dropped(&queue, Dropped::QueueFull), 3);
        let hours = Duration::from_secs(3600);
        assert_eq!(queue.next(hours).unwrap().len(), 3);
        assert_eq!(queue.next(Duration::ZERO).unwrap().len(), 2);
    }

    #[test]
    fn the_end_hands_out_what_is_left_and_then_nothing() {
        let queue = Arc::new(Queue::new("sample", 10, 3));
        queue.push(span());
        let sender = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut sent = 0;
                while let Some(batch) = queue.next(Duration::from_secs(3600)) {
                    sent += batch.len();
                }
                queue.is_done();
                sent
            })
        };
        queue.close(Duration::from_secs(10));
        assert_eq!(sender.join().unwrap(), 1);
        assert_eq!(dropped(&queue, Dropped::Stopped), 0);
        queue.push(span());
        assert_eq!(dropped(&queue, Dropped::Stopped), 1);
    }

    #[test]
    fn what_nobody_takes_before_the_end_is_counted() {
        let queue = Queue::new("sample", 10, 3);
        queue.push(span());
        queue.close(Duration::ZERO);
        assert_eq!(dropped(&queue, Dropped::Stopped), 1);
    }
}
