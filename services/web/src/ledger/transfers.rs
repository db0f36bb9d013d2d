//! Transfers: money that goes from one's own account to anybody's.

use router::{Router, Transaction};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    AccountId, Cents, IdempotencyKey, LedgerError, Memo, Outcome, OwnerId, Page, Paging,
    TransferId, accounts,
    cursor::List,
    entries::{self, Posting},
    idempotency::{self, Command, Route},
    turns,
};

/// A transfer, as both of its sides see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its id.
    pub id: TransferId,
    /// The account that the money left.
    pub from: AccountId,
    /// The account that it came to.
    pub to: AccountId,
    /// How much it was.
    pub amount_cents: Cents,
    /// What the sender wrote, if anything.
    pub memo: Option<String>,
    /// When it was made, in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A request for a transfer; `from` and `to` differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MakeTransfer {
    /// The caller's own account.
    pub from: AccountId,
    /// Anybody's account.
    pub to: AccountId,
    /// How much, by [`Cents::amount`].
    pub amount_cents: Cents,
    /// What to write on it.
    pub memo: Option<Memo>,
}

/// Makes a transfer, once for a key.
///
/// # Errors
/// A refusal: `from` is not the owner's, no such `to`, insufficient funds, too large a balance, a key of another request; or a fault of
/// the database.
pub async fn make(
    db: &Router,
    owner: OwnerId,
    key: &IdempotencyKey,
    request: &MakeTransfer,
) -> Result<Outcome<Transfer>, LedgerError> {
    let _turn = turns::turn(request.from, request.to).await?;
    idempotency::once(db, owner, key, request).await
}

impl Command for MakeTransfer {
    const ROUTE: Route = Route::Transfers;
    type Answer = Transfer;
    type Locked = Balances;

    fn answer(&self, _owner: OwnerId) -> Transfer {
        let id = TransferId::new();
        Transfer {
            id,
            from: self.from,
            to: self.to,
            amount_cents: self.amount_cents,
            memo: self.memo.as_ref().map(|memo| memo.as_str().to_owned()),
            created_at: id.created_at(),
        }
    }

    async fn lock(
        &self,
        transaction: &mut Transaction,
        owner: OwnerId,
    ) -> Result<Balances, LedgerError> {
        let (from, to) = lock_both(transaction, self.from, self.to).await?;
        let from = from
            .filter(|account| account.owner_id == owner)
            .ok_or(LedgerError::NoSuchAccount)?;
        let to = to.ok_or(LedgerError::NoSuchRecipient)?;
        Ok(Balances {
            from: from.balance_cents,
            to: to.balance_cents,
        })
    }

    async fn apply(
        &self,
        transaction: &mut Transaction,
        before: Balances,
        transfer: &Transfer,
    ) -> Result<(), LedgerError> {
        let amount = self.amount_cents;
        let from_balance = before.from.minus(amount);
        let from_balance = from_balance.ok_or(LedgerError::InsufficientFunds {
            balance: before.from,
            amount,
        })?;
        let to_balance = before.to.plus(amount);
        let to_balance = to_balance.ok_or(LedgerError::BalanceTooLarge)?;

        sqlx::query!(
            "INSERT INTO transfers (id, from_account, to_account, amount_cents, memo, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            transfer.id,
            transfer.from,
            transfer.to,
            transfer.amount_cents,
            transfer.memo,
            transfer.created_at
        )
        .execute(&mut *transaction)
        .await?;
        entries::post(
            transaction,
            Posting::Transfer(transfer.id),
            transfer.from,
            transfer.to,
            transfer.amount_cents,
        )
        .await?;
        set_balance(transaction, self.from, from_balance).await?;
        set_balance(transaction, self.to, to_balance).await
    }
}

/// What both accounts hold, locked.
pub(super) struct Balances {
    from: Cents,
    to: Cents,
}

/// What a transfer must know of an account.
struct Locked {
    owner_id: OwnerId,
    balance_cents: Cents,
}

/// Locks both accounts, always the one with the smaller id first, so that no two transfers can wait for each other.
///
/// One statement for each: a `WHERE id IN (…)` may be read by a scan, which locks what it passes.
async fn lock_both(
    transaction: &mut Transaction,
    from: AccountId,
    to: AccountId,
) -> Result<(Option<Locked>, Option<Locked>), LedgerError> {
    if from < to {
        let from = lock(transaction, from).await?;
        Ok((from, lock(transaction, to).await?))
    } else {
        let to = lock(transaction, to).await?;
        Ok((lock(transaction, from).await?, to))
    }
}

/// Locks an account that somebody owns. Equity is nobody's: it is neither found nor locked for long.
async fn lock(transaction: &mut Transaction, id: AccountId) -> Result<Option<Locked>, LedgerError> {
    if id == entries::EQUITY {
        return Ok(None);
    }
    let account = sqlx::query_as!(
        Locked,
        r#"SELECT owner_id AS "owner_id!: OwnerId", balance_cents AS "balance_cents!: Cents" FROM accounts WHERE id = ? FOR UPDATE"#,
        id
    )
    .fetch_optional(transaction)
    .await?;
    Ok(account)
}

async fn set_balance(
    transaction: &mut Transaction,
    account: AccountId,
    balance: Cents,
) -> Result<(), LedgerError> {
    sqlx::query!(
        "UPDATE accounts SET balance_cents = ? WHERE id = ?",
        balance,
        account
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// The transfer of that id, if the owner is on one of its sides.
///
/// # Errors
/// A fault of the database.
pub async fn get(
    db: &Router,
    owner: OwnerId,
    id: TransferId,
) -> Result<Option<Transfer>, LedgerError> {
    let transfer = sqlx::query_as!(
        Transfer,
        r#"SELECT t.id AS "id: TransferId", t.from_account AS "from: AccountId", t.to_account AS "to: AccountId",
                  t.amount_cents AS "amount_cents: Cents", t.memo, t.created_at AS "created_at: OffsetDateTime"
           FROM transfers t
           JOIN accounts sender ON sender.id = t.from_account
           JOIN accounts receiver ON receiver.id = t.to_account
           WHERE t.id = ? AND (sender.owner_id = ? OR receiver.owner_id = ?)"#,
        id,
        owner,
        owner
    )
    .fetch_optional(db)
    .await?;
    Ok(transfer)
}

/// A page of the transfers of the owner's own account, in either direction.
///
/// # Errors
/// No such account, a cursor of another list, a fault of the database.
pub async fn list(
    db: &Router,
    owner: OwnerId,
    account: AccountId,
    paging: &Paging,
) -> Result<Page<Transfer>, LedgerError> {
    let list = List::Transfers(account);
    let below = paging.below(list)?;
    if accounts::get(db, owner, account).await?.is_none() {
        return Err(LedgerError::NoSuchAccount);
    }
    // An opening's entries have no transfer: nothing is below or above NULL, so they are not in the list.
    let rows = sqlx::query_as!(
        Transfer,
        r#"SELECT t.id AS "id: TransferId", t.from_account AS "from: AccountId", t.to_account AS "to: AccountId",
                  t.amount_cents AS "amount_cents: Cents", t.memo, t.created_at AS "created_at: OffsetDateTime"
           FROM entries e
           JOIN transfers t ON t.id = e.transfer_id
           WHERE e.account_id = ? AND e.transfer_id < ?
           ORDER BY e.transfer_id DESC LIMIT ?"#,
        account,
        below,
        paging.rows()
    )
    .fetch_all(db)
    .await?;
    Ok(paging.page(list, rows, |transfer| transfer.id.uuid()))
}
