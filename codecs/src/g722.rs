//! G.722 at 64 kbit/s: two ADPCM sub-bands behind a 24-tap quadrature mirror filter.
//!
//! Sampling is 16 kHz while the RTP clock is 8 kHz (RFC 3551 §4.5.2); one byte carries two samples. Every
//! byte string decodes, so there is no error to report.
//!
//! # Source
//! ITU-T G.722 (09/2012) §3 and §4: block names in the comments are the recommendation's.

/// Bytes and sample pairs filtered at a time; bounds the scratch on the stack.
const CHUNK_PAIRS: usize = 80;
/// Samples of history that the mirror filter needs before a pair.
const QMF_HISTORY: usize = 22;
const SCRATCH: usize = QMF_HISTORY + 2 * CHUNK_PAIRS;

/// Table 11: one half of the symmetric mirror filter.
const QMF: [i16; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];
/// The filter as seen by interleaved pairs: the even coefficients and the odd ones (in reverse), each with
/// a weight. 16-bit products summed to 32 bits are what vector units do best.
const fn interleaved(even: i16, odd: i16) -> [i16; QMF_HISTORY + 2] {
    let mut taps = [0; QMF_HISTORY + 2];
    let mut k = 0;
    while k < 12 {
        taps[2 * k] = even * QMF[k];
        taps[2 * k + 1] = odd * QMF[11 - k];
        k += 1;
    }
    taps
}
static QMF_SUM: [i16; QMF_HISTORY + 2] = interleaved(1, 1);
static QMF_DIFFERENCE: [i16; QMF_HISTORY + 2] = interleaved(-1, 1);
static QMF_FIRST: [i16; QMF_HISTORY + 2] = interleaved(0, 1);
static QMF_SECOND: [i16; QMF_HISTORY + 2] = interleaved(1, 0);

/// Table 14: decision levels of the 6-bit quantiser, after three zeros that make it a multiple of 8.
static Q6: [i16; 32] = [
    0, 0, 0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// Table 18: inverse of the 6-bit quantiser.
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
/// Table 17: inverse of the 4-bit quantiser that drives the low band's adaptation.
const QM4: [i32; 16] = [
    0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0,
];
/// Table 19: inverse of the 2-bit quantiser of the high band.
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
/// Tables 15 and 20: multiplier of the low band's scale factor, by 4-bit code.
const WL: [i32; 16] = [
    -60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60,
];
/// Multiplier of the high band's scale factor, by 2-bit code.
const WH: [i32; 4] = [798, -214, 798, -214];
/// Table 16: the fractional part of the logarithmic scale factor.
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// Encoder state of one stream.
#[derive(Debug, Clone)]
pub struct Encoder {
    history: [i16; QMF_HISTORY],
    low: Band,
    high: Band,
}

/// Decoder state of one stream.
#[derive(Debug, Clone)]
pub struct Decoder {
    history: [i16; QMF_HISTORY],
    low: Band,
    high: Band,
}

impl Encoder {
    /// A stream that begins in the state of G.722 §3.6 (reset).
    #[must_use]
    pub fn new() -> Self {
        Self {
            history: [0; QMF_HISTORY],
            low: Band::low(),
            high: Band::high(),
        }
    }

    /// Encodes as many whole pairs of 16 kHz samples as both slices hold; returns the bytes written.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        for (pairs, bytes) in pcm.chunks(2 * CHUNK_PAIRS).zip(payload.chunks_mut(CHUNK_PAIRS)) {
            self.encode_chunk(pairs, bytes);
        }
        (pcm.len() / 2).min(payload.len())
    }

    fn encode_chunk(&mut self, pcm: &[i16], payload: &mut [u8]) {
        let pairs = (pcm.len() / 2).min(payload.len());
        let mut x = [0_i16; SCRATCH];
        x[..QMF_HISTORY].copy_from_slice(&self.history);
        x[QMF_HISTORY..QMF_HISTORY + 2 * pairs].copy_from_slice(&pcm[..2 * pairs]);
        for (window, byte) in x.windows(QMF_HISTORY + 2).step_by(2).zip(&mut payload[..pairs]) {
            // TRANSMIT QMF.
            let low = self.low.encode_low(filter(window, &QMF_SUM) >> 14);
            let high = self.high.encode_high(filter(window, &QMF_DIFFERENCE) >> 14);
            *byte = high << 6 | low;
        }
        self.history
            .copy_from_slice(&x[2 * pairs..2 * pairs + QMF_HISTORY]);
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A stream that begins in the state of G.722 §4.5 (reset).
    #[must_use]
    pub fn new() -> Self {
        Self {
            history: [0; QMF_HISTORY],
            low: Band::low(),
            high: Band::high(),
        }
    }

    /// Decodes as many bytes as both slices hold, two samples each; returns the samples written.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> usize {
        for (bytes, pairs) in payload.chunks(CHUNK_PAIRS).zip(pcm.chunks_mut(2 * CHUNK_PAIRS)) {
            self.decode_chunk(bytes, pairs);
        }
        2 * payload.len().min(pcm.len() / 2)
    }

    fn decode_chunk(&mut self, payload: &[u8], pcm: &mut [i16]) {
        let pairs = payload.len().min(pcm.len() / 2);
        let mut x = [0_i16; SCRATCH];
        x[..QMF_HISTORY].copy_from_slice(&self.history);
        for (slot, &byte) in x[QMF_HISTORY..].chunks_exact_mut(2).zip(&payload[..pairs]) {
            let low = self.low.decode_low(byte & 0x3F);
            let high = self.high.decode_high(byte >> 6);
            // LIMIT keeps both within 15 bits, so that sum and difference have 16.
            slot[0] = (low + high) as i16;
            slot[1] = (low - high) as i16;
        }
        for (window, out) in x
            .windows(QMF_HISTORY + 2)
            .step_by(2)
            .zip(pcm.chunks_exact_mut(2).take(pairs))
        {
            // RECEIVE QMF.
            out[0] = saturate(filter(window, &QMF_FIRST) >> 11) as i16;
            out[1] = saturate(filter(window, &QMF_SECOND) >> 11) as i16;
        }
        self.history
            .copy_from_slice(&x[2 * pairs..2 * pairs + QMF_HISTORY]);
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// One sub-band: adaptive quantiser scale, and a predictor of two poles and six zeros.
#[derive(Debug, Clone)]
struct Band {
    /// NB: the scale factor, logarithmic.
    log_scale: i32,
    /// DET: the scale factor, linear.
    scale: i32,
    /// S: the prediction of the next sample.
    prediction: i32,
    /// SZ: what the zeros contribute to it.
    zero_part: i32,
    /// A: pole coefficients 1 and 2.
    poles: [i32; 2],
    /// B: zero coefficients 1 to 6.
    zeros: [i32; 6],
    /// R: the last two reconstructed samples, newest first.
    reconstructed: [i32; 2],
    /// P: the last two partial reconstructions, newest first.
    partial: [i32; 2],
    /// D: the last six quantised differences, newest first.
    differences: [i32; 6],
}

impl Band {
    fn low() -> Self {
        Self::with_scale(32)
    }

    fn high() -> Self {
        Self::with_scale(8)
    }

    fn with_scale(scale: i32) -> Self {
        Self {
            log_scale: 0,
            scale,
            prediction: 0,
            zero_part: 0,
            poles: [0; 2],
            zeros: [0; 6],
            reconstructed: [0; 2],
            partial: [0; 2],
            differences: [0; 6],
        }
    }

    /// SUBTRA, QUANTL: the 6-bit code of a low-band sample.
    fn encode_low(&mut self, sample: i32) -> u8 {
        let error = saturate(sample - self.prediction);
        let magnitude = if error < 0 { !error } else { error };
        // Counting all levels below is faster than searching: it has no branches and no waiting. The scale
        // is at most 4008 << 3, so 16 bits hold it, and the zeros in front always count.
        let scale = self.scale as i16;
        let below = |&q: &i16| i32::from(magnitude >= (i32::from(q) * i32::from(scale)) >> 12);
        let level = Q6.iter().map(below).sum::<i32>() as u8 - 3;
        let code = match (error < 0, level) {
            (true, 0) => 63,
            (true, 1) => 62,
            (true, level) => 33 - level,
            (false, level) => 61 - level,
        };
        self.adapt_low(code);
        code
    }

    /// SUBTRA, QUANTH: the 2-bit code of a high-band sample.
    fn encode_high(&mut self, sample: i32) -> u8 {
        let error = saturate(sample - self.prediction);
        let magnitude = if error < 0 { !error } else { error };
        let outer = magnitude >= (564 * self.scale) >> 12;
        let code = if error < 0 {
            u8::from(!outer)
        } else {
            3 - u8::from(outer)
        };
        let difference = (self.scale * QM2[usize::from(code)]) >> 15;
        self.adapt_high(code, difference);
        code
    }

    /// INVQBL, RECONS, LIMIT: the low-band sample of a 6-bit code.
    fn decode_low(&mut self, code: u8) -> i32 {
        let difference = (self.scale * QM6[usize::from(code)]) >> 15;
        let sample = (self.prediction + difference).clamp(-16384, 16383);
        self.adapt_low(code);
        sample
    }

    /// INVQAH, RECONS, LIMIT: the high-band sample of a 2-bit code.
    fn decode_high(&mut self, code: u8) -> i32 {
        let difference = (self.scale * QM2[usize::from(code)]) >> 15;
        let sample = (self.prediction + difference).clamp(-16384, 16383);
        self.adapt_high(code, difference);
        sample
    }

    /// INVQAL, LOGSCL, SCALEL: the low band adapts on the four upper bits of its code.
    fn adapt_low(&mut self, code: u8) {
        let upper = usize::from(code >> 2);
        let difference = (self.scale * QM4[upper]) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + WL[upper]).clamp(0, 18_432);
        self.scale = linear_scale(self.log_scale, 8);
        self.predict(difference);
    }

    /// LOGSCH, SCALEH.
    fn adapt_high(&mut self, code: u8, difference: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + WH[usize::from(code)]).clamp(0, 22_528);
        self.scale = linear_scale(self.log_scale, 10);
        self.predict(difference);
    }

    /// Block 4: adapts the predictor to the quantised difference and predicts the next sample.
    fn predict(&mut self, difference: i32) {
        let partial = saturate(self.zero_part + difference);
        let reconstructed = saturate(self.prediction + difference);
        let same = |a: i32, b: i32| (a < 0) == (b < 0);
        let [a1, a2] = self.poles;

        // UPPOL2
        let swing = saturate(a1 << 2);
        let swing = if same(partial, self.partial[0]) {
            -swing
        } else {
            swing
        }
        .min(32_767);
        let bias = if same(partial, self.partial[1]) { 128 } else { -128 };
        let pole2 = ((swing >> 7) + bias + ((a2 * 32_512) >> 15)).clamp(-12_288, 12_288);
        // UPPOL1
        let step = if same(partial, self.partial[0]) { 192 } else { -192 };
        let bound = 15_360 - pole2;
        let pole1 = (step + ((a1 * 32_640) >> 15)).clamp(-bound, bound);
        // UPZERO
        let step = if difference == 0 { 0 } else { 128 };
        for (zero, &past) in self.zeros.iter_mut().zip(&self.differences) {
            let step = if same(difference, past) { step } else { -step };
            *zero = saturate(step + ((*zero * 32_640) >> 15));
        }

        // DELAYA
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [pole1, pole2];

        // FILTEP, FILTEZ, PREDIC
        let tap = |coefficient: i32, value: i32| (coefficient * saturate(2 * value)) >> 15;
        let pole_part = saturate(tap(pole1, self.reconstructed[0]) + tap(pole2, self.reconstructed[1]));
        let zero_part = self
            .zeros
            .iter()
            .zip(&self.differences)
            .map(|(&b, &d)| tap(b, d))
            .sum();
        self.zero_part = saturate(zero_part);
        self.prediction = saturate(pole_part + self.zero_part);
    }
}

fn filter(window: &[i16], taps: &[i16; QMF_HISTORY + 2]) -> i32 {
    window
        .iter()
        .zip(taps)
        .map(|(&sample, &tap)| i32::from(sample) * i32::from(tap))
        .sum()
}

/// SCALEL/SCALEH: `log_scale` is a base-2 logarithm with 11 fractional bits.
fn linear_scale(log_scale: i32, exponent: i32) -> i32 {
    let mantissa = ILB[(log_scale >> 6 & 31) as usize];
    let shift = exponent - (log_scale >> 11);
    (if shift < 0 {
        mantissa << -shift
    } else {
        mantissa >> shift
    }) << 2
}

fn saturate(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::{noise, speech_like, tone};
    use ezk_g722::libg722;

    /// ezk-g722 0.1.2 starts both scale factors at 0 where G.722 §3.6 resets them to 32 and 8. To compare
    /// everything else bit by bit, these start ours at 0 as well.
    fn as_the_oracle_starts() -> (Encoder, Decoder) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for band in [
            &mut encoder.low,
            &mut encoder.high,
            &mut decoder.low,
            &mut decoder.high,
        ] {
            band.scale = 0;
        }
        (encoder, decoder)
    }

    fn oracle() -> (libg722::encoder::Encoder, libg722::decoder::Decoder) {
        let rate = || libg722::Bitrate::Mode1_64000;
        (
            libg722::encoder::Encoder::new(rate(), false, false),
            libg722::decoder::Decoder::new(rate(), false, false),
        )
    }

    fn assert_bit_exact(name: &str, pcm: &[i16]) {
        let (mut encoder, mut decoder) = as_the_oracle_starts();
        let (mut their_encoder, mut their_decoder) = oracle();
        // Frame lengths that cross the chunk boundary in different places.
        for (index, frame) in pcm.chunks(322).enumerate() {
            let mut payload = vec![0; frame.len() / 2];
            assert_eq!(encoder.encode(frame, &mut payload), payload.len());
            assert_eq!(
                payload,
                their_encoder.encode(frame),
                "{name}: payload of frame {index}"
            );
            let mut heard = vec![0; frame.len()];
            assert_eq!(decoder.decode(&payload, &mut heard), heard.len());
            assert_eq!(
                heard,
                their_decoder.decode(&payload),
                "{name}: samples of frame {index}"
            );
        }
    }

    #[test]
    fn bit_exact_with_an_independent_implementation() {
        assert_bit_exact("speech", &speech_like(16_000, 32_000, 1));
        assert_bit_exact("noise", &noise(32_000, 8_000, 2));
        assert_bit_exact("full-scale noise", &noise(32_000, 32_767, 3));
        for hz in [50.0, 1_000.0, 3_999.0, 5_500.0, 7_900.0] {
            assert_bit_exact("tone", &tone(16_000, hz, 30_000.0, 8_000));
        }
        assert_bit_exact("silence", &[0; 3_200]);
        let square: Vec<i16> = (0..6_400)
            .map(|n| if n / 40 % 2 == 0 { i16::MAX } else { i16::MIN })
            .collect();
        assert_bit_exact("square", &square);
    }

    #[test]
    fn random_bitstreams_decode_as_the_oracle_does() {
        let payload: Vec<u8> = noise(16_000, 32_767, 4).iter().map(|&s| s as u8).collect();
        let (_, mut decoder) = as_the_oracle_starts();
        let mut heard = vec![0; payload.len() * 2];
        decoder.decode(&payload, &mut heard);
        assert_eq!(heard, oracle().1.decode(&payload));
    }

    #[test]
    fn a_tone_survives_with_little_distortion() {
        let sent = tone(16_000, 1_000.0, 10_000.0, 3_200);
        let (mut payload, mut heard) = ([0; 1_600], [0; 3_200]);
        Encoder::new().encode(&sent, &mut payload);
        Decoder::new().decode(&payload, &mut heard);
        // The two mirror filters delay by 22 samples together.
        let (mut error, mut power) = (0.0, 0.0);
        for (s, h) in sent[800..3_000].iter().zip(&heard[822..]) {
            error += f64::from(i32::from(*s) - i32::from(*h)).powi(2);
            power += f64::from(*s).powi(2);
        }
        let snr = 10.0 * (power / error).log10();
        assert!(snr > 25.0, "SNR {snr:.1} dB");
    }

    #[test]
    fn codes_what_both_slices_hold() {
        let (mut payload, mut pcm) = ([0; 4], [0; 7]);
        assert_eq!(Encoder::new().encode(&[0; 7], &mut payload), 3);
        assert_eq!(Encoder::new().encode(&[0; 100], &mut payload), 4);
        assert_eq!(Decoder::new().decode(&payload, &mut pcm), 6);
        assert_eq!(Decoder::new().decode(&[], &mut pcm), 0);
    }
}
