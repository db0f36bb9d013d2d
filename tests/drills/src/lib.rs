//! Failures with an asserted outcome. Each is a test and a command: `./stack drill`.
//!
//! A [`Stage`] is two real servers, the real arbiter, and a link that can be broken on each path between them; clients write on it all the
//! time and remember what they were told. A drill does something to it, waits until the pair is whole again, and a judge compares what was
//! acknowledged with what is there. Nothing here knows how the arbiter decides: it is run as a process, and seen by its commands, its log
//! and what the servers say.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use drills::{Stage, stage::Kind};
//!
//! let stage = Stage::set(Kind::Usual).await?;
//! let primary = stage.primary().await?;
//! stage.server(primary).kill().await?;
//! stage.server(primary).restart().await?;
//! stage.whole().await?;
//! stage.judge().await?; // nothing is lost
//! # Ok(()) }
//! ```

pub mod arbiter;
mod client;
pub mod fault;
pub mod fault_loop;
pub mod history;
pub mod judge;
pub mod link;
mod load;
mod report;
pub mod scenario;
mod sight;
pub mod stage;

pub use stage::Stage;
