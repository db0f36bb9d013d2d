//! The edge: a least-connections HTTPS balancer on pingora-core.
//!
//! It terminates TLS, chooses for each request the backend with the fewest in flight, passes it on over mutual TLS, and tries another
//! backend where that cannot do harm (invariants 1 and 2). It is not a router: every backend serves everything. It holds no state that
//! another balancer would need, so two of them share a port and either can go at any time.
//!
//! Where to read on: [`least_connections`] and [`lease`] choose and count, among those that [`rotation`] lets offer something. [`health`],
//! [`ejection`] and [`retry`] judge, [`queue`] and [`clients`] limit; the [`roster`] keeps together what is known of the backends. [`headers`]
//! and [`redirect`] rewrite, [`http1`] reads and writes messages. [`exchange`] ties them together for one request: a [`client`] on one side (HTTP/1.1 in
//! [`client_h1`], HTTP/2 in [`client_h2`]), a [`backend_connection`] from the [`pool`] on the other. A [`worker`] is a thread on which
//! whole connections live; [`accept`] gives them to it.

pub mod accept;
pub mod access_log;
pub mod address_text;
pub mod admin;
pub mod backend;
pub mod backend_connection;
pub mod body;
pub mod certificates;
pub mod client;
pub mod client_h1;
pub mod client_h2;
pub mod clients;
pub mod clock;
pub mod config;
pub mod connect;
pub mod desired;
pub mod discovery;
pub mod edge;
pub mod ejection;
pub mod exchange;
pub mod fault;
pub mod frame_budget;
pub mod headers;
pub mod health;
pub mod health_check;
pub mod http1;
pub mod keeper;
pub mod lease;
pub mod least_connections;
pub mod metrics;
pub mod names;
pub mod offer;
pub mod pace;
pub mod peer;
pub mod plain;
pub mod pool;
pub mod problem;
pub mod proxy_protocol;
pub mod queue;
pub mod raw_answer;
pub mod record;
pub mod redirect;
pub mod reload;
pub mod replay;
pub mod retry;
pub mod roster;
pub mod rotation;
pub mod socket;
pub mod spans;
pub mod stamp;
pub mod status;
pub mod stream;
pub mod termination;
pub mod tickets;
pub mod traffic;
pub mod trust;
pub mod tunnel;
pub mod watched;
pub mod websocket;
pub mod worker;

mod run;

pub use run::run;
