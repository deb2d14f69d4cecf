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

/// Converts a whole mono recording; the output has its duration, without delay.
///
/// # Errors
/// [`FileError`] for rates that make no sense; the samples themselves are never a reason.
pub fn convert(pcm: &[i16], from_hz: u32, to_hz: u32) -> Result<Vec<i16>, FileError> {
    if let Some(&hz) = [from_hz, to_hz].iter().find(|hz| !RATES_HZ.contains(hz)) {
        return Err(FileError::SampleRate { hz });
    }
    if from_hz == to_hz || pcm.is_empty() {
        return Ok(pcm.to_vec());
    }
    let failed = |reason: String| FileError::Conversion {
        from_hz,
        to_hz,
        reason,
    };
    let mut converter = Fft::<f32>::new(from_hz as usize, to_hz as usize, CHUNK, 1, FixedSync::Both)
        .map_err(|error| failed(error.to_string()))?;
    let input: Vec<f32> = pcm.iter().map(|&sample| f32::from(sample)).collect();
    let adapter = InterleavedSlice::new(&input, 1, input.len()).map_err(|error| failed(error.to_string()))?;
    let output = converter
        .process_all(&adapter, input.len(), None)
        .map_err(|error| failed(error.to_string()))?
        .take_data();
    // `as` saturates.
    Ok(output.into_iter().map(|sample| sample.round() as i16).collect())
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
