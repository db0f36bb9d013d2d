//! Decides which MySQL server is primary.
//!
//! A single process with a durable state ([`state`]); it is on no request's path, has no interface for applications, and while it is
//! away everything goes on as configured. It looks at both servers ([`observe`]), decides what to do about it without any I/O
//! ([`decide`](mod@decide)), does that ([`act`](mod@act)), and looks again. Servers boot closed, and only the arbiter opens them.
//!
//! It bootstraps an empty pair, publishes roles in `holdfast.cluster`, and reopens servers after a restart, once it has verified
//! that no acknowledged write is missing. It does not change who is primary yet: what it cannot explain it refuses, with the
//! reason, and what can come back it waits for.

pub mod act;
pub mod condition;
pub mod config;
pub mod decide;
pub mod discarded;
pub mod heartbeat;
pub mod logins;
pub mod look;
pub mod metrics;
pub mod observe;
pub mod run;
pub mod spans;
pub mod state;
pub mod status;
pub mod step;
