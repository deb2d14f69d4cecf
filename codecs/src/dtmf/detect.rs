//! Digits found in audio.
//!
//! Windows of 20 ms overlap, one every 5 ms, and in each a Goertzel filter per frequency gives amplitude
//! *and phase*. A window is a hit when one row and one column stand out, their levels and twist are in
//! range, and both tones together are nearly all there is (speech has more). The turn of the phase from
//! hit to hit measures each frequency far more finely than a filter of 20 ms could: that is what tells
//! 1.5 % off from 3.5 % off.

use super::{Digit, HIGH_HZ, LOW_HZ};
use crate::level::{amplitude_of_dbm0, dbm0_of_amplitude};

/// The rate that the detector works at.
pub const SAMPLE_RATE_HZ: u32 = 8_000;

/// Samples of a window.
const WINDOW: usize = 160;
/// Samples from one window to the next. A tone 3.5 % off turns by less than a third of a turn in that
/// time, so the phase is never ambiguous within what must be told apart.
const HOP: usize = 40;
/// This many hits in a row are a digit. A window that a tone covers but for 20 to 68 samples is a hit, so
/// 40 ms always make five, and 23 ms never do.
const HITS: u32 = 5;
/// This many misses in a row end it: an interruption of 10 ms makes at most six, 40 ms at least eight.
const MISSES: u32 = 7;

/// Accept at least -25 dBm0 per tone; the rest is what a tone 1.5 % off loses in the filter.
const LEVEL_MIN_DBM0: f64 = -27.0;
/// The high tone may be up to 4 dB above the low one; as a power ratio, with a margin of 1 dB.
const TWIST_MAX: f32 = 3.16;
/// The high tone may be up to 8 dB below the low one; as a power ratio, with a margin of 1.5 dB.
const TWIST_MIN: f32 = 0.112;
/// The best of a group stands 6 dB above the others of it, as a power ratio.
const DOMINANCE: f32 = 4.0;
/// Both tones are at least this share of the power in every window, though a tone that covers only a part
/// of it, or is off its frequency, seems less...
const PURITY_MIN: f32 = 0.65;
/// ...and at least this in the best of the first hits, reckoned for the frequency as it was measured. Two
/// formants that stand where two tones would keep below.
const PURITY_BEST_MIN: f32 = 0.9;
/// A frequency may be this far off: the middle between 1.5 % (accept) and 3.5 % (reject).
const DEVIATION_MAX: f32 = 0.025;
/// From one hit to the next, noise may turn the phase as if the frequency were this far off.
const DEVIATION_STEP_MAX: f32 = 0.05;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtmfEvent {
    /// A digit is certain; it began about 40 ms earlier.
    Started(Digit),
    /// The digit is over.
    Ended {
        /// Which.
        digit: Digit,
        /// How long it sounded, to within a few milliseconds.
        duration_ms: u32,
        /// How loud it was at its loudest: the mean of both tones' levels.
        level_dbm0: i8,
    },
}

/// The detector of one stream, at 8 kHz.
#[derive(Debug, Clone)]
pub struct Detector {
    /// 2·cos(ω) of the eight frequencies, rows first.
    coefficients: [f32; 8],
    /// cos(ω) and sin(ω), to turn filter states into amplitude and phase.
    rotations: [(f32, f32); 8],
    /// Turns of each nominal frequency within a hop, the whole ones removed.
    turns_per_hop: [f32; 8],
    /// Hann window.
    shape: [f32; WINDOW],
    /// Square of the least amplitude of a tone.
    floor: f32,
    samples: [f32; WINDOW],
    filled: usize,
    last: Option<Hit>,
    hits: u32,
    /// Turns by which row and column ran ahead of their nominal frequencies over the hits in a row.
    ahead: (f32, f32),
    /// The shares of the purest of these hits.
    shares: (f32, f32),
    /// The power of the loudest of these hits.
    power: f32,
    misses: u32,
    sounding: Option<Sounding>,
}

/// The digit that sounds.
#[derive(Debug, Clone, Copy)]
struct Sounding {
    digit: Digit,
    /// So far.
    hops: u32,
    /// Of the loudest hit.
    power: f32,
    /// The part of it that the filters show.
    shown: f32,
}

/// One window in which a digit was heard.
#[derive(Debug, Clone, Copy)]
struct Hit {
    row: usize,
    column: usize,
    /// Phases in turns.
    phases: (f32, f32),
    /// Shares of the power, as the filters show them.
    shares: (f32, f32),
    /// Squared amplitude, the geometric mean of both tones'.
    power: f32,
}

impl Detector {
    /// A detector that has heard nothing.
    #[must_use]
    pub fn new() -> Self {
        let turns = |index: usize| {
            let hz = if index < 4 {
                LOW_HZ[index]
            } else {
                HIGH_HZ[index - 4]
            };
            hz / f64::from(SAMPLE_RATE_HZ)
        };
        let angle = |index: usize| turns(index) * std::f64::consts::TAU;
        let hann = |n: usize| 0.5 - 0.5 * (std::f64::consts::TAU * (n as f64 + 0.5) / WINDOW as f64).cos();
        Self {
            coefficients: std::array::from_fn(|index| 2.0 * angle(index).cos() as f32),
            rotations: std::array::from_fn(|index| (angle(index).cos() as f32, angle(index).sin() as f32)),
            turns_per_hop: std::array::from_fn(|index| (turns(index) * HOP as f64).fract() as f32),
            shape: std::array::from_fn(|n| hann(n) as f32),
            floor: amplitude_of_dbm0(LEVEL_MIN_DBM0).powi(2) as f32,
            samples: [0.0; WINDOW],
            filled: 0,
            last: None,
            hits: 0,
            ahead: (0.0, 0.0),
            shares: (0.0, 0.0),
            power: 0.0,
            misses: 0,
            sounding: None,
        }
    }

    /// Listens to the next samples, of any number, and reports what begins and ends in them.
    pub fn process(&mut self, pcm: &[i16], mut report: impl FnMut(DtmfEvent)) {
        let mut rest = pcm;
        while !rest.is_empty() {
            let count = rest.len().min(WINDOW - self.filled);
            for (slot, &sample) in self.samples[self.filled..].iter_mut().zip(&rest[..count]) {
                *slot = f32::from(sample);
            }
            self.filled += count;
            rest = &rest[count..];
            if self.filled == WINDOW {
                let hit = self.examine();
                self.advance(hit, &mut report);
                self.samples.copy_within(HOP.., 0);
                self.filled = WINDOW - HOP;
            }
        }
    }

    /// The digit that sounds now.
    #[must_use]
    pub fn sounding(&self) -> Option<Digit> {
        self.sounding.map(|sounding| sounding.digit)
    }

    /// Forgets what was heard; a digit that sounds ends without a report.
    pub fn reset(&mut self) {
        self.filled = 0;
        self.last = None;
        self.hits = 0;
        self.misses = 0;
        self.sounding = None;
    }

    /// One step of time: a window with a digit or without.
    fn advance(&mut self, hit: Option<Hit>, report: &mut impl FnMut(DtmfEvent)) {
        self.count(hit);
        let heard = hit.map(|hit| Digit::at(hit.row, hit.column));
        match (&mut self.sounding, hit) {
            (None, _) => self.begin(hit, report),
            (Some(sounding), Some(hit)) if heard == Some(sounding.digit) => {
                sounding.hops += self.misses + 1;
                sounding.power = sounding.power.max(hit.power);
                self.misses = 0;
            }
            (Some(sounding), _) => {
                self.misses += 1;
                if self.misses >= MISSES || self.hits >= HITS {
                    report(sounding.ended());
                    self.sounding = None;
                    self.begin(hit, report);
                }
            }
        }
    }

    /// Counts hits of one digit in a row, and how far their phases ran ahead.
    fn count(&mut self, hit: Option<Hit>) {
        let step = match (self.last, hit) {
            (Some(last), Some(hit)) => self.step(last, hit),
            _ => None,
        };
        (self.hits, self.ahead) = match (hit, step) {
            (None, _) => (0, (0.0, 0.0)),
            (Some(_), None) => (1, (0.0, 0.0)),
            (Some(_), Some(step)) => (self.hits + 1, (self.ahead.0 + step.0, self.ahead.1 + step.1)),
        };
        if let Some(hit) = hit
            && (self.hits == 1 || hit.shares.0 + hit.shares.1 > self.shares.0 + self.shares.1)
        {
            self.shares = hit.shares;
        }
        if let Some(hit) = hit {
            self.power = if self.hits == 1 {
                hit.power
            } else {
                self.power.max(hit.power)
            };
        }
        self.last = hit;
    }

    fn begin(&mut self, hit: Option<Hit>, report: &mut impl FnMut(DtmfEvent)) {
        let Some(hit) = hit.filter(|_| self.hits >= HITS) else {
            return;
        };
        let steps = (self.hits - 1) as f32;
        let (low_hz, high_hz) = (hz(self.ahead.0 / steps), hz(self.ahead.1 / steps));
        let shown = (response(low_hz), response(high_hz));
        let purity = self.shares.0 / shown.0 + self.shares.1 / shown.1;
        if deviates(low_hz, LOW_HZ[hit.row], DEVIATION_MAX)
            || deviates(high_hz, HIGH_HZ[hit.column], DEVIATION_MAX)
            || purity < PURITY_BEST_MIN
        {
            return;
        }
        let digit = Digit::at(hit.row, hit.column);
        self.sounding = Some(Sounding {
            digit,
            hops: self.hits,
            power: self.power,
            shown: (shown.0 * shown.1).sqrt(),
        });
        self.misses = 0;
        report(DtmfEvent::Started(digit));
    }

    /// By how many turns the phases ran ahead of nominal from one hit to the next; `None` when it is
    /// another digit or no steady tone.
    fn step(&self, last: Hit, hit: Hit) -> Option<(f32, f32)> {
        let ahead = |index: usize, before: f32, after: f32| {
            let turned = after - before - self.turns_per_hop[index];
            turned - turned.round()
        };
        let low = ahead(hit.row, last.phases.0, hit.phases.0);
        let high = ahead(4 + hit.column, last.phases.1, hit.phases.1);
        let steady = (last.row, last.column) == (hit.row, hit.column)
            && !deviates(hz(low), LOW_HZ[hit.row], DEVIATION_STEP_MAX)
            && !deviates(hz(high), HIGH_HZ[hit.column], DEVIATION_STEP_MAX);
        steady.then_some((low, high))
    }

    /// Looks for a digit in the full window.
    fn examine(&self) -> Option<Hit> {
        let mut shaped = [0.0; WINDOW];
        let mut power = 0.0;
        for ((shaped, &sample), &weight) in shaped.iter_mut().zip(&self.samples).zip(self.shape.iter()) {
            *shaped = sample * weight;
            power += *shaped * *shaped;
        }
        // The sum of a Hann window is half its length, of its squares three eighths.
        let mean_square = power / (WINDOW as f32 * 0.375);
        if mean_square < self.floor {
            return None;
        }
        let (s1, s2) = self.filter(&shaped);
        let value = |index: usize| {
            let (cos, sin) = self.rotations[index];
            (s1[index] * cos - s2[index], s1[index] * sin)
        };
        // Squared amplitude of the sine.
        let square = |index: usize| {
            let (re, im) = value(index);
            (re * re + im * im) * (4.0 / WINDOW as f32).powi(2)
        };
        let squares: [f32; 8] = std::array::from_fn(square);
        let row = dominant(&squares[..4])?;
        let column = 4 + dominant(&squares[4..])?;
        let (low, high) = (squares[row], squares[column]);
        let twist = high / low;
        let pure = (low + high) / 2.0 >= PURITY_MIN * mean_square;
        if low < self.floor || high < self.floor || !(TWIST_MIN..=TWIST_MAX).contains(&twist) || !pure {
            return None;
        }
        let phase = |index: usize| {
            let (re, im) = value(index);
            im.atan2(re) / std::f32::consts::TAU
        };
        let share = |square: f32| square / 2.0 / mean_square;
        Some(Hit {
            row,
            column: column - 4,
            phases: (phase(row), phase(column)),
            shares: (share(low), share(high)),
            power: (low * high).sqrt(),
        })
    }

    /// The eight Goertzel filters side by side.
    fn filter(&self, shaped: &[f32; WINDOW]) -> ([f32; 8], [f32; 8]) {
        let (mut s1, mut s2) = ([0.0_f32; 8], [0.0_f32; 8]);
        for &sample in shaped {
            for lane in 0..8 {
                let s0 = sample + self.coefficients[lane] * s1[lane] - s2[lane];
                s2[lane] = s1[lane];
                s1[lane] = s0;
            }
        }
        (s1, s2)
    }
}

impl Sounding {
    fn ended(&self) -> DtmfEvent {
        let amplitude = (self.power / self.shown).sqrt();
        DtmfEvent::Ended {
            digit: self.digit,
            duration_ms: duration_ms(self.hops),
            level_dbm0: dbm0_of_amplitude(amplitude.into()).round() as i8,
        }
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

/// How far off its nominal frequency a tone is that runs this many turns ahead in a hop.
fn hz(turns: f32) -> f32 {
    turns * (SAMPLE_RATE_HZ as f32 / HOP as f32)
}

/// Whether a frequency is off its nominal one by more than `part` of it.
fn deviates(off_hz: f32, nominal_hz: f64, part: f32) -> bool {
    off_hz.abs() > part * nominal_hz as f32
}

/// The part of its power that a filter shows of a tone that is off its frequency: the spectrum of the
/// Hann window, sin(πx) / (πx(1-x²)) in amplitude with x in filter widths.
fn response(off_hz: f32) -> f32 {
    // No tone that passes is further off than 41 Hz.
    let x = (off_hz.abs() * (WINDOW as f32 / SAMPLE_RATE_HZ as f32)).clamp(0.001, 0.9);
    let angle = std::f32::consts::PI * x;
    (angle.sin() / (angle * (1.0 - x * x))).powi(2)
}

/// The largest of a group if it stands out.
fn dominant(squares: &[f32]) -> Option<usize> {
    let (best, &largest) = squares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    let alone = squares
        .iter()
        .enumerate()
        .all(|(index, &s)| index == best || s * DOMINANCE <= largest);
    alone.then_some(best)
}

/// How long a tone is that makes this many hits: a window counts from two thirds covered.
fn duration_ms(hops: u32) -> u32 {
    const COVER: u32 = 60;
    (hops * HOP as u32 + COVER) * 1_000 / SAMPLE_RATE_HZ
}

#[cfg(test)]
mod tests;
