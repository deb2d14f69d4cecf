//! Payloads of comfort noise.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| codecs::fuzzing::fuzz_comfort_noise(data));
