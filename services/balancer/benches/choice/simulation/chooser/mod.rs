//! Whoever chooses: one balancer's view of the servers.

mod least_connections;
mod random;
mod round_robin;
mod two_choices;

use std::time::Duration;

use super::dice::Dice;
use least_connections::Least;
use random::Random;
use round_robin::RoundRobin;
use two_choices::TwoChoices;

/// The ways to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Ours. Without echoes an error stops counting when it has come; without a slow start, who has recovered gets its whole share at once.
    LeastConnections { echoes: bool, slow_start: bool },
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// That of two, drawn at random, which has fewer in flight.
    TwoChoices,
}

impl Way {
    /// Ours, as it is.
    pub(crate) const OURS: Way = Way::LeastConnections {
        echoes: true,
        slow_start: true,
    };
    /// Ours, but an error stops counting when it has come.
    pub(crate) const WITHOUT_ECHOES: Way = Way::LeastConnections {
        echoes: false,
        slow_start: true,
    };
    /// Ours, but who has recovered gets its whole share at once.
    pub(crate) const WITHOUT_SLOW_START: Way = Way::LeastConnections {
        echoes: true,
        slow_start: false,
    };

    /// A balancer that chooses so among so many servers, all of which are in rotation. `instance` tells it from others.
    pub(crate) fn balancer(self, servers: usize, instance: usize) -> Box<dyn Chooser> {
        match self {
            Way::LeastConnections { echoes, slow_start } => {
                Box::new(Least::new(servers, instance, echoes, slow_start))
            }
            Way::RoundRobin => Box::new(Simple::new(servers, RoundRobin::new(instance))),
            Way::Random => Box::new(Simple::new(servers, Random)),
            Way::TwoChoices => Box::new(Simple::new(servers, TwoChoices)),
        }
    }
}

/// What comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// From whom.
    pub(crate) server: usize,
    /// Whether it is one of the 5xx.
    pub(crate) is_error: bool,
    /// Since the choice.
    pub(crate) took: Duration,
}

/// A balancer. Times are since the beginning.
pub(crate) trait Chooser {
    /// A server for a request.
    fn choose(&mut self, dice: &mut Dice) -> usize;

    /// Its answer has come.
    fn answered(&mut self, answer: Answer);

    /// How many it has in flight there.
    fn in_flight(&self, server: usize) -> usize;

    /// A server is out of rotation.
    fn goes_out(&mut self, server: usize);

    /// It is back.
    fn comes_back(&mut self, server: usize, now: Duration);

    /// Forty times a second.
    fn ticks(&mut self, _now: Duration) {}
}

/// Who is in rotation, and what each has in flight: all that the simple ones know.
struct Counts {
    in_rotation: Vec<usize>,
    in_flight: Vec<usize>,
}

/// How a simple one draws a server from what it knows.
trait Draw {
    fn draw(&mut self, counts: &Counts, dice: &mut Dice) -> usize;
}

/// A balancer that knows no more than [`Counts`].
struct Simple<D> {
    counts: Counts,
    way: D,
}

impl<D> Simple<D> {
    fn new(servers: usize, way: D) -> Simple<D> {
        Simple {
            counts: Counts {
                in_rotation: (0..servers).collect(),
                in_flight: vec![0; servers],
            },
            way,
        }
    }
}

impl<D: Draw> Chooser for Simple<D> {
    fn choose(&mut self, dice: &mut Dice) -> usize {
        let server = self.way.draw(&self.counts, dice);
        self.counts.in_flight[server] += 1;
        server
    }

    fn answered(&mut self, answer: Answer) {
        self.counts.in_flight[answer.server] -= 1;
    }

    fn in_flight(&self, server: usize) -> usize {
        self.counts.in_flight[server]
    }

    fn goes_out(&mut self, server: usize) {
        self.counts.in_rotation.retain(|one| *one != server);
    }

    fn comes_back(&mut self, server: usize, _now: Duration) {
        self.counts.in_rotation.push(server);
        self.counts.in_rotation.sort_unstable();
    }
}
