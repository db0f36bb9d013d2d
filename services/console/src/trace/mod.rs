//! `./stack trace ID`: the waterfall of a trace, from Jaeger, and below it the log lines of all services that name it.
//!
//! Without Jaeger there are the lines alone: every service writes the trace's id into each line of a request.

mod id;
mod lines;
mod spans;
mod waterfall;

use std::{collections::BTreeSet, fmt::Write, io::IsTerminal, time::Duration};

use hyper::StatusCode;
use tokio::time::{Instant, sleep};

pub use id::{NoTraceId, TraceId};

use crate::{
    http::{self, HttpError},
    settings::Settings,
};
use spans::Span;
use waterfall::Look;

/// How long spans may take to arrive: they are sent in batches, and not all services send at the same time.
const ARRIVES_WITHIN: Duration = Duration::from_secs(8);

/// How long nothing may have come before what is there counts as all.
const QUIET: Duration = Duration::from_millis(1500);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The width where there is no terminal to ask.
const WIDTH: usize = 120;

/// Prints what is known of a trace; false if nothing is.
///
/// # Errors
/// When the logs cannot be read.
pub async fn show(id: &TraceId, settings: &Settings) -> anyhow::Result<bool> {
    let spans = arrived(id, settings).await;
    let mut text = String::new();
    match &spans {
        Ok(spans) if spans.is_empty() => {
            let _ = writeln!(
                text,
                "Jaeger has no span of {id}: it is older than what it keeps, was not sampled, or is no trace of this stack"
            );
        }
        Ok(spans) => {
            text.push_str(&waterfall::render(spans, look()));
            let _ = writeln!(
                text,
                "\nhttp://localhost:{}/trace/{id}",
                settings.jaeger_port
            );
        }
        Err(why) => {
            let _ = writeln!(
                text,
                "no waterfall: {why}; the log lines are here all the same"
            );
        }
    }
    let lines = lines::of(id).await?;
    if lines.is_empty() {
        text.push_str("\nno service has a log line of it\n");
    } else {
        let _ = write!(text, "\n{}", lines::for_people(&lines).await?);
    }
    print!("{text}");
    Ok(!lines.is_empty() || spans.is_ok_and(|spans| !spans.is_empty()))
}

/// The spans, once they have stopped coming; none if there are none, a sentence if there is nobody to ask.
async fn arrived(id: &TraceId, settings: &Settings) -> Result<Vec<Span>, String> {
    let begun = Instant::now();
    let mut found: Vec<Span> = Vec::new();
    let mut changed = begun;
    let mut said = false;
    loop {
        let now = ask(id, settings.jaeger_port).await?;
        if now.len() != found.len() {
            changed = Instant::now();
            found = now;
        }
        let quiet = changed.elapsed() > QUIET && is_connected(&found);
        if (!found.is_empty() && quiet) || begun.elapsed() > ARRIVES_WITHIN {
            return Ok(found);
        }
        if found.is_empty() && !said && begun.elapsed() > QUIET {
            said = true;
            eprintln!(
                "no spans yet; waiting up to {} s for them",
                ARRIVES_WITHIN.as_secs()
            );
        }
        sleep(PAUSE).await;
    }
}

/// Every span's parent is there, but for one, whose parent is the caller's or none: a second one waits for its parent.
fn is_connected(spans: &[Span]) -> bool {
    let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let outside: BTreeSet<Option<&str>> = spans
        .iter()
        .map(|span| span.parent.as_deref())
        .filter(|parent| parent.is_none_or(|parent| !known.contains(parent)))
        .collect();
    outside.len() <= 1
}

async fn ask(id: &TraceId, port: u16) -> Result<Vec<Span>, String> {
    match http::get(port, &format!("/api/v3/traces/{id}")).await {
        Ok((StatusCode::OK, text)) => spans::parse(&text).map_err(|error| error.to_string()),
        Ok((StatusCode::NOT_FOUND, _)) => Ok(Vec::new()),
        Ok((status, text)) => Err(format!("Jaeger answers {status}: {}", text.trim())),
        Err(HttpError::Nobody(_)) => Err(format!(
            "Jaeger does not answer at port {port} (./stack up starts it)"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// Colour and the whole width for a terminal; neither for a pipe.
fn look() -> Look {
    let terminal = std::io::stdout().is_terminal();
    let columns = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    Look {
        width: columns
            .or_else(|| terminal.then(terminal_columns)?)
            .unwrap_or(WIDTH),
        colour: terminal && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// As `stty size` says: rows, columns.
fn terminal_columns() -> Option<usize> {
    let output = std::process::Command::new("stty")
        .arg("size")
        .stdin(std::process::Stdio::inherit())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn answer(ids: &[(&str, &str)]) -> String {
        let spans: Vec<String> = ids
            .iter()
            .map(|(id, parent)| {
                format!(r#"{{"spanId":"{id}","parentSpanId":"{parent}","name":"GET","kind":2}}"#)
            })
            .collect();
        format!(
            r#"{{"result":{{"resourceSpans":[{{"resource":{{}},"scopeSpans":[{{"spans":[{}]}}]}}]}}}}"#,
            spans.join(",")
        )
    }

    /// Answers each question with the next of the texts, and with the last from then on.
    async fn jaeger(texts: Vec<(u16, String)>) -> Settings {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut settings = Settings::of_the_environment();
        settings.jaeger_port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for asked in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await.unwrap();
                let (status, text) = &texts[usize::min(asked, texts.len() - 1)];
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
                    text.len()
                );
                stream.write_all((head + text).as_bytes()).await.unwrap();
            }
        });
        settings
    }

    fn id() -> TraceId {
        "0af7651916cd43dd8448eb211c80319c".parse().unwrap()
    }

    const ROOT: (&str, &str) = ("00000000000000a1", "");
    const CHILD: (&str, &str) = ("00000000000000a2", "00000000000000a1");
    const GRANDCHILD: (&str, &str) = ("00000000000000a3", "00000000000000a2");

    #[tokio::test]
    async fn spans_that_come_late_are_waited_for() {
        let settings = jaeger(vec![
            (404, "{}".to_owned()),
            (200, answer(&[ROOT])),
            // Its parent is under way: not all is there, however long it takes.
            (200, answer(&[ROOT, GRANDCHILD])),
            (200, answer(&[ROOT, CHILD, GRANDCHILD])),
        ])
        .await;
        assert_eq!(arrived(&id(), &settings).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn where_nobody_can_be_asked_a_sentence_says_so_at_once() {
        let begun = Instant::now();
        let settings = jaeger(vec![(500, "out of memory".to_owned())]).await;
        let why = arrived(&id(), &settings).await.unwrap_err();
        assert!(
            why.contains("500") && why.contains("out of memory"),
            "{why}"
        );
        let mut settings = settings;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        settings.jaeger_port = free.local_addr().unwrap().port();
        drop(free);
        let why = arrived(&id(), &settings).await.unwrap_err();
        assert!(why.contains("does not answer"), "{why}");
        assert!(begun.elapsed() < QUIET);
    }
}
