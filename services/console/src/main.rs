//! The program `console`; everything is in the library beside it.
fn main() {}
