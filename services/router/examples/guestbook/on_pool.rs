//! The guestbook on a plain pool. Beside it, `on_router.rs` differs in one line.

/// What the application is written against.
pub(crate) type Db = sqlx::MySqlPool;

#[path = "app.rs"]
pub(crate) mod app;
