//! The faults: what happens to the sick backend, and when.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tokio::time::{Instant, sleep};

use super::backend::Backend;
use super::condition::Condition;

/// How long a flapping backend is dead.
const DEAD: Duration = Duration::from_millis(500);

/// And how long it is alive then: long enough to pass two checks and to be taken back.
const ALIVE: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// New connections wait, and none is kept
    SlowToConnect,
    /// Ready, and answers 500 at once
    FailingFast,
    /// Dies and comes back, again and again
    Flapping,
    /// Answers nothing any more, checks included
    Frozen,
    /// Says that it leaves, ends in the ordinary way, comes back
    Restarting,
    /// Newly back, and slow until it has worked a while
    Cold,
}

/// When what happened.
#[derive(Clone, Debug)]
pub(super) struct Played {
    /// Requests that were under way at any moment of this time are told of.
    pub(super) observed: Range<Instant>,
    /// In this time the backend was sick, and better left alone.
    pub(super) sick: Range<Instant>,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        to.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Fault {
    /// What a reader of the table has to know.
    pub(super) fn story(self) -> &'static str {
        match self {
            Fault::SlowToConnect => {
                "One backend reads nothing of a new connection for 300 ms, and closes it after one answer. It passes its checks."
            }
            Fault::FailingFast => {
                "One backend answers 500 to everything, at once. It passes its checks."
            }
            Fault::Flapping => {
                "One backend dies, is back after half a second, and dies again a second later."
            }
            Fault::Frozen => {
                "One backend takes connections and requests, and answers nothing any more, its checks included, nor what it has already."
            }
            Fault::Restarting => {
                "One backend answers 503 to its checks, then ends in the ordinary way, is away for a while, and comes back."
            }
            Fault::Cold => {
                "One backend was away and is back: ten times slower until it has answered 200 requests, and slower still with many at one time."
            }
        }
    }

    /// How long it takes before there is something to observe, if that takes so long.
    pub(super) fn prelude(self, length: Duration) -> Duration {
        match self {
            Fault::Cold => announcement(length) + absence(length),
            _ => Duration::ZERO,
        }
    }

    /// Lets it happen.
    pub(super) async fn play(self, sick: &mut Backend, length: Duration) -> Result<Played> {
        if self == Fault::Cold {
            leave(sick, length).await;
            sick.becomes(Condition::Cold);
            sick.come_up().await?;
        }
        let begin = Instant::now();
        let end = begin + length;
        let mut well_again = end;
        match self {
            Fault::SlowToConnect => sick.becomes(Condition::SlowToConnect),
            Fault::FailingFast => sick.becomes(Condition::FailingFast),
            Fault::Frozen => sick.becomes(Condition::Frozen),
            Fault::Cold => {}
            Fault::Flapping => {
                while Instant::now() < end {
                    sick.die().await;
                    sleep(DEAD).await;
                    sick.come_up().await?;
                    sleep(ALIVE).await;
                }
            }
            Fault::Restarting => {
                leave(sick, length).await;
                sick.becomes(Condition::Well);
                sick.come_up().await?;
                well_again = Instant::now();
            }
        }
        tokio::time::sleep_until(end).await;
        Ok(Played {
            observed: begin..end,
            sick: begin..well_again,
        })
    }
}

/// It says that it leaves, ends in the ordinary way, and stays away for a while.
async fn leave(sick: &mut Backend, length: Duration) {
    sick.becomes(Condition::Leaving);
    sleep(announcement(length)).await;
    sick.end().await;
    sleep(absence(length)).await;
}

/// 2 s of 8: time for a check a second, and for two more a quarter of a second later.
fn announcement(length: Duration) -> Duration {
    length / 4
}

/// 1 s of 8.
fn absence(length: Duration) -> Duration {
    length / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_the_name_that_is_typed() {
        assert_eq!("slow-to-connect", Fault::SlowToConnect.to_string());
        assert_eq!(Ok(Fault::Cold), Fault::from_str("cold", false));
    }
}
