//! From a source's packets to frames of a tick: jitter buffer, decoder, concealment, silence that was told, and the
//! session's sampling rate.

use std::time::Instant;

use rtp::units::ExtendedSeq;

use codecs::{
    CodecKind, Decoder, opus,
    resample::{DriftResampler, Progress, Resampler},
};

use super::{
    Egress,
    jitter::{Jitter, Next, PACKET_MS_MAX},
    line::{Arrival, StreamId},
    plan::codec_kind,
    polish::Polish,
    prefetch::prefetch_all,
    silence::{ComfortNoise, Silence, SilenceOf},
    tick::TICK_MS,
};
use crate::spec::EndpointSpec;

/// What a tick of a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulled {
    /// There is nothing to hear.
    Nothing,
    /// The peer said that it is silent; what is heard is the noise of that.
    Silence,
    /// Something that was sent, or made up for it.
    Sound,
}

/// The longest packet and what was left of the one before it and is played with it.
const READY_MS_MAX: u32 = PACKET_MS_MAX + 2 * TICK_MS;

/// Space to work in, at the highest rate; shared by all sources of an engine, so that it is never cold.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// One packet as it is decoded.
    pub(crate) pcm: Box<[i16]>,
    /// What is ready to be played of the source whose turn it is.
    line: Box<[i16]>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let space = |ms: u32| vec![0; 48 * ms as usize].into_boxed_slice();
        Self {
            pcm: space(PACKET_MS_MAX),
            line: space(READY_MS_MAX),
        }
    }
}

/// One source. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct Decoding {
    rate_hz: u32,
    jitter: Jitter,
    /// One for each format the peer may send; unset where it cannot be decoded.
    chains: Box<[Option<Chain>]>,
    /// The same for those that describe silence; empty where none does.
    noises: Box<[Option<Box<ComfortNoise>>]>,
    /// The peer is silent, and said so.
    silence: Option<Silence>,
    /// Format of the latest packet.
    current: Option<usize>,
    /// Decoded and not yet played, at the session's rate. Between ticks, and mostly nothing: during one it lies in
    /// [`Scratch::line`].
    ready: Box<[i16]>,
    ready_samples: usize,
    /// Up to here that is sound; the rest is the noise of a silence.
    ready_sound: usize,
    pace: Pace,
    /// What is done to it before it is heard.
    pub(crate) polish: Option<Box<Polish>>,
    /// The session's tick rests, or its source: the next packet is to wake it.
    pub(crate) asleep: bool,
    /// Nobody hears it any more: packets are not taken.
    pub(crate) retired: bool,
}

/// Plays a little faster or slower, so that the delay stays where it is although the peer's clock is not ours.
#[derive(Debug)]
struct Pace {
    resampler: DriftResampler,
    /// Samples pass the resampler, from when the delay is to be corrected until it was and a sample is whole.
    engaged: bool,
    /// It was: the resampler is on its way to a whole sample.
    ends: bool,
    /// The end of what was played without it.
    played: [i16; DriftResampler::PAST_SAMPLES],
}

impl Pace {
    /// Plays so much faster from now on; 0: as it is, as soon as that can be. Gives the samples that `count` need.
    fn set(&mut self, drift_ppm: i32, count: usize) -> usize {
        self.ends = drift_ppm == 0;
        if !self.engaged && self.ends {
            return count;
        }
        if !self.engaged {
            self.engaged = true;
            self.resampler.begin(&self.played);
        }
        match self.ends {
            true => self.resampler.turn_to_whole(),
            false => self.resampler.set_drift_ppm(drift_ppm),
        }
        self.resampler.input_needed(count)
    }

    fn process(&mut self, ready: &[i16], frame: &mut [i16]) -> Progress {
        match self.ends {
            true => self.resampler.process_to_whole(ready, frame),
            false => self.resampler.process(ready, frame),
        }
    }
}

#[derive(Debug)]
struct Chain {
    kind: CodecKind,
    rate_hz: u32,
    decoder: Decoder,
    /// To the session's rate, where the decoder does not give that.
    resampler: Option<Resampler>,
}

impl Chain {
    fn new(kind: CodecKind, rate_hz: u32) -> Option<Self> {
        // Opus decodes to whatever rate is asked for.
        let own_hz = if kind.runs_at(rate_hz) {
            rate_hz
        } else {
            kind.sample_rate_hz()
        };
        let resampler = if own_hz == rate_hz {
            None
        } else {
            Some(Resampler::new(own_hz, rate_hz).ok()?)
        };
        Some(Self {
            kind,
            rate_hz: own_hz,
            decoder: Decoder::new(kind, own_hz).ok()?,
            resampler,
        })
    }
}

impl Decoding {
    /// `seed`: of the noise that it may make.
    pub(crate) fn new(spec: &EndpointSpec, rate_hz: u32, seed: u64) -> Self {
        let samples = (rate_hz / 1_000 * READY_MS_MAX) as usize;
        Self {
            rate_hz,
            jitter: Jitter::new(spec.jitter_ms_max, bytes_per_ms(spec)),
            chains: chains(spec, rate_hz),
            noises: ComfortNoise::of(spec, rate_hz, seed),
            silence: None,
            current: None,
            ready: vec![0; samples].into_boxed_slice(),
            ready_samples: 0,
            ready_sound: 0,
            pace: Pace {
                resampler: DriftResampler::new(),
                engaged: false,
                ends: false,
                played: [0; DriftResampler::PAST_SAMPLES],
            },
            polish: Polish::new(spec.polish, rate_hz, None),
            asleep: false,
            retired: false,
        }
    }

    /// The same for a spec and a rate that may have changed: packets that wait are kept where they can be.
    pub(crate) fn adapted(mut self, spec: &EndpointSpec, rate_hz: u32) -> Self {
        if !self
            .polish
            .as_ref()
            .is_some_and(|polish| polish.fits(spec.polish, rate_hz))
        {
            self.polish = Polish::new(spec.polish, rate_hz, self.polish.take());
        }
        let kinds = spec.receive.iter().map(codec_kind);
        let noise_hz = |at: usize| Some(self.noises.get(at)?.as_ref()?.own_hz());
        let same_formats = self.chains.len() == spec.receive.len()
            && (spec.receive.iter().enumerate())
                .all(|(at, format)| noise_hz(at) == ComfortNoise::rate_of(format))
            && kinds
                .zip(&self.chains)
                .all(|(kind, chain)| kind == chain.as_ref().map(|chain| chain.kind))
            && self.jitter.shape() == Jitter::shape_of(spec.jitter_ms_max, bytes_per_ms(spec));
        if same_formats && self.rate_hz == rate_hz {
            return self;
        }
        let mut new = Self::new(spec, rate_hz, 0);
        if !same_formats {
            return Self {
                polish: self.polish,
                ..new
            };
        }
        for (noise, before) in new.noises.iter_mut().zip(&self.noises) {
            if let (Some(noise), Some(before)) = (noise, before) {
                noise.go_on_from(before);
            }
        }
        Self {
            polish: self.polish,
            jitter: self.jitter,
            silence: self.silence,
            current: self.current,
            asleep: self.asleep,
            ..new
        }
    }

    /// It begins in the middle of a silence that was described so, `gone_ms` ago.
    pub(crate) fn begin_silent(&mut self, format: usize, payload: &[u8], gone_ms: u32) {
        if let Some(Some(noise)) = self.noises.get_mut(format)
            && noise.describe(payload, true)
        {
            self.silence = Silence::told(SilenceOf::Noise(format)).after(gone_ms);
        }
    }

    /// Takes a packet in; true if the session's tick is to be woken. Kept out of the relay's path.
    #[inline(never)]
    pub(crate) fn push(&mut self, now: Instant, arrival: &Arrival, format: usize, payload: &[u8]) -> bool {
        if self.retired {
            return false;
        }
        if arrival.event {
            self.jitter.note_event(arrival);
            return false;
        }
        let ticks = match (self.chains.get(format), self.noises.get(format)) {
            (Some(Some(chain)), _) => chain.kind.payload_ticks(payload).unwrap_or(0),
            // It has no length of its own: it says what is from here on.
            (_, Some(Some(_))) => 1,
            (Some(None) | None, _) => 0,
        };
        self.jitter.push(now, arrival, format as u8, ticks, payload);
        self.asleep
    }

    /// A hint: [`Self::pull`] is called soon.
    pub(super) fn prefetch(&self, tx: &impl Egress) {
        self.jitter.prefetch(tx);
        prefetch_all(tx, &self.ready[..self.ready_samples]);
        if let Some(chain) = self.current.and_then(|current| self.chains.get(current)) {
            prefetch_all(tx, chain);
        }
    }

    /// The next tick of the source in `frame`; zeros when there is nothing to hear.
    pub(crate) fn pull(&mut self, now: Instant, frame: &mut [i16], scratch: &mut Scratch) -> Pulled {
        let plays = self.jitter.tick(now);
        if !plays && self.ready_samples == 0 && self.silence.is_none() {
            self.pace.engaged = false;
            frame.fill(0);
            return Pulled::Nothing;
        }
        let needed = self.pace.set(self.jitter.drift_ppm(), frame.len());
        scratch.line[..self.ready_samples].copy_from_slice(&self.ready[..self.ready_samples]);
        if plays || self.ready_sound > 0 {
            self.fill(needed, scratch);
        }
        self.be_silent(needed, scratch);
        let sounds = self.ready_sound > 0 || self.silence.is_none();
        let converted = match self.pace.engaged {
            true => self.convert(frame, sounds, &mut scratch.line),
            false => 0,
        };
        let rest = &mut frame[converted..];
        let count = rest.len().min(self.ready_samples);
        rest[..count].copy_from_slice(&scratch.line[..count]);
        rest[count..].fill(0);
        self.take(count, &mut scratch.line);
        self.ready[..self.ready_samples].copy_from_slice(&scratch.line[..self.ready_samples]);
        let end = frame.len() - DriftResampler::PAST_SAMPLES;
        self.pace.played.copy_from_slice(&frame[end..]);
        self.jitter.note_held(self.ready_samples as u32, self.rate_hz);
        match sounds {
            true => Pulled::Sound,
            false => Pulled::Silence,
        }
    }

    /// Fills `frame` from what is ready, at a pace that is not its own; gives how far. Less than all: it goes on as it is,
    /// at a whole sample or because the stream paused.
    fn convert(&mut self, frame: &mut [i16], sounds: bool, line: &mut [i16]) -> usize {
        let progress = self.pace.process(&line[..self.ready_samples], frame);
        self.take(progress.consumed, line);
        if progress.produced < frame.len() {
            self.pace.engaged = false;
            let ahead = self.pace.resampler.ahead_samples();
            line.copy_within(..self.ready_samples, ahead);
            self.pace.resampler.copy_ahead(&mut line[..ahead]);
            self.ready_samples += ahead;
            self.ready_sound += if sounds { ahead } else { 0 };
        }
        progress.produced
    }

    /// So many samples were played.
    fn take(&mut self, count: usize, line: &mut [i16]) {
        line.copy_within(count..self.ready_samples, 0);
        self.ready_samples -= count;
        self.ready_sound = self.ready_sound.saturating_sub(count);
    }

    /// Ticks were left out: so is what belonged to them.
    pub(crate) fn miss(&mut self, ticks: u32) {
        self.ready_samples = 0;
        self.ready_sound = 0;
        self.pace.engaged = false;
        self.silence = self.silence.and_then(|silence| silence.after(ticks * TICK_MS));
        self.jitter.pass(ticks * TICK_MS);
    }

    /// So many samples were decoded of the latest packet and not played yet.
    pub(crate) fn rest_samples(&self) -> usize {
        let ahead = match self.pace.engaged {
            true => self.pace.resampler.ahead_samples(),
            false => 0,
        };
        ahead + self.ready_sound
    }

    /// Copies what was decoded of the latest packet and not played yet; gives how many samples that are.
    pub(crate) fn copy_rest(&self, pcm: &mut [i16]) -> usize {
        let ahead = match self.pace.engaged {
            true => self.pace.resampler.copy_ahead(pcm),
            false => 0,
        };
        let ready = &self.ready[..self.ready_sound.min(pcm.len() - ahead)];
        pcm[ahead..ahead + ready.len()].copy_from_slice(ready);
        ahead + ready.len()
    }

    /// See [`Jitter::played`].
    pub(crate) fn played(&self) -> (StreamId, ExtendedSeq) {
        self.jitter.played()
    }

    /// Nothing waits and nothing plays.
    pub(crate) fn is_idle(&self) -> bool {
        let rests = self.polish.as_ref().is_none_or(|polish| polish.is_idle());
        self.jitter.is_idle() && self.ready_samples == 0 && self.silence.is_none() && rests
    }

    /// The packets that were not played yet, in the order of the stream.
    pub(crate) fn waiting(&self, each: impl FnMut(&Arrival, u8, &[u8])) {
        // What waits where nobody has listened for long is stale.
        if !self.retired {
            self.jitter.waiting(each);
        }
    }

    /// Decodes, or makes up, until `samples` are ready or the stream paused.
    fn fill(&mut self, samples: usize, scratch: &mut Scratch) {
        while self.ready_samples < samples {
            match self.jitter.next() {
                Next::Packet(place) => {
                    if self.play(place, scratch) && self.jitter.pause() {
                        // Nothing is sent until the peer speaks again: that is no loss to be concealed.
                        return;
                    }
                }
                Next::Lost { ms, follower, joins } => {
                    match self.silence {
                        // Not lost, but not sent: what follows came early.
                        Some(silence) => self.make_silence(silence, ms, scratch),
                        None if self.jitter.is_event_next(Some(follower)) => self.be_still(ms, scratch),
                        None => {
                            self.make_up(ms, joins.then_some(follower), scratch);
                            self.ready_sound = self.ready_samples;
                        }
                    }
                    self.jitter.pass(ms);
                }
                // The peer is silent, or a key of it is down: that is no loss either.
                Next::Late if self.silence.is_some() => {
                    self.jitter.pause();
                    return;
                }
                Next::Late if self.jitter.is_event_next(None) => {
                    self.break_off();
                    self.jitter.pause();
                    return;
                }
                Next::Late => {
                    self.make_up(TICK_MS, None, scratch);
                    self.ready_sound = self.ready_samples;
                    if !self.jitter.made_up(TICK_MS) {
                        return;
                    }
                }
            }
        }
    }

    /// Decodes the packet in `place`. True if it says that the peer will be silent.
    fn play(&mut self, place: usize, scratch: &mut Scratch) -> bool {
        let (format, payload) = self.jitter.take(place);
        let format = usize::from(format);
        if let Some(Some(noise)) = self.noises.get_mut(format) {
            let of = SilenceOf::Noise(format);
            let begins = self.silence.is_none_or(|silence| silence.of != of);
            // What says nothing is silence all the same.
            self.silence = noise.describe(payload, begins).then(|| Silence::told(of));
            if begins {
                self.break_off();
            }
            return true;
        }
        let Some(Some(chain)) = self.chains.get_mut(format) else {
            return false;
        };
        self.current = Some(format);
        let is_last = chain.kind == CodecKind::Opus && opus::is_dtx(payload);
        let decoded = chain.decoder.decode(payload, &mut scratch.pcm).ok();
        // A payload that only looked like one: its time passes as if it had been lost.
        let decoded = decoded.unwrap_or_else(|| {
            let lost = (chain.rate_hz / 1_000 * TICK_MS) as usize;
            chain.decoder.conceal(&mut scratch.pcm[..lost]);
            lost
        });
        self.silence = is_last.then(|| Silence::told(SilenceOf::Opus(format)));
        self.add(decoded, scratch);
        if !is_last {
            self.ready_sound = self.ready_samples;
        }
        is_last
    }

    /// The silence that was told, if one was, goes on until `samples` are ready.
    fn be_silent(&mut self, samples: usize, scratch: &mut Scratch) {
        while let Some(silence) = self.silence.filter(|_| self.ready_samples < samples) {
            self.make_silence(silence, TICK_MS, scratch);
            self.silence = silence.after(TICK_MS);
        }
    }

    /// About `ms` of a silence.
    fn make_silence(&mut self, silence: Silence, ms: u32, scratch: &mut Scratch) {
        let before = self.ready_samples;
        match silence.of {
            SilenceOf::Noise(format) => {
                if let Some(Some(noise)) = self.noises.get_mut(format) {
                    let room = &mut scratch.line[before..self.ready.len()];
                    self.ready_samples += noise.make(ms, room, &mut scratch.pcm);
                }
            }
            // The decoder knows what the peer's background sounds like.
            SilenceOf::Opus(_) => self.make_up(ms, None, scratch),
        }
        if self.ready_samples == before {
            let end = (before + (self.rate_hz / 1_000 * ms) as usize).min(self.ready.len());
            scratch.line[before..end].fill(0);
            self.ready_samples = end.max(before + 1).min(self.ready.len());
        }
    }

    /// What is decoded next does not go on from here: what a resampler holds back of the past is not to be heard then.
    fn break_off(&mut self) {
        let chain = self.current.and_then(|current| self.chains.get_mut(current));
        if let Some(Some(Chain {
            resampler: Some(resampler),
            ..
        })) = chain
        {
            resampler.reset();
        }
    }

    /// For `ms` there is nothing to hear.
    fn be_still(&mut self, ms: u32, scratch: &mut Scratch) {
        self.break_off();
        let silent = (self.rate_hz / 1_000 * ms) as usize;
        let end = (self.ready_samples + silent).min(self.ready.len());
        scratch.line[self.ready_samples..end].fill(0);
        self.ready_samples = end;
        self.ready_sound = end;
    }

    /// Conceals `ms`, from what the packet in place `follower`, right behind them, repeats of them if it does.
    fn make_up(&mut self, ms: u32, follower: Option<usize>, scratch: &mut Scratch) {
        let Some(Some(chain)) = self.current.and_then(|current| self.chains.get_mut(current)) else {
            self.be_still(ms, scratch);
            return;
        };
        let samples = (chain.rate_hz / 1_000 * ms) as usize;
        let pcm = &mut scratch.pcm[..samples];
        match follower.map(|place| self.jitter.peek(place)) {
            Some((format, payload)) if Some(usize::from(format)) == self.current => {
                chain.decoder.recover(payload, pcm);
            }
            Some(_) | None => chain.decoder.conceal(pcm),
        }
        self.add(samples, scratch);
    }

    /// Moves decoded samples to those that are ready.
    fn add(&mut self, decoded: usize, scratch: &mut Scratch) {
        let Some(Some(chain)) = self.current.and_then(|current| self.chains.get_mut(current)) else {
            return;
        };
        let room = &mut scratch.line[self.ready_samples..self.ready.len()];
        let pcm = &scratch.pcm[..decoded];
        self.ready_samples += match &mut chain.resampler {
            Some(resampler) => resampler.process(pcm, room).unwrap_or(0),
            None => {
                let count = pcm.len().min(room.len());
                room[..count].copy_from_slice(&pcm[..count]);
                count
            }
        };
    }
}

fn chains(spec: &EndpointSpec, rate_hz: u32) -> Box<[Option<Chain>]> {
    let chain = |format| codec_kind(format).and_then(|kind| Chain::new(kind, rate_hz));
    spec.receive.iter().map(chain).collect()
}

/// The most that a millisecond of any format takes.
fn bytes_per_ms(spec: &EndpointSpec) -> usize {
    let bytes = |kind: CodecKind| match kind {
        CodecKind::Pcmu | CodecKind::Pcma | CodecKind::G722 => 8,
        // A packet of 60 ms at any sensible bit rate.
        CodecKind::Opus => 25,
        CodecKind::L16 { sample_rate_hz } => (sample_rate_hz / 500) as usize,
    };
    let kinds = spec.receive.iter().filter_map(codec_kind);
    // What does not fit a datagram never comes.
    kinds.map(bytes).max().unwrap_or(8).min(25)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rtp::units::{ClockRate, PayloadType, RtpTimestamp};

    use super::*;
    use crate::spec::{Codec, Direction, InbandDigits, PayloadFormat, PolishSpec};

    const RATE_HZ: u32 = 8_000;
    const TICK_US: u64 = TICK_MS as u64 * 1_000;
    const FRAME: usize = 160;

    fn spec() -> EndpointSpec {
        let format = PayloadFormat {
            payload_type: PayloadType::new(96).expect("seven bits"),
            codec: Codec::L16,
            clock: ClockRate::HZ_8000,
            channels: 1,
            fmtp: "".into(),
        };
        let formats: Arc<[PayloadFormat]> = [format].into();
        EndpointSpec {
            transport: "t".into(),
            receive: formats.clone(),
            send: formats,
            ptime_ms: 20,
            direction: Direction::SendRecv,
            ssrc: None,
            cname: None,
            jitter_ms_max: 120,
            detect_talk: false,
            inband_digits: InbandDigits::Off,
            polish: PolishSpec::default(),
            suppress_silence: false,
        }
    }

    /// A sample that is sent: no two places are alike.
    fn noise(at: u64) -> i16 {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as i16 >> 2
    }

    const TONE_HZ: f64 = 997.0;
    const LOUD: f64 = 10_000.0;

    fn tone(at: u64) -> i16 {
        ((at as f64 * TONE_HZ / f64::from(RATE_HZ) * std::f64::consts::TAU).sin() * LOUD) as i16
    }

    /// A peer with a clock of its own, heard by ticks that begin `phase_us` after its first packet.
    struct Stream {
        decoding: Decoding,
        scratch: Scratch,
        base: Instant,
        phase_us: u64,
        ticks: u64,
        packets: u64,
        came_us: u64,
        /// How fast its clock is.
        ppm: i64,
        /// Each packet comes up to so much later, and by `delay_us` of its number.
        jitter_us: u64,
        delay_us: fn(u64) -> u64,
        sample: fn(u64) -> i16,
    }

    impl Stream {
        #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
        fn new(ppm: i64, jitter_us: u64, phase_us: u64) -> Self {
            Self {
                decoding: Decoding::new(&spec(), RATE_HZ, 0),
                scratch: Scratch::new(),
                base: Instant::now(),
                phase_us,
                ticks: 0,
                packets: 0,
                came_us: 0,
                ppm,
                jitter_us,
                delay_us: |_| 0,
                sample: noise,
            }
        }

        /// The next tick, after the packets that came before it: what is heard, and whether it was converted.
        fn tick(&mut self) -> ([i16; FRAME], bool) {
            let now_us = self.ticks * TICK_US + self.phase_us;
            self.ticks += 1;
            loop {
                let comes_us = self.next_packet_us();
                if comes_us > now_us {
                    break;
                }
                self.came_us = comes_us;
                let first = self.packets * FRAME as u64;
                let payload: Vec<u8> = (first..first + FRAME as u64)
                    .flat_map(|at| (self.sample)(at).to_be_bytes())
                    .collect();
                let arrival = Arrival {
                    stream: StreamId(1),
                    ext: ExtendedSeq(70_000 + self.packets),
                    timestamp: RtpTimestamp(first as u32),
                    clock: ClockRate::HZ_8000,
                    marker: false,
                    late: false,
                    event: false,
                    segment: 0,
                    silence: false,
                };
                let at = self.base + Duration::from_micros(comes_us);
                self.decoding.push(at, &arrival, 0, &payload);
                self.packets += 1;
            }
            let mut frame = [0; FRAME];
            let now = self.base + Duration::from_micros(now_us);
            self.decoding.pull(now, &mut frame, &mut self.scratch);
            (frame, self.decoding.pace.engaged)
        }

        /// Behind the one before.
        fn next_packet_us(&self) -> u64 {
            let sent_us = self.packets as i64 * TICK_US as i64 * (1_000_000 - self.ppm) / 1_000_000;
            let mixed = (self.packets + 1_000 * self.phase_us).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let late_us = (mixed >> 20) % (self.jitter_us + 1) + (self.delay_us)(self.packets);
            self.came_us.max(sent_us.cast_unsigned() + late_us)
        }

        /// How many frames were converted, and how often that began.
        fn seconds(&mut self, seconds: u64) -> (usize, usize) {
            let (mut converted, mut begun) = (0, 0);
            let mut before = self.decoding.pace.engaged;
            for _ in 0..seconds * 50 {
                let (_, engaged) = self.tick();
                converted += usize::from(engaged);
                begun += usize::from(engaged && !before);
                before = engaged;
            }
            (converted, begun)
        }
    }

    #[test]
    fn a_stream_whose_clock_is_ours_passes_as_it_is() {
        // Nothing happens, or the network stands still for a moment.
        let networks: [fn(u64) -> u64; 2] = [|_| 0, |n| if n == 250 { 45_000 } else { 0 }];
        for delay_us in networks {
            let (mut converted, mut frames) = (0, 0);
            for jitter_us in [0, 5_000] {
                for phase_us in (0..TICK_US).step_by(1_000) {
                    let mut stream = Stream::new(0, jitter_us, phase_us);
                    stream.delay_us = delay_us;
                    stream.seconds(60);
                    converted += stream.seconds(60).0;
                    frames += 3_000;
                }
            }
            assert!(
                converted * 500 <= frames,
                "{converted} of {frames} were converted"
            );
        }
    }

    #[test]
    fn what_is_not_converted_any_more_is_as_it_was_sent() {
        let mut stream = Stream::new(0, 3_000, 7_000);
        // Its way becomes shorter.
        stream.delay_us = |n| if n < 250 { 25_000 } else { 0 };
        let (converted, begun) = stream.seconds(60);
        assert!(converted > 500 && begun == 1, "{converted} frames, {begun} times");
        let (first, engaged) = stream.tick();
        assert!(!engaged);
        let sent: Vec<i16> = (0..stream.packets * FRAME as u64).map(noise).collect();
        let at = sent.windows(FRAME).position(|window| window == first);
        let mut at = at.expect("as it was sent");
        for _ in 0..1_000 {
            at += FRAME;
            let (frame, _) = stream.tick();
            assert!((0..FRAME).all(|n| frame[n] == noise((at + n) as u64)), "at {at}");
        }
    }

    #[test]
    fn neither_the_beginning_nor_the_end_of_a_correction_is_a_step() {
        let own = 2.0 * LOUD * (std::f64::consts::PI * TONE_HZ / f64::from(RATE_HZ)).sin();
        // Its way becomes shorter at once, or longer by and by.
        let ways: [fn(u64) -> u64; 2] = [|n| if n < 250 { 26_000 } else { 0 }, |n| 20 * n.min(900)];
        for delay_us in ways {
            for phase_us in (11_000..TICK_US).step_by(700) {
                let mut stream = Stream::new(0, 500, phase_us);
                (stream.sample, stream.delay_us) = (tone, delay_us);
                stream.seconds(1);
                let (mut last, mut steepest, mut converted) = (None, 0, 0);
                for _ in 0..3_000 {
                    let (frame, engaged) = stream.tick();
                    converted += usize::from(engaged);
                    for sample in frame {
                        let step = last.map_or(0, |last: i32| (i32::from(sample) - last).abs());
                        steepest = steepest.max(step);
                        last = Some(i32::from(sample));
                    }
                }
                assert!(converted > 50, "{phase_us}: {converted} frames");
                assert!(!stream.decoding.pace.engaged);
                assert!(
                    f64::from(steepest) <= 1.03 * own,
                    "{phase_us}: a step of {steepest}, the tone's own are {own:.0}"
                );
            }
        }
    }

    #[test]
    fn no_clock_makes_corrections_come_and_go() {
        for ppm in [-200, -90, -30, 30, 90, 200] {
            let mut stream = Stream::new(ppm, 5_000, 9_000);
            let (converted, begun) = stream.seconds(900);
            eprintln!("{ppm} ppm: {converted} of 45000, {begun} times");
            assert!(begun <= 15, "{ppm} ppm: {begun} times");
            match ppm.abs() {
                30 => assert!(converted < 10_000, "{ppm} ppm: {converted} frames"),
                // Nothing is made up again and again instead.
                200 => assert!(converted > 30_000, "{ppm} ppm: {converted} frames"),
                _ => {}
            }
        }
    }

    /// Opus at 8 kHz with copies of what was before: a tone in syllables of 100 ms, which rises from packet `rises` on.
    fn opus_with_copies(packets: usize, rises: usize) -> Vec<Vec<u8>> {
        let settings = opus::Settings {
            inband_fec: true,
            packet_loss_percent: 30,
            ..opus::Settings::default()
        };
        let mut encoder = opus::Encoder::new(RATE_HZ, &settings).expect("a rate");
        let packet = |n: usize| {
            let hz = if n < rises { 500.0 } else { 1_400.0 };
            let loud = if n % 5 == 4 { 300.0 } else { LOUD };
            let sample = |at: usize| {
                let seconds = (n * FRAME + at) as f64 / f64::from(RATE_HZ);
                ((seconds * hz * std::f64::consts::TAU).sin() * loud) as i16
            };
            let pcm: Vec<i16> = (0..FRAME).map(sample).collect();
            let mut payload = [0; 400];
            let bytes = encoder.encode(&pcm, &mut payload).expect("a frame");
            payload[..bytes].to_vec()
        };
        (0..packets).map(packet).collect()
    }

    /// A packet repeats the one before it and no other (RFC 6716 §2.1.7).
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn of_packets_lost_in_a_row_the_last_alone_is_made_from_the_one_behind() {
        const LOST: [usize; 2] = [41, 42];
        let payloads = opus_with_copies(60, LOST[1]);
        let behind = opus::PacketInfo::parse(&payloads[LOST[1] + 1]).expect("a packet");
        assert!(behind.has_fec, "it holds a copy");
        let format = PayloadFormat {
            codec: Codec::Opus,
            clock: ClockRate::HZ_48000,
            ..spec().receive[0].clone()
        };
        let spec = EndpointSpec {
            receive: [format].into(),
            ..spec()
        };
        let (mut decoding, mut scratch) = (Decoding::new(&spec, RATE_HZ, 0), Scratch::new());
        let (base, mut heard) = (Instant::now(), Vec::new());
        for tick in 0..50 {
            let now = base + Duration::from_micros(tick as u64 * TICK_US);
            // Three packets wait.
            let come = if tick == 0 { 0..=3 } else { tick + 3..=tick + 3 };
            for n in come.filter(|n| !LOST.contains(n)) {
                let arrival = Arrival {
                    stream: StreamId(1),
                    ext: ExtendedSeq(70_000 + n as u64),
                    timestamp: RtpTimestamp(960 * n as u32),
                    clock: ClockRate::HZ_48000,
                    marker: false,
                    late: false,
                    event: false,
                    segment: 0,
                    silence: false,
                };
                decoding.push(now, &arrival, 0, &payloads[n]);
            }
            let mut frame = [0; FRAME];
            decoding.pull(now, &mut frame, &mut scratch);
            heard.push(frame);
        }
        // The first tick is before the first packet's turn.
        let power = |frame: &[i16; FRAME], hz| codecs::goertzel::amplitude(frame, hz, RATE_HZ);
        let (before, [first, last]) = (&heard[LOST[0]], LOST.map(|n| &heard[n + 1]));
        assert!(power(before, 500.0) > 1_000.0, "the tone");
        assert!(power(last, 1_400.0) > power(last, 500.0), "the copy of the last");
        let [low, high] = [500.0, 1_400.0].map(|hz| power(first, hz));
        assert!(
            low > 2.0 * high,
            "{low:.0} of what was before, {high:.0} of what comes later"
        );
    }
}
