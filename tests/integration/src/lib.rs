//! Ring 2: real processes on loopback, one file per capability.
