//! The client: HTTPS over connections that are kept, as many as there are requests under way.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::StatusCode;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::plan::{Kind, Planned};
use crate::tls_client::TlsClient;

/// How long a request is waited for: longer than any proxy here tries.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client saw of a request.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// When it was due.
    pub(super) due: Instant,
    /// How long after that it was sent, because this program was busy or had no processor.
    pub(super) late: Duration,
    /// From when it was due to the last byte of the answer, or until it was given up.
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Answered(u16),
    /// The connection was closed or could not be made.
    Broken,
    Unanswered,
}

impl Outcome {
    /// Whether the client did not get what it wanted.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self, Outcome::Answered(status) if *status < 400)
    }
}

/// Sends to one proxy.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsClient,
    port: u16,
    idle: Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>,
}

impl Client {
    /// Trusts this authority alone.
    pub(super) fn new(authority: &Path, port: u16) -> Result<Client> {
        Ok(Client {
            tls: TlsClient::new(authority, true)?,
            port,
            idle: Arc::default(),
        })
    }

    /// Sends all of them, each when it is due, whatever became of those before it; waits for the last.
    pub(super) async fn send_all(&self, plan: Vec<Planned>, begin: Instant) -> Result<Vec<Sample>> {
        let mut requests = JoinSet::new();
        for planned in plan {
            sleep_until(begin + planned.due).await;
            let client = self.clone();
            requests.spawn(async move { client.send(planned, begin).await });
        }
        let mut samples = Vec::new();
        while let Some(sample) = requests.join_next().await {
            samples.push(sample?);
        }
        Ok(samples)
    }

    async fn send(&self, planned: Planned, begin: Instant) -> Sample {
        let due = begin + planned.due;
        let late = due.elapsed();
        let (outcome, end) = match timeout(PATIENCE, self.exchange(planned)).await {
            Ok(Ok((status, end))) => (Outcome::Answered(status.as_u16()), end),
            Ok(Err(_)) => (Outcome::Broken, Instant::now()),
            Err(_) => (Outcome::Unanswered, Instant::now()),
        };
        Sample {
            number: planned.number,
            kind: planned.kind,
            due,
            late,
            took: end.saturating_duration_since(due),
            outcome,
        }
    }

    /// The answer's status, and when it had come whole.
    pub(super) async fn exchange(&self, planned: Planned) -> Result<(StatusCode, Instant)> {
        loop {
            let kept = self.take();
            let was_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let response = match sender.send_request(planned.request()?).await {
                Ok(response) => response,
                // It was closed while it was idle, before a byte was sent.
                Err(error) if was_kept && error.is_canceled() => continue,
                Err(error) => return Err(error.into()),
            };
            let status = response.status();
            response.into_body().collect().await?;
            let end = Instant::now();
            if sender.ready().await.is_ok() {
                self.idle().push(sender);
            }
            return Ok((status, end));
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = self.tls.connect(Ipv4Addr::LOCALHOST, self.port).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, or with an error that the request on it sees.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle();
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_anybody_is_a_failure() {
        assert!(!Outcome::Answered(200).is_failure());
        for outcome in [
            Outcome::Answered(500),
            Outcome::Answered(429),
            Outcome::Broken,
            Outcome::Unanswered,
        ] {
            assert!(outcome.is_failure(), "{outcome:?}");
        }
    }
}
