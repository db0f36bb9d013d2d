//! The sample app: a double-entry ledger over the router.
//!
//! Two of these stand behind the balancers, and each serves every request: pages and a JSON API. Neither keeps anything that the other
//! would need; who calls and what a session has written travel in signed tokens. It terminates mutual TLS from the balancers, and speaks
//! to the database through [`router`]. It decides nothing about who is primary.
//!
//! Where to read on: [`app`] lists the routes and the layers around them; [`api`] and [`pages`] read requests; [`ledger`] is everything
//! about money, and knows nothing of HTTP. [`server`] is the way in, [`run`] the life from start to stop.

pub mod api;
pub mod app;
pub mod auth;
pub mod config;
pub mod db;
pub mod explain;
pub mod health;
pub mod ledger;
pub mod making;
pub mod methods;
pub mod metrics;
pub mod migrate;
pub mod monitoring;
pub mod openapi;
pub mod pages;
pub mod problem;
pub mod queries;
pub mod request;
pub mod routes;
pub mod run;
pub mod server;
pub mod state;
