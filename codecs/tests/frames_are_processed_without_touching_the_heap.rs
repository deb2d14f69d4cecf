//! After construction nothing allocates: every codec, kernel, generator and detector, frame after frame.

use codecs::comfort_noise::{
    NoiseGenerator, REFRESH_MS, SID_BYTES_MAX, Sid, SilenceSuppressor, Transmission,
};
use codecs::dtmf::{Detector, Digit, DtmfGenerator};
use codecs::gain_control::{GainControl, GainSettings};
use codecs::noise::NoiseSuppressor;
use codecs::resample::{DriftResampler, Resampler};
use codecs::tone::{CallProgress, Country, ToneGenerator};
use codecs::{CodecKind, Decoder, Encoder, g711, level, mix, opus, vad::Vad};

#[global_allocator]
static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;

const KINDS: [(CodecKind, u32); 7] = [
    (CodecKind::Pcmu, 8_000),
    (CodecKind::Pcma, 8_000),
    (CodecKind::G722, 16_000),
    (CodecKind::Opus, 8_000),
    (CodecKind::Opus, 16_000),
    (CodecKind::Opus, 48_000),
    (
        CodecKind::L16 {
            sample_rate_hz: 8_000,
        },
        8_000,
    ),
];

#[test]
fn codecs_and_their_concealment() {
    let settings = opus::Settings {
        inband_fec: true,
        packet_loss_percent: 10,
        dtx: true,
        complexity: 10,
        ..opus::Settings::default()
    };
    for (kind, rate) in KINDS {
        let mut encoder = Encoder::new(kind, rate, &settings).expect("the codec runs at this rate");
        let mut decoder = Decoder::new(kind, rate).expect("the codec runs at this rate");
        let mut tone = ToneGenerator::call_progress(Country::Uk, CallProgress::Busy, rate);
        let (mut pcm, mut payload) = ([0; 960], [0; 2_000]);
        let pcm = &mut pcm[..rate as usize / 50];
        noalloc::assert_none("coding, concealing and recovering", || {
            for frame in 0..60 {
                tone.generate(pcm);
                let bytes = encoder.encode(pcm, &mut payload).expect("20 ms are a frame");
                if bytes == 0 || frame % 7 == 6 {
                    decoder.conceal(pcm);
                } else {
                    if frame % 7 == 0 {
                        decoder.recover(&payload[..bytes], pcm);
                    }
                    decoder
                        .decode(&payload[..bytes], pcm)
                        .expect("it was just encoded");
                }
                assert!(decoder.decode(&[], pcm).is_err());
                encoder.set_packet_loss(frame);
            }
        });
    }
}

#[test]
fn everything_else() {
    let mut up = Resampler::new(8_000, 48_000).expect("known rates");
    let mut down = Resampler::new(48_000, 16_000).expect("known rates");
    let mut drift = DriftResampler::new();
    let (mut detector, mut generator) = (Detector::new(), DtmfGenerator::new(8_000));
    let (mut vad, mut gain) = (Vad::new(8_000), mix::Gain::new(mix::UNITY));
    let mut limiter = mix::Limiter::new();
    let digit = Digit::from_char('7').expect("7 is a digit");
    let (mut pcm, mut wide, mut out, mut sum) = ([0; 160], [0; 960], [0; 320], [0; 160]);
    let (mut payload, mut digits, mut talk) = ([0; 160], 0, 0);
    noalloc::assert_none("a second of everything", || {
        for frame in 0..50 {
            if frame % 10 == 0 {
                generator.start(digit, 80, 60);
                gain.set(mix::gain_from_db(f64::from(frame) - 30.0));
            }
            generator.generate(&mut pcm);
            detector.process(&pcm, |_| digits += 1);
            talk += usize::from(vad.process(&pcm).is_some());
            up.process(&pcm, &mut wide).expect("room for 20 ms");
            down.process(&wide, &mut out).expect("room for 20 ms");
            drift.set_drift_ppm(frame * 10);
            drift.process(&pcm, &mut out);
            sum.fill(0);
            gain.advance(160).add(&mut sum, &pcm);
            mix::add(&mut sum, &pcm);
            limiter.all_but(&sum, &pcm, &mut out[..160]);
            limiter.all(&sum, &mut out[..160]);
            gain.apply(&mut out[..160]);
            g711::encode_ulaw(&out[..160], &mut payload);
            g711::transcode_in_place(&mut payload, &g711::ULAW_TO_ALAW);
            assert!(level::rfc6464(&pcm) <= level::SILENCE_DBOV);
        }
    });
    assert_eq!((digits, talk), (10, 1), "the measured code did its work");
}

#[test]
fn noise_suppression_and_gain_control() {
    let settings = GainSettings {
        target_dbov: -20.0,
        gain_db_max: 20.0,
    };
    for rate in [8_000, 16_000, 48_000] {
        let mut noise = NoiseSuppressor::new(rate).expect("it runs at this rate");
        let mut gain = GainControl::new(settings, rate);
        let mut tone = ToneGenerator::call_progress(Country::Uk, CallProgress::Busy, rate);
        let mut pcm = [0; 960];
        let pcm = &mut pcm[..rate as usize / 50];
        noalloc::assert_none("two seconds of noise suppression and gain control", || {
            for _ in 0..100 {
                tone.generate(pcm);
                noise.process(pcm);
                gain.process(pcm);
            }
        });
    }
}

#[test]
fn comfort_noise_made_and_described() {
    for rate in [8_000, 16_000] {
        let mut noise = NoiseGenerator::new(5);
        let mut suppressor = SilenceSuppressor::new(rate, true, REFRESH_MS);
        let (mut pcm, mut payload) = ([0; 320], [0; SID_BYTES_MAX]);
        let pcm = &mut pcm[..rate as usize / 50];
        noise.begin(&Sid::new(50, &[-0.7, 0.3]));
        let mut described = 0;
        noalloc::assert_none("six seconds of comfort noise", || {
            for _ in 0..300 {
                noise.generate(pcm);
                if let Transmission::Describe(sid) = suppressor.process(pcm) {
                    let bytes = sid.write(&mut payload);
                    noise.go_on(&Sid::parse(&payload[..bytes]).expect("it was just written"));
                    described += 1;
                }
            }
        });
        assert!(described >= 2, "{described}");
    }
}
