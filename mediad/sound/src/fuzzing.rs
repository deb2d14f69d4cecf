//! Entry points for fuzzers and the corpus replay: reads anything, and checks what came out against itself.
//!
//! Each function panics if and only if the crate contradicts itself.

use std::io::Cursor;

use crate::{Sound, SoundError};

/// Longest input looked at.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// A few bytes of Opus may stand for minutes: no more is decoded than this.
const SAMPLES_MAX: usize = 200_000;

/// Takes `data` for a sound file: reads it, and reads its second half again after seeking there. Says whether it could
/// be opened.
pub fn fuzz_sound(data: &[u8]) -> bool {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let Ok(sound) = Sound::open(Cursor::new(data.to_vec())) else {
        return false;
    };
    let (rate_hz, samples) = (sound.rate_hz(), sound.samples());
    assert!(samples > 0 && rate_hz > 0);
    let Ok(mut reader) = sound.reader(8_000) else {
        return true;
    };
    let all = drain(&mut reader);
    let expected = (u128::from(samples) * 8_000).div_ceil(u128::from(rate_hz));
    if let Ok(all) = &all {
        assert!(all.len() as u128 <= expected, "{} of {expected}", all.len());
    }
    if reader.seek(expected as u64 / 2).is_ok() {
        let _ = drain(&mut reader);
    }
    true
}

fn drain(reader: &mut crate::Reader<Cursor<Vec<u8>>>) -> Result<Vec<i16>, SoundError> {
    let mut all = Vec::new();
    let mut pcm = [0; 1_000];
    while all.len() < SAMPLES_MAX {
        match reader.read(&mut pcm)? {
            0 => break,
            count => all.extend_from_slice(&pcm[..count]),
        }
    }
    Ok(all)
}
