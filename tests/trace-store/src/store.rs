//! The newest traces, in memory and bounded: the oldest trace goes when there are too many, and a span that is one too many in its trace
//! is counted instead of kept.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData},
};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Traces.
    pub traces: usize,
    /// Spans of one trace.
    pub spans: usize,
}

/// Everything that is kept.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    traces: HashMap<Vec<u8>, Trace>,
    /// In the order in which they came.
    order: VecDeque<Vec<u8>>,
}

/// The parts of a trace that have come so far.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// By who sent them.
    pub parts: Vec<ResourceSpans>,
    /// How many spans were one too many.
    pub dropped: usize,
    spans: usize,
}

/// What a list says of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id, in hexadecimal.
    pub id: String,
    /// The span that began it, as far as is known: service and name.
    pub root: (String, String),
    /// When that began, in nanoseconds since 1970.
    pub start: u64,
    /// From the first beginning to the last end, in nanoseconds.
    pub duration: u64,
    /// How many spans.
    pub spans: usize,
    /// Whether any of them failed.
    pub failed: bool,
}

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            kept: Mutex::default(),
        }
    }

    /// Keeps the spans of a message, each with its trace.
    pub fn take(&self, message: ExportTraceServiceRequest) {
        let mut kept = self.lock();
        for from in message.resource_spans {
            for scope in &from.scope_spans {
                for span in &scope.spans {
                    if span.trace_id.len() == 16 && span.span_id.len() == 8 {
                        self.keep(&mut kept, &from, scope, span.clone());
                    }
                }
            }
        }
    }

    fn keep(&self, kept: &mut Kept, from: &ResourceSpans, scope: &ScopeSpans, span: Span) {
        if !kept.traces.contains_key(&span.trace_id) {
            if kept.order.len() >= self.limits.traces
                && let Some(oldest) = kept.order.pop_front()
            {
                kept.traces.remove(&oldest);
            }
            kept.order.push_back(span.trace_id.clone());
        }
        let trace = kept.traces.entry(span.trace_id.clone()).or_default();
        if trace.spans >= self.limits.spans {
            trace.dropped += 1;
            return;
        }
        trace.spans += 1;
        let same = |part: &&mut ResourceSpans| part.resource == from.resource;
        let part = match trace.parts.iter_mut().find(same) {
            Some(part) => part,
            None => {
                // Not with the spans of all the others in the message: a message tells of hundreds of traces.
                trace.parts.push(ResourceSpans {
                    resource: from.resource.clone(),
                    scope_spans: Vec::new(),
                    schema_url: from.schema_url.clone(),
                });
                trace.parts.last_mut().expect("it was just put there")
            }
        };
        let same = |kept: &&mut ScopeSpans| kept.scope == scope.scope;
        match part.scope_spans.iter_mut().find(same) {
            Some(kept) => kept.spans.push(span),
            None => part.scope_spans.push(ScopeSpans {
                scope: scope.scope.clone(),
                spans: vec![span],
                schema_url: scope.schema_url.clone(),
            }),
        }
    }

    /// The trace with this id, if it is kept.
    #[must_use]
    pub fn trace(&self, id: &[u8]) -> Option<Trace> {
        self.lock().traces.get(id).cloned()
    }

    /// The newest traces first.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Summary> {
        let kept = self.lock();
        let ids = kept.order.iter().rev().take(count);
        ids.filter_map(|id| Some(kept.traces.get(id)?.summary(id)))
            .collect()
    }

    /// The services that have sent anything that is kept.
    #[must_use]
    pub fn services(&self) -> BTreeSet<String> {
        let kept = self.lock();
        let parts = kept.traces.values().flat_map(|trace| &trace.parts);
        parts.map(service_of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nothing panics with it")
    }
}

impl Trace {
    /// All of it, as OTLP has it.
    #[must_use]
    pub fn into_data(self) -> TracesData {
        TracesData {
            resource_spans: self.parts,
        }
    }

    /// Every span, with who sent it.
    pub fn spans(&self) -> impl Iterator<Item = (&ResourceSpans, &Span)> {
        self.parts.iter().flat_map(|part| {
            let scopes = part.scope_spans.iter();
            scopes.flat_map(move |scope| scope.spans.iter().map(move |span| (part, span)))
        })
    }

    /// When the first span began and the last one ended, in nanoseconds since 1970.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64) {
        let begin = self.spans().map(|(_, span)| span.start_time_unix_nano);
        let end = self.spans().map(|(_, span)| span.end_time_unix_nano);
        let begin = begin.min().unwrap_or_default();
        (begin, end.max().unwrap_or_default().max(begin))
    }

    fn summary(&self, id: &[u8]) -> Summary {
        let known: BTreeSet<&[u8]> = self.spans().map(|(_, span)| &*span.span_id).collect();
        let root = self
            .spans()
            .filter(|(_, span)| !known.contains(&*span.parent_span_id))
            .min_by_key(|(_, span)| span.start_time_unix_nano);
        let (begin, end) = self.bounds();
        Summary {
            id: hex(id),
            root: root
                .map(|(part, span)| (service_of(part), span.name.clone()))
                .unwrap_or_default(),
            start: begin,
            duration: end - begin,
            spans: self.spans,
            failed: self.spans().any(|(_, span)| has_failed(span)),
        }
    }
}

/// Whether a span's status is an error.
#[must_use]
pub fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

/// `service.name` of who sent this.
#[must_use]
pub fn service_of(part: &ResourceSpans) -> String {
    resource_attribute(part, "service.name").unwrap_or_else(|| "unknown".to_owned())
}

/// An attribute of who sent this.
#[must_use]
pub fn resource_attribute(part: &ResourceSpans, key: &str) -> Option<String> {
    let resource = part.resource.as_ref()?;
    let found = resource.attributes.iter().find(|found| found.key == key)?;
    Some(text(found))
}

/// An attribute's value for people.
#[must_use]
pub fn text(attribute: &KeyValue) -> String {
    fn of(value: Option<&AnyValue>) -> String {
        match value.and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::BoolValue(value)) => value.to_string(),
            Some(Value::IntValue(value)) => value.to_string(),
            Some(Value::DoubleValue(value)) => format!("{value:.3}"),
            Some(Value::ArrayValue(list)) => {
                let items: Vec<_> = list.values.iter().map(|value| of(Some(value))).collect();
                items.join(", ")
            }
            Some(Value::BytesValue(bytes)) => hex(bytes),
            _ => String::new(),
        }
    }
    of(attribute.value.as_ref())
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a trace's id. Shorter ones are filled with zeroes on the left, as Jaeger does.
#[must_use]
pub fn trace_id(text: &str) -> Option<Vec<u8>> {
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = fits.then(|| u128::from_str_radix(text, 16).ok())??;
    (number != 0).then(|| number.to_be_bytes().to_vec())
}

#[cfg(test)]
pub(crate) mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;

    pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(Value::StringValue(value.to_owned())),
            }),
            ..KeyValue::default()
        }
    }

    pub(crate) fn message(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![attribute("service.name", service)],
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        }
    }

    pub(crate) fn span(trace: u8, id: u8, parent: u8, name: &str) -> Span {
        Span {
            trace_id: vec![trace; 16],
            span_id: vec![id; 8],
            parent_span_id: if parent == 0 { vec![] } else { vec![parent; 8] },
            name: name.to_owned(),
            start_time_unix_nano: 1_000_000 * u64::from(id),
            end_time_unix_nano: 1_000_000 * u64::from(id) + 500_000,
            ..Span::default()
        }
    }

    fn store(traces: usize, spans: usize) -> Store {
        Store::new(Limits { traces, spans })
    }

    #[test]
    fn the_parts_of_a_trace_come_together_by_who_sent_them() {
        let store = store(10, 10);
        store.take(message("web", vec![span(1, 2, 1, "GET /")]));
        store.take(message(
            "balancer",
            vec![span(1, 1, 0, "GET"), span(2, 9, 0, "GET")],
        ));
        store.take(message("web", vec![span(1, 3, 2, "SELECT accounts")]));
        let trace = store.trace(&[1; 16]).unwrap();
        assert_eq!(trace.parts.len(), 2);
        assert_eq!(trace.spans().count(), 3);
        let services: Vec<_> = store.services().into_iter().collect();
        assert_eq!(services, ["balancer", "web"]);
        let newest = store.newest(10);
        assert_eq!(newest.len(), 2);
        let first = newest.iter().find(|trace| trace.spans == 3).unwrap();
        assert_eq!(first.root, ("balancer".to_owned(), "GET".to_owned()));
        assert_eq!(first.duration, 2_500_000);
    }

    #[test]
    fn the_oldest_trace_goes_and_a_trace_has_its_bound() {
        let store = store(2, 2);
        for trace in 1..=3 {
            store.take(message("web", vec![span(trace, 1, 0, "GET /")]));
        }
        assert!(store.trace(&[1; 16]).is_none());
        assert!(store.trace(&[3; 16]).is_some());
        for id in 2..=5 {
            store.take(message("web", vec![span(3, id, 1, "SELECT")]));
        }
        let trace = store.trace(&[3; 16]).unwrap();
        assert_eq!((trace.spans().count(), trace.dropped), (2, 3));
    }

    #[test]
    fn ids_are_hexadecimal_and_not_zero() {
        assert_eq!(
            trace_id("0AF7651916cd43dd8448eb211c80319c").unwrap().len(),
            16
        );
        assert_eq!(trace_id("1").unwrap()[15], 1);
        for bad in ["", "0", "xyz", "+1", &"1".repeat(33)] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
        assert_eq!(hex(&[0, 255]), "00ff");
    }
}
