//! Automatic gain: who speaks softly is made louder and who speaks loudly softer, and what is no speech changes nothing.
//!
//! The gain follows the level of speech, which stands above a floor of noise; through pauses it stays where it is, so
//! that noise does not swell. No sample is ever driven into clipping.

use crate::level;

/// The measured level follows the speech over so long.
const FOLLOWS_MS: f32 = 150.0;
/// The gain rises and falls no faster, in dB per second.
const RISE_DB_PER_S: f32 = 30.0;
const FALL_DB_PER_S: f32 = 60.0;
/// Nothing below this is speech, in dBov.
const QUIETEST_DBOV: f32 = -55.0;
/// Speech stands this far above the noise floor, in dB.
const ABOVE_FLOOR_DB: f32 = 9.0;
/// The floor rises this fast, in dB per second, falls at once, and never counts as higher, so that a steady talker is not
/// taken for noise.
const FLOOR_RISE_DB_PER_S: f32 = 4.0;
const FLOOR_MAX_DBOV: f32 = -40.0;
/// Peaks stay below this, as a part of full scale.
const PEAK_MAX: f32 = 0.9;

/// What the gain is to reach, and how far it may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GainSettings {
    /// Level of speech to come to, in dBov (a full-scale sine has -3).
    pub target_dbov: f32,
    /// It is made louder or softer by no more, in dB.
    pub gain_db_max: f32,
}

/// The gain of one stream.
#[derive(Debug, Clone)]
pub struct GainControl {
    settings: GainSettings,
    sample_rate_hz: u32,
    floor_dbov: f32,
    /// Mean square of speech, full scale being one; unset before any.
    power: Option<f32>,
    gain_db: f32,
    /// Of the last sample.
    applied: f32,
}

impl GainControl {
    /// A stream that was not heard yet.
    #[must_use]
    pub fn new(settings: GainSettings, sample_rate_hz: u32) -> Self {
        Self {
            settings,
            sample_rate_hz,
            floor_dbov: FLOOR_MAX_DBOV,
            power: None,
            gain_db: 0.0,
            applied: 1.0,
        }
    }

    /// The same for a stream that goes on at another rate, or with other settings.
    #[must_use]
    pub fn adapted(self, settings: GainSettings, sample_rate_hz: u32) -> Self {
        Self {
            settings,
            sample_rate_hz,
            ..self
        }
    }

    /// Amplifies a frame of 10 to 60 ms.
    pub fn process(&mut self, pcm: &mut [i16]) {
        let seconds = pcm.len() as f32 / self.sample_rate_hz as f32;
        self.follow(level::dbov(pcm).max(-127.0) as f32, seconds);
        let peak = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
        let most = PEAK_MAX * 32_768.0 / f32::from(peak).max(1.0);
        let gain = 10_f32.powf(self.gain_db / 20.0).min(most);
        // What went before may have been louder: then at once, else over the frame.
        let from = self.applied.min(most);
        let step = (gain - from) / pcm.len().max(1) as f32;
        let mut factor = from;
        for sample in pcm {
            factor += step;
            // `as` saturates.
            *sample = (f32::from(*sample) * factor).round() as i16;
        }
        self.applied = gain;
    }

    /// The gain that speech has now, in dB.
    #[must_use]
    pub fn gain_db(&self) -> f32 {
        self.gain_db
    }

    fn follow(&mut self, dbov: f32, seconds: f32) {
        self.floor_dbov = (self.floor_dbov + FLOOR_RISE_DB_PER_S * seconds)
            .min(dbov)
            .min(FLOOR_MAX_DBOV);
        if dbov <= QUIETEST_DBOV || dbov <= self.floor_dbov + ABOVE_FLOOR_DB {
            return;
        }
        let now = 10_f32.powf(dbov / 10.0);
        let power = self.power.get_or_insert(now);
        *power += (now - *power) * (1.0 - (-seconds * 1_000.0 / FOLLOWS_MS).exp());
        let GainSettings {
            target_dbov,
            gain_db_max,
        } = self.settings;
        let wanted = (target_dbov - 10.0 * power.log10()).clamp(-gain_db_max, gain_db_max);
        let rise = (RISE_DB_PER_S * seconds).min((wanted - self.gain_db).max(0.0));
        let fall = (FALL_DB_PER_S * seconds).min((self.gain_db - wanted).max(0.0));
        self.gain_db += rise - fall;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{level::dbov, test_signal};

    const SETTINGS: GainSettings = GainSettings {
        target_dbov: -20.0,
        gain_db_max: 20.0,
    };

    /// A tone at a level, in frames of 20 ms.
    fn tone(rate: u32, level_dbov: f64, ms: u32) -> Vec<i16> {
        let amplitude = 32_768.0 * 10_f64.powf((level_dbov + 3.01) / 20.0);
        test_signal::tone(rate, 500.0, amplitude, (rate / 1_000 * ms) as usize)
    }

    fn control(gain: &mut GainControl, rate: u32, mut pcm: Vec<i16>) -> Vec<i16> {
        pcm.chunks_mut(rate as usize / 50)
            .for_each(|frame| gain.process(frame));
        pcm
    }

    #[test]
    fn speech_comes_to_its_level_within_a_second_and_no_further_than_allowed() {
        for rate in [8_000, 16_000, 48_000] {
            for (level, expected) in [(-38.0, -20.0), (-25.0, -20.0), (-20.0, -20.0), (-6.0, -20.0)] {
                let mut gain = GainControl::new(SETTINGS, rate);
                drop(control(&mut gain, rate, vec![0; rate as usize / 5]));
                let heard = control(&mut gain, rate, tone(rate, level, 2_000));
                let settled = dbov(&heard[rate as usize..]);
                assert!(
                    (settled - expected).abs() < 2.0,
                    "{rate} from {level}: {settled:.1}"
                );
            }
            let little = GainSettings {
                gain_db_max: 6.0,
                ..SETTINGS
            };
            let mut gain = GainControl::new(little, rate);
            for (level, expected) in [(-6.0, -12.0), (-28.0, -22.0)] {
                let heard = control(&mut gain, rate, tone(rate, level, 3_000));
                let settled = dbov(&heard[2 * rate as usize..]);
                assert!(
                    (settled - expected).abs() < 0.5,
                    "{rate} from {level}: {settled:.1}"
                );
            }
        }
    }

    #[test]
    fn pauses_and_noise_do_not_swell() {
        let mut gain = GainControl::new(SETTINGS, 8_000);
        drop(control(&mut gain, 8_000, vec![0; 1_600]));
        drop(control(&mut gain, 8_000, tone(8_000, -35.0, 2_000)));
        let before = gain.gain_db();
        assert!((before - 15.0).abs() < 1.0, "{before}");
        drop(control(&mut gain, 8_000, vec![0; 80_000]));
        let hiss = test_signal::noise(80_000, 60, 3);
        drop(control(&mut gain, 8_000, hiss.clone()));
        assert_eq!(gain.gain_db(), before);
        // Nor does noise alone.
        let mut gain = GainControl::new(SETTINGS, 8_000);
        assert_eq!(control(&mut gain, 8_000, hiss.clone()), hiss);
    }

    #[test]
    fn who_becomes_loud_at_once_is_not_clipped() {
        let mut gain = GainControl::new(SETTINGS, 16_000);
        drop(control(&mut gain, 16_000, vec![0; 3_200]));
        drop(control(&mut gain, 16_000, tone(16_000, -36.0, 2_000)));
        let loud = tone(16_000, -4.0, 1_000);
        let heard = control(&mut gain, 16_000, loud);
        let peak = heard.iter().map(|sample| sample.unsigned_abs()).max();
        assert!(peak <= Some(29_500), "{peak:?}");
        // And after a frame the step from sample to sample is a tone's.
        let own = 2.0 * 29_500.0 * (std::f64::consts::PI * 500.0 / 16_000.0).sin();
        let steps = heard[320..]
            .windows(2)
            .map(|two| (i32::from(two[1]) - i32::from(two[0])).abs());
        let step = steps.max().unwrap();
        assert!(f64::from(step) <= own * 1.05, "{step}, own {own:.0}");
    }
}
