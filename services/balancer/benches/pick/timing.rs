//! How long something short takes: many times in a row, in rounds, of which the quickest is told. The others were disturbed: by another program
//! on the same core, by an interrupt, by a neighbour of this virtual machine.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long a round is.
const ROUND: Duration = Duration::from_millis(2);
/// How many rounds there are.
const ROUNDS: usize = 100;

/// Nanoseconds for each of two things, in alternating rounds, so that what else happens on the machine meets both.
pub(crate) fn in_turns(mut first: impl FnMut(), mut second: impl FnMut()) -> [f64; 2] {
    let (first_times, second_times) = (times(&mut first), times(&mut second));
    let rounds: Vec<[f64; 2]> = (0..ROUNDS)
        .map(|_| {
            [
                round(&mut first, first_times),
                round(&mut second, second_times),
            ]
        })
        .collect();
    [0, 1].map(|which| {
        let ns = rounds.iter().map(|round| round[which]);
        ns.fold(f64::INFINITY, f64::min)
    })
}

/// How often it is done in a round. What it takes to find out warms it up.
fn times(what: &mut impl FnMut()) -> u32 {
    let mut times = 64;
    loop {
        let began = Instant::now();
        for _ in 0..times {
            black_box(&mut *what)();
        }
        if began.elapsed() >= ROUND {
            return times;
        }
        times *= 2;
    }
}

fn round(what: &mut impl FnMut(), times: u32) -> f64 {
    let began = Instant::now();
    for _ in 0..times {
        black_box(&mut *what)();
    }
    began.elapsed().as_nanos() as f64 / f64::from(times)
}
