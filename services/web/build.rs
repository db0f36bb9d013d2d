//! A new file in migrations/ is a new program: `sqlx::migrate!` alone notices only changes of the files that it has read.
fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
