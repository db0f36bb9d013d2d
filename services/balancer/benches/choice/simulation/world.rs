//! What happens, one event after the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use balancer::clock::TICK;

use super::chooser::{Answer, Chooser, Way};
use super::dice::Dice;
use super::filling::skew;
use super::measures::Measures;
use super::scene::{Scene, WARM_UP, WORKERS};
use super::server::Server;

/// What can happen. At one moment, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick,
    Recovery { server: usize },
    Answer { request: usize },
    Arrival,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    came: Duration,
    work: Duration,
    balancer: usize,
    server: usize,
    is_error: bool,
}

/// A run.
struct World<'a> {
    scene: &'a Scene,
    balancers: Vec<Box<dyn Chooser>>,
    servers: Vec<Server>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    now: Duration,
    measures: Measures,
    // Apart, so that what comes is the same whoever chooses.
    arrivals: Dice,
    works: Dice,
    choices: Dice,
}

/// All runs of a scene.
pub(crate) fn play(scene: &Scene, way: Way) -> Measures {
    Measures::of_all((0..scene.times).map(|seed| World::new(scene, way, seed).run()))
}

impl World<'_> {
    fn new(scene: &Scene, way: Way, seed: u64) -> World<'_> {
        let count = scene.servers.len();
        let mut world = World {
            scene,
            balancers: (0..scene.balancers)
                .map(|instance| way.balancer(count, instance))
                .collect(),
            servers: scene
                .servers
                .iter()
                .map(|nature| Server::new(*nature, WORKERS))
                .collect(),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            now: Duration::ZERO,
            measures: Measures::new(count),
            arrivals: Dice::new(seed, 1),
            works: Dice::new(seed, 2),
            choices: Dice::new(seed, 3),
        };
        if let Some(server) = scene.recovers {
            for balancer in &mut world.balancers {
                balancer.goes_out(server);
            }
            world.at(WARM_UP, Event::Recovery { server });
        }
        world.at(TICK, Event::Tick);
        world.after_a_gap(Event::Arrival);
        world
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.events.push(Reverse((when, event)));
    }

    fn after_a_gap(&mut self, event: Event) {
        let gap = self.arrivals.exponential() / self.scene.requests_per_s();
        self.at(self.now + Duration::from_secs_f64(gap), event);
    }

    /// Until nothing more comes and everything has ended.
    fn run(mut self) -> Measures {
        let end = WARM_UP + self.scene.measured;
        while let Some(Reverse((when, event))) = self.events.pop() {
            self.now = when;
            match event {
                Event::Arrival if when < end => {
                    self.comes();
                    self.after_a_gap(Event::Arrival);
                }
                Event::Arrival => {}
                Event::Answer { request } => self.ends(request),
                Event::Recovery { server } => {
                    for balancer in &mut self.balancers {
                        balancer.comes_back(server, when);
                    }
                }
                Event::Tick => {
                    for balancer in &mut self.balancers {
                        balancer.ticks(when);
                    }
                    if when < end {
                        self.at(when + TICK, Event::Tick);
                    }
                }
            }
        }
        self.measures
    }

    fn comes(&mut self) {
        let balancer = self.arrivals.below(self.balancers.len());
        let work = self.scene.work.of_one(&mut self.works);
        let server = self.balancers[balancer].choose(&mut self.choices);
        let fails_after = self.servers[server].fails_after();
        let request = self.requests.len();
        self.requests.push(Request {
            came: self.now,
            work,
            balancer,
            server,
            is_error: fails_after.is_some(),
        });
        match fails_after {
            Some(after) => self.at(self.now + after, Event::Answer { request }),
            None => {
                self.servers[server].comes(request);
                self.begin(server);
            }
        }
        if self.now >= WARM_UP {
            let (skew, waiting) = (self.skew(), self.servers[server].waiting());
            self.measures.sent(server, skew, waiting);
        }
    }

    fn begin(&mut self, server: usize) {
        if let Some(request) = self.servers[server].begins() {
            let needs = self.servers[server].needs(self.requests[request].work);
            self.at(self.now + needs, Event::Answer { request });
        }
    }

    fn ends(&mut self, request: usize) {
        let Request {
            came,
            balancer,
            server,
            is_error,
            ..
        } = self.requests[request];
        let took = self.now - came;
        self.balancers[balancer].answered(Answer {
            server,
            is_error,
            took,
        });
        if !is_error {
            self.servers[server].is_done();
            self.begin(server);
        }
        match is_error {
            _ if came < WARM_UP => {}
            true => self.measures.erred(),
            false => self.measures.answered(took),
        }
    }

    /// Of all balancers together.
    fn skew(&self) -> usize {
        let of = |server| self.balancers.iter().map(|one| one.in_flight(server)).sum();
        skew((0..self.servers.len()).map(of))
    }
}
