//! The target `response_heads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::codec::heads::check_response_heads(data));
