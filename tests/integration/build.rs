//! The router's example is compiled into a test here, and its queries are checked against what lies beside it.
fn main() {
    println!("cargo:rerun-if-changed=../../services/router/.sqlx");
    println!(
        "cargo:rustc-env=SQLX_OFFLINE_DIR={}/../../services/router/.sqlx",
        env!("CARGO_MANIFEST_DIR")
    );
}
