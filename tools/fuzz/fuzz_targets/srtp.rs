//! SRTP and SRTCP: a peer and a stranger send, keys change, packets are repeated.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| srtp::fuzzing::fuzz_srtp(data));
