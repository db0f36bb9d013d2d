//! What Prometheus knows of the whole stack, for the status page: what a single web server cannot see itself.
//!
//! One question over mutual TLS, to whoever shows a certificate of the role `telemetry`. It is bounded in time and size; the answer, a
//! failure too, is kept for a moment, and whoever comes while one is asked waits for its answer: a crowd at the status page is one
//! question a second. Nothing else in this program asks, so without monitoring only the status page has less to say.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chassis::identity::IdentityWatch;
use form_urlencoded::byte_serialize;
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, HOST},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::{net::TcpStream, sync::Mutex, task::JoinSet};
use tokio_rustls::TlsConnector;

use crate::{config, metrics::Metrics};

/// Whose certificate the answer must come from.
const ROLE: &str = "telemetry";

/// The largest answer that is read.
const ANSWER_MAX: usize = 1 << 20;

/// The figures of the status page: gauges and counters as they are, and requests per second of each backend and balancer, which are told
/// apart by a label of ours.
const QUESTION: &str = concat!(
    r#"{__name__=~"up|balancer_(in_flight|backend_state|connections|certificate_days_left)"#,
    r#"|web_(requests_in_flight|certificate_days_left)"#,
    r#"|arbiter_(epoch|primary_open|acknowledging|refusals|replica_lag_seconds|server_reachable|role|in_sync|certificate_days_left)"#,
    r#"|firewall_(dropped_packets_total|certificate_days_left|rules_good)"} or ALERTS{alertstate="firing"} or "#,
    r#"label_replace(sum by (instance, backend) (rate(balancer_requests_total[30s])), "figure", "rate", "", "")"#,
);

/// The name under which [`Samples`] holds the requests per second.
pub const RATE: &str = "rate";

/// Asks Prometheus. Cheap to clone; clones share the last answer.
#[derive(Clone, Debug)]
pub struct Monitoring(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None: nobody is asked.
    uri: Option<Uri>,
    limit: Duration,
    keep: Duration,
    identity: IdentityWatch,
    metrics: Metrics,
    /// The last answer and when it came; locked while one is asked.
    last: Mutex<Option<(Instant, Answer)>>,
}

type Answer = Result<Arc<Samples>, Away>;

/// Why there is no monitoring data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// The configuration names nobody.
    #[error("nobody is asked, for monitoring.url is empty")]
    Off,
    /// Prometheus, or the way to it, gave no answer in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It answered something else.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
}

impl Away {
    /// Values of a metric's label, `answered` besides.
    pub(crate) const KINDS: [&str; 3] = ["late", "unreachable", "unusable"];

    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Off => None,
            Self::Late(_) => Some("late"),
            Self::Unreachable(_) => Some("unreachable"),
            Self::Unusable(_) => Some("unusable"),
        }
    }
}

impl Monitoring {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(config: &config::Monitoring, identity: IdentityWatch, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            uri: config.uri(),
            limit: Duration::from_millis(config.timeout_ms),
            keep: Duration::from_millis(config.keep_ms),
            identity,
            metrics,
            last: Mutex::default(),
        }))
    }

    /// What is known now, at most `monitoring.keep_ms` old.
    ///
    /// # Errors
    /// Why nothing is; within `monitoring.timeout_ms`, twice that for who came while another one asked.
    pub async fn samples(&self) -> Answer {
        let Some(uri) = &self.0.uri else {
            return Err(Away::Off);
        };
        let mut last = self.0.last.lock().await;
        match &*last {
            Some((at, answer)) if at.elapsed() < self.0.keep => return answer.clone(),
            _ => {}
        }
        let answer = match tokio::time::timeout(self.0.limit, self.ask(uri)).await {
            Ok(answer) => answer.map(Arc::new),
            Err(_) => Err(Away::Late(self.0.limit)),
        };
        let outcome = match &answer {
            Ok(_) => Some("answered"),
            Err(away) => away.kind(),
        };
        if let Some(outcome) = outcome {
            let queries = &self.0.metrics.monitoring_queries;
            queries.with_label_values(&[outcome]).inc();
        }
        if let Err(error) = &answer {
            tracing::debug!(%error, "no monitoring data");
        }
        *last = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn ask(&self, uri: &Uri) -> Result<Samples, Away> {
        let unreachable = |error: &dyn std::fmt::Display| Away::Unreachable(error.to_string());
        let host = uri.host().unwrap_or_default();
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443)))
            .await
            .map_err(|error| unreachable(&error))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unreachable(&error))?;
        let tls = self.0.identity.current();
        let tls = TlsConnector::from(tls.client_config(Some(ROLE), &[b"http/1.1"]));
        let stream = tls
            .connect(name, stream)
            .await
            .map_err(|error| unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(&error))?;
        let query: String = byte_serialize(QUESTION.as_bytes()).collect();
        let path = uri.path().trim_end_matches('/');
        let request = Request::get(format!("{path}/api/v1/query?query={query}"))
            .header(HOST, host)
            .header(ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| unreachable(&error))?;
        // Drives the connection for as long as the answer takes; both end with this scope.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| Away::Unusable(error.to_string()))?;
        Samples::read(status, &body.to_bytes())
    }
}

/// Figures by name and labels, of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Samples {
    /// Reads an instant vector, as `/api/v1/query` answers it.
    fn read(status: StatusCode, body: &[u8]) -> Result<Self, Away> {
        #[derive(Deserialize)]
        struct Document {
            data: Option<Data>,
            error: Option<String>,
        }
        #[derive(Deserialize)]
        struct Data {
            result: Vec<Series>,
        }
        #[derive(Deserialize)]
        struct Series {
            metric: BTreeMap<String, String>,
            value: (f64, String),
        }
        let document: Document = serde_json::from_slice(body)
            .map_err(|error| Away::Unusable(format!("status {status}, {error}")))?;
        let Some(data) = document.data.filter(|_| status == StatusCode::OK) else {
            let said = document.error.unwrap_or_else(|| format!("status {status}"));
            return Err(Away::Unusable(said));
        };
        let samples = data.result.into_iter().filter_map(|series| {
            let mut labels = series.metric;
            let name = labels
                .remove("__name__")
                .or_else(|| labels.remove("figure"))?;
            Some(Sample {
                name,
                labels,
                value: series.value.1.parse().ok()?,
            })
        });
        Ok(Self(samples.collect()))
    }

    fn of<'s, 'q>(
        &'s self,
        name: &'q str,
        labels: &'q [(&'q str, &'q str)],
    ) -> impl Iterator<Item = &'s Sample> + use<'s, 'q> {
        self.0.iter().filter(move |sample| {
            let has = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|is| is == value)
            };
            sample.name == name && labels.iter().all(has)
        })
    }

    /// The sum of a name's samples that have these labels; none if there is no such sample.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let values = self.of(name, labels).map(|sample| sample.value);
        values.reduce(|sum, value| sum + value)
    }

    /// The smallest of them.
    #[must_use]
    pub fn min(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.of(name, labels)
            .map(|sample| sample.value)
            .reduce(f64::min)
    }

    /// The different values of a label among a name's samples that have these labels, in order.
    #[must_use]
    pub fn values(&self, name: &str, labels: &[(&str, &str)], label: &str) -> Vec<&str> {
        let values = self.of(name, labels);
        let mut values: Vec<_> = values
            .filter_map(|sample| sample.labels.get(label).map(String::as_str))
            .collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The value of a label of the one sample that is 1: the state of something whose states are samples.
    #[must_use]
    pub fn state(&self, name: &str, labels: &[(&str, &str)], label: &str) -> Vec<&str> {
        let set = self.of(name, labels).filter(|sample| sample.value == 1.0);
        let mut set: Vec<_> = set
            .filter_map(|sample| sample.labels.get(label).map(String::as_str))
            .collect();
        set.sort_unstable();
        set.dedup();
        set
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Figures for tests of what is made from them.
    pub(crate) fn samples<'a>(
        of: impl IntoIterator<Item = (&'a str, &'a [(&'a str, &'a str)], f64)>,
    ) -> Samples {
        let samples = of.into_iter().map(|(name, labels, value)| Sample {
            name: name.to_owned(),
            labels: labels
                .iter()
                .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
                .collect(),
            value,
        });
        Samples(samples.collect())
    }

    /// What Prometheus 2.42 answered to the question while it asked two balancers, a web server and an arbiter that needed a person, all made
    /// up; a line was begun before each series. One of the counters had been NaN.
    const ANSWER: &str = include_str!("monitoring/recorded.json");

    /// What the same one said to a question that is none, with status 400.
    const REFUSAL: &str = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:4: parse error: unclosed left parenthesis"}"#;

    fn read(body: &str) -> Result<Samples, Away> {
        Samples::read(StatusCode::OK, body.as_bytes())
    }

    #[test]
    fn an_answer_is_read_by_name_and_labels() {
        let samples = read(ANSWER).unwrap();
        let of = |backend| [("backend", backend)];
        assert_eq!(samples.sum("balancer_in_flight", &of("web-1")), Some(5.0));
        assert_eq!(samples.min("balancer_in_flight", &of("web-1")), Some(2.0));
        assert_eq!(samples.sum("balancer_in_flight", &of("web-3")), None);
        let rate = samples.sum(RATE, &of("web-1"));
        assert!(
            rate.is_some_and(|rate| (14.0..15.0).contains(&rate)),
            "{rate:?}"
        );
        assert!(samples.sum(RATE, &of("web-2")).is_some_and(f64::is_nan));
        assert_eq!(samples.sum("arbiter_replica_lag_seconds", &[]), Some(0.012));
        let balancers = samples.values("balancer_in_flight", &[], "instance");
        assert_eq!(balancers, ["balancer-1", "balancer-2"]);
        let up = samples.state("up", &[], "instance");
        assert_eq!(up, ["arbiter", "balancer-1", "balancer-2", "web-1"]);
        let server = [("server", "mysql-1")];
        assert_eq!(samples.state("arbiter_role", &server, "role"), ["primary"]);
        assert_eq!(samples.values("ALERTS", &[], "alertname"), ["NeedsAPerson"]);
    }

    #[test]
    fn what_is_no_answer_says_so() {
        let refused = Samples::read(StatusCode::BAD_REQUEST, REFUSAL.as_bytes());
        let Err(Away::Unusable(said)) = refused else {
            panic!("{refused:?}");
        };
        assert!(said.ends_with("unclosed left parenthesis"), "{said}");
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"status":"success","data":{"result":[1]}}"#,
        ] {
            assert!(matches!(read(body), Err(Away::Unusable(_))), "{body}");
        }
        assert_eq!(read(r#"{"data":{"result":[]}}"#), Ok(Samples::default()));
    }

    #[test]
    fn the_question_names_only_metrics_that_there_are() {
        // The firewall is a program of its own; its names are its own to keep.
        let sources = [
            "balancer/src/metrics.rs",
            "arbiter/src/metrics.rs",
            "web/src/metrics.rs",
        ];
        let sources: String = sources
            .iter()
            .map(|source| {
                let path = format!("{}/../{source}", env!("CARGO_MANIFEST_DIR"));
                std::fs::read_to_string(path).unwrap()
            })
            .collect();
        let mut checked = 0;
        for service in ["balancer", "web", "arbiter"] {
            let (_, names) = QUESTION.split_once(&format!("{service}_(")).unwrap();
            for name in names.split(')').next().unwrap().split('|') {
                let name = format!("\"{service}_{name}\"");
                assert!(sources.contains(&name), "no service has {name}");
                checked += 1;
            }
        }
        assert!(checked > 12, "{checked}");
    }
}
