//! The target `proxy_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::proxy_headers::check(data));
