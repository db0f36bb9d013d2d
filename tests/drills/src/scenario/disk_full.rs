//! A primary with no room left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{MysqlImage, Server, docker, run, wait_until};
use tokio::time::sleep;

use super::ends_well;
use crate::arbiter::SETTLED;
use crate::stage::Stage;

/// Enough for a data directory, its logs, and what clients write in a minute.
pub(super) const DISK: u64 = 700 << 20;

/// How long there is no room, from when the server has noticed.
const FULL: Duration = Duration::from_secs(10);

const BALLAST: &str = "/var/lib/mysql/#ballast";

pub(super) async fn heals(stage: &Stage) -> Result<String> {
    let (primary, before) = (stage.primary().await?, stage.now());
    ensure!(primary == 0, "mysql-1 has the small disk");
    let server = stage.server(primary);
    let earlier = complaints(&server.log().await?);
    // A file of its own takes what is left; the server grows into the last of it.
    let fill = format!("dd if=/dev/zero of='{BALLAST}' bs=64k 2>/dev/null; true");
    server.run(&["sh", "-c", &fill]).await?;
    wait_until("it notices that there is no room", SETTLED, async || {
        let log = server.log().await;
        log.is_ok_and(|log| complaints(&log) > earlier)
    })
    .await?;
    sleep(FULL).await;
    make_room(server)
        .await
        .context("take away what fills the disk")?;
    ends_well(stage, before).await
}

/// How many lines of its log say that there is no room.
fn complaints(log: &str) -> usize {
    let says_so = |line: &&str| {
        let line = line.to_lowercase();
        ["no space left", "disk full", "is full"]
            .iter()
            .any(|words| line.contains(words))
    };
    log.lines().filter(says_so).count()
}

/// By a container beside the server's: that one may have ended, and nothing can be run in it then.
async fn make_room(server: &Server) -> Result<()> {
    let image = MysqlImage::get().await?;
    let format = "--format={{.Config.User}}";
    let user = docker(["inspect", format, server.container()]).await?;
    let label = format!("--label={}={}", run::LABEL, run::id());
    let user = format!("--user={user}");
    let volumes = format!("--volumes-from={}", server.container());
    let arguments = [
        "run",
        "--rm",
        &label,
        "--network=none",
        "--entrypoint=rm",
        &user,
        &volumes,
        image.name(),
        // It has to be there.
        BALLAST,
    ];
    docker(arguments).await.map(drop)
}
