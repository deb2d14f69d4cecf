//! RTP headers: read and edited in place.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rtp::fuzzing::fuzz_rtp(data));
