//! The rules, each by its name: a situation, and what is decided in it.

mod asked;
mod failover;
mod opening;
mod refusals;
mod replica;
mod told;

use std::time::{Duration, Instant};

use replication::{GtidSet, ReplicaFacts};

use super::world::{NAMES, TIMING, UUIDS, World, pair};
use crate::condition::Condition;
use crate::decide::{Ask, Decision, decide, grant};
use crate::look::{Beaten, Earlier, Heart, Look, Moment, Pulse};
use crate::observe::{Facts, Silence};
use crate::state::{Phase, State};
use crate::step::Step;

const ONE: &str = NAMES[0];
const TWO: &str = NAMES[1];
/// Longer than any limit.
const LONG: Duration = Duration::from_secs(3600);

fn gtids(server: usize, numbers: &str) -> GtidSet {
    format!("{}:{numbers}", UUIDS[server]).parse().unwrap()
}

/// What is recorded and what is seen: of a pair that is whole, unless something is changed.
struct Scene {
    state: Option<State>,
    look: Look,
}

impl Scene {
    /// Two servers that were just initialised, and no state.
    fn new() -> Self {
        let look = World::new().see();
        Self { state: None, look }
    }

    /// Both in sync, the first primary and open.
    fn whole() -> Self {
        let mut world = World::whole();
        let look = world.see();
        let state = world.disk.map(|disk| disk.state());
        let scene = Self { state, look };
        assert_eq!(scene.decide(), Decision::default());
        scene
    }

    /// The primary open and alone in sync; its replica is attached, and not yet waited for.
    fn alone() -> Self {
        let mut scene = Self::whole();
        scene.state = Some(scene.state().alone());
        scene.facts(ONE).semi_sync.source_enabled = false;
        scene.facts(ONE).row.as_mut().unwrap().in_sync = vec![ONE.to_owned()];
        scene
    }

    fn state(&self) -> &State {
        self.state.as_ref().unwrap()
    }

    fn facts(&mut self, name: &str) -> &mut Facts {
        self.look.servers.get_mut(name).unwrap().as_mut().unwrap()
    }

    fn channel(&mut self) -> &mut ReplicaFacts {
        self.facts(TWO).replica.as_mut().unwrap()
    }

    fn gone(&mut self, name: &str) {
        let silence = Silence {
            why: "connection refused".to_owned(),
            alive: false,
        };
        self.look.servers.insert(name.to_owned(), Err(silence));
        if name == ONE {
            self.look.primary_away = LONG;
            self.look.heart = Heart::Unknown;
            self.look.executed_before = None;
        }
    }

    /// The primary is gone for the arbiter, and the replica hears nothing of it.
    fn primary_lost() -> Self {
        let mut scene = Self::whole();
        scene.gone(ONE);
        scene.channel().receiver = "CONNECTING".to_owned();
        scene.channel().link_age = Some(LONG);
        scene
    }

    fn in_phase(mut self, phase: Phase) -> Self {
        self.state = Some(self.state().in_phase(phase));
        self.look.phase_age = Duration::ZERO;
        self
    }

    fn decide(&self) -> Decision {
        decide(&pair(), self.state.as_ref(), &self.look, &TIMING)
    }

    fn steps(&self) -> Vec<Step> {
        self.decide().steps
    }

    /// The steps' names.
    fn names(&self) -> Vec<&'static str> {
        self.steps().iter().map(Step::name).collect()
    }

    /// Nothing is done, and this is said.
    fn only_says(&self, which: impl Fn(&Condition) -> bool) {
        let decision = self.decide();
        assert_eq!(decision.steps, [], "{decision:?}");
        assert!(decision.conditions.iter().any(which), "{decision:?}");
    }

    /// Looks at this at that time, after what was seen before.
    fn seen(&self, earlier: &mut Earlier, at: Instant, acknowledged: Option<Beaten>) -> Look {
        let pulse = Pulse {
            acknowledged,
            limit: LONG,
        };
        let moment = Moment {
            asked: at,
            answered: at,
        };
        let servers = self.look.servers.clone();
        earlier.look(servers, self.state.as_ref(), pulse, moment)
    }

    fn ask(&self, ask: &Ask) -> Result<State, String> {
        grant(&pair(), self.state.as_ref(), &self.look, &TIMING, ask)
    }

    fn refuses(&self, ask: &Ask, why: &str) {
        let refusal = self.ask(ask).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
}

fn on(server: &str, step: fn(String) -> Step) -> Step {
    step(server.to_owned())
}
