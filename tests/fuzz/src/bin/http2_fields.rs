//! The target `http2_fields`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::codec::http2_fields::check(data));
