//! Sound files: WAV, Ogg Opus, MP3 and FLAC, opened, read and sought in.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sound::fuzzing::fuzz_sound(data);
});
