//! Tones: sines, and the call progress tones of six countries.

use crate::level::amplitude_of_dbm0;

/// A sine generator whose phase runs on through changes of frame, frequency and amplitude.
#[derive(Debug, Clone, Copy)]
pub struct Oscillator {
    /// Turns, in units of 2^-32.
    phase: u32,
    step: u32,
}

impl Oscillator {
    /// A sine at `hz`, starting at phase 0.
    #[must_use]
    pub fn new(hz: f64, sample_rate_hz: u32) -> Self {
        let step = hz / f64::from(sample_rate_hz) * 4_294_967_296.0;
        // The phase is cyclic, so a frequency beyond the sampling rate wraps as sampling would have it.
        Self {
            phase: 0,
            step: step.round() as i64 as u32,
        }
    }

    /// The next value, -1 to 1.
    #[inline]
    pub fn next_value(&mut self) -> f32 {
        let value = sine(self.phase);
        self.phase = self.phase.wrapping_add(self.step);
        value
    }
}

/// The sine of a phase in turns of 2^32, within 2e-7: a Taylor polynomial on the quarter next to zero.
#[inline]
fn sine(phase: u32) -> f32 {
    let signed = phase.cast_signed();
    // sin(x) = sin(π - x): folds the outer quarters onto the inner ones.
    let folded = if signed.unsigned_abs() > 1 << 30 {
        i32::MIN.wrapping_sub(signed)
    } else {
        signed
    };
    let x = folded as f32 * (std::f32::consts::PI / 2_147_483_648.0);
    let y = x * x;
    x * (1.0
        + y * (-1.0 / 6.0
            + y * (1.0 / 120.0 + y * (-1.0 / 5_040.0 + y * (1.0 / 362_880.0 + y * (-1.0 / 39_916_800.0))))))
}

/// One sine of a tone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component {
    /// Frequency in Hz; 0 for none.
    pub hz: f64,
    /// Level in dBm0 (see [`crate::level`]).
    pub dbm0: f64,
}

/// A piece of a tone's cadence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// What sounds, all at once; empty for a pause.
    pub components: &'static [Component],
    /// For how long; 0 for ever.
    pub ms: u32,
}

/// Countries whose call progress tones are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Country {
    /// United States and Canada.
    Us,
    /// United Kingdom.
    Uk,
    /// Germany.
    De,
    /// France.
    Fr,
    /// Italy.
    It,
    /// Spain.
    Es,
}

impl Country {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Us, Self::Uk, Self::De, Self::Fr, Self::It, Self::Es];
}

/// What a call progress tone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallProgress {
    /// Dial now.
    Dial,
    /// The other side is ringing.
    Ringback,
    /// The other side is busy.
    Busy,
    /// The network is busy.
    Congestion,
    /// Somebody else calls, told to who is in a call.
    Waiting,
    /// Nobody is there yet: a melody of our own for who waits, the same in every country.
    Melody,
    /// Somebody comes in: two short notes of our own, upwards, once.
    Join,
    /// Somebody leaves: the two downwards, once.
    Leave,
}

impl CallProgress {
    /// Sounds once; the others go on for ever.
    #[must_use]
    pub const fn ends(self) -> bool {
        matches!(self, Self::Join | Self::Leave)
    }
}

const fn on(components: &'static [Component], ms: u32) -> Segment {
    Segment { components, ms }
}

const fn off(ms: u32) -> Segment {
    Segment { components: &[], ms }
}

const fn sine_at(hz: f64, dbm0: f64) -> Component {
    Component { hz, dbm0 }
}

/// The cadence of a call progress tone, which repeats unless [`CallProgress::ends`].
///
/// # Source
/// Frequencies and cadences: ITU-T E.180 Supplement 2 (04/1998), "Various tones used in national
/// networks". Levels, per frequency: for the US those of the precise audible tone plan (Telcordia GR-506);
/// for the others -13 dBm0 in all.
#[must_use]
pub const fn cadence(country: Country, tone: CallProgress) -> &'static [Segment] {
    use CallProgress::{Busy, Congestion, Dial, Join, Leave, Melody, Ringback, Waiting};
    const US_DIAL: [Component; 2] = [sine_at(350.0, -13.0), sine_at(440.0, -13.0)];
    const US_RING: [Component; 2] = [sine_at(440.0, -19.0), sine_at(480.0, -19.0)];
    const US_BUSY: [Component; 2] = [sine_at(480.0, -24.0), sine_at(620.0, -24.0)];
    const UK_DIAL: [Component; 2] = [sine_at(350.0, -16.0), sine_at(440.0, -16.0)];
    const UK_RING: [Component; 2] = [sine_at(400.0, -16.0), sine_at(450.0, -16.0)];
    const AT_400: [Component; 1] = [sine_at(400.0, -13.0)];
    const AT_425: [Component; 1] = [sine_at(425.0, -13.0)];
    const AT_440: [Component; 1] = [sine_at(440.0, -13.0)];
    match (country, tone) {
        (Country::Us, Dial) => const { &[on(&US_DIAL, 0)] },
        (Country::Us, Ringback) => const { &[on(&US_RING, 2_000), off(4_000)] },
        (Country::Us, Busy) => const { &[on(&US_BUSY, 500), off(500)] },
        (Country::Us, Congestion) => const { &[on(&US_BUSY, 250), off(250)] },
        (Country::Uk, Dial) => const { &[on(&UK_DIAL, 0)] },
        (Country::Uk, Ringback) => const { &[on(&UK_RING, 400), off(200), on(&UK_RING, 400), off(2_000)] },
        (Country::Uk, Busy) => const { &[on(&AT_400, 375), off(375)] },
        (Country::Uk, Congestion) => const { &[on(&AT_400, 400), off(350), on(&AT_400, 225), off(525)] },
        (Country::De, Dial) => const { &[on(&AT_425, 0)] },
        (Country::De, Ringback) => const { &[on(&AT_425, 1_000), off(4_000)] },
        (Country::De, Busy) => const { &[on(&AT_425, 480), off(480)] },
        (Country::De, Congestion) => const { &[on(&AT_425, 240), off(240)] },
        (Country::Fr, Dial) => const { &[on(&AT_440, 0)] },
        (Country::Fr, Ringback) => const { &[on(&AT_440, 1_500), off(3_500)] },
        (Country::Fr, Busy) => const { &[on(&AT_440, 500), off(500)] },
        (Country::Fr, Congestion) => const { &[on(&AT_440, 250), off(250)] },
        (Country::It, Dial) => const { &[on(&AT_425, 200), off(200), on(&AT_425, 600), off(1_000)] },
        (Country::It, Ringback) => const { &[on(&AT_425, 1_000), off(4_000)] },
        (Country::It, Busy) => const { &[on(&AT_425, 500), off(500)] },
        (Country::It, Congestion) => const { &[on(&AT_425, 200), off(200)] },
        (Country::Es, Dial) => const { &[on(&AT_425, 0)] },
        (Country::Es, Ringback) => const { &[on(&AT_425, 1_500), off(3_000)] },
        (Country::Es, Busy) => const { &[on(&AT_425, 200), off(200)] },
        (Country::Es, Congestion) => {
            const {
                &[
                    on(&AT_425, 200),
                    off(200),
                    on(&AT_425, 200),
                    off(200),
                    on(&AT_425, 200),
                    off(600),
                ]
            }
        }
        (Country::Us | Country::Fr, Waiting) => const { &[on(&AT_440, 300), off(10_000)] },
        (Country::Uk, Waiting) => const { &[on(&AT_400, 100), off(4_000)] },
        (Country::De, Waiting) => const { &[on(&AT_425, 200), off(200), on(&AT_425, 200), off(5_000)] },
        (Country::It, Waiting) => {
            const {
                &[
                    on(&AT_425, 400),
                    off(100),
                    on(&AT_425, 250),
                    off(100),
                    on(&AT_425, 150),
                    off(14_000),
                ]
            }
        }
        (Country::Es, Waiting) => const { &[on(&AT_425, 175), off(175), on(&AT_425, 175), off(3_500)] },
        (_, Melody) => &MELODY,
        // Soft, and below the upper group of DTMF: people talk on, and nobody takes it for a digit.
        (_, Join) => const { &[on(&LOW_NOTE, 120), off(30), on(&HIGH_NOTE, 180)] },
        (_, Leave) => const { &[on(&HIGH_NOTE, 120), off(30), on(&LOW_NOTE, 180)] },
    }
}

const LOW_NOTE: [Component; 1] = [sine_at(523.3, -21.0)];
const HIGH_NOTE: [Component; 1] = [sine_at(784.0, -21.0)];

/// Two voices: a tune over the note it stands on. Everything is below the upper group of DTMF, so that nobody takes
/// it for a digit, and soft enough to be talked over.
macro_rules! melody {
    ($($tune:literal $bass:literal $ms:literal),* $(,)?) => {
        [$(on(&[sine_at($tune, -23.0), sine_at($bass, -27.0)], $ms),)* off(1_600)]
    };
}

/// A line in C that walks up and down over C, A minor, F and G; 22 s.
const MELODY: [Segment; 33] = melody![
    329.6 130.8 600, 392.0 130.8 600, 523.3 130.8 600, 392.0 130.8 600,
    440.0 110.0 600, 523.3 110.0 600, 659.3 110.0 900, 523.3 110.0 300,
    440.0 174.6 600, 523.3 174.6 600, 587.3 174.6 600, 523.3 174.6 600,
    493.9 196.0 600, 392.0 196.0 600, 293.7 196.0 900, 329.6 196.0 300,
    329.6 130.8 600, 392.0 130.8 600, 523.3 130.8 600, 659.3 130.8 600,
    587.3 110.0 600, 523.3 110.0 600, 440.0 110.0 900, 392.0 110.0 300,
    349.2 174.6 600, 440.0 174.6 600, 523.3 174.6 600, 440.0 174.6 600,
    392.0 196.0 600, 349.2 196.0 600, 293.7 196.0 900, 261.6 130.8 1_400,
];

/// Sines that may sound together.
const VOICES: usize = 4;
/// Beginnings and ends of segments are ramps of this length, so that nothing clicks.
const RAMP_MS: u32 = 2;

/// Plays a cadence, once or for ever.
#[derive(Debug, Clone)]
pub struct ToneGenerator {
    segments: &'static [Segment],
    repeat: bool,
    sample_rate_hz: u32,
    /// The segment that sounds; `segments.len()` when all is played.
    index: usize,
    /// Samples of it that were played.
    played: usize,
    voices: [(Oscillator, f32); VOICES],
}

impl ToneGenerator {
    /// A generator at the beginning of a cadence. Of each segment the first four components sound.
    #[must_use]
    pub fn new(segments: &'static [Segment], repeat: bool, sample_rate_hz: u32) -> Self {
        let silent = (Oscillator::new(0.0, sample_rate_hz), 0.0);
        let mut generator = Self {
            segments,
            repeat,
            sample_rate_hz,
            index: 0,
            played: 0,
            voices: [silent; VOICES],
        };
        generator.begin_segment();
        generator
    }

    /// A call progress tone, for ever unless it [ends](CallProgress::ends).
    #[must_use]
    pub fn call_progress(country: Country, tone: CallProgress, sample_rate_hz: u32) -> Self {
        Self::new(cadence(country, tone), !tone.ends(), sample_rate_hz)
    }

    /// Writes the next samples, silence after the end; returns how many belong to the cadence.
    pub fn generate(&mut self, pcm: &mut [i16]) -> usize {
        let mut written = 0;
        while written < pcm.len() && self.index < self.segments.len() {
            let length = self.segment_samples();
            let count = (length - self.played).min(pcm.len() - written);
            self.sound(&mut pcm[written..written + count], length);
            written += count;
            self.played += count;
            if self.played == length {
                self.next_segment();
            }
        }
        pcm[written..].fill(0);
        written
    }

    /// Whether a cadence that does not repeat is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.index >= self.segments.len()
    }

    fn segment_samples(&self) -> usize {
        match self.segments[self.index].ms {
            0 => usize::MAX,
            ms => samples(ms, self.sample_rate_hz),
        }
    }

    fn sound(&mut self, pcm: &mut [i16], length: usize) {
        if self.segments[self.index].components.is_empty() {
            pcm.fill(0);
            return;
        }
        let voices = self.segments[self.index].components.len().min(VOICES);
        let ramp = samples(RAMP_MS, self.sample_rate_hz).min(length / 2).max(1);
        for (n, sample) in pcm.iter_mut().enumerate() {
            let place = self.played + n;
            let edge = (place + 1).min(length - place).min(ramp) as f32 / ramp as f32;
            let sum: f32 = self.voices[..voices]
                .iter_mut()
                .map(|(sine, level)| sine.next_value() * *level)
                .sum();
            // `as` saturates.
            *sample = (sum * edge).round() as i16;
        }
    }

    fn next_segment(&mut self) {
        self.played = 0;
        self.index += 1;
        if self.index == self.segments.len() && self.repeat {
            self.index = 0;
        }
        self.begin_segment();
    }

    fn begin_segment(&mut self) {
        let components = self
            .segments
            .get(self.index)
            .map_or(&[][..], |segment| segment.components);
        for (n, (sine, level)) in self.voices.iter_mut().enumerate() {
            (*sine, *level) = match components.get(n) {
                Some(c) => (
                    Oscillator::new(c.hz, self.sample_rate_hz),
                    amplitude_of_dbm0(c.dbm0) as f32,
                ),
                None => (Oscillator::new(0.0, self.sample_rate_hz), 0.0),
            };
        }
    }
}

fn samples(ms: u32, sample_rate_hz: u32) -> usize {
    (u64::from(ms) * u64::from(sample_rate_hz) / 1_000) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goertzel::{amplitude, dbfs};
    use crate::level::{FULL_SCALE_SINE_DBM0, dbov};

    #[test]
    fn the_sine_is_one() {
        for n in 0..100_000_u32 {
            let phase = n.wrapping_mul(42_949);
            let exact = (f64::from(phase) / 4_294_967_296.0 * std::f64::consts::TAU).sin();
            assert!((f64::from(sine(phase)) - exact).abs() < 4e-7, "phase {phase}");
        }
        assert_eq!(sine(0), 0.0);
        assert!((sine(1 << 30) - 1.0).abs() < 1e-6);
        assert!(sine(1 << 31).abs() < 1e-6);
    }

    #[test]
    fn frequency_holds_over_an_hour() {
        let mut sine = Oscillator::new(440.0, 8_000);
        let turns = u64::from(sine.step) * 8_000 * 3_600;
        let expected = 440.0 * 3_600.0;
        assert!((turns as f64 / 4_294_967_296.0 - expected).abs() < 0.01);
        sine.next_value();
        assert_eq!(sine.phase, sine.step);
    }

    #[test]
    fn every_tone_sounds_as_its_table_says() {
        for country in Country::ALL {
            for tone in [
                CallProgress::Dial,
                CallProgress::Ringback,
                CallProgress::Busy,
                CallProgress::Congestion,
                CallProgress::Waiting,
            ] {
                let segments = cadence(country, tone);
                let mut generator = ToneGenerator::call_progress(country, tone, 8_000);
                // Twice through, in frames that do not fit the segments.
                let period: u32 = segments.iter().map(|s| s.ms).sum();
                let length = if period == 0 { 8_000 } else { period as usize * 16 };
                let mut heard = vec![0; length];
                for frame in heard.chunks_mut(160) {
                    assert_eq!(generator.generate(frame), frame.len());
                }
                let mut at = 0;
                for segment in segments.iter().cycle().take(2 * segments.len()) {
                    let end = if segment.ms == 0 {
                        length
                    } else {
                        at + segment.ms as usize * 8
                    };
                    if at == length {
                        break;
                    }
                    let inside = &heard[at + 40..end - 40];
                    for component in segment.components {
                        let level = dbfs(inside, component.hz, 8_000) + FULL_SCALE_SINE_DBM0;
                        assert!(
                            (level - component.dbm0).abs() < 1.0,
                            "{country:?} {tone:?}: {level:.1} dBm0"
                        );
                    }
                    if segment.components.is_empty() {
                        assert_eq!(dbov(&heard[at..end]), f64::NEG_INFINITY, "{country:?} {tone:?}");
                    }
                    at = end;
                }
            }
        }
    }

    #[test]
    fn edges_are_soft_and_frames_join() {
        let mut generator = ToneGenerator::call_progress(Country::De, CallProgress::Busy, 8_000);
        let mut heard = vec![0; 16_000];
        for frame in heard.chunks_mut(73) {
            generator.generate(frame);
        }
        let peak = f64::from(heard.iter().map(|s| s.abs()).max().unwrap());
        let own = 2.0 * peak * (std::f64::consts::PI * 425.0 / 8_000.0).sin();
        let step = heard
            .windows(2)
            .map(|w| (i32::from(w[1]) - i32::from(w[0])).abs())
            .max()
            .unwrap();
        assert!(f64::from(step) <= own * 1.05, "step {step}, own {own:.0}");
    }

    #[test]
    fn a_cadence_that_does_not_repeat_ends() {
        static ONCE: [Segment; 2] = [on(&[sine_at(1_000.0, 0.0)], 30), off(10)];
        let mut generator = ToneGenerator::new(&ONCE, false, 16_000);
        let mut heard = [1; 1_000];
        assert_eq!(generator.generate(&mut heard), 640);
        assert!(generator.is_finished());
        assert!(amplitude(&heard[100..420], 1_000.0, 16_000) > 20_000.0);
        assert!(heard[480..].iter().all(|&s| s == 0));
        assert_eq!(generator.generate(&mut heard), 0);
        assert_eq!(ToneGenerator::new(&[], true, 8_000).generate(&mut heard), 0);
        for (tone, first, last) in [
            (CallProgress::Join, 523.3, 784.0),
            (CallProgress::Leave, 784.0, 523.3),
        ] {
            let mut generator = ToneGenerator::call_progress(Country::Fr, tone, 8_000);
            let mut heard = vec![0; 8_000];
            assert_eq!(generator.generate(&mut heard), 330 * 8);
            for (part, hz, other) in [(40..920, first, last), (1_240..2_600, last, first)] {
                let level = dbfs(&heard[part.clone()], hz, 8_000) + FULL_SCALE_SINE_DBM0;
                assert!((level + 21.0).abs() < 1.0, "{tone:?}: {level}");
                assert!(dbfs(&heard[part], other, 8_000) + FULL_SCALE_SINE_DBM0 < -40.0);
            }
        }
    }
}
