//! The guestbook on a router. Beside it, `on_pool.rs` differs in one line.

/// What the application is written against.
pub(crate) type Db = router::Router;

#[path = "app.rs"]
pub(crate) mod app;
