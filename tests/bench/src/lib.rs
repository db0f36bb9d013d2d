//! What Holdfast costs beside others: `./stack bench balancer` sets it up, so do the tests with `--quick`.
//!
//! Everything that is started here runs on loopback, in a temporary directory, in a process group of its own, and is ended with the value
//! that holds it, on errors and on Ctrl-C too. It measures and compares; it judges nothing: what is fast enough, a person says.

pub mod balancer;
mod certificates;
pub mod cores;
pub mod descriptors;
mod document;
mod group;
mod h2load;
mod machine;
mod median;
mod ports;
mod process;
mod table;
mod tls_client;
mod tools;
