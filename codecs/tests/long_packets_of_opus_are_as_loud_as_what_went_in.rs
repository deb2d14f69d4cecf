//! Packets of Opus that are longer than a frame: whatever goes in comes out as loud as that, tones and jumps as well.

use std::f64::consts::TAU;

use codecs::{
    level,
    opus::{Bandwidth, Decoder, Encoder, PacketInfo, Settings},
};

const RATE_HZ: u32 = 48_000;
/// What goes in is louder by this for two packets …
const JUMP: f64 = 3.0;
/// … after so long.
const JUMP_MS: u32 = 1_920;
/// A decoder may need so long to know a tone.
const SETTLED_MS: u32 = 600;

/// Two tones at 2 000 each, with a jump in their middle.
fn packet_of(hz: [f64; 2], phase: f64, jump: f64, packet: u32, ptime_ms: u32) -> Vec<i16> {
    let at_ms = packet * ptime_ms;
    let gain = match (JUMP_MS..JUMP_MS + 80).contains(&at_ms) {
        true => jump,
        false => 1.0,
    };
    let samples = RATE_HZ / 1_000 * ptime_ms;
    let sample = |at: u32| {
        let seconds = f64::from(packet * samples + at) / f64::from(RATE_HZ);
        let tone = |hz: f64, phase: f64| (TAU * (hz * seconds + phase)).sin();
        (2_000.0 * gain * (tone(hz[0], 0.0) + tone(hz[1], phase))) as i16
    };
    (0..samples).map(sample).collect()
}

/// How much louder a packet comes out than it went in, at most. A packet trails what went in by some ms.
fn loudest(hz: [f64; 2], phase: f64, jump: f64, ptime_ms: u32, complexity: u8) -> f64 {
    let settings = Settings {
        complexity,
        ..Settings::default()
    };
    let mut encoder = Encoder::new(RATE_HZ, &settings).expect("a rate of Opus");
    let mut decoder = Decoder::new(RATE_HZ).expect("a rate of Opus");
    let (mut payload, mut decoded) = ([0; 1_500], [0; 2_880]);
    let (mut before, mut loudest) = (0, 0.0_f64);
    for packet in 0..3_600 / ptime_ms {
        let pcm = packet_of(hz, phase, jump, packet, ptime_ms);
        let bytes = encoder.encode(&pcm, &mut payload).expect("a packet time of Opus");
        let samples = decoder.decode(&payload[..bytes], &mut decoded).expect("a packet");
        let fed = level::energy(&pcm);
        let ratio = level::energy(&decoded[..samples]) as f64 / fed.max(before) as f64;
        before = fed;
        if packet * ptime_ms > SETTLED_MS {
            loudest = loudest.max(ratio.sqrt());
        }
    }
    loudest
}

#[test]
fn tones_that_jump_are_as_loud_as_they_went_in() {
    let tones = [520.0, 620.0, 720.0, 820.0, 920.0, 1_920.0, 2_220.0];
    for (ptime_ms, complexity) in [(20, 6), (40, 5), (40, 6), (60, 6)] {
        for (at, first) in tones.iter().enumerate() {
            for second in &tones[at + 1..] {
                let loudest = loudest([*first, *second], 0.3, JUMP, ptime_ms, complexity);
                assert!(
                    loudest < 1.3,
                    "{ptime_ms} ms, complexity {complexity}, {first} and {second} Hz: {loudest:.2}"
                );
            }
        }
    }
}

#[test]
fn a_long_packet_is_one_frame_of_up_to_8_khz() {
    let mut encoder = Encoder::new(RATE_HZ, &Settings::default()).expect("a rate of Opus");
    let mut payload = [0; 1_500];
    let mut encode = |ptime_ms| {
        let pcm = packet_of([520.0, 920.0], 0.0, 1.0, 0, ptime_ms);
        let bytes = encoder.encode(&pcm, &mut payload).expect("a packet time of Opus");
        PacketInfo::parse(&payload[..bytes]).expect("a packet")
    };
    for ptime_ms in [20, 40, 60] {
        // The bandwidth changes with the packet after.
        encode(ptime_ms);
        let info = encode(ptime_ms);
        assert_eq!(info.samples(RATE_HZ), 48 * ptime_ms as usize);
        assert_eq!(info.frames, 1, "{ptime_ms} ms: {info:?}");
        assert_eq!(
            info.bandwidth == Bandwidth::Wide,
            ptime_ms > 20,
            "{ptime_ms} ms: {info:?}"
        );
    }
}
