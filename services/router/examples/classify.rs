//! Says where statements would go, for whoever scores the router's classification from outside: JSON lines in, JSON lines out.
//!
//! In: `{"id": …, "sql": "…"}`. Out: the same id, and the target that the statement would have while both servers are healthy and the
//! replica is fresh: `replica`, `primary`, or `error` for what the shared executor refuses, because it uses its session's state. Behind
//! it, the class and what decided it. A line that is no such JSON is answered with `error` and a message. No server is needed.

use std::io::{self, BufRead, BufReader, BufWriter, Write};

use router::classify::{Class, Classifier, Hint};
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let classifier = Classifier::default();
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? != 0 {
        let answer = answer(&classifier, &line);
        writeln!(output, "{answer}")?;
        line.clear();
        // Whoever asks line by line waits for it.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}

fn answer(classifier: &Classifier, line: &[u8]) -> Value {
    let asked: Value = match serde_json::from_slice(line) {
        Ok(asked) => asked,
        Err(failure) => {
            return json!({"id": null, "target": "error", "message": format!("not a line of JSON: {failure}")});
        }
    };
    let id = asked.get("id").cloned().unwrap_or_default();
    let Some(sql) = asked.get("sql").and_then(Value::as_str) else {
        return json!({"id": id, "target": "error", "message": "expected an object with the key \"sql\", a string"});
    };
    let verdict = classifier.classify(sql);
    let target = match (verdict.class, verdict.hint) {
        (Class::SessionState(_), _) => "error",
        (Class::Read, None | Some(Hint::Replica)) => "replica",
        _ => "primary",
    };
    json!({
        "id": id,
        "target": target,
        "class": format!("{:?}", verdict.class),
        "cause": verdict.cause.to_string(),
    })
}
