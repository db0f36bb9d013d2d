//! Least connections: the usable backend with the fewest leases gets the next request.
//!
//! Exact in one balancer: a pick looks at every count and then takes its lease only if the chosen count has not moved, so that among
//! equals no backend is ever more than one ahead of another. Two balancers count separately; they start their turns at different
//! places, so that the first request of each does not go to the same backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::backend::Backend;
use crate::lease::Lease;

/// The backends, and whose turn it is among equals.
#[derive(Debug)]
pub struct LeastConnections {
    backends: ArcSwap<Vec<Arc<Backend>>>,
    turn: AtomicUsize,
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

    /// A lease on the usable backend with the fewest in flight, leaving out those that were tried; `None` if there is no such backend.
    pub fn choose(&self, tried: &[Arc<Backend>]) -> Option<Lease> {
        let backends = self.backends.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        loop {
            let (backend, seen) = fewest(&backends, turn, tried)?;
            if let Some(lease) = Lease::take(backend, seen) {
                return Some(lease);
            }
        }
    }
}

/// The first of those with the fewest in flight, looking round from `turn`, and how many it has.
fn fewest<'a>(
    backends: &'a [Arc<Backend>],
    turn: usize,
    tried: &[Arc<Backend>],
) -> Option<(&'a Arc<Backend>, usize)> {
    let start = turn.checked_rem(backends.len())?;
    let (before, from) = backends.split_at(start);
    from.iter()
        .chain(before)
        .filter(|backend| backend.is_usable())
        .filter(|backend| !tried.iter().any(|tried| Arc::ptr_eq(tried, backend)))
        .map(|backend| (backend, backend.in_flight().count()))
        .min_by_key(|(_, count)| *count)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::health::State;

    fn backends(count: usize) -> Vec<Arc<Backend>> {
        (0..count)
            .map(|index| {
                let name = format!("web-{}", index + 1);
                let backend = Arc::new(Backend::new(index, &name, &name, 8443));
                backend.stands(State::Up, "ready".to_owned());
                backend
            })
            .collect()
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
        let _slow = chooser.choose(&[]).unwrap();
        for _ in 0..10 {
            assert_eq!("web-2", chooser.choose(&[]).unwrap().backend().name());
        }
    }

    #[test]
    fn ties_go_round() {
        let chooser = LeastConnections::new(backends(3), 0);
        let names: Vec<String> = (0..6)
            .map(|_| chooser.choose(&[]).unwrap().backend().name().to_owned())
            .collect();
        assert_eq!(
            ["web-1", "web-2", "web-3", "web-1", "web-2", "web-3"].map(str::to_owned),
            *names
        );
    }

    #[test]
    fn two_balancers_start_at_different_backends() {
        let first = LeastConnections::new(backends(2), 1).choose(&[]).unwrap();
        let second = LeastConnections::new(backends(2), 2).choose(&[]).unwrap();
        assert_ne!(first.backend().name(), second.backend().name());
    }

    #[test]
    fn what_was_tried_or_is_down_is_left_out() {
        let chooser = LeastConnections::new(backends(3), 0);
        let all = chooser.backends();
        all[0].stands(State::Down, "refused".to_owned());
        let only = chooser.choose(&[Arc::clone(&all[1])]).unwrap();
        assert_eq!("web-3", only.backend().name());
        assert!(
            chooser
                .choose(&[Arc::clone(&all[1]), Arc::clone(&all[2])])
                .is_none()
        );
    }

    #[test]
    fn counts_survive_a_change_of_membership() {
        let chooser = LeastConnections::new(backends(2), 0);
        let held = chooser.choose(&[]).unwrap();
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
                        (0..EACH)
                            .map(|_| chooser.choose(&[]).unwrap())
                            .collect::<Vec<_>>()
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
                        let least = all.iter().zip(&before).filter(|(b, _)| b.is_usable()).map(|(_, n)| *n).min();
                        let lease = chooser.choose(&[]);
                        prop_assert_eq!(least.is_some(), lease.is_some());
                        if let (Some(lease), Some(least)) = (lease, least) {
                            prop_assert!(lease.backend().is_usable());
                            prop_assert_eq!(least, before[lease.backend().index()]);
                            held.push(lease);
                        }
                    }
                    Step::Finish(which) if !held.is_empty() => {
                        held.swap_remove(which.index(held.len()));
                    }
                    Step::Finish(_) => {}
                    Step::Fail(which) => which.get(&all).stands(State::Down, "fails".to_owned()),
                    Step::Rise(which) => which.get(&all).stands(State::Up, "ready".to_owned()),
                }
                let mut expected: HashMap<usize, usize> = HashMap::new();
                for lease in &held {
                    *expected.entry(lease.backend().index()).or_default() += 1;
                }
                for backend in all.iter() {
                    prop_assert_eq!(expected.get(&backend.index()).copied().unwrap_or(0), backend.in_flight().count());
                }
            }
        }

        #[test]
        fn equals_that_only_fill_are_never_more_than_one_apart(size in 1_usize..8, start in any::<usize>(), requests in 1_usize..100) {
            let chooser = LeastConnections::new(backends(size), start);
            let mut held = Vec::new();
            for _ in 0..requests {
                held.extend(chooser.choose(&[]));
                let counts = counts(&chooser);
                prop_assert_eq!(held.len(), counts.iter().sum::<usize>());
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }
    }
}
