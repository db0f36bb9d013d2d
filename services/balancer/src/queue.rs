//! The queue: requests that wait because every backend has as many in flight as it takes.
//!
//! First come, first served; who leaves is taken out. One that may not go everywhere, because it was tried somewhere already, keeps nobody
//! behind it from where it may not go. The queue is empty nearly always, and then costs one look at a number. Whoever gives a lease back
//! calls the next one, by [`Queue::advance`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::lease::Lease;
use crate::least_connections::{Choice, LeastConnections};

/// Who waits, in the order in which they came.
#[derive(Debug)]
pub struct Queue {
    max: usize,
    waiting: AtomicUsize,
    line: Mutex<Line>,
    chooser: OnceLock<Weak<LeastConnections>>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    /// How many of them were tried somewhere.
    tried: usize,
}

#[derive(Debug)]
struct Waiter {
    tried: Vec<Arc<Backend>>,
    /// Takes a lease, or none where nobody is left who could be asked.
    call: oneshot::Sender<Option<Lease>>,
}

/// Who is called, and with what.
type Called = (oneshot::Sender<Option<Lease>>, Option<Lease>);

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    number: u64,
    called: oneshot::Receiver<Option<Lease>>,
}

impl Queue {
    /// For at most so many.
    pub fn new(max: usize) -> Arc<Queue> {
        Arc::new(Queue {
            max,
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
            chooser: OnceLock::new(),
        })
    }

    /// Says whom leases are asked of.
    pub fn asks(&self, chooser: &Arc<LeastConnections>) {
        // Said once, by whoever makes both.
        let _ = self.chooser.set(Arc::downgrade(chooser));
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// A place behind all others, for a request that was tried on these backends; none if the queue is full.
    pub fn join(self: &Arc<Queue>, tried: &[Arc<Backend>]) -> Option<Place> {
        let place = {
            let mut line = self.line();
            if line.waiters.len() >= self.max {
                return None;
            }
            let (call, called) = oneshot::channel();
            let number = line.next;
            line.next += 1;
            let tried = tried.to_vec();
            line.insert(number, Waiter { tried, call });
            self.waiting.store(line.waiters.len(), Ordering::SeqCst);
            Place {
                queue: Arc::clone(self),
                number,
                called,
            }
        };
        // A lease that was given back in the meantime has called nobody: either its count is seen here, or we were seen there.
        fence(Ordering::SeqCst);
        self.advance();
        Some(place)
    }

    /// Gives leases to those in front who can use them, as many as there are.
    pub fn advance(&self) {
        while self.waiting() > 0 {
            let Some(chooser) = self.chooser.get().and_then(Weak::upgrade) else {
                return;
            };
            let (call, lease) = {
                let mut line = self.line();
                let Some(called) = line.call(&chooser) else {
                    return;
                };
                self.waiting.store(line.waiters.len(), Ordering::SeqCst);
                called
            };
            // Outside of the lock: a lease for somebody who has just left goes on to the next.
            drop(call.send(lease));
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn insert(&mut self, number: u64, waiter: Waiter) {
        self.tried += usize::from(!waiter.tried.is_empty());
        self.waiters.insert(number, waiter);
    }

    fn remove(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&number)?;
        self.tried -= usize::from(!waiter.tried.is_empty());
        Some(waiter)
    }

    /// The first of whom it is known what becomes of it: there is a lease for it, or will never be one.
    fn call(&mut self, chooser: &LeastConnections) -> Option<Called> {
        let (mut is_full, mut called) = (false, None);
        for (number, waiter) in &self.waiters {
            let was_tried = !waiter.tried.is_empty();
            if is_full && !was_tried {
                continue;
            }
            match chooser.choose(&waiter.tried) {
                Choice::Lease(lease) => called = Some((*number, Some(lease))),
                Choice::Nobody => called = Some((*number, None)),
                Choice::Full if was_tried => continue,
                Choice::Full if self.tried > 0 => {
                    is_full = true;
                    continue;
                }
                Choice::Full => {}
            }
            break;
        }
        let (number, lease) = called?;
        Some((self.remove(number)?.call, lease))
    }
}

impl Place {
    /// Waits for a lease; none where nobody is left who could be asked.
    pub async fn called(&mut self) -> Option<Lease> {
        (&mut self.called).await.ok().flatten()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left of it is dropped outside of the lock.
        let left = {
            let mut line = self.queue.line();
            let left = line.remove(self.number);
            self.queue
                .waiting
                .store(line.waiters.len(), Ordering::SeqCst);
            left
        };
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::offer::{Offer, Rank};

    fn one_at_a_time(queue: &Arc<Queue>) -> (Arc<Backend>, Arc<LeastConnections>) {
        let backend = Arc::new(Backend::before(queue, "web-1"));
        backend.takes(1);
        let chooser = Arc::new(LeastConnections::new(vec![Arc::clone(&backend)], 0));
        queue.asks(&chooser);
        (backend, chooser)
    }

    fn lease(place: &mut Place) -> Option<Option<Lease>> {
        place.called().now_or_never()
    }

    #[test]
    fn who_waits_is_called_in_turn_as_leases_are_given_back() {
        let queue = Queue::new(10);
        let (backend, chooser) = one_at_a_time(&queue);
        let held = chooser.choose(&[]).lease().unwrap();
        let mut places: Vec<Place> = (0..3).map(|_| queue.join(&[]).unwrap()).collect();
        assert!(lease(&mut places[0]).is_none());
        drop(held);
        assert_eq!(2, queue.waiting());
        assert!(lease(&mut places[1]).is_none());
        let first = lease(&mut places[0]).unwrap().unwrap();
        assert_eq!(1, backend.in_flight().count());
        drop(first);
        assert!(lease(&mut places[2]).is_none());
        drop(lease(&mut places[1]).unwrap().unwrap());
        drop(lease(&mut places[2]).unwrap().unwrap());
        assert_eq!((0, 0), (queue.waiting(), backend.in_flight().count()));
    }

    #[test]
    fn who_leaves_is_out_of_it_and_a_lease_that_was_on_its_way_goes_on() {
        let queue = Queue::new(10);
        let (backend, chooser) = one_at_a_time(&queue);
        let held = chooser.choose(&[]).lease().unwrap();
        let mut places: Vec<Place> = (0..3).map(|_| queue.join(&[]).unwrap()).collect();
        places.remove(0);
        assert_eq!(2, queue.waiting());
        drop(held);
        // The one that is first now has its lease, and leaves without having seen it.
        places.remove(0);
        drop(lease(&mut places[0]).unwrap().unwrap());
        assert_eq!((0, 0), (queue.waiting(), backend.in_flight().count()));
    }

    #[test]
    fn a_full_queue_takes_nobody_and_one_without_backends_keeps_nobody() {
        let queue = Queue::new(1);
        let (backend, chooser) = one_at_a_time(&queue);
        let _held = chooser.choose(&[]).lease().unwrap();
        let mut place = queue.join(&[]).unwrap();
        assert!(queue.join(&[]).is_none());
        backend.offers(None);
        queue.advance();
        assert!(lease(&mut place).unwrap().is_none());
    }

    #[test]
    fn who_may_not_go_everywhere_keeps_nobody_from_where_it_may_not_go() {
        let queue = Queue::new(10);
        let backends = ["web-1", "web-2"].map(|name| {
            let backend = Arc::new(Backend::before(&queue, name));
            backend.takes(1);
            backend
        });
        let chooser = Arc::new(LeastConnections::new(backends.to_vec(), 0));
        queue.asks(&chooser);
        let mut held = Vec::from([(), ()].map(|()| chooser.choose(&[]).lease()));
        let [one, two] = &backends;
        // Each was tried on another backend, and one of them on all.
        let mut places: Vec<Place> = [&[][..], &[one], &[two], &[one, two]]
            .map(|tried: &[&Arc<Backend>]| {
                let tried: Vec<_> = tried.iter().map(|one| Arc::clone(one)).collect();
                queue.join(&tried).unwrap()
            })
            .into();
        assert!(lease(&mut places[3]).unwrap().is_none());
        assert_eq!(3, queue.waiting());
        held.retain(|lease| lease.as_ref().unwrap().backend().name() == "web-1");
        // What web-2 has given back is for who came first.
        let first = lease(&mut places[0]).unwrap();
        let name = |lease: &Option<Lease>| lease.as_ref().unwrap().backend().name().to_owned();
        assert_eq!("web-2", name(&first));
        drop(held);
        assert!(lease(&mut places[1]).is_none());
        let third = lease(&mut places[2]).unwrap();
        assert_eq!("web-1", name(&third));
        drop(first);
        assert_eq!("web-2", name(&lease(&mut places[1]).unwrap()));
        assert_eq!(0, queue.waiting());
    }

    #[test]
    fn a_backend_that_comes_serves_who_waits() {
        let queue = Queue::new(10);
        let (_, chooser) = one_at_a_time(&queue);
        let _held = chooser.choose(&[]).lease().unwrap();
        let mut place = queue.join(&[]).unwrap();
        let mut more = chooser.backends().to_vec();
        let new = Arc::new(Backend::before(&queue, "web-2"));
        new.offers(Some(Offer {
            rank: Rank::Active,
            share: 1,
        }));
        more.push(new);
        chooser.replace(more);
        queue.advance();
        let lease = lease(&mut place).unwrap().unwrap();
        assert_eq!("web-2", lease.backend().name());
    }

    #[test]
    fn threads_that_come_and_go_lose_no_place_and_no_lease() {
        let queue = Queue::new(1000);
        let (backend, chooser) = one_at_a_time(&queue);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (queue, chooser) = (&queue, &chooser);
                scope.spawn(move || {
                    let run_time = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .unwrap();
                    for round in 0..500 {
                        let chosen = chooser.choose(&[]).lease();
                        let lease = match chosen.filter(|_| queue.waiting() == 0) {
                            Some(lease) => Some(lease),
                            None => {
                                let mut place = queue.join(&[]).unwrap();
                                match (round + thread) % 7 {
                                    0 => None,
                                    _ => run_time.block_on(place.called()),
                                }
                            }
                        };
                        drop(lease);
                    }
                });
            }
        });
        assert_eq!((0, 0), (queue.waiting(), backend.in_flight().count()));
    }
}
