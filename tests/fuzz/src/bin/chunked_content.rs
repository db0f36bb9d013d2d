//! The target `chunked_content`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::codec::chunked_content::check(data));
