//! Sound files: WAV and Ogg Opus, opened, read and sought in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sound::fuzzing::fuzz_sound(data);
});
