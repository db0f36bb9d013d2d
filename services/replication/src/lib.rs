//! What a MySQL server says about itself: GTID sets, the cluster row, lag, role, error numbers; and how to connect to it.
//!
//! It decides nothing: the arbiter decides who is primary, the router where a statement goes, and both read the same facts here.
//!
//! ```
//! use replication::GtidSet;
//! let primary: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7:arbiter:1-3".parse()?;
//! let replica: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse()?;
//! assert!(primary.contains(&replica));
//! assert_eq!(primary.subtract(&replica).to_string(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:6-7:arbiter:1-3");
//! # Ok::<(), replication::GtidError>(())
//! ```

mod cluster;
mod connect;
pub mod errors;
mod facts;
mod gtid;

pub use cluster::{ClusterRow, Published, cluster_row};
pub use connect::{Account, Endpoint, TlsFiles, connect_options};
pub use errors::ErrorKind;
pub use facts::{
    CloneState, Lag, ReplicaFacts, SemiSyncFacts, ServerFacts, applier_threads, boot, clone_state,
    open_transactions, refused_logins, replica_facts, semi_sync_facts, server_facts,
};
pub use gtid::{GtidError, GtidSet};
