//! Digits as tones.

use super::Digit;
use crate::level::amplitude_of_dbm0;
use crate::tone::Oscillator;

/// Level of the low tone, in dBm0 (ITU-T Q.23 leaves it to the country; this suits all).
const LOW_DBM0: f64 = -9.0;
/// The high tone is louder, for lines lower it more.
const HIGH_DBM0: f64 = -7.0;
/// Beginnings and ends are ramps of this length, so that nothing clicks.
const RAMP_MS: usize = 2;

/// Sounds one digit after another.
#[derive(Debug, Clone)]
pub struct DtmfGenerator {
    sample_rate_hz: u32,
    low: Oscillator,
    high: Oscillator,
    levels: (f32, f32),
    on_samples: usize,
    total_samples: usize,
    played: usize,
}

impl DtmfGenerator {
    /// A generator that is silent until it is given a digit.
    #[must_use]
    pub fn new(sample_rate_hz: u32) -> Self {
        let silent = Oscillator::new(0.0, sample_rate_hz);
        Self {
            sample_rate_hz,
            low: silent,
            high: silent,
            levels: (0.0, 0.0),
            on_samples: 0,
            total_samples: 0,
            played: 0,
        }
    }

    /// Begins a digit at once, in place of the one that sounds, with a pause after it.
    pub fn start(&mut self, digit: Digit, on_ms: u32, pause_ms: u32) {
        self.start_at(digit, on_ms, pause_ms, (LOW_DBM0, HIGH_DBM0));
    }

    /// As [`start`](Self::start), with tones of these levels in dBm0, the low one first.
    pub fn start_at(&mut self, digit: Digit, on_ms: u32, pause_ms: u32, dbm0: (f64, f64)) {
        self.levels = (amplitude_of_dbm0(dbm0.0) as f32, amplitude_of_dbm0(dbm0.1) as f32);
        let (low, high) = digit.frequencies_hz();
        self.low = Oscillator::new(low, self.sample_rate_hz);
        self.high = Oscillator::new(high, self.sample_rate_hz);
        self.on_samples = (u64::from(on_ms) * u64::from(self.sample_rate_hz) / 1_000) as usize;
        self.total_samples =
            self.on_samples + (u64::from(pause_ms) * u64::from(self.sample_rate_hz) / 1_000) as usize;
        self.played = 0;
    }

    /// Whether digit and pause are over: the next may start.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.played >= self.total_samples
    }

    /// Writes the next samples, silence after the end; returns how many belong to digit and pause.
    pub fn generate(&mut self, pcm: &mut [i16]) -> usize {
        let written = (self.total_samples - self.played).min(pcm.len());
        let sounding = self.on_samples.saturating_sub(self.played).min(written);
        let ramp = (RAMP_MS * self.sample_rate_hz as usize / 1_000)
            .min(self.on_samples / 2)
            .max(1);
        for (n, sample) in pcm[..sounding].iter_mut().enumerate() {
            let place = self.played + n;
            let edge = (place + 1).min(self.on_samples - place).min(ramp) as f32 / ramp as f32;
            let sum = self.low.next_value() * self.levels.0 + self.high.next_value() * self.levels.1;
            *sample = (sum * edge).round() as i16;
        }
        pcm[sounding..].fill(0);
        self.played += written;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goertzel::dbfs;
    use crate::level::FULL_SCALE_SINE_DBM0;

    #[test]
    fn digits_have_their_tones_levels_and_times() {
        for rate in [8_000, 16_000, 48_000] {
            for digit in Digit::all() {
                let mut generator = DtmfGenerator::new(rate);
                assert!(generator.is_finished());
                generator.start(digit, 100, 50);
                let mut heard = vec![1; rate as usize / 5];
                let mut written = 0;
                for frame in heard.chunks_mut(77) {
                    written += generator.generate(frame);
                }
                assert_eq!(written, rate as usize * 150 / 1_000);
                assert!(generator.is_finished());
                let on = rate as usize / 10;
                let (low, high) = digit.frequencies_hz();
                let dbm0 = |hz| dbfs(&heard[..on], hz, rate) + FULL_SCALE_SINE_DBM0;
                assert!((dbm0(low) - LOW_DBM0).abs() < 0.5 && (dbm0(high) - HIGH_DBM0).abs() < 0.5);
                assert!(heard[on..].iter().all(|&s| s == 0));
            }
        }
    }

    #[test]
    fn characters() {
        assert_eq!(
            Digit::all().map(Digit::as_char).collect::<String>(),
            "123A456B789C*0#D"
        );
        assert_eq!(Digit::from_char('d').map(Digit::as_char), Some('D'));
        assert_eq!(Digit::from_char('é'), None);
        assert_eq!(Digit::from_char('E'), None);
        assert_eq!(Digit::from_char('#').unwrap().frequencies_hz(), (941.0, 1_477.0));
    }
}
