//! What a pick costs: choosing a backend and taking a lease on it, and giving the lease back.
//!
//! One thread, so nothing about how many get on with each other; and all of it is in the processor's caches, where it is not while requests
//! are served. Beside it, in the same run, what one would write first (`naive.rs`).

mod balancers;
#[path = "../choice/document.rs"]
mod document;
#[path = "../choice/marks.rs"]
mod marks;
mod naive;
#[path = "../choice/table.rs"]
mod table;
mod timing;

use std::fs;
use std::process::ExitCode;

use balancers::{busy, naive, ours};
use table::table;
use timing::in_turns;

/// How many backends.
const SIZES: [usize; 3] = [2, 16, 256];
/// Requests in flight on each, while it is busy.
const EACH: usize = 64;

fn main() -> ExitCode {
    let mut rows = Vec::new();
    for size in SIZES {
        for is_weighted in [false, true] {
            for in_flight in [0, EACH] {
                let (ours, naive) = (ours(size, is_weighted), naive(size, is_weighted));
                let held = busy(&ours, &naive, size * in_flight);
                let [ns, naive_ns] = in_turns(|| drop(ours.choose(&[])), || drop(naive.choose()));
                drop(held);
                rows.push(vec![
                    size.to_string(),
                    (if is_weighted { "different" } else { "equal" }).to_owned(),
                    in_flight.to_string(),
                    format!("{ns:.0}"),
                    format!("{naive_ns:.0}"),
                    format!("{:.2}", ns / naive_ns),
                ]);
            }
        }
    }
    let head = [
        "backends",
        "weights",
        "in flight on each",
        "ns",
        "naive, ns",
        "ratio",
    ];
    let part = format!("Machine: {}.\n\n{}", processor(), table(&head, &rows));
    print!("{part}");
    let Some(path) = document::asked_for() else {
        return ExitCode::SUCCESS;
    };
    match document::replace(&path, "pick", &part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pick: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the kernel calls it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    name.unwrap_or("unknown").to_owned()
}
