//! The thread that sends spans. It may hang, and nobody notices: requests only ever touch the queue.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message;
use rustls::ClientConfig;
use tokio::{runtime::Runtime, time::timeout};

use super::{
    TracesConfig,
    otlp_http::{Client, SendError, Target},
    queue::{Dropped, Queue},
};

/// Looking up a name blocks a thread, for as long as the resolver likes: one that hangs, one that tries anew.
const RESOLVERS: usize = 2;

pub(super) fn start(
    config: &TracesConfig,
    resource: &Resource,
    queue: Arc<Queue>,
    tls: impl Fn() -> Arc<ClientConfig> + Send + 'static,
) -> io::Result<()> {
    let target = Target::parse(&config.endpoint).ok_or_else(|| {
        io::Error::other(format!(
            "traces.endpoint: `{}` is not https://HOST:PORT",
            config.endpoint
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RESOLVERS)
        .build()?;
    let mut exporter = Exporter {
        resource: resource.into(),
        delay: Duration::from_millis(config.delay_ms),
        limit: Duration::from_millis(config.timeout_ms),
        retry: Duration::from_millis(config.retry_ms),
        endpoint: config.endpoint.clone(),
        client: Client::new(target, tls),
        runtime,
        is_away: false,
        queue,
    };
    thread::Builder::new()
        .name("spans".to_owned())
        .spawn(move || {
            exporter.run();
            exporter.queue.is_done();
            // A lookup that hangs is left behind.
            exporter.runtime.shutdown_background();
        })?;
    Ok(())
}

struct Exporter<T> {
    queue: Arc<Queue>,
    resource: ResourceAttributesWithSchema,
    delay: Duration,
    limit: Duration,
    retry: Duration,
    endpoint: String,
    client: Client<T>,
    runtime: Runtime,
    /// Whether the last message could not be sent, which has been said.
    is_away: bool,
}

impl<T: Fn() -> Arc<ClientConfig>> Exporter<T> {
    fn run(&mut self) {
        while let Some(batch) = self.queue.next(self.delay) {
            let spans = batch.len();
            match self.deliver(self.encoded(batch)) {
                Ok(()) => self.queue.count_exported(spans),
                Err(reason) => self.queue.count_dropped(reason, spans),
            }
        }
    }

    fn encoded(&self, batch: Vec<SpanData>) -> Bytes {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        request.encode_to_vec().into()
    }

    /// Sends one message, and again until it is taken or the end has come. What comes meanwhile waits in the queue.
    fn deliver(&mut self, message: Bytes) -> Result<(), Dropped> {
        loop {
            let limit = match self.queue.end() {
                Some(end) => self
                    .limit
                    .min(end.saturating_duration_since(Instant::now())),
                None => self.limit,
            };
            let client = &mut self.client;
            let sent = self.runtime.block_on(async {
                timeout(limit, client.send(message.clone()))
                    .await
                    .unwrap_or_else(|_| {
                        Err(SendError::Later(format!("no answer within {limit:?}")))
                    })
            });
            let Err(error) = sent else {
                self.is_back();
                return Ok(());
            };
            self.queue.count_failed();
            self.is_away(&error);
            match error {
                SendError::Never(_) => return Err(Dropped::Refused),
                SendError::Later(_) if !self.queue.pause(self.retry) => {
                    return Err(Dropped::Stopped);
                }
                SendError::Later(_) => {}
            }
        }
    }

    /// Said once an outage.
    fn is_away(&mut self, error: &SendError) {
        if !self.is_away {
            tracing::warn!(endpoint = self.endpoint, %error, "spans cannot be sent; they wait, and those that do not fit are dropped");
        }
        self.is_away = true;
    }

    fn is_back(&mut self) {
        if self.is_away {
            tracing::info!(endpoint = self.endpoint, "spans are sent again");
        }
        self.is_away = false;
    }
}
