//! Limits for each client: connections at one time, and a rate of requests. Exact, and bounded in memory.
//!
//! A client is an address, or for IPv6 a network (see [`IPV6_PREFIX_BITS`]). It is looked up once for a connection; a request on it then
//! costs one compare-and-swap and no lock. The rate is GCRA: all that is kept is the time at which the allowance is full again. So a
//! client that nobody holds and whose allowance is full is the same as one that was never seen, and is forgotten without loss.
//!
//! It does not decide who a client is behind a proxy, sends no answers, and its time comes from outside. Two balancers count separately.
//!
//! ```
//! # use std::time::{Duration, Instant};
//! # use balancer::clients::{Clients, Limits};
//! let mut now = Instant::now();
//! let limits = Limits { connections_max: 1, requests_per_s: 10, burst: 2, tracked_max: 1_000 };
//! let clients = Clients::new(limits, now);
//! let client = clients.client([192, 0, 2, 7].into(), now).expect("there are limits");
//! let connection = client.connect().expect("it is the first");
//! assert!(client.connect().is_none());
//! assert!(client.admit(now).is_ok() && client.admit(now).is_ok());
//! let refused = client.admit(now).unwrap_err();
//! assert_eq!(Duration::from_millis(100), refused.0);
//! now += refused.0;
//! assert!(client.admit(now).is_ok());
//! # drop(connection);
//! ```

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much of an IPv6 address is the client. A /64 is what a single line or host is given (RFC 6177, RFC 7421): within it everybody can
/// choose from 2^64 addresses, and would have as many allowances if each were a client.
pub const IPV6_PREFIX_BITS: u32 = 64;
const _: () = assert!(IPV6_PREFIX_BITS >= 1 && IPV6_PREFIX_BITS <= 64);

/// In so many parts the clients are kept, each with a lock of its own: threads that look up different clients seldom wait.
const SHARDS: usize = 16;
/// The finest part of a nanosecond that an interval is counted in. A rate whose interval needs none finer is exact; any other is too low
/// by less than one part in 16,000,000,000 / rate. A finer one would let the clock end sooner: with this it ends after 36 years.
const PARTS_MAX: u64 = 16;
/// A full shard is searched for what may be forgotten, and then for as long as this times its entries not again. Without this pause a
/// flood of new addresses would make each look-up read a whole shard.
const SEARCH_PAUSE_NS_PER_ENTRY: u64 = 2_000;
const NS_PER_S: u64 = 1_000_000_000;

/// What each client may do, and how many are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections at one time; 0 for no limit.
    pub connections_max: usize,
    /// Requests in each second, on and on; 0 for no limit.
    pub requests_per_s: u32,
    /// Requests that may come at once; 0 counts as 1, for none would never be admitted.
    pub burst: u32,
    /// Clients that are remembered at most. Each shard has its part of them, and shards fill by chance: the first may be full when a
    /// tenth of the whole is still free.
    pub tracked_max: usize,
}

/// A request came too early; it makes sense to come again after so long, and not sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// In whole seconds, rounded up, as the field `Retry-After` wants it (RFC 9110, section 10.2.3).
    pub fn whole_seconds(self) -> u64 {
        let RetryAfter(wait) = self;
        wait.as_secs()
            .saturating_add(u64::from(wait.subsec_nanos() > 0))
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RetryAfter(wait) = self;
        write!(
            f,
            "There are too many requests from this client; the next may come in {wait:?}."
        )
    }
}

impl std::error::Error for RetryAfter {}

/// All clients that are remembered.
#[derive(Debug)]
pub struct Clients {
    rules: Arc<Rules>,
    /// Chooses the shard. It and the maps have random keys of their own, so that nobody can choose addresses that collide.
    hasher: RandomState,
    shards: [Shard; SHARDS],
    overflowed: AtomicU64,
}

/// One client. Whoever holds it keeps it from being forgotten.
#[derive(Debug)]
pub struct Client {
    rules: Arc<Rules>,
    /// When the allowance is full again, in parts of a nanosecond; in the past if it is. GCRA calls it the theoretical arrival time.
    full_at: AtomicU64,
    connections: AtomicUsize,
}

/// An open connection of a client, counted until this is dropped.
#[derive(Debug)]
pub struct Connection {
    client: Arc<Client>,
}

#[derive(Debug)]
struct Rules {
    began: Instant,
    connections_max: Option<usize>,
    rate: Option<Rate>,
}

/// A rate in parts of a nanosecond. All sums saturate: when the clock has ended, everything is admitted.
#[derive(Clone, Copy, Debug)]
struct Rate {
    parts_per_ns: u64,
    /// What one request takes.
    interval: u64,
    /// How far ahead of the time the allowance may be full again, for one more request to be admitted.
    ahead_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Four(u32),
    /// The prefix alone.
    Six(u64),
}

#[derive(Debug)]
struct Shard {
    kept: Mutex<Kept>,
    room: usize,
    /// For all that find no room.
    shared: Arc<Client>,
}

#[derive(Debug, Default)]
struct Kept {
    clients: HashMap<Key, Arc<Client>>,
    /// Before this it is not searched, in nanoseconds since the beginning.
    search_at_ns: u64,
}

impl Clients {
    /// Nobody is known yet. `now` is the beginning: what comes with an earlier time comes at this one.
    pub fn new(limits: Limits, now: Instant) -> Clients {
        let rules = Arc::new(Rules::new(limits, now));
        let shards = std::array::from_fn(|index| Shard {
            kept: Mutex::default(),
            room: limits.tracked_max / SHARDS + usize::from(index < limits.tracked_max % SHARDS),
            shared: Arc::new(Client::new(&rules)),
        });
        Clients {
            rules,
            hasher: RandomState::new(),
            shards,
            overflowed: AtomicU64::new(0),
        }
    }

    /// The client with this address, which must be unmapped if it is an IPv4 address; `None` if there is no limit at all. Takes one lock.
    ///
    /// If there is no room for one more, it shares one allowance and one count of connections with others that found none: it may be
    /// refused for what they did. Who has got room by the next look-up begins afresh.
    pub fn client(&self, address: IpAddr, now: Instant) -> Option<Arc<Client>> {
        if self.rules.rate.is_none() && self.rules.connections_max.is_none() {
            return None;
        }
        let key = Key::of(address);
        // The rest is less than SHARDS.
        let shard = &self.shards[(self.hasher.hash_one(key) % SHARDS as u64) as usize];
        let mut kept = shard.lock();
        if let Some(client) = kept.clients.get(&key) {
            return Some(Arc::clone(client));
        }
        if kept.clients.len() >= shard.room {
            kept.search(&self.rules, now);
        }
        if kept.clients.len() >= shard.room {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return Some(Arc::clone(&shard.shared));
        }
        let client = Arc::new(Client::new(&self.rules));
        kept.clients.insert(key, Arc::clone(&client));
        Some(client)
    }

    /// Forgets all that need not be remembered. To be called about once in a second: look-ups do it only where there is no room.
    pub fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            shard.lock().forget(&self.rules, now);
        }
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().clients.len())
            .sum()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Look-ups so far that found no room. Only grows.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }
}

impl Client {
    fn new(rules: &Arc<Rules>) -> Client {
        Client {
            rules: Arc::clone(rules),
            full_at: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        }
    }

    /// Takes one request off the allowance, if there is one left.
    ///
    /// Over a time t never more than burst + rate × t are admitted, by however many threads, even if their times are a little apart: an
    /// earlier time is only stricter.
    ///
    /// # Errors
    ///
    /// [`RetryAfter`], if none is left. It takes nothing then.
    pub fn admit(&self, now: Instant) -> Result<(), RetryAfter> {
        let Some(rate) = &self.rules.rate else {
            return Ok(());
        };
        let now = rate.parts(self.rules.ns(now));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let early = full_at.saturating_sub(now).saturating_sub(rate.ahead_max);
            if early > 0 {
                let wait_ns = early.div_ceil(rate.parts_per_ns);
                return Err(RetryAfter(Duration::from_nanos(wait_ns)));
            }
            let next = full_at.max(now).saturating_add(rate.interval);
            match self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => full_at = seen,
            }
        }
    }

    /// Counts one more connection, if there are not as many as there may be.
    pub fn connect(self: &Arc<Self>) -> Option<Connection> {
        let max = self.rules.connections_max.unwrap_or(usize::MAX);
        self.connections
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max).then(|| count + 1)
            })
            .ok()
            .map(|_| Connection {
                client: Arc::clone(self),
            })
    }

    /// Its open connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Whose it is.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let before = self.client.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a connection was given back twice");
    }
}

impl Rules {
    fn new(limits: Limits, began: Instant) -> Rules {
        Rules {
            began,
            connections_max: (limits.connections_max > 0).then_some(limits.connections_max),
            rate: (limits.requests_per_s > 0)
                .then(|| Rate::new(limits.requests_per_s, limits.burst)),
        }
    }

    fn ns(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        since
            .as_secs()
            .saturating_mul(NS_PER_S)
            .saturating_add(since.subsec_nanos().into())
    }
}

impl Rate {
    fn new(requests_per_s: u32, burst: u32) -> Rate {
        let requests_per_s = u64::from(requests_per_s);
        // In so many parts of a nanosecond an interval is a whole number.
        let parts = requests_per_s / greatest_common_divisor(requests_per_s, NS_PER_S);
        let parts_per_ns = parts.min(PARTS_MAX);
        let interval = (NS_PER_S * parts_per_ns).div_ceil(requests_per_s);
        Rate {
            parts_per_ns,
            interval,
            // An interval is a second at most, in whatever parts: this fits.
            ahead_max: u64::from(burst.max(1) - 1) * interval,
        }
    }

    fn parts(&self, ns: u64) -> u64 {
        ns.saturating_mul(self.parts_per_ns)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        b => greatest_common_divisor(b, a % b),
    }
}

impl Key {
    fn of(address: IpAddr) -> Key {
        match address {
            IpAddr::V4(four) => Key::Four(four.to_bits()),
            IpAddr::V6(six) => {
                // No more than 64 bits are left.
                Key::Six((six.to_bits() >> (128 - IPV6_PREFIX_BITS)) as u64)
            }
        }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whatever panicked, a map of counters is as good as before.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Forgets what it can, unless it was searched a short while ago.
    fn search(&mut self, rules: &Rules, now: Instant) {
        let now_ns = rules.ns(now);
        if now_ns < self.search_at_ns {
            return;
        }
        let pause_ns = SEARCH_PAUSE_NS_PER_ENTRY.saturating_mul(self.clients.len() as u64);
        self.search_at_ns = now_ns.saturating_add(pause_ns);
        self.forget(rules, now);
    }

    fn forget(&mut self, rules: &Rules, now: Instant) {
        let now = rules.rate.map_or(0, |rate| rate.parts(rules.ns(now)));
        self.clients.retain(|_, client| {
            // Nobody else holds it if it can be had alone, and then nobody can come to hold it: that takes the lock. A connection
            // holds it, so there is none.
            Arc::get_mut(client).is_none_or(|client| *client.full_at.get_mut() > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const UNLIMITED: Limits = Limits {
        connections_max: 0,
        requests_per_s: 0,
        burst: 1,
        tracked_max: 1_600,
    };

    fn rate(requests_per_s: u32, burst: u32) -> Limits {
        Limits {
            requests_per_s,
            burst,
            ..UNLIMITED
        }
    }

    fn ns(count: u64) -> Duration {
        Duration::from_nanos(count)
    }

    fn four(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    /// One client under `limits`, and the beginning.
    fn one(limits: Limits) -> (Arc<Client>, Instant) {
        let now = Instant::now();
        let client = Clients::new(limits, now).client(four(1), now).unwrap();
        (client, now)
    }

    /// How many are admitted at once, up to 100,000.
    fn admitted(client: &Client, now: Instant) -> usize {
        (0..100_000)
            .take_while(|_| client.admit(now).is_ok())
            .count()
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let now = Instant::now();
        let clients = Clients::new(rate(1, 1), now);
        let client = |address: &str| clients.client(address.parse().unwrap(), now).unwrap();
        let [first, second] = ["192.0.2.1", "192.0.2.2"].map(client);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &client("192.0.2.1")));
        let home = client("2001:db8:0:7::1");
        assert!(Arc::ptr_eq(
            &home,
            &client("2001:db8:0:7:ffff:ffff:ffff:ffff")
        ));
        assert!(!Arc::ptr_eq(&home, &client("2001:db8:0:8::1")));
        // The same bits are not the same client.
        assert!(!Arc::ptr_eq(&client("0.0.0.1"), &client("0:0:0:1::")));
        assert_eq!(6, clients.len());
    }

    #[test]
    fn without_limits_nobody_is_remembered() {
        let now = Instant::now();
        let clients = Clients::new(UNLIMITED, now);
        assert!(clients.client(four(1), now).is_none());
        assert!(clients.is_empty());
    }

    #[test]
    fn one_limit_goes_without_the_other() {
        let (client, now) = one(rate(1, 3));
        let connections: Vec<_> = (0..1_000).map_while(|_| client.connect()).collect();
        assert_eq!(1_000, connections.len());
        assert_eq!(3, admitted(&client, now));
        let (client, now) = one(Limits {
            connections_max: 2,
            ..UNLIMITED
        });
        let connections: Vec<_> = (0..1_000).map_while(|_| client.connect()).collect();
        assert_eq!(2, connections.len());
        assert_eq!(100_000, admitted(&client, now));
    }

    #[test]
    fn the_burst_comes_at_once_and_time_brings_it_back() {
        let (client, now) = one(rate(10, 4));
        assert_eq!(4, admitted(&client, now));
        assert_eq!(Err(RetryAfter(ns(100_000_000))), client.admit(now));
        assert_eq!(0, admitted(&client, now + ns(99_999_999)));
        assert_eq!(1, admitted(&client, now + ns(100_000_000)));
        // Parts of a request are kept.
        assert_eq!(1, admitted(&client, now + ns(250_000_000)));
        assert_eq!(1, admitted(&client, now + ns(300_000_000)));
        assert_eq!(4, admitted(&client, now + Duration::from_secs(3_600)));
    }

    #[test]
    fn a_burst_of_none_is_one() {
        let (client, now) = one(rate(1, 0));
        assert_eq!(1, admitted(&client, now));
    }

    #[test]
    fn a_time_before_the_beginning_or_one_that_goes_back_brings_nothing() {
        let now = Instant::now() + Duration::from_secs(10);
        let clients = Clients::new(rate(1, 2), now);
        let earlier = now - Duration::from_secs(5);
        let client = clients.client(four(1), earlier).unwrap();
        assert_eq!(2, admitted(&client, earlier));
        assert_eq!(0, admitted(&client, now));
        assert_eq!(2, admitted(&client, now + Duration::from_secs(9)));
        assert_eq!(0, admitted(&client, now));
        assert_eq!(0, admitted(&client, now + Duration::from_secs(9)));
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds_rounded_up() {
        for (wait, expected) in [
            (ns(1), 1),
            (ns(NS_PER_S), 1),
            (ns(NS_PER_S + 1), 2),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(expected, RetryAfter(wait).whole_seconds());
        }
        assert_eq!(
            "There are too many requests from this client; the next may come in 1.5s.",
            RetryAfter(Duration::from_millis(1_500)).to_string()
        );
    }

    #[test]
    fn the_largest_numbers_and_the_end_of_the_clock_are_no_panic() {
        for (requests_per_s, burst) in [(u32::MAX, u32::MAX), (1, u32::MAX), (u32::MAX, 1)] {
            let (client, now) = one(rate(requests_per_s, burst));
            let later = now + Duration::from_secs(200 * 365 * 86_400);
            for now in [now, later, later, now, later] {
                let _ = client.admit(now);
            }
        }
    }

    #[test]
    fn connections_are_given_back_whatever_happens() {
        let (client, _) = one(Limits {
            connections_max: 2,
            ..UNLIMITED
        });
        let first = client.connect().unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _second = client.connect().unwrap();
            assert!(client.connect().is_none());
            panic!("in the middle of a connection");
        }));
        assert!(caught.is_err());
        assert_eq!(1, first.client().connections());
        assert!(client.connect().is_some());
        drop(first);
        assert_eq!(0, client.connections());
    }

    #[test]
    fn who_is_held_or_has_used_something_is_not_forgotten() {
        let now = Instant::now();
        let clients = Clients::new(rate(1, 1), now);
        let held = clients.client(four(1), now).unwrap();
        let connection = clients.client(four(2), now).unwrap().connect();
        clients.client(four(3), now).unwrap().admit(now).unwrap();
        clients.client(four(4), now).unwrap();
        clients.sweep(now);
        assert_eq!(3, clients.len());
        clients.sweep(now + ns(NS_PER_S - 1));
        assert_eq!(3, clients.len());
        let later = now + ns(NS_PER_S);
        clients.sweep(later);
        assert_eq!(2, clients.len());
        drop(connection);
        clients.sweep(later);
        assert_eq!(1, clients.len());
        assert!(Arc::ptr_eq(&held, &clients.client(four(1), later).unwrap()));
        drop(held);
        clients.sweep(later);
        assert!(clients.is_empty());
    }

    #[test]
    fn those_that_find_no_room_share_one_allowance_and_are_counted() {
        let now = Instant::now();
        let limits = Limits {
            tracked_max: 0,
            ..rate(1, 3)
        };
        let clients = Clients::new(limits, now);
        let all: Vec<_> = (0..1_000)
            .map(|number| clients.client(four(number), now).unwrap())
            .collect();
        assert_eq!(1_000, clients.overflowed());
        assert!(clients.is_empty());
        let sum: usize = all.iter().map(|client| admitted(client, now)).sum();
        assert_eq!(SHARDS * 3, sum);
    }

    #[test]
    fn a_full_shard_forgets_who_is_not_needed_but_is_not_searched_again_and_again() {
        let now = Instant::now();
        let limits = Limits {
            tracked_max: SHARDS,
            ..rate(1, 1)
        };
        let clients = Clients::new(limits, now);
        // Two for a shard that has room for one.
        let shard = |number| clients.hasher.hash_one(Key::of(four(number))) % SHARDS as u64;
        let other = (1..).find(|number| shard(*number) == shard(0)).unwrap();
        let client = |number, now| clients.client(four(number), now).unwrap();
        let held = client(0, now);
        assert!(!Arc::ptr_eq(&held, &client(other, now)));
        assert_eq!(1, clients.overflowed());
        drop(held);
        // There would be room now, but it was searched a moment ago.
        client(other, now + ns(SEARCH_PAUSE_NS_PER_ENTRY - 1));
        assert_eq!((2, 1), (clients.overflowed(), clients.len()));
        let later = now + ns(SEARCH_PAUSE_NS_PER_ENTRY);
        let own = client(other, later);
        assert!(Arc::ptr_eq(&own, &client(other, later)));
        assert_eq!((2, 1), (clients.overflowed(), clients.len()));
        own.admit(later).unwrap();
        drop(own);
        // This one has used something.
        client(0, later + ns(NS_PER_S - 1));
        assert_eq!(3, clients.overflowed());
        client(0, later + ns(NS_PER_S + SEARCH_PAUSE_NS_PER_ENTRY));
        assert_eq!((3, 1), (clients.overflowed(), clients.len()));
    }

    #[test]
    fn threads_that_ask_at_the_same_times_get_exactly_burst_and_rate_together() {
        const THREADS: usize = 4;
        let (client, now) = one(rate(3_000, 500));
        let steps = 50_u64;
        let together = Barrier::new(THREADS);
        let count = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for step in 0..=steps {
                        together.wait();
                        // A step brings 30.
                        let now = now + Duration::from_millis(10 * step);
                        count.fetch_add(admitted(&client, now) as u64, Ordering::Relaxed);
                        together.wait();
                        assert_eq!(500 + 30 * step, count.load(Ordering::Relaxed));
                    }
                });
            }
        });
    }

    #[test]
    fn threads_whose_times_differ_get_no_more_than_burst_and_rate_and_no_less_than_the_rate() {
        const THREADS: u64 = 4;
        const EACH: u64 = 50_000;
        const STEP_NS: u64 = 700;
        let (client, now) = one(rate(1_000_000, 100));
        let clock = AtomicU64::new(0);
        let count: u64 = thread::scope(|scope| {
            let running: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        (0..EACH)
                            .filter(|_| {
                                let now_ns = clock.fetch_add(STEP_NS, Ordering::Relaxed);
                                client.admit(now + ns(now_ns)).is_ok()
                            })
                            .count() as u64
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        // One in each microsecond.
        let brought = (THREADS * EACH - 1) * STEP_NS / 1_000;
        assert!((brought..=100 + brought).contains(&count), "{count}");
    }

    #[test]
    fn threads_that_connect_at_once_never_have_more_than_allowed() {
        const THREADS: usize = 4;
        let (client, _) = one(Limits {
            connections_max: 3,
            ..UNLIMITED
        });
        let together = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..5_000 {
                        let held: Vec<_> = (0..2).filter_map(|_| client.connect()).collect();
                        assert!(client.connections() <= 3);
                        // With 3 for 4 that want 2 each, somebody may get none.
                        assert!(held.len() <= 2);
                    }
                });
            }
        });
        assert_eq!(0, client.connections());
        let all: Vec<_> = (0..9).map_while(|_| client.connect()).collect();
        assert_eq!(3, all.len());
    }

    #[test]
    fn threads_that_look_up_and_sweep_at_once_lose_nothing() {
        const THREADS: usize = 4;
        const EACH: usize = 20_000;
        let now = Instant::now();
        let clients = Clients::new(rate(1, 1_000), now);
        let together = Barrier::new(THREADS);
        // The time stands: each of seven clients has its burst and no more, however often it would be forgotten.
        let count: usize = thread::scope(|scope| {
            let running: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        (0..EACH)
                            .filter(|step| {
                                if step % 50 == 0 {
                                    clients.sweep(now);
                                }
                                let client = clients.client(four((step % 7) as u32), now).unwrap();
                                client.admit(now).is_ok()
                            })
                            .count()
                    })
                })
                .collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(7 * 1_000, count);
        assert_eq!(7, clients.len());
    }

    /// The rule of a token bucket, as it is defined: in no span of time are there more requests than the burst and what the span brings
    /// at `parts` / `interval` requests in a nanosecond. `admitted` are the times of those before, in nanoseconds.
    fn is_allowed(admitted: &[u64], now_ns: u64, burst: u32, interval: u64, parts: u64) -> bool {
        let counts = (0..admitted.len()).rev().map(|index| {
            let count = (admitted.len() - index + 1) as u128;
            (count, now_ns - admitted[index])
        });
        counts.into_iter().all(|(count, span_ns)| {
            let beyond = count.saturating_sub(burst.max(1).into());
            beyond * u128::from(interval) <= u128::from(span_ns) * u128::from(parts)
        })
    }

    fn any_rate() -> impl Strategy<Value = u32> {
        prop_oneof![1..20_u32, 1..100_000_u32, 1..=10_000_000_u32, any::<u32>()]
            .prop_filter("a limit", |rate| *rate > 0)
    }

    /// Times that pass before requests, in thousandths of an interval.
    fn passes() -> impl Strategy<Value = Vec<u64>> {
        vec(prop_oneof![Just(0), 0..2_000_u64, 0..20_000_u64], 1..80)
    }

    fn scaled(passed: u64, requests_per_s: u32) -> u64 {
        passed * (NS_PER_S / 1_000) / u64::from(requests_per_s)
    }

    proptest! {
        #[test]
        fn exactly_those_are_admitted_that_the_definition_allows(
            // Those whose interval is a whole number of parts.
            factor in 1_u32..=16, power in prop::sample::select(vec![1_u32, 10, 50, 64, 1_000, 10_000, 1_000_000]),
            burst in 0..9_u32, passes in passes()
        ) {
            let requests_per_s = factor * power;
            let (client, began) = one(rate(requests_per_s, burst));
            let (mut now_ns, mut admitted) = (0, Vec::new());
            for passed in passes {
                now_ns += scaled(passed, requests_per_s);
                let expected = is_allowed(&admitted, now_ns, burst, NS_PER_S, requests_per_s.into());
                prop_assert_eq!(expected, client.admit(began + ns(now_ns)).is_ok());
                if expected {
                    admitted.push(now_ns);
                }
            }
        }

        #[test]
        fn any_rate_is_never_exceeded_and_falls_short_by_the_rounding_alone(
            requests_per_s in any_rate(), burst in 0..9_u32, passes in passes()
        ) {
            let (client, began) = one(rate(requests_per_s, burst));
            let rounded = (NS_PER_S * PARTS_MAX).div_ceil(requests_per_s.into());
            let (mut now_ns, mut admitted) = (0, Vec::new());
            for passed in passes {
                now_ns += scaled(passed, requests_per_s);
                match client.admit(began + ns(now_ns)) {
                    Ok(()) => {
                        prop_assert!(is_allowed(&admitted, now_ns, burst, NS_PER_S, requests_per_s.into()));
                        admitted.push(now_ns);
                    }
                    Err(_) => prop_assert!(!is_allowed(&admitted, now_ns, burst, rounded, PARTS_MAX)),
                }
            }
        }

        #[test]
        fn who_comes_again_after_the_wait_is_admitted_and_a_nanosecond_sooner_is_not(
            requests_per_s in any_rate(), burst in 0..9_u32, start_ns in 0..u64::from(u32::MAX), passes in passes()
        ) {
            let (client, began) = one(rate(requests_per_s, burst));
            let mut now = began + ns(start_ns);
            for passed in passes {
                now += ns(scaled(passed, requests_per_s));
                if let Err(RetryAfter(wait)) = client.admit(now) {
                    prop_assert!(client.admit(now + wait - ns(1)).is_err());
                    prop_assert!(client.admit(now + wait).is_ok());
                    now += wait;
                }
            }
        }

        #[test]
        fn who_is_forgotten_and_comes_back_is_treated_as_if_he_had_not_been(
            requests_per_s in 1..2_000_u32, burst in 1..5_u32, connections_max in 0..3_usize,
            steps in vec((0..4_u32, any::<bool>(), prop_oneof![Just(0), 0..3_000_u64], any::<Option<Index>>()), 1..120)
        ) {
            let began = Instant::now();
            let limits = Limits { connections_max, ..rate(requests_per_s, burst) };
            let [swept, whole] = [0, 1].map(|_| Clients::new(limits, began));
            let (mut now, mut held) = (began, Vec::new());
            for (number, connects, passed, closes) in steps {
                now += ns(scaled(passed, requests_per_s));
                swept.sweep(now);
                let [left, right] = [&swept, &whole].map(|clients| clients.client(four(number), now).unwrap());
                prop_assert_eq!(left.admit(now), right.admit(now));
                if connects {
                    let [left, right] = [left.connect(), right.connect()];
                    prop_assert_eq!(left.is_some(), right.is_some());
                    held.extend(left.zip(right));
                }
                if let Some(which) = closes.filter(|_| !held.is_empty()) {
                    held.swap_remove(which.index(held.len()));
                }
            }
            prop_assert!(swept.len() <= whole.len());
            now += Duration::from_secs(10);
            held.clear();
            swept.sweep(now);
            prop_assert!(swept.is_empty());
        }

        #[test]
        fn there_are_never_more_than_allowed_and_everybody_gets_a_client(
            tracked_max in 0..70_usize,
            steps in vec((any::<u8>(), any::<bool>(), 0..2_000_u64, any::<Option<Index>>()), 1..300)
        ) {
            let mut now = Instant::now();
            let clients = Clients::new(Limits { tracked_max, ..rate(1_000_000, 1) }, now);
            let mut held = Vec::new();
            for (number, holds, passed_ns, releases) in steps {
                now += ns(passed_ns);
                let client = clients.client(four(number.into()), now).unwrap();
                let _ = client.admit(now);
                if holds {
                    held.push(client);
                }
                if let Some(which) = releases.filter(|_| !held.is_empty()) {
                    held.swap_remove(which.index(held.len()));
                }
                prop_assert!(clients.len() <= tracked_max);
            }
            held.clear();
            clients.sweep(now + Duration::from_secs(1));
            prop_assert!(clients.is_empty());
        }

        #[test]
        fn guards_give_back_what_they_took(connections_max in 0..5_usize, steps in vec(any::<Option<Index>>(), 1..100)) {
            let (client, _) = one(Limits { connections_max, ..rate(1, 1) });
            let mut held = Vec::new();
            for step in steps {
                match step {
                    Some(which) if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                    _ => {
                        let connection = client.connect();
                        prop_assert_eq!(connections_max == 0 || held.len() < connections_max, connection.is_some());
                        held.extend(connection);
                    }
                }
                prop_assert_eq!(held.len(), client.connections());
            }
        }
    }
}
