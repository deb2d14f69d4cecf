//! Comfort noise: silence told by a level and a spectrum rather than sent (RFC 3389).
//!
//! A [`Sid`] is one such description. [`NoiseGenerator`] makes what is heard of it; [`SilenceSuppressor`] looks at what is
//! to be sent, finds what is no speech in it and describes that.
//!
//! ```
//! use codecs::comfort_noise::{NoiseGenerator, Sid};
//!
//! let sid = Sid::parse(&[50])?; // -50 dBov, white
//! let mut noise = NoiseGenerator::new(7);
//! noise.begin(&sid);
//! let mut pcm = [0; 160];
//! noise.generate(&mut pcm);
//! assert!((codecs::level::dbov(&pcm) + 50.0).abs() < 2.0);
//! # Ok::<(), codecs::CodecError>(())
//! ```
//!
//! # Source
//! RFC 3389; for the sign of the reflection coefficients, which it leaves open, ITU-T G.711 Appendix II that it refers to:
//! the first is minus the correlation of neighbouring samples.

use crate::{CodecError, level};

/// Reflection coefficients that are looked at. RFC 3389 §3: a decoder may reduce the order.
pub const ORDER_MAX: usize = 12;
/// Bytes of the longest payload that is written.
pub const SID_BYTES_MAX: usize = 1 + ORDER_MAX;
/// No background is louder: a peer that says so is mistaken, and nobody is to be deafened by it.
pub const LOUDEST_DBOV: u8 = 20;

/// Index of the coefficient 0 (RFC 3389 §3.2), and what an index is worth.
const INDEX_ZERO: f32 = 127.0;
const INDEX_STEP: f32 = 258.0 / 32_768.0;
/// The largest index; 255 is reserved.
const INDEX_MAX: u8 = 254;
/// Poles stay this far within the unit circle, so that the level is reached soon.
const REFLECTION_MAX: f32 = 0.99;

/// A silence insertion descriptor: how loud the noise is, and its spectrum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sid {
    level_dbov: u8,
    order: u8,
    /// Quantised reflection coefficients; beyond the order those of zero.
    indices: [u8; ORDER_MAX],
}

impl Sid {
    /// White noise of `-level_dbov`, at most 127.
    #[must_use]
    pub fn white(level_dbov: u8) -> Self {
        Self {
            level_dbov: level_dbov.min(level::SILENCE_DBOV),
            order: 0,
            indices: [INDEX_ZERO as u8; ORDER_MAX],
        }
    }

    /// Noise of `-level_dbov` with a spectrum. What of `reflection` is beyond [`ORDER_MAX`] does not count.
    #[must_use]
    pub fn new(level_dbov: u8, reflection: &[f32]) -> Self {
        let mut sid = Self::white(level_dbov);
        for (index, k) in sid.indices.iter_mut().zip(reflection) {
            *index = (k / INDEX_STEP + INDEX_ZERO).round().clamp(0.0, INDEX_MAX.into()) as u8;
            sid.order += 1;
        }
        sid
    }

    /// Reads a payload. Coefficients beyond [`ORDER_MAX`], or from a reserved one on, do not count.
    ///
    /// # Errors
    /// [`CodecError::MalformedPayload`] when it is empty: drop the packet.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let (level, spectrum) = payload.split_first().ok_or(CodecError::MalformedPayload)?;
        // RFC 3389 §3.1: the most significant bit is unused.
        let mut sid = Self::white(level & 0x7f);
        let known = spectrum.iter().take_while(|index| **index <= INDEX_MAX);
        for (to, index) in sid.indices.iter_mut().zip(known) {
            *to = *index;
            sid.order += 1;
        }
        Ok(sid)
    }

    /// Writes the payload to the beginning of `payload`; returns its bytes.
    pub fn write(&self, payload: &mut [u8; SID_BYTES_MAX]) -> usize {
        let order = usize::from(self.order);
        payload[0] = self.level_dbov;
        payload[1..=order].copy_from_slice(&self.indices[..order]);
        1 + order
    }

    /// The level, `-dBov`: 0 (loudest) to 127.
    #[must_use]
    pub fn level_dbov(&self) -> u8 {
        self.level_dbov
    }

    /// Coefficients that describe the spectrum; 0: it is white.
    #[must_use]
    pub fn order(&self) -> usize {
        self.order.into()
    }

    /// The reflection coefficients, zero beyond the order.
    #[must_use]
    pub fn reflection(&self) -> [f32; ORDER_MAX] {
        self.indices
            .map(|index| (f32::from(index) - INDEX_ZERO) * INDEX_STEP)
    }

    /// Differs so that it is heard.
    fn differs(&self, other: &Self) -> bool {
        let further = self.level_dbov.abs_diff(other.level_dbov) >= LEVEL_CHANGE_DB;
        let ways = self.reflection().into_iter().zip(other.reflection());
        further || ways.map(|(a, b)| (a - b).powi(2)).sum::<f32>() > SPECTRUM_CHANGE
    }
}

/// Samples over which a description that changed is approached by a quarter.
const GLIDE_SAMPLES: usize = 40;

/// Makes noise as described: a random signal through an all-pole lattice. Nothing in it allocates.
#[derive(Debug, Clone)]
pub struct NoiseGenerator {
    random: u64,
    /// Root mean square, now and as described.
    rms: f32,
    rms_aim: f32,
    reflection: [f32; ORDER_MAX],
    reflection_aim: [f32; ORDER_MAX],
    /// The lattice's backward signals, one sample ago.
    backward: [f32; ORDER_MAX + 1],
    /// Stages in use.
    order: usize,
}

impl NoiseGenerator {
    /// One that is silent until it is told what to make.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: seed,
            rms: 0.0,
            rms_aim: 0.0,
            reflection: [0.0; ORDER_MAX],
            reflection_aim: [0.0; ORDER_MAX],
            backward: [0.0; ORDER_MAX + 1],
            order: 0,
        }
    }

    /// A silence begins.
    pub fn begin(&mut self, sid: &Sid) {
        self.go_on(sid);
        self.rms = self.rms_aim;
        self.reflection = self.reflection_aim;
        self.order = sid.order();
        self.backward = [0.0; ORDER_MAX + 1];
    }

    /// The silence goes on, and is described anew: what is heard glides there.
    pub fn go_on(&mut self, sid: &Sid) {
        let level = sid.level_dbov.max(LOUDEST_DBOV);
        self.rms_aim = 32_768.0 * 10_f32.powf(-f32::from(level) / 20.0);
        self.reflection_aim = sid.reflection().map(|k| k.clamp(-REFLECTION_MAX, REFLECTION_MAX));
        self.order = self.order.max(sid.order());
    }

    /// Makes the next samples.
    pub fn generate(&mut self, pcm: &mut [i16]) {
        for part in pcm.chunks_mut(GLIDE_SAMPLES) {
            self.rms += (self.rms_aim - self.rms) / 4.0;
            for (k, aim) in self.reflection.iter_mut().zip(self.reflection_aim) {
                *k += (aim - *k) / 4.0;
            }
            // White noise of unit power leaves the lattice with one over this.
            let loss: f32 = self.reflection[..self.order]
                .iter()
                .map(|k| 1.0 - k * k)
                .product();
            let excitation = self.rms * loss.sqrt();
            for sample in part {
                let white = excitation * self.next_normal();
                *sample = self.filter(white) as i16;
            }
        }
    }

    /// One sample through the lattice.
    fn filter(&mut self, excitation: f32) -> f32 {
        let mut forward = excitation;
        for stage in (0..self.order).rev() {
            let k = self.reflection[stage];
            forward -= k * self.backward[stage];
            self.backward[stage + 1] = self.backward[stage] + k * forward;
        }
        self.backward[0] = forward;
        forward
    }

    /// About normally distributed, of unit power: the sum of four that are evenly distributed.
    fn next_normal(&mut self) -> f32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let sum: i32 = (0..4).map(|n| i32::from((bits >> (16 * n)) as i16)).sum();
        sum as f32 * (1.732_050_8 / 65_536.0)
    }
}

/// Coefficients that describe a spectrum where it is described.
const SENT_ORDER: usize = 8;
/// Speech stands so far above the noise floor. What is near it is sent, in doubt.
const ABOVE_FLOOR_DB: f32 = 6.0;
/// Nothing below this is speech, in dBov.
const QUIETEST_DBOV: f32 = -62.0;
/// The floor is the least level of the latest one to two of these: pauses between syllables show it.
const FLOOR_MS: u32 = 400;
/// The floor never counts as higher, so that steady sound is not taken for noise.
const FLOOR_MAX_DBOV: f32 = -35.0;
/// So much of what is no speech is sent before it is suppressed: ends of words are soft, and pauses within sentences short.
const HANGOVER_MS: u32 = 240;
/// The noise is described anew after so long at the latest, where it is by descriptions …
pub const REFRESH_MS: u32 = 2_000;
/// … and no more often than this when it changes …
const CHANGE_MS: u32 = 200;
/// … by so many dB, or so much of a spectrum.
const LEVEL_CHANGE_DB: u8 = 3;
const SPECTRUM_CHANGE: f32 = 0.1;
/// The description is a mean over some ten frames.
const MEAN_FRAMES: f32 = 10.0;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmission {
    /// It is encoded and sent.
    Speech,
    /// It is silence, which is to be described so now.
    Describe(Sid),
    /// It is silence, which was described.
    Nothing,
}

/// Finds what is no speech in a stream that is to be sent. Speech is let through from its first frame on. Nothing in it
/// allocates.
#[derive(Debug, Clone, Copy)]
pub struct SilenceSuppressor {
    sample_rate_hz: u32,
    order: usize,
    floor: Floor,
    /// No speech for so long.
    silent_ms: u32,
    /// Mean correlation of the silence, by lag; at 0 its power.
    correlation: [f32; SENT_ORDER + 1],
    frames: f32,
    /// What was described, and how long ago.
    described: Option<Sid>,
    described_ms: u32,
    /// It is described anew after so long at the latest.
    refresh_ms: u32,
}

impl SilenceSuppressor {
    /// One for frames at `sample_rate_hz`, which describes silence every `refresh_ms` at least. `spectrum`: by more than its
    /// level, which needs the clock of the descriptions to be that rate.
    #[must_use]
    pub fn new(sample_rate_hz: u32, spectrum: bool, refresh_ms: u32) -> Self {
        Self {
            sample_rate_hz,
            refresh_ms,
            order: if spectrum { SENT_ORDER } else { 0 },
            floor: Floor::new(),
            silent_ms: 0,
            correlation: [0.0; SENT_ORDER + 1],
            frames: 0.0,
            described: None,
            described_ms: 0,
        }
    }

    /// Takes the next frame, 10 to 60 ms.
    pub fn process(&mut self, pcm: &[i16]) -> Transmission {
        let ms = pcm.len() as u32 * 1_000 / self.sample_rate_hz;
        let dbov = level::dbov(pcm).max(-127.0) as f32;
        self.floor.follow(dbov, ms);
        if dbov > QUIETEST_DBOV && dbov > self.floor.dbov() + ABOVE_FLOOR_DB {
            (self.silent_ms, self.frames, self.described) = (0, 0.0, None);
            return Transmission::Speech;
        }
        self.learn(pcm);
        self.silent_ms = self.silent_ms.saturating_add(ms);
        if self.silent_ms <= HANGOVER_MS {
            return Transmission::Speech;
        }
        self.described_ms += ms;
        let due = match self.described {
            None => true,
            Some(_) if self.described_ms >= self.refresh_ms => true,
            Some(described) => self.described_ms >= CHANGE_MS && described.differs(&self.describe()),
        };
        if !due {
            return Transmission::Nothing;
        }
        let sid = self.describe();
        (self.described, self.described_ms) = (Some(sid), 0);
        Transmission::Describe(sid)
    }

    /// Takes a frame of silence into the mean.
    fn learn(&mut self, pcm: &[i16]) {
        self.frames = (self.frames + 1.0).min(MEAN_FRAMES);
        let samples = pcm.len().max(1) as f32;
        for (lag, mean) in self.correlation.iter_mut().enumerate().take(self.order + 1) {
            let late = pcm.get(lag..).unwrap_or(&[]);
            let products = pcm
                .iter()
                .zip(late)
                .map(|(a, b)| i64::from(i32::from(*a) * i32::from(*b)));
            *mean += (products.sum::<i64>() as f32 / samples - *mean) / self.frames;
        }
    }

    /// The silence as it is.
    fn describe(&self) -> Sid {
        let full = 32_768.0_f32 * 32_768.0;
        let level = -10.0 * (self.correlation[0] / full).max(1e-13).log10();
        let level = level.round().clamp(0.0, 127.0) as u8;
        let mut reflection = [0.0; SENT_ORDER];
        // Below the steps of the samples there is no spectrum.
        let order = if self.correlation[0] < 1.0 { 0 } else { self.order };
        levinson(&self.correlation[..=order], &mut reflection[..order]);
        Sid::new(level, &reflection[..order])
    }
}

/// How loud the noise is that speech stands out of: the least level of a window that is over and of the one that runs.
#[derive(Debug, Clone, Copy)]
struct Floor {
    before: f32,
    now: f32,
    ms: u32,
}

impl Floor {
    /// None is known yet: everything is speech.
    fn new() -> Self {
        Self {
            before: -127.0,
            now: 0.0,
            ms: 0,
        }
    }

    /// `ms` of sound were of this level.
    fn follow(&mut self, dbov: f32, ms: u32) {
        self.now = self.now.min(dbov);
        self.ms += ms;
        if self.ms >= FLOOR_MS {
            *self = Self {
                before: self.now,
                now: 0.0,
                ms: 0,
            };
        }
    }

    fn dbov(self) -> f32 {
        self.before.min(self.now).min(FLOOR_MAX_DBOV)
    }
}

/// Reflection coefficients of what has this correlation, by the recursion of Levinson and Durbin.
fn levinson(correlation: &[f32], reflection: &mut [f32]) {
    // A little white noise keeps it stable whatever the rounding.
    let mut error = correlation[0] * 1.001 + 1e-3;
    let mut a = [0.0_f32; SENT_ORDER + 1];
    a[0] = 1.0;
    for (at, k) in (1..).zip(reflection) {
        let sum: f32 = (0..at).map(|n| a[n] * correlation[at - n]).sum();
        *k = (-sum / error).clamp(-REFLECTION_MAX, REFLECTION_MAX);
        let before = a;
        for n in 1..=at {
            a[n] = before[n] + *k * before[at - n];
        }
        error *= 1.0 - *k * *k;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_signal::{noise, speech_like};
    use proptest::prelude::*;

    fn made(sid: &Sid, samples: usize) -> Vec<i16> {
        let mut generator = NoiseGenerator::new(11);
        generator.begin(sid);
        let mut pcm = vec![0; samples];
        pcm.chunks_mut(160).for_each(|frame| generator.generate(frame));
        pcm
    }

    /// Correlation of neighbouring samples: near 1 for what is low, near -1 for what is high.
    fn neighbours(pcm: &[i16]) -> f64 {
        let products = pcm.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1]));
        products.sum::<f64>() / level::energy(pcm) as f64
    }

    #[test]
    fn noise_has_the_level_that_was_told_whatever_its_spectrum() {
        for level in [25, 40, 50, 60, 70] {
            for reflection in [
                &[][..],
                &[-0.9],
                &[0.8],
                &[-0.7, 0.5, 0.1, -0.3],
                &[-0.95, 0.9, 0.2, -0.6, 0.3, 0.1, -0.2, 0.4, 0.5, -0.5, 0.3, 0.2],
            ] {
                let pcm = made(&Sid::new(level, reflection), 8_000);
                let off = crate::level::dbov(&pcm) + f64::from(level);
                assert!(off.abs() < 2.0, "-{level} dBov, {reflection:?}: {off:.1} dB off");
            }
        }
        assert!(crate::level::dbov(&made(&Sid::white(127), 800)) < -90.0);
        let loud = crate::level::dbov(&made(&Sid::white(0), 8_000));
        assert!(
            (loud + f64::from(LOUDEST_DBOV)).abs() < 1.0,
            "nobody is deafened: {loud}"
        );
    }

    #[test]
    fn the_first_coefficient_says_which_half_of_the_spectrum_is_loud() {
        for k in [-0.9_f32, -0.5, 0.0, 0.5, 0.9] {
            let heard = neighbours(&made(&Sid::new(40, &[k]), 16_000));
            assert!((heard + f64::from(k)).abs() < 0.05, "{k}: {heard}");
        }
    }

    #[test]
    fn what_changes_glides_and_begins_at_once() {
        let mut generator = NoiseGenerator::new(3);
        generator.begin(&Sid::white(60));
        let mut pcm = [0; 160];
        generator.generate(&mut pcm);
        assert!((level::dbov(&pcm) + 60.0).abs() < 2.0);
        generator.go_on(&Sid::new(40, &[-0.8]));
        generator.generate(&mut pcm[..40]);
        assert!(level::dbov(&pcm[..40]) < -45.0, "it glides");
        for _ in 0..10 {
            generator.generate(&mut pcm);
        }
        assert!((level::dbov(&pcm) + 40.0).abs() < 3.0);
    }

    #[test]
    fn what_is_described_is_what_was_there() {
        for (k, level) in [(-0.9, 45), (0.6, 50), (-0.3, 40)] {
            let pcm = made(&Sid::new(level, &[k, 0.2]), 16_000);
            let mut suppressor = SilenceSuppressor::new(8_000, true, REFRESH_MS);
            let mut described = None;
            for frame in pcm.chunks(160).cycle().take(1_500) {
                if let Transmission::Describe(sid) = suppressor.process(frame) {
                    described = Some(sid);
                }
            }
            let sid = described.expect("it is no speech");
            assert!(sid.level_dbov().abs_diff(level) <= 2, "{sid:?}, not -{level}");
            let again = neighbours(&made(&sid, 16_000));
            assert!((again - neighbours(&pcm)).abs() < 0.1, "{again}, {k}");
        }
    }

    #[test]
    fn speech_is_sent_from_its_first_frame_and_silence_is_described_seldom() {
        let mut signal = noise(40_000, 60, 1);
        let from = signal.len() / 160;
        signal.extend(speech_like(8_000, 16_000, 2));
        let to = signal.len() / 160;
        signal.extend(noise(40_000, 60, 3));
        let mut suppressor = SilenceSuppressor::new(8_000, true, REFRESH_MS);
        let sent: Vec<_> = signal
            .chunks(160)
            .map(|frame| suppressor.process(frame))
            .collect();
        let is_speech = |what: &Transmission| *what == Transmission::Speech;
        // Half a second in, the floor is known: then silence.
        let before = &sent[100..from];
        assert!(!before.iter().any(is_speech));
        let described = before
            .iter()
            .filter(|what| **what != Transmission::Nothing)
            .count();
        assert!((1..=4).contains(&described), "{described} times in 3 s");
        // A syllable begins softly: within 40 ms of it.
        assert!(sent[from..from + 3].iter().any(is_speech));
        let cut = sent[from + 3..to].iter().filter(|what| !is_speech(what)).count();
        assert_eq!(cut, 0, "frames of speech were cut out");
        let hangover = sent[to..].iter().take_while(|what| is_speech(what)).count();
        assert!((8..=16).contains(&hangover), "{hangover} frames more");
        assert!(matches!(sent[to + hangover], Transmission::Describe(_)));
    }

    #[test]
    fn digital_silence_is_described_as_that() {
        let mut suppressor = SilenceSuppressor::new(16_000, true, REFRESH_MS);
        let sent: Vec<_> = (0..20).map(|_| suppressor.process(&[0; 320])).collect();
        assert_eq!(sent[12], Transmission::Describe(Sid::white(127)));
        assert_eq!(sent[13], Transmission::Nothing);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_again_and_makes_bounded_noise(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            crate::fuzzing::fuzz_comfort_noise(&payload);
        }
    }
}
