//! The driver's end of a worker: a process that is asked, and answers in any order.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use harness::{Account, Pair};
use router::RouterConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

/// Set for the process that is to be a worker.
pub(crate) const WORKER: &str = "HOLDFAST_ROUTER_MODEL_WORKER";

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// A worker. It ends when the value is dropped, or this process is gone: its standard input ends with it.
pub(crate) struct Process {
    child: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    asked: AtomicU64,
}

impl Process {
    /// Starts this very program again as the worker with the identity of `consumer` (web-1, web-2).
    pub(crate) async fn start(pair: &Pair, consumer: &str, config: &RouterConfig) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "worker", "--nocapture"])
            .env(WORKER, consumer)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().context("piped")?;
        let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        let user = Account::App.user();
        let start = json!({
            "config": config,
            "user": user,
            "password": pair.identities().password(user)?,
            "identity": pair.identities().of(consumer).join("current"),
        });
        stdin.write_all(format!("{start}\n").as_bytes()).await?;
        let waiting = Waiting::default();
        let answers = waiting.clone();
        tokio::spawn(async move {
            // What does not begin as an object is the test harness of Rust, which says what it runs.
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let id = answer["id"].as_u64();
                let waiting =
                    id.and_then(|id| answers.lock().expect("nothing panics with it").remove(&id));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(answer);
                }
            }
            // Whoever waits hears that nobody will answer.
            answers.lock().expect("nothing panics with it").clear();
        });
        Ok(Self {
            child,
            stdin: tokio::sync::Mutex::new(stdin),
            waiting,
            asked: AtomicU64::new(0),
        })
    }

    /// Asks, and waits for the answer to this.
    pub(crate) async fn ask(&self, mut request: Value) -> Result<Value> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        request["id"] = json!(id);
        let (answer, answered) = oneshot::channel();
        self.waiting
            .lock()
            .expect("nothing panics with it")
            .insert(id, answer);
        let line = format!("{request}\n");
        let mut stdin = self.stdin.lock().await;
        stdin
            .write_all(line.as_bytes())
            .await
            .context("the worker is gone")?;
        drop(stdin);
        answered
            .await
            .with_context(|| format!("the worker has ended instead of answering {line}"))
    }

    /// Lets it end by itself, with its connections.
    pub(crate) async fn stop(self) -> Result<()> {
        let Self {
            mut child, stdin, ..
        } = self;
        drop(stdin);
        child.wait().await?;
        Ok(())
    }
}
