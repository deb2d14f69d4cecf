//! Tones: what each leg says in tone mode, and how the sink proves which tone it heard.
//!
//! Every tone is a multiple of 50 Hz, so 20 ms hold whole periods and one precomputed frame repeats seamlessly.

use std::f64::consts::TAU;

use super::Codec;
use super::stamp::PAYLOAD_BYTES;

/// Sample rate of G.711.
const RATE_HZ: f64 = 8000.0;
const TONE_HZ_FIRST: u32 = 300;
const TONE_HZ_STEP: u32 = 50;
const TONE_COUNT: u32 = 60;
/// Partner's tone over the strongest other candidate, as a power ratio (20 dB).
const CLEAR_RATIO: f64 = 100.0;

/// The tone of a flow: the two directions of a call and neighbouring calls differ.
#[must_use]
pub fn tone_hz(flow_index: u32) -> u32 {
    // 7 is coprime to 60: neighbours land far apart.
    TONE_HZ_FIRST + TONE_HZ_STEP * (flow_index * 7 % TONE_COUNT)
}

/// One 20 ms frame of a flow's tone.
#[must_use]
pub fn tone_frame(flow_index: u32, codec: Codec) -> [u8; PAYLOAD_BYTES] {
    let step = TAU * f64::from(tone_hz(flow_index)) / RATE_HZ;
    std::array::from_fn(|n| nearest((8000.0 * (step * n as f64).sin()) as i16, decoder(codec)))
}

/// What a listener heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The wanted tone, 20 dB clear of every other tone a flow may carry.
    Partner,
    /// Some other tone is as strong: a stranger's, one's own, or noise.
    Other,
    /// Nothing loud enough to judge.
    Silence,
}

/// Judges `samples` (linear, 8 kHz) against the tone of `flow_index`.
#[must_use]
pub fn judge(samples: &[i16], flow_index: u32) -> Heard {
    let energy = samples.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    if energy < 100.0 * 100.0 {
        return Heard::Silence;
    }
    let wanted = tone_hz(flow_index);
    let power = goertzel(samples, f64::from(wanted));
    let strongest_other = (0..TONE_COUNT)
        .map(|k| TONE_HZ_FIRST + TONE_HZ_STEP * k)
        .filter(|hz| *hz != wanted)
        .map(|hz| goertzel(samples, f64::from(hz)))
        .fold(0.0, f64::max);
    if power > CLEAR_RATIO * strongest_other {
        Heard::Partner
    } else {
        Heard::Other
    }
}

/// Power of `samples` at `hz`, arbitrary scale.
#[must_use]
pub fn goertzel(samples: &[i16], hz: f64) -> f64 {
    let coefficient = 2.0 * (TAU * hz / RATE_HZ).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for sample in samples {
        let s0 = f64::from(*sample) + coefficient * s1 - s2;
        (s2, s1) = (s1, s0);
    }
    s1 * s1 + s2 * s2 - coefficient * s1 * s2
}

/// µ-law to linear (ITU-T G.711 table 2b, 14-bit values shifted to 16).
#[must_use]
pub fn ulaw_to_linear(byte: u8) -> i16 {
    let u = !byte;
    let magnitude = ((i16::from(u & 0x0f) << 3) + 0x84) << ((u & 0x70) >> 4);
    if u & 0x80 != 0 {
        0x84 - magnitude
    } else {
        magnitude - 0x84
    }
}

/// A-law to linear (ITU-T G.711 table 1a, 13-bit values shifted to 16).
#[must_use]
pub fn alaw_to_linear(byte: u8) -> i16 {
    let a = byte ^ 0x55;
    let segment = (a & 0x70) >> 4;
    let mantissa = i16::from(a & 0x0f) << 4;
    let magnitude = match segment {
        0 => mantissa + 8,
        _ => (mantissa + 0x108) << (segment - 1),
    };
    if a & 0x80 != 0 { magnitude } else { -magnitude }
}

/// The decoder of a law; Opus has frames, see [`opus_samples`].
#[must_use]
pub fn decoder(codec: Codec) -> fn(u8) -> i16 {
    match codec {
        Codec::Pcmu | Codec::Opus => ulaw_to_linear,
        Codec::Pcma => alaw_to_linear,
    }
}

/// Frames that an Opus leg says in turn.
const OPUS_FRAMES: usize = 25;
/// Frames after which the encoder has settled, so that the last leads to the first.
const OPUS_SETTLED: usize = 50;

/// Frames of a flow's tone, 20 ms each, at 8 kHz, complexity 5 and 24 kbit/s.
///
/// # Errors
/// libopus fails.
pub fn opus_frames(flow_index: u32) -> anyhow::Result<Vec<Box<[u8]>>> {
    let settings = codecs::opus::Settings {
        complexity: 5,
        bitrate_bps: 24_000,
        ..codecs::opus::Settings::default()
    };
    let mut encoder = codecs::Encoder::new(codecs::CodecKind::Opus, RATE_HZ as u32, &settings)?;
    let step = TAU * f64::from(tone_hz(flow_index)) / RATE_HZ;
    let pcm: [i16; PAYLOAD_BYTES] = std::array::from_fn(|n| (8000.0 * (step * n as f64).sin()) as i16);
    let mut payload = [0; 1_500];
    let mut frames = Vec::with_capacity(OPUS_FRAMES);
    for frame in 0..OPUS_SETTLED + OPUS_FRAMES {
        let length = encoder.encode(&pcm, &mut payload)?;
        if frame >= OPUS_SETTLED {
            frames.push(payload[..length.min(PAYLOAD_BYTES)].into());
        }
    }
    Ok(frames)
}

/// What Opus packets say, at 8 kHz.
///
/// # Errors
/// One is no Opus packet.
pub fn opus_samples<'a>(packets: impl Iterator<Item = &'a [u8]>) -> anyhow::Result<Vec<i16>> {
    let mut decoder = codecs::Decoder::new(codecs::CodecKind::Opus, RATE_HZ as u32)?;
    let (mut samples, mut frame) = (Vec::new(), [0; 960]);
    for packet in packets {
        let count = decoder.decode(packet, &mut frame)?;
        samples.extend_from_slice(&frame[..count]);
    }
    // The decoder's own beginning is no tone yet.
    Ok(samples.split_off(samples.len().min(800)))
}

/// µ-law to A-law by way of the nearest level; for tests of what a transcoder keeps.
#[must_use]
pub fn alaw_from_ulaw(byte: u8) -> u8 {
    nearest(ulaw_to_linear(byte), alaw_to_linear)
}

/// A-law to µ-law by way of the nearest level; for tests of what a transcoder keeps.
#[must_use]
pub fn ulaw_from_alaw(byte: u8) -> u8 {
    nearest(alaw_to_linear(byte), ulaw_to_linear)
}

/// Exhaustive search: slow, obviously right, and never on a packet's path.
fn nearest(sample: i16, decode: fn(u8) -> i16) -> u8 {
    (0..=255u8)
        .min_by_key(|byte| (i32::from(decode(*byte)) - i32::from(sample)).abs())
        .expect("256 candidates are not none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(said: u32, expected: u32, codec: Codec) -> Heard {
        let frame = tone_frame(said, codec);
        let samples: Vec<i16> = frame
            .iter()
            .cycle()
            .take(4000)
            .map(|b| decoder(codec)(*b))
            .collect();
        judge(&samples, expected)
    }

    #[test]
    fn every_flow_is_heard_as_itself_and_never_as_its_partner() {
        for flow in 0..TONE_COUNT {
            assert_eq!(heard(flow, flow, Codec::Pcma), Heard::Partner, "flow {flow}");
            assert_eq!(
                heard(flow, flow ^ 1, Codec::Pcmu),
                Heard::Other,
                "flow {flow} taken for its partner"
            );
        }
    }

    #[test]
    fn silence_is_not_a_tone_and_a_mixture_is_not_clear() {
        assert_eq!(judge(&[0; 4000], 3), Heard::Silence);
        let (one, two) = (tone_frame(0, Codec::Pcmu), tone_frame(1, Codec::Pcmu));
        let mixed: Vec<i16> = (0..4000)
            .map(|n| ulaw_to_linear(one[n % 160]) / 2 + ulaw_to_linear(two[n % 160]) / 2)
            .collect();
        assert_eq!(judge(&mixed, 0), Heard::Other);
    }

    #[test]
    fn g711_levels_match_the_recommendation() {
        // ITU-T G.711 tables 1a and 2a: extreme and smallest decoder outputs, scaled to 16 bits.
        assert_eq!(
            (ulaw_to_linear(0x80), ulaw_to_linear(0x00), ulaw_to_linear(0xff)),
            (32124, -32124, 0)
        );
        assert_eq!(
            (alaw_to_linear(0xaa), alaw_to_linear(0x2a), alaw_to_linear(0xd5)),
            (32256, -32256, 8)
        );
    }
}
