//! Mixing: functions over slices, plain enough that the compiler uses vector instructions.
//!
//! A room sums everyone once into `i32`, each listener subtracts itself, and the result is limited once.
//!
//! ```
//! use codecs::mix::{self, Limiter};
//!
//! let (alice, bob) = ([20_000_i16; 160], [-7_000_i16; 160]);
//! let mut sum = [0_i32; 160];
//! mix::add(&mut sum, &alice);
//! mix::add(&mut sum, &bob);
//! let mut heard_by_alice = [0_i16; 160];
//! Limiter::new().all_but(&sum, &alice, &mut heard_by_alice);
//! assert_eq!(heard_by_alice, bob);
//! ```

/// Unit gain of the fixed-point gains here.
pub const UNITY: i32 = 1 << GAIN_BITS;
const GAIN_BITS: u32 = 12;
/// The largest gain: 20 dB.
pub const GAIN_MAX: i32 = 10 * UNITY;

/// Full scale.
const CEILING: f32 = 32_767.0;
/// A limiter that is no longer needed lets go by half a decibel in each frame.
const RELEASE: f32 = 1.059;
/// It takes hold over so many samples at least.
const ATTACK_SAMPLES: usize = 8;

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
pub fn add<T: Copy + Into<i32>>(sum: &mut [i32], part: &[T]) {
    for (sum, &sample) in sum.iter_mut().zip(part) {
        *sum += sample.into();
    }
}

/// The largest magnitude of a sum.
#[must_use]
pub fn peak_i32(sum: &[i32]) -> i32 {
    sum.iter().fold(0, |peak, &value| peak.max(value.abs()))
}

/// Nothing of a sum exceeds half of full scale. Most sums are so, and this costs less to find out than the peak.
fn is_moderate(sum: &[i32]) -> bool {
    let bits = sum.iter().fold(0, |bits, &value| bits | (value ^ (value >> 31)));
    bits < 1 << 14
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

/// Brings one mix, frame by frame, to samples. What fits passes as it is; what is too loud is turned down as a whole,
/// smoothly and before its peak comes, rather than bent: two loud voices stay clean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limiter {
    gain: f32,
}

impl Limiter {
    /// One that holds nothing back.
    #[must_use]
    pub const fn new() -> Self {
        Self { gain: 1.0 }
    }

    /// The whole sum: what those hear who are no part of it.
    pub fn all(&mut self, sum: &[i32], out: &mut [i16]) {
        if self.gain < 1.0 || !is_moderate(sum) {
            let peak = peak_i32(sum);
            if self.is_needed(peak) {
                return self.limit(peak, sum.iter().copied(), out);
            }
        }
        for (out, &sum) in out.iter_mut().zip(sum) {
            *out = sum as i16;
        }
    }

    /// The sum without one part of it: what that part's owner hears (N-1).
    pub fn all_but<T: Copy + Into<i32>>(&mut self, sum: &[i32], own: &[T], out: &mut [i16]) {
        let mut peak = 0;
        for ((out, &sum), &own) in out.iter_mut().zip(sum).zip(own) {
            let rest = sum - own.into();
            peak = peak.max(rest.abs());
            *out = rest as i16;
        }
        // Seldom: several shout at once, or did a moment ago.
        if self.is_needed(peak) {
            self.limit(
                peak,
                sum.iter().zip(own).map(|(sum, own)| sum - (*own).into()),
                out,
            );
        }
    }

    fn is_needed(self, peak: i32) -> bool {
        self.gain < 1.0 || peak > CEILING as i32
    }

    fn limit(&mut self, peak: i32, mix: impl Iterator<Item = i32> + Clone, out: &mut [i16]) {
        let before = self.gain;
        self.gain = (CEILING / peak.max(1) as f32).min(before * RELEASE).min(1.0);
        let over = |value: i32| value.abs() as f32 * before > CEILING;
        // Down until the first sample that is too loud, up over the whole frame.
        let samples = match self.gain < before {
            true => mix
                .clone()
                .position(over)
                .unwrap_or(out.len())
                .max(ATTACK_SAMPLES),
            false => out.len(),
        };
        let step = (self.gain - before) / samples.max(1) as f32;
        for (n, (out, value)) in out.iter_mut().zip(mix).enumerate() {
            let gain = before + step * n.min(samples) as f32;
            // `as` saturates.
            *out = (value as f32 * gain) as i16;
        }
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new()
    }
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

    /// Where it stands between two frames.
    #[must_use]
    pub fn value(&self) -> i32 {
        self.now
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

    /// The next frame's course of it, `samples` long.
    pub fn advance(&mut self, samples: usize) -> Ramp {
        let ramp = Ramp {
            from: self.now,
            step: (self.target - self.now) as f32 / samples.max(1) as f32,
        };
        self.now = self.target;
        ramp
    }

    /// Applies the gain in place, saturating.
    pub fn apply(&mut self, pcm: &mut [i16]) {
        if self.is_unity() {
            return;
        }
        let ramp = self.advance(pcm.len());
        for (n, sample) in pcm.iter_mut().enumerate() {
            let scaled = (i32::from(*sample) * ramp.at(n)) >> GAIN_BITS;
            *sample = scaled.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        }
    }
}

/// The course of a [`Gain`] over one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ramp {
    from: i32,
    step: f32,
}

impl Ramp {
    /// Nothing changes.
    pub const UNITY: Self = Self {
        from: UNITY,
        step: 0.0,
    };

    /// Nothing changes.
    #[must_use]
    pub fn is_unity(self) -> bool {
        self == Self::UNITY
    }

    /// Nothing is heard through it.
    #[must_use]
    pub fn is_muted(self) -> bool {
        self.from == 0 && self.step == 0.0
    }

    /// Writes a source as it sounds through the gain; not limited yet.
    pub fn scale(self, pcm: &[i16], out: &mut [i32]) {
        if self.step == 0.0 {
            for (out, &sample) in out.iter_mut().zip(pcm) {
                *out = (i32::from(sample) * self.from) >> GAIN_BITS;
            }
            return;
        }
        for (n, (out, &sample)) in out.iter_mut().zip(pcm).enumerate() {
            *out = (i32::from(sample) * self.at(n)) >> GAIN_BITS;
        }
    }

    /// Adds to a sum what sounds through the gain.
    pub fn add<T: Copy + Into<i32>>(self, sum: &mut [i32], part: &[T]) {
        if self.is_unity() {
            return add(sum, part);
        }
        for (n, (sum, &sample)) in sum.iter_mut().zip(part).enumerate() {
            *sum += self.of(n, sample.into());
        }
    }

    /// Takes out again what [`Ramp::add`] added.
    pub fn subtract<T: Copy + Into<i32>>(self, sum: &mut [i32], part: &[T]) {
        for (n, (sum, &sample)) in sum.iter_mut().zip(part).enumerate() {
            *sum -= self.of(n, sample.into());
        }
    }

    #[inline]
    fn of(self, n: usize, value: i32) -> i32 {
        ((i64::from(value) * i64::from(self.at(n))) >> GAIN_BITS) as i32
    }

    #[inline]
    fn at(self, n: usize) -> i32 {
        self.from + (self.step * (n + 1) as i32 as f32) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        goertzel,
        test_signal::{noise, tone},
    };

    #[test]
    fn everyone_hears_all_the_others_and_not_themselves() {
        let talkers: Vec<Vec<i16>> = (0..5).map(|n| noise(160, 4_000, n)).collect();
        let mut sum = [0; 160];
        talkers.iter().for_each(|pcm| add(&mut sum, pcm));
        for (me, own) in talkers.iter().enumerate() {
            let mut heard = [0; 160];
            Limiter::new().all_but(&sum, own, &mut heard);
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
    }

    /// Feeds `frames` of 160 samples through a limiter.
    fn limited(sum: &[i32]) -> Vec<i16> {
        let mut limiter = Limiter::new();
        let mut out = vec![0; sum.len()];
        for (sum, out) in sum.chunks(160).zip(out.chunks_mut(160)) {
            limiter.all(sum, out);
        }
        out
    }

    #[test]
    fn what_fits_passes_bit_by_bit_also_at_full_scale() {
        let loud = tone(8_000, 300.0, 32_767.0, 1_600);
        let sum: Vec<i32> = loud.iter().map(|sample| i32::from(*sample)).collect();
        assert_eq!(limited(&sum), loud);
    }

    #[test]
    fn two_who_shout_at_once_are_turned_down_and_not_bent() {
        let (a, b) = (
            tone(8_000, 440.0, 30_000.0, 16_000),
            tone(8_000, 1_150.0, 30_000.0, 16_000),
        );
        let mut sum = vec![0; 16_000];
        add(&mut sum, &a);
        add(&mut sum, &b);
        let heard = limited(&sum);
        let settled = &heard[8_000..];
        let levels = [440.0, 1_150.0].map(|hz| goertzel::amplitude(settled, hz, 8_000));
        assert!(
            levels.iter().all(|level| (15_000.0..17_500.0).contains(level)),
            "{levels:?}"
        );
        // All that is neither tone: clipping the same sum leaves 16 %.
        let rest = |pcm: &[i16]| {
            let total = crate::level::energy(pcm) as f64 / pcm.len() as f64;
            let tones: f64 = [440.0, 1_150.0]
                .iter()
                .map(|hz| goertzel::amplitude(pcm, *hz, 8_000).powi(2) / 2.0)
                .sum();
            ((total - tones).max(0.0) / total).sqrt()
        };
        let clipped: Vec<i16> = sum[8_000..]
            .iter()
            .map(|value| (*value).clamp(-32_768, 32_767) as i16)
            .collect();
        assert!(rest(&clipped) > 0.1, "clipped: {}", rest(&clipped));
        assert!(rest(settled) < 0.01, "limited: {}", rest(settled));
    }

    #[test]
    fn the_limiter_lets_go_without_a_step_and_never_wraps() {
        let mut sum: Vec<i32> = (0..16_000)
            .map(|n| ((f64::from(n) * 0.05).sin() * 9_000.0) as i32)
            .collect();
        for value in &mut sum[3_200..4_800] {
            *value *= 7;
        }
        let heard = limited(&sum);
        // The tone's own steepest step at full scale, and the moment when it becomes seven times as loud.
        let steepest = heard[4_900..]
            .windows(2)
            .map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs())
            .max();
        assert!(steepest <= Some(455), "{steepest:?}");
        assert_eq!(
            heard[15_000..],
            sum[15_000..].iter().map(|v| *v as i16).collect::<Vec<_>>()
        );
        for extreme in [i32::MAX - 32_768, -(i32::MAX - 32_768)] {
            let heard = limited(&[extreme; 320]);
            assert!(
                heard
                    .iter()
                    .all(|sample| i32::from(*sample).signum() == extreme.signum())
            );
            assert!(heard[319].unsigned_abs() > 32_700, "{}", heard[319]);
        }
    }

    #[test]
    fn a_limited_mix_is_the_same_in_both_forms() {
        let (a, b) = (
            tone(8_000, 1_000.0, 30_000.0, 160),
            tone(8_000, 1_000.0, 30_000.0, 160),
        );
        let mut sum = [0; 160];
        add(&mut sum, &a);
        add(&mut sum, &b);
        let (mut everyone, mut without_nobody) = ([0; 160], [0; 160]);
        Limiter::new().all(&sum, &mut everyone);
        Limiter::new().all_but(&sum, &[0_i16; 160], &mut without_nobody);
        assert_eq!(everyone, without_nobody);
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
        let (mut sum, mut scaled) = ([0; 160], [0; 160]);
        let ramp = gain.advance(160);
        ramp.scale(&[10_000; 160], &mut scaled);
        ramp.add(&mut sum, &[10_000_i16; 160]);
        assert_eq!((sum[0], sum[79], sum[159]), (61, 5_000, 10_000));
        assert_eq!(sum, scaled);
        ramp.subtract(&mut sum, &[10_000_i16; 160]);
        assert_eq!(sum, [0; 160]);
        assert!(gain.is_unity() && gain.value() == UNITY);
        gain.advance(160).add(&mut sum, &[1_i16; 160]);
        assert_eq!(sum[159], 1);
    }

    #[test]
    fn gains_in_db_and_their_bounds() {
        assert_eq!(gain_from_db(0.0), UNITY);
        assert_eq!(gain_from_db(-200.0), 0);
        assert_eq!(gain_from_db(20.0), GAIN_MAX);
        assert_eq!(gain_from_db(60.0), GAIN_MAX);
        assert_eq!(gain_from_db(f64::NAN), 0);
        assert!((f64::from(gain_from_db(6.0)) / f64::from(UNITY) - 1.995).abs() < 0.001);
        let mut loud = Gain::new(i32::MAX);
        let mut scaled = [0; 2];
        loud.advance(2).scale(&[i16::MAX, i16::MIN], &mut scaled);
        assert_eq!(scaled, [327_670, -327_680]);
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
