//! The edge: a least-connections HTTPS balancer on pingora.
//!
//! It terminates TLS, chooses for each request the backend with the fewest in flight, passes it on over mutual TLS, and tries another
//! backend where that cannot do harm (invariants 1 and 2). It is not a router: every backend serves everything. It holds no state that
//! another balancer would need, so two of them share a port and either can go at any time.
//!
//! Where to read on: [`least_connections`] and [`lease`] choose and count, [`health`] and [`retry`] judge, [`headers`] and [`redirect`]
//! rewrite, [`http1`] reads and writes messages (the exchange is to be moved onto it); none of them knows pingora. [`exchange`] ties them
//! to pingora's hooks, [`accept`] and [`client_stream`] to its connections.

pub mod accept;
pub mod access_log;
pub mod admin;
pub mod backend;
pub mod client_stream;
pub mod config;
pub mod edge;
pub mod exchange;
pub mod fault;
pub mod headers;
pub mod health;
pub mod health_check;
pub mod http1;
pub mod lease;
pub mod least_connections;
pub mod metrics;
pub mod names;
pub mod peer;
pub mod plain;
pub mod problem;
pub mod raw_answer;
pub mod redirect;
pub mod retry;
pub mod role_check;
pub mod spans;
pub mod termination;
pub mod traffic;

mod run;

pub use run::run;
