//! One leg of a recording: packets in the order of their stream, decoded, and placed on the host's timeline.
//!
//! Within a run (one SSRC, one timestamp line) RTP timestamps say where a packet belongs. What ties a run to the timeline
//! is its quickest packets: the least delay that any of them had. A peer whose clock is fast or slow shows in that least
//! delay, and its frames are stretched or squeezed by single samples to stay where they belong. A timestamp that jumps,
//! or stands still through a silence, begins a new run.

use std::collections::VecDeque;

use codecs::{CodecKind, Decoder, resample::Resampler};

use super::{
    background::Background,
    ring::{Placing, Position},
    stretch,
};
use crate::limits;

/// The least delay is looked for over this long, then the run is moved by it.
const WINDOW_MS: i64 = 4_000;
/// A window of fewer packets says nothing about the least delay.
const WINDOW_PACKETS: u32 = 50;
/// A packet that came this long before its place was jumped to.
const EARLY_MS: i64 = 150;
/// One that came this long after it too, unless others of its run were quicker.
const LATE_MS: i64 = 500;
/// After a silence the run is moved at once, when it is off by more than this.
const RESYNC_MS: i64 = 10;
/// What came this long after the one before it came after a silence.
const SILENCE_MS: i64 = 200;
/// What is lost is made up for at most this long; the rest is silent.
const CONCEAL_MS: i64 = 100;
/// A frame is stretched or squeezed by one part in this many at most; more is a gap or an overlap.
const STRETCH_MAX: i64 = 32;
/// A run that is off by more than this is moved as fast as nobody hears it.
const GENTLE_MS: i64 = 20;
/// Longest packet at the highest rate, in samples.
pub(super) const PACKET_SAMPLES_MAX: usize = 48 * 120;
/// So many payloads are kept to be filled again: what comes between two turns.
const SPARE_MAX: usize = 16;
/// Clock of what comes from a mixer.
const MIX_CLOCK_HZ: u32 = 48_000;

/// Where a leg adds its samples; positions are in samples since the recording's start.
pub(super) trait Track {
    /// Adds samples from `at` on; what lies before the beginning or is written already is left out.
    fn add(&mut self, at: i64, right: bool, gains: (i32, i32), pcm: &[i16]);
}

/// Space to decode in.
#[derive(Debug)]
pub(super) struct Bench {
    decoded: Box<[i16]>,
    resampled: Box<[i16]>,
    stretched: Box<[i16]>,
}

impl Default for Bench {
    fn default() -> Self {
        let space =
            || vec![0; PACKET_SAMPLES_MAX + PACKET_SAMPLES_MAX / STRETCH_MAX as usize].into_boxed_slice();
        Self {
            decoded: space(),
            resampled: vec![0; 6 * PACKET_SAMPLES_MAX].into_boxed_slice(),
            stretched: vec![0; 7 * PACKET_SAMPLES_MAX].into_boxed_slice(),
        }
    }
}

/// What is known of a leg, for the sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LegReport {
    /// The node it is.
    pub node: String,
    /// Its channel is the right one.
    pub right: bool,
    /// Packets placed.
    pub packets: u64,
    /// Packets that came after their time had been written.
    pub late: u64,
    /// What was made up in place of lost packets, in samples of the file.
    pub concealed_samples: u64,
    /// Beginnings of runs after the first: other SSRCs, jumps of the timestamp.
    pub restarts: u64,
    /// Where its first sample is.
    pub first_sample: Option<u64>,
}

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Coded(CodecKind),
    /// Samples at a rate, low byte first.
    Mixed(u32),
    /// A description of the silence from here on, on this clock.
    Noise(u32),
    /// A telephone-event: nothing, which is not lost.
    Event,
}

impl Content {
    fn clock_hz(self) -> u32 {
        match self {
            Self::Coded(kind) => kind.clock_rate_hz(),
            Self::Mixed(_) => MIX_CLOCK_HZ,
            Self::Noise(hz) => hz,
            // Whatever its timestamp says, it tells no place.
            Self::Event => 0,
        }
    }
}

#[derive(Debug)]
struct Packet {
    /// Arrival, in samples of the file since the recording's start.
    arrival: f64,
    timestamp: u32,
    placing: Placing,
    content: Content,
    payload: Vec<u8>,
}

/// A stream, in a turn of packets or of frames.
type Stream = (u32, u64);
/// Stream and extended sequence number.
type Place = (Stream, u64);

/// A stretch of packets whose timestamps count on.
#[derive(Debug, Clone, Copy)]
struct Run {
    stream: Stream,
    clock_hz: u32,
    /// Of the packet placed last.
    sequence: u64,
    timestamp: u32,
    arrival: f64,
    /// Where the packet placed last belongs.
    position: f64,
    /// How much of the least delay is still to be moved by, how much of it in each frame, and what is due now.
    owed: f64,
    pace: f64,
    credit: f64,
    /// The window: when it began, the least delay in it, its packets.
    window_at: f64,
    window_least: f64,
    window_packets: u32,
}

#[derive(Debug)]
struct Chain {
    content: Content,
    /// `None` for what is not coded.
    decoder: Option<Decoder>,
    rate_hz: u32,
    resampler: Option<Resampler>,
    /// By how many samples of the file the resampler trails.
    lag: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Leg {
    rate_hz: u32,
    /// In their order, which is nearly always that in which they came.
    waiting: VecDeque<(Place, Packet)>,
    /// Payloads to be filled again.
    spare: Vec<Vec<u8>>,
    /// How often packets took the place of frames of a mix, or these of those, and which come now: the numbers of one say nothing
    /// of the other.
    turn: u32,
    mixed: bool,
    /// What was placed last; nothing before it is taken any more.
    placed: Option<Place>,
    run: Option<Run>,
    chain: Option<Chain>,
    /// Its party is silent, and said so.
    background: Option<Background>,
    /// Telephone-events since the packet placed last.
    events: u64,
    /// Length of the sound placed last.
    frame: i64,
    /// Everything before is placed.
    cursor: i64,
    /// What is placed next does not continue what was placed before.
    broken: bool,
    gain: Option<i32>,
    report: LegReport,
}

impl Leg {
    pub(super) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            turn: 0,
            mixed: false,
            placed: None,
            run: None,
            chain: None,
            background: None,
            events: 0,
            frame: 0,
            cursor: 0,
            broken: true,
            gain: None,
            report: LegReport::default(),
        }
    }

    pub(super) fn name(&mut self, node: &str) {
        self.report.node = node.into();
    }

    pub(super) fn report(&self) -> &LegReport {
        &self.report
    }

    /// Takes a packet that came at `arrival`, in samples of the file.
    pub(super) fn push(
        &mut self,
        arrival: f64,
        placing: Placing,
        position: Position,
        content: Content,
        payload: &[u8],
    ) {
        let mixed = matches!(content, Content::Mixed(_));
        self.turn += u32::from(std::mem::replace(&mut self.mixed, mixed) != mixed);
        let key = ((self.turn, position.stream), position.sequence);
        if self.placed.is_some_and(|placed| key <= placed) {
            self.report.late += 1;
            return;
        }
        if self.waiting.len() >= limits::RECORDING_PACKETS_WAITING_MAX {
            self.waiting.pop_front();
            self.report.late += 1;
        }
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.extend_from_slice(payload);
        let packet = Packet {
            arrival,
            timestamp: position.timestamp,
            placing,
            content,
            payload: kept,
        };
        let at = match self.waiting.back() {
            Some((last, _)) if *last >= key => self.waiting.partition_point(|(other, _)| *other < key),
            Some(_) | None => self.waiting.len(),
        };
        match self.waiting.get_mut(at) {
            Some((other, twice)) if *other == key => *twice = packet,
            Some(_) | None => self.waiting.insert(at, (key, packet)),
        }
    }

    /// Places every packet that belongs before `horizon`.
    pub(super) fn place(&mut self, horizon: i64, track: &mut impl Track, bench: &mut Bench) {
        while let Some((key, packet)) = self.next() {
            let (stream, sequence) = key;
            let (run, begins) = self.run_for(stream, sequence, packet);
            let between = match &self.run {
                Some(before) if !(self.broken || begins) => {
                    sequence.wrapping_sub(before.sequence).saturating_sub(1)
                }
                Some(_) | None => 0,
            };
            let wanted = run.position.round() as i64;
            if self.sounds_from(wanted, between, packet.content) >= horizon {
                break;
            }
            self.fill(wanted, track, bench);
            self.report.restarts += u64::from(begins && self.run.is_some());
            self.broken |= begins;
            self.run = Some(run);
            self.pass_events(|before, _| before < key);
            self.placed = Some(key);
            let events = std::mem::take(&mut self.events);
            let lost = self.is_loss(wanted, between.saturating_sub(events), events);
            // Nothing but events was in front of it.
            if let Some((_, mut packet)) = self.waiting.pop_front() {
                match packet.content {
                    Content::Noise(hz) => self.hush(wanted, hz, &packet),
                    Content::Coded(_) | Content::Mixed(_) => self.put(wanted, lost, &packet, track, bench),
                    Content::Event => {}
                }
                if self.spare.len() < SPARE_MAX {
                    packet.payload.clear();
                    self.spare.push(packet.payload);
                }
            }
        }
        // Those behind which nothing came.
        self.pass_events(|_, event| event.arrival < horizon as f64);
        self.fill(horizon, track, bench);
    }

    /// Where something of a packet at `wanted` is heard first: what is `missing` before it is made up for, and what is resampled
    /// trails and is put back.
    fn sounds_from(&self, wanted: i64, missing: u64, content: Content) -> i64 {
        let chain = self.chain.as_ref().filter(|chain| chain.content == content);
        let most = i64::from(self.rate_hz) * CONCEAL_MS / 1_000;
        let made_up = missing > 0 && (0..=most).contains(&(wanted - self.cursor));
        let from = if made_up { self.cursor } else { wanted };
        from - chain.map_or(0, |chain| chain.lag)
    }

    /// The next packet with anything to place.
    fn next(&self) -> Option<(Place, &Packet)> {
        let mut waiting = self.waiting.iter();
        let (key, packet) = waiting.find(|(_, packet)| packet.content != Content::Event)?;
        Some((*key, packet))
    }

    /// The telephone-events in front that are `due` are over with.
    fn pass_events(&mut self, due: impl Fn(Place, &Packet) -> bool) {
        while let Some((key, packet)) = self.waiting.front()
            && packet.content == Content::Event
            && due(*key, packet)
        {
            self.placed = Some(*key);
            self.events += 1;
            self.waiting.pop_front();
        }
    }

    /// Whether what is missing before `wanted` are the `missing` packets, rather than time that passed while there were
    /// `events` in the place of sound. Who sends both at once may lose sound all the same.
    fn is_loss(&self, wanted: i64, missing: u64, events: u64) -> bool {
        let lost = i64::try_from(missing)
            .unwrap_or(i64::MAX)
            .saturating_mul(self.frame);
        missing > 0 && (events == 0 || wanted - self.cursor <= lost.saturating_add(self.frame / 2))
    }

    /// A silence begins at `wanted`, or goes on.
    fn hush(&mut self, wanted: i64, clock_hz: u32, packet: &Packet) {
        let before = self.background.take();
        let resampler = self.chain.as_mut().and_then(|chain| chain.resampler.as_mut());
        if let Some(resampler) = resampler.filter(|_| before.is_none()) {
            // Nothing of the speech before it rings on into what comes after it.
            resampler.reset();
        }
        self.background = Background::new(&packet.payload, clock_hz, self.rate_hz, packet.placing, before);
        self.cursor = self.cursor.max(wanted);
        self.broken = false;
    }

    /// The silence that was told, if one was, goes on until `until`.
    fn fill(&mut self, until: i64, track: &mut impl Track, bench: &mut Bench) {
        while let Some(background) = self.background.as_mut().filter(|_| self.cursor < until) {
            let most = usize::try_from(until - self.cursor).unwrap_or(usize::MAX);
            let samples = background.make(most, &mut bench.decoded, &mut bench.resampled);
            if samples == 0 {
                self.background = None;
                return;
            }
            let Placing { right, gain, .. } = background.placing();
            track.add(self.cursor, right, (gain, gain), &bench.resampled[..samples]);
            self.count(self.cursor, samples);
        }
    }

    /// The run that `packet` belongs to, moved on to it, and whether it begins: the one before, corrected if need be, or another one.
    fn run_for(&self, stream: Stream, sequence: u64, packet: &Packet) -> (Run, bool) {
        let ms = |ms: i64| (ms * i64::from(self.rate_hz) / 1_000) as f64;
        let clock_hz = packet.content.clock_hz();
        let goes_on = |run: &Run| run.stream == stream && run.clock_hz == clock_hz;
        let Some(run) = self.run.filter(goes_on) else {
            let mut begun = self.begin(stream, sequence, packet);
            advance(&mut begun, self.rate_hz, sequence, packet);
            return (begun, true);
        };
        let mut next = run;
        advance(&mut next, self.rate_hz, sequence, packet);
        let delay = packet.arrival - next.position;
        let silent = packet.arrival - run.arrival > ms(SILENCE_MS);
        let jumped = delay < -ms(EARLY_MS) || delay > ms(LATE_MS);
        if !(jumped || silent) {
            return (next, false);
        }
        let least = self.least_delay(stream, &next);
        let off = if jumped { ms(EARLY_MS) } else { ms(RESYNC_MS) };
        if least.abs() < off {
            return (next, false);
        }
        let mut moved = Run {
            position: run.position + least,
            owed: 0.0,
            pace: 0.0,
            credit: 0.0,
            window_at: packet.arrival,
            window_least: f64::INFINITY,
            window_packets: 0,
            ..run
        };
        advance(&mut moved, self.rate_hz, sequence, packet);
        (moved, jumped)
    }

    /// A run that begins with `packet`.
    fn begin(&self, stream: Stream, sequence: u64, packet: &Packet) -> Run {
        let mut run = Run {
            stream,
            clock_hz: packet.content.clock_hz(),
            sequence: sequence.wrapping_sub(1),
            timestamp: packet.timestamp,
            arrival: packet.arrival,
            position: packet.arrival,
            owed: 0.0,
            pace: 0.0,
            credit: 0.0,
            window_at: packet.arrival,
            window_least: f64::INFINITY,
            window_packets: 0,
        };
        run.position += self.least_delay(stream, &run);
        run
    }

    /// The least delay of what waits of a stream, against `run`: negative when something came before its place.
    fn least_delay(&self, stream: Stream, run: &Run) -> f64 {
        let scale = f64::from(self.rate_hz) / f64::from(run.clock_hz);
        let begin = self.waiting.partition_point(|((other, _), _)| *other < stream);
        let of_run = self.waiting.range(begin..);
        of_run
            .take_while(|((other, _), _)| *other == stream)
            .filter(|(_, packet)| packet.content.clock_hz() == run.clock_hz)
            .map(|(_, packet)| {
                let ticks = packet.timestamp.wrapping_sub(run.timestamp) as i32;
                packet.arrival - (run.position + f64::from(ticks) * scale)
            })
            .fold(f64::INFINITY, f64::min)
    }

    /// Decodes a packet and adds it where it belongs, after what was lost before it.
    fn put(&mut self, wanted: i64, lost: bool, packet: &Packet, track: &mut impl Track, bench: &mut Bench) {
        if self
            .chain
            .as_ref()
            .is_none_or(|chain| chain.content != packet.content)
        {
            self.chain = Chain::new(packet.content, self.rate_hz);
            self.broken = true;
        }
        self.background = None;
        let Some(chain) = &mut self.chain else { return };
        self.report.packets += 1;
        self.report.right = packet.placing.right;
        let gain = packet.placing.gain;
        let gains = (self.gain.replace(gain).unwrap_or(gain), gain);
        let right = packet.placing.right;
        let limit = i64::from(self.rate_hz) * CONCEAL_MS / 1_000;
        if lost && wanted > self.cursor {
            let samples = (wanted - self.cursor).min(limit);
            let made_up = chain.make_up(samples, self.rate_hz, &packet.payload, bench);
            track.add(
                self.cursor - chain.lag,
                right,
                (gains.0, gains.0),
                &bench.resampled[..made_up],
            );
            self.report.concealed_samples += made_up as u64;
            self.cursor += made_up as i64;
        }
        let samples = chain.decode(&packet.payload, bench);
        if samples == 0 {
            return;
        }
        self.frame = samples as i64;
        let gap = wanted - self.cursor;
        let most = samples as i64 / STRETCH_MAX;
        let pcm = &bench.resampled[..samples];
        if self.broken || gap > most {
            // Silence before it: nothing of the past rings on into it.
            if let Some(resampler) = chain.resampler.as_mut().filter(|_| gap.abs() > most) {
                resampler.reset();
            }
            self.broken = false;
            let from = self.cursor.max(wanted);
            self.add(from, wanted, right, gains, samples, track, bench);
        } else if gap < -most {
            self.add(self.cursor, wanted, right, gains, samples, track, bench);
        } else if gap == 0 {
            track.add(self.cursor - chain.lag, right, gains, pcm);
            self.count(self.cursor, samples);
        } else {
            let longer = (samples as i64 + gap) as usize;
            stretch::stretch(pcm, &mut bench.stretched[..longer]);
            track.add(self.cursor - chain.lag, right, gains, &bench.stretched[..longer]);
            self.count(self.cursor, longer);
        }
    }

    /// Adds what was decoded for `wanted`, without what lies before `from`.
    #[expect(clippy::too_many_arguments, reason = "one frame and where it goes")]
    fn add(
        &mut self,
        from: i64,
        wanted: i64,
        right: bool,
        gains: (i32, i32),
        samples: usize,
        track: &mut impl Track,
        bench: &Bench,
    ) {
        let lag = self.chain.as_ref().map_or(0, |chain| chain.lag);
        let cut = usize::try_from(from - wanted).unwrap_or(0).min(samples);
        if cut < samples {
            track.add(from - lag, right, gains, &bench.resampled[cut..samples]);
            self.count(from, samples - cut);
        }
    }

    fn count(&mut self, at: i64, samples: usize) {
        self.report.first_sample.get_or_insert(at.max(0) as u64);
        self.cursor = at + samples as i64;
    }
}

/// Moves `run` on to `packet`.
fn advance(run: &mut Run, rate_hz: u32, sequence: u64, packet: &Packet) {
    let ms = |ms: i64| (ms * i64::from(rate_hz) / 1_000) as f64;
    let ticks = packet.timestamp.wrapping_sub(run.timestamp) as i32;
    let passed = f64::from(ticks) * f64::from(rate_hz) / f64::from(run.clock_hz);
    // A frame is some 20 ms: what it can give without being heard. Evenly, until the next window ends.
    let frame = passed.clamp(0.0, ms(120));
    let most = (frame / (2 * STRETCH_MAX) as f64).floor();
    let pace = if run.owed.abs() > ms(GENTLE_MS) {
        run.owed
    } else {
        run.pace
    };
    run.credit = (run.credit + pace).clamp(-most - 1.0, most + 1.0);
    let moved = run.credit.clamp(-most, most).trunc();
    let moved = moved.clamp(run.owed.min(0.0), run.owed.max(0.0)).trunc();
    run.credit -= moved;
    run.owed -= moved;
    run.position += passed + moved;
    run.sequence = sequence;
    run.timestamp = packet.timestamp;
    run.arrival = packet.arrival;

    run.window_least = run.window_least.min(packet.arrival - run.position - run.owed);
    run.window_packets += 1;
    if packet.arrival - run.window_at >= ms(WINDOW_MS) {
        if run.window_packets >= WINDOW_PACKETS {
            run.owed += run.window_least;
            run.pace = run.owed / f64::from(run.window_packets);
            run.credit = 0.0;
        }
        run.window_at = packet.arrival;
        run.window_least = f64::INFINITY;
        run.window_packets = 0;
    }
}

impl Chain {
    /// `None` for what cannot be decoded, which no worker sends.
    fn new(content: Content, rate_hz: u32) -> Option<Self> {
        let (decoder, own_hz) = match content {
            // Which is made elsewhere.
            Content::Noise(_) | Content::Event => return None,
            Content::Mixed(hz) => (None, hz),
            Content::Coded(kind) => {
                // Opus decodes to whatever rate is asked for.
                let hz = if kind.runs_at(rate_hz) {
                    rate_hz
                } else {
                    kind.sample_rate_hz()
                };
                (Some(Decoder::new(kind, hz).ok()?), hz)
            }
        };
        let resampler = match own_hz == rate_hz {
            true => None,
            false => Some(Resampler::new(own_hz, rate_hz).ok()?),
        };
        let delay_ms = resampler
            .as_ref()
            .map_or(0.0, |resampler| resampler.delay_ms(own_hz));
        Some(Self {
            content,
            decoder,
            rate_hz: own_hz,
            resampler,
            lag: (delay_ms * f64::from(rate_hz) / 1_000.0).round() as i64,
        })
    }

    /// Decodes into the bench; the samples at the file's rate.
    fn decode(&mut self, payload: &[u8], bench: &mut Bench) -> usize {
        let Bench {
            decoded, resampled, ..
        } = bench;
        let pcm = match self.resampler {
            Some(_) => &mut **decoded,
            None => &mut resampled[..decoded.len()],
        };
        let samples = match &mut self.decoder {
            Some(decoder) => decoder.decode(payload, pcm).unwrap_or(0),
            None => {
                let samples = payload.as_chunks::<2>().0;
                let count = samples.len().min(pcm.len());
                for (to, sample) in pcm.iter_mut().zip(samples) {
                    *to = i16::from_le_bytes(*sample);
                }
                count
            }
        };
        match &mut self.resampler {
            Some(resampler) => resampler.process(&decoded[..samples], resampled).unwrap_or(0),
            None => samples,
        }
    }

    /// Makes up `samples` of the file before a packet whose payload is `next`; how many it became. Nothing of a mixer gets
    /// lost: what it leaves out is silence.
    fn make_up(&mut self, samples: i64, file_hz: u32, next: &[u8], bench: &mut Bench) -> usize {
        let Some(decoder) = &mut self.decoder else {
            return 0;
        };
        let own = (samples * i64::from(self.rate_hz) / i64::from(file_hz)) as usize;
        let pcm = &mut bench.decoded[..own.min(PACKET_SAMPLES_MAX)];
        // What the next packet repeats is the last frame before it.
        let frame = pcm.len().min((self.rate_hz / 50) as usize);
        let (first, last) = pcm.split_at_mut(pcm.len() - frame);
        for piece in first.chunks_mut(frame.max(1)) {
            decoder.conceal(piece);
        }
        if !last.is_empty() {
            decoder.recover(next, last);
        }
        let made_up = pcm.len();
        self.resample(made_up, bench)
    }

    fn resample(&mut self, decoded: usize, bench: &mut Bench) -> usize {
        let pcm = &bench.decoded[..decoded];
        match &mut self.resampler {
            Some(resampler) => resampler.process(pcm, &mut bench.resampled).unwrap_or(0),
            None => {
                bench.resampled[..decoded].copy_from_slice(pcm);
                decoded
            }
        }
    }
}
