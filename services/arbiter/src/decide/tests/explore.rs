//! Every situation that a bounded number of events leads to, breadth first, with the arbiter interrupted between any two of its steps.
//!
//! What is bounded is what harms: deaths of the arbiter and of servers, freezes, cuts, and what people and clients ask for. What servers do
//! by themselves, the passing of time and the arbiter's looks are not bounded, and happen in every order. After each event [`World::check`]
//! looks for faults; from a sample of the situations everything is healed, and the pair has to become whole.
//!
//! `HOLDFAST_EXPLORE=2` adds one to every bound that is not zero, and so on; `HOLDFAST_EXPLORE_SITUATIONS` is where to stop.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use super::acts::Deed;
use super::model::{Copy, Receiver, Run, Write};
use super::world::World;
use crate::decide::Ask;

/// Where an exploration stops that is not exhausted.
const SITUATIONS_MAX: usize = 2_000_000;
/// Of so many situations one is healed.
const SAMPLE: u64 = 97;

/// How often each kind of event may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Bounds {
    kills: u8,
    freezes: u8,
    cuts: u8,
    deaths: u8,
    writes: u8,
    bulks: u8,
    switchovers: u8,
    /// Heartbeats of which something else can happen in the middle; others are acknowledged at once, or wait.
    slow_beats: u8,
    /// Steps that the arbiter gave up waiting for, and that are carried out at some time later.
    late_steps: u8,
}

impl Bounds {
    /// One less of one of them, if there is one left.
    fn less(mut self, which: fn(&mut Self) -> &mut u8) -> Option<Self> {
        let left = which(&mut self);
        *left = left.checked_sub(1)?;
        Some(self)
    }

    /// Larger by what the environment says.
    fn enlarged(mut self) -> Self {
        let more = number("HOLDFAST_EXPLORE").unwrap_or(1) - 1;
        let all = [
            &mut self.kills,
            &mut self.freezes,
            &mut self.cuts,
            &mut self.deaths,
            &mut self.writes,
            &mut self.bulks,
            &mut self.switchovers,
            &mut self.slow_beats,
            &mut self.late_steps,
        ];
        for bound in all.into_iter().filter(|bound| **bound > 0) {
            *bound += u8::try_from(more).unwrap();
        }
        self
    }
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Look,
    Step,
    LateStep,
    CarryOut(usize),
    Die,
    AskSwitchover,
    Beat,
    SlowBeat,
    TimePasses,
    Receive(usize),
    Apply(usize),
    Release(usize),
    Write(usize),
    Bulk(usize),
    Kill(usize),
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    CutLink,
    HealLink,
    CutWay(usize),
    HealWay(usize),
    EndClone(usize),
}

/// What came of an exploration.
struct Explored {
    situations: usize,
    transitions: usize,
    /// Whether there was nothing left to go to.
    exhausted: bool,
    healed: usize,
    /// Healed situations in which a person is needed, by what the arbiter says.
    left_to_a_person: usize,
    /// How often a step became late.
    late_steps: usize,
    /// The first fault, with what led to it.
    fault: Option<String>,
}

/// Worlds that were not gone on from yet, and how each was come to.
struct Frontier {
    seen: HashSet<u128>,
    ways: Vec<(u32, Event)>,
    next: Vec<(World, Bounds, u32)>,
}

fn fingerprint(situation: &impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        situation.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

impl Frontier {
    fn way_to(&self, mut at: u32, last: Event) -> String {
        let mut events = vec![last];
        while at != 0 {
            let (before, event) = self.ways[at as usize];
            events.push(event);
            at = before;
        }
        events.reverse();
        events.iter().fold(String::new(), |mut text, event| {
            let _ = write!(text, "{event:?} ");
            text
        })
    }
}

/// What can happen, and what is left of the bounds then.
fn events(world: &World, left: Bounds) -> Vec<(Event, Bounds)> {
    let mut all = Vec::new();
    let mut free = |event| all.push((event, left));
    if world.pending.is_empty() {
        free(Event::Look);
        free(Event::TimePasses);
        if world.can_beat() {
            free(Event::Beat);
        }
    } else {
        free(Event::Step);
    }
    for me in [0, 1] {
        let server = &world.servers[me];
        if let Some(channel) = &server.channel {
            if channel.receiver != Receiver::Off {
                free(Event::Receive(me));
            }
            if channel.applier && channel.received & !server.executed != 0 {
                free(Event::Apply(me));
            }
        }
        if !server.pipeline.is_empty() {
            free(Event::Release(me));
        }
        match server.run {
            Run::Up => {}
            Run::Frozen => free(Event::Thaw(me)),
            Run::Down => free(Event::Start(me)),
        }
        if !world.ways[me] {
            free(Event::HealWay(me));
        }
        if server.copy == Copy::Running {
            free(Event::EndClone(me));
        }
    }
    if !world.link {
        free(Event::HealLink);
    }
    for me in [0, 1] {
        if world.late[me].is_some() && world.servers[me].run == Run::Up {
            free(Event::CarryOut(me));
        }
    }
    let mut bounded = |event, which| {
        if let Some(left) = left.less(which) {
            all.push((event, left));
        }
    };
    bounded(Event::Die, |left| &mut left.deaths);
    if world.can_be_late() {
        bounded(Event::LateStep, |left| &mut left.late_steps);
    }
    if world.pending.is_empty() {
        bounded(Event::AskSwitchover, |left| &mut left.switchovers);
        if world.can_beat() {
            bounded(Event::SlowBeat, |left| &mut left.slow_beats);
        }
    }
    if world.link {
        bounded(Event::CutLink, |left| &mut left.cuts);
    }
    for me in [0, 1] {
        if world.can_write(me) {
            bounded(Event::Write(me), |left| &mut left.writes);
            bounded(Event::Bulk(me), |left| &mut left.bulks);
        }
        if world.servers[me].run != Run::Down {
            bounded(Event::Kill(me), |left| &mut left.kills);
        }
        if world.servers[me].run == Run::Up {
            bounded(Event::Freeze(me), |left| &mut left.freezes);
        }
        if world.ways[me] {
            bounded(Event::CutWay(me), |left| &mut left.cuts);
        }
    }
    all
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Look => drop(world.look()),
        Event::Step => world.step(),
        Event::LateStep => world.step_late(),
        Event::CarryOut(me) => world.carry_out(me),
        Event::Die => world.die(),
        Event::AskSwitchover => drop(world.ask(&Ask::Switchover)),
        Event::Beat => world.beat_at_once(),
        Event::SlowBeat => world.beat(),
        Event::TimePasses => world.wait(),
        Event::Receive(me) => world.receive(me),
        Event::Apply(me) => world.apply(me),
        Event::Release(me) => world.release(me),
        Event::Write(me) => world.write(me, Write::Client),
        Event::Bulk(me) => world.write(me, Write::Bulk),
        Event::Kill(me) => world.kill(me),
        Event::Start(me) => world.start(me),
        Event::Freeze(me) => world.freeze(me),
        Event::Thaw(me) => world.thaw(me),
        Event::CutLink => world.link = false,
        Event::HealLink => world.link = true,
        Event::CutWay(me) => world.cut_way(me),
        Event::HealWay(me) => world.ways[me] = true,
        Event::EndClone(me) => world.end_clone(me),
    }
}

/// Heals everything. `Err` where the pair does not become whole, though nobody is asked for; else whether it became.
fn heal(world: &World) -> Result<bool, String> {
    let mut world = world.clone();
    world.heal();
    let settled = world.settle();
    if let Some(fault) = world.fault {
        return Err(format!("once healed: {fault}: {world:?}"));
    }
    match settled {
        Ok(()) => Ok(true),
        Err(last) if !last.refusals().is_empty() => Ok(false),
        Err(last) => Err(format!("it does not become whole: {last:?}; {world:?}")),
    }
}

fn explore(start: World, bounds: Bounds) -> Explored {
    let limit = number("HOLDFAST_EXPLORE_SITUATIONS").unwrap_or(SITUATIONS_MAX);
    let mut frontier = Frontier {
        seen: [fingerprint(&(&start, bounds))].into(),
        ways: vec![(0, Event::Look)],
        next: vec![(start, bounds, 0)],
    };
    let mut explored = Explored {
        situations: 1,
        transitions: 0,
        exhausted: false,
        healed: 0,
        left_to_a_person: 0,
        late_steps: 0,
        fault: None,
    };
    while !frontier.next.is_empty() {
        let layer = std::mem::take(&mut frontier.next);
        for (world, left, at) in layer {
            for (event, left) in events(&world, left) {
                let mut after = world.clone();
                happen(&mut after, event);
                after.check();
                explored.transitions += 1;
                explored.late_steps += usize::from(event == Event::LateStep);
                if let Some(fault) = after.fault {
                    let way = frontier.way_to(at, event);
                    explored.fault = Some(format!("{fault}, after {way}: {after:?}"));
                    return explored;
                }
                after.forget();
                let mark = fingerprint(&(&after, left));
                if !frontier.seen.insert(mark) {
                    continue;
                }
                explored.situations += 1;
                let id = u32::try_from(frontier.ways.len()).unwrap();
                frontier.ways.push((at, event));
                if mark % u128::from(SAMPLE) == 0 {
                    explored.healed += 1;
                    match heal(&after) {
                        Ok(whole) => explored.left_to_a_person += usize::from(!whole),
                        Err(fault) => {
                            let way = frontier.way_to(at, event);
                            explored.fault = Some(format!("{fault}, after {way}"));
                            return explored;
                        }
                    }
                }
                if explored.situations >= limit {
                    return explored;
                }
                frontier.next.push((after, left, id));
            }
        }
    }
    explored.exhausted = true;
    explored
}

/// Explores, says how far it came, and fails at a fault, or where the bounds were not exhausted though they are not enlarged.
fn everything(what: &str, start: World, bounds: Bounds) -> Explored {
    let enlarged = bounds.enlarged();
    let explored = explore(start, enlarged);
    println!(
        "{what}: {} situations by {} transitions, {}; {} healed, {} of them left to a person; {enlarged:?}",
        explored.situations,
        explored.transitions,
        if explored.exhausted {
            "all that these bounds allow"
        } else {
            "cut off at the limit, not all that these bounds allow"
        },
        explored.healed,
        explored.left_to_a_person,
    );
    if let Some(fault) = &explored.fault {
        panic!("{what}: {fault}");
    }
    assert!(
        explored.exhausted || enlarged != bounds,
        "{what}: cut off at the limit"
    );
    explored
}

const NONE: Bounds = Bounds {
    kills: 0,
    freezes: 0,
    cuts: 0,
    deaths: 0,
    writes: 0,
    bulks: 0,
    switchovers: 0,
    slow_beats: 0,
    late_steps: 0,
};

/// The primary alone, its replica dead.
fn alone() -> World {
    let mut world = World::whole();
    world.kill(1 - world.primary());
    for _ in 0..4 {
        world.wait();
        world.round();
    }
    assert!(!world.disk.unwrap().row.redundant, "{world:?}");
    world
}

#[test]
fn whichever_server_is_killed_and_wherever_the_arbiter_dies_nothing_is_lost() {
    let bounds = Bounds {
        kills: 1,
        writes: 1,
        deaths: 1,
        ..NONE
    };
    everything("a kill, and a death of the arbiter", World::whole(), bounds);
}

#[test]
fn a_server_that_freezes_and_goes_on_is_no_second_primary() {
    let bounds = Bounds {
        freezes: 1,
        writes: 1,
        ..NONE
    };
    everything("a freeze", World::whole(), bounds);
}

#[test]
fn wherever_the_network_is_cut_there_is_one_primary() {
    let bounds = Bounds {
        cuts: 1,
        writes: 1,
        ..NONE
    };
    everything("a cut", World::whole(), bounds);
}

#[test]
fn a_switchover_loses_nothing_whoever_is_killed_in_it() {
    let bounds = Bounds {
        switchovers: 1,
        kills: 1,
        ..NONE
    };
    everything("a switchover, and a kill", World::whole(), bounds);
}

#[test]
fn a_replica_that_grows_has_everything() {
    let bounds = Bounds {
        writes: 1,
        slow_beats: 1,
        ..NONE
    };
    everything("growing", alone(), bounds);
}

#[test]
fn a_replica_that_is_far_behind_grows_by_what_it_has_applied() {
    let bounds = Bounds {
        bulks: 1,
        kills: 1,
        ..NONE
    };
    everything("growing from far behind", alone(), bounds);
}

#[test]
fn a_bootstrap_goes_on_wherever_it_was_interrupted() {
    let bounds = Bounds {
        kills: 1,
        deaths: 1,
        ..NONE
    };
    everything("a bootstrap", World::new(), bounds);
}

/// Statements that the arbiter gave up waiting for, and that the server carries out at any time later. Left out is what is several
/// statements, of which a server that does not answer is sent the first only.
#[test]
fn a_step_that_is_carried_out_long_after_it_was_given_up_does_no_harm() {
    let late = |late, bounds: Bounds| {
        let mut start = World::whole();
        start.may_be_late = Some(late);
        let bounds = Bounds {
            late_steps: 1,
            ..bounds
        };
        let explored = everything(&format!("{late:?} late"), start, bounds);
        assert!(explored.late_steps > 0, "{late:?} was never to be done");
    };
    for step in [
        Deed::StartApplier,
        Deed::StartReceiver,
        Deed::StopReceiver,
        Deed::LiftOffline,
        Deed::AllowArbiter,
        Deed::AllowWrites,
    ] {
        late(step, Bounds { kills: 1, ..NONE });
    }
    // These are done to a primary that was deposed while it hung.
    for step in [Deed::TakeOffline, Deed::ForbidWrites, Deed::Restart] {
        late(step, Bounds { freezes: 1, ..NONE });
    }
}

/// But this one would: the primary was to go on alone, the statement hung on a connection that was given up, the pair grew, and only then
/// commits no longer wait for the replica. The core cannot see that, and here is what it would come to; so a connection that acts holds a
/// lock on its server, and the next one acts only when the statement that was given up has ended (`observe.rs`).
#[test]
fn semi_sync_that_is_switched_off_long_after_it_was_given_up_would_do_harm() {
    let bounds = Bounds {
        late_steps: 1,
        ..NONE
    };
    let mut start = World::whole();
    start.may_be_late = Some(Deed::DisableSemiSync);
    let fault = explore(start, bounds).fault.unwrap_or_default();
    let known = "with two in sync, the primary acknowledges alone";
    assert!(fault.starts_with(known), "{fault}");
}
