//! A double-entry ledger: owners open accounts and send money between them.
//!
//! Every change is one transaction on the primary that writes its entries, the balances and the idempotency key together; each rule of
//! money stands here and, as a constraint, in migrations/. Reads take a [`router::Router`] that is bound to a session, so a caller sees
//! its own writes wherever they are read. This module knows nothing of HTTP.

pub mod accounts;
pub mod check;
mod cursor;
mod entries;
pub(crate) mod error;
pub mod housekeeping;
pub mod idempotency;
mod ids;
pub(crate) mod money;
pub mod owners;
mod page;
pub mod statement;
mod text;
pub mod transfers;
mod turns;

pub use accounts::{Account, OpenAccount};
pub use error::LedgerError;
pub use idempotency::{IdempotencyKey, Outcome};
pub use ids::{AccountId, OwnerId, TransferId};
pub use money::Cents;
pub use owners::Owner;
pub use page::{Page, Paging};
pub use text::{Memo, Name};
pub use transfers::{MakeTransfer, Transfer};

/// Why a value cannot be what it should become: a sentence for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);
