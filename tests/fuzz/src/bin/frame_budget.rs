//! The target `frame_budget`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::http2_frames::check(data));
