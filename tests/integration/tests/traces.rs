//! The spans of the edge: who is whose parent, what is recorded, and what happens while nobody takes them. The real balancer, backends
//! that note what they are told, and the trace store behind a TLS front as the pod's door is.

mod balancer_common;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use balancer_common::{Balancer, SOON, World, header};
use harness::{Program, free_port, wait_for, wait_until};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

/// A running trace store, with TLS before its port for spans.
struct Store {
    program: Program,
    ui: u16,
    /// Where spans are sent.
    tls: u16,
    front: JoinHandle<()>,
}

impl Store {
    async fn start(identity: &Path, tls: u16) -> Result<Store> {
        let (otlp, ui) = (free_port()?, free_port()?);
        let arguments = [
            "--otlp".to_owned(),
            format!("127.0.0.1:{otlp}"),
            "--ui".to_owned(),
            format!("127.0.0.1:{ui}"),
        ];
        let program = Program::spawn("trace-store", arguments, [])?;
        program
            .wait_for_log("it listens", SOON, |line| line.contains("spans by OTLP"))
            .await?;
        let acceptor = TlsAcceptor::from(Arc::new(server_config(identity)?));
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
        Ok(Store {
            program,
            ui,
            tls,
            front,
        })
    }

    /// The spans of a trace, once there are as many; each with its service.
    async fn spans(&self, trace: &str, count: usize) -> Result<Vec<Span>> {
        let mut last = Vec::new();
        let found = wait_for("all spans of a trace", SOON, async || {
            last = self.look(trace).await.ok()?;
            (last.len() >= count).then(|| last.clone())
        });
        found.await.with_context(|| format!("only {last:#?}"))
    }

    async fn look(&self, trace: &str) -> Result<Vec<Span>> {
        let url = format!("http://127.0.0.1:{}/api/v3/traces/{trace}", self.ui);
        let answer: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
        let parts = answer["result"]["resourceSpans"].as_array();
        let mut spans = Vec::new();
        for part in parts.context("no resourceSpans")? {
            let instance = attribute(&part["resource"], "service.instance.id");
            for scope in part["scopeSpans"].as_array().context("no scopeSpans")? {
                for span in scope["spans"].as_array().context("no spans")? {
                    spans.push(Span {
                        instance: instance.clone(),
                        json: span.clone(),
                    });
                }
            }
        }
        Ok(spans)
    }

    async fn page(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.ui);
        let answer = reqwest::get(url).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.front.abort();
        let _ = self.program.kill();
    }
}

#[derive(Clone, Debug)]
struct Span {
    instance: String,
    json: Value,
}

impl Span {
    fn text(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_default()
    }

    fn id(&self) -> &str {
        self.text("spanId")
    }

    fn parent(&self) -> &str {
        self.text("parentSpanId")
    }

    fn attribute(&self, key: &str) -> String {
        attribute(&self.json, key)
    }

    fn has_failed(&self) -> bool {
        self.json["status"]["code"] == 2
    }
}

/// An attribute's value as text; empty where it is missing.
fn attribute(of: &Value, key: &str) -> String {
    let attributes = of["attributes"].as_array().map(Vec::as_slice);
    let found = attributes
        .unwrap_or_default()
        .iter()
        .find(|found| found["key"] == key);
    let Some(value) = found.and_then(|found| found["value"].as_object()?.values().next()) else {
        return String::new();
    };
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn kind(spans: &[Span], kind: u8) -> Vec<&Span> {
    spans
        .iter()
        .filter(|span| span.json["kind"] == kind)
        .collect()
}

const SERVER: u8 = 2;
const CLIENT: u8 = 3;

fn server_config(identity: &Path) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(identity.join("ca.crt"))? {
        roots.add(certificate?)?;
    }
    let chain =
        CertificateDer::pem_file_iter(identity.join("tls.crt"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(identity.join("tls.key"))?;
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    Ok(ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?)
}

fn keys(tls: u16, more: &str) -> String {
    format!(
        "[traces]\nendpoint = \"https://localhost:{tls}\"\ndelay_ms = 20\nretry_ms = 50\ntimeout_ms = 2000\n{more}"
    )
}

async fn get(balancer: &Balancer, path: &str, traceparent: &str) -> Result<reqwest::Response> {
    let request = balancer.client()?.get(balancer.url(path));
    Ok(request.header("traceparent", traceparent).send().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requests_spans_are_each_others_parents_from_the_caller_to_the_backend() -> Result<()> {
    let world = World::new()?;
    let store = Store::start(&world.identity("jaeger", "telemetry")?, free_port()?).await?;
    let web = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&web], &keys(store.tls, "")).await?;
    let answer = get(&balancer, "/things?secret=1", &traceparent(TRACE, "01")).await?;
    let told = header(&answer, "traceresponse").to_owned();
    answer.error_for_status()?;

    let spans = store.spans(TRACE, 2).await?;
    ensure!(spans.len() == 2, "{spans:#?}");
    let (server, client) = (kind(&spans, SERVER)[0], kind(&spans, CLIENT)[0]);
    ensure!(server.parent() == CALLER, "{server:?}");
    ensure!(client.parent() == server.id(), "{client:?}");
    ensure!(told == format!("00-{TRACE}-{}-01", server.id()), "{told}");
    let received = web.received();
    let below = received[0].header("traceparent");
    ensure!(
        below == format!("00-{TRACE}-{}-01", client.id()),
        "the backend was told {below}, and the attempt is {}",
        client.id()
    );

    ensure!(server.text("name") == "GET" && client.text("name") == "GET");
    for span in [server, client] {
        ensure!(span.instance == "balancer-1", "{span:?}");
        ensure!(!span.has_failed(), "{span:?}");
        ensure!(span.attribute("http.request.method") == "GET", "{span:?}");
        ensure!(
            span.attribute("http.response.status_code") == "200",
            "{span:?}"
        );
        ensure!(span.attribute("error.type").is_empty(), "{span:?}");
        ensure!(!span.json.to_string().contains("secret"), "{span:?}");
    }
    ensure!(server.attribute("url.path") == "/things", "{server:?}");
    ensure!(
        server.attribute("server.address") == "localhost",
        "{server:?}"
    );
    ensure!(
        server.attribute("network.protocol.version") == "2",
        "{server:?}"
    );
    ensure!(
        server.attribute("client.address") == "127.0.0.1",
        "{server:?}"
    );
    ensure!(client.attribute("server.address") == "web-1", "{client:?}");
    ensure!(
        client.attribute("http.request.resend_count").is_empty(),
        "{client:?}"
    );
    let time = |span: &Span, key: &str| -> Result<u64> { Ok(span.text(key).parse()?) };
    ensure!(
        time(server, "startTimeUnixNano")? <= time(client, "startTimeUnixNano")?
            && time(client, "endTimeUnixNano")? <= time(server, "endTimeUnixNano")?
            && time(client, "startTimeUnixNano")? < time(client, "endTimeUnixNano")?,
        "{spans:#?}"
    );

    let logged = balancer.logged(|line| line["trace_id"] == TRACE).await?;
    ensure!(logged["path"] == "/things", "{logged}");
    let (status, page) = store.page(&format!("/trace/{TRACE}")).await?;
    ensure!(status == 200 && page.contains("balancer-1"), "{page}");
    ensure!(store.page("/").await?.1.contains(TRACE));
    let services = store.page("/api/v3/services").await?.1;
    ensure!(services == r#"{"services":["balancer"]}"#, "{services}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_a_span_and_says_why_it_failed() -> Result<()> {
    let world = World::new()?;
    let store = Store::start(&world.identity("jaeger", "telemetry")?, free_port()?).await?;
    let (one, two) = (world.backend("web-1").await?, world.backend("web-2").await?);
    let keys = keys(store.tls, "[backend]\ntries_max = 2\n");
    let balancer = world.balancer_ready(&[&one, &two], &keys).await?;
    let answer = get(&balancer, "/reset", &traceparent(TRACE, "01")).await?;
    ensure!(answer.status() == 502, "{answer:?}");

    let spans = store.spans(TRACE, 3).await?;
    ensure!(spans.len() == 3, "{spans:#?}");
    let server = kind(&spans, SERVER)[0];
    ensure!(server.has_failed(), "{server:?}");
    ensure!(
        server.attribute("error.type") == "backend_reset",
        "{server:?}"
    );
    ensure!(
        server.attribute("http.response.status_code") == "502",
        "{server:?}"
    );
    let mut clients = kind(&spans, CLIENT);
    clients.sort_by_key(|span| span.attribute("http.request.resend_count"));
    let counts: Vec<_> = clients
        .iter()
        .map(|span| span.attribute("http.request.resend_count"))
        .collect();
    ensure!(counts == ["", "1"], "{clients:#?}");
    let mut backends = Vec::new();
    for client in clients {
        ensure!(client.parent() == server.id(), "{client:?}");
        ensure!(client.has_failed(), "{client:?}");
        ensure!(
            client.attribute("error.type") == "backend_reset",
            "{client:?}"
        );
        backends.push(client.attribute("server.address"));
        let heard = [&one, &two].into_iter().flat_map(|web| web.received());
        let expected = format!("00-{TRACE}-{}-01", client.id());
        let mut told = heard.filter(|request| request.header("traceparent") == expected);
        ensure!(told.next().is_some(), "no backend was told {expected}");
    }
    backends.sort();
    ensure!(backends == ["web-1", "web-2"], "{backends:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_does_not_record_is_not_recorded() -> Result<()> {
    let world = World::new()?;
    let store = Store::start(&world.identity("jaeger", "telemetry")?, free_port()?).await?;
    let web = world.backend("web-1").await?;
    let balancer = world
        .balancer_ready(
            &[&web],
            &keys(store.tls, "[edge]\ntrace_sample_percent = 100\n"),
        )
        .await?;
    let unrecorded = "1".repeat(32);
    let answer = get(&balancer, "/", &traceparent(&unrecorded, "00")).await?;
    let told = header(&answer, "traceresponse").to_owned();
    ensure!(told.ends_with("-00"), "{told}");
    // Without a caller the edge decides, and here it records all.
    let answer = balancer.client()?.get(balancer.url("/")).send().await?;
    let own = header(&answer, "traceresponse").to_owned();
    let own = own.split('-').nth(1).context("no trace id")?;
    store.spans(own, 2).await?;
    let (status, said) = store.page(&format!("/api/v3/traces/{unrecorded}")).await?;
    ensure!(status == 404, "{said}");
    ensure!(web.received().iter().any(|request| {
        request
            .header("traceparent")
            .starts_with(&format!("00-{unrecorded}-"))
    }));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_baggage_ends_at_the_edge_and_its_tracestate_goes_on() -> Result<()> {
    let world = World::new()?;
    let web = world.backend("web-1").await?;
    let balancer = world.balancer_ready(&[&web], "").await?;
    let ask = |traceparent: &str| {
        let client = balancer.client();
        let request = client.map(|client| {
            client
                .get(balancer.url("/"))
                .header("traceparent", traceparent)
                .header("tracestate", "vendor=1")
                .header("baggage", "user=root")
        });
        async move { Ok::<_, anyhow::Error>(request?.send().await?.error_for_status()?) }
    };
    ask(&traceparent(TRACE, "01")).await?;
    ask("nonsense").await?;
    let received = web.received();
    ensure!(
        received[0].header("tracestate") == "vendor=1",
        "{received:?}"
    );
    ensure!(received[1].header("tracestate").is_empty(), "{received:?}");
    for request in &received {
        ensure!(request.header("baggage").is_empty(), "{request:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_takes_spans_requests_go_on_and_what_does_not_fit_is_counted() -> Result<()> {
    let world = World::new()?;
    let web = world.backend("web-1").await?;
    let tls = free_port()?;
    let keys = keys(
        tls,
        "queue_spans_max = 20\nbatch_spans_max = 10\nflush_ms = 500\n",
    );
    let mut balancer = world.balancer_ready(&[&web], &keys).await?;
    let client = balancer.client()?;
    for _ in 0..60 {
        let answer = client
            .get(balancer.url("/"))
            .header("traceparent", traceparent(TRACE, "01"))
            .send()
            .await?;
        ensure!(answer.status() == 200, "{answer:?}");
    }
    let full = "balancer_spans_dropped_total{reason=\"queue_full\"}";
    wait_until("spans are dropped and counted", SOON, async || {
        balancer.metric(full).await.is_ok_and(|dropped| dropped > 0)
    })
    .await?;
    let failed = balancer
        .metric("balancer_span_exports_failed_total")
        .await?;
    ensure!(failed > 0, "no failure was counted");

    // Somebody else's role is as good as nobody.
    let wrong = Store::start(&world.identity("wrong", "web")?, tls).await?;
    let before = balancer
        .metric("balancer_span_exports_failed_total")
        .await?;
    wait_until("it is tried and refused", SOON, async || {
        let now = balancer.metric("balancer_span_exports_failed_total").await;
        now.is_ok_and(|now| now > before + 2)
    })
    .await?;
    ensure!(balancer.metric("balancer_spans_exported_total").await? == 0);
    drop(wrong);

    // What waited is not lost, and what comes is taken again.
    wait_until("the port is free", SOON, async || {
        TcpListener::bind(("127.0.0.1", tls)).await.is_ok()
    })
    .await?;
    let store = Store::start(&world.identity("jaeger", "telemetry")?, tls).await?;
    let spans = store.spans(TRACE, 20).await?;
    ensure!(spans.len() >= 20, "{}", spans.len());
    let later = "2".repeat(32);
    get(&balancer, "/", &traceparent(&later, "01")).await?;
    store.spans(&later, 2).await?;
    let said = |words: &str| {
        let log = balancer.program.log();
        log.iter().filter(|line| line.contains(words)).count()
    };
    ensure!(said("spans cannot be sent") == 1, "said more than once");
    ensure!(said("spans are sent again") == 1);

    // Its end is not held up, either.
    drop(store);
    get(&balancer, "/", &traceparent(TRACE, "01")).await?;
    balancer.stop(Duration::from_secs(5)).await
}
