//! A web server without databases: what its metrics have from the start, how often its status page asks Prometheus, and where it would
//! send a statement.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use harness::{Identities, Program, free_port, server_config, wait_until};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use reqwest::{Client, StatusCode};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::sleep};
use tokio_rustls::TlsAcceptor;

/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);

/// Visitors who come at once.
const CROWD: usize = 64;

struct Web {
    client: Client,
    base: String,
    program: Program,
    directory: TempDir,
}

impl Web {
    /// Starts one that asks `prometheus`, with these variables besides, and waits until it answers.
    async fn start(identities: &Identities, prometheus: u16, more: &[(&str, &str)]) -> Result<Web> {
        let directory = harness::run::directory("web-alone")?;
        let port = free_port()?;
        let path = |path: std::path::PathBuf| path.display().to_string();
        let mut environment = vec![
            ("LISTEN", format!("127.0.0.1:{port}")),
            ("IDENTITY", path(identities.of("web-1").join("current"))),
            ("ADMIN_SOCKET", path(directory.path().join("admin.sock"))),
            ("METRICS__LISTEN", "127.0.0.1:0".to_owned()),
            ("TRACES__ENABLED", "false".to_owned()),
            ("MONITORING__URL", format!("https://localhost:{prometheus}")),
            ("MONITORING__TIMEOUT_MS", "10000".to_owned()),
        ];
        environment.extend(more.iter().map(|&(key, value)| (key, value.to_owned())));
        let environment = environment
            .into_iter()
            .map(|(key, value)| (format!("HOLDFAST_WEB__{key}"), value));
        let program = Program::spawn("web", Vec::<String>::new(), environment)?;
        let web = Web {
            client: identities.client("balancer-1")?,
            base: format!("https://localhost:{port}"),
            program,
            directory,
        };
        web.program
            .wait_for_log("it listens", SOON, |line| {
                line.contains("\"message\":\"listening\"")
            })
            .await?;
        wait_until("its admin socket answers", SOON, async || {
            web.metrics().await.is_ok()
        })
        .await?;
        Ok(web)
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, String)> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await;
        let answer = answer.with_context(|| self.program.log().join("\n"))?;
        Ok((answer.status(), answer.text().await?))
    }

    /// The status page, which must say whether there is monitoring data.
    async fn status(&self, has_data: bool) -> Result<()> {
        let (status, page) = self.get("/status").await?;
        ensure!(status == StatusCode::OK, "{status}: {page}");
        let says_no = page.contains("No monitoring data");
        ensure!(says_no != has_data, "{page}");
        Ok(())
    }

    async fn metrics(&self) -> Result<String> {
        let socket = self.directory.path().join("admin.sock");
        let json = chassis::admin::call(&socket, "metrics", SOON).await?;
        Ok(serde_json::from_str(&json)?)
    }

    /// The routes that a metric has, with the sum of their values.
    async fn routes(&self, metric: &str) -> Result<Vec<(String, u64)>> {
        let text = self.metrics().await?;
        let lines = text.lines().filter_map(|line| {
            let (labels, value) = line
                .strip_prefix(metric)?
                .strip_prefix('{')?
                .split_once("} ")?;
            let (_, route) = labels.split_once("route=\"")?;
            Some((
                route.split_once('"')?.0.to_owned(),
                value.parse::<u64>().ok()?,
            ))
        });
        let mut routes: BTreeMap<String, u64> = BTreeMap::new();
        for (route, value) in lines {
            *routes.entry(route).or_default() += value;
        }
        Ok(routes.into_iter().collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_in_the_metrics_before_its_first_answer_and_no_other_one_ever() -> Result<()>
{
    const METRICS: [&str; 2] = ["web_answers_total", "web_request_duration_seconds_count"];
    let identities = Identities::make()?;
    let web = Web::start(&identities, free_port()?, &[]).await?;
    for metric in METRICS {
        let at_first = web.routes(metric).await?;
        ensure!(at_first.len() > 5, "{metric}: {at_first:?}");
        ensure!(
            at_first.iter().all(|(_, count)| *count == 0),
            "{at_first:?}"
        );
    }
    let text = web.metrics().await?;
    for class in ["1xx", "2xx", "3xx", "4xx", "5xx"] {
        let line = format!("web_answers_total{{class=\"{class}\",route=\"/status\"}} 0");
        ensure!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
    let names = |routes: Vec<(String, u64)>| -> BTreeSet<String> {
        routes.into_iter().map(|(route, _)| route).collect()
    };
    let routes = names(web.routes(METRICS[0]).await?);
    for route in &routes {
        let path = match route.as_str() {
            "none" => "/there/is/nothing".to_owned(),
            route => route.replace(['{', '}'], ""),
        };
        web.get(&path).await?;
    }
    for metric in METRICS {
        let now = web.routes(metric).await?;
        let answered = now.iter().filter(|(_, count)| *count > 0).count();
        ensure!(answered == routes.len(), "{metric}: {now:?}");
        ensure!(
            names(now) == routes,
            "{metric} has other routes than at first"
        );
    }
    Ok(())
}

/// Answers like Prometheus, a while after it was asked, and notes when that was.
struct Prometheus {
    port: u16,
    asked: watch::Receiver<Vec<Instant>>,
    status: Arc<AtomicU16>,
    serving: JoinHandle<()>,
}

impl Prometheus {
    async fn start(identities: &Identities) -> Result<Prometheus> {
        let tls = server_config(
            &identities.of("fw-telemetry").join("current"),
            &[b"http/1.1"],
        )?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let port = free_port()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let (asking, asked) = watch::channel(Vec::new());
        let status = Arc::new(AtomicU16::new(200));
        let answers = Arc::clone(&status);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, asking, answers) =
                    (acceptor.clone(), asking.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await?;
                    let service = service_fn(move |_: Request<_>| {
                        asking.send_modify(|asked| asked.push(Instant::now()));
                        let status = answers.load(Ordering::SeqCst);
                        async move {
                            sleep(Duration::from_millis(300)).await;
                            let answer = r#"{"status":"success","data":{"result":[]}}"#;
                            let mut answer = Response::new(Full::new(Bytes::from(answer)));
                            *answer.status_mut() = StatusCode::from_u16(status).expect("one");
                            Ok::<_, Infallible>(answer)
                        }
                    });
                    let served =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    served.await.map_err(std::io::Error::other)
                });
            }
        });
        Ok(Prometheus {
            port,
            asked,
            status,
            serving,
        })
    }

    fn questions(&self) -> usize {
        self.asked.borrow().len()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_status_page_is_one_question_to_prometheus_also_where_it_fails() -> Result<()>
{
    let identities = Identities::make()?;
    for (answers, outcome) in [(200, "answered"), (503, "unusable")] {
        let prometheus = Prometheus::start(&identities).await?;
        prometheus.status.store(answers, Ordering::SeqCst);
        let for_long = [("MONITORING__KEEP_MS", "600000")];
        let web = Web::start(&identities, prometheus.port, &for_long).await?;
        try_join_all((0..CROWD).map(|_| web.status(answers == 200))).await?;
        web.status(answers == 200).await?;
        let questions = prometheus.questions();
        ensure!(
            questions == 1,
            "{questions} questions of {} visitors",
            CROWD + 1
        );
        let line = format!("web_monitoring_queries_total{{outcome=\"{outcome}\"}} 1");
        let text = web.metrics().await?;
        ensure!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prometheus_said_is_shown_for_a_second_and_then_it_is_asked_again() -> Result<()> {
    let identities = Identities::make()?;
    let prometheus = Prometheus::start(&identities).await?;
    let web = Web::start(&identities, prometheus.port, &[]).await?;
    wait_until("it was asked three times", SOON, async || {
        web.status(true).await.is_ok() && prometheus.questions() > 2
    })
    .await?;
    for two in prometheus.asked.borrow().windows(2) {
        let apart = two[1] - two[0];
        ensure!(
            apart > Duration::from_secs(1),
            "asked again after {apart:?}"
        );
        ensure!(
            apart < Duration::from_secs(10),
            "asked again only after {apart:?}"
        );
    }
    Ok(())
}

/// `web explain`, which asks the running web server: its end, and what it said on both ways out.
async fn explain(web: &Web, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let socket = web.directory.path().join("admin.sock");
    let said = tokio::process::Command::new(harness::path_of("web")?)
        .arg("explain")
        .args(arguments)
        .env("HOLDFAST_WEB__ADMIN_SOCKET", socket)
        .output()
        .await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((said.status.code(), text(said.stdout), text(said.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_nobody_can_have_is_explained_all_the_same() -> Result<()> {
    let identities = Identities::make()?;
    let nobody = format!(
        r#"[{{ name = "mysql-1", host = "127.0.0.1", port = {} }}]"#,
        free_port()?
    );
    let database = [("DATABASE__SERVERS", nobody.as_str())];
    let web = Web::start(&identities, free_port()?, &database).await?;
    for (sql, class, why) in [
        (
            "SELECT name FROM owners",
            "read",
            "no database server is available: mysql-1: ",
        ),
        (
            "SELECT name -- who\nFROM owners\nFOR UPDATE",
            "locking",
            "the primary mysql-1 is not available",
        ),
        (
            "INSERT INTO owners VALUES ()",
            "write",
            "the primary mysql-1 is not available",
        ),
        (
            "SELECT ruin()",
            "unproven",
            "the primary mysql-1 is not available",
        ),
        (
            "SELECT \"é\" INTO @name",
            "session-state",
            "`router.pinned()`",
        ),
        ("BEGIN", "session-state", "`router.begin()`"),
    ] {
        let (code, report, error) = explain(&web, &[sql]).await?;
        ensure!(code == Some(1), "{sql}: {code:?} {report} {error}");
        ensure!(
            report.contains(&format!("\nclass      {class}: ")),
            "{sql}: {report}"
        );
        ensure!(report.contains("\ngoes to    nobody\n"), "{sql}: {report}");
        ensure!(
            report.contains("\nmysql-1  not known  no "),
            "{sql}: {report}"
        );
        ensure!(
            error.starts_with("web: ") && error.contains(why),
            "{sql}: {error}"
        );
    }
    let (code, line, _) = explain(&web, &["--json", "SELECT 1"]).await?;
    ensure!(code == Some(1), "{code:?}");
    let json: serde_json::Value = serde_json::from_str(&line)?;
    ensure!(json["class"] == "read" && json["goes"].is_null(), "{json}");
    ensure!(json["error"].is_string() && json["epoch"] == 0, "{json}");

    let long = format!("SELECT {}", vec!["1"; 20_000].join(", "));
    let (code, report, _) = explain(&web, &[&long]).await?;
    ensure!(
        code == Some(1) && report.contains("class      read: "),
        "{report}"
    );
    for (sql, why) in [
        ("", "there is no statement"),
        (&*" x".repeat(40_000), "at most 65536 bytes"),
    ] {
        let (code, _, error) = explain(&web, &[sql]).await?;
        ensure!(code == Some(1) && error.contains(why), "{code:?}: {error}");
    }
    Ok(())
}
