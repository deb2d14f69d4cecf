//! Cost of one 20 ms frame: every codec, both ways, and every kernel.
//!
//! `cargo bench -p codecs`; figures are for comparison on one machine, never asserted.
#![allow(missing_docs, reason = "criterion's macros")]

use codecs::comfort_noise::{NoiseGenerator, REFRESH_MS, Sid, SilenceSuppressor};
use codecs::dtmf::{Detector, Digit, DtmfGenerator};
use codecs::gain_control::{GainControl, GainSettings};
use codecs::noise::NoiseSuppressor;
use codecs::resample::{DriftResampler, Resampler};
use codecs::tone::{CallProgress, Country, ToneGenerator};
use codecs::{CodecKind, Decoder, Encoder, g711, level, mix, opus, plc::Plc, vad::Vad};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

/// A second of something that moves like speech: a chirping triple with a syllable envelope.
fn signal(rate: u32) -> Vec<i16> {
    (0..rate)
        .map(|n| {
            let t = f64::from(n) / f64::from(rate);
            let pitch = 140.0 + 30.0 * (t * 7.0).sin();
            let voice: f64 = (1..12)
                .map(|h| (std::f64::consts::TAU * pitch * f64::from(h) * t).sin() / f64::from(h))
                .sum();
            (voice * 4_000.0 * (t * 12.0).sin().abs()) as i16
        })
        .collect()
}

fn coders(c: &mut Criterion) {
    let complexity = |complexity| opus::Settings {
        complexity,
        ..opus::Settings::default()
    };
    let fec = opus::Settings {
        inband_fec: true,
        packet_loss_percent: 10,
        ..opus::Settings::default()
    };
    let cases = [
        ("pcmu", CodecKind::Pcmu, 8_000, complexity(5)),
        ("pcma", CodecKind::Pcma, 8_000, complexity(5)),
        (
            "l16",
            CodecKind::L16 {
                sample_rate_hz: 16_000,
            },
            16_000,
            complexity(5),
        ),
        ("g722", CodecKind::G722, 16_000, complexity(5)),
        ("opus_8k_c5", CodecKind::Opus, 8_000, complexity(5)),
        ("opus_16k_c5", CodecKind::Opus, 16_000, complexity(5)),
        ("opus_16k_c5_fec", CodecKind::Opus, 16_000, fec),
        ("opus_48k_c5", CodecKind::Opus, 48_000, complexity(5)),
        ("opus_48k_c10", CodecKind::Opus, 48_000, complexity(10)),
    ];
    for (name, kind, rate, settings) in cases {
        let pcm = signal(rate);
        let mut encoder = Encoder::new(kind, rate, &settings).expect("a case of this table");
        let mut decoder = Decoder::new(kind, rate).expect("a case of this table");
        let mut payload = [0; 2_000];
        let mut payloads = Vec::new();
        for frame in pcm.chunks(rate as usize / 50) {
            let bytes = encoder.encode(frame, &mut payload).expect("20 ms are a frame");
            payloads.push(payload[..bytes].to_vec());
        }
        let mut frames = pcm.chunks(rate as usize / 50).cycle();
        c.bench_function(&format!("encode/{name}"), |b| {
            b.iter(|| encoder.encode(black_box(frames.next().expect("a cycle")), &mut payload));
        });
        let (mut packets, mut out) = (payloads.iter().cycle(), [0; 960]);
        c.bench_function(&format!("decode/{name}"), |b| {
            b.iter(|| decoder.decode(black_box(packets.next().expect("a cycle")), &mut out));
        });
        let frame = rate as usize / 50;
        c.bench_function(&format!("conceal/{name}"), |b| {
            b.iter(|| {
                decoder.conceal(black_box(&mut out[..frame]));
                // A loss after a good frame, the case that searches for the pitch.
                if let Decoder::Pcmu(plc) | Decoder::Pcma(plc) | Decoder::G722(_, plc) | Decoder::L16(plc) =
                    &mut decoder
                {
                    plc.good(&mut out[..frame]);
                }
            });
        });
    }
}

fn kernels(c: &mut Criterion) {
    let pcm = signal(8_000);
    let frame: &[i16] = &pcm[1_000..1_160];
    let mut payload = [0; 160];
    g711::encode_ulaw(frame, &mut payload);
    c.bench_function("law_to_law", |b| {
        b.iter(|| g711::transcode_in_place(black_box(&mut payload), &g711::ULAW_TO_ALAW));
    });
    let (mut sum, mut out) = ([0; 160], [0; 160]);
    c.bench_function("mix_add", |b| {
        b.iter(|| {
            sum.fill(0);
            mix::add(black_box(&mut sum), black_box(frame));
        })
    });
    c.bench_function("mix_all_but", |b| {
        b.iter(|| mix::Limiter::new().all_but(black_box(&sum), black_box(frame), &mut out))
    });
    let loud = sum.map(|value| value * 20);
    c.bench_function("mix_all_but_limited", |b| {
        b.iter(|| mix::Limiter::new().all_but(black_box(&loud), black_box(frame), &mut out))
    });
    c.bench_function("mix_gain_ramp", |b| {
        let mut gain = mix::Gain::new(mix::UNITY / 2);
        b.iter(|| {
            gain.set(mix::UNITY / 3);
            gain.apply(black_box(&mut out));
        });
    });
    c.bench_function("level_rfc6464", |b| b.iter(|| level::rfc6464(black_box(frame))));
    let mut vad = Vad::new(8_000);
    c.bench_function("vad", |b| b.iter(|| vad.process(black_box(frame))));
    let mut plc = Plc::new(8_000);
    let mut good = out;
    c.bench_function("plc_good", |b| b.iter(|| plc.good(black_box(&mut good))));
    let mut ringback = ToneGenerator::call_progress(Country::Us, CallProgress::Dial, 8_000);
    c.bench_function("tone_dual", |b| b.iter(|| ringback.generate(black_box(&mut out))));
}

fn converters(c: &mut Criterion) {
    for (from, to) in [
        (8_000, 16_000),
        (16_000, 8_000),
        (8_000, 48_000),
        (48_000, 8_000),
        (16_000, 48_000),
        (48_000, 16_000),
    ] {
        let pcm = signal(from);
        let mut resampler = Resampler::new(from, to).expect("known rates");
        let mut out = [0; 960];
        c.bench_function(&format!("resample/{from}_{to}"), |b| {
            b.iter(|| resampler.process(black_box(&pcm[..from as usize / 50]), &mut out));
        });
    }
    let pcm = signal(8_000);
    let mut drift = DriftResampler::new();
    drift.set_drift_ppm(200);
    let mut out = [0; 160];
    c.bench_function("resample/drift_8000", |b| {
        b.iter(|| drift.process(black_box(&pcm[..200]), &mut out))
    });
}

/// What an endpoint may ask to be done to its sound, and silence in both directions.
fn treatments(c: &mut Criterion) {
    for rate in [8_000, 16_000, 48_000] {
        let pcm = signal(rate);
        let frame = rate as usize / 50;
        let mut frames = pcm.chunks_exact(frame).cycle();
        let (mut suppressor, mut out) = (NoiseSuppressor::new(rate).expect("a known rate"), vec![0; frame]);
        c.bench_function(&format!("noise_suppression/{rate}"), |b| {
            b.iter(|| {
                out.copy_from_slice(frames.next().expect("a cycle"));
                suppressor.process(black_box(&mut out));
            });
        });
    }
    let pcm = signal(8_000);
    let mut frames = pcm.chunks_exact(160).cycle();
    let settings = GainSettings {
        target_dbov: -26.0,
        gain_db_max: 12.0,
    };
    let (mut control, mut out) = (GainControl::new(settings, 8_000), [0; 160]);
    c.bench_function("gain_control", |b| {
        b.iter(|| {
            out.copy_from_slice(frames.next().expect("a cycle"));
            control.process(black_box(&mut out));
        });
    });
    let mut silence = SilenceSuppressor::new(8_000, true, REFRESH_MS);
    let quiet = [3; 160];
    c.bench_function("silence/describe", |b| {
        b.iter(|| silence.process(black_box(&quiet)))
    });
    let mut background = NoiseGenerator::new(1);
    background.begin(&Sid::white(50));
    c.bench_function("silence/generate", |b| {
        b.iter(|| background.generate(black_box(&mut out)))
    });
}

fn digits(c: &mut Criterion) {
    let pcm = signal(8_000);
    let mut detector = Detector::new();
    let mut frames = pcm.chunks(160).cycle();
    c.bench_function("dtmf/detect_speech", |b| {
        b.iter(|| detector.process(black_box(frames.next().expect("a cycle")), |_| {}));
    });
    let mut generator = DtmfGenerator::new(8_000);
    let digit = Digit::from_char('5').expect("5 is a digit");
    let mut out = [0; 160];
    c.bench_function("dtmf/generate", |b| {
        b.iter(|| {
            generator.start(digit, 20, 0);
            generator.generate(black_box(&mut out))
        });
    });
    c.bench_function("dtmf/detect_digit", |b| {
        b.iter(|| detector.process(black_box(&out), |_| {}))
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
}

criterion_group! { name = benches; config = quick(); targets = coders, kernels, converters, treatments, digits }
criterion_main!(benches);
