//! What is heard of a source that said that it is silent: comfort noise as it described it (RFC 3389), or what the decoder
//! of Opus makes of discontinuous transmission.

use std::time::Instant;

use codecs::{
    comfort_noise::{NoiseGenerator, SID_BYTES_MAX, Sid},
    resample::Resampler,
};

use rtp::units::{ClockRate, ExtendedSeq, RtpTimestamp};

use super::{
    line::{Arrival, StreamId},
    random::mix,
};
use crate::{
    limits,
    spec::{Codec, EndpointSpec, PayloadFormat},
};

/// A silence that was told and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silence {
    pub(crate) of: SilenceOf,
    /// Heard for so long at most, unless it is told again.
    left_ms: u32,
}

/// How it was told, by its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SilenceOf {
    /// By a description.
    Noise(usize),
    /// By a packet of Opus without content.
    Opus(usize),
}

impl Silence {
    /// It was told just now.
    pub(crate) fn told(of: SilenceOf) -> Self {
        let left_ms = match of {
            SilenceOf::Noise(_) => limits::COMFORT_NOISE_MS_MAX,
            SilenceOf::Opus(_) => limits::OPUS_SILENCE_MS_MAX,
        };
        Self { of, left_ms }
    }

    /// `ms` of it pass. Unset when it has gone on for long enough.
    pub(crate) fn after(self, ms: u32) -> Option<Self> {
        let left_ms = self.left_ms.checked_sub(ms).filter(|left| *left > 0)?;
        Some(Self { left_ms, ..self })
    }
}

/// The latest description of a peer's silence, for whoever decodes it later: it may go on for a minute before the next one.
#[derive(Debug)]
pub(crate) struct Description {
    at: Instant,
    format: usize,
    /// Where it stands in its stream.
    stream: StreamId,
    ext: ExtendedSeq,
    timestamp: RtpTimestamp,
    clock: ClockRate,
    bytes: usize,
    payload: [u8; SID_BYTES_MAX],
}

impl Description {
    /// Room for one, where a format describes silence.
    pub(crate) fn room(formats: &[PayloadFormat], now: Instant) -> Option<Box<Self>> {
        let mut formats = formats.iter();
        let describes = formats.find(|format| ComfortNoise::rate_of(format).is_some())?;
        Some(Box::new(Self {
            at: now,
            format: 0,
            stream: StreamId(0),
            ext: ExtendedSeq(0),
            timestamp: RtpTimestamp(0),
            clock: describes.clock,
            bytes: 0,
            payload: [0; SID_BYTES_MAX],
        }))
    }

    /// Keeps what came; of a spectrum no more than is made.
    pub(crate) fn keep(&mut self, now: Instant, arrival: &Arrival, format: usize, payload: &[u8]) {
        self.at = now;
        self.format = format;
        (self.stream, self.ext) = (arrival.stream, arrival.ext);
        (self.timestamp, self.clock) = (arrival.timestamp, arrival.clock);
        self.bytes = payload.len().min(SID_BYTES_MAX);
        self.payload[..self.bytes].copy_from_slice(&payload[..self.bytes]);
    }

    /// Whose it is: stream, number, and the timestamp that a packet sent `now` would have.
    pub(crate) fn place(&self, now: Instant) -> (StreamId, ExtendedSeq, RtpTimestamp) {
        let gone = now.saturating_duration_since(self.at);
        let ticks = self.clock.ticks(gone) as u32;
        (self.stream, self.ext, self.timestamp.wrapping_add(ticks))
    }

    /// Its format.
    pub(crate) fn format(&self) -> usize {
        self.format
    }

    /// As if it came once more `now`, and for how many ms it has gone on.
    pub(crate) fn again(&self, now: Instant) -> (Arrival, &[u8], u32) {
        let (stream, ext, timestamp) = self.place(now);
        let (_, payload, gone_ms) = self.get(now);
        let arrival = Arrival {
            stream,
            ext,
            timestamp,
            clock: self.clock,
            marker: false,
            late: false,
            event: false,
            segment: 0,
            silence: true,
        };
        (arrival, payload, gone_ms)
    }

    /// The format and the description, and for how many ms it has gone on.
    pub(crate) fn get(&self, now: Instant) -> (usize, &[u8], u32) {
        let gone = now.saturating_duration_since(self.at).as_millis();
        let gone_ms = u32::try_from(gone).unwrap_or(u32::MAX);
        (self.format, &self.payload[..self.bytes], gone_ms)
    }
}

/// Makes the noise of one format. Nothing in it allocates once it is made.
#[derive(Debug)]
pub(crate) struct ComfortNoise {
    generator: NoiseGenerator,
    own_hz: u32,
    /// To the session's rate.
    resampler: Option<Resampler>,
}

impl ComfortNoise {
    /// The rate of the noise that a format describes, if it does.
    pub(crate) fn rate_of(format: &PayloadFormat) -> Option<u32> {
        let describes = format.codec == Codec::ComfortNoise && format.channels == 1;
        let known = |hz: &u32| matches!(hz, 8_000 | 16_000 | 48_000);
        Some(format.clock.hz()).filter(|hz| describes && known(hz))
    }

    fn new(format: &PayloadFormat, rate_hz: u32, seed: u64) -> Option<Box<Self>> {
        let own_hz = Self::rate_of(format)?;
        let resampler = match own_hz == rate_hz {
            true => None,
            false => Some(Resampler::new(own_hz, rate_hz).ok()?),
        };
        Some(Box::new(Self {
            generator: NoiseGenerator::new(mix(seed)),
            own_hz,
            resampler,
        }))
    }

    /// One for each format that describes noise; none at all where no format does.
    pub(crate) fn of(spec: &EndpointSpec, rate_hz: u32, seed: u64) -> Box<[Option<Box<Self>>]> {
        let noise = |format| Self::new(format, rate_hz, seed);
        let noises: Box<[_]> = spec.receive.iter().map(noise).collect();
        match noises.iter().any(Option::is_some) {
            true => noises,
            false => Box::default(),
        }
    }

    /// At which it is made.
    pub(crate) fn own_hz(&self) -> u32 {
        self.own_hz
    }

    /// The same noise at another rate.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        self.generator = before.generator.clone();
    }

    /// A silence begins with this description, or goes on with it. False: there is nothing in it.
    pub(crate) fn describe(&mut self, payload: &[u8], begins: bool) -> bool {
        let Ok(sid) = Sid::parse(payload) else {
            return false;
        };
        match begins {
            true => self.generator.begin(&sid),
            false => self.generator.go_on(&sid),
        }
        true
    }

    /// Makes `ms` of it at the beginning of `room`, as far as there is room; gives how many samples that are.
    pub(crate) fn make(&mut self, ms: u32, room: &mut [i16], scratch: &mut [i16]) -> usize {
        let pcm = &mut scratch[..(self.own_hz / 1_000 * ms) as usize];
        self.generator.generate(pcm);
        match &mut self.resampler {
            Some(resampler) => resampler.process(pcm, room).unwrap_or(0),
            None => {
                let count = pcm.len().min(room.len());
                room[..count].copy_from_slice(&pcm[..count]);
                count
            }
        }
    }
}
