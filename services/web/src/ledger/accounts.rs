//! Accounts: opened with money from equity, read by their owner.

use router::{Router, Transaction};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    AccountId, Cents, IdempotencyKey, LedgerError, Name, Outcome, OwnerId, Page, Paging,
    cursor::List,
    entries::{self, EQUITY, Posting},
    idempotency::{self, Command, Route},
};

/// An account, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whose it is.
    pub owner_id: OwnerId,
    /// What its owner calls it; two may have the same name.
    pub name: String,
    /// What it holds, never below zero.
    pub balance_cents: Cents,
    /// When it was opened, in UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A request for a new account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenAccount {
    /// What its owner calls it.
    pub name: Name,
    /// What it starts with, by [`Cents::opening`].
    pub opening_cents: Cents,
}

/// Opens an account, once for a key.
///
/// # Errors
/// A key of another request, an owner that is not there, a fault of the database.
pub async fn open(
    db: &Router,
    owner: OwnerId,
    key: &IdempotencyKey,
    request: &OpenAccount,
) -> Result<Outcome<Account>, LedgerError> {
    idempotency::once(db, owner, key, request).await
}

impl Command for OpenAccount {
    const ROUTE: Route = Route::Accounts;
    type Answer = Account;
    type Locked = ();

    fn answer(&self, owner: OwnerId) -> Account {
        let id = AccountId::new();
        Account {
            id,
            owner_id: owner,
            name: self.name.as_str().to_owned(),
            balance_cents: self.opening_cents,
            created_at: id.created_at(),
        }
    }

    /// Nothing is there yet that could be locked, and nothing can be refused later.
    async fn lock(&self, _: &mut Transaction, _: OwnerId) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn apply(
        &self,
        transaction: &mut Transaction,
        (): (),
        account: &Account,
    ) -> Result<(), LedgerError> {
        sqlx::query!(
            "INSERT INTO accounts (id, owner_id, name, balance_cents, created_at) VALUES (?, ?, ?, ?, ?)",
            account.id,
            account.owner_id,
            account.name,
            account.balance_cents,
            account.created_at
        )
        .execute(&mut *transaction)
        .await?;
        if self.opening_cents.get() == 0 {
            return Ok(());
        }
        entries::post(
            transaction,
            Posting::Opening(account.id),
            EQUITY,
            account.id,
            self.opening_cents,
        )
        .await
    }
}

/// The owner's own account of that id, if there is one.
///
/// # Errors
/// A fault of the database.
pub async fn get(
    db: &Router,
    owner: OwnerId,
    id: AccountId,
) -> Result<Option<Account>, LedgerError> {
    let account = sqlx::query_as!(
        Account,
        r#"SELECT id AS "id: AccountId", owner_id AS "owner_id!: OwnerId", name, balance_cents AS "balance_cents!: Cents",
                  created_at AS "created_at: OffsetDateTime"
           FROM accounts WHERE id = ? AND owner_id = ?"#,
        id,
        owner
    )
    .fetch_optional(db)
    .await?;
    Ok(account)
}

/// A page of the owner's accounts.
///
/// # Errors
/// A cursor of another list, a fault of the database.
pub async fn list(
    db: &Router,
    owner: OwnerId,
    paging: &Paging,
) -> Result<Page<Account>, LedgerError> {
    let list = List::Accounts(owner);
    let rows = sqlx::query_as!(
        Account,
        r#"SELECT id AS "id: AccountId", owner_id AS "owner_id!: OwnerId", name, balance_cents AS "balance_cents!: Cents",
                  created_at AS "created_at: OffsetDateTime"
           FROM accounts WHERE owner_id = ? AND id < ? ORDER BY id DESC LIMIT ?"#,
        owner,
        paging.below(list)?,
        paging.rows()
    )
    .fetch_all(db)
    .await?;
    Ok(paging.page(list, rows, |account| account.id.uuid()))
}
