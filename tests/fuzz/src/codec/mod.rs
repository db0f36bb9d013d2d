//! The codec of HTTP/1.1 against the reference reader. Both readers' proof of agreement is the balancer's own
//! (`services/balancer/src/http1/agreement.rs`); what is added here is what only many inputs make worth while.

#[path = "../../../../services/balancer/src/http1/agreement.rs"]
mod agreement;
// Of the tables and the tests on them only the tables are here.
#[allow(unused_imports, clippy::unwrap_used)]
#[path = "../../../../services/balancer/src/http1/cases.rs"]
mod cases;
#[path = "../../../../services/balancer/src/http1/reference.rs"]
mod reference;

pub mod chunked_content;
pub mod heads;
pub mod http2_fields;
pub mod seeds;

// The tables of cases look for the codec beside them.
use crate::http1::*;

pub(crate) fn small_limits() -> Limits {
    cases::limits()
}

/// Limits that nothing here reaches, for where they are not what is asked about.
fn no_limits() -> Limits {
    let none = 1 << 20;
    Limits {
        head_bytes_max: none,
        fields_max: FIELDS_CAP,
        target_bytes_max: none,
        trailer_bytes_max: none,
        chunk_line_bytes_max: none,
    }
}
