//! Spans: kept for a moment in a bounded queue, and sent by OTLP over HTTP in mutual TLS by a thread of their own.
//!
//! Whoever ends a span never waits. While nobody takes spans they wait in the queue, and those that do not fit are dropped and counted;
//! an outage is said once when it begins and once when it ends (invariant 11). The API and the encoding are OpenTelemetry's; queue and
//! transport are ours, because the SDK's own count no dropped span and take no TLS configuration that follows its files.
//!
//! A service that makes spans with `tracing` adds [`Traces::layer`]; one that knows its ids already hands in [`Span`]s.

mod exporter;
mod otlp_http;
mod queue;

use std::{
    borrow::Cow,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope,
    trace::{
        self, SpanContext, Status, TraceContextExt, TraceFlags, TraceState, TracerProvider as _,
    },
};
pub use opentelemetry::{KeyValue, trace::SpanKind};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanEvents, SpanLinks, SpanProcessor,
    },
};
use prometheus::Registry;
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::trace_context::{SpanId, TraceContext, TraceId};
use queue::Queue;

/// `[traces]` of a service's configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Whether spans are made at all.
    pub enabled: bool,
    /// Where they are sent: `https://HOST:PORT`.
    pub endpoint: String,
    /// Spans that wait to be sent; further ones are dropped and counted.
    pub queue_spans_max: usize,
    /// Spans in one message.
    pub batch_spans_max: usize,
    /// How long a span may wait for others to be sent with it.
    pub delay_ms: u64,
    /// How long sending one message may take, from looking up the address to the answer.
    pub timeout_ms: u64,
    /// How long to wait after a message that could not be sent.
    pub retry_ms: u64,
    /// How long sending may take when the service stops.
    pub flush_ms: u64,
}

impl TracesConfig {
    /// The whole numbers: the key, what is there, what is taken.
    #[must_use]
    pub fn ranges(&self) -> [(&'static str, u64, RangeInclusive<u64>); 6] {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (queue, batch) = (count(self.queue_spans_max), count(self.batch_spans_max));
        [
            ("traces.queue_spans_max", queue, 1..=1_000_000),
            ("traces.batch_spans_max", batch, 1..=10_000),
            ("traces.delay_ms", self.delay_ms, 1..=60_000),
            ("traces.timeout_ms", self.timeout_ms, 1..=60_000),
            ("traces.retry_ms", self.retry_ms, 1..=600_000),
            ("traces.flush_ms", self.flush_ms, 0..=60_000),
        ]
    }

    /// What else is wrong with it: the key, what would be right, what is there.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str, String)> {
        let wrong = otlp_http::Target::parse(&self.endpoint).is_none();
        let expected = "`https://HOST:PORT`, without a path";
        wrong.then(|| ("traces.endpoint", expected, format!("`{}`", self.endpoint)))
    }
}

/// Whose spans they are.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// The kind of service, which is also the prefix of its metrics: `web`.
    pub name: &'a str,
    /// Which one of them: `web-1`.
    pub instance: &'a str,
    /// The version that runs.
    pub version: &'a str,
}

/// A service's spans. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Traces {
    /// `None` where no spans are wanted.
    parts: Option<Arc<Parts>>,
}

#[derive(Debug)]
struct Parts {
    config: TracesConfig,
    resource: Resource,
    scope: InstrumentationScope,
    queue: Arc<Queue>,
    tracer: SdkTracer,
    /// Kept alive: the tracer holds it weakly.
    _provider: SdkTracerProvider,
}

/// A span that has ended.
#[derive(Debug)]
pub struct Span {
    /// Its own ids.
    pub context: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// Whether that one is of another service.
    pub parent_is_remote: bool,
    /// Its part in a call.
    pub kind: SpanKind,
    /// A name of which there are few.
    pub name: Cow<'static, str>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// By the semantic conventions of OpenTelemetry.
    pub attributes: Vec<KeyValue>,
    /// Whether it failed.
    pub failed: bool,
}

impl Traces {
    /// For a service that makes none.
    #[must_use]
    pub fn none() -> Self {
        Self { parts: None }
    }

    /// A queue for spans; nothing is sent before [`Traces::start`].
    #[must_use]
    pub fn new(service: Service<'_>, config: &TracesConfig) -> Self {
        if !config.enabled {
            return Self { parts: None };
        }
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", service.name.to_owned()),
                KeyValue::new("service.instance.id", service.instance.to_owned()),
                KeyValue::new("service.version", service.version.to_owned()),
                KeyValue::new("service.namespace", "holdfast"),
                KeyValue::new("telemetry.sdk.name", "opentelemetry"),
                KeyValue::new("telemetry.sdk.language", "rust"),
            ])
            .build();
        let queue = Arc::new(Queue::new(
            service.name,
            config.queue_spans_max,
            config.batch_spans_max,
        ));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            // Whoever began the trace has decided; without one there is nobody who would look at it.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
            .with_span_processor(Ended(Arc::clone(&queue)))
            .build();
        let scope = InstrumentationScope::builder(service.name.to_owned())
            .with_version(service.version.to_owned())
            .build();
        Self {
            parts: Some(Arc::new(Parts {
                config: config.clone(),
                resource,
                tracer: provider.tracer_with_scope(scope.clone()),
                scope,
                queue,
                _provider: provider,
            })),
        }
    }

    /// Begins to send, and registers the metrics of it. `tls` is asked at every connection, so that a new certificate is used from the
    /// next one on.
    ///
    /// # Errors
    /// When the thread cannot be started, or the registry has one of the names already.
    pub fn start(
        &self,
        registry: &Registry,
        tls: impl Fn() -> Arc<ClientConfig> + Send + 'static,
    ) -> std::io::Result<()> {
        let Some(parts) = &self.parts else {
            return Ok(());
        };
        parts
            .queue
            .register(registry)
            .map_err(std::io::Error::other)?;
        exporter::start(
            &parts.config,
            &parts.resource,
            Arc::clone(&parts.queue),
            tls,
        )
    }

    /// Whether spans are made at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.parts.is_some()
    }

    /// Hands a span in. Never waits.
    pub fn send(&self, span: Span) {
        let Some(parts) = &self.parts else { return };
        let status = if span.failed {
            Status::error("")
        } else {
            Status::Unset
        };
        parts.queue.push(SpanData {
            span_context: otel(&span.context, false),
            parent_span_id: span.parent.map_or(trace::SpanId::INVALID, |id| {
                trace::SpanId::from_bytes(id.to_bytes())
            }),
            parent_span_is_remote: span.parent_is_remote,
            span_kind: span.kind,
            name: span.name,
            start_time: span.start,
            end_time: span.end,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: parts.scope.clone(),
        });
    }

    /// Turns the spans of `tracing` into spans of the trace: those of these crates, and the warnings that happen in them. Of their fields
    /// those with a dot in their name become attributes; the others belong to the log's lines alone.
    pub fn layer<S>(&self, crates: &'static [&'static str]) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let parts = self.parts.as_ref()?;
        let layer = tracing_opentelemetry::layer()
            .with_tracer(parts.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false);
        let wanted = filter_fn(move |metadata| is_wanted(metadata, crates));
        Some(layer.with_filter(wanted.with_max_level_hint(LevelFilter::INFO)))
    }

    /// Sends what there is, for as long as the configuration allows; what is left is counted as dropped. Blocks.
    pub fn flush(&self) {
        if let Some(parts) = &self.parts {
            parts
                .queue
                .close(Duration::from_millis(parts.config.flush_ms));
        }
    }
}

/// Whether a span or event of these crates belongs into a trace.
pub(crate) fn is_wanted(metadata: &Metadata<'_>, crates: &'static [&'static str]) -> bool {
    let level = if metadata.is_span() {
        Level::INFO
    } else {
        Level::WARN
    };
    let target = metadata.target();
    let of_crate = target.split("::").next().unwrap_or(target);
    *metadata.level() <= level && crates.contains(&of_crate)
}

/// Makes a span of `tracing` a part of its caller's trace, and says which one it is: a span of its own in the caller's trace, or in a
/// new one that nobody records.
#[must_use]
pub fn join(span: &tracing::Span, caller: Option<TraceContext>) -> TraceContext {
    let parent = caller.map_or_else(opentelemetry::Context::new, |caller| {
        opentelemetry::Context::new().with_remote_span_context(otel(&caller, true))
    });
    let joined = span.set_parent(parent).is_ok();
    let context = span.context();
    let own = context.span().span_context().clone();
    if joined && own.is_valid() {
        return TraceContext {
            trace_id: TraceId::from_bytes(own.trace_id().to_bytes()),
            span_id: SpanId::from_bytes(own.span_id().to_bytes()),
            sampled: own.is_sampled(),
        };
    }
    caller.map_or_else(|| TraceContext::new(false), |caller| caller.child())
}

fn otel(context: &TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        trace::TraceId::from_bytes(context.trace_id.to_bytes()),
        trace::SpanId::from_bytes(context.span_id.to_bytes()),
        TraceFlags::default().with_sampled(context.sampled),
        is_remote,
        TraceState::NONE,
    )
}

/// Where the SDK leaves the spans that have ended.
#[derive(Debug)]
struct Ended(Arc<Queue>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

    fn on_end(&self, mut span: SpanData) {
        span.attributes
            .retain(|attribute| attribute.key.as_str().contains('.'));
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of a service whose spans stay in the queue.
    pub(crate) fn traces() -> Traces {
        let service = Service {
            name: "sample",
            instance: "sample-1",
            version: "0",
        };
        let config = TracesConfig {
            enabled: true,
            endpoint: "https://localhost:1".to_owned(),
            queue_spans_max: 100,
            batch_spans_max: 100,
            delay_ms: 1,
            timeout_ms: 1,
            retry_ms: 1,
            flush_ms: 0,
        };
        Traces::new(service, &config)
    }

    /// How many spans have ended and wait.
    pub(crate) fn waiting(traces: &Traces) -> usize {
        traces.parts.as_ref().unwrap().queue.waiting()
    }
}
