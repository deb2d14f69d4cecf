//! Digits we send to a peer on its line and in the place of audio: as telephone-events, or as tones where it takes none.
//!
//! So they reach it whatever its plan is: a relay stays a relay.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use codecs::{CodecKind, Encoder, dtmf::DtmfGenerator, opus};
use rtp::{
    event::{EventPacket, EventSender},
    units::{ClockRate, RtpTimestamp},
};

use super::{hearing::tone_of, line::Line, slab::Key};
use crate::{command::SendDigit, limits};

/// Digits that wait, and the one being sent.
#[derive(Debug)]
pub(crate) struct Dialling {
    queue: VecDeque<SendDigit>,
    sending: Option<Sending>,
    /// Silence after the digit being sent.
    gap: Duration,
    /// When the next packet, or after a gap the next digit, is due; `None` when all is sent.
    due: Option<Instant>,
    manner: Manner,
    /// For tones.
    voice: Option<Box<Voice>>,
    /// The digit of that number of that endpoint was begun in its own packets, before an edit.
    begun: Option<(Key, u32)>,
}

/// The digit being sent.
#[derive(Debug)]
enum Sending {
    Event(EventSender),
    /// A tone, with the timestamp of its next packet.
    Tone(RtpTimestamp),
}

/// How the peer takes digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Events(Wish),
    Tones(Carrier),
}

/// How the peer takes telephone-events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) payload_type: u8,
    pub(crate) clock: ClockRate,
    /// Between packets of one event.
    pub(crate) interval: Duration,
}

/// The audio that tones are sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub(crate) payload_type: u8,
    pub(crate) kind: CodecKind,
    pub(crate) ptime_ms: u8,
}

/// Makes tones. Nothing in it allocates once it is made.
#[derive(Debug)]
struct Voice {
    carrier: Carrier,
    generator: DtmfGenerator,
    encoder: Encoder,
    pcm: Box<[i16]>,
    payload: Box<[u8]>,
}

/// Digits of other parties that wait for one listener. More are pressed by nobody who wants to be understood.
const DIGITS_PASSED_MAX: usize = 8;
/// Longest payload of any codec and packet time that is compiled.
const PAYLOAD_BYTES_MAX: usize = 1_500;

/// How Opus encodes tones: as what they are, not as speech.
const TONES: opus::Settings = opus::Settings {
    application: opus::Application::Audio,
    complexity: 5,
    bitrate_bps: 32_000,
    vbr: true,
    inband_fec: false,
    dtx: false,
    packet_loss_percent: 0,
    packet_loss_percent_min: opus::NETWORK_LOSS_PERCENT,
    playback_rate_hz: opus::CLOCK_HZ,
};

/// Louder tones, in -dBm0, would clip where both are at their peaks.
const TONE_LOUDEST: u8 = 3;
/// Tones of digits that are passed on are no fainter, whatever their events say: a receiver need not find what is below
/// -25 dBm0 (ITU-T Q.24, table A-1), and a digit that nobody finds was passed on in vain.
const PASSED_FAINTEST: u8 = 24;

/// What is due now.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Send this.
    Packet(EventPacket),
    /// Send this sound.
    Sound(Sound<'a>),
    /// A pause: audio flows.
    Pause,
    /// All digits are sent.
    Done,
}

/// A packet of a tone.
#[derive(Debug)]
pub(crate) struct Sound<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) timestamp: RtpTimestamp,
    /// Its length on the clock of the format.
    pub(crate) ticks: u32,
    /// The tone begins.
    pub(crate) first: bool,
}

impl Dialling {
    /// May allocate.
    pub(crate) fn new(manner: Manner) -> Self {
        Self {
            queue: VecDeque::new(),
            sending: None,
            gap: Duration::ZERO,
            due: None,
            manner,
            voice: voice(manner),
            begun: None,
        }
    }

    /// An edit ends the packets of `source` in the middle of its digit: the peer has its beginning, and needs no second one.
    pub(crate) fn note_begun(&mut self, source: Key, digit: u32) {
        self.begun = Some((source, digit));
    }

    /// Whether the peer has the beginning of that digit.
    pub(crate) fn has_begun(&self, source: Key, digit: u32) -> bool {
        self.begun == Some((source, digit))
    }

    /// The peer takes digits otherwise: the payload type from now on, the rest from the next digit on. May allocate.
    pub(crate) fn retarget(&mut self, manner: Manner) {
        if manner == self.manner {
            return;
        }
        let same_form = matches!((self.manner, manner), (Manner::Events(_), Manner::Events(_)));
        self.manner = manner;
        if !same_form {
            self.voice = voice(manner);
            // What is being sent ends where it is.
            self.sending = None;
        }
    }

    /// Nothing more is sent.
    pub(crate) fn stop(&mut self) {
        self.queue.clear();
        self.sending = None;
        self.due = None;
    }

    /// Adds digits behind those that wait; beyond the bound they are not sent.
    pub(crate) fn push(&mut self, now: Instant, digits: &[SendDigit]) {
        let room = limits::DIGITS_QUEUED_MAX.saturating_sub(self.queue.len());
        self.queue.extend(digits.iter().take(room));
        self.due.get_or_insert(now);
    }

    /// Makes room for digits that are passed on, which must not allocate.
    pub(crate) fn reserve(&mut self) {
        self.queue.reserve(DIGITS_PASSED_MAX);
    }

    /// Adds a digit that somebody else pressed, if there is room.
    pub(crate) fn pass(&mut self, now: Instant, mut digit: SendDigit) {
        if matches!(self.manner, Manner::Tones(_)) {
            digit.volume = digit.volume.min(PASSED_FAINTEST);
        }
        if self.queue.len() < DIGITS_PASSED_MAX {
            self.queue.push_back(digit);
            self.due.get_or_insert(now);
        }
    }

    /// What makes tones, where a codec remembers what went before.
    pub(crate) fn encoder(&mut self) -> Option<&mut Encoder> {
        let voice = self.voice.as_deref_mut()?;
        matches!(voice.carrier.kind, CodecKind::G722 | CodecKind::Opus).then_some(&mut voice.encoder)
    }

    /// The effort of what makes tones, where that is Opus.
    pub(crate) fn set_complexity(&mut self, complexity: u8) {
        if let Some(voice) = &mut self.voice {
            voice.encoder.set_complexity(complexity);
        }
    }

    /// A tone is being sent.
    pub(crate) fn is_sounding(&self) -> bool {
        matches!(self.sending, Some(Sending::Tone(_)))
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn payload_type(&self) -> u8 {
        match self.manner {
            Manner::Events(wish) => wish.payload_type,
            Manner::Tones(carrier) => carrier.payload_type,
        }
    }

    /// What to do at `now`, when something is due, on `line`.
    pub(crate) fn step(&mut self, now: Instant, line: &Line) -> Step<'_> {
        let interval = self.interval();
        match &mut self.sending {
            Some(Sending::Event(sender)) => {
                if let Some(packet) = sender.poll_packet() {
                    self.due = Some(pace(self.due, interval, now));
                    return Step::Packet(packet);
                }
                return self.rest(now);
            }
            Some(Sending::Tone(_))
                if self
                    .voice
                    .as_ref()
                    .is_some_and(|voice| !voice.generator.is_finished()) =>
            {
                self.due = Some(pace(self.due, interval, now));
                return self.sound(false);
            }
            Some(Sending::Tone(_)) => return self.rest(now),
            None => {}
        }
        self.next(now, line)
    }

    /// The next digit that waits.
    fn next(&mut self, now: Instant, line: &Line) -> Step<'_> {
        let Some(digit) = self.queue.pop_front() else {
            self.due = None;
            return Step::Done;
        };
        self.gap = Duration::from_millis(u64::from(digit.gap_ms));
        let length = Duration::from_millis(u64::from(digit.duration_ms));
        let Some(event) = digit.event else {
            self.due = Some(now + length + self.gap);
            return Step::Pause;
        };
        match (self.manner, self.voice.as_deref_mut()) {
            (Manner::Events(wish), _) => {
                let ticks = |duration| u32::try_from(wish.clock.ticks(duration)).unwrap_or(u32::MAX);
                let mut sender = EventSender::new(
                    event,
                    digit.volume,
                    line.timestamp_at(now),
                    ticks(length),
                    ticks(wish.interval),
                )
                .beside(wish.clock, line.clock());
                let first = sender.poll_packet();
                self.sending = Some(Sending::Event(sender));
                self.due = Some(now + wish.interval);
                first.map_or(Step::Pause, Step::Packet)
            }
            (Manner::Tones(_), Some(voice)) => {
                let Some(tone) = tone_of(event) else {
                    // The hook has none.
                    self.due = Some(now);
                    return Step::Pause;
                };
                let dbm0 = -f64::from(digit.volume.max(TONE_LOUDEST));
                let levels = (dbm0 - 1.0, dbm0 + 1.0);
                voice
                    .generator
                    .start_at(tone, digit.duration_ms.into(), 0, levels);
                self.sending = Some(Sending::Tone(line.timestamp_after(now)));
                self.due = Some(now + self.interval());
                self.sound(true)
            }
            (Manner::Tones(_), None) => {
                self.due = Some(now);
                Step::Pause
            }
        }
    }

    /// The digit is sent: audio flows until the next one.
    fn rest(&mut self, now: Instant) -> Step<'_> {
        self.sending = None;
        self.due = Some(now + self.gap);
        Step::Pause
    }

    /// The next packet of the tone.
    fn sound(&mut self, first: bool) -> Step<'_> {
        let (Some(voice), Some(Sending::Tone(at))) = (self.voice.as_deref_mut(), &mut self.sending) else {
            return Step::Pause;
        };
        if first {
            // The peer heard somebody else's audio, or a mix.
            voice.encoder.start_anew();
        }
        voice.generator.generate(&mut voice.pcm);
        let bytes = voice.encoder.encode(&voice.pcm, &mut voice.payload).unwrap_or(0);
        let ticks = voice.carrier.kind.ptime_ticks(voice.carrier.ptime_ms.into());
        let timestamp = *at;
        *at = at.wrapping_add(ticks);
        Step::Sound(Sound {
            payload: &voice.payload[..bytes],
            timestamp,
            ticks,
            first,
        })
    }

    fn interval(&self) -> Duration {
        match self.manner {
            Manner::Events(wish) => wish.interval,
            Manner::Tones(carrier) => Duration::from_millis(carrier.ptime_ms.into()),
        }
    }
}

fn voice(manner: Manner) -> Option<Box<Voice>> {
    let Manner::Tones(carrier) = manner else {
        return None;
    };
    let Carrier { kind, ptime_ms, .. } = carrier;
    // No tone needs more, and Opus is cheap there.
    let rate_hz = if kind.runs_at(8_000) {
        8_000
    } else {
        kind.sample_rate_hz()
    };
    Some(Box::new(Voice {
        carrier,
        generator: DtmfGenerator::new(rate_hz),
        encoder: Encoder::new(kind, rate_hz, &TONES).ok()?,
        pcm: vec![0; CodecKind::frame_samples(rate_hz, ptime_ms.into())].into_boxed_slice(),
        payload: vec![0; PAYLOAD_BYTES_MAX].into_boxed_slice(),
    }))
}

/// The next of evenly spaced moments; after a stall they start anew instead of coming in a burst.
fn pace(due: Option<Instant>, interval: Duration, now: Instant) -> Instant {
    let next = due.unwrap_or(now) + interval;
    if next > now { next } else { now + interval }
}
