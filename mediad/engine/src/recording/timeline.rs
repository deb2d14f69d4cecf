//! The one timeline of a recording: every leg's samples at the time the host heard them, until they are final.

use codecs::mix::{self, Limiter};

use super::{
    leg::{Content, Leg, LegReport, Track, Workbench},
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
    left: Box<[i32]>,
    /// Empty for mono.
    right: Box<[i32]>,
    /// Of each side.
    limiters: [Limiter; 2],
    /// Samples in use.
    filled: usize,
}

impl Timeline {
    pub(super) fn new(rate_hz: u32, stereo: bool) -> Self {
        let samples = rate_hz as usize * limits::RECORDING_AHEAD_MS_MAX / 1_000;
        let zeros = |samples| vec![0; samples].into_boxed_slice();
        Self {
            rate_hz,
            stereo,
            start_ns: None,
            legs: Vec::new(),
            ahead: Ahead {
                written: 0,
                left: zeros(samples),
                right: zeros(if stereo { samples } else { 0 }),
                limiters: [Limiter::new(); 2],
                filled: 0,
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
        let step = self.ahead.left.len() as i64 / 2;
        while self.ahead.written < until {
            let horizon = until.min(self.ahead.written + step);
            for leg in &mut self.legs {
                leg.place(horizon, &mut self.ahead, bench);
            }
            self.mask(horizon);
            self.ahead.give(horizon, self.stereo, each);
        }
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

    /// Nothing of a pause is heard, whatever was placed there.
    fn mask(&mut self, horizon: i64) {
        let written = self.ahead.written;
        for pause in self.pauses.iter().rev() {
            let to = pause.to.map_or(horizon, |to| horizon.min(to as i64));
            if pause.to.is_some_and(|to| (to as i64) < written) {
                break;
            }
            let from = (pause.from as i64).max(written);
            if from < to {
                self.ahead
                    .silence((from - written) as usize, (to - written) as usize);
            }
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

impl Track for Ahead {
    fn add(&mut self, at: i64, right: bool, gains: (i32, i32), pcm: &[i16]) {
        let start = at - self.written;
        let cut = usize::try_from(-start).unwrap_or(0).min(pcm.len());
        let pcm = &pcm[cut..];
        let start = usize::try_from(start).unwrap_or(0);
        let track = if right && !self.right.is_empty() {
            &mut self.right
        } else {
            &mut self.left
        };
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
    fn silence(&mut self, from: usize, to: usize) {
        let end = to.min(self.left.len());
        self.left[from.min(end)..end].fill(0);
        if !self.right.is_empty() {
            self.right[from.min(end)..end].fill(0);
        }
    }

    /// Gives all samples before `horizon`, limited.
    fn give(&mut self, horizon: i64, stereo: bool, each: &mut impl FnMut(&[i16])) {
        const PIECE: usize = 480;
        let count = (horizon - self.written) as usize;
        let (mut left, mut right, mut both) = ([0; PIECE], [0; PIECE], [0; 2 * PIECE]);
        let mut done = 0;
        while done < count {
            let end = (done + PIECE).min(count);
            let pcm = &mut left[..end - done];
            self.limiters[0].all(&self.left[done..end], pcm);
            if stereo {
                let other = &mut right[..end - done];
                self.limiters[1].all(&self.right[done..end], other);
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
        for track in [&mut self.left, &mut self.right] {
            if !track.is_empty() {
                track.copy_within(count..filled, 0);
                track[filled - count..filled].fill(0);
            }
        }
        self.filled = filled - count;
        self.written = horizon;
    }
}
