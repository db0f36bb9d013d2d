//! The target `request_heads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::codec::heads::check_request_heads(data));
