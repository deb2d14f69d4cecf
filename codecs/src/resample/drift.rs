//! Conversion by a ratio close to one that changes smoothly: two clocks that drift apart.

use std::sync::LazyLock;

use super::kaiser;

/// The largest correction, either way. Telephony clocks are within ±100 ppm; the rest is for catching up.
pub const DRIFT_PPM_MAX: i32 = 5_000;

/// Taps of the interpolating filter; half of them is the delay.
const TAPS: usize = 24;
/// Positions between two samples at which the filter is tabulated; between those it is interpolated.
const POSITIONS: usize = 64;
/// Shape of the window: about 70 dB.
const BETA: f64 = 6.75;
/// The middle of the filter's transition, in cycles per sample: the top of the band gives way a little.
const CUTOFF: f64 = 0.46;
/// Inputs that are put in one line at a time.
const BLOCK: usize = 256;
/// How fast the nearest whole sample is gone to: half a sample takes about 1 000 samples, since the ratio glides.
const TO_WHOLE_PPM: i32 = 1_000;
/// How fast the ratio follows its target: about a thousandth of the way per sample, as a power of two.
const GLIDE: u32 = 10;
/// One sample. Positions and ratios are whole numbers: cheaper than to round, and nothing adds up.
const ONE: i64 = 1 << 48;
/// From one tabulated position to the next, and that as a power of two.
const STEP: i64 = 1 << STEP_BITS;
const STEP_BITS: u32 = ONE.ilog2() - POSITIONS.ilog2();
/// Outputs that are made side by side.
const LANES: usize = 8;

/// A filter and how it differs from the one at the next position.
#[derive(Debug)]
struct Filter {
    taps: [f32; TAPS],
    towards_next: [f32; TAPS],
}

type Filters = [Filter; POSITIONS];

/// The same for all: made with the first converter.
static FILTERS: LazyLock<Box<Filters>> = LazyLock::new(|| {
    Box::new(std::array::from_fn(|index| {
        let (taps, next) = (filter(index), filter(index + 1));
        Filter {
            taps: taps.map(|tap| tap as f32),
            towards_next: std::array::from_fn(|k| (next[k] - taps[k]) as f32),
        }
    }))
});

/// The filter at a position.
fn filter(index: usize) -> [f64; TAPS] {
    let fraction = index as f64 / POSITIONS as f64;
    let ideal = std::array::from_fn::<f64, TAPS, _>(|k| {
        let x = k as f64 - (TAPS / 2 - 1) as f64 - fraction;
        let sinc = if x == 0.0 {
            2.0 * CUTOFF
        } else {
            (std::f64::consts::TAU * CUTOFF * x).sin() / (std::f64::consts::PI * x)
        };
        sinc * kaiser::window(x / (TAPS / 2) as f64, BETA)
    });
    let sum: f64 = ideal.iter().sum();
    ideal.map(|tap| tap / sum)
}

/// What one call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Samples taken from the beginning of the input.
    pub consumed: usize,
    /// Samples written to the beginning of the output.
    pub produced: usize,
}

/// A converter that takes slightly more or less than one sample for each that it gives.
///
/// The ratio glides to each new target, and the position is carried in fractions of a sample, so a
/// change is never a step in the signal.
#[derive(Debug, Clone)]
pub struct DriftResampler {
    filters: &'static Filters,
    /// The last inputs, oldest first.
    past: [f32; TAPS],
    /// Where the next output lies after the newest-but-half input, below [`ONE`]; larger: input is missing.
    position: i64,
    /// Inputs per output.
    ratio: i64,
    target: i64,
}

impl DriftResampler {
    /// A converter with the ratio one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            filters: &FILTERS,
            past: [0.0; TAPS],
            position: 0,
            ratio: ONE,
            target: ONE,
        }
    }

    /// Samples that a stream has to have behind it when the conversion begins in its middle.
    pub const PAST_SAMPLES: usize = TAPS / 2 - 1;

    /// Begins in the middle of a stream, without a step, after `past` was played as it was. The ratio is one at first. The
    /// first outputs need half a filter more of input than there are outputs.
    pub fn begin(&mut self, past: &[i16; Self::PAST_SAMPLES]) {
        for sample in past {
            self.push(f32::from(*sample));
        }
        self.position = (TAPS - Self::PAST_SAMPLES) as i64 * ONE;
        self.ratio = ONE;
        self.target = ONE;
    }

    /// Sets the correction that the ratio glides to: positive takes more input than it gives output, which
    /// drains a buffer that fills; at most [`DRIFT_PPM_MAX`] either way.
    pub fn set_drift_ppm(&mut self, ppm: i32) {
        let ppm = ppm.clamp(-DRIFT_PPM_MAX, DRIFT_PPM_MAX);
        self.target = ONE + ONE / 1_000_000 * i64::from(ppm);
    }

    /// Inputs that are certain to be enough for `output` samples.
    #[must_use]
    pub fn input_needed(&self, output: usize) -> usize {
        // Only what the ratio differs from one: the product of the whole would not fit for long outputs.
        let more = self.ratio.max(self.target) - ONE;
        // Who takes less than it gives may have all it needs already.
        let ahead = (self.position + output as i64 * more).div_euclid(ONE);
        usize::try_from(output as i64 + ahead + 1).unwrap_or(0)
    }

    /// How many inputs were taken and are still ahead of the output: half a filter at most.
    #[must_use]
    pub fn ahead_samples(&self) -> usize {
        self.ahead().len()
    }

    /// Copies the inputs that were taken and are still ahead of the output, oldest first; gives how many.
    pub fn copy_ahead(&self, pcm: &mut [i16]) -> usize {
        let ahead = self.ahead();
        for (copy, sample) in pcm.iter_mut().zip(ahead) {
            // As it came in.
            *copy = *sample as i16;
        }
        ahead.len().min(pcm.len())
    }

    fn ahead(&self) -> &[f32] {
        // The input that is nearest to the next output.
        let next = Self::PAST_SAMPLES + ((self.position + ONE / 2) / ONE) as usize;
        self.past.get(next..).unwrap_or_default()
    }

    /// Heads for the nearest whole sample, which [`Self::process_to_whole`] finds.
    pub fn turn_to_whole(&mut self) {
        let is_above = self.position % ONE < ONE / 2;
        self.set_drift_ppm(if is_above { -TO_WHOLE_PPM } else { TO_WHOLE_PPM });
    }

    /// As [`Self::process`], up to where the output meets an input. From there the inputs that are
    /// [ahead](Self::copy_ahead), and those behind them, go on as they are and without a step: less is produced then than
    /// there was room and input for.
    pub fn process_to_whole(&mut self, input: &[i16], output: &mut [i16]) -> Progress {
        self.run(input, output, true)
    }

    /// Converts until the output is full or the input is used up.
    pub fn process(&mut self, input: &[i16], output: &mut [i16]) -> Progress {
        self.run(input, output, false)
    }

    fn run(&mut self, input: &[i16], output: &mut [i16], to_whole: bool) -> Progress {
        let mut total = Progress {
            consumed: 0,
            produced: 0,
        };
        loop {
            let part = &input[total.consumed..][..BLOCK.min(input.len() - total.consumed)];
            let (done, is_whole) = self.process_block(part, &mut output[total.produced..], to_whole);
            total.consumed += done.consumed;
            total.produced += done.produced;
            if is_whole || total.produced == output.len() || total.consumed == input.len() {
                return total;
            }
        }
    }

    /// The same for [`BLOCK`] inputs at most, which lie behind those before them in one piece meanwhile; and whether a whole
    /// sample was met, if that is where it ends.
    fn process_block(&mut self, input: &[i16], output: &mut [i16], to_whole: bool) -> (Progress, bool) {
        // The last lanes may look beyond the input; what they make is not used.
        let mut line = [0.0; TAPS + BLOCK + LANES];
        line[..TAPS].copy_from_slice(&self.past);
        for (sample, pcm) in line[TAPS..].iter_mut().zip(input) {
            *sample = f32::from(*pcm);
        }
        let (mut consumed, mut produced, mut is_whole) = (0, 0, false);
        while produced < output.len() && !is_whole {
            let whole = (self.position / ONE) as usize;
            if consumed + whole > input.len() {
                self.position -= (input.len() - consumed) as i64 * ONE;
                consumed = input.len();
                break;
            }
            consumed += whole;
            self.position %= ONE;
            let most = (output.len() - produced).min(input.len() - consumed + 1);
            let filter = &self.filters[(self.position >> STEP_BITS) as usize];
            let (weights, lanes) = self.advance(most.min(LANES));
            let window = line[consumed..].first_chunk().expect("a line holds all lanes");
            let made = filter.interpolate(window, &weights);
            output[produced..produced + lanes].copy_from_slice(&made[..lanes]);
            produced += lanes;
            consumed += lanes - 1;
            // One beyond the last, and no longer between the same two inputs.
            is_whole = to_whole && !(ONE..2 * ONE).contains(&self.position);
        }
        self.past.copy_from_slice(&line[consumed..][..TAPS]);
        (Progress { consumed, produced }, is_whole)
    }

    /// Goes on by up to `most` outputs, each one input after the other, that lie between the same two tabulated
    /// positions: where between them, from 0 to 1, and how many there are. The position is then one beyond the last.
    fn advance(&mut self, most: usize) -> ([f32; LANES], usize) {
        let between = self.position >> STEP_BITS;
        let mut weights = [0.0; LANES];
        let mut lanes = 0;
        loop {
            weights[lanes] = (self.position % STEP) as f32 / STEP as f32;
            lanes += 1;
            self.ratio += (self.target - self.ratio) >> GLIDE;
            self.position += self.ratio;
            let next = self.position - ONE;
            if lanes == most || next >> STEP_BITS != between {
                return (weights, lanes);
            }
            self.position = next;
        }
    }

    fn push(&mut self, sample: f32) {
        self.past.rotate_left(1);
        self.past[TAPS - 1] = sample;
    }
}

impl Filter {
    /// The outputs of windows that begin one sample after the other, each at its place towards the next position.
    fn interpolate(&self, line: &[f32; TAPS + LANES], weights: &[f32; LANES]) -> [i16; LANES] {
        // Side by side, so that the compiler may use vector instructions.
        let (mut here, mut more) = ([0.0_f32; LANES], [0.0_f32; LANES]);
        for (k, (tap, step)) in self.taps.iter().zip(&self.towards_next).enumerate() {
            let samples: &[f32; LANES] = line[k..].first_chunk().expect("a line holds all lanes");
            here = std::array::from_fn(|lane| here[lane] + samples[lane] * tap);
            more = std::array::from_fn(|lane| more[lane] + samples[lane] * step);
        }
        std::array::from_fn(|lane| {
            let sum = here[lane] + more[lane] * weights[lane];
            // To the nearest, without a call of the mathematical library; `as` saturates.
            (sum + 0.5_f32.copysign(sum)) as i16
        })
    }
}

impl Default for DriftResampler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goertzel::purity;
    use crate::test_signal::tone;

    fn steepest(pcm: &[i16]) -> f64 {
        pcm.windows(2)
            .map(|w| (f64::from(w[1]) - f64::from(w[0])).abs())
            .fold(0.0, f64::max)
    }

    /// Converts `seconds` of a tone, in 20 ms frames at 8 kHz, with the target the closure gives per frame.
    fn run(hz: f64, seconds: usize, ppm: impl Fn(usize) -> i32) -> (Vec<i16>, usize) {
        let input = tone(8_000, hz, 12_000.0, 8_000 * (seconds + 1));
        let mut resampler = DriftResampler::new();
        let (mut output, mut at) = (Vec::new(), 0);
        for frame in 0..seconds * 50 {
            resampler.set_drift_ppm(ppm(frame));
            let mut heard = [0; 160];
            let needed = resampler.input_needed(160);
            let done = resampler.process(&input[at..at + needed], &mut heard);
            assert_eq!(done.produced, 160);
            at += done.consumed;
            output.extend_from_slice(&heard);
        }
        (output, at)
    }

    #[test]
    fn takes_the_ratio_it_was_told() {
        for ppm in [-500, -200, 0, 200, 500] {
            let (_, consumed) = run(400.0, 20, |_| ppm);
            let expected = 160_000.0 * (1.0 + f64::from(ppm) * 1e-6);
            assert!(
                (consumed as f64 - expected).abs() < 3.0,
                "{ppm} ppm: {consumed} instead of {expected}"
            );
        }
    }

    #[test]
    fn long_outputs_that_are_played_slower_need_less_input() {
        let input = tone(48_000, 400.0, 12_000.0, 110 * 960);
        let mut resampler = DriftResampler::new();
        resampler.set_drift_ppm(-DRIFT_PPM_MAX);
        let (mut at, mut needed) = (0, 0);
        for _ in 0..100 {
            needed = resampler.input_needed(960);
            let done = resampler.process(&input[at..at + needed], &mut [0; 960]);
            assert_eq!(done.produced, 960);
            at += done.consumed;
        }
        assert!((950..960).contains(&needed), "{needed}");
    }

    #[test]
    fn no_step_above_the_tones_own_while_the_ratio_changes() {
        for hz in [300.0, 1_000.0, 2_000.0, 3_300.0] {
            // The target jumps across the whole range every 100 ms.
            let (output, _) = run(hz, 10, |frame| if frame / 5 % 2 == 0 { 500 } else { -500 });
            let own = 2.0 * 12_000.0 * (std::f64::consts::PI * hz / 8_000.0).sin();
            let step = steepest(&output[100..]);
            assert!(
                step <= own * 1.1,
                "{hz} Hz: step {step:.0}, the tone's own {own:.0}"
            );
        }
    }

    #[test]
    fn a_converted_tone_is_pure_and_at_its_level() {
        for hz in [400.0, 1_000.0, 3_000.0] {
            let (output, _) = run(hz, 4, |_| 300);
            // After conversion the tone is 300 ppm higher.
            let shifted = hz * 1.0003;
            let settled = &output[16_000..];
            let purity = purity(settled, shifted, 8_000);
            assert!(purity > 0.9999, "{hz} Hz: purity {purity}");
            let level = crate::goertzel::amplitude(settled, shifted, 8_000);
            assert!((level / 12_000.0 - 1.0).abs() < 0.01, "{hz} Hz: level {level}");
        }
    }

    #[test]
    fn beginning_in_the_middle_of_a_stream_is_no_step() {
        let input = tone(8_000, 1_000.0, 12_000.0, 4_000);
        let mut resampler = DriftResampler::new();
        let mut output = input[..1_000].to_vec();
        resampler.begin(input[989..1_000].try_into().expect("as many as it asks for"));
        resampler.set_drift_ppm(-500);
        let mut rest = [0; 2_000];
        let done = resampler.process(&input[1_000..], &mut rest);
        assert_eq!(done.produced, 2_000);
        output.extend(rest);
        let own = 2.0 * 12_000.0 * (std::f64::consts::PI / 8.0).sin();
        assert!(steepest(&output) <= own * 1.02, "{} of {own}", steepest(&output));
    }

    #[test]
    fn ending_at_a_whole_sample_is_no_step_and_what_follows_is_as_it_came() {
        for hz in [300.0, 1_000.0, 2_000.0, 3_000.0] {
            for ppm in [-2_000, -90, -1, 1, 90, 700] {
                let input = tone(8_000, hz, 12_000.0, 12_000);
                let mut resampler = DriftResampler::new();
                resampler.begin(&[0; DriftResampler::PAST_SAMPLES]);
                resampler.set_drift_ppm(ppm);
                let mut output = vec![0; 8_000];
                let converted = resampler.process(&input, &mut output);
                let (mut at, mut given) = (converted.consumed, 160);
                while given == 160 {
                    resampler.turn_to_whole();
                    let mut frame = [0; 160];
                    let done = resampler.process_to_whole(&input[at..], &mut frame);
                    (at, given) = (at + done.consumed, done.produced);
                    output.extend(&frame[..given]);
                }
                assert!(output.len() < 10_000, "{ppm} ppm: {} more", output.len() - 8_000);
                let end = output.len();
                let mut ahead = [0; TAPS];
                let count = resampler.copy_ahead(&mut ahead);
                assert_eq!(count, resampler.ahead_samples());
                output.extend(&ahead[..count]);
                output.extend(&input[at..]);
                assert!(input.ends_with(&output[end..]), "as it came");
                let own = 2.0 * 12_000.0 * (std::f64::consts::PI * hz / 8_000.0).sin();
                let step = steepest(&output[end - 100..end + 100]);
                assert!(step <= own * 1.02 + 2.0, "{hz} Hz, {ppm} ppm: {step} of {own:.0}");
            }
        }
    }

    #[test]
    fn a_tone_keeps_its_level_while_a_correction_begins_lasts_and_ends() {
        let input = tone(8_000, 1_000.0, 12_000.0, 72_000);
        let own = 2.0 * 12_000.0 * (std::f64::consts::PI / 8.0).sin();
        for ppm in [-5_000, -600, -50, 50, 600, 5_000] {
            let mut resampler = DriftResampler::new();
            let mut output = input[..8_000].to_vec();
            let mut at = 8_000;
            resampler.begin(input[at - 11..at].try_into().expect("as many as it asks for"));
            for frame in 0.. {
                let (mut heard, ends) = ([0; 160], frame > 200);
                let done = match ends {
                    true => {
                        resampler.turn_to_whole();
                        resampler.process_to_whole(&input[at..], &mut heard)
                    }
                    false => {
                        resampler.set_drift_ppm(ppm);
                        resampler.process(&input[at..], &mut heard)
                    }
                };
                at += done.consumed;
                output.extend(&heard[..done.produced]);
                if done.produced < heard.len() {
                    break;
                }
            }
            let end = output.len();
            let mut ahead = [0; TAPS];
            let count = resampler.copy_ahead(&mut ahead);
            output.extend(&ahead[..count]);
            output.extend(&input[at..at + 8_000]);
            assert!((40_000..44_000).contains(&end), "{ppm} ppm: {end} samples");
            let step = steepest(&output);
            assert!(step <= own * 1.02 + 2.0, "{ppm} ppm: {step} of {own:.0}");
            // Whatever the pitch is, in every tenth of a second.
            for from in (0..output.len() - 800).step_by(20) {
                let part = &output[from..from + 800];
                let power = part.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / 800.0;
                let level = (2.0 * power).sqrt() / 12_000.0;
                assert!((level - 1.0).abs() < 0.01, "{ppm} ppm: {level:.3} from {from} on");
                // And as it is measured where no pitch is looked for: 0.6 Hz more are a twentieth of a turn in it.
                if ppm.abs() <= 600 {
                    let level = crate::goertzel::amplitude(part, 1_000.0, 8_000) / 12_000.0;
                    assert!((level - 1.0).abs() < 0.02, "{ppm} ppm: {level:.3} from {from} on");
                }
            }
        }
    }

    #[test]
    fn any_cut_of_the_input_gives_the_same_output() {
        let input = tone(8_000, 700.0, 12_000.0, 4_000);
        let mut whole = [0; 3_000];
        let mut resampler = DriftResampler::new();
        resampler.set_drift_ppm(-400);
        resampler.process(&input, &mut whole);
        let mut resampler = DriftResampler::new();
        resampler.set_drift_ppm(-400);
        let (mut pieces, mut produced) = ([0; 3_000], 0);
        for cut in input.chunks(37) {
            let mut rest = cut;
            loop {
                let done = resampler.process(rest, &mut pieces[produced..]);
                produced += done.produced;
                rest = &rest[done.consumed..];
                if rest.is_empty() || done.produced == 0 {
                    break;
                }
            }
        }
        assert_eq!(produced, 3_000);
        assert_eq!(pieces, whole);
    }

    #[test]
    fn drift_beyond_the_limit_is_limited_and_full_scale_saturates() {
        let mut resampler = DriftResampler::new();
        resampler.set_drift_ppm(i32::MAX);
        assert!((resampler.target as f64 / ONE as f64 - 1.005).abs() < 1e-9);
        let square: Vec<i16> = (0..800)
            .map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        let mut output = [0; 700];
        resampler.process(&square, &mut output);
        assert!(output.contains(&i16::MAX) && output.contains(&i16::MIN));
    }
}
