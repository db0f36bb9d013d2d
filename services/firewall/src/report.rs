//! What the owner tells its child, a line of JSON at a time: the child may not ask the kernel itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the rules are, and what they have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Packets and bytes since the rules were loaded, by the counter's name.
    pub counters: BTreeMap<String, Counted>,
    /// Whether the rules are as they were loaded.
    pub rules_good: bool,
    /// How often rules were loaded.
    pub loads: u64,
    /// How often they were found to be other ones than were loaded.
    pub failures: u64,
}

/// What one counter has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}
