//! Noise suppression: what is no speech becomes quiet, by the recurrent network of RNNoise in `nnnoiseless`.
//!
//! # Source
//! J.-M. Valin, "A hybrid DSP/deep learning approach to real-time full-band speech enhancement" (2018).

use std::sync::LazyLock;

use nnnoiseless::{DenoiseState, RnnModel};

use crate::{CodecError, resample::Resampler};

/// What the network runs at, whatever the sound does.
const SAMPLE_RATE_HZ: u32 = 48_000;
/// Length of its frames, in samples and ms.
const FRAME_SAMPLES: usize = DenoiseState::FRAME_SIZE;
const FRAME_MS: u32 = 10;
/// One for all.
static MODEL: LazyLock<RnnModel> = LazyLock::new(RnnModel::default);

/// Suppresses the noise of one stream.
///
/// To be made on the thread that uses it: what the library keeps for a thread is made with it, and nothing allocates
/// after that.
pub struct NoiseSuppressor {
    state: Box<DenoiseState<'static>>,
    /// To the network's rate and back, where the stream has another.
    converters: Option<(Resampler, Resampler)>,
    frame_samples: usize,
    sample_rate_hz: u32,
    wide: Box<[i16; FRAME_SAMPLES]>,
    input: Box<[f32; FRAME_SAMPLES]>,
    output: Box<[f32; FRAME_SAMPLES]>,
}

impl std::fmt::Debug for NoiseSuppressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoiseSuppressor")
            .field("sample_rate_hz", &self.sample_rate_hz)
            .finish_non_exhaustive()
    }
}

impl NoiseSuppressor {
    /// For a stream at 8, 12, 16, 24, 32 or 48 kHz.
    ///
    /// # Errors
    /// [`CodecError::SampleRate`]: another rate.
    pub fn new(sample_rate_hz: u32) -> Result<Self, CodecError> {
        let converters = match sample_rate_hz {
            SAMPLE_RATE_HZ => None,
            hz => Some((
                Resampler::new(hz, SAMPLE_RATE_HZ)?,
                Resampler::new(SAMPLE_RATE_HZ, hz)?,
            )),
        };
        let mut suppressor = Self {
            state: DenoiseState::with_model(&MODEL),
            converters,
            frame_samples: (sample_rate_hz / 1_000 * FRAME_MS) as usize,
            sample_rate_hz,
            wide: Box::new([0; FRAME_SAMPLES]),
            input: Box::new([0.0; FRAME_SAMPLES]),
            output: Box::new([0.0; FRAME_SAMPLES]),
        };
        // The library makes its tables for a thread with the first sound there.
        for (at, sample) in suppressor.input.iter_mut().enumerate() {
            *sample = if at % 100 < 50 { 1_000.0 } else { -1_000.0 };
        }
        suppressor
            .state
            .process_frame(&mut suppressor.output[..], &suppressor.input[..]);
        suppressor.state = DenoiseState::with_model(&MODEL);
        Ok(suppressor)
    }

    /// Suppresses the noise in `pcm`, which comes out [`Self::delay_samples`] later.
    ///
    /// # Shape
    /// Whole pieces of 10 ms; what is left over stays as it is.
    pub fn process(&mut self, pcm: &mut [i16]) {
        for frame in pcm.chunks_exact_mut(self.frame_samples) {
            match &mut self.converters {
                // A piece of 10 ms has room for a piece of 10 ms at either rate.
                Some((up, _)) => drop(up.process(frame, &mut self.wide[..])),
                None => self.wide.copy_from_slice(frame),
            }
            for (to, from) in self.input.iter_mut().zip(self.wide.iter()) {
                *to = f32::from(*from);
            }
            self.state.process_frame(&mut self.output[..], &self.input[..]);
            for (to, from) in self.wide.iter_mut().zip(self.output.iter()) {
                // `as` saturates.
                *to = from.round() as i16;
            }
            match &mut self.converters {
                Some((_, down)) => drop(down.process(&self.wide[..], frame)),
                None => frame.copy_from_slice(&self.wide[..]),
            }
        }
    }

    /// How much later the sound comes out: a frame of the network's, and what the converters take.
    pub fn delay_samples(&self) -> usize {
        let converters = self.converters.as_ref().map_or(0.0, |(up, down)| {
            up.delay_ms(self.sample_rate_hz) + down.delay_ms(SAMPLE_RATE_HZ)
        });
        let ms = f64::from(FRAME_MS) + converters;
        (ms * f64::from(self.sample_rate_hz) / 1_000.0).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        level::energy,
        test_signal::{noise, speech_like, tone},
    };

    /// Something like speech, which pauses for 0.6 s in every 2.
    fn voice(sample_rate_hz: u32, seconds: u32) -> Vec<i16> {
        let ms = sample_rate_hz as usize / 1_000;
        let speech = speech_like(sample_rate_hz, 1_000 * ms * seconds as usize, 5);
        let speaks = |at: usize| at / ms % 2_000 < 1_400;
        let sample = |(at, sample): (usize, i16)| if speaks(at) { sample / 3 } else { 0 };
        speech.into_iter().enumerate().map(sample).collect()
    }

    fn db(power: f64) -> f64 {
        10.0 * power.max(1e-9).log10()
    }

    #[test]
    fn noise_becomes_quiet_and_a_voice_in_it_stays() {
        for rate in [8_000, 16_000, 48_000] {
            let voice = voice(rate, 8);
            let noise = noise(voice.len(), 400, 7);
            let noisy: Vec<i16> = voice
                .iter()
                .zip(&noise)
                .map(|(a, b)| a.saturating_add(*b))
                .collect();
            let mut heard = noisy.clone();
            let mut suppressor = NoiseSuppressor::new(rate).unwrap();
            for frame in heard.chunks_mut(rate as usize / 50) {
                suppressor.process(frame);
            }
            let ms = rate as usize / 1_000;
            // Where it speaks and where it pauses, once it has settled.
            let part = |pcm: &[i16], from: usize, to: usize| {
                let parts = (1..4).map(|turn| &pcm[(2_000 * turn + from) * ms..(2_000 * turn + to) * ms]);
                parts
                    .map(|part| energy(part) as f64 / part.len() as f64)
                    .sum::<f64>()
                    / 3.0
            };
            let gain = |from, to| db(part(&heard, from, to)) - db(part(&noisy, from, to));
            let (speech, pause) = (gain(100, 1_300), gain(1_600, 1_950));
            assert!(pause < -12.0, "{rate}: noise by {pause:.1} dB");
            assert!(
                (-4.0..1.0).contains(&speech),
                "{rate}: the voice by {speech:.1} dB"
            );
            assert!(speech - pause > 10.0, "{rate}: {:.1} dB won", speech - pause);
        }
    }

    #[test]
    fn the_delay_is_the_one_it_tells() {
        for rate in [8_000, 16_000, 48_000] {
            let clean = voice(rate, 4);
            let mut heard = clean.clone();
            let mut suppressor = NoiseSuppressor::new(rate).unwrap();
            suppressor.process(&mut heard);
            let told = suppressor.delay_samples();
            let from = rate as usize * 2;
            let likeness = |delay: usize| -> f64 {
                let pairs = clean[from..from + rate as usize]
                    .iter()
                    .zip(&heard[from + delay..]);
                pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let best = (0..rate as usize / 40).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)));
            let off = best.unwrap().abs_diff(told);
            assert!(off <= rate as usize / 1_000, "{rate}: {best:?}, told {told}");
        }
    }

    #[test]
    fn a_frame_of_another_rate_is_refused() {
        assert!(NoiseSuppressor::new(44_100).is_err());
        let mut rest = tone(8_000, 440.0, 10_000.0, 7);
        let before = rest.clone();
        NoiseSuppressor::new(8_000).unwrap().process(&mut rest);
        assert_eq!(rest, before, "less than 10 ms stays as it is");
    }
}
