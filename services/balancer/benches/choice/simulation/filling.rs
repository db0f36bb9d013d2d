//! Requests that only come: how far apart the servers get when nothing ever ends.
//!
//! For balancers that count alone there is a bound. Let `n(b, s)` be what balancer `b` has in flight on server `s`. Among equals a choice
//! goes to one with the fewest, so with nothing ending `max n(b, ·) - min n(b, ·) <= 1` for each `b`. What server `s` has in all is the sum
//! over `b`, and the largest sum is at most the sum of the largest parts, the smallest at least that of the smallest: so
//!
//! ```text
//! max Σ n(b, ·) - min Σ n(b, ·)  <=  Σ (max n(b, ·) - min n(b, ·))  <=  the number of balancers
//! ```
//!
//! Requests that end make it larger, for they end where they like; a choice never does, in its own balancer's count, for it goes to the
//! lowest. So there is no bound then but the requests in flight, and how far apart the servers are is measured (`world.rs`).

use super::chooser::Way;
use super::dice::Dice;

/// The largest skew of all balancers together, of so many of these that fill so many servers.
pub(crate) fn skew_max(
    way: Way,
    balancers: usize,
    servers: usize,
    requests: usize,
    seed: u64,
) -> usize {
    let mut dice = Dice::new(seed, 0);
    let mut balancers: Vec<_> = (0..balancers)
        .map(|instance| way.balancer(servers, instance))
        .collect();
    let skews = (0..requests).map(|_| {
        let at = dice.below(balancers.len());
        balancers[at].choose(&mut dice);
        let of = |server| balancers.iter().map(|one| one.in_flight(server)).sum();
        skew((0..servers).map(of))
    });
    skews.max().unwrap_or_default()
}

/// The distance between the most and the fewest.
pub(crate) fn skew(counts: impl Iterator<Item = usize>) -> usize {
    let (fewest, most) = counts.fold((usize::MAX, 0), |(fewest, most), count| {
        (fewest.min(count), most.max(count))
    });
    most.saturating_sub(fewest)
}
