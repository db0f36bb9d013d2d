//! Inputs to begin with: every case of the balancer's own tables, each as its target takes it.

use super::cases::{self, CHUNKS, STREAMS};
use super::http2_fields::{END_OF_STREAM, HAS_AUTHORITY, HAS_SCHEME, SMALL_LIMITS};

/// Requests, with the limits that the cases are for and with those of every day.
pub fn requests() -> Vec<Vec<u8>> {
    shaped(&cases::requests_sent(), b"01")
}

/// Responses, to a GET and to the others.
pub fn responses() -> Vec<Vec<u8>> {
    shaped(&cases::responses_sent(), b"0146")
}

/// Chunked content.
pub fn chunks() -> Vec<Vec<u8>> {
    let sent: Vec<Vec<u8>> = CHUNKS.iter().map(|(_, case)| cases::bytes(case)).collect();
    shaped(&sent, b"01")
}

/// Behind their first two bytes: each of `choices`, and a cut.
fn shaped(sent: &[Vec<u8>], choices: &[u8]) -> Vec<Vec<u8>> {
    let of_all = |choice: &u8| {
        let choice = *choice;
        sent.iter()
            .map(move |sent| [&[choice, b'0'], &sent[..]].concat())
    };
    choices.iter().flat_map(of_all).collect()
}

/// Requests by HTTP/2.
pub fn streams() -> Vec<Vec<u8>> {
    let small = STREAMS.iter().map(|(_, case)| stream(case));
    small
        .flat_map(|seed| {
            let mut large = seed.clone();
            large[0] &= !SMALL_LIMITS;
            [seed, large]
        })
        .collect()
}

fn stream(case: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = case.split('¶').collect();
    let mut choice = SMALL_LIMITS;
    if lines.pop_if(|line| *line == "...").is_none() {
        choice |= END_OF_STREAM;
    }
    let mut words = lines[0].split(' ').map(|word| match word {
        "-" => "",
        word => word,
    });
    let mut word = || words.next().unwrap_or_default();
    let [method, scheme, authority, path] = [word(), word(), word(), word()];
    if !scheme.is_empty() {
        choice |= HAS_SCHEME;
    }
    if !authority.is_empty() {
        choice |= HAS_AUTHORITY;
    }
    let fields = lines[1..].iter().map(|line| line.replacen(": ", "\x1f", 1));
    let words = [method, scheme, authority, path].map(str::to_owned);
    let all: Vec<String> = words.into_iter().chain(fields).collect();
    [&[choice], all.join("\x1e").as_bytes()].concat()
}
