//! What each bench writes into a document, and between which marks.

use harness::Marks;

/// What `./stack bench balancer` writes.
pub(crate) const MEASURED: Marks = Marks::new("<!-- measured: begin -->", "<!-- measured: end -->");

/// What `./stack bench faults` writes.
pub(crate) const FAULTS: Marks = Marks::new("<!-- faults: begin -->", "<!-- faults: end -->");

/// What `./stack bench router` writes.
pub(crate) const ROUTER: Marks = Marks::new("<!-- router: begin -->", "<!-- router: end -->");
