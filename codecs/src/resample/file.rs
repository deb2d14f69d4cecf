//! Conversion of whole files at any rate, 44.1 kHz first of all. Allocates: not for the packet path.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

/// Frames converted at a time; a longer piece makes a steeper filter.
const CHUNK: usize = 1_024;
/// What a file may be sampled at.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=384_000;

/// Why a file was not converted.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// One of the rates is out of range.
    #[error("a sampling rate of {hz} Hz is out of range (1000 to 384000)")]
    SampleRate {
        /// The offending rate.
        hz: u32,
    },
    /// The converter refused the two rates.
    #[error("cannot convert {from_hz} Hz to {to_hz} Hz: {reason}")]
    Conversion {
        /// The file's rate.
        from_hz: u32,
        /// The wanted rate.
        to_hz: u32,
        /// What the converter says.
        reason: String,
    },
}

/// Converts a mono recording piece by piece; the output has its duration, without delay.
pub struct Converter {
    /// Unset where the two rates are one.
    fft: Option<Fft<f32>>,
    from_hz: u64,
    to_hz: u64,
    /// Waits until there is enough for a step.
    input: Vec<f32>,
    output: Vec<f32>,
    /// Samples still to come out that only the filter's delay makes.
    delay: usize,
    taken: u64,
    given: u64,
}

impl Converter {
    /// A converter from one rate to another.
    ///
    /// # Errors
    /// [`FileError`] for rates that make no sense.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, FileError> {
        if let Some(&hz) = [from_hz, to_hz].iter().find(|hz| !RATES_HZ.contains(hz)) {
            return Err(FileError::SampleRate { hz });
        }
        let failed = |reason: String| FileError::Conversion {
            from_hz,
            to_hz,
            reason,
        };
        let made = (from_hz != to_hz)
            .then(|| Fft::<f32>::new(from_hz as usize, to_hz as usize, CHUNK, 1, FixedSync::Both));
        let fft = made.transpose().map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            delay: fft.as_ref().map_or(0, |fft| fft.output_delay()),
            output: vec![0.0; fft.as_ref().map_or(0, |fft| fft.output_frames_max())],
            fft,
            from_hz: from_hz.into(),
            to_hz: to_hz.into(),
            input: Vec::new(),
            taken: 0,
            given: 0,
        })
    }

    /// Takes the next samples in and adds to `out` what comes of them.
    pub fn push(&mut self, pcm: &[i16], out: &mut Vec<i16>) {
        self.taken += pcm.len() as u64;
        let Some(fft) = &mut self.fft else {
            out.extend_from_slice(pcm);
            return;
        };
        self.input.extend(pcm.iter().map(|&sample| f32::from(sample)));
        let step = fft.input_frames_next();
        let whole = self.input.len() / step * step;
        for piece in self.input[..whole].chunks_exact(step) {
            let input = InterleavedSlice::new(piece, 1, step).expect("one channel of a step");
            let room = self.output.len();
            let mut output = InterleavedSlice::new_mut(&mut self.output, 1, room).expect("one channel");
            let (_, written) = fft
                .process_into_buffer(&input, &mut output, None)
                .expect("a step in, and room for the most that comes out");
            let skipped = self.delay.min(written);
            self.delay -= skipped;
            // `as` saturates.
            out.extend(
                self.output[skipped..written]
                    .iter()
                    .map(|sample| sample.round() as i16),
            );
            self.given += (written - skipped) as u64;
        }
        self.input.drain(..whole);
    }

    /// There is no more: adds the rest to `out` and is as new.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        if self.fft.is_some() {
            let (taken, wanted) = (self.taken, (self.taken * self.to_hz).div_ceil(self.from_hz));
            while self.given < wanted {
                self.push(&[0; CHUNK], out);
            }
            let beyond = usize::try_from(self.given - wanted).unwrap_or(usize::MAX);
            out.truncate(out.len().saturating_sub(beyond));
            debug_assert!(self.taken >= taken);
        }
        self.reset();
    }

    /// Forgets what was heard.
    pub fn reset(&mut self) {
        if let Some(fft) = &mut self.fft {
            fft.reset();
            self.delay = fft.output_delay();
        }
        self.input.clear();
        (self.taken, self.given) = (0, 0);
    }
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Converter({} Hz to {} Hz)", self.from_hz, self.to_hz)
    }
}

/// Converts a whole mono recording; the output has its duration, without delay.
///
/// # Errors
/// [`FileError`] for rates that make no sense; the samples themselves are never a reason.
pub fn convert(pcm: &[i16], from_hz: u32, to_hz: u32) -> Result<Vec<i16>, FileError> {
    let mut converter = Converter::new(from_hz, to_hz)?;
    let mut out = Vec::new();
    converter.push(pcm, &mut out);
    converter.finish(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goertzel::{amplitude, purity};
    use crate::test_signal::tone;

    #[test]
    fn odd_rates_keep_duration_level_and_place() {
        for (from, to) in [
            (44_100, 8_000),
            (44_100, 48_000),
            (22_050, 16_000),
            (11_025, 8_000),
            (8_000, 44_100),
        ] {
            let input = tone(from, 1_000.0, 12_000.0, from as usize / 2);
            let output = convert(&input, from, to).unwrap();
            let expected = (input.len() as f64 * f64::from(to) / f64::from(from)).ceil() as usize;
            assert!(
                output.len().abs_diff(expected) <= 1,
                "{from} to {to}: {} of {expected}",
                output.len()
            );
            let middle = &output[to as usize / 10..to as usize / 10 * 4];
            assert!(
                (amplitude(middle, 1_000.0, to) / 12_000.0 - 1.0).abs() < 0.01,
                "{from} to {to}"
            );
            assert!(purity(middle, 1_000.0, to) > 0.9999, "{from} to {to}");
            // In place to within half an input sample: the same sine, as far as its slope allows.
            let slope = 12_000.0 * std::f64::consts::TAU * 1_000.0 / f64::from(from);
            let ideal = tone(to, 1_000.0, 12_000.0, output.len());
            for n in to as usize / 10..to as usize / 10 * 4 {
                let error = (i32::from(output[n]) - i32::from(ideal[n])).abs();
                assert!(
                    f64::from(error) < slope * 0.55,
                    "{from} to {to}: sample {n} is off by {error}"
                );
            }
        }
    }

    #[test]
    fn aliases_are_rejected() {
        let output = convert(&tone(44_100, 5_000.0, 20_000.0, 22_050), 44_100, 8_000).unwrap();
        let middle = &output[1_000..3_000];
        let db = crate::level::dbov(middle) - crate::level::dbov(&tone(8_000, 1_000.0, 20_000.0, 800));
        assert!(db < -60.0, "{db:.1} dB");
    }

    #[test]
    fn unusual_calls() {
        assert!(matches!(
            convert(&[1], 0, 8_000),
            Err(FileError::SampleRate { hz: 0 })
        ));
        assert!(matches!(
            convert(&[1], 8_000, 999_999),
            Err(FileError::SampleRate { hz: 999_999 })
        ));
        assert_eq!(convert(&[], 44_100, 8_000).unwrap(), []);
        assert_eq!(convert(&[5, 6], 8_000, 8_000).unwrap(), [5, 6]);
        assert!(convert(&[5; 10], 44_100, 8_000).unwrap().len() <= 3);
    }
}
