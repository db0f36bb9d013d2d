//! The trace store as a process, and its answers as spans: where a program's traces can be looked at.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::identity::server_config;
use crate::{Program, free_port, wait_for};

/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(10);

/// A running trace store, with TLS before its port for spans, as the door of its pod has it. Ends when dropped.
#[derive(Debug)]
pub struct TraceStore {
    program: Program,
    pages: u16,
    tls: u16,
    front: JoinHandle<()>,
}

impl TraceStore {
    /// Starts one that shows the identity in this directory, and takes spans at port `tls` of 127.0.0.1.
    pub async fn start(identity: &Path, tls: u16) -> Result<TraceStore> {
        let (otlp, pages) = (free_port()?, free_port()?);
        let arguments = [
            "--otlp".to_owned(),
            format!("127.0.0.1:{otlp}"),
            "--ui".to_owned(),
            format!("127.0.0.1:{pages}"),
        ];
        let program = Program::spawn("trace-store", arguments, [])?;
        program
            .wait_for_log("it listens", SOON, |line| line.contains("spans by OTLP"))
            .await?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(identity, &[b"http/1.1"])?));
        let listener = TcpListener::bind(("127.0.0.1", tls)).await?;
        let front = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut outer = acceptor.accept(stream).await?;
                    let mut inner = TcpStream::connect(("127.0.0.1", otlp)).await?;
                    tokio::io::copy_bidirectional(&mut outer, &mut inner).await
                });
            }
        });
        Ok(TraceStore {
            program,
            pages,
            tls,
            front,
        })
    }

    /// Where spans are sent: `https://localhost:PORT`.
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.tls)
    }

    /// The spans of a trace, once there are as many.
    pub async fn spans(&self, trace: &str, count: usize) -> Result<Vec<Span>> {
        let mut last = Vec::new();
        let found = wait_for("all spans of a trace", SOON, async || {
            let (_, answer) = self.page(&format!("/api/v3/traces/{trace}")).await.ok()?;
            last = Span::all(&serde_json::from_str(&answer).ok()?);
            (last.len() >= count).then(|| last.clone())
        });
        found.await.with_context(|| format!("only {last:#?}"))
    }

    /// What it answers to `GET` of this path: the status and the text.
    pub async fn page(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.pages);
        let answer = reqwest::get(url).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

impl Drop for TraceStore {
    fn drop(&mut self) {
        self.front.abort();
        let _ = self.program.kill();
    }
}

/// A span as `GET /api/v3/traces/ID` shows it, of Jaeger as of the store, and whose it is.
#[derive(Clone, Debug)]
pub struct Span {
    /// The kind of service: `web`.
    pub service: String,
    /// Which one of them: `web-1`.
    pub instance: String,
    /// The span itself.
    pub json: Value,
}

impl Span {
    /// The kind of a span for what was asked of a service.
    pub const SERVER: u8 = 2;
    /// The kind of a span for what a service asks another one.
    pub const CLIENT: u8 = 3;

    /// All spans of an answer, each once, for they are delivered at least once; none if it is an error's.
    pub fn all(answer: &Value) -> Vec<Span> {
        let list = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
        let mut spans = Vec::new();
        for part in list(&answer["result"], "resourceSpans") {
            for scope in list(&part, "scopeSpans") {
                spans.extend(list(&scope, "spans").into_iter().map(|json| Span {
                    service: attribute(&part["resource"], "service.name"),
                    instance: attribute(&part["resource"], "service.instance.id"),
                    json,
                }));
            }
        }
        let mut seen = HashSet::new();
        spans.retain(|span: &Span| seen.insert(span.id().to_owned()));
        spans
    }

    /// A member that is a text; empty where it is missing.
    pub fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_default()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.text("spanId")
    }

    /// The id of the span that it is a part of; empty for the first of a trace.
    pub fn parent(&self) -> &str {
        self.text("parentSpanId")
    }

    /// An attribute's value as text; empty where it is missing.
    pub fn attribute(&self, key: &str) -> String {
        attribute(&self.json, key)
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: u8) -> bool {
        self.json["kind"] == kind
    }

    /// Whether it says that it failed.
    pub fn has_failed(&self) -> bool {
        self.json["status"]["code"] == 2
    }
}

fn attribute(of: &Value, key: &str) -> String {
    let attributes = of["attributes"].as_array().map(Vec::as_slice);
    let mut attributes = attributes.unwrap_or_default().iter();
    let found = attributes.find(|found| found["key"] == key);
    let value = found.and_then(|found| found["value"].as_object()?.values().next());
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
