//! SIP messages framed in a stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sip::fuzzing::fuzz_stream(data));
