//! What must hold of any bytes that a balancer reads, and of any SQL that the router classifies, one function for each target:
//! [`TARGETS`].
//!
//! Each panics where it does not hold. Each compares a reader with a second one, which is written to be plain and not to be fast. The
//! modules are here by their paths, and none of it is the balancer or the router: no sockets, no TLS, no pingora, no sqlx.

// The modules are used in part.
#![allow(dead_code)]

#[path = "../../../services/router/src/classify/mod.rs"]
pub mod classify;
#[path = "../../../services/balancer/src/frame_budget.rs"]
pub mod frame_budget;
#[path = "../../../services/balancer/src/http1/mod.rs"]
pub mod http1;
#[path = "../../../services/balancer/src/proxy_protocol.rs"]
pub mod proxy_protocol;
#[path = "../../../services/balancer/src/websocket.rs"]
pub mod websocket;

pub mod codec;
pub mod corpus;
pub mod http2_frames;
pub mod proxy_headers;
pub mod shape;
pub mod statements;
pub mod websocket_frames;

/// A target: what its program is called, and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its program, its corpus and its regressions.
    pub name: &'static str,
    /// Its dictionary in `dict/`.
    pub dictionary: &'static str,
    /// How long inputs get: long enough for every rule, no longer, for short ones are quick.
    pub input_bytes_max: usize,
    /// What it begins with: every case that the tables of tests have.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "request_heads",
        dictionary: "http1",
        input_bytes_max: 600,
        seeds: codec::seeds::requests,
    },
    Target {
        name: "response_heads",
        dictionary: "http1",
        input_bytes_max: 600,
        seeds: codec::seeds::responses,
    },
    Target {
        name: "chunked_content",
        dictionary: "chunks",
        input_bytes_max: 400,
        seeds: codec::seeds::chunks,
    },
    Target {
        name: "http2_fields",
        dictionary: "http2_fields",
        input_bytes_max: 800,
        seeds: codec::seeds::streams,
    },
    Target {
        name: "proxy_protocol",
        dictionary: "proxy_protocol",
        input_bytes_max: 4_200,
        seeds: proxy_headers::seeds,
    },
    Target {
        name: "websocket",
        dictionary: "websocket",
        input_bytes_max: 600,
        seeds: websocket_frames::seeds,
    },
    Target {
        name: "frame_budget",
        dictionary: "http2_frames",
        input_bytes_max: 800,
        seeds: http2_frames::seeds,
    },
    Target {
        name: "statements",
        dictionary: "sql",
        input_bytes_max: 300,
        seeds: statements::seeds,
    },
];
