//! Least connections: the request goes to the backend that has the fewest in flight for its share.
//!
//! Without weights that is the one with the fewest leases, and among equals they take turns. With weights it is one of those whose next
//! request would not put it ahead of what anybody's next would be: `n/s < min (m+1)/t`, for a backend of share `s` with `n` in flight and
//! any other of share `t` with `m`. So none is ever more than one request ahead of its part, and all of them get their part even of
//! requests that come one by one, where the plain least `(n+1)/s` would give the heaviest all of them.
//!
//! Exact in one balancer: a pick looks at every count and then takes its lease only if the chosen count has not moved. It takes no lock and
//! allocates nothing. Two balancers count separately; they start their turns at different places, so that the first request of each does
//! not go to the same backend.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

use arc_swap::ArcSwap;

use crate::backend::Backend;
use crate::lease::Lease;
use crate::offer::Rank;

/// 2^64 divided by the golden ratio: multiples of it, cut to 64 bits, spread evenly however many there are (an additive recurrence).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The backends, and whose turn it is among equals.
#[derive(Debug)]
pub struct LeastConnections {
    backends: ArcSwap<Vec<Arc<Backend>>>,
    turn: AtomicUsize,
}

/// What a choice comes to.
#[derive(Debug)]
pub enum Choice {
    /// A request may be sent.
    Lease(Lease),
    /// Each that could be asked has as many requests as it takes.
    Full,
    /// There is nobody who could be asked.
    Nobody,
}

impl Choice {
    /// The lease, if it is one.
    pub fn lease(self) -> Option<Lease> {
        match self {
            Choice::Lease(lease) => Some(lease),
            Choice::Full | Choice::Nobody => None,
        }
    }
}

impl LeastConnections {
    /// `start` is where the turns begin: two balancers are given different ones.
    pub fn new(backends: Vec<Arc<Backend>>, start: usize) -> LeastConnections {
        LeastConnections {
            backends: ArcSwap::from_pointee(backends),
            turn: AtomicUsize::new(start),
        }
    }

    /// The backends as they are now.
    pub fn backends(&self) -> Arc<Vec<Arc<Backend>>> {
        self.backends.load_full()
    }

    /// Changes who the backends are. A backend that stays keeps its count, because the count is its own.
    pub fn replace(&self, backends: Vec<Arc<Backend>>) {
        self.backends.store(Arc::new(backends));
    }

    /// Whether somebody who is well was not tried yet.
    pub fn is_somebody_left(&self, tried: &[Arc<Backend>]) -> bool {
        rank(&self.backends.load(), tried).is_some_and(|rank| !rank.is_last_resort())
    }

    /// Chooses among those that were not tried yet.
    pub fn choose(&self, tried: &[Arc<Backend>]) -> Choice {
        let backends = self.backends.load();
        let turn = self.turn.fetch_add(1, atomic::Ordering::Relaxed);
        let Some(rank) = rank(&backends, tried) else {
            return Choice::Nobody;
        };
        loop {
            match pick(&backends, rank, turn, tried) {
                Picked::One { backend, in_flight } => {
                    if let Some(lease) = Lease::take(backend, in_flight) {
                        return Choice::Lease(lease);
                    }
                }
                Picked::Moved => {}
                Picked::Full => return Choice::Full,
            }
        }
    }
}

fn is_among(tried: &[Arc<Backend>], backend: &Arc<Backend>) -> bool {
    tried.iter().any(|tried| Arc::ptr_eq(tried, backend))
}

/// The first rank of which there is somebody left. Those who are not well are asked only while nobody is, tried or not.
fn rank(backends: &[Arc<Backend>], tried: &[Arc<Backend>]) -> Option<Rank> {
    let (mut first, mut first_left) = (None, None);
    for backend in backends {
        let Some(offer) = backend.offer() else {
            continue;
        };
        if first.is_none_or(|first| offer.rank < first) {
            first = Some(offer.rank);
        }
        if first_left.is_none_or(|first| offer.rank < first) && !is_among(tried, backend) {
            first_left = Some(offer.rank);
        }
        if first_left == Some(Rank::Active) {
            break;
        }
    }
    first_left.filter(|left| left.is_last_resort() <= first.is_some_and(Rank::is_last_resort))
}

/// A candidate: its weight in the choice, and its place.
#[derive(Clone, Copy)]
struct Seen<'a> {
    backend: &'a Arc<Backend>,
    in_flight: usize,
    /// What counts: what is in flight, and the echoes of what has failed.
    load: u32,
    share: u32,
}

impl Seen<'_> {
    /// What its next request would come to, beside the other's: `(n+1)/s` and `(m+1)/t`.
    fn next_beside(&self, other: &Seen<'_>) -> Ordering {
        let next = |seen: &Seen<'_>| seen.load.saturating_add(1);
        product(next(self), other.share).cmp(&product(next(other), self.share))
    }

    /// Whether its next request would not put it ahead of what the least one's would be.
    fn is_in_turn(&self, least: &Seen<'_>) -> bool {
        product(self.load, least.share) < product(least.load.saturating_add(1), self.share)
    }
}

/// Of 32 bits each, so that it cannot overflow: the check would cost a tenth of the choice.
fn product(load: u32, share: u32) -> u64 {
    u64::from(load) * u64::from(share)
}

/// One whose next request would come to the least.
struct Least<'a> {
    seen: Seen<'a>,
    /// How many there are whose next would come to as much.
    count: usize,
    /// Whether all candidates have the same share. Then nobody else is in turn.
    are_equal: bool,
    /// The sum of all candidates' shares.
    all: u64,
}

impl<'a> Least<'a> {
    fn among(mut candidates: impl Iterator<Item = Seen<'a>>) -> Option<Least<'a>> {
        let first = candidates.next()?;
        let mut least = Least {
            seen: first,
            count: 1,
            are_equal: true,
            all: first.share.into(),
        };
        for seen in candidates {
            least.all += u64::from(seen.share);
            let order = if seen.share == least.seen.share {
                seen.load.cmp(&least.seen.load)
            } else {
                least.are_equal = false;
                seen.next_beside(&least.seen)
            };
            match order {
                Ordering::Less => (least.seen, least.count) = (seen, 1),
                Ordering::Equal => least.count += 1,
                Ordering::Greater => {}
            }
        }
        Some(least)
    }
}

/// What a look at the counts comes to.
enum Picked<'a> {
    One {
        backend: &'a Arc<Backend>,
        in_flight: usize,
    },
    /// Each has as many as it takes.
    Full,
    /// Counts have changed in the middle of the look.
    Moved,
}

/// One of those with the fewest for their share.
fn pick<'a>(
    backends: &'a [Arc<Backend>],
    rank: Rank,
    turn: usize,
    tried: &[Arc<Backend>],
) -> Picked<'a> {
    let candidates = || {
        backends.iter().filter_map(|backend| {
            let share = backend.share(rank)?;
            let in_flight = backend.in_flight().count();
            let is_left = in_flight < backend.requests_max() && !is_among(tried, backend);
            is_left.then(|| Seen {
                backend,
                in_flight,
                load: u32::try_from(in_flight + backend.echoes()).unwrap_or(u32::MAX),
                share,
            })
        })
    };
    let Some(least) = Least::among(candidates()) else {
        return Picked::Full;
    };
    let in_turn = || candidates().filter(|seen| seen.is_in_turn(&least.seen));
    let chosen = if least.are_equal {
        in_turn().nth(turn % least.count)
    } else {
        by_share(in_turn, least.all, turn)
    };
    match chosen {
        Some(Seen {
            backend, in_flight, ..
        }) => Picked::One { backend, in_flight },
        None => Picked::Moved,
    }
}

/// One of those in turn, dealt by their shares along a sequence that is even wherever it is cut. It is dealt among all, whose shares sum up to
/// `all`, and what falls to somebody who is not in turn is dealt again among those who are. So where most are, one walk is enough.
fn by_share<'a, I: Iterator<Item = Seen<'a>>>(
    in_turn: impl Fn() -> I,
    all: u64,
    turn: usize,
) -> Option<Seen<'a>> {
    let point = (turn as u64).wrapping_mul(GOLDEN);
    let at = ((u128::from(point) * u128::from(all)) >> 64) as u64;
    let (mut left, mut total) = (at, 0);
    for seen in in_turn() {
        let share = u64::from(seen.share);
        if left < share {
            return Some(seen);
        }
        left -= share;
        total += share;
    }
    // Less than what the others have, unless shares have changed in the middle of the look.
    let others = all.checked_sub(total).filter(|others| left < *others)?;
    let mut left = (u128::from(left) * u128::from(total) / u128::from(others)) as u64;
    in_turn().find(|seen| {
        let share = u64::from(seen.share);
        let is_it = left < share;
        left = left.saturating_sub(share);
        is_it
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::offer::Offer;

    const SHARE: u32 = 100;

    fn active(share: u32) -> Option<Offer> {
        let rank = Rank::Active;
        Some(Offer { rank, share })
    }

    fn backends(count: usize) -> Vec<Arc<Backend>> {
        weighted(&vec![SHARE; count])
    }

    fn weighted(shares: &[u32]) -> Vec<Arc<Backend>> {
        (1..)
            .zip(shares)
            .map(|(number, share)| {
                let backend = Backend::alone(&format!("web-{number}"));
                backend.offers(active(*share));
                Arc::new(backend)
            })
            .collect()
    }

    fn chosen(chooser: &LeastConnections) -> Lease {
        chooser.choose(&[]).lease().unwrap()
    }

    fn counts(chooser: &LeastConnections) -> Vec<usize> {
        chooser
            .backends()
            .iter()
            .map(|backend| backend.in_flight().count())
            .collect()
    }

    #[test]
    fn a_slow_backend_gets_no_more_than_the_quick_one_leaves() {
        let chooser = LeastConnections::new(backends(2), 0);
        let _slow = chosen(&chooser);
        for _ in 0..10 {
            assert_eq!("web-2", chosen(&chooser).backend().name());
        }
    }

    #[test]
    fn ties_go_round() {
        let chooser = LeastConnections::new(backends(3), 0);
        let names: Vec<String> = (0..6)
            .map(|_| chosen(&chooser).backend().name().to_owned())
            .collect();
        assert_eq!(
            ["web-1", "web-2", "web-3", "web-1", "web-2", "web-3"].map(str::to_owned),
            *names
        );
    }

    #[test]
    fn two_balancers_start_at_different_backends() {
        let first = chosen(&LeastConnections::new(backends(2), 1));
        let second = chosen(&LeastConnections::new(backends(2), 2));
        assert_ne!(first.backend().name(), second.backend().name());
    }

    #[test]
    fn what_was_tried_or_is_down_is_left_out() {
        let chooser = LeastConnections::new(backends(3), 0);
        let all = chooser.backends();
        all[0].offers(None);
        let only = chooser.choose(&[Arc::clone(&all[1])]).lease().unwrap();
        assert_eq!("web-3", only.backend().name());
        let tried = [Arc::clone(&all[1]), Arc::clone(&all[2])];
        assert!(matches!(chooser.choose(&tried), Choice::Nobody));
    }

    #[test]
    fn counts_survive_a_change_of_membership() {
        let chooser = LeastConnections::new(backends(2), 0);
        let held = chosen(&chooser);
        let mut more: Vec<_> = chooser.backends().to_vec();
        more.extend(backends(3).pop());
        chooser.replace(more);
        assert_eq!(vec![1, 0, 0], counts(&chooser));
        drop(held);
        assert_eq!(vec![0, 0, 0], counts(&chooser));
    }

    #[test]
    fn threads_that_choose_at_once_leave_no_backend_more_than_one_ahead() {
        const THREADS: usize = 4;
        const EACH: usize = 500;
        let chooser = LeastConnections::new(backends(3), 0);
        let together = Barrier::new(THREADS);
        let held: Vec<Lease> = thread::scope(|scope| {
            let running: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        (0..EACH).map(|_| chosen(&chooser)).collect::<Vec<_>>()
                    })
                })
                .collect();
            running
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        let counts = counts(&chooser);
        assert_eq!(THREADS * EACH, counts.iter().sum::<usize>());
        let skew = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        assert!(skew <= 1, "{counts:?}");
        drop(held);
        assert!(
            chooser
                .backends()
                .iter()
                .all(|b| b.in_flight().count() == 0)
        );
    }

    fn place(all: &[Arc<Backend>], backend: &Arc<Backend>) -> usize {
        all.iter()
            .position(|one| Arc::ptr_eq(one, backend))
            .unwrap()
    }

    #[test]
    fn requests_that_come_one_by_one_are_dealt_by_weight() {
        let chooser = LeastConnections::new(weighted(&[300, 100, 20]), 0);
        let mut counts = HashMap::new();
        for _ in 0..4200 {
            let name = chosen(&chooser).backend().name().to_owned();
            *counts.entry(name).or_insert(0_i32) += 1;
        }
        for (name, due) in [("web-1", 3000), ("web-2", 1000), ("web-3", 200)] {
            assert!((counts[name] - due).abs() < 20, "{counts:?}");
        }
    }

    #[test]
    fn who_is_ahead_leaves_its_part_to_the_others_by_their_weights() {
        for ahead in 0..3 {
            let all = weighted(&[300, 100, 200]);
            let _echoes: Vec<_> = (0..100).map(|_| all[ahead].echo()).collect();
            let chooser = LeastConnections::new(all, 0);
            let mut counts = [0_i32; 3];
            for _ in 0..6000 {
                counts[place(&chooser.backends(), chosen(&chooser).backend())] += 1;
            }
            let mut due = [3, 1, 2];
            due[ahead] = 0;
            for (count, part) in counts.iter().zip(due) {
                let due = 6000 * part / due.iter().sum::<i32>();
                assert!((count - due).abs() < 30, "{counts:?}");
            }
        }
    }

    #[test]
    fn requests_that_stay_are_spread_by_weight() {
        let chooser = LeastConnections::new(weighted(&[300, 100]), 0);
        let held: Vec<Lease> = (0..400).map(|_| chosen(&chooser)).collect();
        assert_eq!(vec![300, 100], counts(&chooser));
        drop(held);
    }

    #[test]
    fn who_is_on_standby_waits_for_the_active_ones_to_be_gone_or_tried() {
        let all = backends(2);
        all[1].offers(Some(Offer {
            rank: Rank::Standby,
            share: SHARE,
        }));
        let chooser = LeastConnections::new(all.clone(), 0);
        let held: Vec<Lease> = (0..9).map(|_| chosen(&chooser)).collect();
        assert_eq!(vec![9, 0], counts(&chooser));
        let other = chooser.choose(&all[..1]).lease().unwrap();
        assert_eq!("web-2", other.backend().name());
        all[0].offers(None);
        assert_eq!("web-2", chosen(&chooser).backend().name());
        drop(held);
    }

    #[test]
    fn who_is_not_well_is_asked_only_while_nobody_is() {
        let all = backends(2);
        let failing = Some(Offer {
            rank: Rank::Failing,
            share: SHARE,
        });
        all[1].offers(failing);
        let chooser = LeastConnections::new(all.clone(), 0);
        // Another try is not made there either.
        assert!(matches!(chooser.choose(&all[..1]), Choice::Nobody));
        all[0].offers(failing);
        let first = chosen(&chooser);
        let tried = [Arc::clone(first.backend())];
        let second = chooser.choose(&tried).lease().unwrap();
        assert_ne!(first.backend().name(), second.backend().name());
    }

    #[test]
    fn who_has_as_many_as_it_takes_gets_no_more() {
        let all = backends(2);
        for backend in &all {
            backend.takes(2);
        }
        let chooser = LeastConnections::new(all, 0);
        let mut held: Vec<Lease> = (0..4).map(|_| chosen(&chooser)).collect();
        assert!(matches!(chooser.choose(&[]), Choice::Full));
        held.pop();
        assert!(chooser.choose(&[]).lease().is_some());
    }

    #[test]
    fn an_echo_counts_like_a_request() {
        let all = backends(2);
        let echo = all[0].echo();
        let chooser = LeastConnections::new(all, 0);
        for _ in 0..4 {
            assert_eq!("web-2", chosen(&chooser).backend().name());
        }
        drop(echo);
        let names: Vec<_> = (0..2)
            .map(|_| chosen(&chooser).backend().name().to_owned())
            .collect();
        assert_ne!(names[0], names[1]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Choose,
        Finish(prop::sample::Index),
        Fail(prop::sample::Index),
        Rise(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Choose),
            2 => any::<prop::sample::Index>().prop_map(Step::Finish),
            1 => any::<prop::sample::Index>().prop_map(Step::Fail),
            1 => any::<prop::sample::Index>().prop_map(Step::Rise),
        ]
    }

    proptest! {
        #[test]
        fn the_counts_are_what_is_in_flight_and_a_choice_is_always_one_of_the_least(
            size in 1_usize..6,
            start in any::<usize>(),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let chooser = LeastConnections::new(backends(size), start);
            let all = chooser.backends();
            let mut held: Vec<Lease> = Vec::new();
            for step in steps {
                match step {
                    Step::Choose => {
                        let before = counts(&chooser);
                        let least = all.iter().zip(&before).filter(|(b, _)| b.offer().is_some()).map(|(_, n)| *n).min();
                        let lease = chooser.choose(&[]).lease();
                        prop_assert_eq!(least.is_some(), lease.is_some());
                        if let (Some(lease), Some(least)) = (lease, least) {
                            prop_assert!(lease.backend().offer().is_some());
                            prop_assert_eq!(least, before[place(&all, lease.backend())]);
                            held.push(lease);
                        }
                    }
                    Step::Finish(which) if !held.is_empty() => {
                        held.swap_remove(which.index(held.len()));
                    }
                    Step::Finish(_) => {}
                    Step::Fail(which) => which.get(&all).offers(None),
                    Step::Rise(which) => which.get(&all).offers(active(SHARE)),
                }
                let mut expected: HashMap<usize, usize> = HashMap::new();
                for lease in &held {
                    *expected.entry(place(&all, lease.backend())).or_default() += 1;
                }
                for (place, backend) in all.iter().enumerate() {
                    prop_assert_eq!(expected.get(&place).copied().unwrap_or(0), backend.in_flight().count());
                }
            }
        }

        #[test]
        fn nobody_is_more_than_one_request_ahead_of_its_part(
            shares in prop::collection::vec(1_u32..1000, 1..8),
            start in any::<usize>(),
            requests in 1_usize..300,
        ) {
            let chooser = LeastConnections::new(weighted(&shares), start);
            let mut held = Vec::new();
            for _ in 0..requests {
                held.push(chosen(&chooser));
                let counts = counts(&chooser);
                for (count, share) in counts.iter().zip(&shares) {
                    for (other, other_share) in counts.iter().zip(&shares) {
                        // Before its last request it had less for its share than the other's next would come to.
                        let ahead = count.saturating_sub(1) as u64 * u64::from(*other_share);
                        prop_assert!(ahead < (*other as u64 + 1) * u64::from(*share), "{counts:?} {shares:?}");
                    }
                }
            }
        }

        #[test]
        fn equals_that_only_fill_are_never_more_than_one_apart(size in 1_usize..8, start in any::<usize>(), requests in 1_usize..100) {
            let chooser = LeastConnections::new(backends(size), start);
            let mut held = Vec::new();
            for _ in 0..requests {
                held.extend(chooser.choose(&[]).lease());
                let counts = counts(&chooser);
                prop_assert_eq!(held.len(), counts.iter().sum::<usize>());
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }
    }
}
