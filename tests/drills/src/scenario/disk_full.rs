//! A primary with no room left.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::ends_well;
use crate::stage::Stage;

/// Enough for a data directory, its logs, and what clients write in a minute.
pub(super) const DISK: u64 = 700 << 20;

/// How long there is no room.
const FULL: Duration = Duration::from_secs(10);

/// A file of its own takes what is left; the server grows into the last of it.
const FILL: &str = "dd if=/dev/zero of=/var/lib/mysql/#ballast bs=64k 2>/dev/null; true";

pub(super) async fn heals(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    ensure!(primary == 0, "mysql-1 has the small disk");
    let server = stage.server(primary);
    server.run(&["sh", "-c", FILL]).await?;
    sleep(FULL).await;
    let log = server.log().await?.to_lowercase();
    ensure!(
        log.contains("no space left") || log.contains("disk full") || log.contains("is full"),
        "it has not noticed that there is no room"
    );
    server
        .run(&["rm", "-f", "/var/lib/mysql/#ballast"])
        .await
        .ok();
    ends_well(stage, before).await
}
