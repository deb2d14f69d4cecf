//! Sampling-rate conversion: exact steps between telephony rates, clock drift, and whole files.

mod drift;
pub mod file;
mod fir;

pub use drift::{DRIFT_PPM_MAX, DriftResampler, Progress};
pub use fir::Resampler;

/// Filter design shared by both converters.
mod kaiser {
    use std::f64::consts::PI;

    /// Taps of a low-pass filter, odd and symmetric around the middle, for unit gain at 0 Hz.
    ///
    /// # Units
    /// `cutoff` (middle of the transition) in cycles per sample.
    pub(super) fn low_pass(taps: usize, cutoff: f64, beta: f64) -> Vec<f64> {
        let middle = (taps - 1) as f64 / 2.0;
        let mut filter: Vec<f64> = (0..taps)
            .map(|n| {
                let x = n as f64 - middle;
                let sinc = if x == 0.0 {
                    2.0 * cutoff
                } else {
                    (2.0 * PI * cutoff * x).sin() / (PI * x)
                };
                sinc * window(x / (middle + 1.0), beta)
            })
            .collect();
        let gain: f64 = filter.iter().sum();
        filter.iter_mut().for_each(|tap| *tap /= gain);
        filter
    }

    /// The Kaiser window at `x` in -1..=1.
    pub(super) fn window(x: f64, beta: f64) -> f64 {
        bessel_i0(beta * (1.0 - x * x).max(0.0).sqrt()) / bessel_i0(beta)
    }

    /// The `beta` that gives a stop band of `-attenuation_db`, and the taps that a transition needs.
    ///
    /// # Source
    /// J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974.
    pub(super) fn design(attenuation_db: f64, transition: f64) -> (f64, usize) {
        let beta = 0.1102 * (attenuation_db - 8.7);
        let taps = (attenuation_db - 7.95) / (14.36 * transition) + 1.0;
        (beta, taps.ceil() as usize)
    }

    /// Modified Bessel function of the first kind, order 0, by its power series.
    fn bessel_i0(x: f64) -> f64 {
        let (mut sum, mut term) = (1.0, 1.0);
        for k in 1..40 {
            term *= (x / (2.0 * f64::from(k))).powi(2);
            sum += term;
        }
        sum
    }
}
