//! A backend: what the balancer sends to, with its count of requests in flight, its standing and its part in the work.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::ejection::Outcomes;
use crate::health::State;
use crate::lease::InFlight;
use crate::metrics::OfBackend;
use crate::offer::{Offer, OfferCell, Rank};
use crate::queue::Queue;

/// Which of the latest answers weigh in the mean time to an answer: about so many.
const LATENCY_SAMPLES: u32 = 16;

/// Who a backend is: what makes it another one, if it changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// A label in metrics and logs, and what an operator calls it.
    pub name: String,
    /// The name that its certificate must hold.
    pub tls_name: String,
    /// Where it is looked up.
    pub host: String,
    /// The port that it listens on.
    pub port: u16,
    /// Its address, where that makes it: one of several of its host.
    pub address: Option<IpAddr>,
}

/// One backend for as long as it is a member: its address may change, its place and its counters do not.
#[derive(Debug)]
pub struct Backend {
    // What a choice reads comes first.
    in_flight: InFlight,
    echoes: AtomicUsize,
    offer: OfferCell,
    requests_max: AtomicUsize,
    queue: Arc<Queue>,
    place: usize,
    id: u64,
    member: Member,
    header_value: HeaderValue,
    standing: ArcSwap<Standing>,
    address: ArcSwapOption<SocketAddr>,
    look_again: Notify,
    outcomes: Outcomes,
    /// Mean time to an answer that is no error, in microseconds; 0 before the first.
    latency_us: AtomicU32,
    /// Counts how often it was found dead.
    deaths: AtomicU32,
    /// Its counters.
    pub metrics: OfBackend,
    ends: watch::Sender<bool>,
}

/// What is known about a backend's health.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What the checks say.
    pub state: State,
    /// What the last look found, for people.
    pub reason: String,
    /// Since when it has been in this state.
    pub since: SystemTime,
}

impl Backend {
    /// A backend that is out of rotation until somebody lets it offer something. `place` is one that no other backend has at the same
    /// time, and `id` one that none ever has.
    pub fn new(
        place: usize,
        id: u64,
        member: Member,
        queue: &Arc<Queue>,
        metrics: OfBackend,
    ) -> Backend {
        Backend {
            in_flight: InFlight::default(),
            echoes: AtomicUsize::new(0),
            offer: OfferCell::default(),
            requests_max: AtomicUsize::new(usize::MAX),
            queue: Arc::clone(queue),
            place,
            id,
            // The configuration takes host names only, to which an address may be added.
            header_value: HeaderValue::from_str(&member.name)
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            member,
            standing: ArcSwap::from_pointee(Standing {
                state: State::Starting,
                reason: "not looked at yet".to_owned(),
                since: SystemTime::now(),
            }),
            address: ArcSwapOption::empty(),
            look_again: Notify::new(),
            outcomes: Outcomes::default(),
            latency_us: AtomicU32::new(0),
            deaths: AtomicU32::new(0),
            metrics,
            ends: watch::Sender::new(false),
        }
    }

    /// One that offers as much as any other, without a queue, and whose counters nobody reads: for tests and simulations.
    pub fn alone(name: &str) -> Backend {
        Backend::before(&Queue::new(0), name)
    }

    /// The same, before this queue.
    pub fn before(queue: &Arc<Queue>, name: &str) -> Backend {
        let member = Member {
            name: name.to_owned(),
            tls_name: name.to_owned(),
            host: name.to_owned(),
            port: 8443,
            address: None,
        };
        let backend = Backend::new(0, 0, member, queue, OfBackend::unread());
        backend.offers(Some(Offer {
            rank: Rank::Active,
            share: 1,
        }));
        backend
    }

    /// A number that no other backend has at the same time, and that is small.
    pub fn place(&self) -> usize {
        self.place
    }

    /// A number that no other backend ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who it is.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Its name: a label in metrics and logs.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// The same as the value of a field.
    pub fn header_value(&self) -> &HeaderValue {
        &self.header_value
    }

    /// Its requests in flight.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// How many requests it is given at one time.
    pub fn requests_max(&self) -> usize {
        self.requests_max.load(Ordering::Relaxed)
    }

    /// Changes how many it is given.
    pub fn takes(&self, requests_max: usize) {
        self.requests_max.store(requests_max, Ordering::Relaxed);
    }

    /// Who waits for it, among others.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Its part in the work; none while it is out of rotation.
    pub fn offer(&self) -> Option<Offer> {
        self.offer.get()
    }

    /// Its part among those of this rank, if it is one of them.
    #[inline]
    pub fn share(&self, rank: Rank) -> Option<u32> {
        self.offer.share(rank)
    }

    /// Changes its part.
    pub fn offers(&self, offer: Option<Offer>) {
        self.offer.set(offer);
    }

    /// How many errors of it still count as if they were requests in flight.
    pub fn echoes(&self) -> usize {
        self.echoes.load(Ordering::Relaxed)
    }

    /// Lets an error count like a request in flight, until this is dropped.
    pub fn echo(self: &Arc<Backend>) -> Echo {
        self.echoes.fetch_add(1, Ordering::Relaxed);
        Echo(Arc::clone(self))
    }

    /// How its answers were.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Mean time to an answer that is no error; none before the first.
    pub fn latency(&self) -> Option<Duration> {
        match self.latency_us.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us.into())),
        }
    }

    /// Takes the time of an answer in. Where two threads do at once, one of the times is lost, which a mean can bear.
    pub fn answered_after(&self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let mean = self.latency_us.load(Ordering::Relaxed);
        let next = match mean {
            0 => took,
            mean if took >= mean => mean + (took - mean).div_ceil(LATENCY_SAMPLES),
            mean => mean - (mean - took) / LATENCY_SAMPLES,
        };
        if next != mean {
            self.latency_us.store(next, Ordering::Relaxed);
        }
    }

    /// What is known about its health.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// Keeps what a check found; the time is kept while the state stays the same.
    pub fn stands(&self, state: State, reason: String) {
        let before = self.standing.load();
        let since = if before.state == state {
            before.since
        } else {
            SystemTime::now()
        };
        if state == State::Down && before.state != State::Down {
            self.deaths.fetch_add(1, Ordering::Release);
        }
        self.standing.store(Arc::new(Standing {
            state,
            reason,
            since,
        }));
    }

    /// How often it was found dead so far. What was begun before the last time will hardly be answered.
    pub fn deaths(&self) -> u32 {
        self.deaths.load(Ordering::Acquire)
    }

    /// The address it had when it was last looked up.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// Remembers where it is; true if that is new.
    pub fn moved_to(&self, address: SocketAddr) -> bool {
        if self.address() == Some(address) {
            return false;
        }
        self.address.store(Some(Arc::new(address)));
        true
    }

    /// Asks for a check now, because a request has just met a fault there, or because somebody has plans for it.
    pub fn look_again(&self) {
        self.look_again.notify_one();
    }

    /// Waits until somebody asks for a check.
    pub async fn asked_to_look_again(&self) {
        self.look_again.notified().await;
    }

    /// Ends what may last for ever, or lets it begin again.
    pub fn ends(&self, ends: bool) {
        self.ends
            .send_if_modified(|is| std::mem::replace(is, ends) != ends);
    }

    /// Follows whether what may last for ever is to end.
    pub fn end(&self) -> watch::Receiver<bool> {
        self.ends.subscribe()
    }
}

/// An error that counts like a request in flight, until this is dropped: so long, that a backend which fails at once is not the one with the
/// fewest.
#[derive(Debug)]
pub struct Echo(Arc<Backend>);

impl Drop for Echo {
    fn drop(&mut self) {
        self.0.echoes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_state_is_when_it_began() {
        let backend = Backend::alone("web-1");
        backend.stands(State::Down, "refused".to_owned());
        let began = backend.standing().since;
        backend.stands(State::Down, "timed out".to_owned());
        assert_eq!(began, backend.standing().since);
        assert_eq!("timed out", backend.standing().reason);
        assert_eq!(1, backend.deaths());
    }

    #[test]
    fn the_mean_time_follows_the_answers() {
        let backend = Backend::alone("web-1");
        assert_eq!(None, backend.latency());
        backend.answered_after(Duration::from_millis(10));
        assert_eq!(Some(Duration::from_millis(10)), backend.latency());
        for _ in 0..200 {
            backend.answered_after(Duration::from_millis(2));
        }
        let latency = backend.latency().unwrap();
        assert!(latency < Duration::from_micros(2100), "{latency:?}");
        for _ in 0..200 {
            backend.answered_after(Duration::from_millis(4));
        }
        let latency = backend.latency().unwrap();
        assert!(latency > Duration::from_micros(3900), "{latency:?}");
    }
}
