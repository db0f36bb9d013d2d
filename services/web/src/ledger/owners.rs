//! Owners: whoever opens accounts.

use router::Router;
use time::OffsetDateTime;

use super::{LedgerError, Name, OwnerId};

/// Whoever opens accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id; its token says the same.
    pub id: OwnerId,
    /// Its name; two may have the same.
    pub name: String,
    /// When it came, in UTC.
    pub created_at: OffsetDateTime,
}

/// Makes a new owner, whoever has the name already.
///
/// # Errors
/// A fault of the database.
pub async fn create(db: &Router, name: &Name) -> Result<Owner, LedgerError> {
    let id = OwnerId::new();
    let owner = Owner {
        id,
        name: name.as_str().to_owned(),
        created_at: id.created_at(),
    };
    sqlx::query!(
        "INSERT INTO owners (id, name, created_at) VALUES (?, ?, ?)",
        owner.id,
        owner.name,
        owner.created_at
    )
    .execute(db)
    .await?;
    Ok(owner)
}

/// The owner, if it is there.
///
/// # Errors
/// A fault of the database.
pub async fn get(db: &Router, id: OwnerId) -> Result<Option<Owner>, LedgerError> {
    let owner = sqlx::query_as!(
        Owner,
        r#"SELECT id AS "id: OwnerId", name, created_at AS "created_at: OffsetDateTime" FROM owners WHERE id = ?"#,
        id
    )
    .fetch_optional(db)
    .await?;
    Ok(owner)
}
