//! Holdfast beside others: what it costs, and what it does when a backend is sick. `./stack bench` sets it up, so do the tests with `--quick`.
//!
//! Everything that is started here runs on loopback, in a temporary directory, in a process group or a container of its own, and is ended
//! with the value that holds it, on errors and on Ctrl-C too. It measures and compares; it judges nothing: what is fast enough, a person says.

pub mod balancer;
mod callgrind;
mod certificates;
pub mod cores;
pub mod descriptors;
mod document;
pub mod faults;
mod group;
mod h2load;
mod invocation;
mod machine;
mod median;
mod ports;
mod process;
mod programs;
pub mod router;
mod tls_client;
mod tools;
