//! Opus packets: inspected and decoded.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codecs::fuzzing::fuzz_opus(data));
