//! The one timeline of a recording: every leg's samples at the time the host heard them, until they are final.

use codecs::mix::{self, Limiter};

use super::{
    leg::{Bench, Content, Leg, LegReport, Track},
    ring::Record,
};
use crate::limits;

/// A stretch of a recording, in samples since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First sample.
    pub from: u64,
    /// First sample after it; `None` while it lasts.
    pub to: Option<u64>,
    /// Records that were lost in it; 0 for a pause.
    pub lost: u64,
}

/// Sampling rate of a file, at most.
const RATE_HZ_MAX: u32 = 48_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Timeline {
    rate_hz: u32,
    stereo: bool,
    /// Nanoseconds of the first sample.
    start_ns: Option<u64>,
    legs: Vec<Leg>,
    ahead: Ahead,
    pauses: Vec<Span>,
    gaps: Vec<Span>,
}

/// What is placed and not final, from the first sample that is not final on.
#[derive(Debug)]
struct Ahead {
    /// Samples that are final.
    written: i64,
    /// Left and right, of as many samples: few, since a turn gives nearly all that was placed.
    held: [Vec<i32>; 2],
    limiters: [Limiter; 2],
}

/// Space to work in, shared by all recordings of a thread, so that it is never cold.
#[derive(Debug)]
pub struct Workbench {
    bench: Bench,
    /// Left and right. Silent between two turns.
    tracks: [Box<[i32]>; 2],
}

impl Default for Workbench {
    fn default() -> Self {
        let samples = RATE_HZ_MAX as usize * limits::RECORDING_AHEAD_MS_MAX / 1_000;
        Self {
            bench: Bench::default(),
            tracks: std::array::from_fn(|_| vec![0; samples].into_boxed_slice()),
        }
    }
}

/// What is ahead, during a turn.
struct Spread<'a> {
    written: i64,
    /// Left and right, or the one of a mono file; so many samples of them may be used.
    tracks: &'a mut [Box<[i32]>],
    samples: usize,
    limiters: &'a mut [Limiter; 2],
    /// Samples in use.
    filled: usize,
}

impl Timeline {
    pub(super) fn new(rate_hz: u32, stereo: bool) -> Self {
        Self {
            rate_hz,
            stereo,
            start_ns: None,
            legs: Vec::new(),
            ahead: Ahead {
                written: 0,
                held: [Vec::new(), Vec::new()],
                limiters: [Limiter::new(); 2],
            },
            pauses: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Samples that are final.
    pub(super) fn written(&self) -> u64 {
        self.ahead.written as u64
    }

    pub(super) fn legs(&self) -> impl Iterator<Item = &LegReport> {
        self.legs.iter().map(Leg::report)
    }

    pub(super) fn pauses(&self) -> &[Span] {
        &self.pauses
    }

    pub(super) fn gaps(&self) -> &[Span] {
        &self.gaps
    }

    /// Takes in what a worker wrote.
    pub(super) fn take(&mut self, record: Record<'_>) {
        match record {
            Record::Begin(at_ns) => _ = self.start_ns.get_or_insert(at_ns),
            Record::Leg(leg, node) => {
                if let Some(leg) = self.leg(leg) {
                    leg.name(node);
                }
            }
            Record::Packet(placing, position, kind, payload) => {
                let arrival = self.sample_at(position.at_ns);
                if let Some(leg) = self.leg(placing.leg) {
                    leg.push(arrival, placing, position, Content::Coded(kind), payload);
                }
            }
            Record::Noise(placing, position, clock_hz, payload) => {
                let arrival = self.sample_at(position.at_ns);
                if let Some(leg) = self.leg(placing.leg) {
                    leg.push(arrival, placing, position, Content::Noise(clock_hz), payload);
                }
            }
            Record::Event(placing, position) => {
                let arrival = self.sample_at(position.at_ns);
                if let Some(leg) = self.leg(placing.leg) {
                    leg.push(arrival, placing, position, Content::Event, &[]);
                }
            }
            Record::Frame(placing, position, rate_hz, payload) => {
                let arrival = self.sample_at(position.at_ns);
                if let Some(leg) = self.leg(placing.leg) {
                    leg.push(arrival, placing, position, Content::Mixed(rate_hz), payload);
                }
            }
            // Not about audio.
            Record::Limits(..) => {}
            Record::Pause(at_ns) => {
                let from = self.sample_at(at_ns).round().max(0.0) as u64;
                remember(
                    &mut self.pauses,
                    Span {
                        from,
                        to: None,
                        lost: 0,
                    },
                );
            }
            Record::Resume(at_ns) => {
                let to = self.sample_at(at_ns).round().max(0.0) as u64;
                if let Some(pause) = self.pauses.last_mut() {
                    pause.to.get_or_insert(to);
                }
            }
            Record::Lost(from_ns, to_ns, lost) => {
                let from = self.sample_at(from_ns).round().max(0.0) as u64;
                let to = Some(self.sample_at(to_ns).round().max(0.0) as u64);
                remember(&mut self.gaps, Span { from, to, lost });
            }
        }
    }

    /// Makes everything before `until_ns`, and before `samples_max`, final and gives its samples to `each`, interleaved when stereo.
    pub(super) fn advance(
        &mut self,
        until_ns: u64,
        samples_max: u64,
        bench: &mut Workbench,
        each: &mut impl FnMut(&[i16]),
    ) {
        if self.start_ns.is_none() {
            return;
        }
        let until =
            (self.sample_at(until_ns).floor() as i64).min(i64::try_from(samples_max).unwrap_or(i64::MAX));
        if self.ahead.written >= until {
            return;
        }
        let samples = self.rate_hz as usize * limits::RECORDING_AHEAD_MS_MAX / 1_000;
        let Workbench { bench, tracks } = bench;
        let tracks = &mut tracks[..1 + usize::from(self.stereo)];
        let mut ahead = self.ahead.spread(tracks, samples);
        while ahead.written < until {
            let horizon = until.min(ahead.written + samples as i64 / 2);
            for leg in &mut self.legs {
                leg.place(horizon, &mut ahead, bench);
            }
            mask(&self.pauses, horizon, &mut ahead);
            ahead.give(horizon, each);
        }
        let (written, filled) = (ahead.written, ahead.filled);
        self.ahead.hold(tracks, written, filled);
    }

    /// Samples since the recording's start at a time of the ring.
    fn sample_at(&self, at_ns: u64) -> f64 {
        let start = self.start_ns.unwrap_or(at_ns);
        (at_ns as f64 - start as f64) * f64::from(self.rate_hz) / 1e9
    }

    /// The leg of a number; `None` beyond what a recording may have.
    fn leg(&mut self, number: u16) -> Option<&mut Leg> {
        let at = usize::from(number);
        if at >= limits::RECORDING_LEGS_MAX {
            return None;
        }
        while self.legs.len() <= at {
            self.legs.push(Leg::new(self.rate_hz));
        }
        self.legs.get_mut(at)
    }
}

/// Nothing of a pause is heard, whatever was placed there.
fn mask(pauses: &[Span], horizon: i64, ahead: &mut Spread<'_>) {
    let written = ahead.written;
    for pause in pauses.iter().rev() {
        let to = pause.to.map_or(horizon, |to| horizon.min(to as i64));
        if pause.to.is_some_and(|to| (to as i64) < written) {
            break;
        }
        let from = (pause.from as i64).max(written);
        if from < to {
            ahead.silence((from - written) as usize, (to - written) as usize);
        }
    }
}

/// Keeps `span`, unless there are too many; then the last one takes it in.
fn remember(spans: &mut Vec<Span>, span: Span) {
    let full = spans.len() >= limits::RECORDING_SPANS_MAX;
    match spans.last_mut().filter(|_| full) {
        Some(last) => {
            last.to = span.to;
            last.lost += span.lost;
        }
        None => spans.push(span),
    }
}

impl Track for Spread<'_> {
    fn add(&mut self, at: i64, right: bool, gains: (i32, i32), pcm: &[i16]) {
        let start = at - self.written;
        let cut = usize::try_from(-start).unwrap_or(0).min(pcm.len());
        let pcm = &pcm[cut..];
        let start = usize::try_from(start).unwrap_or(0);
        let side = usize::from(right && self.tracks.len() > 1);
        let track = &mut self.tracks[side][..self.samples];
        let Some(track) = track.get_mut(start..).filter(|_| !pcm.is_empty()) else {
            return;
        };
        let len = pcm.len().min(track.len());
        self.filled = self.filled.max(start + len);
        let track = &mut track[..len];
        match gains {
            (mix::UNITY, mix::UNITY) => mix::add(track, pcm),
            (from, to) => {
                for (n, (sum, sample)) in track.iter_mut().zip(pcm).enumerate() {
                    let gain = i64::from(from) + i64::from(to - from) * n as i64 / len as i64;
                    *sum += (i64::from(*sample) * gain / i64::from(mix::UNITY)) as i32;
                }
            }
        }
    }
}

impl Ahead {
    /// What is held, at the beginning of the tracks.
    fn spread<'a>(&'a mut self, tracks: &'a mut [Box<[i32]>], samples: usize) -> Spread<'a> {
        for (track, held) in tracks.iter_mut().zip(&self.held) {
            track[..held.len()].copy_from_slice(held);
        }
        Spread {
            written: self.written,
            filled: self.held[0].len(),
            tracks,
            samples,
            limiters: &mut self.limiters,
        }
    }

    /// What is in use of the tracks is held, and they are silent.
    fn hold(&mut self, tracks: &mut [Box<[i32]>], written: i64, filled: usize) {
        self.written = written;
        for (track, held) in tracks.iter_mut().zip(&mut self.held) {
            held.clear();
            held.extend_from_slice(&track[..filled]);
            track[..filled].fill(0);
        }
    }
}

impl Spread<'_> {
    fn silence(&mut self, from: usize, to: usize) {
        let end = to.min(self.samples);
        for track in &mut *self.tracks {
            track[from.min(end)..end].fill(0);
        }
    }

    /// Gives all samples before `horizon`, limited.
    fn give(&mut self, horizon: i64, each: &mut impl FnMut(&[i16])) {
        const PIECE: usize = 480;
        let count = (horizon - self.written) as usize;
        let (mut left, mut right, mut both) = ([0; PIECE], [0; PIECE], [0; 2 * PIECE]);
        let mut done = 0;
        while done < count {
            let end = (done + PIECE).min(count);
            let pcm = &mut left[..end - done];
            self.limiters[0].all(&self.tracks[0][done..end], pcm);
            if let Some(track) = self.tracks.get(1) {
                let other = &mut right[..end - done];
                self.limiters[1].all(&track[done..end], other);
                for ((pair, l), r) in both.as_chunks_mut::<2>().0.iter_mut().zip(&*pcm).zip(&*other) {
                    *pair = [*l, *r];
                }
                each(&both[..2 * (end - done)]);
            } else {
                each(pcm);
            }
            done = end;
        }
        let filled = self.filled.max(count);
        for track in &mut *self.tracks {
            track.copy_within(count..filled, 0);
            track[filled - count..filled].fill(0);
        }
        self.filled = filled - count;
        self.written = horizon;
    }
}
