//! A pick takes no memory.

use std::hint::black_box;
use std::sync::Arc;

use allocation_counter::measure;
use balancer::backend::Backend;
use balancer::least_connections::LeastConnections;
use balancer::offer::{Offer, Rank};

#[test]
fn choosing_and_giving_back_allocates_nothing() {
    for size in [2, 16, 256] {
        for different in [0, 1] {
            let backends = (0..size).map(|at| {
                let backend = Backend::alone("web");
                let rank = Rank::Active;
                let share = 100 + at * different;
                backend.offers(Some(Offer { rank, share }));
                Arc::new(backend)
            });
            let chooser = LeastConnections::new(backends.collect(), 0);
            // A thread's first use of the list makes room for its place in it.
            drop(chooser.choose(&[]));
            let info = measure(|| {
                for _ in 0..1000 {
                    drop(black_box(chooser.choose(&[])));
                }
            });
            assert_eq!(0, info.count_total, "{size} backends, {different}");
        }
    }
}

#[test]
fn what_allocates_is_counted() {
    let info = measure(|| drop(black_box(Box::new(1))));
    assert_eq!(1, info.count_total);
}
