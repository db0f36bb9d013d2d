//! Ours: the balancer's own chooser, its leases, and what a worker and the roster do around it.
//!
//! The choice, the counts, the mean time to an answer and the share of who warms up are the balancer's code. What is written again here is
//! `Worker::erred` and the clock behind it, for those read the real time, and the round of the roster. One worker and its ticks stand for
//! all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use balancer::backend::{Backend, Echo};
use balancer::clock::{Moment, TICK};
use balancer::config::{Mode, WhenNone};
use balancer::health::State;
use balancer::lease::Lease;
use balancer::least_connections::LeastConnections;
use balancer::rotation::{Facts, Wish, warm_percent};
use balancer::worker::{ECHO_MAX, ECHOES_MAX};

use super::{Answer, Chooser};
use crate::simulation::dice::Dice;

/// Ticks between two rounds of the roster, of which there are ten a second.
const ROUND_TICKS: u32 = 4;
/// As it is configured unless somebody wants it otherwise: `balancing.slow_start_s` and `slow_start_percent`.
const SLOW_START: Duration = Duration::from_secs(10);
const SLOW_START_PERCENT: u8 = 10;
const WEIGHT: u32 = 100;

/// One balancer.
pub(super) struct Least {
    chooser: LeastConnections,
    known: Vec<Known>,
    /// Errors that still count, and until when; none if they never do.
    echoes: Option<VecDeque<(Moment, Echo)>>,
    has_slow_start: bool,
    /// Mean time to an answer among the backends, as of the last round.
    typical: Duration,
    ticks: u32,
    /// What the worker's clock shows: milliseconds, as of the last tick.
    clock: Moment,
}

/// A backend, and what is known of it.
struct Known {
    backend: Arc<Backend>,
    leases: Vec<Lease>,
    is_out: bool,
    warming: Option<Duration>,
}

impl Known {
    fn publish(&self, now: Duration) {
        let warm_percent = self.warming.map_or(100, |since| {
            warm_percent(now - since, SLOW_START, SLOW_START_PERCENT)
        });
        let facts = Facts {
            wish: Wish::Ready,
            health: match self.is_out {
                true => State::Down,
                false => State::Up,
            },
            is_ejected: false,
            is_standby: false,
            weight: WEIGHT,
            warm_percent,
        };
        let offer = facts.offer(Mode::ActiveActive, WhenNone::Closed);
        self.backend.offers(offer);
    }
}

impl Least {
    pub(super) fn new(
        servers: usize,
        instance: usize,
        has_echoes: bool,
        has_slow_start: bool,
    ) -> Least {
        let known: Vec<Known> = (0..servers)
            .map(|server| Known {
                backend: Arc::new(Backend::alone(&format!("web-{}", server + 1))),
                leases: Vec::new(),
                is_out: false,
                warming: None,
            })
            .collect();
        for one in &known {
            one.publish(Duration::ZERO);
        }
        let backends = known.iter().map(|one| Arc::clone(&one.backend));
        Least {
            chooser: LeastConnections::new(backends.collect(), instance),
            known,
            echoes: has_echoes.then(VecDeque::new),
            has_slow_start,
            typical: Duration::ZERO,
            ticks: 0,
            clock: 0,
        }
    }

    /// As the roster does it: the mean of those that have one.
    fn mean_of_good_answers(&self) -> Duration {
        let good = self.known.iter().filter(|one| !one.is_out);
        let (mut sum, mut count) = (Duration::ZERO, 0);
        for latency in good.filter_map(|one| one.backend.latency()) {
            sum += latency;
            count += 1;
        }
        sum.checked_div(count).unwrap_or_default()
    }

    /// As a worker does it.
    fn erred(&mut self, server: usize, took: Duration) {
        let left = self.typical.min(ECHO_MAX).saturating_sub(took);
        if let Some(echoes) = &mut self.echoes
            && !left.is_zero()
            && echoes.len() < ECHOES_MAX
        {
            let due = self.clock + millis(left + TICK);
            echoes.push_back((due, self.known[server].backend.echo()));
        }
    }
}

fn millis(time: Duration) -> Moment {
    Moment::try_from(time.as_millis()).expect("no simulation lasts that long")
}

impl Chooser for Least {
    fn choose(&mut self, _dice: &mut Dice) -> usize {
        let lease = self.chooser.choose(&[]).lease();
        let lease = lease.expect("somebody is in rotation, and nobody has a limit");
        let is_it = |one: &Known| Arc::ptr_eq(&one.backend, lease.backend());
        let server = self.known.iter().position(is_it);
        let server = server.expect("the chooser knows the same ones");
        self.known[server].leases.push(lease);
        server
    }

    fn answered(&mut self, answer: Answer) {
        if answer.is_error {
            self.erred(answer.server, answer.took);
        } else {
            self.known[answer.server]
                .backend
                .answered_after(answer.took);
        }
        // One lease of a backend is as good as another.
        let lease = self.known[answer.server].leases.pop();
        drop(lease.expect("what is answered was sent"));
    }

    fn in_flight(&self, server: usize) -> usize {
        self.known[server].backend.in_flight().count()
    }

    fn goes_out(&mut self, server: usize) {
        self.known[server].is_out = true;
        self.known[server].publish(Duration::ZERO);
    }

    fn comes_back(&mut self, server: usize, now: Duration) {
        self.known[server].is_out = false;
        self.known[server].warming = self.has_slow_start.then_some(now);
        self.known[server].publish(now);
    }

    fn ticks(&mut self, now: Duration) {
        self.clock = millis(now);
        if let Some(echoes) = &mut self.echoes {
            while echoes.front().is_some_and(|(due, _)| *due <= self.clock) {
                echoes.pop_front();
            }
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(ROUND_TICKS) {
            self.typical = self.mean_of_good_answers();
            for one in self.known.iter().filter(|one| one.warming.is_some()) {
                one.publish(now);
            }
        }
    }
}
