//! Turns: of the transfers that touch one account, a few at a time have a connection, and the others wait for their turn without one.
//!
//! The database would queue them as well, at the account's row, but each in a connection: one busy account would take them all. This
//! only decides who waits where; what keeps the books right is the row's lock, for the other web server has turns of its own.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{AccountId, LedgerError};

/// How many at a time: one that holds the row, and some that are at its lock when it is let go.
const AT_A_TIME: usize = 4;

/// How long to wait for a turn.
const WAIT: Duration = Duration::from_secs(10);

/// Accounts that somebody has a turn at, or waits for one.
static QUEUES: LazyLock<Mutex<HashMap<AccountId, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

/// A turn at both accounts; it ends when this is dropped.
pub(super) struct Turn {
    _places: [Place; 2],
}

/// Waits for a turn at both accounts, the one with the smaller id first, so that no two can wait for each other.
pub(super) async fn turn(one: AccountId, other: AccountId) -> Result<Turn, LedgerError> {
    let waiting = async {
        let mut first = Place::in_queue(one.min(other));
        first.wait().await;
        let mut second = Place::in_queue(one.max(other));
        second.wait().await;
        Turn {
            _places: [first, second],
        }
    };
    timeout(WAIT, waiting)
        .await
        .map_err(|_| LedgerError::TooBusy)
}

/// A place in an account's queue, or a turn at it.
struct Place {
    account: AccountId,
    queue: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    fn in_queue(account: AccountId) -> Self {
        let new = || Arc::new(Semaphore::new(AT_A_TIME));
        let queue = queues().entry(account).or_insert_with(new).clone();
        Self {
            account,
            queue: Some(queue),
            permit: None,
        }
    }

    async fn wait(&mut self) {
        if let Some(queue) = self.queue.clone() {
            self.permit = queue.acquire_owned().await.ok();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = queues();
        drop((self.permit.take(), self.queue.take()));
        // Nobody is left who has it but the map.
        if queues
            .get(&self.account)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&self.account);
        }
    }
}

fn queues() -> MutexGuard<'static, HashMap<AccountId, Arc<Semaphore>>> {
    QUEUES.lock().expect("nothing panics with it")
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_few_at_a_time_have_a_turn_and_nothing_is_kept_afterwards() {
        let (a, b, c) = (AccountId::new(), AccountId::new(), AccountId::new());
        let mut turns = Vec::new();
        for _ in 0..AT_A_TIME {
            turns.push(turn(a, b).await.ok().unwrap());
        }
        let mut waiting = JoinSet::new();
        waiting.spawn(async move { turn(b, c).await.is_ok() });
        tokio::task::yield_now().await;
        assert!(waiting.try_join_next().is_none(), "b is busy");
        drop(turn(c, AccountId::new()).await.ok().unwrap());
        turns.pop();
        assert!(waiting.join_next().await.unwrap().unwrap());
        drop(turns);
        assert!(
            [a, b, c]
                .iter()
                .all(|account| !queues().contains_key(account))
        );
    }

    #[tokio::test]
    async fn opposite_ways_do_not_wait_for_each_other_for_ever() {
        let (a, b) = (AccountId::new(), AccountId::new());
        let mut all = JoinSet::new();
        for n in 0..1000 {
            let (from, to) = if n % 2 == 0 { (a, b) } else { (b, a) };
            all.spawn(async move {
                let turn = turn(from, to).await;
                tokio::task::yield_now().await;
                turn.is_ok()
            });
        }
        assert!(all.join_all().await.into_iter().all(|had| had));
        assert!(!queues().contains_key(&a));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_refused_and_leaves_no_place_behind() {
        let (a, b) = (AccountId::new(), AccountId::new());
        let mut turns = Vec::new();
        for _ in 0..AT_A_TIME {
            turns.push(turn(a, b).await.ok().unwrap());
        }
        assert!(matches!(turn(a, b).await, Err(LedgerError::TooBusy)));
        drop(turns);
        assert!(!queues().contains_key(&a));
    }
}
