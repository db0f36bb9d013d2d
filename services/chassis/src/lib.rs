//! What every Holdfast service starts and stops with: its configuration, its certificate files, the matrix, its admin socket, its end.
//!
//! It knows neither MySQL nor pingora nor axum, and it starts no server but the admin socket's. A service reads:
//!
//! ```no_run
//! # use chassis::{cli::{self, Invocation, NoExtra}, config::Config};
//! # fn example<C: Config>() {
//! match cli::parse::<C, NoExtra>() {
//!     Invocation::Run(config, _) => { /* build and run until `stop::requested()` */ }
//!     Invocation::Extra(_, never) => match never {},
//! }
//! # }
//! ```

pub mod admin;
pub mod cli;
pub mod config;
pub mod identity;
pub mod matrix;
pub mod namespace;
pub mod stop;
