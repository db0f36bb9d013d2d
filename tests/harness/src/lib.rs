//! Real servers for tests: mysqld pairs, a TCP proxy that cuts and delays, programs of the workspace, the trace store, a browser, the
//! Compose project.
//!
//! Nothing here is a mock: a [`Pair`] is two servers of the stack's own image, a [`Program`] the binary that the images hold. What a
//! test starts carries its run's name, goes when its value is dropped, and is swept by the next run if the test was killed ([`run`]).
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use harness::{Account, Pair};
//!
//! let pair = Pair::replicating().await?; // mysql-1 primary, mysql-2 replica, semi-sync, holdfast.cluster of epoch 1
//! let mut migrate = pair.mysql_1().connect(Account::Migrate).await?;
//! sqlx::query("CREATE TABLE ledger.t (id INT PRIMARY KEY)").execute(&mut migrate).await?;
//! pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
//! # Ok(()) }
//! ```

mod base_image;
pub mod browser;
pub mod capture;
pub mod compose;
mod docker;
mod document;
mod identity;
mod metric;
mod mysql_image;
pub mod namespace;
mod pair;
mod port;
mod program;
mod proxy;
mod roles;
pub mod run;
mod server;
mod small_disk;
mod table;
mod trace_store;
mod wait;

pub use base_image::{base_image, named, stand_in};
pub use docker::docker;
pub use document::Marks;
pub use identity::{Identities, server_config};
pub use metric::metric;
pub use mysql_image::MysqlImage;
pub use pair::Pair;
pub use port::free_port;
pub use program::{Program, path_of};
pub use proxy::{Direction, Proxy};
pub use roles::Rejoined;
pub use server::{Account, Server, error_number};
pub use table::Table;
pub use trace_store::{Span, TraceStore};
pub use wait::{wait_for, wait_until};
