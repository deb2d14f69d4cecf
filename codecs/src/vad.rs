//! Who is talking: voice activity by energy over an adaptive noise floor, with hangover.
//!
//! Good enough for talk events and for choosing the loudest talkers; cheap enough for every stream.

use crate::level;

/// Nothing below this is speech, in dBov.
const QUIETEST_DBOV: f32 = -55.0;
/// Speech stands this far above the noise floor, in dB.
const ABOVE_FLOOR_DB: f32 = 9.0;
/// The floor rises this fast, in dB per second, and falls at once.
const FLOOR_RISE_DB_PER_S: f32 = 4.0;
/// The floor never counts as higher, so that a steady talker is not taken for noise.
const FLOOR_MAX_DBOV: f32 = -35.0;
/// This much speech in a row starts a talk spurt: a click does not.
pub const START_MS: u32 = 40;
/// This much silence ends it: the pauses between words do not.
pub const HANGOVER_MS: u32 = 300;

/// A change of activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TalkChange {
    /// Began to talk; the speech began `START_MS` earlier.
    Started,
    /// Fell silent; the last speech was the hangover earlier.
    Stopped,
}

/// Voice activity of one stream.
#[derive(Debug, Clone)]
pub struct Vad {
    sample_rate_hz: u32,
    floor_dbov: f32,
    talking: bool,
    /// Samples in a row that speak against `talking`.
    against: u32,
}

impl Vad {
    /// A stream that is silent so far.
    #[must_use]
    pub fn new(sample_rate_hz: u32) -> Self {
        Self {
            sample_rate_hz,
            floor_dbov: FLOOR_MAX_DBOV,
            talking: false,
            against: 0,
        }
    }

    /// Takes one frame, 10 to 60 ms; returns whether the activity changed. A frame that did not arrive (DTX,
    /// loss) is a frame of zeros.
    pub fn process(&mut self, pcm: &[i16]) -> Option<TalkChange> {
        self.process_level(level::dbov(pcm), pcm.len() as u32)
    }

    /// As [`Vad::process`], for a level that is already known, such as a header extension's.
    pub fn process_level(&mut self, dbov: f64, samples: u32) -> Option<TalkChange> {
        let dbov = dbov.max(-127.0) as f32;
        let seconds = samples as f32 / self.sample_rate_hz as f32;
        self.floor_dbov = (self.floor_dbov + FLOOR_RISE_DB_PER_S * seconds)
            .min(dbov)
            .min(FLOOR_MAX_DBOV);
        let speech = dbov > QUIETEST_DBOV && dbov > self.floor_dbov + ABOVE_FLOOR_DB;
        if speech == self.talking {
            self.against = 0;
            return None;
        }
        self.against += samples;
        let limit_ms = if self.talking { HANGOVER_MS } else { START_MS };
        if u64::from(self.against) * 1_000 < u64::from(limit_ms) * u64::from(self.sample_rate_hz) {
            return None;
        }
        self.talking = speech;
        self.against = 0;
        Some(if speech {
            TalkChange::Started
        } else {
            TalkChange::Stopped
        })
    }

    /// Whether a talk spurt is under way.
    #[must_use]
    pub fn is_talking(&self) -> bool {
        self.talking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::{noise, speech_like, tone};

    fn changes(vad: &mut Vad, pcm: &[i16]) -> Vec<(usize, TalkChange)> {
        pcm.chunks(160)
            .enumerate()
            .filter_map(|(frame, pcm)| vad.process(pcm).map(|change| (frame * 20, change)))
            .collect()
    }

    #[test]
    fn a_sentence_is_one_talk_spurt() {
        let mut signal = noise(8_000, 20, 1);
        signal.extend(speech_like(8_000, 16_000, 2));
        signal.extend(noise(8_000, 20, 3));
        let found = changes(&mut Vad::new(8_000), &signal);
        assert_eq!(found.len(), 2, "{found:?}");
        let ((start, first), (stop, second)) = (found[0], found[1]);
        assert_eq!((first, second), (TalkChange::Started, TalkChange::Stopped));
        assert!((1_000..1_120).contains(&start), "started at {start} ms");
        assert!((3_240..3_400).contains(&stop), "stopped at {stop} ms");
    }

    #[test]
    fn steady_noise_and_clicks_are_no_speech() {
        // -41 dBov of noise from the first frame on.
        let mut vad = Vad::new(8_000);
        assert_eq!(changes(&mut vad, &noise(80_000, 500, 4)), []);
        let mut click = vec![0; 8_000];
        click[800..900].copy_from_slice(&tone(8_000, 1_000.0, 20_000.0, 100));
        assert_eq!(changes(&mut vad, &click), []);
    }

    #[test]
    fn speech_over_noise_is_found() {
        let mut signal = noise(16_000, 300, 5);
        signal.extend(
            speech_like(8_000, 16_000, 6)
                .iter()
                .zip(noise(16_000, 300, 7))
                .map(|(a, b)| a / 2 + b),
        );
        let found = changes(&mut Vad::new(8_000), &signal);
        assert!(
            matches!(found[..], [(start, TalkChange::Started), ..] if start < 2_200),
            "{found:?}"
        );
    }

    #[test]
    fn silence_says_nothing_and_ends_a_spurt_after_the_hangover() {
        let mut vad = Vad::new(16_000);
        assert_eq!(vad.process(&[0; 320]), None);
        assert_eq!(vad.process(&[]), None);
        for _ in 0..2 {
            vad.process(&tone(16_000, 500.0, 9_000.0, 320));
        }
        assert!(vad.is_talking());
        let frames = (1..).find(|_| vad.process(&[0; 320]) == Some(TalkChange::Stopped));
        assert_eq!(frames, Some(15));
    }
}
