//! Signals for tests: reproducible from a seed, with no random source of the system.

use std::f64::consts::TAU;

/// xorshift64*: the next of a reproducible sequence.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

/// Uniform in -1.0..1.0.
pub(crate) fn uniform(state: &mut u64) -> f64 {
    (next(state) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// White noise, uniform in ±`peak`.
pub(crate) fn noise(samples: usize, peak: i16, seed: u64) -> Vec<i16> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..samples)
        .map(|_| (uniform(&mut state) * f64::from(peak)) as i16)
        .collect()
}

/// A sine of `amplitude`.
pub(crate) fn tone(rate: u32, hz: f64, amplitude: f64, samples: usize) -> Vec<i16> {
    (0..samples)
        .map(|n| (amplitude * (TAU * hz * n as f64 / f64::from(rate)).sin()).round() as i16)
        .collect()
}

/// Something like speech: a glottal pulse train with wandering pitch through three formants, in
/// syllables, with fricative noise between them.
pub(crate) fn speech_like(rate: u32, samples: usize, seed: u64) -> Vec<i16> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let fs = f64::from(rate);
    let mut formants = [[0.0_f64; 2]; 3];
    let mut centres = [500.0, 1_500.0, 2_500.0];
    let (mut phase, mut pitch, mut out) = (0.0, 120.0, Vec::with_capacity(samples));
    let syllable = (fs * 0.18) as usize;
    for n in 0..samples {
        let place = n % syllable;
        if place == 0 {
            pitch = 160.0 + 60.0 * uniform(&mut state);
            centres = [
                550.0 + 300.0 * uniform(&mut state),
                1_500.0 + 600.0 * uniform(&mut state),
                2_700.0 + 400.0 * uniform(&mut state),
            ];
        }
        let t = place as f64 / syllable as f64;
        phase += pitch * (1.0 + 0.1 * (t - 0.5)) / fs;
        let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
        phase -= phase.floor();
        let voiced = if t < 0.75 { 1.0 } else { 0.0 };
        let source = voiced * pulse + (0.01 + 0.05 * (1.0 - voiced)) * uniform(&mut state);
        let mut sum = 0.0;
        for (formant, (&centre, (width, gain))) in
            formants
                .iter_mut()
                .zip(centres.iter().zip([(80.0, 1.0), (110.0, 0.6), (160.0, 0.35)]))
        {
            let radius = (-std::f64::consts::PI * width / fs).exp();
            let y =
                source + 2.0 * radius * (TAU * centre / fs).cos() * formant[0] - radius * radius * formant[1];
            *formant = [y, formant[0]];
            sum += gain * y;
        }
        let envelope = (std::f64::consts::PI * t).sin().max(0.05);
        out.push((sum * envelope * 3_000.0).clamp(-32_000.0, 32_000.0) as i16);
    }
    out
}
