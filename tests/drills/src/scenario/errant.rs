//! A crash between the binary log and the acknowledgement.

use anyhow::{Context, Result, ensure};
use harness::{Account, wait_until};

use super::stale::discarded;
use super::{ends_well, is_still_primary};
use crate::arbiter::SETTLED;
use crate::link::{Broken, Link};
use crate::stage::Stage;

/// What can be read afterwards, and nowhere else.
const MARK: &str = "written by nobody but a primary that died";

pub(super) async fn saved_and_cloned(stage: &Stage) -> Result<String> {
    let (old, before) = (stage.primary().await?, stage.now());
    let mut app = stage.server(old).connect(Account::App).await?;
    let mut look = stage.server(old).connect(Account::Arbiter).await?;
    // Nothing leaves the primary any more, and nobody can leave it alone before it is dead.
    stage.arbiter().stop().await?;
    stage.break_links(&[Link::Source(old)], Broken::Silent);
    let writing = tokio::spawn(async move {
        let write = sqlx::query("INSERT INTO ledger.marker VALUES (1, ?)").bind(MARK);
        write.execute(&mut app).await.map(drop)
    });
    let waits = "SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE '%ledger.marker%' AND USER = 'app'
         AND STATE IN ('Waiting for semi-sync ACK from replica', 'waiting for handler commit')";
    wait_until("the commit waits", SETTLED, async || {
        let waiting = sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut look);
        waiting.await.is_ok_and(|waiting| waiting == 1)
    })
    .await?;
    stage.server(old).kill().await?;
    stage.arbiter().resume();
    ensure!(
        writing.await?.is_err(),
        "acknowledged, though nobody has it"
    );

    stage.open_with(1 - old, &[1 - old]).await?;
    stage.links().heal_all();
    stage.server(old).restart().await?;
    stage.whole().await?;
    is_still_primary(stage, 1 - old).await?;
    let saved = discarded(stage).await?;
    ensure!(saved.contains(MARK), "it cannot be read: {saved}");
    for server in [0, 1] {
        let mut app = stage.server(server).connect(Account::App).await?;
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ledger.marker")
            .fetch_one(&mut app)
            .await?;
        ensure!(rows == 0, "it is still on mysql-{}", server + 1);
    }
    let outcome = ends_well(stage, before)
        .await
        .context("after the server was cloned")?;
    let steps = stage.arbiter().steps_from(0);
    ensure!(
        steps.iter().any(|step| step.name == "clone"),
        "it was not cloned: {steps:?}"
    );
    Ok(outcome)
}
