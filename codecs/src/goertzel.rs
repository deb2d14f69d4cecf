//! The level of one frequency in a piece of signal, for tests and the measuring tools.

use std::f64::consts::TAU;

/// The peak amplitude of the sine at `hz` in `pcm`: 32 767 for a full-scale one; 0 for no samples.
///
/// Frequencies `sample_rate_hz / pcm.len()` apart are told apart; a whole number of periods in `pcm`
/// gives the exact value.
#[must_use]
pub fn amplitude(pcm: &[i16], hz: f64, sample_rate_hz: u32) -> f64 {
    if pcm.is_empty() {
        return 0.0;
    }
    let omega = TAU * hz / f64::from(sample_rate_hz);
    let coefficient = 2.0 * omega.cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for &sample in pcm {
        let s0 = f64::from(sample) + coefficient * s1 - s2;
        s2 = s1;
        s1 = s0;
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    2.0 * power.max(0.0).sqrt() / pcm.len() as f64
}

/// The level of the sine at `hz` in dBFS: 0 for a full-scale sine.
#[must_use]
pub fn dbfs(pcm: &[i16], hz: f64, sample_rate_hz: u32) -> f64 {
    20.0 * (amplitude(pcm, hz, sample_rate_hz) / 32_767.0).log10()
}

/// The share, 0 to 1, of the signal's power that the sine at `hz` makes up; 0 for silence.
///
/// A call test asserts `purity > 0.9` for the tone that must be heard and nothing else with it.
#[must_use]
pub fn purity(pcm: &[i16], hz: f64, sample_rate_hz: u32) -> f64 {
    let mean_square = crate::level::energy(pcm) as f64 / pcm.len().max(1) as f64;
    if mean_square == 0.0 {
        return 0.0;
    }
    let sine = amplitude(pcm, hz, sample_rate_hz);
    (sine * sine / 2.0 / mean_square).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::{noise, tone};

    #[test]
    fn finds_a_tone_at_its_level_and_nothing_elsewhere() {
        let pcm = tone(8_000, 440.0, 3_276.7, 1_600);
        assert!((dbfs(&pcm, 440.0, 8_000) + 20.0).abs() < 0.01);
        assert!(dbfs(&pcm, 1_000.0, 8_000) < -80.0);
        assert!(purity(&pcm, 440.0, 8_000) > 0.999);
    }

    #[test]
    fn noise_and_silence_are_not_pure() {
        assert!(purity(&noise(1_600, 10_000, 3), 440.0, 8_000) < 0.05);
        assert_eq!(purity(&[0; 160], 440.0, 8_000), 0.0);
        assert_eq!(purity(&[], 440.0, 8_000), 0.0);
        assert_eq!(amplitude(&[], 440.0, 8_000), 0.0);
    }
}
