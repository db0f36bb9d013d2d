//! One connection of the arbiter acts on a server at a time: what was given up is not done behind what was decided since.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use arbiter::observe::{Limits, Server as Observed};
use harness::{Account, Identities, Server, wait_until};
use tokio::time::timeout;

const SETTLED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_next_connection_that_acts_ends_the_one_before_and_its_statement() -> Result<()> {
    let identities = Identities::make()?;
    let server = Server::start("mysql-1", &identities).await?;
    let mut given_up = server.connect(Account::Arbiter).await?;
    let taken: i64 = sqlx::query_scalar("SELECT GET_LOCK('holdfast.arbiter', 0)")
        .fetch_one(&mut given_up)
        .await?;
    ensure!(taken == 1, "somebody else acts on a new server");
    let late = tokio::spawn(async move {
        sqlx::query("DO SLEEP(600)")
            .execute(&mut given_up)
            .await
            .map(drop)
    });
    let mut look = server.connect(Account::Arbiter).await?;
    wait_until("the statement is under way", SETTLED, async || {
        let under_way =
            "SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE 'DO SLEEP%'";
        sqlx::query_scalar::<_, i64>(under_way)
            .fetch_one(&mut look)
            .await
            .is_ok_and(|count| count == 1)
    })
    .await?;

    let limits = Limits {
        look: SETTLED,
        step: SETTLED,
    };
    let mut acting = Observed::new("mysql-1", server.options(Account::Arbiter)?, limits);
    let said = acting.observe(false).await;
    said.map_err(|silence| anyhow!(silence.why))?;
    let ended = timeout(SETTLED, late)
        .await
        .context("the statement that was given up goes on")??;
    ensure!(ended.is_err(), "the statement came to its end");
    // It keeps the lock from look to look, and what it does is done.
    let statement = "SET GLOBAL offline_mode = ON".to_owned();
    acting.execute(&[statement]).await?;
    let said = acting.observe(false).await;
    let facts = said.map_err(|silence| anyhow!(silence.why))?;
    ensure!(facts.server.offline_mode, "{facts:?}");
    let free: i64 = sqlx::query_scalar("SELECT IS_FREE_LOCK('holdfast.arbiter')")
        .fetch_one(&mut look)
        .await?;
    ensure!(free == 0, "nobody has the lock");
    Ok(())
}
