//! Takes Jaeger's place where its image cannot be had, and in tests: spans come in by OTLP over HTTP, traces are asked for by id.
//!
//! It answers as Jaeger does where a program asks (`/api/v3/traces/ID`), and shows a trace as one plain page where a person does. It is no
//! database: the newest traces are kept in memory, up to a number, and nothing else. It checks nobody: in the stack the firewall's door
//! before it has done that, and its pages are published on the host's loopback alone.

mod page;
pub mod serve;
pub mod store;
