//! The time of one worker: coarse, read without asking the kernel, and one sweep for all deadlines.
//!
//! A timer of the run-time for every read and write would cost more than the read. Here setting a deadline is the store of a number; a
//! worker looks through all of them forty times a second. So a deadline is kept to a few hundredths of a second: late by one
//! [`TICK`] at most, and never early.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

/// How often deadlines are looked through.
pub const TICK: Duration = Duration::from_millis(25);

/// A moment, in milliseconds since the clock was made.
pub type Moment = u64;

/// A moment that never comes.
pub const NEVER: Moment = Moment::MAX;

/// The clock of one worker.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    now: Cell<Moment>,
    alarms: RefCell<Slab<Rc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    due: Cell<Moment>,
    waker: RefCell<Option<Waker>>,
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// One place for a deadline; for as many waits as there are, but one at a time.
#[derive(Debug)]
pub struct Alarm {
    clock: Rc<Clock>,
    slot: Rc<Slot>,
    key: usize,
}

impl Clock {
    /// Starts at 0. Somebody must call [`Clock::tick`].
    pub fn new() -> Rc<Clock> {
        Rc::new(Clock {
            began: Instant::now(),
            now: Cell::new(0),
            alarms: RefCell::default(),
        })
    }

    /// When the last tick was.
    pub fn now(&self) -> Moment {
        self.now.get()
    }

    /// The moment after which at least `limit` has passed from now on.
    pub fn after(&self, limit: Duration) -> Moment {
        let limit = Moment::try_from((limit + TICK).as_millis()).unwrap_or(NEVER);
        self.now().saturating_add(limit)
    }

    /// A new place for a deadline.
    pub fn alarm(self: &Rc<Clock>) -> Alarm {
        let slot = Rc::new(Slot {
            due: Cell::new(NEVER),
            waker: RefCell::new(None),
        });
        Alarm {
            key: self.alarms.borrow_mut().insert(Rc::clone(&slot)),
            clock: Rc::clone(self),
            slot,
        }
    }

    /// Reads the time, and wakes whoever's deadline has come.
    pub fn tick(&self) {
        let now = Moment::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER - 1);
        self.now.set(now);
        for (_, slot) in &*self.alarms.borrow() {
            if slot.due.get() <= now {
                slot.due.set(NEVER);
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

impl Alarm {
    /// The clock.
    pub fn clock(&self) -> &Rc<Clock> {
        &self.clock
    }

    /// Waits for `future`, but not beyond `due`. What is ready in the same moment wins.
    ///
    /// # Errors
    /// When the moment has come.
    pub async fn until<T>(
        &self,
        due: Moment,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(done) => {
                self.slot.due.set(NEVER);
                Poll::Ready(Ok(done))
            }
            Poll::Pending => self.poll_due(due, context).map(Err),
        })
        .await
    }

    /// Waits for `future`, but not for longer than `limit`.
    ///
    /// # Errors
    /// When that has passed.
    pub async fn within<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        self.until(self.clock.after(limit), future).await
    }

    /// Ready once `due` has come; asks to be woken then.
    pub fn poll_due(&self, due: Moment, context: &mut Context<'_>) -> Poll<Elapsed> {
        if self.clock.now() >= due {
            return Poll::Ready(Elapsed);
        }
        self.slot.due.set(due);
        let mut waker = self.slot.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clock.alarms.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_ready_needs_no_time_and_what_is_not_gets_its_time_and_no_more() {
        let clock = Clock::new();
        let alarm = clock.alarm();
        assert_eq!(Ok(7), alarm.until(0, ready(7)).await);
        let began = Instant::now();
        let limit = Duration::from_millis(60);
        let ticking = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                clock.tick();
            }
        };
        tokio::select! {
            late = alarm.within(limit, pending::<()>()) => assert_eq!(Err(Elapsed), late),
            () = ticking => {}
        }
        assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    }

    #[test]
    fn an_alarm_that_is_dropped_leaves_nothing() {
        let clock = Clock::new();
        drop([clock.alarm(), clock.alarm()]);
        assert!(clock.alarms.borrow().is_empty());
    }
}
