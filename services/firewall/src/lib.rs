//! The owner of a pod: the container that carries a pod's addresses, and whose rules all of the pod's services live behind.
//!
//! It makes its rules from the matrix (`ruleset`), loads and verifies them (`owner`), and hands what they count to a child without any
//! privilege, which serves the metrics (`serve`) and, in the telemetry pod, is the door (`door`). It is no proxy for the other pods: a
//! packet that may pass goes by itself. Two small tools come with the program, for images that have nothing else: `tether` ends a
//! program that has lost its network, `probe` asks it how it is; and `reach` tells what can be reached from a pod.
//!
//! ```
//! let rules = firewall::ruleset::ruleset(chassis::matrix::matrix(), "pod-mysql-1", "10.213")?;
//! assert!(rules.contains("policy drop"));
//! # Ok::<(), firewall::ruleset::UnknownPod>(())
//! ```

pub mod config;
pub mod door;
pub mod metrics;
pub mod nft;
pub mod owner;
pub mod privileges;
pub mod probe;
pub mod reach;
pub mod report;
pub mod ruleset;
pub mod serve;
pub mod table;
pub mod tether;
