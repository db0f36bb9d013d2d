//! The ledger's own audit: `web check-ledger`, and the sum that the metric shows.

use router::Router;

use super::{Cents, LedgerError, entries::EQUITY};

/// What the audit found, all in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Accounts, equity aside.
    pub accounts: i64,
    /// Transfers.
    pub transfers: i64,
    /// The balance of equity, from which openings come: zero or below.
    pub equity_cents: Cents,
    /// The sum of all entries: anything but zero is a fault.
    pub imbalance_cents: i64,
    /// Postings whose entries are not two that add up to zero.
    pub unbalanced_postings: i64,
    /// Accounts whose stored balance is not the sum of their entries.
    pub wrong_balances: i64,
    /// Transfers whose entries do not say what the transfer says.
    pub wrong_transfers: i64,
}

impl Report {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.imbalance_cents == 0
            && self.unbalanced_postings == 0
            && self.wrong_balances == 0
            && self.wrong_transfers == 0
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.is_sound() {
            "sound"
        } else {
            "NOT SOUND"
        };
        writeln!(f, "the ledger is {verdict}")?;
        writeln!(f, "  accounts                         {}", self.accounts)?;
        writeln!(f, "  transfers                        {}", self.transfers)?;
        writeln!(
            f,
            "  balance of equity, cents         {}",
            self.equity_cents
        )?;
        writeln!(
            f,
            "  sum of all entries, cents        {} (must be 0)",
            self.imbalance_cents
        )?;
        writeln!(
            f,
            "  postings that do not add up      {} (must be 0)",
            self.unbalanced_postings
        )?;
        writeln!(
            f,
            "  accounts with a wrong balance    {} (must be 0)",
            self.wrong_balances
        )?;
        write!(
            f,
            "  transfers with wrong entries     {} (must be 0)",
            self.wrong_transfers
        )
    }
}

/// Reads the whole ledger and says what is wrong with it.
///
/// # Errors
/// A fault of the database.
pub async fn check(db: &Router) -> Result<Report, LedgerError> {
    let mut snapshot = db.begin_read_only().await?;
    let counts = sqlx::query!(
        r#"SELECT (SELECT COUNT(*) FROM accounts WHERE owner_id IS NOT NULL) AS "accounts!: i64",
                  (SELECT COUNT(*) FROM transfers) AS "transfers!: i64",
                  (SELECT CAST(COALESCE(SUM(amount_cents), 0) AS SIGNED) FROM entries WHERE account_id = ?) AS "equity!: Cents",
                  (SELECT CAST(COALESCE(SUM(amount_cents), 0) AS SIGNED) FROM entries) AS "imbalance!: i64""#,
        EQUITY
    )
    .fetch_one(&mut snapshot)
    .await?;
    let unbalanced_postings = sqlx::query_scalar!(
        r#"SELECT COUNT(*) AS "count!: i64" FROM
               (SELECT posting_id FROM entries GROUP BY posting_id HAVING SUM(amount_cents) <> 0 OR COUNT(*) <> 2) AS unbalanced"#
    )
    .fetch_one(&mut snapshot)
    .await?;
    let wrong_balances = sqlx::query_scalar!(
        r#"SELECT COUNT(*) AS "count!: i64" FROM accounts a
           LEFT JOIN (SELECT account_id, SUM(amount_cents) AS cents FROM entries GROUP BY account_id) AS e ON e.account_id = a.id
           WHERE a.owner_id IS NOT NULL AND a.balance_cents <> COALESCE(e.cents, 0)"#
    )
    .fetch_one(&mut snapshot)
    .await?;
    let wrong_transfers = sqlx::query_scalar!(
        r#"SELECT COUNT(*) AS "count!: i64" FROM transfers t
           LEFT JOIN entries sent ON sent.posting_id = t.id AND sent.account_id = t.from_account AND sent.transfer_id = t.id
           LEFT JOIN entries received ON received.posting_id = t.id AND received.account_id = t.to_account AND received.transfer_id = t.id
           WHERE COALESCE(sent.amount_cents, 0) <> -t.amount_cents OR COALESCE(received.amount_cents, 0) <> t.amount_cents"#
    )
    .fetch_one(&mut snapshot)
    .await?;
    snapshot.commit().await?;
    Ok(Report {
        accounts: counts.accounts,
        transfers: counts.transfers,
        equity_cents: counts.equity,
        imbalance_cents: counts.imbalance,
        unbalanced_postings,
        wrong_balances,
        wrong_transfers,
    })
}

/// The sum of all entries, in cents: anything but zero is a fault.
///
/// # Errors
/// A fault of the database.
pub async fn imbalance_cents(db: &Router) -> Result<i64, LedgerError> {
    let sum = sqlx::query_scalar!(
        r#"SELECT CAST(COALESCE(SUM(amount_cents), 0) AS SIGNED) AS "sum!: i64" FROM entries"#
    )
    .fetch_one(db)
    .await?;
    Ok(sum)
}
