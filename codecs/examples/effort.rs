//! What the effort of Opus costs and what it is good for: time to encode 20 ms, and how far what is decoded is from what
//! was said, for every complexity.
//!
//! `cargo run --release -p codecs --example effort`. The quality is told in two ways: the distance of the spectra in 1/3
//! octaves (log-spectral distance in dB, less is better), which is what an ear would notice, and the segmental
//! signal-to-noise ratio (dB, more is better). The speech is synthetic, so figures are for comparison with each other.
#![allow(clippy::disallowed_methods, reason = "a measurement reads clocks")]

use codecs::opus::{Application, Decoder, Encoder, Settings};
use std::{f64::consts::TAU, time::Instant};

#[path = "../src/test_signal.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod test_signal;

const SECONDS: usize = 20;
/// Each frame counts with the fastest of so many runs, which is free of what else the machine does.
const RUNS: usize = 9;
const BITRATE_BPS: u32 = 24_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("| rate | for | complexity | µs / 20 ms | kbit/s | distance dB | SNR dB |");
    println!("|---|---|---|---|---|---|---|");
    for rate_hz in [8_000, 16_000, 48_000] {
        let said = test_signal::speech_like(rate_hz, rate_hz as usize * SECONDS, 5);
        let speech = (0..=10).map(|complexity| (Application::Voip, complexity));
        let transform = (0..=5).map(|complexity| (Application::LowDelay, complexity));
        for (application, complexity) in speech.chain(transform) {
            let settings = Settings {
                application,
                complexity,
                bitrate_bps: BITRATE_BPS,
                ..Settings::default()
            };
            let row = measure(rate_hz, &settings, &said)?;
            println!("| {rate_hz} | {application:?} | {complexity} | {row} |");
        }
    }
    Ok(())
}

fn measure(rate_hz: u32, settings: &Settings, said: &[i16]) -> Result<String, Box<dyn std::error::Error>> {
    let frame = rate_hz as usize / 50;
    let mut fastest = vec![f64::INFINITY; said.len() / frame];
    let (mut bytes, mut heard) = (0, Vec::new());
    for run in 0..RUNS {
        let mut encoder = Encoder::new(rate_hz, settings)?;
        let mut decoder = Decoder::new(rate_hz)?;
        let mut payload = [0; 1_500];
        for (pcm, fastest) in said.chunks_exact(frame).zip(&mut fastest) {
            let begin = Instant::now();
            let length = encoder.encode(pcm, &mut payload)?;
            *fastest = fastest.min(begin.elapsed().as_secs_f64() * 1e6);
            if run == 0 {
                bytes += length;
                let from = heard.len();
                heard.resize(from + frame, 0);
                decoder.decode(&payload[..length], &mut heard[from..])?;
            }
        }
        if run == 0 {
            heard.drain(..encoder.delay_samples());
        }
    }
    let fastest = fastest.iter().sum::<f64>() / fastest.len() as f64;
    let rate = bytes as f64 * 8.0 / SECONDS as f64 / 1_000.0;
    let distance = spectral_distance(rate_hz, said, &heard);
    let snr = segmental_snr(frame, said, &heard);
    Ok(format!("{fastest:.1} | {rate:.1} | {distance:.2} | {snr:.1}"))
}

/// Mean over frames of the root mean square of the differences of their spectra in dB.
fn spectral_distance(rate_hz: u32, said: &[i16], heard: &[i16]) -> f64 {
    let length = rate_hz as usize / 40;
    let bands = bands(rate_hz, length);
    let pairs = said.chunks_exact(length).zip(heard.chunks_exact(length));
    let distances: Vec<f64> = pairs
        .filter(|(said, _)| is_sound(said))
        .map(|(said, heard)| {
            let (a, b) = (spectrum(&bands, said), spectrum(&bands, heard));
            // What is 50 dB below the loudest band is not heard beside it.
            let floor = a.iter().copied().fold(0.0, f64::max) * 1e-5;
            let db = |power: f64| 10.0 * power.max(floor).log10();
            let squares = a.iter().zip(&b).map(|(&a, &b)| (db(a) - db(b)).powi(2));
            (squares.sum::<f64>() / bands.len() as f64).sqrt()
        })
        .collect();
    distances.iter().sum::<f64>() / distances.len() as f64
}

/// Mean over frames of signal to noise, each held within -10 to 35 dB as is usual.
fn segmental_snr(frame: usize, said: &[i16], heard: &[i16]) -> f64 {
    let pairs = said.chunks_exact(frame).zip(heard.chunks_exact(frame));
    let ratios: Vec<f64> = pairs
        .filter(|(said, _)| is_sound(said))
        .map(|(said, heard)| {
            let signal: f64 = said.iter().map(|&s| f64::from(s).powi(2)).sum();
            let noise: f64 = said
                .iter()
                .zip(heard)
                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                .sum();
            (10.0 * (signal / noise.max(1.0)).log10()).clamp(-10.0, 35.0)
        })
        .collect();
    ratios.iter().sum::<f64>() / ratios.len() as f64
}

fn is_sound(pcm: &[i16]) -> bool {
    codecs::level::dbov(pcm) > -50.0
}

/// Lines of a spectrum, as the angle between samples, by 1/3 octave from 100 Hz to where telephony or the codec ends.
fn bands(rate_hz: u32, length: usize) -> Vec<Vec<f64>> {
    let top = (f64::from(rate_hz) * 0.45).min(8_000.0);
    let line_hz = f64::from(rate_hz) / length as f64;
    let mut bands = Vec::new();
    let mut low = 100.0;
    while low < top {
        let high = (low * 2_f64.powf(1.0 / 3.0)).max(low + line_hz);
        let lines = (0..length / 2).map(|n| n as f64 * line_hz);
        let inside = lines.filter(|hz| (low..high).contains(hz));
        bands.push(inside.map(|hz| TAU * hz / f64::from(rate_hz)).collect());
        low = high;
    }
    bands
}

/// Power of each band.
fn spectrum(bands: &[Vec<f64>], pcm: &[i16]) -> Vec<f64> {
    let length = pcm.len() as f64;
    let windowed: Vec<f64> = pcm
        .iter()
        .enumerate()
        .map(|(n, &s)| f64::from(s) * (0.5 - 0.5 * (TAU * (n as f64 + 0.5) / length).cos()))
        .collect();
    let power = |angle: &f64| {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in windowed.iter().enumerate() {
            let (sin, cos) = (angle * n as f64).sin_cos();
            re += sample * cos;
            im += sample * sin;
        }
        re * re + im * im
    };
    bands.iter().map(|lines| lines.iter().map(power).sum()).collect()
}
