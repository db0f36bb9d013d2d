//! Entries: each posting is two of them, and they add up to zero.

use router::Transaction;
use uuid::Uuid;

use super::{AccountId, Cents, LedgerError, TransferId};

/// Where openings come from: the one account without an owner, whose balance is below zero and computed from its entries. migrations/
/// makes it under this id.
pub(super) const EQUITY: AccountId =
    AccountId::fixed(Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0000));

/// Why money moves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Posting {
    /// An account was opened with it.
    Opening(AccountId),
    /// Somebody sent it.
    Transfer(TransferId),
}

/// Writes both entries of a posting; the balances are the caller's business.
pub(super) async fn post(
    transaction: &mut Transaction,
    posting: Posting,
    from: AccountId,
    to: AccountId,
    amount: Cents,
) -> Result<(), LedgerError> {
    let (posting, transfer) = match posting {
        Posting::Opening(account) => (account.uuid(), None),
        Posting::Transfer(transfer) => (transfer.uuid(), Some(transfer)),
    };
    let [leaves, comes] = amount.entries();
    sqlx::query!(
        "INSERT INTO entries (posting_id, account_id, transfer_id, amount_cents) VALUES (?, ?, ?, ?), (?, ?, ?, ?)",
        posting,
        from,
        transfer,
        leaves,
        posting,
        to,
        transfer,
        comes
    )
    .execute(transaction)
    .await?;
    Ok(())
}
