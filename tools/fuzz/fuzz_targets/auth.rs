//! Digest challenges and credentials.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sip::fuzzing::fuzz_auth(data));
