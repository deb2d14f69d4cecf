//! Audio level as RFC 6464 counts it.
//!
//! # Units
//! dBov: decibels relative to overload. 0 dBov is a full-scale square wave, so a full-scale sine is
//! -3.01 dBov (RFC 6464 §3, RFC 6465). dBm0 is the telephone network's: a sine of
//! +3.14 dBm0 (A-law; µ-law +3.17) just reaches full scale (ITU-T G.711 §4).

/// dBm0 of a full-scale sine.
#[expect(clippy::approx_constant, reason = "ITU-T G.711 §4, not a half turn")]
pub const FULL_SCALE_SINE_DBM0: f64 = 3.14;

/// The level of digital silence, and of anything at or below it.
pub const SILENCE_DBOV: u8 = 127;

/// The sum of the squares.
#[must_use]
pub fn energy(pcm: &[i16]) -> u64 {
    // A square needs 31 bits, so each is widened before it is added.
    pcm.iter()
        .map(|&s| u64::from((i32::from(s) * i32::from(s)).cast_unsigned()))
        .sum()
}

/// The level in dBov, at or below 0; [`f64::NEG_INFINITY`] for silence or no samples at all.
#[must_use]
pub fn dbov(pcm: &[i16]) -> f64 {
    if pcm.is_empty() {
        return f64::NEG_INFINITY;
    }
    let mean = energy(pcm) as f64 / pcm.len() as f64;
    (10.0 * (mean / (32_768.0 * 32_768.0)).log10()).min(0.0)
}

/// The level as an RTP header extension carries it: 0 (loudest) to 127 (silence), `-dBov` rounded.
///
/// # Source
/// RFC 6464 §3.
#[must_use]
pub fn rfc6464(pcm: &[i16]) -> u8 {
    // `as` saturates, so silence (infinite) becomes the largest value before the clamp.
    (-dbov(pcm)).round().clamp(0.0, f64::from(SILENCE_DBOV)) as u8
}

/// The peak amplitude of a sine of the given dBm0.
#[must_use]
pub fn amplitude_of_dbm0(dbm0: f64) -> f64 {
    32_767.0 * 10_f64.powf((dbm0 - FULL_SCALE_SINE_DBM0) / 20.0)
}

/// The dBm0 of a sine of the given peak amplitude.
#[must_use]
pub fn dbm0_of_amplitude(amplitude: f64) -> f64 {
    20.0 * (amplitude / 32_767.0).log10() + FULL_SCALE_SINE_DBM0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::tone;

    #[test]
    fn square_is_zero_and_sine_three_below() {
        let square: Vec<i16> = (0..160)
            .map(|n| if n % 2 == 0 { 32_767 } else { -32_768 })
            .collect();
        assert!(dbov(&square).abs() < 0.001);
        assert_eq!(rfc6464(&square), 0);
        let sine = tone(8_000, 1_000.0, 32_767.0, 800);
        assert!((dbov(&sine) + 3.01).abs() < 0.01, "{}", dbov(&sine));
        assert_eq!(rfc6464(&tone(8_000, 1_000.0, 3_276.7, 800)), 23);
    }

    #[test]
    fn silence_and_nothing_are_127() {
        assert_eq!(rfc6464(&[0; 160]), 127);
        assert_eq!(rfc6464(&[]), 127);
        assert_eq!(rfc6464(&[i16::MIN; 160]), 0);
        // One unit in a frame: about -112 dBov.
        let mut quiet = [0; 160];
        quiet[3] = 1;
        assert_eq!(rfc6464(&quiet), 112);
    }

    #[test]
    fn energy_does_not_overflow() {
        assert_eq!(energy(&[i16::MIN; 5_760]), 5_760 << 30);
    }

    #[test]
    fn dbm0_both_ways() {
        assert!((dbm0_of_amplitude(amplitude_of_dbm0(-25.0)) + 25.0).abs() < 1e-9);
        assert!((amplitude_of_dbm0(FULL_SCALE_SINE_DBM0) - 32_767.0).abs() < 1e-6);
    }
}
