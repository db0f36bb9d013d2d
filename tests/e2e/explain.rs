//! `./stack explain`: where a statement would go, and why, in the terminal.

use std::{process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{compose::Stack, wait_for};
use serde_json::Value;

/// For what is so on an idle machine: the replica is less than `max_lag` behind.
const SOON: Duration = Duration::from_secs(30);

/// What a command that must fail said on its standard error.
fn refusal(said: &Output) -> Result<String> {
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(!said.status.success(), "it ended well:\n{words}");
    Ok(words)
}

pub(crate) async fn a_statement_is_explained_and_not_sent(stack: &Stack) -> Result<()> {
    let read = "SELECT name FROM owners -- all of them\nWHERE id = ''";
    let said = wait_for("a read goes to the replica", SOON, async || {
        let said = stack.stack(&["explain", read]).ok()?;
        said.contains("\ngoes to    the replica mysql-")
            .then_some(said)
    })
    .await?;
    for part in [
        "statement  SELECT owners\n",
        "\nclass      read: ",
        "\nreason     fresh: ",
        "\nepoch      ",
        "\nSERVER   ROLE     IN SYNC  LAG",
        "\nmysql-1  ",
        "\nmysql-2  ",
    ] {
        ensure!(said.contains(part), "no {part:?} in\n{said}");
    }

    let write = stack.stack(&["explain", "DELETE FROM owners"])?;
    ensure!(write.contains("\nclass      write: "), "{write}");
    ensure!(write.contains("\ngoes to    the primary mysql-"), "{write}");
    let json = stack.stack(&["explain", "--json", "DELETE FROM owners"])?;
    let json: Value = serde_json::from_str(&json).with_context(|| json.clone())?;
    ensure!(json["goes"]["target"] == "primary", "{json}");
    ensure!(json["goes"]["reason"] == "write", "{json}");
    ensure!(
        json["error"].is_null() && json["epoch"].as_u64() > Some(0),
        "{json}"
    );
    let client = stack.client()?;
    let made = client
        .post(stack.url("/api/owners"))
        .json(&serde_json::json!({ "name": "Ada" }))
        .send()
        .await?;
    ensure!(made.status().is_success(), "the owners are gone: {made:?}");
    Ok(())
}

pub(crate) async fn what_cannot_be_sent_is_refused_with_what_to_do(stack: &Stack) -> Result<()> {
    let lock = stack.stack_output(&["explain", "SELECT GET_LOCK('a', 1)"])?;
    let words = refusal(&lock)?;
    ensure!(
        words.contains("named locks") && words.contains("`router.pinned()`"),
        "{words}"
    );
    let report = String::from_utf8_lossy(&lock.stdout).into_owned();
    ensure!(report.contains("\nclass      session-state: "), "{report}");
    ensure!(report.contains("\ngoes to    nobody\n"), "{report}");

    // The router knows no grammar: what is no SQL goes where it can do no harm, and the server says what is wrong with it.
    let nonsense = stack.stack(&["explain", "Where is everybody?"])?;
    ensure!(
        nonsense.contains("\ngoes to    the primary mysql-"),
        "{nonsense}"
    );

    let empty = refusal(&stack.stack_output(&["explain", " "])?)?;
    ensure!(empty.contains("there is no statement"), "{empty}");
    let nothing = stack.stack_output(&["explain"])?;
    ensure!(nothing.status.code() == Some(2), "{:?}", nothing.status);
    let two = stack.stack_output(&["explain", "SELECT", "1"])?;
    ensure!(two.status.code() == Some(2), "{:?}", two.status);
    let help = stack.stack(&["explain", "--help"])?;
    ensure!(help.starts_with("explain [--json]"), "{help}");
    Ok(())
}
