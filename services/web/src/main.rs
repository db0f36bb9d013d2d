//! The program `web`; everything is in the library beside it.
fn main() {}
