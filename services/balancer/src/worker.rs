//! A worker: one thread with a run-time of its own, on which whole connections live.
//!
//! Nothing that a request needs is shared with another worker but atomic counters: each has its pool of connections to backends, its
//! clock, its part of the access log. So there is no lock on a request's way, and no work moves between threads. A connection is given
//! to the worker that has the fewest ([`Workers::fewest`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use crate::accept::{Accepted, serve};
use crate::access_log::Lines;
use crate::backend::{Backend, Echo};
use crate::backend_connection::BackendConnection;
use crate::clock::{Clock, Moment, TICK};
use crate::edge::Edge;
use crate::http1::ResponseHead;
use crate::names::LastFound;
use crate::pool::Pool;

/// A buffer that has grown beyond this is not kept.
const BUFFER_BYTES_MAX: usize = 131_072;
/// Buffers that are kept for the next who needs one.
const BUFFERS_MAX: usize = 64;
/// Errors of backends that count at one time. Further ones do not, by when the backend has been ejected long since.
pub const ECHOES_MAX: usize = 4096;
/// How long an error counts at most.
pub const ECHO_MAX: Duration = Duration::from_secs(1);
/// Ticks between two sweeps of the pool.
const SWEEP_TICKS: u32 = 40;

/// How far the balancer's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    Serving,
    /// Clients are told to go; what has begun is finished.
    Stopping,
    /// What still runs is told to end now.
    Ending,
    /// Everything is dropped.
    Over,
}

/// What everything on one thread shares.
#[derive(Debug)]
pub struct Worker {
    /// The balancer.
    pub edge: Arc<Edge>,
    /// The time.
    pub clock: Rc<Clock>,
    /// Idle connections to backends.
    pub pool: Pool,
    /// Lines of the access log.
    pub log: Lines,
    /// How far the end has come.
    pub phase: watch::Receiver<Phase>,
    /// The same moment by both clocks.
    wall: Cell<(Instant, SystemTime)>,
    buffers: RefCell<Vec<Vec<u8>>>,
    answer_room: RefCell<Vec<ResponseHead>>,
    last_host: RefCell<LastFound>,
    /// Errors that still count, and until when; bounded by [`ECHOES_MAX`].
    echoes: RefCell<VecDeque<(Moment, Echo)>>,
    /// How often backends were found dead, and how many are well, at the last tick.
    deaths_and_well: Cell<(u32, usize)>,
}

impl Worker {
    /// For one thread.
    pub fn new(edge: &Arc<Edge>, phase: watch::Receiver<Phase>) -> Rc<Worker> {
        Rc::new(Worker {
            clock: Clock::new(),
            pool: Pool::new(edge.config.backend.idle_connections_max),
            log: Lines::new(Arc::clone(&edge.access_log)),
            phase,
            wall: Cell::new((Instant::now(), SystemTime::now())),
            buffers: RefCell::default(),
            answer_room: RefCell::default(),
            last_host: RefCell::default(),
            echoes: RefCell::default(),
            deaths_and_well: Cell::default(),
            edge: Arc::clone(edge),
        })
    }

    /// The time of day at a moment. The wall's clock is read with every tick only.
    pub fn wall(&self, at: Instant) -> SystemTime {
        let (then, wall) = self.wall.get();
        wall + at.saturating_duration_since(then)
    }

    /// Whether a request for this authority has come to the right place.
    pub fn is_ours(&self, authority: &[u8]) -> bool {
        let names = self.edge.names.load();
        self.last_host.borrow_mut().is_among(authority, &names)
    }

    /// An empty buffer.
    pub fn buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn buffer_back(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffer.capacity() <= BUFFER_BYTES_MAX && buffers.len() < BUFFERS_MAX {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// The head of an answer that is done with, for its room.
    pub fn answer_room(&self) -> Option<ResponseHead> {
        self.answer_room.borrow_mut().pop()
    }

    /// Gives such a head back.
    pub fn answer_room_back(&self, head: ResponseHead) {
        let mut room = self.answer_room.borrow_mut();
        if room.len() < BUFFERS_MAX {
            room.push(head.emptied());
        }
    }

    /// Keeps a connection for the next request to this backend.
    pub fn give_back(&self, backend: &Backend, connection: BackendConnection) {
        connection.idle_since.set(self.clock.now());
        self.pool.give(backend, connection);
    }

    /// A backend has answered with an error or not at all, after so long. It counts as if it were still in flight for as long as a good
    /// answer would have taken, so that who fails at once is not the one with the fewest.
    pub fn erred(&self, backend: &Arc<Backend>, took: Duration) {
        backend.metrics.errors.inc();
        let roster = &self.edge.roster;
        roster.failed(backend.outcomes().bad());
        let left = roster.typical().min(ECHO_MAX).saturating_sub(took);
        let mut echoes = self.echoes.borrow_mut();
        if !left.is_zero() && echoes.len() < ECHOES_MAX {
            echoes.push_back((self.clock.after(left), backend.echo()));
        }
    }

    /// Lets errors be forgotten, and wakes who waits for an answer of a backend that was found dead, also when somebody else is well later.
    fn look_at_backends(&self) {
        let now = self.clock.now();
        let mut echoes = self.echoes.borrow_mut();
        while echoes.front().is_some_and(|(due, _)| *due <= now) {
            echoes.pop_front();
        }
        let backends = self.edge.roster.chooser().backends();
        let deaths = backends.iter().map(|backend| backend.deaths()).sum();
        let offers = backends.iter().filter_map(|backend| backend.offer());
        let well = offers.filter(|offer| !offer.rank.is_last_resort()).count();
        if self.deaths_and_well.replace((deaths, well)) != (deaths, well) {
            self.clock.wake_all();
        }
    }

    fn tick(&self, count: u32) {
        self.wall.set((Instant::now(), SystemTime::now()));
        self.clock.tick();
        self.look_at_backends();
        self.log.flush();
        if count.is_multiple_of(SWEEP_TICKS) {
            let idle_ms = self.edge.config.backend.idle_s * 1000;
            self.pool.sweep(self.clock.now().saturating_sub(idle_ms));
        }
    }
}

/// All workers, for whoever accepts connections.
#[derive(Debug)]
pub struct Workers {
    each: Vec<One>,
    phase: watch::Sender<Phase>,
}

#[derive(Debug)]
struct One {
    queue: mpsc::UnboundedSender<(Accepted, Counted)>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts so many.
    ///
    /// # Errors
    /// When a thread or its run-time cannot be made.
    pub fn start(edge: &Arc<Edge>, count: usize) -> io::Result<Workers> {
        let (phase, watched) = watch::channel(Phase::Serving);
        let each = (0..count)
            .map(|index| One::start(edge, index, watched.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Workers { each, phase })
    }

    /// Gives a connection to the worker that has the fewest.
    pub fn take(&self, accepted: Accepted) {
        let count = |one: &&One| one.connections.load(Ordering::Relaxed);
        if let Some(one) = self.each.iter().min_by_key(count) {
            let counted = Counted::new(&one.connections);
            // A worker that is gone takes no connection: it is closed.
            let _ = one.queue.send((accepted, counted));
        }
    }

    /// Tells all of them how far the end has come.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Follows the phases.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Ends them: whatever they still have is dropped, and logged as such.
    pub fn end(self) {
        self.enter(Phase::Over);
        for one in self.each {
            // A worker that has panicked outside of a connection has nothing left to tell.
            let _ = one.thread.join();
        }
    }
}

impl One {
    fn start(edge: &Arc<Edge>, index: usize, phase: watch::Receiver<Phase>) -> io::Result<One> {
        let (queue, accepted) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let edge = Arc::clone(edge);
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let run_time = Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default());
                match run_time {
                    Ok(run_time) => {
                        let worker = Worker::new(&edge, phase);
                        run_time.block_on(work(&worker, accepted));
                        // Connections end here, and write their last lines.
                        drop(run_time);
                        worker.log.flush();
                    }
                    Err(error) => tracing::error!(%error, "a worker could not start"),
                }
            })?;
        Ok(One {
            queue,
            connections,
            thread,
        })
    }
}

/// A connection on a worker's count, from when it is given to the worker until it is over.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(connections: &Arc<AtomicUsize>) -> Counted {
        connections.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(worker: &Rc<Worker>, mut accepted: mpsc::UnboundedReceiver<(Accepted, Counted)>) {
    let mut phase = worker.phase.clone();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                worker.tick(count);
            }
            Some((connection, counted)) = accepted.recv() => {
                let worker = Rc::clone(worker);
                spawn_local(async move {
                    serve(&worker, connection).await;
                    drop(counted);
                });
            }
            _ = phase.wait_for(|phase| *phase == Phase::Over) => return,
        }
    }
}
