//! An account's statement: what it holds now, and what went in and out, each line with the balance after it.
//!
//! One statement reads all of it, so the lines and the balance are of the same moment, also while transfers go on. The balance after a
//! line is the account's balance without everything that is newer, so a page costs what is on it and on the pages before it.

use router::Router;
use time::OffsetDateTime;

use super::{
    Account, AccountId, Cents, LedgerError, OwnerId, Page, Paging, TransferId, cursor::List,
};

/// A page of a statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The account as it is now.
    pub account: Account,
    /// The lines, newest first.
    pub lines: Page<Line>,
    /// What it was opened with; told on the last page, below the oldest line.
    pub opening: Option<Cents>,
}

/// One transfer as the account sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The transfer.
    pub transfer: TransferId,
    /// When it was made, in UTC.
    pub at: OffsetDateTime,
    /// The account on the other side.
    pub other: AccountId,
    /// Its name, where it is the same owner's.
    pub other_name: Option<String>,
    /// What the sender wrote, if anything.
    pub memo: Option<String>,
    /// What it changed; below zero where money left.
    pub amount: Cents,
    /// What the account held after it.
    pub balance: Cents,
}

/// What one row brings: the account, and a line if there is one.
struct Row {
    name: String,
    balance_cents: Cents,
    created_at: OffsetDateTime,
    newer_cents: Option<Cents>,
    transfer_id: Option<TransferId>,
    at: Option<OffsetDateTime>,
    other: Option<AccountId>,
    other_name: Option<String>,
    memo: Option<String>,
    amount_cents: Option<Cents>,
}

/// A page of the statement of the owner's own account; none if there is no such account.
///
/// # Errors
/// A cursor of another list, a fault of the database.
pub async fn read(
    db: &Router,
    owner: OwnerId,
    id: AccountId,
    paging: &Paging,
) -> Result<Option<Statement>, LedgerError> {
    let list = List::Transfers(id);
    let below = paging.below(list)?;
    // An opening's entry has no transfer: nothing is below or above NULL, so it is neither a line nor newer than one.
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT a.name AS "name!", a.balance_cents AS "balance_cents!: Cents", a.created_at AS "created_at!: OffsetDateTime",
                  (SELECT CAST(SUM(n.amount_cents) AS SIGNED) FROM entries n
                   WHERE n.account_id = a.id AND n.transfer_id >= ?) AS "newer_cents: Cents",
                  l.transfer_id AS "transfer_id?: TransferId", l.created_at AS "at?: OffsetDateTime", l.other AS "other?: AccountId",
                  o.name AS "other_name?", l.memo AS "memo?", l.amount_cents AS "amount_cents?: Cents"
           FROM accounts a
           LEFT JOIN LATERAL
                (SELECT e.transfer_id, e.amount_cents, t.memo, t.created_at, IF(t.from_account = a.id, t.to_account, t.from_account) AS other
                 FROM entries e
                 JOIN transfers t ON t.id = e.transfer_id
                 WHERE e.account_id = a.id AND e.transfer_id < ?
                 ORDER BY e.transfer_id DESC LIMIT ?) l ON TRUE
           LEFT JOIN accounts o ON o.id = l.other AND o.owner_id = a.owner_id
           WHERE a.id = ? AND a.owner_id = ?
           ORDER BY l.transfer_id DESC"#,
        below,
        below,
        paging.rows(),
        id,
        owner
    )
    .fetch_all(db)
    .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let account = Account {
        id,
        owner_id: owner,
        name: first.name.clone(),
        balance_cents: first.balance_cents,
        created_at: first.created_at,
    };
    let newer = first.newer_cents.unwrap_or(Cents::ZERO);
    let mut balance = account.balance_cents.without(newer);
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        // Without a line there is one row, for the account.
        let (Some(transfer), Some(at), Some(other), Some(amount)) =
            (row.transfer_id, row.at, row.other, row.amount_cents)
        else {
            continue;
        };
        lines.push(Line {
            transfer,
            at,
            other,
            other_name: row.other_name,
            memo: row.memo,
            amount,
            balance,
        });
        balance = balance.without(amount);
    }
    let lines = paging.page(list, lines, |line| line.transfer.uuid());
    let opening = lines.next_after.is_none().then_some(balance);
    Ok(Some(Statement {
        account,
        lines,
        opening,
    }))
}
