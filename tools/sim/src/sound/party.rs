//! Somebody at a phone: a voice that is a tone, and an ear that checks every packet.

use std::{
    collections::BTreeMap,
    f64::consts::TAU,
    net::SocketAddr,
    time::{Duration, Instant},
};

use codecs::{CodecKind, Decoder, Encoder, opus, tone::Oscillator};
use netem::Rng;
use rtp::{
    header::{RtpHeader, RtpReader},
    units::{PayloadType, RtpTimestamp, Ssrc},
};

use super::{GAP_MS_MAX, GAP_MS_MAX_WIDE, format, graph::VOICES};
use crate::{
    cipher::{Sdes, Sealer},
    phone::{PTIME, any_timestamp},
};

/// Amplitude of every tone: quiet enough that all at once are not turned down.
pub(super) const LOUD: f64 = 2_000.0;
/// Everything is listened to at this rate.
const EAR_HZ: u32 = 8_000;
/// A phase is measured over so many samples, so that tones 100 Hz apart do not disturb each other …
const PHASE_SAMPLES: usize = 480;
/// … twice just before an edit, and twice so many samples after it, when what fades has faded: a stream whose delay is being
/// corrected is faster or slower by up to 0.5 %, which is half a period in the time between.
const PHASE_AFTER: usize = 640;
/// As a share of a period, at the edit. A frame twice, or left out, is four or two tenths.
const PHASE_OFF_MAX: f64 = 0.14;

/// Where a party sends from and receives.
pub(super) fn address(party: usize) -> SocketAddr {
    ([198, 51, 100, 1 + party as u8], 4_000).into()
}

/// The next sample of a tone.
pub(super) fn next_sample(tone: &mut Oscillator) -> i16 {
    (f64::from(tone.next_value()) * LOUD).round() as i16
}

/// See the module.
pub(super) struct Voice {
    pub(super) server: Option<SocketAddr>,
    pub(super) next_at: Instant,
    codec: CodecKind,
    encoder: Encoder,
    tone: Oscillator,
    header: RtpHeader,
    /// What it encrypts with, if it does.
    sealer: Option<Sealer>,
    /// How often its numbers went around while it encrypted with one key.
    pub(super) rollovers: u64,
    /// It forgets that they did: the fault.
    pub(super) forgets: bool,
}

impl Voice {
    pub(super) fn new(party: usize, codec: CodecKind, now: Instant, rng: &mut Rng) -> Self {
        let rate = rate(codec);
        Self {
            server: None,
            next_at: now + Duration::from_micros(rng.below(20_000)),
            codec,
            encoder: Encoder::new(codec, rate, &opus::Settings::default()).expect("a rate it runs at"),
            tone: Oscillator::new(VOICES[party].1, rate),
            header: RtpHeader {
                marker: false,
                payload_type: PayloadType::from_low_bits(format(codec).payload_type as u8),
                // Half of them go around in the first seconds.
                sequence: match rng.below(2) {
                    0 => 65_536_u32.saturating_sub(1 + rng.below(400) as u32) as u16,
                    _ => rng.next_u64() as u16,
                },
                timestamp: RtpTimestamp(any_timestamp(rng)),
                ssrc: Ssrc(rng.next_u64() as u32),
            },
            sealer: None,
            rollovers: 0,
            forgets: false,
        }
    }

    /// Encrypts so from now on.
    pub(super) fn encrypt(&mut self, sdes: Option<Sdes>) {
        match sdes {
            Some(sdes) if self.sealer.as_ref().is_some_and(|sealer| sealer.has_key_of(sdes)) => {}
            sdes => self.sealer = sdes.map(Sealer::new),
        }
    }

    /// It begins anew: whatever key it has was for another leg.
    pub(super) fn hang_up(&mut self) {
        self.server = None;
        self.sealer = None;
    }

    /// The packet that is due, and where it goes.
    pub(super) fn speak(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if self.next_at > now {
            return None;
        }
        self.next_at += PTIME;
        let samples = CodecKind::frame_samples(rate(self.codec), 20);
        let pcm: Vec<i16> = (0..samples).map(|_| next_sample(&mut self.tone)).collect();
        let mut payload = vec![0; 1_500];
        let bytes = self.encoder.encode(&pcm, &mut payload).expect("a frame");
        let packet = [&self.header.to_bytes()[..], &payload[..bytes]].concat();
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(self.codec.ptime_ticks(20));
        let server = self.server?;
        let Some(sealer) = &mut self.sealer else {
            return Some((server, packet));
        };
        let sealed = sealer.seal(&packet).expect("each number is used once");
        if self.header.sequence == 0 {
            self.rollovers += 1;
            if self.forgets {
                sealer.forget();
            }
        }
        Some((server, sealed))
    }
}

fn rate(codec: CodecKind) -> u32 {
    match codec {
        CodecKind::Opus => 16_000,
        other => other.sample_rate_hz(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Latest {
    ssrc: Ssrc,
    sequence: u16,
    /// Where the sound of the latest packet ends.
    end: u32,
    at: Instant,
}

/// See the module.
pub(super) struct Ear {
    exact: bool,
    latest: Option<Latest>,
    /// Nothing has to come, or nothing came yet.
    paused: bool,
    decoder: Option<Decoder>,
    /// What was heard, but for packets of silence.
    pcm: Vec<i16>,
    /// Where in `pcm` the round began.
    round: usize,
    /// Samples that were forgotten: phases count from the first of all.
    forgotten: u64,
    /// Where each tone was to be at the edit, as a share of its period.
    phases: BTreeMap<&'static str, f64>,
}

impl Ear {
    pub(super) fn new(exact: bool) -> Self {
        Self {
            exact,
            latest: None,
            paused: true,
            decoder: None,
            pcm: Vec::new(),
            round: 0,
            forgotten: 0,
            phases: BTreeMap::new(),
        }
    }

    /// The graph changed; `goes_on`: something was heard before and is still.
    pub(super) fn edited(&mut self, goes_on: bool) {
        let excess = self.round.saturating_sub(4_000);
        self.pcm.drain(..excess);
        self.forgotten += excess as u64;
        self.round -= excess;
        let heard = self.pcm.len().saturating_sub(self.round);
        self.round = self.pcm.len();
        self.phases.clear();
        if goes_on && heard > 2 * PHASE_SAMPLES {
            let from = self.pcm.len() - 2 * PHASE_SAMPLES;
            let phase = |(voice, hz)| (voice, self.phase_at(self.round, hz, from));
            self.phases = VOICES.into_iter().map(phase).collect();
        }
        if !goes_on {
            // Its line goes on whenever it does.
            self.paused = true;
        }
    }

    /// A packet; `hears`: somebody is to be heard.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        packet: &[u8],
        codec: CodecKind,
        hears: bool,
    ) -> Result<(), String> {
        let packet = RtpReader::parse(packet).map_err(|error| format!("not RTP: {error}"))?;
        let header = packet.header();
        if u32::from(header.payload_type.value()) != format(codec).payload_type {
            return Err(format!("payload type {} was not agreed", header.payload_type));
        }
        let ticks = codec
            .payload_ticks(packet.payload())
            .map_err(|error| format!("its payload: {error}"))?;
        if let Some(latest) = self.latest {
            self.follows(now, latest, &header, codec)?;
        }
        self.latest = Some(Latest {
            ssrc: header.ssrc,
            sequence: header.sequence,
            end: header.timestamp.0.wrapping_add(ticks),
            at: now,
        });
        self.paused &= !hears;
        self.take(packet.payload(), codec)
    }

    /// As [`Self::hear`], with the sound so many times.
    pub(super) fn misheard(
        &mut self,
        now: Instant,
        packet: &[u8],
        codec: CodecKind,
        copies: usize,
    ) -> Result<(), String> {
        let before = self.pcm.len();
        self.hear(now, packet, codec, true)?;
        match copies {
            0 => self.pcm.truncate(before),
            _ => self.pcm.extend_from_within(before..),
        }
        Ok(())
    }

    fn follows(
        &self,
        now: Instant,
        latest: Latest,
        header: &RtpHeader,
        codec: CodecKind,
    ) -> Result<(), String> {
        if header.ssrc != latest.ssrc {
            return Err(format!("SSRC {:?} after {:?}", header.ssrc, latest.ssrc));
        }
        if header.sequence != latest.sequence.wrapping_add(1) {
            return Err(format!("number {} after {}", header.sequence, latest.sequence));
        }
        let silent = now.saturating_duration_since(latest.at).as_millis() as u64;
        if silent > self.gap_ms_max() && !self.paused {
            return Err(format!("{silent} ms without a packet"));
        }
        let gap = header.timestamp.0.wrapping_sub(latest.end).cast_signed();
        let gap_ms = gap / (codec.clock_rate_hz() / 1_000).cast_signed();
        // Where nothing was heard for a while, time went on.
        if gap < 0 || gap_ms > self.gap_ms_max() as i32 && !self.paused {
            return Err(format!(
                "the timestamp moves {gap_ms} ms beyond the packet before"
            ));
        }
        Ok(())
    }

    fn take(&mut self, payload: &[u8], codec: CodecKind) -> Result<(), String> {
        let rate = rate(codec);
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => self
                .decoder
                .insert(Decoder::new(codec, rate).map_err(|error| error.to_string())?),
        };
        let mut frame = vec![0; 5_760];
        let samples = decoder
            .decode(payload, &mut frame)
            .map_err(|error| error.to_string())?;
        // Half of the samples are enough for tones far below 4 kHz.
        let step = (rate / EAR_HZ) as usize;
        let heard: Vec<i16> = frame[..samples].iter().step_by(step).copied().collect();
        if self.exact && heard.iter().all(|sample| sample.unsigned_abs() <= 8) {
            return Ok(());
        }
        self.pcm.extend(&heard);
        Ok(())
    }

    fn gap_ms_max(&self) -> u64 {
        if self.exact { GAP_MS_MAX } else { GAP_MS_MAX_WIDE }
    }

    /// Nothing may be missing at the end of a round either.
    pub(super) fn silence(&self, now: Instant, hears: bool) -> Result<(), String> {
        let silent = self
            .latest
            .map(|latest| now.saturating_duration_since(latest.at).as_millis() as u64);
        match silent {
            Some(silent) if hears && silent > self.gap_ms_max() => {
                Err(format!("{silent} ms without a packet"))
            }
            None if hears => Err("nothing at all".into()),
            Some(_) | None => Ok(()),
        }
    }

    /// The end of what was heard in this round.
    pub(super) fn latest(&self, ms: u64) -> &[i16] {
        let round = &self.pcm[self.round..];
        &round[round
            .len()
            .saturating_sub((u64::from(EAR_HZ) * ms / 1_000) as usize)..]
    }

    /// The tones of `staying` go on where they were. Gives how many were followed.
    pub(super) fn follow(&self, staying: &[&String]) -> Result<u64, String> {
        let from = self.round + PHASE_AFTER;
        if self.phases.is_empty() || self.pcm.len() < from + 2 * PHASE_SAMPLES {
            return Ok(0);
        }
        for voice in staying {
            let (Some((_, hz)), Some(before)) = (
                VOICES.iter().find(|(known, _)| known == voice),
                self.phases.get(voice.as_str()),
            ) else {
                continue;
            };
            let off = nearest(self.phase_at(self.round, *hz, from) - before);
            if off.abs() > PHASE_OFF_MAX {
                return Err(format!(
                    "{voice} is {off:.2} of a period from where it was: something is heard twice, or not at all"
                ));
            }
        }
        Ok(staying.len() as u64)
    }

    /// Where a tone is to be at a sample, or was, if it goes on as it does in two pieces from another one on.
    fn phase_at(&self, sample: usize, hz: f64, from: usize) -> f64 {
        let [first, second] = [from, from + PHASE_SAMPLES].map(|from| self.phase(hz, from));
        let pace = nearest(second - first) / PHASE_SAMPLES as f64;
        let middle = (from + PHASE_SAMPLES / 2) as f64;
        first + pace * (sample as f64 - middle)
    }

    /// Where a tone is from a sample on, as a share of its period, against one that began with the first sample of all.
    fn phase(&self, hz: f64, from: usize) -> f64 {
        let part = &self.pcm[from..from + PHASE_SAMPLES];
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (at, sample) in part.iter().enumerate() {
            let window = 0.5 - 0.5 * (TAU * (at as f64 + 0.5) / part.len() as f64).cos();
            let turns = hz * (self.forgotten as f64 + (from + at) as f64) / f64::from(EAR_HZ);
            let angle = turns.fract() * TAU;
            real += window * f64::from(*sample) * angle.cos();
            imaginary += window * f64::from(*sample) * -angle.sin();
        }
        imaginary.atan2(real) / TAU
    }
}

/// A difference of phases, as the nearest share of a period.
fn nearest(off: f64) -> f64 {
    off - off.round()
}
