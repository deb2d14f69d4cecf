//! Digits as tones: found in the sound of a source, and taken out of what some of its listeners hear.
//!
//! The detector is certain of a digit some 40 ms after it began. Whoever is not to hear it is given the sound that much
//! later, so that all of the tone is gone; what is no digit passes as it came.

use codecs::{
    dtmf::{Detector, DtmfEvent, SAMPLE_RATE_HZ},
    mix,
    resample::Resampler,
};

use super::tick::TICK_MS;

/// Sound without tones is so many ticks later.
const LATER_TICKS: usize = 2;
/// A digit began up to so long before it is told. The detector says 42.5 ms: the rest is room for what filters smear.
const TOLD_AFTER_MS: i64 = 45;
/// And it was over at the latest so long before that is told.
const OVER_BEFORE_MS: i64 = 30;
/// Sound goes and comes back over so long, so that nothing clicks.
const RAMP_MS: i64 = 2;
/// Below the faintest tone by far.
const FLOOR: u16 = 8;
/// After so many ticks of silence the detector has nothing but silence in it, and learns nothing from more.
const RESTING_TICKS: u32 = 2;
/// Long before the first sample.
const NEVER: i64 = i64::MIN / 4;
/// Samples between two looks of the detector.
const HOP: usize = 40;

/// Looks for digits in a source.
#[derive(Debug)]
pub(crate) struct Tones {
    detector: Detector,
    rate_hz: u32,
    /// To the detector's rate, where the session has another.
    down: Option<Resampler>,
    narrow: Box<[i16]>,
    /// Samples seen, at the session's rate.
    seen: i64,
    silent_ticks: u32,
    /// The latest digit, by samples seen; without end while it sounds.
    digit: (i64, i64),
}

impl Tones {
    /// `None` only for rates that nobody compiles.
    pub(crate) fn new(rate_hz: u32) -> Option<Self> {
        let down = match rate_hz {
            SAMPLE_RATE_HZ => None,
            _ => Some(Resampler::new(rate_hz, SAMPLE_RATE_HZ).ok()?),
        };
        let narrow = if down.is_some() {
            SAMPLE_RATE_HZ / 1_000 * (TICK_MS + 1)
        } else {
            0
        };
        Some(Self {
            detector: Detector::new(),
            rate_hz,
            down,
            narrow: vec![0; narrow as usize].into_boxed_slice(),
            seen: 0,
            silent_ticks: RESTING_TICKS,
            digit: (NEVER, NEVER),
        })
    }

    pub(crate) fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Takes the next tick in.
    pub(crate) fn look(&mut self, pcm: &[i16], mut tell: impl FnMut(DtmfEvent)) {
        let begin = self.seen;
        self.seen += pcm.len() as i64;
        self.silent_ticks = match mix::is_silent(pcm, FLOOR) {
            true => self.silent_ticks.saturating_add(1),
            false => 0,
        };
        if self.silent_ticks > RESTING_TICKS && self.detector.sounding().is_none() {
            return;
        }
        let (narrow, late) = match &mut self.down {
            None => (pcm, 0),
            Some(down) => {
                let count = down.process(pcm, &mut self.narrow).unwrap_or(0);
                let late = down.delay_ms(self.rate_hz) * f64::from(self.rate_hz) / 1_000.0;
                (&self.narrow[..count], late as i64)
            }
        };
        let (ms, wider) = (
            i64::from(self.rate_hz / 1_000),
            i64::from(self.rate_hz / SAMPLE_RATE_HZ),
        );
        let mut at = begin - late;
        for hop in narrow.chunks(HOP) {
            at += hop.len() as i64 * wider;
            let digit = &mut self.digit;
            self.detector.process(hop, |event| {
                match event {
                    // One digit in the place of another: the silence goes on.
                    DtmfEvent::Started(_) if digit.1 >= at - TOLD_AFTER_MS * ms => digit.1 = i64::MAX,
                    DtmfEvent::Started(_) => *digit = (at - TOLD_AFTER_MS * ms, i64::MAX),
                    DtmfEvent::Ended { .. } => digit.1 = at - OVER_BEFORE_MS * ms,
                }
                tell(event);
            });
        }
    }
}

/// What is left of a source without tones.
#[derive(Debug)]
pub(crate) struct Clamp {
    /// What was not heard yet, oldest first.
    waiting: Box<[i16]>,
}

impl Clamp {
    pub(crate) fn new(tick_samples: usize) -> Self {
        Self {
            waiting: vec![0; LATER_TICKS * tick_samples].into_boxed_slice(),
        }
    }

    /// It goes on at the same rate.
    pub(crate) fn fits(&self, tick_samples: usize) -> bool {
        self.waiting.len() == LATER_TICKS * tick_samples
    }

    /// Takes the source's tick, in which `tones` has looked `late` samples before it came here, and gives the one that is
    /// heard now.
    pub(crate) fn pass(&mut self, pcm: &[i16], late: usize, tones: &Tones, out: &mut [i16]) {
        let from = tones.seen - (pcm.len() + self.waiting.len() + late) as i64;
        self.shift(Some(pcm), out);
        silence(out, from, tones);
    }

    /// What waits, where nothing more comes.
    pub(crate) fn drain(&mut self, out: &mut [i16]) {
        self.shift(None, out);
    }

    fn shift(&mut self, pcm: Option<&[i16]>, out: &mut [i16]) {
        let samples = out.len();
        out.copy_from_slice(&self.waiting[..samples]);
        self.waiting.copy_within(samples.., 0);
        let newest = self.waiting.len() - samples;
        match pcm {
            Some(pcm) => self.waiting[newest..].copy_from_slice(pcm),
            None => self.waiting[newest..].fill(0),
        }
    }
}

/// Silences what of `pcm`, which begins at `from`, belongs to the latest digit.
fn silence(pcm: &mut [i16], from: i64, tones: &Tones) {
    let (begin, end) = tones.digit;
    let ramp = RAMP_MS * i64::from(tones.rate_hz / 1_000);
    let last = from + pcm.len() as i64;
    if last <= begin - ramp || end.saturating_add(ramp) <= from {
        return;
    }
    for (sample, at) in pcm.iter_mut().zip(from..) {
        let away = (begin - at).max(at.saturating_sub(end) + 1).clamp(0, ramp);
        *sample = (i64::from(*sample) * away / ramp) as i16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codecs::{
        dtmf::{Digit, DtmfGenerator},
        goertzel,
        tone::Oscillator,
    };

    /// A voice, and in the middle of it a digit of 100 ms after `before` samples.
    fn sound(rate_hz: u32, before: usize, digit: Digit) -> Vec<i16> {
        let mut sine = Oscillator::new(500.0, rate_hz);
        let mut pcm: Vec<i16> = (0..before)
            .map(|_| (sine.next_value() * 5_000.0) as i16)
            .collect();
        let mut generator = DtmfGenerator::new(rate_hz);
        generator.start(digit, 100, 0);
        let mut tone = vec![0; rate_hz as usize / 10];
        generator.generate(&mut tone);
        pcm.extend(tone);
        pcm.extend((0..rate_hz as usize / 2).map(|_| (sine.next_value() * 5_000.0) as i16));
        pcm
    }

    fn pass(rate_hz: u32, pcm: &[i16]) -> Vec<i16> {
        let tick = (rate_hz / 1_000 * TICK_MS) as usize;
        let mut tones = Tones::new(rate_hz).expect("a rate");
        let mut clamp = Clamp::new(tick);
        let mut heard = Vec::new();
        for pcm in pcm.chunks_exact(tick) {
            let mut out = vec![0; tick];
            tones.look(pcm, |_| {});
            clamp.pass(pcm, 0, &tones, &mut out);
            heard.extend(out);
        }
        // On the time of what went in.
        heard.split_off(LATER_TICKS * tick)
    }

    #[test]
    fn of_a_digit_nothing_is_left_wherever_it_begins_and_the_sound_around_it_stays() {
        for rate_hz in [8_000, 16_000, 48_000] {
            let ms = rate_hz as usize / 1_000;
            for before_ms in 100..120 {
                for digit in [Digit::from_char('1'), Digit::from_char('D')] {
                    let digit = digit.expect("one of them");
                    let pcm = sound(rate_hz, before_ms * ms, digit);
                    let heard = pass(rate_hz, &pcm);
                    let (from, to) = (before_ms * ms, (before_ms + 100) * ms);
                    let rest = &heard[from..to];
                    let loudest = rest.iter().map(|sample| sample.unsigned_abs()).max();
                    assert!(
                        loudest < Some(200),
                        "{rate_hz} Hz, {before_ms} ms: {loudest:?} is left"
                    );
                    assert_eq!(heard[..from - 20 * ms], pcm[..from - 20 * ms], "before it");
                    let after = to + 20 * ms;
                    assert_eq!(heard[after..], pcm[after..heard.len()], "behind it");
                    let (low, high) = digit.frequencies_hz();
                    for hz in [low, high] {
                        assert!(goertzel::amplitude(rest, hz, rate_hz) < 30.0, "{hz} Hz");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_digit_passes_bit_for_bit() {
        let mut noise = 7_u32;
        let pcm: Vec<i16> = (0..80_000)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 17) as i16
            })
            .collect();
        let heard = pass(8_000, &pcm);
        assert_eq!(heard[..], pcm[..heard.len()]);
    }
}
