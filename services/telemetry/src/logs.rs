//! Logs: one JSON object a line on standard output, for whatever collects the containers' output.
//!
//! `ts`, `level`, `service`, `target`, `message`, then the event's own fields. The fields of the spans that it stands in come as members
//! as well, the innermost winning, so every line of a request has its `trace_id`, and `grep` finds them all, whatever is filtered. Those
//! of a span with a dot in their name are not the log's but the trace's ([`crate::traces`]).

use std::{collections::BTreeMap, fmt, io::Write};

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterExt, filter_fn},
    layer::{self, Context, Layer, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{gate::Gate, traces::Traces};

/// Sends all of this process's logs to standard output. `filter` is as in `RUST_LOG`: `info`, `info,sqlx=warn`. A second call changes
/// nothing.
///
/// # Errors
/// When the filter cannot be read.
pub fn init(service: &str, filter: &str) -> Result<(), BadFilter> {
    init_with(service, filter, &Traces::none(), &[])
}

/// The same, and the spans of these crates become spans of their trace.
///
/// # Errors
/// When the filter cannot be read.
pub fn init_with(
    service: &str,
    filter: &str,
    traces: &Traces,
    crates: &'static [&'static str],
) -> Result<(), BadFilter> {
    let layers = layers(service, std::io::stdout, filter, traces, crates)?;
    let _ = layers.try_init();
    Ok(())
}

fn layers<W, O>(
    service: &str,
    out: W,
    filter: &str,
    traces: &Traces,
    crates: &'static [&'static str],
) -> Result<impl Subscriber + Send + Sync + use<W, O>, BadFilter>
where
    W: Fn() -> O + Send + Sync + 'static,
    O: Write + 'static,
{
    let lines = JsonLines::new(service, out);
    Ok(tracing_subscriber::registry()
        .with(lines.with_filter(lines_wanted(filter)?))
        .with(traces.layer(crates))
        .with(Gate {
            lines: lines_wanted(filter)?,
            crates,
        }))
}

/// The events that the filter lets through, and every span of a request: what is logged within has its fields.
fn lines_wanted<S>(filter: &str) -> Result<impl layer::Filter<S> + use<S>, BadFilter>
where
    S: Subscriber,
{
    let events = EnvFilter::try_new(filter).map_err(|error| BadFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    Ok(spans.or(events))
}

/// A filter that says nothing that can be understood.
#[derive(Debug, thiserror::Error)]
#[error("log filter `{filter}`: {reason}; expected something like `info` or `info,sqlx=warn`")]
pub struct BadFilter {
    filter: String,
    reason: String,
}

struct JsonLines<W> {
    service: String,
    out: W,
}

impl<W, O> JsonLines<W>
where
    W: Fn() -> O,
    O: Write,
{
    fn new(service: &str, out: W) -> Self {
        Self {
            service: service.to_owned(),
            out,
        }
    }

    fn write(&self, metadata: &Metadata<'_>, fields: &Fields) {
        let mut line = String::with_capacity(256);
        line.push_str("{\"ts\":\"");
        push_time(&mut line, OffsetDateTime::now_utc());
        line.push_str("\",\"level\":\"");
        line.push_str(match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        });
        line.push_str("\",\"service\":");
        push_string(&mut line, &self.service);
        line.push_str(",\"target\":");
        push_string(&mut line, metadata.target());
        line.push_str(",\"message\":");
        line.push_str(fields.0.get("message").map_or("\"\"", String::as_str));
        for (name, value) in fields.0.iter().filter(|(name, _)| **name != "message") {
            line.push(',');
            push_string(&mut line, name);
            line.push(':');
            line.push_str(value);
        }
        line.push_str("}\n");
        // A log that cannot be written has nowhere to be complained about.
        let _ = (self.out)().write_all(line.as_bytes());
    }
}

/// Field names and their values as JSON.
#[derive(Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut json = String::with_capacity(value.len() + 2);
        push_string(&mut json, value);
        self.0.insert(field.name(), json);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name(), value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name(), value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name(), value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        let json = if value.is_finite() {
            value.to_string()
        } else {
            "null".to_owned()
        };
        self.0.insert(field.name(), json);
    }
}

impl<S, W, O> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn() -> O + 'static,
    O: Write,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.0.retain(|name, _| !name.contains('.'));
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
            fields.0.retain(|name, _| !name.contains('.'));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.0.extend(of_span.0.clone());
            }
        }
        event.record(&mut fields);
        self.write(event.metadata(), &fields);
    }
}

/// RFC 3339 in UTC, with microseconds.
fn push_time(line: &mut String, at: OffsetDateTime) {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    line.push_str(
        &at.format(&FORMAT)
            .expect("a date and time in UTC has every part of the format"),
    );
}

/// A JSON string (RFC 8259, section 7).
fn push_string(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = fmt::Write::write_fmt(line, format_args!("\\u{:04x}", u32::from(control)));
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::trace_context::TraceContext;

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
    fn a_line_has_the_events_fields_and_those_of_its_spans() {
        let kept = Kept::default();
        let out = kept.clone();
        let lines = JsonLines::new("web-1", move || out.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let request =
                tracing::info_span!("request", trace_id = "abc", status = tracing::field::Empty);
            let _request = request.enter();
            request.record("status", 201);
            let _inner = tracing::info_span!("query", rows = 3_u64).entered();
            tracing::warn!(
                reason = "a \"quoted\"\nword",
                share = f64::NAN,
                "it took long"
            );
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (name, value) in [
            ("level", serde_json::json!("warn")),
            ("service", serde_json::json!("web-1")),
            ("message", serde_json::json!("it took long")),
            ("trace_id", serde_json::json!("abc")),
            ("status", serde_json::json!(201)),
            ("rows", serde_json::json!(3)),
            ("reason", serde_json::json!("a \"quoted\"\nword")),
            ("share", serde_json::Value::Null),
        ] {
            assert_eq!(line[name], value, "{name} in {text}");
        }
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn a_line_has_its_requests_fields_whatever_is_filtered_and_none_of_the_traces() {
        let kept = Kept::default();
        let out = kept.clone();
        let lines = JsonLines::new("web-1", move || out.clone());
        let lines = lines.with_filter(lines_wanted("warn").unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let _request =
                tracing::info_span!("request", trace_id = "abc", http.route = "/").entered();
            tracing::info!("not wanted");
            tracing::warn!("wanted");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["trace_id"], "abc", "{text}");
        assert!(line.get("http.route").is_none(), "{text}");
    }

    /// A question that is answered no and followed by nothing, as sqlx asks after each statement (by way of the crate `log`), must leave
    /// nothing behind: the next span of the thread had been lost for its trace, and its fields for the lines.
    #[test]
    fn a_question_about_what_nobody_wants_costs_no_span_and_no_field() {
        for filter in [
            "info",
            "info,telemetry=debug",
            "debug,sqlx=warn",
            "trace,sqlx=off",
        ] {
            let (kept, traces) = (Kept::default(), crate::traces::tests::traces());
            let out = kept.clone();
            let layers = layers(
                "web-1",
                move || out.clone(),
                filter,
                &traces,
                &["telemetry"],
            );
            tracing::subscriber::with_default(layers.unwrap(), || {
                for round in 0..3 {
                    let span = tracing::info_span!("request", round, otel.kind = "server");
                    let _ = crate::traces::join(&span, Some(TraceContext::new(true)));
                    span.in_scope(|| tracing::warn!("in it"));
                    drop(span);
                    asked();
                }
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let rounds = text.matches("\"round\":").count();
            assert_eq!(
                (rounds, crate::traces::tests::waiting(&traces)),
                (3, 3),
                "{filter}: {text}"
            );
        }
    }

    /// As `log_enabled!(target: "sqlx::query", Level::Debug)` asks once the bridge from `log` is there: past what a callsite remembers.
    fn asked() {
        let callsite = tracing::callsite!(
            name: "question",
            kind: tracing::metadata::Kind::EVENT,
            target: "sqlx::query",
            level: Level::DEBUG,
            fields: message
        );
        let metadata = tracing::callsite::Callsite::metadata(callsite);
        if LevelFilter::current() >= LevelFilter::DEBUG {
            tracing::dispatcher::get_default(|dispatch| dispatch.enabled(metadata));
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let mut line = String::new();
        push_time(
            &mut line,
            time::macros::datetime!(2000-02-29 23:59:59.000_001 UTC),
        );
        assert_eq!(line, "2000-02-29T23:59:59.000001Z");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error_that_shows_one_that_can() {
        let error = init("web-1", "info,==").unwrap_err();
        assert!(
            error.to_string().contains("expected something like"),
            "{error}"
        );
    }
}
