//! Clients that write all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Client, Habit, Write};
use crate::history::{Attempt, History, Outcome};
use crate::sight::View;

/// So many clients.
pub(crate) const WRITERS: usize = 32;

/// After a refusal or a failed login a client pauses, longer each time, up to the second of these.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(320)];

/// Between two transactions of a heavy client.
const HEAVY_PAUSE: Duration = Duration::from_millis(500);

/// Between two writes of any other. Together they ask for some 900 a second: more than a replica takes in that waits for its disk at each
/// event, and not so many that the test shows nothing but a machine without time.
const PAUSE: Duration = Duration::from_millis(30);

/// The clients, until it is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    /// Each attempt holds it for reading.
    gate: Arc<RwLock<()>>,
    round: Arc<AtomicU32>,
    _writers: JoinSet<()>,
}

/// As long as it lives nobody writes.
#[derive(Debug)]
pub struct Pause {
    _gate: OwnedRwLockWriteGuard<()>,
}

/// Who is who: most are simple.
pub(crate) fn habit(writer: usize) -> Habit {
    match writer {
        0 | 1 => Habit::Stubborn(writer),
        2 | 3 => Habit::Heavy,
        4..8 => Habit::Holding,
        _ => Habit::Simple,
    }
}

impl Load {
    pub(crate) fn begin(
        options: &[MySqlConnectOptions; 2],
        view: &watch::Receiver<View>,
        history: &Arc<History>,
    ) -> Load {
        let gate = Arc::new(RwLock::new(()));
        let round = Arc::new(AtomicU32::new(0));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let task = Writer {
                number: writer,
                habit: habit(writer),
                // Some give up before the arbiter can have done anything, some wait for it.
                patience: Duration::from_millis(1000 + 250 * (writer as u64 % 13)),
                options: options.clone(),
                view: view.clone(),
                history: Arc::clone(history),
                gate: Arc::clone(&gate),
                round: Arc::clone(&round),
            };
            writers.spawn(task.run());
        }
        Load {
            gate,
            round,
            _writers: writers,
        }
    }

    /// What is written from now on carries this number.
    pub(crate) fn set_round(&self, round: u32) {
        self.round.store(round, Ordering::Relaxed);
    }

    /// Waits until every attempt has ended, which none does later than its client's patience, and lets no other begin.
    pub(crate) async fn pause(&self) -> Pause {
        Pause {
            _gate: Arc::clone(&self.gate).write_owned().await,
        }
    }
}

struct Writer {
    number: usize,
    habit: Habit,
    patience: Duration,
    options: [MySqlConnectOptions; 2],
    view: watch::Receiver<View>,
    history: Arc<History>,
    gate: Arc<RwLock<()>>,
    round: Arc<AtomicU32>,
}

impl Writer {
    async fn run(self) {
        let mut client: Option<Client> = None;
        let [mut pause, pause_max] = PAUSES;
        loop {
            let gate = self.gate.read().await;
            let outcome = self.attempt(&mut client).await;
            drop(gate);
            match outcome {
                Some(Outcome::Acknowledged) => pause = PAUSES[0],
                // It may have been the login that failed, or the server that is the wrong one: look again.
                None | Some(Outcome::Refused | Outcome::Unknown) => {
                    sleep(pause).await;
                    pause = pause_max.min(pause * 2);
                }
            }
            match self.habit {
                Habit::Heavy => sleep(HEAVY_PAUSE).await,
                Habit::Stubborn(_) | Habit::Simple | Habit::Holding => sleep(PAUSE).await,
            }
        }
    }

    /// `None` if nothing was sent.
    async fn attempt(&self, client: &mut Option<Client>) -> Option<Outcome> {
        let aim = self.habit.aim(&self.view.borrow());
        let (server, seen) = match (aim, &client) {
            (Some(aim), _) => aim,
            (None, Some(client)) if self.habit.goes_on_blindly() => (client.server, 0),
            (None, _) => return None,
        };
        if client.as_ref().is_none_or(|client| client.server != server) {
            *client = Client::connect(server, &self.options[server]).await;
        }
        let connected = client.as_mut()?;
        let round = self.round.load(Ordering::Relaxed);
        let write = Write {
            writer: self.number,
            sequence: self.history.next(self.number),
            round,
            seen,
            bulky: self.habit == Habit::Heavy,
        };
        let began = self.history.now();
        let outcome = connected.write(write, self.patience).await;
        let attempt = Attempt {
            round,
            seen,
            to: server,
            began,
            ended: self.history.now(),
            outcome,
        };
        self.history.add(self.number, attempt);
        let keeps = match self.habit {
            Habit::Stubborn(_) => outcome != Outcome::Unknown,
            _ => outcome == Outcome::Acknowledged,
        };
        if !keeps {
            *client = None;
        }
        Some(outcome)
    }
}
