//! The time of one worker: coarse, read without asking the kernel, and one sweep for all deadlines.
//!
//! A timer of the run-time for every read and write would cost more than the read. Here setting a deadline is the store of a number; a
//! worker looks through all of them forty times a second. So a deadline is kept to a few hundredths of a second: late by one
//! [`TICK`] at most, and never early.

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::Pin;
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

/// One place for a deadline; for as many waits as there are, but one at a time. Costs nothing until there is something to wait for.
#[derive(Debug)]
pub struct Alarm {
    clock: Rc<Clock>,
    place: OnceCell<(Rc<Slot>, usize)>,
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
        Alarm {
            clock: Rc::clone(self),
            place: OnceCell::new(),
        }
    }

    /// Wakes everybody who waits with a deadline, whether it has come or not: something else has changed that they may wait for.
    pub fn wake_all(&self) {
        for (_, slot) in &*self.alarms.borrow() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
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
    /// Waits for `future`, but not beyond `due`: then there is an error. What is ready in the same moment wins.
    pub fn until<F: Future>(&self, due: Moment, future: F) -> Until<'_, F> {
        Until {
            alarm: self,
            due,
            future,
        }
    }

    /// Waits for `future`, but not for longer than `limit`.
    pub fn within<F: Future>(&self, limit: Duration, future: F) -> Until<'_, F> {
        self.until(self.clock.after(limit), future)
    }

    /// Ready once `due` has come; asks to be woken then.
    pub fn poll_due(&self, due: Moment, context: &mut Context<'_>) -> Poll<Elapsed> {
        if self.clock.now() >= due {
            return Poll::Ready(Elapsed);
        }
        let (slot, _) = self.place.get_or_init(|| {
            let slot = Rc::new(Slot {
                due: Cell::new(NEVER),
                waker: RefCell::new(None),
            });
            let key = self.clock.alarms.borrow_mut().insert(Rc::clone(&slot));
            (slot, key)
        });
        slot.due.set(due);
        let mut waker = slot.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn clear(&self) {
        if let Some((slot, _)) = self.place.get() {
            slot.due.set(NEVER);
        }
    }
}

pin_project_lite::pin_project! {
    /// A wait that ends at a moment. Not an `async fn`: that would hold what it waits for twice, in as many places as it is used.
    #[derive(Debug)]
    #[must_use]
    pub struct Until<'a, F> {
        alarm: &'a Alarm,
        due: Moment,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Until<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(context) {
            Poll::Ready(done) => {
                this.alarm.clear();
                Poll::Ready(Ok(done))
            }
            Poll::Pending => this.alarm.poll_due(*this.due, context).map(Err),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((_, key)) = self.place.get() {
            self.clock.alarms.borrow_mut().remove(*key);
        }
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
        let alarms = [clock.alarm(), clock.alarm()];
        let mut context = Context::from_waker(Waker::noop());
        assert!(alarms[0].poll_due(1000, &mut context).is_pending());
        assert_eq!(1, clock.alarms.borrow().len());
        drop(alarms);
        assert!(clock.alarms.borrow().is_empty());
    }
}
