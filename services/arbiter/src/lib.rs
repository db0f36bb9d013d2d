//! Decides which MySQL server is primary.
//!
//! A single process with a durable state ([`state`]); it is on no request's path, has no interface for applications, and while it is
//! away everything goes on as configured. It looks at both servers ([`observe`]), decides what to do about it without any I/O
//! ([`decide`](mod@decide)), does that ([`act`](mod@act)), and looks again. Servers boot closed, and only the arbiter opens them.
//!
//! It bootstraps an empty pair or adopts a running one, publishes roles in `holdfast.cluster`, reopens servers after a restart, lets the
//! primary go on alone where the replica is lost ([SHRINK and GROW](decide)), puts the replica in its place where the primary is, and makes a
//! server that came back with a history of its own a replica again. What it cannot explain it refuses, with the reason.
//!
//! It is not a member of a quorum: there is one arbiter, and while it is away nothing changes. It never decides by a clock what is safe,
//! only when it is time.

pub mod act;
pub mod commands;
pub mod condition;
pub mod config;
pub mod copying;
pub mod decide;
pub mod discarded;
pub mod events;
pub mod failpoint;
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
