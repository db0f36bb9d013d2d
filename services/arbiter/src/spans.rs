//! A trace for each decision that changes something: a span for the decision, with what it was made from, and below it one for each step.
//!
//! A round in which nothing is to be done has none, and neither has a decision that comes to just what the one before it came to, but once
//! in a while: a server that refuses a step for an hour would push everybody's traces out of the store. There are no statements in spans, for one of them holds a
//! password.

use std::time::{Duration, Instant, SystemTime};

use telemetry::{
    trace_context::{TraceContext, TraceId},
    traces::{KeyValue, Span, SpanKind, Traces},
};

use crate::{act::ActError, decide::Decision, observe::Failure, status::Status, step::Step};

/// Sends the traces of decisions.
#[derive(Debug)]
pub struct Spans {
    traces: Traces,
    last: Option<Last>,
}

/// The last decision that was news.
#[derive(Debug)]
struct Last {
    decision: Decision,
    failure: Option<String>,
    at: Instant,
}

/// So long after it the same is news again.
const NEWS_AGAIN: Duration = Duration::from_secs(60);

impl Spans {
    /// They go where these go.
    #[must_use]
    pub fn new(traces: Traces) -> Self {
        Self { traces, last: None }
    }

    /// A decision that is news was carried out, or failed: its spans are handed in. `status` is what was known when it was made.
    pub fn send(&mut self, trace: Trace, decision: Decision, status: &Status) {
        let root = Span {
            context: trace.context,
            parent: None,
            parent_is_remote: false,
            kind: SpanKind::Internal,
            name: "decision".into(),
            start: trace.begun,
            end: SystemTime::now(),
            attributes: evidence(&decision, status),
            failed: trace.failure.is_some(),
        };
        for span in trace.steps.into_iter().chain([root]) {
            self.traces.send(span);
        }
        self.last = Some(Last {
            decision,
            failure: trace.failure,
            at: Instant::now(),
        });
    }

    /// Whether it is not what came to the same a moment before.
    #[must_use]
    pub fn is_news(&self, decision: &Decision, trace: &Trace) -> bool {
        self.last.as_ref().is_none_or(|last| {
            last.decision != *decision
                || last.failure.as_deref() != trace.failure()
                || last.at.elapsed() > NEWS_AGAIN
        })
    }
}

/// A decision that is being carried out.
#[derive(Debug)]
pub struct Trace {
    context: TraceContext,
    begun: SystemTime,
    steps: Vec<Span>,
    failure: Option<String>,
}

impl Trace {
    /// Of a decision whose steps are done from now on.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            context: TraceContext::new(true),
            begun: SystemTime::now(),
            steps: Vec::new(),
            failure: None,
        }
    }

    /// Its id, for the lines of the log.
    #[must_use]
    pub fn id(&self) -> TraceId {
        self.context.trace_id
    }

    /// Why its last step was not done.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// A step that was begun then has ended.
    pub fn step(&mut self, step: &Step, begun: SystemTime, done: &Result<(), ActError>) {
        let mut attributes = about(step);
        if let Err(error) = done {
            attributes.extend(fault(error));
            self.failure = Some(error.to_string());
        }
        self.steps.push(Span {
            context: self.context.child(),
            parent: Some(self.context.span_id),
            parent_is_remote: false,
            kind: match step.server() {
                Some(_) => SpanKind::Client,
                None => SpanKind::Internal,
            },
            name: step.name().into(),
            start: begun,
            end: SystemTime::now(),
            attributes,
            failed: done.is_err(),
        });
    }
}

/// What a step is done to.
fn about(step: &Step) -> Vec<KeyValue> {
    match (step, step.server()) {
        (_, Some(server)) => vec![
            KeyValue::new("db.system.name", "mysql"),
            KeyValue::new("server.address", server.to_owned()),
        ],
        (Step::Save(state), _) => vec![
            KeyValue::new("arbiter.epoch", number(state.epoch)),
            KeyValue::new("arbiter.phase", state.phase.to_string()),
            KeyValue::new("arbiter.primary", state.primary.clone()),
        ],
        _ => Vec::new(),
    }
}

/// Why a step failed, by OpenTelemetry's conventions for database clients; the sentence is in the log.
fn fault(error: &ActError) -> Vec<KeyValue> {
    let ActError::Server { reason, .. } = error else {
        return vec![KeyValue::new("error.type", "files")];
    };
    match (reason, reason.number()) {
        (_, Some(number)) => vec![
            KeyValue::new("error.type", number.to_string()),
            KeyValue::new("db.response.status_code", number.to_string()),
        ],
        (Failure::Late(_) | Failure::Busy, _) => vec![KeyValue::new("error.type", "timeout")],
        _ => vec![KeyValue::new("error.type", "connection")],
    }
}

/// What was decided, and all that it was made from.
fn evidence(decision: &Decision, status: &Status) -> Vec<KeyValue> {
    let steps: Vec<_> = decision.steps.iter().map(Step::name).collect();
    let mut attributes = vec![
        KeyValue::new("arbiter.steps", steps.join(", ")),
        KeyValue::new("arbiter.epoch", number(status.epoch)),
        KeyValue::new("arbiter.phase", status.phase.clone()),
        KeyValue::new("arbiter.primary", status.primary.clone()),
        KeyValue::new("arbiter.in_sync", status.in_sync.join(", ")),
        KeyValue::new("arbiter.acknowledging", status.acknowledging),
        KeyValue::new("arbiter.waits", status.waits.join("; ")),
        KeyValue::new("arbiter.refusals", status.refusals.join("; ")),
    ];
    attributes.extend(status.servers.iter().filter_map(|server| {
        let seen = serde_json::to_string(server).ok()?;
        Some(KeyValue::new(format!("arbiter.saw.{}", server.name), seen))
    }));
    attributes
}

fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn decision(steps: &[Step]) -> Decision {
        Decision {
            steps: steps.to_vec(),
            conditions: Vec::new(),
        }
    }

    fn refused(reason: Failure) -> Result<(), ActError> {
        Err(ActError::Server {
            server: "mysql-1".to_owned(),
            step: "allow_writes",
            reason,
        })
    }

    #[test]
    fn a_decision_that_comes_to_what_the_one_before_came_to_is_no_news_for_a_minute() {
        let mut spans = Spans::new(Traces::none());
        let opening = decision(&[Step::AllowWrites("mysql-1".to_owned())]);
        let wiring = decision(&[Step::StartReceiver("mysql-2".to_owned())]);
        let mut send = |decision: &Decision, failure: Option<&str>| {
            let trace = Trace {
                failure: failure.map(str::to_owned),
                ..Trace::begin()
            };
            let is_news = spans.is_news(decision, &trace);
            if is_news {
                spans.send(trace, decision.clone(), &Status::default());
            }
            is_news
        };
        for (decision, failure, is_news) in [
            (&opening, None, true),
            (&opening, None, false),
            (&opening, Some("late"), true),
            (&opening, Some("late"), false),
            (&opening, Some("late"), false),
            (&opening, Some("refused"), true),
            (&wiring, Some("refused"), true),
            (&wiring, Some("refused"), false),
            (&wiring, None, true),
            (&wiring, Some("refused"), true),
        ] {
            assert_eq!(send(decision, failure), is_news, "{decision:?} {failure:?}");
        }
        let Some(last) = &mut spans.last else {
            panic!("nothing was sent");
        };
        last.at -= NEWS_AGAIN;
        let trace = Trace {
            failure: Some("refused".to_owned()),
            ..Trace::begin()
        };
        assert!(spans.is_news(&wiring, &trace));
    }

    #[test]
    fn a_step_that_failed_says_how_and_a_state_that_was_saved_says_which() {
        let step = Step::AllowWrites("mysql-1".to_owned());
        for (reason, kind) in [
            (Failure::Late(Duration::from_secs(5)), "timeout"),
            (Failure::Gone, "connection"),
            (Failure::Database(sqlx::Error::WorkerCrashed), "connection"),
        ] {
            let mut trace = Trace::begin();
            trace.step(&step, SystemTime::now(), &refused(reason));
            let [span] = &trace.steps[..] else {
                panic!("one span, not {:?}", trace.steps);
            };
            assert_eq!(span.parent, Some(trace.context.span_id));
            assert_eq!(span.context.trace_id, trace.id());
            assert!(span.failed && trace.failure.is_some(), "{span:?}");
            assert!(span.kind == SpanKind::Client, "{span:?}");
            let said = KeyValue::new("error.type", kind);
            assert!(span.attributes.contains(&said), "{span:?}");
        }
    }
}
