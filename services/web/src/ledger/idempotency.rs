//! Idempotency: a request with a key is done once, and asked again it is answered again.
//!
//! The key's row is inserted in the transaction of the change itself, so it is there if and only if the change is. A duplicate at the same
//! time waits: it finds the answer once the first one has committed, or does the work itself if that one was refused. The row also settles
//! what became of a commit whose answer was lost: ask again with the same key.

use std::time::Duration;

use router::{Router, Transaction};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use super::{
    Invalid, LedgerError, OwnerId,
    error::{ER_DUP_ENTRY, ER_NO_REFERENCED_ROW},
};

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a transaction that the server rolled back, because two waited for each other or another server is to be the primary, is done
/// over.
const RETRIES: u32 = 5;

/// How long before it is done over on the next primary: until the router has seen that this one is closed.
const CLOSED_PAUSE: Duration = Duration::from_millis(50);

/// How long the statements of a transaction may take, its commit aside, which has the router's bound: mostly waiting for the locks of
/// others, who in turn wait for their commits.
const STATEMENTS_TIME: Duration = Duration::from_secs(3);

/// How many keys one statement of the purge deletes.
const PURGE_BATCH: u64 = 500;

/// A client's name for a request: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key, if the bytes can be one.
    ///
    /// # Errors
    /// When there are none, too many, or others than visible ASCII.
    pub fn new(bytes: &[u8]) -> Result<Self, Invalid> {
        let invalid = Invalid("must be 1 to 255 visible ASCII characters");
        if bytes.is_empty() || bytes.len() > 255 || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(invalid);
        }
        String::from_utf8(bytes.to_vec())
            .map(Self)
            .map_err(|_| invalid)
    }

    /// The key as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a key is unique in, besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Opening accounts.
    Accounts,
    /// Making transfers.
    Transfers,
}

impl Route {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Transfers => "transfers",
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<T> {
    /// What is answered: the same each time.
    pub answer: T,
    /// The change had been made before, by a request with the same key.
    pub replayed: bool,
}

/// A change that is made once. It serializes to its values, in an order of its own: two requests are the same if they give the same JSON.
pub(super) trait Command: Serialize + Sync {
    /// The route that its keys are unique in.
    const ROUTE: Route;
    /// What is answered, and remembered.
    type Answer: Serialize + DeserializeOwned + Send + Sync;
    /// What it holds from before its key is looked at.
    type Locked: Send;

    /// What will be answered if nothing stands against it.
    fn answer(&self, owner: OwnerId) -> Self::Answer;

    /// Locks the rows that it will change, and refuses for what never changes. Duplicates queue up here: were it at the key's row, and the
    /// first of them refused, the others would each be let through to it at once, and end in deadlocks.
    fn lock(
        &self,
        transaction: &mut Transaction,
        owner: OwnerId,
    ) -> impl Future<Output = Result<Self::Locked, LedgerError>> + Send;

    /// Makes the change that `answer` tells of, or refuses.
    fn apply(
        &self,
        transaction: &mut Transaction,
        locked: Self::Locked,
        answer: &Self::Answer,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
}

/// Makes the change, unless it was made before with this key; then says again what was said.
pub(super) async fn once<C: Command>(
    db: &Router,
    owner: OwnerId,
    key: &IdempotencyKey,
    command: &C,
) -> Result<Outcome<C::Answer>, LedgerError> {
    let mut retries = 0;
    let mut waited = false;
    loop {
        // Writes are held while the primary changes, up to a limit: who got none within it is not done over.
        let transaction = db.begin().await?;
        match attempt(transaction, owner, key, command).await {
            Err(error) if error.is_rolled_back() && retries < RETRIES => {
                retries += 1;
                tracing::debug!(retries, %error, "the transaction was rolled back and is done over");
                if error.router().is_some() {
                    sleep(CLOSED_PAUSE).await;
                }
            }
            // Once more: who held the lock may have been cut off, which the server needs as long to find out.
            Err(error) if error.has_waited_for_a_lock() && !waited => {
                waited = true;
                tracing::debug!(%error, "the transaction is done over");
            }
            outcome => return outcome,
        }
    }
}

async fn attempt<C: Command>(
    mut transaction: Transaction,
    owner: OwnerId,
    key: &IdempotencyKey,
    command: &C,
) -> Result<Outcome<C::Answer>, LedgerError> {
    let answer = command.answer(owner);
    let row = Row {
        owner,
        route: C::ROUTE,
        key,
        fingerprint: fingerprint(command),
        answer: serde_json::to_vec(&answer)
            .expect("an answer serializes: it has text keys and no map"),
        now: OffsetDateTime::now_utc(),
    };
    let done = timeout(
        STATEMENTS_TIME,
        done(&mut transaction, owner, command, &row, answer),
    )
    .await;
    match done {
        // Also where nothing was written: the session has seen the earlier change, and its token must say so.
        Ok(Ok(outcome)) => {
            transaction.commit().await?;
            Ok(outcome)
        }
        Ok(Err(refusal)) => {
            // Where that fails the connection is closed, and the server rolls back by itself.
            let _ = transaction.rollback().await;
            Err(refusal)
        }
        // Dropped in the middle of a statement: closed, and rolled back.
        Err(_) => Err(LedgerError::TookTooLong(STATEMENTS_TIME)),
    }
}

/// What is done between the beginning and the end of the transaction.
async fn done<C: Command>(
    transaction: &mut Transaction,
    owner: OwnerId,
    command: &C,
    row: &Row<'_>,
    answer: C::Answer,
) -> Result<Outcome<C::Answer>, LedgerError> {
    let locked = command.lock(transaction, owner).await?;
    match remember(transaction, row).await? {
        Remembered::New => {
            command.apply(transaction, locked, &answer).await?;
            Ok(Outcome {
                answer,
                replayed: false,
            })
        }
        Remembered::Before(answer) => Ok(Outcome {
            answer: serde_json::from_slice(&answer).map_err(|e| sqlx::Error::Decode(e.into()))?,
            replayed: true,
        }),
    }
}

/// The SHA-256 of a request's values.
fn fingerprint(command: &impl Serialize) -> [u8; 32] {
    let values =
        serde_json::to_vec(command).expect("a request serializes: it has text keys and no map");
    Sha256::digest(values).into()
}

/// A key's row, as it will be if the change is made now.
struct Row<'a> {
    owner: OwnerId,
    route: Route,
    key: &'a IdempotencyKey,
    fingerprint: [u8; 32],
    answer: Vec<u8>,
    now: OffsetDateTime,
}

enum Remembered {
    New,
    Before(Vec<u8>),
}

/// Takes the key for this transaction, or finds what was answered to it.
async fn remember(transaction: &mut Transaction, row: &Row<'_>) -> Result<Remembered, LedgerError> {
    match insert(transaction, row).await {
        Err(error) if error.server_code() == Some(ER_DUP_ENTRY) => {}
        Err(error) if error.server_code() == Some(ER_NO_REFERENCED_ROW) => {
            return Err(LedgerError::NoSuchOwner);
        }
        Err(error) => return Err(error),
        Ok(()) => return Ok(Remembered::New),
    }
    let before = sqlx::query!(
        r#"SELECT fingerprint, answer, created_at AS "created_at: OffsetDateTime" FROM idempotency_keys
           WHERE owner_id = ? AND route = ? AND idempotency_key = ?"#,
        row.owner,
        row.route.as_str(),
        row.key.as_str()
    )
    .fetch_one(&mut *transaction)
    .await?;
    if before.created_at < row.now - REMEMBERED {
        // Forgotten, but not purged yet.
        sqlx::query!(
            "DELETE FROM idempotency_keys WHERE owner_id = ? AND route = ? AND idempotency_key = ?",
            row.owner,
            row.route.as_str(),
            row.key.as_str()
        )
        .execute(&mut *transaction)
        .await?;
        insert(transaction, row).await?;
        return Ok(Remembered::New);
    }
    if before.fingerprint != row.fingerprint {
        return Err(LedgerError::KeyReused);
    }
    Ok(Remembered::Before(before.answer))
}

async fn insert(transaction: &mut Transaction, row: &Row<'_>) -> Result<(), LedgerError> {
    sqlx::query!(
        "INSERT INTO idempotency_keys (owner_id, route, idempotency_key, fingerprint, answer, created_at)
         VALUES (?, ?, ?, ?, ?, ?)",
        row.owner,
        row.route.as_str(),
        row.key.as_str(),
        row.fingerprint.as_slice(),
        row.answer,
        row.now
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Deletes a batch of keys that are not remembered any more. True: there may be more.
///
/// # Errors
/// A fault of the database.
pub async fn purge_batch(db: &Router) -> Result<bool, LedgerError> {
    let deleted = sqlx::query!(
        "DELETE FROM idempotency_keys WHERE created_at < ? ORDER BY created_at LIMIT ?",
        OffsetDateTime::now_utc() - REMEMBERED,
        PURGE_BATCH
    )
    .execute(db)
    .await?
    .rows_affected();
    Ok(deleted == PURGE_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{AccountId, Cents, MakeTransfer, Memo};

    #[test]
    fn a_fingerprint_tells_requests_apart_by_every_value() {
        let [a, b] = [AccountId::new(), AccountId::new()];
        let request = |from, to, cents, memo: Option<&str>| {
            let memo = memo.map(|memo| Memo::new(memo).unwrap());
            let amount_cents = Cents::amount(cents).unwrap();
            fingerprint(&MakeTransfer {
                from,
                to,
                amount_cents,
                memo,
            })
        };
        let requests = [
            request(a, b, 1, None),
            request(b, a, 1, None),
            request(a, b, 11, None),
            request(a, b, 1, Some("")),
            request(a, b, 1, Some("null")),
        ];
        for (index, one) in requests.iter().enumerate() {
            for other in &requests[index + 1..] {
                assert_ne!(one, other);
            }
        }
        assert_eq!(request(a, b, 1, Some("x")), request(a, b, 1, Some("x")));
    }

    #[test]
    fn a_key_is_visible_ascii_of_1_to_255() {
        assert!(IdempotencyKey::new(b"").is_err());
        assert!(IdempotencyKey::new(&[b'k'; 255]).is_ok());
        assert!(IdempotencyKey::new(&[b'k'; 256]).is_err());
        for byte in 0..=u8::MAX {
            let visible = (0x21..=0x7e).contains(&byte);
            assert_eq!(IdempotencyKey::new(&[byte]).is_ok(), visible, "{byte:#x}");
        }
    }
}
