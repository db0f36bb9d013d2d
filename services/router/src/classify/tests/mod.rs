//! Tables of statements, one file for each thing that fools those who split statements, and properties over all of them.

mod hints;
mod linear;
mod not_writes;
mod one_server;
mod properties;
mod session_bound;
mod spelling;
mod state_changing;
mod unknown_functions;

use super::{Class, Classifier, Hint, Session, Verdict, Why, classify};

/// All of these have this class.
fn all(class: Class, statements: &[&str]) {
    for sql in statements {
        assert_eq!(classify(sql), class, "{sql}");
    }
}

/// All of these are errors on the shared executor, for this reason.
fn bound(session: Session, statements: &[&str]) {
    all(Class::SessionState(session), statements);
}

fn verdict(sql: &str) -> Verdict {
    Classifier::default().classify(sql)
}
