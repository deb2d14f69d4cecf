//! Each codec at each rate and packet time: the tone arrives at its level, through single losses too.

use codecs::goertzel::{amplitude, purity};
use codecs::{CodecKind, Decoder, Encoder, opus};

fn tone(rate: u32, samples: usize) -> Vec<i16> {
    let step = std::f64::consts::TAU * 500.0 / f64::from(rate);
    (0..samples)
        .map(|n| (8_000.0 * (step * n as f64).sin()) as i16)
        .collect()
}

fn cases() -> Vec<(CodecKind, u32, u32)> {
    let mut cases = Vec::new();
    for ptime_ms in [10, 20, 30, 40, 60] {
        for (kind, rates) in [
            (CodecKind::Pcmu, &[8_000][..]),
            (CodecKind::Pcma, &[8_000]),
            (CodecKind::G722, &[16_000]),
            (CodecKind::Opus, &[8_000, 16_000, 24_000, 48_000]),
            (
                CodecKind::L16 {
                    sample_rate_hz: 8_000,
                },
                &[8_000],
            ),
            (
                CodecKind::L16 {
                    sample_rate_hz: 44_100,
                },
                &[44_100],
            ),
            (
                CodecKind::L16 {
                    sample_rate_hz: 48_000,
                },
                &[48_000],
            ),
        ] {
            if kind.has_ptime(ptime_ms) {
                cases.extend(rates.iter().map(|&rate| (kind, rate, ptime_ms)));
            }
        }
    }
    cases
}

#[test]
fn tones_arrive() {
    for (kind, rate, ptime_ms) in cases() {
        let frame = CodecKind::frame_samples(rate, ptime_ms);
        let settings = opus::Settings {
            inband_fec: true,
            packet_loss_percent: 10,
            ..opus::Settings::default()
        };
        let mut encoder = Encoder::new(kind, rate, &settings).expect("the codec runs at this rate");
        let mut decoder = Decoder::new(kind, rate).expect("the codec runs at this rate");
        let sent = tone(rate, frame * 1_200 / ptime_ms as usize);
        let mut heard = vec![0; sent.len()];
        let mut payload = vec![0; kind.payload_bytes_max(ptime_ms)];
        let mut pending_loss = None;
        for (index, (pcm, out)) in sent.chunks(frame).zip(0..).map(|(pcm, n)| (n, (pcm, n * frame))) {
            let bytes = encoder
                .encode(pcm, &mut payload)
                .expect("a frame of this packet time");
            assert_eq!(
                kind.payload_ticks(&payload[..bytes]),
                Ok(kind.ptime_ticks(ptime_ms)),
                "{kind:?}"
            );
            if index == 8 {
                pending_loss = Some(out);
                continue;
            }
            if let Some(lost) = pending_loss.take() {
                decoder.recover(&payload[..bytes], &mut heard[lost..lost + frame]);
            }
            assert_eq!(
                decoder.decode(&payload[..bytes], &mut heard[out..out + frame]),
                Ok(frame),
                "{kind:?}"
            );
        }
        let settled = &heard[heard.len() / 4..];
        let what = format!("{kind:?} at {rate} Hz, {ptime_ms} ms");
        let level = amplitude(settled, 500.0, rate);
        assert!((6_500.0..9_000.0).contains(&level), "{what}: level {level:.0}");
        assert!(
            purity(settled, 500.0, rate) > 0.95,
            "{what}: purity {}",
            purity(settled, 500.0, rate)
        );
    }
}

#[test]
fn clocks_and_sizes_are_those_of_the_payload_formats() {
    let l16 = CodecKind::L16 {
        sample_rate_hz: 44_100,
    };
    let facts = [
        CodecKind::Pcmu,
        CodecKind::Pcma,
        CodecKind::G722,
        CodecKind::Opus,
        l16,
    ]
    .map(|kind| {
        (
            kind.clock_rate_hz(),
            kind.sample_rate_hz(),
            kind.ptime_ticks(20),
            kind.payload_bytes_max(20),
        )
    });
    assert_eq!(
        facts,
        [
            (8_000, 8_000, 160, 160),
            (8_000, 8_000, 160, 160),
            (8_000, 16_000, 160, 160),
            (48_000, 48_000, 960, 1_279),
            (44_100, 44_100, 882, 1_764),
        ]
    );
    assert!(CodecKind::Opus.has_ptime(60) && !CodecKind::Opus.has_ptime(30) && CodecKind::Pcmu.has_ptime(30));
    assert!(
        CodecKind::Opus.runs_at(24_000)
            && !CodecKind::Opus.runs_at(32_000)
            && !CodecKind::G722.runs_at(8_000)
    );
    assert!(l16.has_ptime(10) && !l16.has_ptime(5) && !CodecKind::Pcma.has_ptime(0));
}
