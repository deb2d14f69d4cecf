//! G.722 payloads.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codecs::fuzzing::fuzz_g722(data));
