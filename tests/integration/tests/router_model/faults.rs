//! What goes wrong, thrown by dice from the round's seed: on the links of each process, on servers and the link between them, and with the
//! replica and the roles. Four tasks at once, so faults overlap; each fault is taken back after a bounded time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::{Account, Direction, Proxy, Rejoined};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use sqlx::Connection;
use tokio::time::{sleep, timeout};

use crate::clients::{CLIENTS, ITEMS_EACH};
use crate::router_common::as_arbiter;
use crate::world::{NAMES, Roles, World};

/// A change of roles waits for links and servers that are at fault, for no longer than this.
const CHANGE_MAX: Duration = Duration::from_secs(90);

/// What can be wrong with a link.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Cut,
    Frozen,
    FrozenToServer,
    FrozenToClient,
    Slow(Duration),
}

impl Broken {
    fn throw(dice: &mut StdRng) -> Self {
        match dice.random_range(0..5) {
            0 => Self::Cut,
            1 => Self::Frozen,
            2 => Self::FrozenToServer,
            3 => Self::FrozenToClient,
            _ => Self::Slow(Duration::from_millis(dice.random_range(5..200))),
        }
    }

    fn make(self, link: &Proxy) {
        let (there, back) = (Direction::ToServer, Direction::ToClient);
        match self {
            Self::Cut => link.cut(),
            Self::Frozen => {
                link.freeze(there);
                link.freeze(back);
            }
            Self::FrozenToServer => link.freeze(there),
            Self::FrozenToClient => link.freeze(back),
            Self::Slow(delay) => {
                link.delay(there, delay);
                link.delay(back, delay);
            }
        }
    }
}

fn dice(seed: u64, lane: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ (lane << 48))
}

fn millis(dice: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}

/// How long a fault lasts. Most are short, so that there are many and they overlap; some outlast every timeout.
fn while_it_lasts(dice: &mut StdRng) -> Duration {
    if dice.random_bool(0.1) {
        millis(dice, 4000..7000)
    } else {
        millis(dice, 100..2000)
    }
}

/// The links of one process, one or both of them.
pub(crate) async fn links(
    world: &World,
    process: usize,
    seed: u64,
    over: &AtomicBool,
) -> Result<()> {
    let mut dice = dice(seed, 1 + process as u64);
    while !over.load(Ordering::Acquire) {
        sleep(millis(&mut dice, 200..2500)).await;
        let of = *[&[0][..], &[1], &[0, 1]]
            .choose(&mut dice)
            .expect("there are three");
        let (broken, lasts) = (Broken::throw(&mut dice), while_it_lasts(&mut dice));
        let names: Vec<&str> = of.iter().map(|server| NAMES[*server]).collect();
        let what = format!(
            "{} to {}: {broken:?}",
            ["A", "B"][process],
            names.join(" and ")
        );
        let trouble = world.trouble(what);
        let links = || of.iter().map(|server| &world.links[process][*server]);
        links().for_each(|link| broken.make(link));
        sleep(lasts).await;
        links().for_each(Proxy::heal);
        world.over(trouble);
    }
    Ok(())
}

/// Either server frozen, or the link between them broken.
pub(crate) async fn servers(world: &World, seed: u64, over: &AtomicBool) -> Result<()> {
    let mut dice = dice(seed, 3);
    while !over.load(Ordering::Acquire) {
        sleep(millis(&mut dice, 500..3500)).await;
        let (server, lasts) = (dice.random_range(0..2), while_it_lasts(&mut dice));
        if dice.random_bool(0.5) {
            let broken = Broken::throw(&mut dice);
            let trouble =
                world.trouble(format!("from {} to its replica: {broken:?}", NAMES[server]));
            broken.make(&world.replication[server]);
            sleep(lasts).await;
            world.replication[server].heal();
            world.over(trouble);
        } else {
            let trouble = world.trouble(format!("{} is frozen", NAMES[server]));
            // It may have been killed, and then there is nothing to freeze.
            let _ = world.server(server).freeze().await;
            sleep(lasts).await;
            let _ = world.server(server).thaw().await;
            world.over(trouble);
        }
    }
    Ok(())
}

/// What happens to the replica and the roles.
#[derive(Clone, Copy, Debug)]
enum Change {
    ApplierStopped,
    ApplierDelayed,
    RowLocked,
    ReplicaKilled,
    SwitchOver,
    FailOver,
}

/// All of them come in every round that is long enough.
const DECK: [Change; 7] = [
    Change::ApplierStopped,
    Change::ApplierDelayed,
    Change::RowLocked,
    Change::ReplicaKilled,
    Change::SwitchOver,
    Change::SwitchOver,
    Change::FailOver,
];

/// The one task that kills servers and changes roles, until `end`; gives the roles at last.
pub(crate) async fn roles(
    world: &World,
    mut roles: Roles,
    seed: u64,
    end: Instant,
) -> Result<Roles> {
    let mut dice = dice(seed, 4);
    let mut deck = Vec::new();
    while Instant::now() < end {
        sleep(millis(&mut dice, 200..1000)).await;
        if deck.is_empty() {
            deck = DECK.to_vec();
            deck.shuffle(&mut dice);
        }
        let change = deck.pop().expect("just dealt");
        let changing = one(world, &mut roles, change, &mut dice);
        let changed = timeout(CHANGE_MAX, changing).await;
        changed
            .context("it takes too long")
            .flatten()
            .with_context(|| format!("{change:?}"))?;
    }
    Ok(roles)
}

async fn one(world: &World, roles: &mut Roles, change: Change, dice: &mut StdRng) -> Result<()> {
    let (primary, replica) = (roles.primary, 1 - roles.primary);
    let (name, lasts) = (NAMES[replica], millis(dice, 300..2500));
    let follower = world.server(replica);
    match change {
        Change::ApplierStopped => {
            let trouble = world.trouble(format!("{name} applies nothing"));
            as_arbiter(follower, "STOP REPLICA SQL_THREAD").await?;
            sleep(lasts).await;
            as_arbiter(follower, "START REPLICA SQL_THREAD").await?;
            world.over(trouble);
        }
        Change::ApplierDelayed => {
            let trouble = world.trouble(format!("{name} applies a second later"));
            let delay = "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 1; START REPLICA SQL_THREAD";
            as_arbiter(follower, delay).await?;
            sleep(lasts).await;
            let no_delay = "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0; START REPLICA SQL_THREAD";
            as_arbiter(follower, no_delay).await?;
            world.over(trouble);
        }
        Change::RowLocked => {
            let item = dice.random_range(0..CLIENTS * ITEMS_EACH);
            let trouble = world.trouble(format!("item {item} is locked on {name}"));
            let mut app = follower.connect(Account::App).await?;
            sqlx::raw_sql("START TRANSACTION").execute(&mut app).await?;
            let lock = sqlx::query("SELECT n FROM ledger.items WHERE id = ? FOR SHARE").bind(item);
            lock.execute(&mut app).await?;
            sleep(lasts).await;
            app.close().await?;
            world.over(trouble);
        }
        Change::ReplicaKilled => {
            let trouble = world.trouble(format!("{name} is killed, and comes back as the replica"));
            world.replica_has_written_nothing(roles).await?;
            follower.kill().await?;
            sleep(lasts).await;
            rejoin(world, roles).await?;
            world.over(trouble);
        }
        Change::SwitchOver => {
            let trouble = world.trouble(format!("{name} becomes the primary, as planned"));
            world.replica_has_written_nothing(roles).await?;
            let port = world.replication[replica].port();
            if world.pair.switch_over(name, roles.epoch + 1, port).await? {
                *roles = world.roles(replica, roles.epoch + 1).await?;
            } else {
                world.trouble(format!(
                    "{} could not be closed: commits wait",
                    NAMES[primary]
                ));
            }
            world.over(trouble);
        }
        Change::FailOver => {
            let trouble = world.trouble(format!(
                "{} is killed, {name} becomes the primary",
                NAMES[primary]
            ));
            world.replica_has_written_nothing(roles).await?;
            world.pair.fail_over(name, roles.epoch + 1).await?;
            // The other one is not there to be asked what it has; it is when it comes back.
            (roles.primary, roles.epoch) = (replica, roles.epoch + 1);
            world.over(trouble);
            sleep(lasts).await;
            let trouble = world.trouble(format!("{} comes back", NAMES[primary]));
            rejoin(world, roles).await?;
            world.over(trouble);
        }
    }
    Ok(())
}

async fn rejoin(world: &World, roles: &mut Roles) -> Result<()> {
    let (primary, replica) = (roles.primary, 1 - roles.primary);
    let port = world.replication[primary].port();
    let rejoined = world.pair.rejoin(NAMES[replica], roles.epoch, port).await?;
    if rejoined == Rejoined::Anew {
        world.trouble(format!("{} had to be made anew", NAMES[replica]));
    }
    *roles = world.roles(primary, roles.epoch).await?;
    Ok(())
}
