//! What a session demands of the data that it reads.

use std::time::Duration;

/// How fresh a session's reads must be. Never mixed up with where they go: a session that demands less may still read from the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Data of at most this age, whether the session's own writes are in it or not. A bound below the interval of the probes and the
    /// heartbeats is met by the primary alone while nothing is written.
    Eventual {
        /// The bound.
        max_lag: Duration,
    },
    /// What the session has written, here or (by its causal token) elsewhere, and else data of at most `max_lag_ms`.
    #[default]
    Session,
    /// The primary: everything that was acknowledged to anybody before the read began. For as long as a router has not heard of a change of
    /// roles, at most one interval of the probes, the old primary counts; it acknowledges nothing any more, and is mostly closed.
    Strong,
}
