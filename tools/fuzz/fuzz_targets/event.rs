//! Telephone-events and the receiver that makes digits of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rtp::fuzzing::fuzz_event(data));
