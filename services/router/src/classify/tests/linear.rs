//! No text takes more than its length's worth of time.

use std::time::{Duration, Instant};

use super::*;

const SMALL_BYTES: usize = 64 * 1024;
const LARGE_BYTES: usize = 1024 * 1024;
/// As many small texts as are as long as a large one, so that whatever else runs on the machine takes as much time from both. What is
/// quadratic takes so many times as long for the large one.
const PARTS: usize = LARGE_BYTES / SMALL_BYTES;
/// The caches hold less of a large text.
const RATIO_MAX: f64 = PARTS as f64 / 2.5;

/// Others may run meanwhile, and the fastest of some tries is what it takes: of so many at least, and of so many if it seems too long.
const TRIES: std::ops::Range<usize> = 3..40;

fn time(sql: &str, times: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        let _ = std::hint::black_box(Classifier::default().classify_with_summary(sql));
    }
    start.elapsed()
}

#[test]
fn nasty_texts_take_linear_time() {
    for (head, part, tail) in [
        ("SELECT ", "(", ""),
        ("SELECT ", "()", ""),
        ("", "(", "SELECT 1"),
        ("SELECT ", "/* /* */", " 1"),
        ("SELECT /*! ", "/*! x */ /*! ", " 1"),
        ("SELECT /*!99999 ", "/* */", "*/ 1"),
        ("SELECT /*!90000 ", "1, ", "1 */"),
        ("SELECT ", "``", "` 1"),
        ("SELECT ", "`a`.", "b"),
        ("SELECT ", "''", "' 1"),
        ("SELECT '", "\\\\", "'"),
        ("SELECT 1", ", a", ""),
        ("SELECT f(1", ", f (a, b", ""),
        ("WITH a AS (SELECT 1)", ", b (c, d", ""),
        (
            "WITH a AS (SELECT 1)",
            ", b (c, d) AS (WITH e AS (SELECT 1",
            "",
        ),
        ("SELECT * FROM (SELECT 1)", " AS d (a, b", ""),
        ("SELECT ", "@", "x"),
        ("SELECT ", "@@x.", "x"),
        ("SELECT ", "{fn ", "1"),
        ("SELECT 1", ";", ""),
        ("SELECT 1", "; SELECT 1", ""),
        ("SELECT ", "-- x\n", "1"),
        ("SELECT ", "- ", "1"),
        ("SELECT * FROM t", " JOIN u", ""),
        ("SELECT ", "1e", "x"),
        ("SELECT ", "0x", ""),
        ("SELECT ", "é", ""),
        ("CREATE DEFINER = ", "a@b ", "PROCEDURE"),
        ("SET ", "a = 1, ", "b = 2"),
        ("SET GLOBAL a = 1", ", GLOBAL b = (2", ""),
        ("EXPLAIN ", "FORMAT = x ", "SELECT 1"),
        ("FLUSH ", "WITH ", "x"),
        ("", "/* router:x */", "SELECT 1"),
    ] {
        let text = |bytes: usize| head.to_owned() + &part.repeat(bytes / part.len()) + tail;
        let (small_text, large_text) = (text(SMALL_BYTES), text(LARGE_BYTES));
        // What takes no time at all is measured by the clock's grain.
        let (mut small, mut large) = (Duration::MAX, Duration::MAX);
        let is_linear = (1..TRIES.end).any(|tried| {
            small = small.min(time(&small_text, PARTS).max(Duration::from_micros(100)));
            large = large.min(time(&large_text, 1));
            tried >= TRIES.start && large < small.mul_f64(RATIO_MAX)
        });
        assert!(
            is_linear,
            "{head}{part}…{tail}: {small:?} for {PARTS} times {SMALL_BYTES} bytes, {large:?} for {LARGE_BYTES}"
        );
    }
}
