//! What `replication` reads, on a real pair.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Account, Pair, wait_for};
use replication::{cluster_row, replica_facts, semi_sync_facts, server_facts};

#[tokio::test]
async fn a_pair_says_who_it_is_and_how_far_the_replica_is() -> Result<()> {
    let pair = Pair::replicating().await?;
    let mut primary = pair.mysql_1().connect(Account::Arbiter).await?;
    let mut replica = pair.mysql_2().connect(Account::Arbiter).await?;

    let row = cluster_row(&mut primary)
        .await?
        .context("the row is there")?;
    let of_primary = server_facts(&mut primary).await?;
    ensure!(
        (row.epoch, row.primary_server.as_str()) == (1, "mysql-1"),
        "{row:?}"
    );
    ensure!(
        row.primary_uuid == of_primary.uuid && row.in_sync == ["mysql-1", "mysql-2"],
        "{row:?}"
    );
    ensure!(
        !of_primary.super_read_only && !of_primary.offline_mode,
        "{of_primary:?}"
    );
    ensure!(replica_facts(&mut primary).await?.is_none());

    let semi_sync = semi_sync_facts(&mut primary).await?;
    ensure!(
        semi_sync.source_enabled && semi_sync.source_active && semi_sync.clients == 1,
        "{semi_sync:?}"
    );
    ensure!(semi_sync_facts(&mut replica).await?.replica_active);

    let of_replica = wait_for(
        "the replica has everything",
        Duration::from_secs(20),
        async || {
            let executed = server_facts(&mut primary).await.ok()?.executed;
            let of_replica = server_facts(&mut replica).await.ok()?;
            of_replica
                .executed
                .contains(&executed)
                .then_some(of_replica)
        },
    )
    .await?;
    ensure!(of_replica.super_read_only, "{of_replica:?}");
    let facts = replica_facts(&mut replica).await?.context("a channel")?;
    ensure!(
        facts.source_uuid == of_primary.uuid && facts.receiver == "ON" && facts.applier_on,
        "{facts:?}"
    );
    ensure!(
        (facts.receiver_error, facts.applier_error) == (0, 0),
        "{facts:?}"
    );
    // Heartbeats go on.
    wait_for(
        "all that was received is applied",
        Duration::from_secs(20),
        async || {
            let facts = replica_facts(&mut replica).await.ok()??;
            let lag = facts.lag(&server_facts(&mut replica).await.ok()?.executed);
            (lag.behind == Some(Duration::ZERO) && lag.bound().is_some()).then_some(())
        },
    )
    .await?;

    sqlx::query("STOP REPLICA SQL_THREAD")
        .execute(&mut replica)
        .await?;
    sqlx::query("UPDATE holdfast.cluster SET changed_at = NOW(6)")
        .execute(&mut primary)
        .await?;
    let executed = server_facts(&mut replica).await?.executed;
    let facts = replica_facts(&mut replica).await?.context("a channel")?;
    let lag = facts.lag(&executed);
    ensure!(facts.received.subtract(&executed).count() >= 1, "{facts:?}");
    ensure!(
        lag.behind != Some(Duration::ZERO) && lag.bound().is_none(),
        "{lag:?}"
    );
    Ok(())
}
