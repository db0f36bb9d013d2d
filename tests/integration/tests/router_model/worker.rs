//! One of the two processes: a router, and sessions of it, told over standard input what to do and answering on standard output, a JSON object
//! a line. It decides nothing. Many requests are under way at once; each answer carries its request's number.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prometheus::Registry;
use replication::ErrorKind;
use router::{CausalKey, Credentials, Password, Router, RouterError, Transaction};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::history::SessionId;
use crate::router_common::{CAUSAL_KEY, kind};

/// A call that takes longer is given up here, so that its round goes on. Far above what is judged as too long.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Refusals, by name: the router's documentation says of each of them that nothing was sent.
const REFUSALS: [&str; 6] = [
    "Configuration",
    "Maintenance",
    "NoServer",
    "Overloaded",
    "PrimaryUnavailable",
    "SessionState",
];

const NUMBER: &str = "UPDATE items SET n = GREATEST(n, ?), times = times + 1 WHERE id = ?";
const ROW: &str = "INSERT INTO written (seq, item) VALUES (?, ?)";
const LOOK: &str = "SELECT n FROM items WHERE id = ?";
const LOOK_AT_ROWS: &str = "SELECT seq FROM written WHERE item = ? AND seq >= ? ORDER BY id";

/// Serves until standard input ends. The first line says what to connect to.
pub(crate) async fn serve() -> Result<()> {
    let (line, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let read = std::io::stdin().lines().map_while(Result::ok);
        read.take_while(|read| line.send(read.clone()).is_ok())
            .for_each(drop);
    });
    let start = lines.recv().await.context("nobody says what to do")?;
    let start: Value = serde_json::from_str(&start)?;
    let text = |name: &str| {
        start[name]
            .as_str()
            .context("text")
            .context(name.to_owned())
    };
    let key = CausalKey::new(CAUSAL_KEY);
    let identity = Path::new(text("identity")?);
    let password = Password::Fixed(text("password")?.to_owned());
    let credentials = Credentials::new(text("user")?, password, identity, key);
    let config = serde_json::from_value(start["config"].clone())?;
    let router = Router::connect(config, &credentials, &Registry::new())?;
    // The test harness of Rust may have left a line without its end.
    say(&json!({ "ready": true }), "\n");

    let mut sessions: HashMap<SessionId, Router> = HashMap::new();
    while let Some(line) = lines.recv().await {
        let request: Value = serde_json::from_str(&line)?;
        let id = request["session"].as_u64();
        match (request["do"].as_str(), id) {
            (Some("begin"), Some(id)) => {
                sessions.insert(id, router.session(request["token"].as_str()));
                say(&json!({ "id": request["id"] }), "");
            }
            (Some("end"), Some(id)) => {
                sessions.remove(&id);
                say(&json!({ "id": request["id"] }), "");
            }
            (Some("health"), _) => {
                let health = router.health();
                let read = router.session(None).explain("SELECT 1");
                let read = read.map_or_else(|e| e.to_string(), |d| d.target.to_string());
                let whole = health.writable && read == "replica";
                say(
                    &json!({ "id": request["id"], "whole": whole, "health": health, "read": read }),
                    "",
                );
            }
            (Some(_), Some(id)) => {
                let session = sessions.get(&id).context("no such session")?.clone();
                tokio::spawn(async move {
                    let mut answer = Answer::new(session);
                    let done = answer.to(&request).await;
                    say(&answer.finish(&request["id"], done), "");
                });
            }
            _ => bail!("not a request: {line}"),
        }
    }
    router.close().await;
    Ok(())
}

/// One line, and one write: whole requests answer at once.
fn say(line: &Value, before: &str) {
    let line = format!("{before}{line}\n");
    let mut stdout = std::io::stdout().lock();
    // Nobody listens any more: then standard input has ended too.
    let _ = stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush());
}

/// What a write or read has come to.
enum Failed {
    /// Not done, and never will be.
    Refused(String),
    /// Not known.
    Unknown(String),
    /// Something that the documentation does not have for this call.
    Odd(String),
}

/// What a call may be answered with.
#[derive(Clone, Copy)]
enum Call {
    /// A statement that reads, alone, or the beginning of a transaction.
    Read,
    /// A statement that writes, alone.
    Write,
    /// Within a transaction: whatever went wrong, nothing was committed.
    Within,
    /// A commit of what was written.
    Commit,
}

struct Answer {
    session: Arc<Router>,
    /// How many decisions the session had before.
    before: usize,
    calls: Vec<(&'static str, Duration)>,
    fields: serde_json::Map<String, Value>,
}

impl Answer {
    fn new(session: Router) -> Self {
        Self {
            before: session.decisions().len(),
            session: Arc::new(session),
            calls: Vec::new(),
            fields: serde_json::Map::new(),
        }
    }

    async fn to(&mut self, request: &Value) -> Result<(), Failed> {
        let number = |name: &str| request[name].as_u64().unwrap_or_default();
        let (item, seq) = (number("item"), number("seq"));
        match request["do"].as_str().unwrap_or_default() {
            "Number" | "Row" => {
                let sql = if request["do"] == "Row" { ROW } else { NUMBER };
                let query = sqlx::query(sql).bind(seq).bind(item);
                let session = self.session.clone();
                let done = self
                    .call("write", Call::Write, query.execute(&*session))
                    .await?;
                one_row(done.rows_affected())
            }
            how @ ("Both" | "TakenBack") => {
                let mut transaction = self.begin(false).await?;
                for sql in [NUMBER, ROW] {
                    let query = sqlx::query(sql).bind(seq).bind(item);
                    let done = self
                        .call(
                            "write within",
                            Call::Within,
                            query.execute(&mut transaction),
                        )
                        .await?;
                    one_row(done.rows_affected())?;
                }
                if how == "Both" {
                    return self
                        .call("commit", Call::Commit, transaction.commit())
                        .await;
                }
                self.call("rollback", Call::Within, transaction.rollback())
                    .await
            }
            "read" => {
                let query = sqlx::query_scalar::<_, u64>(LOOK).bind(item);
                let session = self.session.clone();
                let n = self
                    .call("read", Call::Read, query.fetch_one(&*session))
                    .await?;
                self.fields.insert("numbers".to_owned(), json!([n]));
                Ok(())
            }
            "read all" => {
                let from = number("from");
                let mut transaction = self.begin(true).await?;
                let mut numbers = Vec::new();
                let mut rows: Vec<u64> = Vec::new();
                for first in [true, false] {
                    let query = sqlx::query_scalar::<_, u64>(LOOK).bind(item);
                    let reading = query.fetch_one(&mut transaction);
                    numbers.push(self.call("read within", Call::Within, reading).await?);
                    if first {
                        let query = sqlx::query_scalar(LOOK_AT_ROWS).bind(item).bind(from);
                        let reading = query.fetch_all(&mut transaction);
                        rows = self.call("read within", Call::Within, reading).await?;
                    }
                }
                self.fields.insert("numbers".to_owned(), json!(numbers));
                self.fields.insert("rows".to_owned(), json!(rows));
                self.call("rollback", Call::Within, transaction.rollback())
                    .await
            }
            "prove" => {
                let session = self.session.clone();
                let proving = async { session.causal_token().await.map_err(sqlx::Error::from) };
                let token = self.call("causal token", Call::Read, proving).await?;
                self.fields.insert("token".to_owned(), json!(token));
                Ok(())
            }
            other => Err(Failed::Odd(format!("not a request: {other}"))),
        }
    }

    async fn begin(&mut self, read_only: bool) -> Result<Transaction, Failed> {
        let session = self.session.clone();
        if read_only {
            self.call("begin read-only", Call::Read, session.begin_read_only())
                .await
        } else {
            self.call("begin", Call::Write, session.begin()).await
        }
    }

    /// Times it, gives it up when it hangs, and tells what an error means.
    async fn call<T, E: Into<sqlx::Error>>(
        &mut self,
        name: &'static str,
        call: Call,
        calling: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failed> {
        let began = Instant::now();
        let answer = timeout(GIVE_UP, calling).await;
        self.calls.push((name, began.elapsed()));
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(meaning(name, call, &error.into())),
            // Judged by the time that it took.
            Err(_) => Err(match call {
                Call::Write | Call::Commit => Failed::Unknown(format!("{name}: given up")),
                Call::Read | Call::Within => Failed::Refused(format!("{name}: given up")),
            }),
        }
    }

    fn finish(self, id: &Value, done: Result<(), Failed>) -> Value {
        let decisions = self.session.decisions().split_off(self.before);
        let went = decisions.iter().map(|decision| {
            let (target, reason) = (decision.target, decision.reason);
            let (server, epoch) = (&decision.server, decision.epoch);
            let lag = decision
                .lag
                .map_or(String::new(), |lag| format!(";lag={lag:?}"));
            format!("{target};reason={reason};server={server};epoch={epoch}{lag}")
        });
        let went: Vec<String> = went.collect();
        let calls = self.calls.iter();
        let calls: Vec<_> = calls
            .map(|(name, took)| json!([name, took.as_secs_f64()]))
            .collect();
        let (outcome, error) = match done {
            Ok(()) => ("Acknowledged", None),
            Err(Failed::Refused(error)) => ("Refused", Some(error)),
            Err(Failed::Unknown(error)) => ("Unknown", Some(error)),
            Err(Failed::Odd(error)) => ("Odd", Some(error)),
        };
        let mut answer =
            json!({ "id": id, "calls": calls, "went": went, "outcome": outcome, "error": error });
        if let Some(fields) = answer.as_object_mut() {
            fields.extend(self.fields);
        }
        answer
    }
}

fn one_row(affected: u64) -> Result<(), Failed> {
    let right = || -> Result<()> {
        ensure!(affected == 1, "{affected} rows were affected");
        Ok(())
    };
    right().map_err(|error| Failed::Odd(error.to_string()))
}

/// What is known of a call that ended in this error. Whatever is not documented is odd, and a write with such an end may have been done.
fn meaning(name: &str, call: Call, error: &sqlx::Error) -> Failed {
    let ours = RouterError::of(error);
    let kind_of = ours.map_or_else(|| "not typed".to_owned(), kind);
    let text = format!("{name}: {kind_of}: {error}");
    let refusal = REFUSALS.contains(&kind_of.as_str());
    match call {
        Call::Within => Failed::Refused(text),
        // "Any other error means that it was rolled back."
        Call::Commit if kind_of != "CommitOutcomeUnknown" => Failed::Refused(text),
        Call::Write | Call::Commit if kind_of == "CommitOutcomeUnknown" => Failed::Unknown(text),
        Call::Read if kind_of == "DeadlineExceeded" => Failed::Refused(text),
        Call::Read | Call::Write if refusal => Failed::Refused(text),
        // The server says that it gave up waiting for a lock.
        Call::Write if replication::errors::kind(error) == ErrorKind::Contention => {
            Failed::Refused(text)
        }
        Call::Read | Call::Write | Call::Commit => Failed::Odd(text),
    }
}
