//! Mixing: free functions over slices, plain enough that the compiler uses vector instructions.
//!
//! A room sums everyone once into `i32`, each listener subtracts itself, and the result is limited once.
//!
//! ```
//! use codecs::mix;
//!
//! let (alice, bob) = ([20_000_i16; 160], [-7_000_i16; 160]);
//! let mut sum = [0_i32; 160];
//! mix::add(&mut sum, &alice);
//! mix::add(&mut sum, &bob);
//! let mut heard_by_alice = [0_i16; 160];
//! mix::all_but(&sum, &alice, &mut heard_by_alice);
//! assert_eq!(heard_by_alice, bob);
//! ```

/// Unit gain of the fixed-point gains here.
pub const UNITY: i32 = 1 << GAIN_BITS;
const GAIN_BITS: u32 = 12;
/// The largest gain: 18 dB.
pub const GAIN_MAX: i32 = 8 * UNITY;
/// Up to here the limiter does nothing: -3 dB of full scale.
pub const LIMITER_KNEE: i32 = 23_197;

/// A gain in the fixed point of this module, from dB; muted below -90 dB (and for NaN), at most [`GAIN_MAX`].
#[must_use]
pub fn gain_from_db(db: f64) -> i32 {
    if db.is_nan() || db < -90.0 {
        return 0;
    }
    (10_f64.powf(db / 20.0) * f64::from(UNITY))
        .round()
        .min(f64::from(GAIN_MAX)) as i32
}

/// Adds a source to the sum. 65 536 sources of full scale fit.
pub fn add(sum: &mut [i32], pcm: &[i16]) {
    for (sum, &sample) in sum.iter_mut().zip(pcm) {
        *sum += i32::from(sample);
    }
}

/// Takes a source out of the sum again, as when the loudest talkers change.
pub fn subtract(sum: &mut [i32], pcm: &[i16]) {
    for (sum, &sample) in sum.iter_mut().zip(pcm) {
        *sum -= i32::from(sample);
    }
}

/// Limits the sum to samples: everyone's mix.
pub fn all(sum: &[i32], out: &mut [i16]) {
    if peak_i32(sum) <= LIMITER_KNEE {
        for (out, &sum) in out.iter_mut().zip(sum) {
            *out = sum as i16;
        }
    } else {
        for (out, &sum) in out.iter_mut().zip(sum) {
            *out = limit(sum);
        }
    }
}

/// Limits the sum without one source: what that source's listener hears (N-1).
pub fn all_but(sum: &[i32], own: &[i16], out: &mut [i16]) {
    let mut peak = 0;
    for ((out, &sum), &own) in out.iter_mut().zip(sum).zip(own) {
        let rest = sum - i32::from(own);
        peak = peak.max(rest.abs());
        *out = rest as i16;
    }
    // Seldom: somebody is loud, or several talk.
    if peak > LIMITER_KNEE {
        for ((out, &sum), &own) in out.iter_mut().zip(sum).zip(own) {
            *out = limit(sum - i32::from(own));
        }
    }
}

/// The largest magnitude of a sum.
#[must_use]
pub fn peak_i32(sum: &[i32]) -> i32 {
    sum.iter().fold(0, |peak, &value| peak.max(value.abs()))
}

/// The largest magnitude of a signal, 0 to 32 768.
#[must_use]
pub fn peak(pcm: &[i16]) -> u16 {
    pcm.iter()
        .fold(0, |peak, &sample| peak.max(sample.unsigned_abs()))
}

/// Whether no sample exceeds `floor`: digital silence, or the hiss of a codec's smallest steps.
#[must_use]
pub fn is_silent(pcm: &[i16], floor: u16) -> bool {
    peak(pcm) <= floor
}

/// Soft limiting of one sample without memory: the identity up to the knee, then a curve that leaves it
/// without a corner and nears full scale but never passes it.
#[must_use]
#[inline]
pub fn limit(value: i32) -> i16 {
    const ROOM: i32 = 32_767 - LIMITER_KNEE;
    let magnitude = value.abs();
    let over = (magnitude - LIMITER_KNEE).max(0) as f32;
    let bent = LIMITER_KNEE as f32 + over * ROOM as f32 / (over + ROOM as f32);
    let limited = magnitude.min(bent as i32);
    (if value < 0 { -limited } else { limited }) as i16
}

/// A gain that changes without zipper noise: linearly over the frame after it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gain {
    now: i32,
    target: i32,
}

impl Gain {
    /// A gain that starts where it is, clamped to 0..=[`GAIN_MAX`].
    #[must_use]
    pub fn new(gain: i32) -> Self {
        let gain = gain.clamp(0, GAIN_MAX);
        Self {
            now: gain,
            target: gain,
        }
    }

    /// Changes the gain over the next frame, clamped to 0..=[`GAIN_MAX`].
    pub fn set(&mut self, gain: i32) {
        self.target = gain.clamp(0, GAIN_MAX);
    }

    /// Whether applying it changes nothing, now and in the next frame.
    #[must_use]
    pub fn is_unity(&self) -> bool {
        self.now == UNITY && self.target == UNITY
    }

    /// Whether nothing can be heard through it, now and in the next frame.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.now == 0 && self.target == 0
    }

    /// Applies the gain in place, saturating.
    pub fn apply(&mut self, pcm: &mut [i16]) {
        if self.is_unity() {
            return;
        }
        let ramp = self.ramp(pcm.len());
        for (n, sample) in pcm.iter_mut().enumerate() {
            let scaled = (i32::from(*sample) * ramp.at(n)) >> GAIN_BITS;
            *sample = scaled.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        }
    }

    /// Adds a source to a sum through the gain. Take it out again with the samples as they were added:
    /// [`Gain::apply`] first where a listener must subtract itself.
    pub fn add(&mut self, sum: &mut [i32], pcm: &[i16]) {
        if self.is_unity() {
            return add(sum, pcm);
        }
        let ramp = self.ramp(pcm.len());
        for (n, (sum, &sample)) in sum.iter_mut().zip(pcm).enumerate() {
            *sum += (i32::from(sample) * ramp.at(n)) >> GAIN_BITS;
        }
    }

    fn ramp(&mut self, samples: usize) -> Ramp {
        let step = if samples == 0 {
            0.0
        } else {
            (self.target - self.now) as f32 / samples as f32
        };
        let ramp = Ramp {
            from: self.now as f32,
            step,
        };
        self.now = self.target;
        ramp
    }
}

struct Ramp {
    from: f32,
    step: f32,
}

impl Ramp {
    #[inline]
    fn at(&self, n: usize) -> i32 {
        (self.from + self.step * (n + 1) as i32 as f32) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::{noise, tone};

    #[test]
    fn everyone_hears_all_the_others_and_not_themselves() {
        let talkers: Vec<Vec<i16>> = (0..5).map(|n| noise(160, 4_000, n)).collect();
        let mut sum = [0; 160];
        talkers.iter().for_each(|pcm| add(&mut sum, pcm));
        for (me, own) in talkers.iter().enumerate() {
            let mut heard = [0; 160];
            all_but(&sum, own, &mut heard);
            for n in 0..160 {
                let others: i32 = talkers
                    .iter()
                    .enumerate()
                    .filter(|(who, _)| *who != me)
                    .map(|(_, t)| i32::from(t[n]))
                    .sum();
                assert_eq!(i32::from(heard[n]), others);
            }
        }
        talkers.iter().for_each(|pcm| subtract(&mut sum, pcm));
        assert_eq!(sum, [0; 160]);
    }

    #[test]
    fn the_limiter_is_monotonic_symmetric_and_never_wraps() {
        let mut last = i16::MIN;
        for value in (-200_000..200_000).step_by(7) {
            let limited = limit(value);
            assert!(limited >= last, "{value}");
            assert_eq!(limit(-value), -limited);
            last = limited;
            if value.abs() <= LIMITER_KNEE {
                assert_eq!(i32::from(limited), value);
            }
        }
        // The extremes of a sum: 65 536 sources of full scale.
        assert!(limit(i32::MAX - 32_768) > 32_700);
        assert!(limit(-(i32::MAX - 32_768)) < -32_700);
        // No corner at the knee: the slope is still about one.
        assert!((i32::from(limit(LIMITER_KNEE + 100)) - LIMITER_KNEE - 99).abs() <= 1);
    }

    #[test]
    fn loud_sums_are_limited_once_in_both_forms() {
        let (a, b) = (
            tone(8_000, 1_000.0, 30_000.0, 160),
            tone(8_000, 1_000.0, 30_000.0, 160),
        );
        let mut sum = [0; 160];
        add(&mut sum, &a);
        add(&mut sum, &b);
        let (mut everyone, mut without_nobody) = ([0; 160], [0; 160]);
        all(&sum, &mut everyone);
        all_but(&sum, &[0; 160], &mut without_nobody);
        assert_eq!(everyone, without_nobody);
        assert_eq!(everyone.to_vec(), sum.map(limit).to_vec());
        assert!(peak(&everyone) > 29_000);
    }

    #[test]
    fn a_gain_change_is_a_ramp() {
        let mut gain = Gain::new(UNITY);
        gain.set(0);
        let mut frame = [10_000; 160];
        gain.apply(&mut frame);
        assert!(
            frame.windows(2).all(|w| (0..=64).contains(&(w[0] - w[1]))),
            "{frame:?}"
        );
        assert_eq!(frame[159], 0);
        assert!(gain.is_muted());
        gain.apply(&mut frame);
        assert_eq!(frame, [0; 160]);
        gain.set(UNITY);
        let mut sum = [0; 160];
        gain.add(&mut sum, &[10_000; 160]);
        assert_eq!((sum[0], sum[79], sum[159]), (61, 5_000, 10_000));
        assert!(gain.is_unity());
        gain.add(&mut sum, &[1; 160]);
        assert_eq!(sum[159], 10_001);
    }

    #[test]
    fn gains_in_db_and_their_bounds() {
        assert_eq!(gain_from_db(0.0), UNITY);
        assert_eq!(gain_from_db(-200.0), 0);
        assert_eq!(gain_from_db(60.0), GAIN_MAX);
        assert_eq!(gain_from_db(f64::NAN), 0);
        assert!((f64::from(gain_from_db(6.0)) / f64::from(UNITY) - 1.995).abs() < 0.001);
        let mut loud = Gain::new(i32::MAX);
        let mut frame = [i16::MAX, i16::MIN];
        loud.apply(&mut frame);
        assert_eq!(frame, [i16::MAX, i16::MIN]);
        let mut below = Gain::new(-1);
        below.apply(&mut frame);
        assert_eq!(frame, [0, 0]);
        below.apply(&mut []);
    }

    #[test]
    fn peaks_and_silence() {
        assert_eq!(peak(&[0, -32_768, 5]), 32_768);
        assert_eq!(peak_i32(&[3, -9]), 9);
        assert!(is_silent(&[8, -8], 8) && !is_silent(&[9], 8) && is_silent(&[], 0));
    }
}
