//! A fault, done.

use std::time::Duration;

use anyhow::Result;
use harness::{Account, Server, wait_for};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::plan::Planned;
use super::{Fault, Path, Role, Trigger};
use crate::arbiter::SETTLED;
use crate::link::Link;
use crate::sight::name;
use crate::stage::Stage;

/// How long an arbiter that was just started may take to know the pair, so that it does what leads to its failpoint.
const KNOWN_MAX: Duration = Duration::from_secs(15);

/// How long an arbiter may take to reach its failpoint.
const REACHED_MAX: Duration = Duration::from_secs(8);

/// How long a server that was killed for a failpoint stays away.
const AWAY: Duration = Duration::from_secs(3);

/// What was done, and when, on the history's clock.
#[derive(Clone, Debug)]
pub struct Done {
    /// What.
    pub fault: Fault,
    /// To whom, and what came of it.
    pub note: String,
    /// Whether it has come to anything: not if it could not be done, was refused, or was a failpoint that was not reached.
    pub happened: bool,
    /// When it began.
    pub began: Duration,
    /// When it was taken back.
    pub ended: Duration,
}

/// What has come of a fault.
struct Came {
    happened: bool,
    note: String,
}

impl Came {
    /// It was done.
    fn to(note: impl Into<String>) -> Came {
        Came::if_so(true, note)
    }

    fn if_so(happened: bool, note: impl Into<String>) -> Came {
        Came {
            happened,
            note: note.into(),
        }
    }
}

/// Waits for its moment, does it, and takes it back.
pub async fn carry_out(stage: &Stage, planned: Planned) -> Done {
    sleep(planned.after).await;
    let began = stage.now();
    let fault = planned.fault;
    // What cannot be done, for another fault has been faster, is none.
    let came = match act(stage, &fault).await {
        Ok(came) => came,
        Err(error) => Came::if_so(false, format!("not done: {error:#}")),
    };
    Done {
        fault,
        note: came.note,
        happened: came.happened,
        began,
        ended: stage.now(),
    }
}

async fn act(stage: &Stage, fault: &Fault) -> Result<Came> {
    let primary = stage.last_primary();
    let of = |role: &Role| match role {
        Role::Primary => primary,
        Role::Replica => 1 - primary,
    };
    match fault {
        Fault::Kill(role, down) => {
            let server = stage.server(of(role));
            server.kill().await?;
            sleep(*down).await;
            server.restart().await?;
            Ok(Came::to(server.name()))
        }
        Fault::Freeze(role, length) => {
            let server = stage.server(of(role));
            server.freeze().await?;
            sleep(*length).await;
            server.thaw().await?;
            Ok(Came::to(server.name()))
        }
        Fault::Break(path, how, length) => {
            let links = path.links(primary);
            stage.break_links(&links, *how);
            sleep(*length).await;
            links.iter().for_each(|link| stage.links().heal(*link));
            let names: Vec<String> = links.iter().map(ToString::to_string).collect();
            Ok(Came::to(names.join(", ")))
        }
        Fault::Restart(role) => {
            let server = stage.server(of(role));
            restart(server).await?;
            Ok(Came::to(server.name()))
        }
        Fault::KillBoth(down) => {
            let (one, two) = (stage.server(0), stage.server(1));
            let _ = tokio::join!(one.kill(), two.kill());
            sleep(*down).await;
            tokio::try_join!(one.restart(), two.restart())?;
            Ok(Came::to(""))
        }
        Fault::RestartBoth => {
            tokio::try_join!(restart(stage.server(0)), restart(stage.server(1)))?;
            Ok(Came::to(""))
        }
        Fault::KillArbiter => stage.arbiter().kill().map(|()| Came::to("")),
        Fault::Failpoint(point, trigger) => failpoint(stage, point, *trigger, primary).await,
        Fault::SlowDisk(role, length) => {
            let server = stage.server(of(role));
            stutter(server, *length).await?;
            Ok(Came::to(server.name()))
        }
        Fault::HoldApplier(length) => {
            hold_applier(stage.server(1 - primary), *length).await?;
            Ok(Came::to(name(1 - primary)))
        }
        Fault::Switchover => {
            let answer = stage.arbiter().ask(&["switchover"]).await?;
            let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
            let note = format!("from {}: {} {said}", name(primary), answer.status);
            Ok(Came::if_so(answer.status.success(), note))
        }
        Fault::Maintenance(length) => maintenance(stage, 1 - primary, *length).await,
    }
}

impl Path {
    fn links(self, primary: usize) -> Vec<Link> {
        match self {
            Path::ArbiterToPrimary => vec![Link::Arbiter(primary)],
            Path::ArbiterToReplica => vec![Link::Arbiter(1 - primary)],
            Path::Replication => vec![Link::Source(primary)],
            Path::AllToPrimary => vec![Link::Arbiter(primary), Link::Source(primary)],
            Path::AllOfArbiter => vec![Link::Arbiter(0), Link::Arbiter(1)],
        }
    }
}

async fn restart(server: &Server) -> Result<()> {
    server.stop().await?;
    server.restart().await
}

async fn failpoint(stage: &Stage, point: &str, trigger: Trigger, primary: usize) -> Result<Came> {
    let before = stage.arbiter().deaths().len();
    stage.arbiter().arm(point).await?;
    let killed = match trigger {
        Trigger::PrimaryDies => Some(stage.server(primary)),
        Trigger::ReplicaDies => Some(stage.server(1 - primary)),
        Trigger::Switchover => None,
    };
    match killed {
        Some(server) => {
            knows(stage).await;
            server.kill().await?;
            sleep(AWAY).await;
            server.restart().await?;
        }
        // Refused or without an end, it does not lead to the failpoint, and that is said.
        None => drop(stage.arbiter().switchover(KNOWN_MAX).await),
    }
    let reached = wait_for("the failpoint", REACHED_MAX, async || {
        let deaths = stage.arbiter().deaths();
        let mut since = deaths.into_iter().skip(before);
        since.find(|death| death.is_at(point))
    });
    Ok(match reached.await {
        Ok(death) => Came::to(format!("reached: {}", death.status)),
        Err(_) => Came::if_so(false, "not reached"),
    })
}

/// Waits until the arbiter, which was just started, knows that the pair is open and that writes are acknowledged. Where another fault is in
/// the way it may not come to that; then what leads to the failpoint is done all the same.
async fn knows(stage: &Stage) {
    let known = |status: &Value| status["open"] == true && status["acknowledging"] == true;
    let arbiter = stage.arbiter();
    let _ = arbiter
        .until("the arbiter knows the pair", KNOWN_MAX, known)
        .await;
}

/// In one command, for beginning one takes the engine as long as a stop lasts.
async fn stutter(server: &Server, length: Duration) -> Result<()> {
    let times = length.as_millis() / 250;
    let script = format!(
        "i=0; while [ $i -lt {times} ]; do kill -s STOP -- -1; sleep 0.2; kill -s CONT -- -1; sleep 0.05; i=$((i + 1)); done"
    );
    server.run(&["sh", "-c", &script]).await.map(drop)
}

/// A lock on all tables; whoever receives needs none.
async fn hold_applier(replica: &Server, length: Duration) -> Result<()> {
    let mut holder = replica.connect(Account::Arbiter).await?;
    let lock = sqlx::raw_sql("SET SESSION lock_wait_timeout = 2; FLUSH TABLES WITH READ LOCK");
    timeout(SETTLED, lock.execute(&mut holder)).await??;
    sleep(length).await;
    Ok(())
}

async fn maintenance(stage: &Stage, replica: usize, length: Duration) -> Result<Came> {
    let (arbiter, server) = (stage.arbiter(), name(replica));
    let begun = arbiter.ask(&["maintenance", "begin", &server]).await?;
    let said = String::from_utf8_lossy(&begun.stderr).trim().to_owned();
    let worked = async {
        if begun.status.success() {
            restart(stage.server(replica)).await?;
            sleep(length).await;
        }
        anyhow::Ok(())
    };
    let worked = worked.await;
    // It must not stay so, whatever else has happened.
    let ended = wait_for("the maintenance is ended", SETTLED, async || {
        let ended = arbiter.ask(&["maintenance", "end", &server]).await.ok()?;
        (ended.status.success() || !begun.status.success()).then_some(ended)
    });
    let ended = ended.await?;
    worked?;
    let note = format!("{server}: {} {said}, {}", begun.status, ended.status);
    Ok(Came::if_so(begun.status.success(), note))
}
