//! The cases, damaged at random: whatever comes of them, codec and reference reader must agree on it, however it is cut.
//!
//! Seeded: a failure prints the seed, and `HOLDFAST_SEED` repeats it. `HOLDFAST_MUTATIONS` makes a long run of it.

use std::env;
use std::thread;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::agreement::{check_requests, check_responses};
use super::cases::{limits, requests_sent, responses_sent};
use super::*;

/// What is tried in every run: a second or two.
const MUTATIONS: u64 = 20_000;

/// What framing and strictness turn on, besides what the cases have.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b"\"",
    b"0",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"1\r\na\r\n",
    b"chunked",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, host\r\n",
    b"Host: a\r\n",
    b"HTTP/1.0",
    b"\x80",
    b"%2",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Says with which seed it failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("HOLDFAST_SEED={} repeats it", self.0);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    let given = env::var(name).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// Runs `check` on so many damaged messages; each has a seed of its own.
fn damaged(sent: &[Vec<u8>], check: impl Fn(&[u8], &[usize])) {
    let first = number("HOLDFAST_SEED", 1);
    for seed in first..first + number("HOLDFAST_MUTATIONS", MUTATIONS) {
        let seed = Seed(seed);
        let mut random = StdRng::seed_from_u64(seed.0);
        let mut bytes = sent.choose(&mut random).expect("there are cases").clone();
        for _ in 0..random.random_range(1..=3) {
            damage(&mut bytes, sent, &mut random);
        }
        let cuts: Vec<usize> = (0..random.random_range(1..4))
            .map(|_| random.random_range(1..12))
            .collect();
        check(&bytes, &cuts);
    }
}

fn damage(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=bytes.len());
    let end = random.random_range(at..=bytes.len().min(at + 8));
    match random.random_range(0..6) {
        0 => drop(bytes.drain(at..end)),
        1 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        2 => {
            let piece = PIECES.choose(random).expect("there are pieces");
            drop(bytes.splice(at..at, piece.iter().copied()));
        }
        3 => {
            let piece = PIECES.choose(random).expect("there are pieces");
            drop(bytes.splice(at..end, piece.iter().copied()));
        }
        4 if at < bytes.len() => bytes[at] = random.random(),
        _ => {
            let other = others.choose(random).expect("there are cases");
            let from = random.random_range(0..=other.len());
            drop(bytes.splice(at.., other[from..].iter().copied()));
        }
    }
}

#[test]
fn damaged_requests_are_understood_by_both_readers_alike() {
    damaged(&requests_sent(), |bytes, cuts| {
        check_requests(bytes, cuts, &limits());
    });
}

#[test]
fn damaged_responses_are_understood_by_both_readers_alike() {
    for answering in [Answering::Other, Answering::Head, Answering::Connect] {
        damaged(&responses_sent(), |bytes, cuts| {
            check_responses(bytes, cuts, &limits(), answering);
        });
    }
}
