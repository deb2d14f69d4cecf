//! G.711 A-law and µ-law by table, and law-to-law without passing through samples.
//!
//! # Source
//! ITU-T G.711 (11/1988), Tables 1a/1b (A-law) and 2a/2b (µ-law). A sample of 16 bits stands left
//! justified on G.711's 13 (A) or 14 (µ) bit uniform scale. Where G.711 leaves a sample on a decision
//! value open for negative signals, this follows the ITU-T software tool library (G.191): the
//! magnitude of a negative sample is its one's complement, so a tie goes to the smaller magnitude.

/// The µ-law byte of a sample of value zero.
pub const ULAW_SILENCE: u8 = 0xFF;
/// The A-law byte of a sample of value zero (A-law has no zero: it decodes to +8).
pub const ALAW_SILENCE: u8 = 0xD5;

/// µ-law byte to sample.
pub static ULAW_TO_PCM: [i16; 256] = build_ulaw_to_pcm();
/// A-law byte to sample.
pub static ALAW_TO_PCM: [i16; 256] = build_alaw_to_pcm();
/// µ-law byte to A-law byte: exactly what decoding and encoding would give.
pub static ULAW_TO_ALAW: [u8; 256] = build_ulaw_to_alaw();
/// A-law byte to µ-law byte: exactly what decoding and encoding would give.
pub static ALAW_TO_ULAW: [u8; 256] = build_alaw_to_ulaw();

/// 14 significant bits of a sample decide its µ-law byte: 16 KiB, which stays in the L1 cache.
static PCM_TO_ULAW: [u8; 1 << 14] = build_ulaw_encode();
/// 12 significant bits of a sample decide its A-law byte.
static PCM_TO_ALAW: [u8; 1 << 12] = build_alaw_encode();

/// The µ-law byte of one sample.
#[must_use]
#[inline]
pub fn ulaw_from_sample(sample: i16) -> u8 {
    PCM_TO_ULAW[usize::from(sample.cast_unsigned() >> 2)]
}

/// The A-law byte of one sample.
#[must_use]
#[inline]
pub fn alaw_from_sample(sample: i16) -> u8 {
    PCM_TO_ALAW[usize::from(sample.cast_unsigned() >> 4)]
}

/// Encodes as many samples as both slices hold; returns how many.
pub fn encode_ulaw(pcm: &[i16], payload: &mut [u8]) -> usize {
    for (byte, &sample) in payload.iter_mut().zip(pcm) {
        *byte = ulaw_from_sample(sample);
    }
    pcm.len().min(payload.len())
}

/// Encodes as many samples as both slices hold; returns how many.
pub fn encode_alaw(pcm: &[i16], payload: &mut [u8]) -> usize {
    for (byte, &sample) in payload.iter_mut().zip(pcm) {
        *byte = alaw_from_sample(sample);
    }
    pcm.len().min(payload.len())
}

/// Decodes as many bytes as both slices hold; returns how many.
pub fn decode_ulaw(payload: &[u8], pcm: &mut [i16]) -> usize {
    for (sample, &byte) in pcm.iter_mut().zip(payload) {
        *sample = ULAW_TO_PCM[usize::from(byte)];
    }
    pcm.len().min(payload.len())
}

/// Decodes as many bytes as both slices hold; returns how many.
pub fn decode_alaw(payload: &[u8], pcm: &mut [i16]) -> usize {
    for (sample, &byte) in pcm.iter_mut().zip(payload) {
        *sample = ALAW_TO_PCM[usize::from(byte)];
    }
    pcm.len().min(payload.len())
}

/// Rewrites every byte through one of the law-to-law tables, in place.
///
/// ```
/// let mut payload = [codecs::g711::ULAW_SILENCE; 160];
/// codecs::g711::transcode_in_place(&mut payload, &codecs::g711::ULAW_TO_ALAW);
/// assert_eq!(payload, [codecs::g711::ALAW_SILENCE; 160]);
/// ```
pub fn transcode_in_place(payload: &mut [u8], table: &[u8; 256]) {
    for byte in payload {
        *byte = table[usize::from(*byte)];
    }
}

/// Magnitude of a µ-law code (0..128), on the 16-bit scale.
const fn ulaw_value(code: i16) -> i16 {
    let (segment, step) = (code >> 4, code & 15);
    // 14-bit scale has a bias of 33; the 16-bit scale is 4 times that.
    ((((2 * step + 33) << segment) as u16 as i32 - 33) * 4) as i16
}

/// Magnitude of an A-law code (0..128), on the 16-bit scale.
const fn alaw_value(code: i16) -> i16 {
    let (segment, step) = (code >> 4, code & 15);
    if segment == 0 {
        (2 * step + 1) * 8
    } else {
        ((2 * step + 33) << (segment - 1)) * 8
    }
}

const fn build_ulaw_to_pcm() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !(byte as u8);
        let value = ulaw_value((code & 0x7F) as i16);
        table[byte] = if code & 0x80 == 0 { value } else { -value };
        byte += 1;
    }
    table
}

const fn build_alaw_to_pcm() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte as u8 ^ 0x55;
        let value = alaw_value((code & 0x7F) as i16);
        table[byte] = if code & 0x80 == 0 { -value } else { value };
        byte += 1;
    }
    table
}

const fn build_ulaw_encode() -> [u8; 1 << 14] {
    let mut table = [0; 1 << 14];
    let mut index = 0;
    while index < table.len() {
        let negative = index >= table.len() / 2;
        let magnitude = if negative { table.len() - 1 - index } else { index };
        let biased = if magnitude + 33 > 0x1FFF {
            0x1FFF
        } else {
            magnitude + 33
        };
        let segment = biased.ilog2() as usize - 5;
        let code = (segment << 4 | (biased >> (segment + 1)) & 15) as u8;
        table[index] = !(if negative { code | 0x80 } else { code });
        index += 1;
    }
    table
}

const fn build_alaw_encode() -> [u8; 1 << 12] {
    let mut table = [0; 1 << 12];
    let mut index = 0;
    while index < table.len() {
        let negative = index >= table.len() / 2;
        let magnitude = if negative { table.len() - 1 - index } else { index };
        let code = if magnitude < 16 {
            magnitude as u8
        } else {
            let segment = magnitude.ilog2() as usize - 3;
            (segment << 4 | (magnitude >> (segment - 1)) & 15) as u8
        };
        table[index] = (if negative { code } else { code | 0x80 }) ^ 0x55;
        index += 1;
    }
    table
}

const fn build_ulaw_to_alaw() -> [u8; 256] {
    let (decode, encode) = (build_ulaw_to_pcm(), build_alaw_encode());
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = encode[(decode[byte].cast_unsigned() >> 4) as usize];
        byte += 1;
    }
    table
}

const fn build_alaw_to_ulaw() -> [u8; 256] {
    let (decode, encode) = (build_alaw_to_pcm(), build_ulaw_encode());
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = encode[(decode[byte].cast_unsigned() >> 2) as usize];
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decision values and outputs of one polarity, laid out as G.711 Tables 1a and 2a print them:
    /// (segments' interval width, how many intervals), the first decision value, and the outputs.
    struct Law {
        /// `decisions[n]..decisions[n + 1]` is the interval of code `n`, on the recommendation's scale.
        decisions: Vec<f64>,
        outputs: Vec<f64>,
        /// One unit of the recommendation's scale in 16-bit units.
        unit: f64,
    }

    /// Table 1a: 32 intervals of width 2, then six times 16 intervals of twice the width before; outputs
    /// halfway between the decision values; full scale 4096.
    fn alaw() -> Law {
        let mut decisions = vec![0.0];
        for width in std::iter::repeat_n(2.0, 32).chain((1..7).flat_map(|s| [2.0 * f64::powi(2.0, s); 16])) {
            decisions.push(decisions.last().unwrap() + width);
        }
        assert_eq!(decisions.last(), Some(&4096.0));
        let outputs = decisions.windows(2).map(|d| (d[0] + d[1]) / 2.0).collect();
        Law {
            decisions,
            outputs,
            unit: 8.0,
        }
    }

    /// Table 2a: one interval of width 1, 15 of width 2, then seven times 16 intervals of doubling
    /// width; the first output is 0, the others halfway; full scale 8159.
    fn ulaw() -> Law {
        let mut decisions = vec![0.0, 1.0];
        for width in std::iter::repeat_n(2.0, 15).chain((1..8).flat_map(|s| [2.0 * f64::powi(2.0, s); 16])) {
            decisions.push(decisions.last().unwrap() + width);
        }
        assert_eq!(decisions.last(), Some(&8159.0));
        let mut outputs: Vec<f64> = decisions.windows(2).map(|d| (d[0] + d[1]) / 2.0).collect();
        outputs[0] = 0.0;
        Law {
            decisions,
            outputs,
            unit: 4.0,
        }
    }

    impl Law {
        fn code(&self, sample: i16) -> usize {
            // A negative sample on a decision value belongs to the smaller magnitude: half of one
            // 16-bit step inwards tells the two apart without changing any other sample.
            let magnitude = if sample < 0 {
                -f64::from(sample) - 0.5
            } else {
                f64::from(sample)
            } / self.unit;
            let above = self.decisions.iter().position(|&d| magnitude < d).unwrap_or(128);
            above.min(128) - 1
        }

        fn output(&self, code: usize, negative: bool) -> i16 {
            let value = (self.outputs[code] * self.unit) as i16;
            if negative { -value } else { value }
        }
    }

    #[test]
    fn all_samples_encode_as_the_recommendation_says() {
        let (a, u) = (alaw(), ulaw());
        for sample in i16::MIN..=i16::MAX {
            let sign = if sample < 0 { 0 } else { 0x80 };
            // Table 1a note 2: even bits of the character signal are inverted.
            assert_eq!(
                alaw_from_sample(sample),
                (sign | a.code(sample) as u8) ^ 0x55,
                "A-law of {sample}"
            );
            // Table 2a: the character signal counts down from 1111_1111 as the magnitude grows.
            assert_eq!(
                ulaw_from_sample(sample),
                sign | (127 - u.code(sample) as u8),
                "µ-law of {sample}"
            );
        }
    }

    #[test]
    fn all_bytes_decode_as_the_recommendation_says() {
        let (a, u) = (alaw(), ulaw());
        for byte in 0..=255_u8 {
            let code = usize::from((byte ^ 0x55) & 0x7F);
            assert_eq!(ALAW_TO_PCM[usize::from(byte)], a.output(code, byte & 0x80 == 0));
            let code = usize::from(127 - (byte & 0x7F));
            assert_eq!(ULAW_TO_PCM[usize::from(byte)], u.output(code, byte & 0x80 == 0));
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(ulaw_from_sample(0), 0xFF);
        assert_eq!(ulaw_from_sample(i16::MAX), 0x80);
        assert_eq!(ulaw_from_sample(i16::MIN), 0x00);
        assert_eq!(ULAW_TO_PCM[0x80], 32_124);
        assert_eq!(alaw_from_sample(0), 0xD5);
        assert_eq!(alaw_from_sample(i16::MAX), 0xAA);
        assert_eq!(alaw_from_sample(i16::MIN), 0x2A);
        assert_eq!(ALAW_TO_PCM[0xAA], 32_256);
    }

    #[test]
    fn law_to_law_equals_decode_then_encode_and_keeps_the_level() {
        for byte in 0..=255_u8 {
            let heard = ULAW_TO_PCM[usize::from(byte)];
            let mut payload = [byte];
            transcode_in_place(&mut payload, &ULAW_TO_ALAW);
            assert_eq!(payload[0], alaw_from_sample(heard));
            let error = (i32::from(ALAW_TO_PCM[usize::from(payload[0])]) - i32::from(heard)).abs();
            assert!(
                error <= 8.max(i32::from(heard).abs() / 30),
                "µ {byte:#x} off by {error}"
            );

            let heard = ALAW_TO_PCM[usize::from(byte)];
            let mut payload = [byte];
            transcode_in_place(&mut payload, &ALAW_TO_ULAW);
            assert_eq!(payload[0], ulaw_from_sample(heard));
            let error = (i32::from(ULAW_TO_PCM[usize::from(payload[0])]) - i32::from(heard)).abs();
            assert!(
                error <= 8.max(i32::from(heard).abs() / 30),
                "A {byte:#x} off by {error}"
            );
        }
    }

    #[test]
    fn slices_code_what_both_hold() {
        let mut payload = [0; 3];
        assert_eq!(encode_ulaw(&[0, 0, 0, 0], &mut payload), 3);
        assert_eq!(encode_alaw(&[0], &mut payload), 1);
        assert_eq!(payload, [0xD5, 0xFF, 0xFF]);
        let mut pcm = [1; 2];
        assert_eq!(decode_ulaw(&payload, &mut pcm), 2);
        assert_eq!(decode_alaw(&[0xD5], &mut pcm), 1);
        assert_eq!(pcm, [8, 0]);
        assert_eq!(decode_alaw(&[], &mut pcm), 0);
    }
}
