//! Whom the bench asks: ours and the naive one, with the same backends and the same in flight.

use std::sync::Arc;

use balancer::backend::Backend;
use balancer::lease::Lease;
use balancer::least_connections::LeastConnections;
use balancer::offer::{Offer, Rank};

use crate::naive::{Naive, NaiveLease};

/// The share of a backend of ordinary weight, as the balancer makes it.
const SHARE: u32 = 25_600;

/// Ours, among so many.
pub(crate) fn ours(size: usize, is_weighted: bool) -> LeastConnections {
    let backends = shares(size, is_weighted).map(|share| {
        let backend = Backend::alone("web");
        let rank = Rank::Active;
        backend.offers(Some(Offer { rank, share }));
        Arc::new(backend)
    });
    LeastConnections::new(backends.collect(), 0)
}

/// The naive one, among so many.
pub(crate) fn naive(size: usize, is_weighted: bool) -> Naive {
    Naive::new(shares(size, is_weighted))
}

/// Gives both so many requests, and holds them.
pub(crate) fn busy<'a>(
    ours: &LeastConnections,
    naive: &'a Naive,
    requests: usize,
) -> (Vec<Lease>, Vec<NaiveLease<'a>>) {
    let leases = (0..requests).filter_map(|_| ours.choose(&[]).lease());
    (
        leases.collect(),
        (0..requests).map(|_| naive.choose()).collect(),
    )
}

/// Weights of 100 each, or of 50 to 200.
fn shares(size: usize, is_weighted: bool) -> impl Iterator<Item = u32> {
    let parts = match is_weighted {
        true => [100, 50, 200, 150],
        false => [100; 4],
    };
    let shares = parts.map(|percent| SHARE * percent / 100);
    shares.into_iter().cycle().take(size)
}
