//! Whatever a peer sends, each decoder writes the samples it announces or refuses, and goes on.

use codecs::fuzzing::{fuzz_g722, fuzz_opus};
use codecs::{CodecError, CodecKind, Decoder};
use proptest::prelude::*;

const KINDS: [(CodecKind, u32); 6] = [
    (CodecKind::Pcmu, 8_000),
    (CodecKind::Pcma, 8_000),
    (CodecKind::G722, 16_000),
    (CodecKind::Opus, 8_000),
    (CodecKind::Opus, 48_000),
    (
        CodecKind::L16 {
            sample_rate_hz: 16_000,
        },
        16_000,
    ),
];

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 0..1_600),
        // An Opus packet of several frames, to get past the first checks.
        (
            any::<u8>(),
            any::<u8>(),
            prop::collection::vec(any::<u8>(), 0..300)
        )
            .prop_map(|(toc, count, body)| {
                let mut packet = vec![toc | 3, count & 0xCF];
                packet.extend(body);
                packet
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn streams_of_any_bytes(payloads in prop::collection::vec(payload(), 1..8), room in 0..3_000_usize) {
        for (kind, rate) in KINDS {
            let mut decoder = Decoder::new(kind, rate).expect("the codec runs at this rate");
            let mut pcm = vec![0; room];
            for payload in &payloads {
                let ticks = kind.payload_ticks(payload);
                let samples = ticks.map(|ticks| (u64::from(ticks) * u64::from(rate) / u64::from(kind.clock_rate_hz())) as usize);
                match (decoder.decode(payload, &mut pcm), samples) {
                    (Ok(written), Ok(samples)) => prop_assert_eq!(written, samples),
                    (Err(CodecError::OutputTooSmall { needed, available }), Ok(samples)) => {
                        prop_assert_eq!((needed, available), (samples, room));
                        prop_assert!(needed > available);
                    }
                    (Err(CodecError::MalformedPayload), Err(CodecError::MalformedPayload)) => {}
                    (decoded, announced) => prop_assert!(false, "{kind:?}: {decoded:?} but {announced:?}"),
                }
                decoder.recover(payload, &mut pcm[..room.min(rate as usize / 50)]);
            }
        }
    }

    #[test]
    fn the_fuzz_entry_points_hold(bytes in payload()) {
        fuzz_opus(&bytes);
        fuzz_g722(&bytes);
    }
}
