//! Exact conversion between 8, 16, 24, 32 and 48 kHz by a polyphase filter in integers.

use super::kaiser;
use crate::CodecError;

/// The design: nothing above half the lower rate survives above this, images and aliases alike.
const STOP_BAND_DB: f64 = 70.0;
/// The pass band ends here, as a part of half the lower rate: 3.4 kHz of 4, 6.8 kHz of 8.
const PASS_BAND: f64 = 0.85;
/// Fractional bits of a tap. The taps of one phase sum to 1.0, their magnitudes to less than 3, so that
/// a product sum of full-scale samples stays below 2^31.
const TAP_BITS: u32 = 14;
/// Input samples converted at a time.
const CHUNK: usize = 480;

/// A streaming converter between two rates.
///
/// # Shape
/// Frames of whole milliseconds at the input give frames of the same duration at the output, always:
/// 160 → 960, 960 → 160. Nothing is held back.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Output samples per `down` input samples.
    up: usize,
    down: usize,
    /// Taps of each of the `up` phases, oldest input first.
    phases: Box<[i16]>,
    taps: usize,
    /// The last `taps - 1` inputs, then room for a chunk.
    window: Box<[i16]>,
    /// Position of the next output on the input's timeline, in 1/`up` samples from the next input.
    position: usize,
}

impl Resampler {
    /// Takes over where `other`, a converter between the same rates, stands. Does not allocate.
    pub fn continue_from(&mut self, other: &Self) {
        if self.window.len() == other.window.len() {
            self.window.copy_from_slice(&other.window);
            self.position = other.position;
        }
    }

    /// A converter from one rate to another.
    ///
    /// # Errors
    /// [`CodecError::SampleRate`] with the first rate that is not one of 8, 12, 16, 24, 32 and 48 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, CodecError> {
        for hz in [from_hz, to_hz] {
            if !matches!(hz, 8_000 | 12_000 | 16_000 | 24_000 | 32_000 | 48_000) {
                return Err(CodecError::SampleRate { hz });
            }
        }
        let common = greatest_common_divisor(from_hz, to_hz);
        let (up, down) = ((to_hz / common) as usize, (from_hz / common) as usize);
        let (phases, taps) = design(from_hz, to_hz, up);
        Ok(Self {
            up,
            down,
            window: vec![0; taps - 1 + CHUNK].into_boxed_slice(),
            phases,
            taps,
            position: 0,
        })
    }

    /// Samples that [`Resampler::process`] will write for `input` more.
    #[must_use]
    pub fn output_samples(&self, input: usize) -> usize {
        (input * self.up)
            .saturating_sub(self.position)
            .div_ceil(self.down)
    }

    /// Converts all of `input`; returns the samples written.
    ///
    /// # Errors
    /// [`CodecError::OutputTooSmall`] when `output` is shorter than [`Resampler::output_samples`]; nothing
    /// was taken.
    pub fn process(&mut self, input: &[i16], output: &mut [i16]) -> Result<usize, CodecError> {
        let needed = self.output_samples(input.len());
        if output.len() < needed {
            return Err(CodecError::OutputTooSmall {
                needed,
                available: output.len(),
            });
        }
        if self.up == self.down {
            output[..needed].copy_from_slice(input);
            return Ok(needed);
        }
        let mut written = 0;
        for chunk in input.chunks(CHUNK) {
            written += self.process_chunk(chunk, &mut output[written..]);
        }
        Ok(written)
    }

    fn process_chunk(&mut self, chunk: &[i16], output: &mut [i16]) -> usize {
        let history = self.taps - 1;
        self.window[history..history + chunk.len()].copy_from_slice(chunk);
        // Whole inputs and phases that one output moves on: additions instead of a division for each.
        let (stride, phase_stride) = (self.down / self.up, self.down % self.up);
        let (mut newest, mut phase) = (self.position / self.up, self.position % self.up);
        let mut written = 0;
        while newest < chunk.len() {
            let taps = &self.phases[phase * self.taps..][..self.taps];
            output[written] = dot(taps, &self.window[newest..newest + self.taps]);
            written += 1;
            newest += stride;
            phase += phase_stride;
            if phase >= self.up {
                phase -= self.up;
                newest += 1;
            }
        }
        self.position = (newest - chunk.len()) * self.up + phase;
        self.window.copy_within(chunk.len()..chunk.len() + history, 0);
        written
    }

    /// How much the output trails the input, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, from_hz: u32) -> f64 {
        if self.up == self.down {
            return 0.0;
        }
        ((self.taps * self.up - 1) as f64 / 2.0) / (self.up as f64 * f64::from(from_hz)) * 1_000.0
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) {
        self.window.fill(0);
        self.position = 0;
    }
}

/// Sum of products, rounded back to samples. Plain enough that the compiler uses vector instructions.
fn dot(taps: &[i16], samples: &[i16]) -> i16 {
    let sum: i32 = taps
        .iter()
        .zip(samples)
        .map(|(&tap, &sample)| i32::from(tap) * i32::from(sample))
        .sum();
    let rounded = (sum + (1 << (TAP_BITS - 1))) >> TAP_BITS;
    rounded.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// The prototype filter at `up` times the input rate, dealt out to its phases and quantised.
fn design(from_hz: u32, to_hz: u32, up: usize) -> (Box<[i16]>, usize) {
    if from_hz == to_hz {
        return (vec![1 << TAP_BITS].into_boxed_slice(), 1);
    }
    let rate = f64::from(from_hz) * up as f64;
    let stop = f64::from(from_hz.min(to_hz)) / 2.0;
    let pass = PASS_BAND * stop;
    let (beta, least) = kaiser::design(STOP_BAND_DB, (stop - pass) / rate);
    // A multiple of 8 per phase suits the vector unit; more taps than needed only help.
    let taps = least.div_ceil(up).next_multiple_of(8);
    let prototype = kaiser::low_pass(taps * up, (stop + pass) / 2.0 / rate, beta);
    let mut phases = vec![0_i16; taps * up];
    for phase in 0..up {
        // Output `phase` lies `phase/up` after an input: its newest input meets tap `phase`.
        let ideal = |k: usize| prototype[(taps - 1 - k) * up + phase];
        let sum: f64 = (0..taps).map(ideal).sum();
        quantise(&mut phases[phase * taps..][..taps], |k| ideal(k) / sum);
    }
    (phases.into_boxed_slice(), taps)
}

/// Rounds to `TAP_BITS` so that the taps sum to exactly 1.0: each phase has the same gain at 0 Hz, and a
/// constant stays constant.
fn quantise(taps: &mut [i16], ideal: impl Fn(usize) -> f64) {
    let one = f64::from(1 << TAP_BITS);
    for (k, tap) in taps.iter_mut().enumerate() {
        *tap = (ideal(k) * one).round() as i16;
    }
    let missing = (1 << TAP_BITS) - taps.iter().map(|&tap| i32::from(tap)).sum::<i32>();
    let largest = taps
        .iter_mut()
        .max_by_key(|tap| **tap)
        .expect("a filter has taps");
    *largest += missing as i16;
}

const fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goertzel::amplitude;
    use crate::level::energy;
    use crate::test_signal::{noise, tone};

    const RATES: [u32; 5] = [8_000, 16_000, 24_000, 32_000, 48_000];

    fn pairs() -> impl Iterator<Item = (u32, u32)> {
        RATES
            .into_iter()
            .flat_map(|from| RATES.map(|to| (from, to)))
            .filter(|(from, to)| from != to)
    }

    fn convert(from: u32, to: u32, input: &[i16]) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut output = vec![0; resampler.output_samples(input.len())];
        assert_eq!(resampler.process(input, &mut output), Ok(output.len()));
        output
    }

    /// Level of everything but the tone itself, and of the tone, in dB relative to the input's power.
    fn spurious_and_level_db(from: u32, to: u32, hz: f64) -> (f64, f64) {
        let input = tone(from, hz, 20_000.0, from as usize / 5);
        let output = convert(from, to, &input);
        // 100 ms after the filter has settled: a whole number of periods of every multiple of 10 Hz.
        let settled = &output[to as usize / 20..to as usize / 20 + to as usize / 10];
        let level = amplitude(settled, hz, to);
        let power = energy(settled) as f64 / settled.len() as f64;
        let spurious = (power - level * level / 2.0).max(1e-9);
        let reference = 20_000.0_f64.powi(2) / 2.0;
        (
            10.0 * (spurious / reference).log10(),
            20.0 * (level / 20_000.0).log10(),
        )
    }

    #[test]
    fn ripple_in_the_pass_band_and_images_rejected() {
        for (from, to) in pairs() {
            let edge = 0.85 * f64::from(from.min(to)) / 2.0;
            for part in [0.05, 0.25, 0.5, 0.75, 0.9, 1.0] {
                let hz = (edge * part / 10.0).floor() * 10.0;
                let (spurious, level) = spurious_and_level_db(from, to, hz);
                assert!(
                    level.abs() < 0.1,
                    "{from} to {to}: {hz} Hz comes out at {level:.3} dB"
                );
                assert!(
                    spurious < -60.0,
                    "{from} to {to}: {hz} Hz makes images at {spurious:.1} dB"
                );
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_rejected_by_60_db() {
        for (from, to) in pairs().filter(|(from, to)| from > to) {
            let half = f64::from(to) / 2.0;
            for hz in [half, half + 110.0, half * 1.2, half * 1.5, half * 1.9] {
                let hz = (hz / 10.0).ceil() * 10.0;
                if hz >= f64::from(from) / 2.0 {
                    continue;
                }
                let output = convert(from, to, &tone(from, hz, 32_000.0, from as usize / 5));
                let settled = &output[to as usize / 20..to as usize / 20 + to as usize / 10];
                let power = energy(settled) as f64 / settled.len() as f64;
                let db = 10.0 * (power.max(1e-9) / (32_000.0_f64.powi(2) / 2.0)).log10();
                assert!(db < -60.0, "{from} to {to}: {hz} Hz leaves {db:.1} dB");
            }
        }
    }

    #[test]
    fn frames_keep_their_duration_and_their_joins() {
        for (from, to) in pairs() {
            let input = noise(from as usize / 5, 20_000, 21);
            let whole = convert(from, to, &input);
            for ms in [1, 10, 20, 30, 60] {
                let mut resampler = Resampler::new(from, to).unwrap();
                let mut pieces = Vec::new();
                for frame in input.chunks(from as usize / 1_000 * ms) {
                    let mut output = [0; 2_880];
                    let samples = resampler.process(frame, &mut output).unwrap();
                    assert_eq!(
                        samples * from as usize,
                        frame.len() * to as usize,
                        "{from} to {to}, {ms} ms"
                    );
                    pieces.extend_from_slice(&output[..samples]);
                }
                assert_eq!(pieces, whole, "{from} to {to} in frames of {ms} ms");
            }
        }
    }

    #[test]
    fn the_delay_is_what_it_says() {
        for (from, to) in pairs() {
            let mut input = vec![0; from as usize / 20];
            let at = from as usize / 1_000;
            // A smooth pulse, wide enough to be in the pass band of both rates.
            for (n, sample) in input[at..at + from as usize / 250].iter_mut().enumerate() {
                let x = (n as f64 + 0.5) / (f64::from(from) / 250.0);
                *sample = (20_000.0 * (std::f64::consts::PI * x).sin().powi(4)) as i16;
            }
            let centroid = |pcm: &[i16], rate: u32| {
                let (mut moment, mut mass) = (0.0, 0.0);
                for (n, &s) in pcm.iter().enumerate() {
                    moment += n as f64 * f64::from(s);
                    mass += f64::from(s);
                }
                moment / mass / f64::from(rate) * 1_000.0
            };
            let measured = centroid(&convert(from, to, &input), to) - centroid(&input, from);
            let said = Resampler::new(from, to).unwrap().delay_ms(from);
            assert!(
                (measured - said).abs() < 0.05,
                "{from} to {to}: measured {measured:.3}, said {said:.3}"
            );
            assert!(said < 5.0, "{from} to {to}: {said} ms");
        }
    }

    #[test]
    fn constants_stay_constant_and_full_scale_does_not_wrap() {
        for (from, to) in pairs() {
            let output = convert(from, to, &vec![12_345; from as usize / 50]);
            assert!(
                output[output.len() / 2..].iter().all(|&s| s == 12_345),
                "{from} to {to}"
            );
            let square: Vec<i16> = (0..from / 10)
                .map(|n| if n / 9 % 2 == 0 { i16::MAX } else { i16::MIN })
                .collect();
            let output = convert(from, to, &square);
            // A wrapped sum would turn a high half-wave into its opposite.
            let resampler = Resampler::new(from, to).unwrap();
            for phase in resampler.phases.chunks(resampler.taps) {
                let magnitude: i64 = phase.iter().map(|&tap| i64::from(tap).abs()).sum();
                assert!(
                    magnitude * 32_768 + (1 << 13) < i64::from(i32::MAX),
                    "{from} to {to}: {magnitude}"
                );
            }
            assert!(output.iter().any(|&s| s > 25_000) || to < from);
        }
    }

    #[test]
    fn unusual_calls() {
        assert_eq!(
            Resampler::new(44_100, 8_000).unwrap_err(),
            CodecError::SampleRate { hz: 44_100 }
        );
        assert_eq!(
            Resampler::new(8_000, 1).unwrap_err(),
            CodecError::SampleRate { hz: 1 }
        );
        let mut resampler = Resampler::new(8_000, 48_000).unwrap();
        assert_eq!(
            resampler.process(&[1; 160], &mut [0; 959]),
            Err(CodecError::OutputTooSmall {
                needed: 960,
                available: 959
            })
        );
        assert_eq!(resampler.process(&[], &mut []), Ok(0));
        // Inputs that are no whole number of output periods: the remainder is carried over.
        let mut down = Resampler::new(48_000, 8_000).unwrap();
        let counts = [1, 5, 1, 6, 11].map(|n| down.process(&vec![0; n], &mut [0; 9]).unwrap());
        assert_eq!(counts, [1, 0, 1, 1, 1]);
        let mut same = Resampler::new(16_000, 16_000).unwrap();
        let mut output = [0; 3];
        assert_eq!(same.process(&[1, 2, 3], &mut output), Ok(3));
        assert_eq!((output, same.delay_ms(16_000)), ([1, 2, 3], 0.0));
    }

    #[test]
    fn reset_forgets() {
        let mut resampler = Resampler::new(16_000, 8_000).unwrap();
        resampler.process(&noise(333, 20_000, 5), &mut [0; 200]).unwrap();
        resampler.reset();
        let mut output = [1; 160];
        resampler.process(&[0; 320], &mut output).unwrap();
        assert_eq!(output, [0; 160]);
    }
}
